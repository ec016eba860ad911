# busybox cmp and diff compare one message.
. "$LIB"
cmp=$(busybox_applet cmp)
diff=$(busybox_applet diff)
echo first > first

receives_one '$cmp "$box" first && echo same' same
receives_one '$diff "$box" first && echo same' same
