# `cat a b` and `paste a b` receive one message from each, waiting for the first one first.
. "$LIB"
a=$MNT/mailboxes/a
b=$MNT/mailboxes/b
: > "$a"
echo from b > "$b"

cat "$a" "$b" > out 2> err &
pid=$!
await_reader a $pid
[ "$(figure b depth)" = 1 ] || fail "b was read before a"
echo from a > "$a"
await_end $pid
wait $pid || fail "cat ended with $?: $(cat err)"
await_output 'from a
from b'
echo 1 > "$a"
echo 2 > "$b"
[ "$(paste "$a" "$b")" = '1	2' ] || fail "paste"
