# Truncating, touching and writing nothing send no message and lose none.
. "$LIB"
need truncate touch
box=$MNT/mailboxes/kept
echo kept > "$box"

: > "$box"
: >> "$box"
printf '' > "$box"
cat /dev/null > "$box"
cp /dev/null "$box"
touch "$box"
truncate -s 0 "$box"
truncate -s 100 "$box"
[ "$(figure kept sent)" = 1 ] || fail "$(figure kept sent) messages"
[ "$(cat "$box")" = kept ] || fail "another message"
