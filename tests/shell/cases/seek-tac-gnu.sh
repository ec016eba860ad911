# GNU tac goes to the end that stat tells before it reads. No message begins there, so it fails and takes none.
. "$LIB"
tac=$(gnu tac)

takes_nothing '$tac "$box"'
grep -q 'Invalid argument' err || fail "it said: $(cat err)"
receives_one 'cat "$box" | $tac' 'line two
first' 'first
line two'
