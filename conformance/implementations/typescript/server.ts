// A small server: node dist/server.js [PORT]. It grants no capability and limits no rate.
// One thread runs all of it, so what one message causes is complete before the next.

import { randomUUID } from "node:crypto";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { sizeDelimitedEncode } from "@bufbuild/protobuf/wire";
import { Malformed, TooLong, takeFrame } from "./framing.js";
import * as pb from "./generated/chat_pb.js";

const { ErrorCode } = pb;
const LIMITS = {
  frameBytesMax: 4096,
  textBytesMax: 2048,
  nameBytesMax: 32,
  registerDeadlineMs: Number(process.env.REGISTER_DEADLINE_MS ?? 10_000),
  keepaliveIntervalMs: 30_000,
  idleDeadlineMs: 90_000,
  writeDeadlineMs: 30_000,
  lagBytesMax: 4n << 20n,
};
const FIRST_FRAME_BYTES_MAX = 1024; // until a Register is accepted (CHAT-FRAME-6)
const UNREAD_BYTES_MAX = 64 << 10; // of a client's own queue, before the server reads no more of it
const LINGER_MS = 1_000; // reading on before a close, so that no reset destroys the last frame
const SHUTDOWN_MS = 3_000; // CHAT-CLOSE-3 allows 5 seconds
const RESTART_MS = 1_000; // a restart takes about as long
const APART_MS = 10; // clients come back one by one (CHAT-CLOSE-7)

type Envelope = NonNullable<MessageInitShape<typeof pb.ServerEnvelopeSchema>["message"]>;
const encode = (message: Envelope) =>
  sizeDelimitedEncode(pb.ServerEnvelopeSchema, create(pb.ServerEnvelopeSchema, { message }));
const failure = (code: pb.ErrorCode, detail: string, endsSession: boolean, id = 0n): Envelope => ({
  case: "error",
  value: { code, detail, endsSession, id },
});

const epoch = randomUUID();
let seq = 0n; // of the last chat that was accepted
let isClosing = false;
const connections = new Set<Connection>();
const members = new Map<string, Connection>(); // by lowered name

class Connection {
  name = ""; // none: not registered
  isEnded = false;
  private buffer: Buffer = Buffer.alloc(0);
  private deadline = setTimeout(
    () => this.fail(ErrorCode.REGISTER_TIMEOUT, "Register sooner after you connect."), // CHAT-REG-5
    LIMITS.registerDeadlineMs,
  );

