# dash and busybox sh write what one `printf` or `echo` prints at once, so that several lines are one message.
. "$LIB"
printf 'a\nb\n' > lines
for shell in dash 'busybox sh'; do
    need ${shell% sh}
    sends_one '$shell -c '\''printf "a\nb\n" > "$box"'\' lines
done
