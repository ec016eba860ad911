# Commands that inherit one descriptor receive message after message through it.
. "$LIB"
box=$MNT/mailboxes/shared
echo first > "$box"
echo second > "$box"

exec 3< "$box"
[ "$(cat <&3)" = first ] || fail "first"
[ "$(cat <&3)" = second ] || fail "second"
exec 3<&-
