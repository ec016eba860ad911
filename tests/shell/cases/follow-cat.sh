# `cat <> box` prints message after message until it is ended, whichever cat it is.
. "$LIB"
for cat in cat 'busybox cat' "$(uutils cat)"; do
    need ${cat% *}
    box=$MNT/mailboxes/follow
    rm -f "$box"
    echo first > "$box"
    $cat 0<> "$box" > out 2> err &
    pid=$!
    await_output first
    await_reader follow $pid
    echo second > "$box"
    await_output 'first
second'
    kill $pid
    await_end $pid
    wait $pid 2> /dev/null || :
done