  constructor(private socket: Socket) {
    connections.add(this);
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => this.receive(bytes));
    socket.on("drain", () => socket.resume());
    socket.on("end", () => {
      // CHAT-FRAME-10, CHAT-LEAVE-5
      if (this.buffer.length > 0) this.fail(ErrorCode.MALFORMED_FRAME, "The stream ends inside a frame.");
      else this.end();
    });
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => {
      this.end();
      connections.delete(this);
    });
  }

  send(frame: Uint8Array) {
    if (this.isEnded) return;
    this.socket.write(frame);
    // CHAT-LIM-4: nobody waits for a member that does not read; too far behind, it is closed.
    if (this.socket.writableLength > LIMITS.lagBytesMax) this.fail(ErrorCode.SLOW_CONSUMER, "Read faster.");
    else if (this.socket.writableLength > UNREAD_BYTES_MAX) this.socket.pause();
  }

  /** Ends the session: the name is free, what is queued is sent, and then the stream ends. */
  end(last?: Envelope) {
    if (this.isEnded) return;
    if (last) this.socket.write(encode(last));
    this.isEnded = true;
    clearTimeout(this.deadline);
    if (this.name) members.delete(this.name.toLowerCase()); // CHAT-NAME-5
    this.socket.resume(); // what still arrives is dropped
    const giveUp = setTimeout(() => this.socket.destroy(), LIMITS.writeDeadlineMs);
    this.socket.end(() => setTimeout(() => this.socket.destroy(), LINGER_MS));
    this.socket.once("close", () => clearTimeout(giveUp));
  }

  fail(code: pb.ErrorCode, detail: string) {
    this.end(failure(code, detail, true));
  }

  /** Cuts what arrives into frames, whatever its pieces (CHAT-FRAME-7). */
  private receive(bytes: Buffer) {
    if (this.isEnded || isClosing) return;
    this.buffer = Buffer.concat([this.buffer, bytes]);
    try {
      // After a fatal error or a Leave, nothing more is looked at (CHAT-ERR-10, CHAT-LEAVE-4).
      while (!this.isEnded) {
        const frame = takeFrame(this.buffer, this.name ? LIMITS.frameBytesMax : FIRST_FRAME_BYTES_MAX);
        if (!frame) return;
        this.buffer = frame.rest;
        this.handle(parse(frame.body));
      }
    } catch (error) {
      if (error instanceof TooLong) this.fail(ErrorCode.FRAME_TOO_LONG, "Send shorter messages.");
      else if (error instanceof Malformed) this.fail(ErrorCode.MALFORMED_FRAME, error.message);
      else throw error;
    }
  }

  private handle({ message }: pb.ClientEnvelope) {
    const refuse = (code: pb.ErrorCode, detail: string, id = 0n) => this.send(encode(failure(code, detail, false, id)));
    if (!this.name) {
      if (message.case === "register") this.register(message.value);
      else this.fail(ErrorCode.NOT_REGISTERED, "Send Register first.");
      return;
    }
    switch (message.case) {
      case "chat": {
        const { text, id } = message.value;
        if (Buffer.byteLength(text) > LIMITS.textBytesMax) {
          return refuse(ErrorCode.TEXT_TOO_LONG, `A text has at most ${LIMITS.textBytesMax} bytes.`, id);
        }
        if (text === "" || /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(text)) {
          return refuse(ErrorCode.TEXT_INVALID, "A text is one line without control characters.", id);
        }
        seq += 1n;
        const value = { text, sender: this.name, seq, timeUnixMs: BigInt(Date.now()) };
        const frame = encode({ case: "chat", value });
        for (const other of [...members.values()]) if (other !== this) other.send(frame);
        return;
      }
      case "leave":
        return this.end();
      case "register":
        return refuse(ErrorCode.ALREADY_REGISTERED, "You are registered already.");
      case undefined:
        return refuse(ErrorCode.UNKNOWN_MESSAGE, "This server does not know that message.");
      default: // every message of a capability, also one of a later schema
        return refuse(ErrorCode.NOT_GRANTED, "This server grants no capability.");
    }
  }

  private register({ name, resume }: pb.Register) {
    const key = name.toLowerCase();
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/.test(name)) {
      return this.fail(ErrorCode.NAME_INVALID, "A name is 1 to 32 letters, digits, '.', '_' or '-'.");
    }
    if (key === "all" || key === "server") return this.fail(ErrorCode.NAME_RESERVED, "Choose another name.");
    if (members.has(key)) return this.fail(ErrorCode.NAME_IN_USE, "A member has that name; choose another.");
    this.name = name;
    clearTimeout(this.deadline);
    const resumeFailure = resume ? pb.ResumeFailure.UNKNOWN_TOKEN : undefined; // CHAT-RES-10
    this.send(encode({ case: "registered", value: { name, epoch, seq, limits: LIMITS, resumeFailure } }));
    members.set(key, this);
  }
}

function parse(body: Uint8Array): pb.ClientEnvelope {
  try {
    return fromBinary(pb.ClientEnvelopeSchema, body);
  } catch {
    throw new Malformed("That is no ClientEnvelope."); // CHAT-FRAME-8
  }
}

const server = createServer({ allowHalfOpen: true }, (socket) => void new Connection(socket));
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(`listening on chat://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.on("SIGTERM", () => {
  isClosing = true;
  server.close(() => process.exit(0)); // once all connections are closed
  setTimeout(() => process.exit(0), SHUTDOWN_MS);
  [...connections].forEach((connection, place) => {
    const retryAfterMs = RESTART_MS + place * APART_MS;
    connection.end({ case: "serverClosing", value: { detail: "The server shuts down.", retryAfterMs } });
  });
});
