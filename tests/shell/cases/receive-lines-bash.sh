# A loop over `read` in bash goes through the lines of one message and ends.
. "$LIB"
need bash
two='first
line two'

receives_one 'bash -c '\''while read -r line; do echo "got $line"; done < "$box"'\' 'got first
got line two' "$two"
receives_one 'bash -c '\''cat "$box" | while read -r line; do echo "got $line"; done'\' 'got first
got line two' "$two"
