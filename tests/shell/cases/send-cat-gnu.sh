# GNU `cat file > box` and `>> box` are one message up to the longest there is, and a clear error beyond.
. "$LIB"
cat=$(gnu cat)
random_file 1044480 longest
random_file 1044481 longer

sends_one '$cat longest > "$box"' longest
sends_one '$cat longest >> "$box"' longest
sends_one '$cat < longest > "$box"' longest
fails_to_send '$cat longer > "$box"' 'Message too long'
fails_to_send '$cat longer >> "$box"' 'Message too long'
