import chat.v1.Chat;
import chat.v1.ClientEnvelope;
import chat.v1.ErrorCode;
import chat.v1.Limits;
import chat.v1.Register;
import chat.v1.Registered;
import chat.v1.ResumeFailure;
import chat.v1.ServerClosing;
import chat.v1.ServerEnvelope;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.regex.Pattern;

/**
 * What all members agree on. Its lock (synchronized) guards every connection too: so each message is
 * handled whole, and every member's queue has the chats in the same order (CHAT-ORD-2).
 */
final class Room {
    static final int TEXT_BYTES_MAX = 2048;
    static final int RESTART_MS = 1_000; // a restart takes about as long
    static final int APART_MS = 10;
    static final Pattern NAME = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,31}");
    /** Line breaks and control characters (CHAT-CHAT-6). */
    static final Pattern FORBIDDEN = Pattern.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]");

    final String epoch = UUID.randomUUID().toString(); // CHAT-ORD-7: another one at each start
    final Set<Connection> connections = new HashSet<>();
    final Map<String, Connection> members = new HashMap<>(); // by lowered name
    final Limits limits;
    long seq; // of the last chat that was accepted
    boolean isClosing;
    int told; // of the shutdown

    Room(int registerDeadlineMs) {
        limits = Limits.newBuilder()
                .setFrameBytesMax(Connection.FRAME_BYTES_MAX)
                .setTextBytesMax(TEXT_BYTES_MAX)
                .setNameBytesMax(32)
                .setRegisterDeadlineMs(registerDeadlineMs)
                .setKeepaliveIntervalMs(30_000)
                .setIdleDeadlineMs(90_000)
                .setWriteDeadlineMs(Connection.WRITE_DEADLINE_MS)
                .setLagBytesMax(Connection.LAG_BYTES_MAX)
                .build();
    }

    synchronized void enter(Connection connection) {
        connections.add(connection);
        if (isClosing) connection.end(closing());
    }

    synchronized void handle(Connection from, ClientEnvelope envelope) {
        if (isClosing) return; // CHAT-CLOSE-5
        if (from.name == null) {
            if (envelope.hasRegister()) register(from, envelope.getRegister());
            else from.fail(ErrorCode.ERROR_CODE_NOT_REGISTERED, "Send Register first.");
            return;
        }
        switch (envelope.getMessageCase()) {
            case CHAT -> chat(from, envelope.getChat());
            case LEAVE -> from.end(null);
            case REGISTER -> from.refuse(ErrorCode.ERROR_CODE_ALREADY_REGISTERED, "You are registered already.", 0);
            case MESSAGE_NOT_SET ->
                from.refuse(ErrorCode.ERROR_CODE_UNKNOWN_MESSAGE, "This server does not know that message.", 0);
            // Every message of a capability, also one of a later schema.
            default -> from.refuse(ErrorCode.ERROR_CODE_NOT_GRANTED, "This server grants no capability.", 0);
        }
    }

    private void register(Connection from, Register register) {
        String key = register.getName().toLowerCase(Locale.ROOT);
        if (!NAME.matcher(register.getName()).matches()) {
            from.fail(ErrorCode.ERROR_CODE_NAME_INVALID, "A name is 1 to 32 letters, digits, '.', '_' or '-'.");
        } else if (key.equals("all") || key.equals("server")) {
            from.fail(ErrorCode.ERROR_CODE_NAME_RESERVED, "Choose another name.");
        } else if (members.containsKey(key)) {
            from.fail(ErrorCode.ERROR_CODE_NAME_IN_USE, "A member has that name; choose another.");
        } else {
            from.name = register.getName();
            Registered.Builder registered =
                    Registered.newBuilder().setName(from.name).setEpoch(epoch).setSeq(seq).setLimits(limits);
            if (register.hasResume()) { // CHAT-RES-10
                registered.setResumeFailure(ResumeFailure.RESUME_FAILURE_UNKNOWN_TOKEN);
            }
            from.send(ServerEnvelope.newBuilder().setRegistered(registered).build());
            members.put(key, from);
        }
    }

    private void chat(Connection from, Chat chat) {
        String text = chat.getText();
        if (text.getBytes(StandardCharsets.UTF_8).length > TEXT_BYTES_MAX) {
            String detail = "A text has at most " + TEXT_BYTES_MAX + " bytes.";
            from.refuse(ErrorCode.ERROR_CODE_TEXT_TOO_LONG, detail, chat.getId());
        } else if (text.isEmpty() || FORBIDDEN.matcher(text).find()) {
            String detail = "A text is one line without control characters.";
            from.refuse(ErrorCode.ERROR_CODE_TEXT_INVALID, detail, chat.getId());
        } else {
            seq++;
            Chat.Builder relayed = Chat.newBuilder()
                    .setText(text)
                    .setSender(from.name)
                    .setSeq(seq)
                    .setTimeUnixMs(System.currentTimeMillis());
            byte[] frame = Connection.encode(ServerEnvelope.newBuilder().setChat(relayed).build());
            for (Connection member : List.copyOf(members.values())) {
                if (member != from) member.queue(frame);
            }
        }
    }

    synchronized void leave(Connection member) {
        if (member.name != null) members.remove(member.name.toLowerCase(Locale.ROOT), member);
    }

    /** The last message to the next client; each comes back at another time (CHAT-CLOSE-7). */
    ServerEnvelope closing() {
        return ServerEnvelope.newBuilder()
                .setServerClosing(ServerClosing.newBuilder()
                        .setDetail("The server shuts down.")
                        .setRetryAfterMs(RESTART_MS + told++ * APART_MS))
                .build();
    }

    /** Tells all clients, and waits until they have read it or the time is over. */
    synchronized void close(long shutdownMs) {
        long until = System.currentTimeMillis() + shutdownMs;
        isClosing = true;
        for (Connection connection : List.copyOf(connections)) connection.end(closing());
        try {
            while (!connections.isEmpty() && System.currentTimeMillis() < until) wait(10);
        } catch (InterruptedException stop) {
            // The process ends anyway.
        }
    }
}
