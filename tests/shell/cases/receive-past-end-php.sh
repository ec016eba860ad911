# PHP's functions that read a whole file receive the one message that waits, and do not wait for another.
. "$LIB"
need php
: > "$MNT/mailboxes/past"
for program in 'echo file_get_contents($argv[1]);' 'echo implode(file($argv[1]));' 'readfile($argv[1]);' \
    'copy($argv[1], "copy"); echo file_get_contents("copy");'; do
    echo hello > "$MNT/mailboxes/past"
    got=$(timeout 60 php -r "$program" "$MNT/mailboxes/past") || fail "$program ended with $?"
    [ "$got" = hello ] || fail "$program: $got"
done
