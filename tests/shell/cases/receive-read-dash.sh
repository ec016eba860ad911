# `read` in dash takes one message: its first line.
. "$LIB"
need dash

receives_one 'dash -c '\''read -r line < "$box"; echo "got $line"'\' 'got first'
receives_one 'dash -c '\''read -r line < "$box"; echo "got $line"'\' 'got first' 'first
line two'
