# `read` in bash takes one message: its first line.
. "$LIB"
need bash

receives_one 'bash -c '\''read -r line < "$box"; echo "got $line"'\' 'got first'
receives_one 'bash -c '\''read -r line < "$box"; echo "got $line"'\' 'got first' 'first
line two'
