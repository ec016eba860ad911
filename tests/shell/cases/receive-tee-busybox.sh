# busybox tee passes one message on, to several files.
. "$LIB"
tee=$(busybox_applet tee)

receives_one '$tee < "$box"'
receives_whole '$tee copy < "$box"'
same whole copy "$tee copy"
