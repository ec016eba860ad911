# GNU xargs takes its arguments from one message.
. "$LIB"
xargs=$(gnu xargs)

receives_one '$xargs echo got < "$box"' 'got first line two' 'first
line two'
receives_one '$xargs -n 1 echo got < "$box"' 'got first
got two' 'first
two'
receives_one '$xargs -a "$box" echo got' 'got first'
