# bash ignores the time of `read -t` where it reads a file, so `timeout` sets it; `read -t 0` tells whether a message waits.
. "$LIB"
need bash
box=$MNT/mailboxes/empty
export box
: > "$box"

timeout 0.2 bash -c 'read -r -t 0.1 line < "$box"' && fail "there was nothing to read"
bash -c 'read -t 0 < "$box"' && fail "nothing waits"
echo later > "$box"
bash -c 'read -t 0 < "$box"' || fail "a message waits"
[ "$(figure empty received)" = 0 ] || fail "a message was taken"
[ "$(cat "$box")" = later ] || fail "another message came"
