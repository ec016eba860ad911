# bash's own ways to read: $(< box), mapfile, and read with a limit, a time or a delimiter.
. "$LIB"
need bash
two='first
line two'

receives_one 'bash -c '\''text=$(< "$box"); echo "[$text]"'\' '[first
line two]' "$two"
receives_one 'bash -c '\''mapfile -t lines < "$box"; echo "${#lines[@]} ${lines[1]}"'\' '2 line two' "$two"
receives_one 'bash -c '\''read -r -t 60 line < "$box"; echo "$? $line"'\' '0 first' "$two"
receives_one 'bash -c '\''read -r -n 2 text < "$box"; echo "$? $text"'\' '0 fi' "$two"
receives_one 'bash -c '\''read -r -d "" text < "$box"; echo "$? $text"'\' '1 first
line two' "$two"
receives_one 'bash -c '\''{ read -r a; read -r b; } < "$box"; echo "$a, $b"'\' 'first, line two' "$two"
