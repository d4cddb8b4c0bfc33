// The smallest client: java Client chat://127.0.0.1:7000 Alice

import chat.v1.Chat;
import chat.v1.ClientEnvelope;
import chat.v1.Leave;
import chat.v1.Register;
import chat.v1.ServerEnvelope;
import java.io.BufferedInputStream;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;

public class Client {
    /** The longest envelope that this client reads. Servers announce 4,096 or so. */
    static final long BODY_BYTES_MAX = 1 << 20;

    public static void main(String[] args) throws Exception {
        URI address = new URI(args[0]);
        Socket socket = new Socket(address.getHost(), address.getPort());
        OutputStream out = socket.getOutputStream();
        send(out, ClientEnvelope.newBuilder().setRegister(Register.newBuilder().setName(args[1])));
        InputStream in = new BufferedInputStream(socket.getInputStream());
        try {
            for (byte[] body; (body = Frame.read(in, BODY_BYTES_MAX)) != null; ) {
                ServerEnvelope received = ServerEnvelope.parseFrom(body);
                switch (received.getMessageCase()) {
                    case REGISTERED -> new Thread(() -> sendLines(out)).start();
                    case CHAT -> {
                        String line = "@" + received.getChat().getSender() + ": " + received.getChat().getText();
                        System.out.write((line + "\n").getBytes(StandardCharsets.UTF_8));
                        System.out.flush();
                    }
                    case ERROR -> {
                        System.err.println(received.getError().getDetail());
                        if (received.getError().getEndsSession()) System.exit(1);
                    }
                    case SERVER_CLOSING -> System.exit(0);
                    default -> {} // Everything else is ignored, and so this client works with later servers.
                }
            }
        } catch (IOException | Frame.TooLong | Frame.Malformed lost) {
            System.err.println("the connection is lost: " + lost.getMessage());
            System.exit(1);
        }
        System.exit(0); // although a line may still be typed
    }

    static void sendLines(OutputStream out) {
        try {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String text; (text = lines.readLine()) != null; ) {
                send(out, ClientEnvelope.newBuilder().setChat(Chat.newBuilder().setText(text)));
            }
            send(out, ClientEnvelope.newBuilder().setLeave(Leave.newBuilder()));
        } catch (IOException lost) {
            // Reading says so.
        }
    }

    static void send(OutputStream out, ClientEnvelope.Builder envelope) throws IOException {
        out.write(Frame.of(envelope.build()));
    }
}
