// Sends and receives COUNT messages of SIZE bytes by way of PATH, as a file. Prints the microseconds that one takes.
import java.io.FileInputStream;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

public class Message {
    static boolean fifo;
    static Path path;
    static byte[] message;

    static byte[] receive() throws IOException {
        if (!fifo) {
            return Files.readAllBytes(path);
        }
        try (FileInputStream file = new FileInputStream(path.toFile())) {
            byte[] buffer = new byte[message.length];
            return Arrays.copyOf(buffer, file.read(buffer));
        }
    }

    static double many(int count) throws IOException {
        long start = System.nanoTime();
        for (int i = 0; i < count; i++) {
            Files.write(path, message);
            if (!Arrays.equals(receive(), message)) {
                throw new IOException("another message");
            }
        }
        return (System.nanoTime() - start) / 1e3 / count;
    }

    public static void main(String[] args) throws IOException {
        fifo = args[0].equals("fifo");
        path = Path.of(args[1]);
        int count = Integer.parseInt(args[2]);
        message = new byte[Integer.parseInt(args[3])];
        Arrays.fill(message, (byte) 'm');
        // A FIFO is lost when nobody has it open, and has no end while somebody has.
        RandomAccessFile held = fifo ? new RandomAccessFile(path.toFile(), "rw") : null;
        many(count / 10 + 1);
        System.out.println(many(count));
        if (held != null) {
            held.close();
        }
    }
}
