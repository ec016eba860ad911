# GNU grep and sed, and awk, each take one message, also when they stop at its first line.
. "$LIB"
grep=$(gnu grep)
sed=$(gnu sed)
need awk
two='first
line two'

receives_one '$grep two "$box"' 'line two' "$two"
receives_one '$grep -q first "$box" && echo found' found "$two"
receives_one '$sed s/two/2/ "$box"' 'first
line 2' "$two"
receives_one '$sed 1q "$box"' first "$two"
receives_one 'awk "{print NR, NF}" "$box"' '1 1
2 2' "$two"
