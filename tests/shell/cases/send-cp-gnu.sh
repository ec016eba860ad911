# GNU `cp file box` sends one message up to the longest there is, keeping what waits and the mailbox; beyond, a clear error.
. "$LIB"
cp=$(gnu cp)
random_file 1044480 longest
random_file 1044481 longer
echo added > added

sends_one '$cp longest "$box"' longest
sends_one '$cp -f longest "$box"' longest
fails_to_send '$cp longer "$box"' 'Message too long'
echo waiting > "$box"
$cp added "$box"
[ "$(cat "$box") $(cat "$box")" = 'waiting added' ] || fail "not both"
