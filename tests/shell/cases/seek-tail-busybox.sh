# busybox tail goes to the end that stat tells before it reads. No message begins there, so it fails and takes none.
. "$LIB"
tail=$(busybox_applet tail)

takes_nothing '$tail -n 1 "$box"'
grep -q 'Invalid argument' err || fail "it said: $(cat err)"
receives_one 'cat "$box" | $tail -n 1' 'line two' 'first
line two'
