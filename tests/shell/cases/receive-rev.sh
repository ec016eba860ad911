# rev, of util-linux and of busybox, reverses one message.
. "$LIB"
need rev
busybox=$(busybox_applet rev)

receives_one 'rev "$box"' tsrif
receives_one '$busybox "$box"' tsrif
