# $(cat box) in dash is one message, less its last newline.
. "$LIB"
need dash

receives_one 'dash -c '\''text=$(cat "$box"); echo "[$text]"'\' '[first]'
