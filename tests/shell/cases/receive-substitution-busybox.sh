# $(cat box) in busybox sh is one message, less its last newline.
. "$LIB"
need busybox

receives_one 'busybox sh -c '\''text=$(cat "$box"); echo "[$text]"'\' '[first]'
