# One `echo` of dash is one message, with > and with >>; two are two, also through one descriptor.
. "$LIB"
need dash
printf 'hi there\n' > hi

sends_one 'dash -c '\''echo hi there > "$box"'\' hi
sends_one 'dash -c '\''echo hi there >> "$box"'\' hi
sends_one 'dash -c '\''printf "hi %s\n" there > "$box"'\' hi
sends_one 'dash -c '\''cat > "$box" <<END
hi there
END'\' hi
sends 'dash -c '\''{ echo one; echo two; } > "$box"'\'
[ "$ended $(figure sent depth)" = '0 2' ] || fail "ended with $ended, $(figure sent depth) messages"
[ "$(cat "$box") $(cat "$box")" = 'one two' ] || fail "in the wrong order"
