# GNU dd receives one message, in however many blocks, and the longest one whole.
. "$LIB"
dd=$(gnu dd)

receives_one '$dd "if=$box" 2> /dev/null'
receives_one '$dd "if=$box" bs=1M count=1 2> /dev/null'
receives_one '$dd < "$box" 2> /dev/null'
receives_whole '$dd "if=$box" 2> /dev/null'
receives_whole '$dd "if=$box" bs=2M 2> /dev/null'
