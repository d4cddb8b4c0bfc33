// Bun.serve as a chat room: every WebSocket publishes to a topic that all others
// subscribe to. A publisher does not receive its own messages.
const ROOM = "bench";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("WebSocket only", { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    // Beyond its default of 16 MiB for each socket, messages are dropped.
    backpressureLimit: 1 << 30,
    open(socket) {
      socket.subscribe(ROOM);
    },
    message(socket, text) {
      socket.publish(ROOM, text);
    },
  },
});
console.log(`listening on ws://127.0.0.1:${server.port}`);
