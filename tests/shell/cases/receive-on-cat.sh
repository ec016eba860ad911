# One program after the other through one descriptor: each gets one message, and waits for it, though the one before was told the
# end of file last.
. "$LIB"
: > "$MNT/mailboxes/on"
for shell in sh dash bash 'busybox sh'; do
    command -v ${shell%% *} > /dev/null || continue
    $shell -c '{ cat; echo -; cat; echo -; cat; } < "$1"' sh "$MNT/mailboxes/on" > out 2> err &
    pid=$!
    want=
    for message in first second third; do
        tries=0
        until [ "$(figure on waiting_readers)" = 1 ]; do
            tries=$((tries + 1))
            [ $tries -lt 3000 ] || fail "$shell: nobody waits: $(cat out err)"
            sleep 0.01
        done
        echo $message > "$MNT/mailboxes/on"
        want="$want$message
-
"
        [ $message = third ] || await_output "${want%?}"
    done
    await_end $pid
    wait $pid || fail "$shell ended with $?: $(cat err)"
    await_output "${want%???}"
done
