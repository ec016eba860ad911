# Opened for reading and writing, a mailbox gives busybox sh one message after the other, and takes them.
. "$LIB"
need busybox
box=$MNT/mailboxes/stream
export box
echo first > "$box"

busybox sh -c 'exec 3<> "$box"; echo own >&3; read -r a <&3; read -r b <&3; read -r c <&3; echo "$a $b $c"' > out 2> err &
pid=$!
await_reader stream $pid
echo last > "$box"
await_end $pid
wait $pid || fail "it ended with $?: $(cat err)"
await_output 'first own last'
