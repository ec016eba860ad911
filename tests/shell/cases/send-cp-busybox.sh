# busybox `cp file box` sends one message up to 64 KiB, the size of its sendfile's pieces; beyond, an error.
. "$LIB"
cp=$(busybox_applet cp)
random_file 65536 piece
random_file 65537 longer
echo added > added

sends_one '$cp piece "$box"' piece
sends '$cp longer "$box"'
[ $ended != 0 ] || fail "it was sent"
grep -q 'Message too long' err || fail "it said: $(cat err)"
rm "$box"
echo waiting > "$box"
$cp added "$box"
[ "$(cat "$box") $(cat "$box")" = 'waiting added' ] || fail "not both"
