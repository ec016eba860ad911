# Under busybox timeout a reader gets its message, or ends in time and takes nothing.
. "$LIB"
timeout=$(busybox_applet timeout)

receives_one '$timeout 60 cat "$box"'
box=$MNT/mailboxes/empty
: > "$box"
if ($timeout 0.2 cat "$box" || exit 1) 2> err; then
    fail "there was nothing to read"
fi
[ "$(figure empty waiting_readers)" = 0 ] || fail "somebody still waits"
echo later > "$box"
[ "$(cat "$box")" = later ] || fail "the message is gone"
