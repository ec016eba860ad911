# busybox head takes one message, however little of it is printed.
. "$LIB"
head=$(busybox_applet head)
two='first
line two'

receives_one '$head "$box"' "$two" "$two"
receives_one '$head -n 1 "$box"' first "$two"
receives_one '$head -n 1 < "$box"' first "$two"
receives_one '$head -c 6 "$box"' first "$two"
receives_whole '$head -c 2000000 "$box"'
