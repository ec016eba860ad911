# uutils' filters each take one message, by name and from standard input.
. "$LIB"
two='b second
a first'
for tool in sort cut fold nl wc od tr md5sum sha256sum base64 tac uniq; do
    run=$(uutils $tool)
    case $tool in
        cut) run="$run -c 1-3" ;;
        wc) run="$run -l" ;;
        tr) run="$run a-z A-Z" ;;
    esac
    want=$(printf '%s\n' "$two" | $run)
    receives_one '$run < "$box"' "$want" "$two"
    case $tool in
        tr | wc | md5sum | sha256sum) ;;
        *) receives_one '$run "$box"' "$want" "$two" ;;
    esac
done
