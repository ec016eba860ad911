import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.FileReader;
import java.io.FileWriter;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Scanner;
import java.util.stream.Collectors;

/**
 * `Client API MAILBOX` receives one message and prints it; with a FILE behind, it sends that as one message. Nothing but
 * the JDK's own classes.
 */
final class Client {
    private static final int ENOUGH = 2 << 20;

    private Client() {}

    public static void main(String[] arguments) throws IOException {
        Path path = Path.of(arguments[1]);
        if (arguments.length > 2) {
            send(arguments[0], path, Files.readString(Path.of(arguments[2])));
        } else {
            System.out.write(receive(arguments[0], path));
            System.out.flush();
        }
    }

    private static byte[] receive(String api, Path path) throws IOException {
        switch (api) {
            case "readAllBytes":
                return Files.readAllBytes(path);
            case "readString":
                return Files.readString(path).getBytes(StandardCharsets.UTF_8);
            case "lines":
                try (var lines = Files.lines(path)) {
                    return unlines(lines.collect(Collectors.joining("\n")));
                }
            case "copy": {
                Path copy = Files.createTempFile("ipcfs", null);
                try (OutputStream out = Files.newOutputStream(copy)) {
                    Files.copy(path, out);
                }
                byte[] bytes = Files.readAllBytes(copy);
                Files.delete(copy);
                return bytes;
            }
            case "inputStream":
                try (FileInputStream in = new FileInputStream(path.toFile())) {
                    byte[] buffer = new byte[ENOUGH];
                    return Arrays.copyOf(buffer, in.read(buffer));
                }
            case "inputStreamAll":
                try (FileInputStream in = new FileInputStream(path.toFile())) {
                    return in.readAllBytes();
                }
            case "transferTo":
                try (FileInputStream in = new FileInputStream(path.toFile())) {
                    in.transferTo(System.out);
                    return new byte[0];
                }
            case "channel":
                try (FileChannel channel = FileChannel.open(path)) {
                    return read(channel);
                }
            case "channelStream":
                try (FileChannel channel =
                        FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
                    return read(channel);
                }
            case "randomAccess":
                try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "r")) {
                    byte[] buffer = new byte[ENOUGH];
                    return Arrays.copyOf(buffer, file.read(buffer));
                }
            case "randomAccessStream":
                try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
                    byte[] buffer = new byte[ENOUGH];
                    return Arrays.copyOf(buffer, file.read(buffer));
                }
            case "bufferedReader":
                try (BufferedReader reader = new BufferedReader(new FileReader(path.toFile()))) {
                    return unlines(reader.readLine());
                }
            case "scanner":
                try (Scanner scanner = new Scanner(path)) {
                    return unlines(scanner.nextLine());
                }
            default:
                throw new IllegalArgumentException(api);
        }
    }

    private static void send(String api, Path path, String text) throws IOException {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        switch (api) {
            case "write":
                Files.write(path, bytes);
                break;
            case "writeString":
                Files.writeString(path, text);
                break;
            case "append":
                Files.write(path, bytes, StandardOpenOption.APPEND);
                break;
            case "outputStream":
                try (FileOutputStream out = new FileOutputStream(path.toFile())) {
                    out.write(bytes);
                }
                break;
            case "outputStreamAppend":
                try (FileOutputStream out = new FileOutputStream(path.toFile(), true)) {
                    out.write(bytes);
                }
                break;
            case "channel":
                try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
                    channel.write(ByteBuffer.wrap(bytes));
                }
                break;
            case "randomAccess":
                try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
                    file.write(bytes);
                }
                break;
            case "fileWriter":
                try (FileWriter writer = new FileWriter(path.toFile())) {
                    writer.write(text);
                }
                break;
            case "printWriter":
                try (PrintWriter writer = new PrintWriter(new BufferedWriter(new FileWriter(path.toFile())))) {
                    for (String line : text.split("\n")) {
                        writer.println(line);
                    }
                }
                break;
            default:
                throw new IllegalArgumentException(api);
        }
    }

    private static byte[] read(FileChannel channel) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate(ENOUGH);
        channel.read(buffer);
        return Arrays.copyOf(buffer.array(), buffer.position());
    }

    private static byte[] unlines(String lines) {
        return (lines + "\n").getBytes(StandardCharsets.UTF_8);
    }
}
