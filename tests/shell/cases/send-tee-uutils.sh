# uutils' `tee box` sends one message for each piece that it reads, and what is short comes in one piece.
. "$LIB"
tee=$(uutils tee)
random_file 1000 short

sends_one '$tee "$box" < short > copy' short
same short copy "$tee"
sends_one '$tee -a "$box" < short' short
