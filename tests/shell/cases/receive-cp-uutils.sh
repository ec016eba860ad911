# uutils' cp copies one message to a file, whatever size stat tells and whatever shortcuts cp tries first.
. "$LIB"
cp=$(uutils cp)

receives_one '$cp "$box" copy && cat copy'
receives_whole '$cp "$box" copy && cat copy'
head -c 100000 /dev/zero > zeros
send_file zeros copied
echo second > "$MNT/mailboxes/copied"
$cp "$MNT/mailboxes/copied" copy
same zeros copy "$cp"
leaves_second copied "$cp"
