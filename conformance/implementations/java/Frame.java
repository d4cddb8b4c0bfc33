// Frames: a length as a varint, then one envelope. parseDelimitedFrom of the library reads a
// body before its length can be refused and keeps 32 bits of it, so this reads the length.

import com.google.protobuf.MessageLite;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;

final class Frame {
    static class TooLong extends Exception {}

    static class Malformed extends Exception {}

    static final int LENGTH_BYTES_MAX = 10;

    /** The bytes of a frame around an envelope. */
    static byte[] of(MessageLite envelope) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        envelope.writeDelimitedTo(out);
        return out.toByteArray();
    }

    /** The next body; null at the end of the stream. An EOFException says that a frame is cut short. */
    static byte[] read(InputStream in, long bodyBytesMax) throws IOException, TooLong, Malformed {
        long length = 0;
        for (int i = 0; ; i++) {
            int next = in.read();
            if (next < 0 && i == 0) return null;
            if (next < 0) throw new EOFException("the stream ends inside a length");
            boolean isLast = next < 0x80;
            boolean isTenth = i + 1 == LENGTH_BYTES_MAX;
            if (isTenth && (!isLast || next > 1)) throw new Malformed(); // CHAT-FRAME-4
            length |= (long) (next & 0x7f) << (7 * i);
            if (isLast) break;
        }
        // Unsigned: a length of 2^63 is negative here. CHAT-FRAME-5: before the body comes.
        if (Long.compareUnsigned(length, bodyBytesMax) > 0) throw new TooLong();
        byte[] body = in.readNBytes((int) length);
        if (body.length < length) throw new EOFException("the stream ends inside a body");
        return body;
    }
}
