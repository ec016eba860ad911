# What the cases share. A case is run with `sh -eu` in an empty directory of its own, which is removed after it;
# $MNT is a mount of its own. It says nothing on success, ends with 77 if a tool it is about is not installed, and every
# wait in it is bounded.

fail() {
    echo "$*" >&2
    exit 1
}

skip() {
    echo "$*" >&2
    exit 77
}

# need TOOL...: ends the case as skipped unless all of them are installed.
need() {
    for tool; do
        command -v "$tool" > /dev/null || skip "$tool is not installed"
    done
}

# gnu TOOL, busybox_applet TOOL, uutils TOOL: how to call that implementation of it.
gnu() {
    for candidate in "$1" "gnu$1" "g$1"; do
        if command -v "$candidate" > /dev/null && "$candidate" --version 2> /dev/null | grep -q GNU; then
            echo "$candidate"
            return
        fi
    done
    skip "GNU $1 is not installed"
}

busybox_applet() {
    need busybox
    busybox --list | grep -qx "$1" || skip "busybox has no $1"
    echo "busybox $1"
}

uutils() {
    if [ -x "/usr/lib/cargo/bin/coreutils/$1" ]; then
        echo "/usr/lib/cargo/bin/coreutils/$1"
    elif command -v coreutils > /dev/null && coreutils "$1" --version > /dev/null 2>&1; then
        echo "coreutils $1"
    else
        skip "uutils' $1 is not installed"
    fi
}

# figure MAILBOX KEY: a number in its status.
figure() {
    sed -n "s/^$2 //p" "$MNT/control/mailboxes/$1/status"
}

# same FILE FILE WHAT: the two have the same bytes.
same() {
    cmp -s "$1" "$2" || fail "$3: wanted $(wc -c < "$1") bytes: $(head -c 200 "$1")
got $(wc -c < "$2") bytes: $(head -c 200 "$2")"
}

# await_reader MAILBOX PID: until PID waits for a message. A program that asks poll(2) before it reads is no waiting
# reader yet; it is known by sleeping with the mailbox open.
await_reader() {
    tries=0
    until [ "$(figure "$1" waiting_readers)" = 1 ] || sleeps_on "$1" "$2"; do
        kill -0 "$2" 2> /dev/null || fail "it did not wait: $(cat err)"
        tries=$((tries + 1))
        [ $tries -lt 3000 ] || fail "nobody waits: $(cat "$MNT/control/mailboxes/$1/status")"
        sleep 0.01
    done
}

sleeps_on() {
    grep -q '^State:.S' "/proc/$2/status" 2> /dev/null || return 1
    for descriptor in "/proc/$2/fd"/*; do
        [ "$(readlink "$descriptor")" != "$MNT/mailboxes/$1" ] || return 0
    done
    return 1
}

# await_output TEXT: until the file `out` is that text.
await_output() {
    tries=0
    until [ "$(cat out 2> /dev/null)" = "$1" ]; do
        tries=$((tries + 1))
        [ $tries -lt 3000 ] || fail "wanted: $1
got: $(cat out)"
        sleep 0.01
    done
}

# await_end PID: until it has ended. Its status is wait's.
await_end() {
    tries=0
    while kill -0 "$1" 2> /dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2> /dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 3000 ] || fail "still running: $(cat "/proc/$1/status")"
        sleep 0.01
    done
}

# send_file FILE MAILBOX: in one write, whatever its size.
send_file() {
    dd=$(gnu dd) || dd=$(busybox_applet dd)
    $dd "if=$1" "of=$MNT/mailboxes/$2" bs=2M status=none
}

# receives_one COMMAND [OUTPUT [MESSAGE]]: COMMAND, which reads "$box", prints OUTPUT (else MESSAGE, else "first") for the
# first of two messages, MESSAGE, and leaves the second: when both are there already, and when it has to wait.
receives_one() {
    message=${3-first}
    printf '%s\n' "${2-$message}" > want
    printf '%s\n' "$message" > message
    for state in there awaited; do
        box=$MNT/mailboxes/$state
        export box
        rm -f "$box"
        : > "$box"
        if [ $state = there ]; then
            cat message > "$box" # in one write, as not every shell's echo
            echo second > "$box"
        fi
        (eval "$1") > out 2> err < /dev/null &
        pid=$!
        if [ $state = awaited ]; then
            await_reader awaited $pid
            cat message > "$box"
            echo second > "$box"
        fi
        await_end $pid
        wait $pid || fail "$1 ($state) ended with $?: $(cat err)"
        same want out "$1 ($state)"
        [ ! -s err ] || fail "$1 ($state) said: $(cat err)"
        leaves_second $state "$1"
    done
}

# leaves_second MAILBOX WHAT: "second", and nothing else, waits in it.
leaves_second() {
    [ "$(figure "$1" depth)" = 1 ] || fail "$2 left in $1: $(cat "$MNT/control/mailboxes/$1/status")"
    [ "$(cat "$MNT/mailboxes/$1")" = second ] || fail "$2 took the wrong message"
}

# receives_whole COMMAND: COMMAND, which reads "$box", prints all the bytes of the longest message.
receives_whole() {
    head -c 1044480 /dev/urandom > whole
    box=$MNT/mailboxes/whole
    export box
    send_file whole whole
    echo second > "$box"
    (eval "$1") > out 2> err < /dev/null || fail "$1 ended with $?: $(cat err)"
    same whole out "$1"
    leaves_second whole "$1"
}

# takes_nothing COMMAND: COMMAND, which reads "$box" where no message begins, says so and leaves all messages.
takes_nothing() {
    box=$MNT/mailboxes/untouched
    export box
    rm -f "$box"
    echo first > "$box"
    echo second > "$box"
    (eval "$1") > out 2> err < /dev/null &
    pid=$!
    await_end $pid
    wait $pid || :
    [ ! -s out ] || fail "$1 printed: $(cat out)"
    [ "$(figure untouched received)" = 0 ] || fail "$1 took a message: $(cat "$MNT/control/mailboxes/untouched/status")"
}

# sends_one COMMAND FILE: COMMAND, which writes to "$box", sends FILE's bytes as one message.
sends_one() {
    sends "$1" "$2"
    [ $ended = 0 ] || fail "$1 ended with $ended: $(cat err)"
    arrived "$1" "$2"
}

# fails_to_send COMMAND MESSAGE: COMMAND ends with an error that says MESSAGE, and nothing was sent.
fails_to_send() {
    sends "$1"
    [ $ended != 0 ] || fail "$1 succeeded"
    grep -q "$2" err || fail "$1 said: $(cat err)"
    [ "$(figure sent sent)" = 0 ] || fail "$1 sent: $(cat "$MNT/control/mailboxes/sent/status")"
}

# sends_one_or_fails COMMAND FILE MESSAGE: one or the other, as versions of COMMAND differ; never pieces without a word.
sends_one_or_fails() {
    sends "$1"
    if [ $ended = 0 ]; then
        arrived "$1" "$2"
    else
        grep -q "$3" err || fail "$1 said: $(cat err)"
    fi
}

sends() {
    box=$MNT/mailboxes/sent
    export box
    rm -f "$box"
    : > "$box"
    ended=0
    (eval "$1") > out 2> err < /dev/null || ended=$?
}

arrived() {
    [ "$(figure sent depth)" = 1 ] || fail "$1 sent: $(cat "$MNT/control/mailboxes/sent/status")"
    cat "$box" > got
    same "$2" got "$1"
}

# random_file BYTES NAME
random_file() {
    head -c "$1" /dev/urandom > "$2"
}
