# bash's builtins write line by line, so that each line is a message; a here-document through cat is one.
. "$LIB"
need bash
printf 'a\nb\n' > lines

sends 'bash -c '\''printf "a\nb\n" > "$box"'\'
[ "$(figure sent depth)" = 2 ] || fail "$(figure sent depth) messages"
sends_one 'bash -c '\''cat > "$box" <<< "a
b"'\' lines
sends_one 'bash -c '\''cat > "$box" <<END
a
b
END'\' lines
sends_one 'bash -c '\''printf "a\nb\n" | cat > "$box"'\' lines
sends_one 'bash -c '\''command -p env printf "a\nb\n" > "$box"'\' lines
