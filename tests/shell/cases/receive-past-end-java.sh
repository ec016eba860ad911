# Java's BufferedReader, which reads past the end of a text without a newline at its end, receives the one message that waits.
. "$LIB"
need java
cat > Lines.java <<'JAVA'
import java.io.*;
class Lines {
    public static void main(String[] arguments) throws IOException {
        try (var lines = new BufferedReader(new FileReader(arguments[0]))) {
            for (String line; (line = lines.readLine()) != null; ) System.out.println("got " + line);
        }
    }
}
JAVA
: > "$MNT/mailboxes/past"
printf 'first\nline two' > "$MNT/mailboxes/past"
got=$(timeout 120 java Lines.java "$MNT/mailboxes/past") || fail "it ended with $?"
[ "$got" = 'got first
got line two' ] || fail "it got: $got"
