# uutils' tee passes one message on, to several files.
. "$LIB"
tee=$(uutils tee)

receives_one '$tee < "$box"'
receives_whole '$tee copy < "$box"'
same whole copy "$tee copy"
