# GNU cat refuses to copy a mailbox onto itself, and takes nothing.
. "$LIB"
cat=$(gnu cat)

for redirect in '> "$box"' '>> "$box"'; do
    takes_nothing "\$cat \"\$box\" $redirect"
    grep -q 'input file is output file' err || fail "it said: $(cat err)"
done
