# uutils' `cat file > box` is one message up to 64 KiB, the size of a pipe it goes through. Beyond, some versions end with
# an error after the first piece; none sends several messages without a word.
. "$LIB"
cat=$(uutils cat)
random_file 10000 short
random_file 1044481 longer

sends_one '$cat short > "$box"' short
sends_one_or_fails '$cat longer > "$box"' longer 'Message too long'
