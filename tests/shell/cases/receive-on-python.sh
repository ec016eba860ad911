# A descriptor can be read for ever: functions that read a whole file get one message with each call, and wait for the next.
. "$LIB"
need python3
: > "$MNT/mailboxes/on"
cat > on.py <<'PYTHON'
import sys
how, path = sys.argv[1:]
file = open(path, "rb", buffering=0 if how == "unbuffered" else -1)
while True:
    print(file.read().decode(), end="", flush=True)
    print("-", flush=True)
PYTHON
for how in unbuffered buffered; do
    python3 on.py $how "$MNT/mailboxes/on" > out 2> err &
    pid=$!
    want=
    for message in first second third; do
        await_reader on $pid
        echo $message > "$MNT/mailboxes/on"
        want="$want$message
-
"
        await_output "${want%?}"
    done
    await_reader on $pid
    kill $pid
    await_end $pid
    wait $pid 2> /dev/null || :
done
