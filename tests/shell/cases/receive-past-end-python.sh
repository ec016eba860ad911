# Python's functions that read past the end of file receive the one message that waits, and do not wait for another.
. "$LIB"
need python3
: > "$MNT/mailboxes/past"
seq 20000 > long
printf 'no end of line' > short

try() {
    for message in short long; do
        send_file $message past
        timeout 60 python3 -c "import hashlib, shutil, sys
path = sys.argv[1]
$2" "$MNT/mailboxes/past" > out || fail "$1 ended with $?, and left $(figure past depth)"
        same $message out "$1"
    done
}

try copyfile 'shutil.copyfile(path, "copy"); print(open("copy").read(), end="")'
try copyfileobj 'shutil.copyfileobj(open(path, "rb"), sys.stdout.buffer)'
try readinto 'buffer = bytearray(1 << 18); file = open(path, "rb")
while size := file.readinto(buffer): sys.stdout.buffer.write(buffer[:size])'
try read-1000 'file = open(path)
while part := file.read(1000): sys.stdout.write(part)'
if python3 -c 'import hashlib; hashlib.file_digest' 2> /dev/null; then
    try file_digest 'class Copy:
    def update(self, part): sys.stdout.buffer.write(part)
hashlib.file_digest(open(path, "rb"), Copy)'
fi
[ "$(figure past received)" = "$(figure past sent)" ] || fail "messages are left: $(cat "$MNT/control/mailboxes/past/status")"
