# A loop over `read` in busybox sh goes through the lines of one message and ends.
. "$LIB"
need busybox
two='first
line two'

receives_one 'exec busybox sh -c '\''while read -r line; do echo "got $line"; done < "$box"'\' 'got first
got line two' "$two"
receives_one 'exec busybox sh -c '\''cat "$box" | while read -r line; do echo "got $line"; done'\' 'got first
got line two' "$two"
