# What prints through a buffer sends one message if it is short: filters, a command's output, an archive.
. "$LIB"
need sort sed awk grep tr seq tar
printf 'a\nb\n' > lines
printf '1\n2\n3\n' > numbers

sends_one 'sort lines > "$box"' lines
sends_one 'sort -o "$box" lines' lines
sends_one 'sed -n p lines > "$box"' lines
sends_one 'awk 1 lines > "$box"' lines
sends_one 'grep . lines > "$box"' lines
sends_one 'tr x y < lines > "$box"' lines
sends_one 'seq 3 > "$box"' numbers
tar cf archive lines
sends_one 'tar cf "$box" lines' archive
