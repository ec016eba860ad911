# A loop over `read` in dash goes through the lines of one message and ends.
. "$LIB"
need dash
two='first
line two'

receives_one 'dash -c '\''while read -r line; do echo "got $line"; done < "$box"'\' 'got first
got line two' "$two"
receives_one 'dash -c '\''cat "$box" | while read -r line; do echo "got $line"; done'\' 'got first
got line two' "$two"
