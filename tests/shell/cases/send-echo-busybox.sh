# One `echo` of busybox sh is one message, with > and with >>; two are two, also through one descriptor.
. "$LIB"
need busybox
printf 'hi there\n' > hi

sends_one 'busybox sh -c '\''echo hi there > "$box"'\' hi
sends_one 'busybox sh -c '\''echo hi there >> "$box"'\' hi
sends_one 'busybox sh -c '\''printf "hi %s\n" there > "$box"'\' hi
sends_one 'busybox sh -c '\''cat > "$box" <<END
hi there
END'\' hi
sends 'busybox sh -c '\''{ echo one; echo two; } > "$box"'\'
[ "$ended $(figure sent depth)" = '0 2' ] || fail "ended with $ended, $(figure sent depth) messages"
[ "$(cat "$box") $(cat "$box")" = 'one two' ] || fail "in the wrong order"
