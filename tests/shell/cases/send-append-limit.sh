# A limit of file sizes (`ulimit -f`) does not end a sender that appends: the size that stat(2) tells is no position in a file.
. "$LIB"
mkdir "$MNT/mailboxes/limit"
: > "$MNT/topics/limit"
sent=0
for shell in dash bash 'busybox sh'; do
    command -v ${shell%% *} > /dev/null || continue
    new=$MNT/mailboxes/limit/new-${shell%% *}
    for file in "$new" "$new" "$MNT/topics/limit" "$MNT/control/mailboxes/limit/new-${shell%% *}/"stream \
        "$MNT/control/mailboxes/limit/new-${shell%% *}/"whole \
        "$MNT/control/mailboxes/limit/new-${shell%% *}/"priority/3 "$MNT/control/mailboxes/limit/new-${shell%% *}/"tag/x; do
        $shell -c 'ulimit -f 8; echo "through $0" >> "$0"' "$file" || fail "$shell: >> $file under a limit ended with $?"
        $shell -c 'ulimit -f 8; echo cut > "$0"' "$file" || fail "$shell: > $file under a limit ended with $?"
    done
    [ "$(figure "limit/${new##*/}" sent)" = 12 ] || fail "$shell: $(cat "$MNT/control/mailboxes/limit/${new##*/}/status")"
    [ "$(cat "$new")" = "through $MNT/control/mailboxes/limit/${new##*/}/priority/3" ] || fail "the first by priority"
    sent=$((sent + 1))
done
[ $sent -gt 0 ] || skip "no shell"

# A crowd, some of whom look it up only: each append sends.
box=$MNT/mailboxes/crowd
: > "$box"
for number in 1 2 3 4 5 6; do
    sh -c 'ulimit -f 8; for i in $(seq 50); do echo $i >> "$0"; ls -l "$0" > /dev/null; done' "$box" &
    eval "pid$number=\$!"
done
for number in 1 2 3 4 5 6; do
    eval "wait \$pid$number" || fail "one of a crowd ended with $?"
done
[ "$(figure crowd sent)" = 300 ] || fail "the crowd sent $(figure crowd sent)"

# Elsewhere the size is what a read can return.
if command -v python3 > /dev/null; then
    python3 - "$box" <<'PYTHON'
import os, resource, sys
unlimited = resource.RLIM_INFINITY
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
if hard == unlimited:
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, hard))
    assert os.fstat(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)).st_size == 1044480
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
sizes = [os.stat(sys.argv[1]).st_size, os.fstat(fd).st_size]
os.write(fd, b"x" * 1000)
sizes += [os.stat(sys.argv[1]).st_size, os.fstat(fd).st_size]
os.ftruncate(fd, 0)
sizes += [os.fstat(fd).st_size]
os.close(fd)
sizes += [os.fstat(os.open(sys.argv[1], flags)).st_size for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)]
assert sizes == [1044480, 0, 1044480, 0, 0, 1044480, 1044480, 1044480], sizes
PYTHON
fi
