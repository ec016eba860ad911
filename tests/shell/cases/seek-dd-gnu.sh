# GNU dd cannot skip a part of a message that it has not begun: it says so and takes none.
. "$LIB"
dd=$(gnu dd)

takes_nothing '$dd "if=$box" bs=1 skip=1'
grep -qi 'invalid' err || fail "it said: $(cat err)"
