# `read` in busybox sh takes one message: its first line.
. "$LIB"
need busybox

receives_one 'exec busybox sh -c '\''read -r line < "$box"; echo "got $line"'\' 'got first'
receives_one 'exec busybox sh -c '\''read -r line < "$box"; echo "got $line"'\' 'got first' 'first
line two'
