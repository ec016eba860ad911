# $(cat box) in bash is one message, less its last newline.
. "$LIB"
need bash

receives_one 'bash -c '\''text=$(cat "$box"); echo "[$text]"'\' '[first]'
