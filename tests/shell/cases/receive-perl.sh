# perl's loop over lines, and its slurp, take one message.
. "$LIB"
need perl

receives_one 'perl -ne print "$box"'
receives_one 'perl -0777 -ne print "$box"'
