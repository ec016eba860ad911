# GNU `tail -n +1 -f box` prints message after message; plain `tail -f box` says that it cannot, and takes nothing.
. "$LIB"
tail=$(gnu tail)
box=$MNT/mailboxes/follow
echo first > "$box"

$tail -n +1 -f "$box" > out 2> err &
pid=$!
await_output first
echo second > "$box"
await_output 'first
second'
kill $pid
await_end $pid
wait $pid 2> /dev/null || :
[ ! -s err ] || fail "$(cat err)"
takes_nothing '$tail -f "$box"'
grep -q 'Invalid argument' err || fail "it said: $(cat err)"
