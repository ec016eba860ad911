# GNU cat refuses to copy a file onto itself, or, since it looks where both descriptors stand, copies a message of a mailbox to its
# end. Nothing is lost, and it does not go on for ever.
. "$LIB"
cat=$(gnu cat)

for redirect in '> "$box"' '>> "$box"'; do
    box=$MNT/mailboxes/itself
    rm -f "$box"
    echo first > "$box"
    echo second > "$box"
    (eval "\$cat \"\$box\" $redirect") > out 2> err < /dev/null &
    await_end $!
    [ ! -s out ] || fail "it printed: $(cat out)"
    if grep -q 'input file is output file' err; then
        expected='first second'
    else
        [ ! -s err ] || fail "it said: $(cat err)"
        expected='second first'
    fi
    [ "$(figure itself depth)" = 2 ] || fail "not two messages: $(cat "$MNT/control/mailboxes/itself/status")"
    left="$(cat "$box") $(cat "$box")"
    [ "$left" = "$expected" ] || fail "$left is left instead of $expected"
done
