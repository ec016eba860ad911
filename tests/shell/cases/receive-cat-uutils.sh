# uutils' cat receives one message, by name and from standard input, and the longest one whole.
. "$LIB"
cat=$(uutils cat)

receives_one '$cat "$box"'
receives_one '$cat < "$box"'
receives_one '$cat -n "$box"' '     1	first'
receives_whole '$cat "$box"'
receives_whole '$cat < "$box"'
