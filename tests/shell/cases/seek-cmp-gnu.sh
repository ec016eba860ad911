# GNU cmp compares one message; it cannot skip a part of it first, says so and takes none.
. "$LIB"
cmp=$(gnu cmp)
echo first > first

receives_one '$cmp "$box" first && echo same' same
receives_one '$cmp first "$box" && echo same' same
takes_nothing '$cmp -i 1 "$box" first'
grep -q 'Invalid argument' err || fail "it said: $(cat err)"
