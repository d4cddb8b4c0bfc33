import chat.v1.ClientEnvelope;
import chat.v1.Error;
import chat.v1.ErrorCode;
import chat.v1.ServerEnvelope;
import com.google.protobuf.InvalidProtocolBufferException;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.Socket;
import java.util.ArrayDeque;
import java.util.Queue;

/** One client: a thread reads it, another one writes its queue. The room's lock guards all fields. */
final class Connection {
    static final int FRAME_BYTES_MAX = 4096;
    static final int FIRST_FRAME_BYTES_MAX = 1024; // until a Register is accepted (CHAT-FRAME-6)
    static final int LAG_BYTES_MAX = 4 << 20; // how far a member may be behind
    static final int UNREAD_BYTES_MAX = 64 << 10; // of a client's own queue, before the server reads no more of it
    static final int WRITE_DEADLINE_MS = 30_000;
    static final int LINGER_MS = 1_000; // reading on before a close, so that no reset destroys the last frame

    final Room room;
    final Socket socket;
    final long acceptedMs = System.currentTimeMillis();
    final Queue<byte[]> frames = new ArrayDeque<>();
    String name; // null: not registered
    boolean isEnded; // nothing more is queued
    boolean isRead; // the client has ended its stream
    int bytes; // in frames
    long writingSinceMs; // 0: no write is under way

    Connection(Room room, Socket socket) {
        this.room = room;
        this.socket = socket;
    }

    void serve() {
        room.enter(this);
        Thread writer = new Thread(this::write);
        writer.start();
        try {
            InputStream in = new BufferedInputStream(socket.getInputStream());
            read(in);
            in.transferTo(OutputStream.nullOutputStream()); // what still arrives is dropped
        } catch (IOException gone) {
            // There is nobody to tell.
        }
        synchronized (room) {
            isRead = true;
            room.notifyAll();
        }
        try {
            writer.join();
        } catch (InterruptedException stop) {
            // The process ends.
        }
        synchronized (room) {
            room.connections.remove(this);
            room.notifyAll();
        }
    }

    /** Handles what arrives until the session ends. */
    private void read(InputStream in) {
        while (true) {
            ClientEnvelope envelope = null;
            ErrorCode wrong = null;
            String detail = "That is no frame with a ClientEnvelope.";
            try {
                byte[] body = Frame.read(in, name == null ? FIRST_FRAME_BYTES_MAX : FRAME_BYTES_MAX);
                envelope = body == null ? null : ClientEnvelope.parseFrom(body);
            } catch (Frame.TooLong tooLong) {
                wrong = ErrorCode.ERROR_CODE_FRAME_TOO_LONG;
                detail = "Send shorter messages.";
            } catch (Frame.Malformed | InvalidProtocolBufferException | EOFException malformed) {
                wrong = ErrorCode.ERROR_CODE_MALFORMED_FRAME; // CHAT-FRAME-4, 8, 10
            } catch (IOException lost) {
                // As the end of the stream (CHAT-LEAVE-5).
            }
            synchronized (room) {
                if (wrong != null) fail(wrong, detail);
                else if (envelope == null) end(null);
                else if (!isEnded) room.handle(this, envelope);
                try {
                    // A client that does not read its answers is not read (CHAT-LIM-6).
                    while (bytes > UNREAD_BYTES_MAX && !isEnded) room.wait();
                } catch (InterruptedException stop) {
                    end(null);
                }
                if (isEnded) return;
            }
        }
    }

    /** Sends what is queued, without the lock, so that no client waits for another. */
    private void write() {
        try {
            while (true) {
                byte[] next;
                synchronized (room) {
                    while (frames.isEmpty() && !isEnded) room.wait();
                    if (frames.isEmpty()) break;
                    next = frames.remove();
                    writingSinceMs = System.currentTimeMillis();
                }
                socket.getOutputStream().write(next);
                synchronized (room) {
                    writingSinceMs = 0;
                    bytes -= next.length;
                    room.notifyAll();
                }
            }
            socket.shutdownOutput();
            synchronized (room) {
                long until = System.currentTimeMillis() + LINGER_MS;
                while (!isRead && System.currentTimeMillis() < until) room.wait(LINGER_MS);
            }
        } catch (IOException | InterruptedException gone) {
            synchronized (room) {
                frames.clear();
                end(null);
            }
        }
        closeSocket();
    }

    /** Judges the deadlines; called many times a second, with the lock. */
    void tick(long nowMs, int registerDeadlineMs) {
        if (name == null && nowMs - acceptedMs > registerDeadlineMs) { // CHAT-REG-5
            fail(ErrorCode.ERROR_CODE_REGISTER_TIMEOUT, "Register sooner after you connect.");
        }
        if (writingSinceMs != 0 && nowMs - writingSinceMs > WRITE_DEADLINE_MS) closeSocket();
    }

    void send(ServerEnvelope envelope) {
        queue(encode(envelope));
    }

    void queue(byte[] frame) {
        if (isEnded) return;
        if (bytes + frame.length > LAG_BYTES_MAX) { // CHAT-LIM-4, CHAT-LIM-5
            fail(ErrorCode.ERROR_CODE_SLOW_CONSUMER, "Read faster.");
            return;
        }
        frames.add(frame);
        bytes += frame.length;
        room.notifyAll();
    }

    /** Answers with an error after which the session goes on. */
    void refuse(ErrorCode code, String detail, long id) {
        Error error = Error.newBuilder().setCode(code).setDetail(detail).setId(id).build();
        send(ServerEnvelope.newBuilder().setError(error).build());
    }

    /** Answers with a fatal error. */
    void fail(ErrorCode code, String detail) {
        Error error = Error.newBuilder().setCode(code).setDetail(detail).setEndsSession(true).build();
        end(ServerEnvelope.newBuilder().setError(error).build());
    }

    /**
     * Ends the session: the name is free (CHAT-NAME-5), and the writer sends what is queued, the last
     * frame behind it, and then closes.
     */
    void end(ServerEnvelope last) {
        if (isEnded) return;
        if (last != null) frames.add(encode(last));
        isEnded = true;
        room.leave(this);
        room.notifyAll();
    }

    static byte[] encode(ServerEnvelope envelope) {
        try {
            return Frame.of(envelope);
        } catch (IOException impossible) {
            throw new UncheckedIOException(impossible); // it is written to memory
        }
    }

    private void closeSocket() {
        try {
            socket.close();
        } catch (IOException closed) {
            // It is what we want.
        }
    }
}
