# GNU `cat <> box` prints message after message until it is ended.
. "$LIB"
cat=$(gnu cat)
box=$MNT/mailboxes/follow
echo first > "$box"

$cat 0<> "$box" > out 2> err &
pid=$!
await_output first
await_reader follow $pid
echo second > "$box"
await_output 'first
second'
kill $pid
await_end $pid
wait $pid 2> /dev/null || :
[ ! -s err ] || fail "it said: $(cat err)"
