# GNU diff compares one message, by name and from standard input.
. "$LIB"
diff=$(gnu diff)
echo first > first

receives_one '$diff "$box" first && echo same' same
receives_one '$diff - first < "$box" && echo same' same
