# busybox `cat file > box` is one message up to 64 KiB, the size of its sendfile's pieces. Beyond, it ends with an error
# after the first piece rather than sending several messages.
. "$LIB"
cat=$(busybox_applet cat)
random_file 65536 piece
random_file 65537 longer
random_file 1044481 longest

sends_one '$cat piece > "$box"' piece
for file in longer longest; do
    sends '$cat $file > "$box"'
    [ $ended != 0 ] || fail "$file was sent"
    grep -q 'Message too long' err || fail "it said: $(cat err)"
    [ "$(figure sent sent)" = 1 ] || fail "$(figure sent sent) messages"
done
