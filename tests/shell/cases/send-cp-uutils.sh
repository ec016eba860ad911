# uutils' `cp file box` sends one message of a short file, keeping what waits and the mailbox.
. "$LIB"
cp=$(uutils cp)
random_file 5000 short

sends_one '$cp short "$box"' short
echo waiting > "$box"
$cp short "$box"
[ "$(cat "$box")" = waiting ] || fail "what waited is gone"
[ "$(figure sent depth)" = 1 ] || fail "more than one message"
