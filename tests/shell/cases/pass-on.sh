# `cat a > b`, `cp a b` and `tee b < a` pass a message on, as one.
. "$LIB"
a=$MNT/mailboxes/a
b=$MNT/mailboxes/b
random_file 1044480 longest
for command in 'cat "$a" > "$b"' 'cp "$a" "$b"' 'dd "if=$a" "of=$b" bs=2M status=none'; do
    rm -f "$b"
    send_file longest a
    eval "$command"
    [ "$(figure b depth)" = 1 ] || fail "$command: $(figure b depth) messages"
    cat "$b" > got
    same longest got "$command"
done
