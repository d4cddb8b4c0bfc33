// A small server: java Server [PORT]. It grants no capability and limits no rate.

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.List;

public class Server {
    static final int BACKLOG = 1024;
    static final int TICK_MS = 20;
    static final int SHUTDOWN_MS = 3_000; // CHAT-CLOSE-3 allows 5 seconds

    public static void main(String[] args) throws Exception {
        String deadline = System.getenv().getOrDefault("REGISTER_DEADLINE_MS", "10000");
        int registerDeadlineMs = Integer.parseInt(deadline);
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 0;
        ServerSocket listener = new ServerSocket(port, BACKLOG, InetAddress.getByName("127.0.0.1"));
        Room room = new Room(registerDeadlineMs);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // SIGTERM
            room.close(SHUTDOWN_MS);
            Runtime.getRuntime().halt(0);
        }));
        Thread ticker = new Thread(() -> tick(room, registerDeadlineMs));
        ticker.setDaemon(true);
        ticker.start();
        System.out.println("listening on chat://127.0.0.1:" + listener.getLocalPort());
        while (true) {
            Socket socket = listener.accept();
            socket.setTcpNoDelay(true);
            new Thread(new Connection(room, socket)::serve).start();
        }
    }

    static void tick(Room room, int registerDeadlineMs) {
        try {
            while (true) {
                Thread.sleep(TICK_MS);
                synchronized (room) {
                    long now = System.currentTimeMillis();
                    for (Connection connection : List.copyOf(room.connections)) {
                        connection.tick(now, registerDeadlineMs);
                    }
                }
            }
        } catch (InterruptedException stop) {
            // The process ends.
        }
    }
}
