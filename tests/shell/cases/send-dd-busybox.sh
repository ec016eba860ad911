# busybox dd sends a message for each block: with a block size as great as the file, one. Too long a block is a clear error.
. "$LIB"
dd=$(busybox_applet dd)
random_file 1044480 longest
random_file 1044481 longer
random_file 1000 short

sends_one '$dd if=longest "of=$box" bs=1M' longest
sends_one '$dd if=longest bs=1M > "$box"' longest
sends_one '$dd if=longest bs=1M >> "$box"' longest
sends_one '$dd if=longest "of=$box" bs=1M conv=notrunc' longest
fails_to_send '$dd if=longer "of=$box" bs=2M' 'Message too long'
sends '$dd if=short "of=$box" bs=512'
[ "$(figure sent sent)" = 2 ] || fail "$(figure sent sent) messages"
