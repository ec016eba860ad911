# uutils' dd sends one message, or says that it cannot seek in a mailbox and sends none, as its versions differ.
. "$LIB"
dd=$(uutils dd)
random_file 1044480 longest

sends_one_or_fails '$dd if=longest "of=$box" bs=2M' longest 'seek'
[ $ended = 0 ] || [ "$(figure sent sent)" = 0 ] || fail "it failed and sent something"
