// Asks or answers questions through a segment. The other side may be in any language. See examples/README.md.
//
//     java Exchange.java ask|answer MOUNTPOINT NAME WORD...

import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.RandomAccessFile;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;

class Exchange {
    // Offsets: the numbers of questions and answers (u32 each); the last question and answer, each followed by a zero byte.
    static final int ASKED = 0, ANSWERED = 4, QUESTION = 64, ANSWER = 2048;
    static final VarHandle NUMBER = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.nativeOrder());
    static MappedByteBuffer memory;

    static int number(int place) { return (int) NUMBER.getVolatile(memory, place); }

    static void put(int place, String text) {
        memory.put(place, (text + "\0").getBytes(StandardCharsets.UTF_8));
    }

    static String text(int place) {
        int length = 0;
        while (memory.get(place + length) != 0) length++;
        byte[] bytes = new byte[length];
        memory.get(place, bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }

    public static void main(String[] args) throws Exception {
        if (args.length < 4) {
            System.err.println("usage: java Exchange.java ask|answer MOUNTPOINT NAME WORD...");
            System.exit(2);
        }
        String role = args[0], mountpoint = args[1], name = args[2];
        try (RandomAccessFile segment = new RandomAccessFile(mountpoint + "/segments/" + name, "rw")) {
            segment.setLength(4096);
            memory = segment.getChannel().map(FileChannel.MapMode.READ_WRITE, 0, 4096);
        }
        FileOutputStream notify = new FileOutputStream(mountpoint + "/control/segments/" + name + "/notify");
        FileInputStream wait = new FileInputStream(mountpoint + "/control/segments/" + name + "/wait");
        byte[] count = new byte[32];
        for (int i = 3; i < args.length; i++) {
            if (role.equals("ask")) {
                put(QUESTION, args[i]);
                int number = number(ASKED) + 1;
                NUMBER.setVolatile(memory, ASKED, number);
                notify.write('\n');
                while (number(ANSWERED) != number) wait.read(count);
                System.out.println(text(ANSWER));
            } else {
                while (number(ANSWERED) == number(ASKED)) wait.read(count);
                put(ANSWER, text(QUESTION) + " " + args[i]);
                NUMBER.setVolatile(memory, ANSWERED, number(ASKED));
                notify.write('\n');
            }
        }
    }
}
