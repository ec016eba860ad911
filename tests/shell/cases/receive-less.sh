# less shows one message.
. "$LIB"
need less

receives_one 'less "$box"'
