// A session with the server that outlives its connections: it connects again by itself,
// sends what waits, and says what may have been missed.

import { create } from "@bufbuild/protobuf";
import { Decoder, encode, type ToServer } from "./frames.js";
import { plain } from "./text.js";
import {
  Capability,
  ChatSchema,
  ErrorCode,
  GetHistorySchema,
  LeftReason,
  LeaveSchema,
  PingSchema,
  PongSchema,
  RegisterSchema,
  ResumeSchema,
  type Chat,
  type Error as Refusal,
  type Registered,
  type ServerEnvelope,
} from "./generated/chat_pb.js";

// How long to wait before connecting again, at first and at the most.
const RECONNECT_MS_FIRST = 1_000;
const RETRY_AFTER_MS_MAX = 600_000;
const RECONNECT_MS_MAX = 30_000;
// After so much silence the server is asked for a sign of life, and has so long for it.
const SILENCE_MS = 30_000;
const ANSWER_MS = 10_000;
// How long a connection and the answer to Register may take.
const REGISTER_MS = 15_000;
// How many chats of the past are asked for at once.
const PAGE_CHATS = 50;
// How many lines may wait to be sent.
export const WAITING_MAX = 1_000;

export type LineState = "waiting" | "sent" | "refused" | "unknown";

export interface Line {
  readonly id: bigint;
  readonly text: string;
}

export interface Listener {
  /**
   * It is connected; `missed` chats were not received since the last connection, and are
   * not going to be.
   */
  registered(name: string, missed: bigint, isNewServer: boolean, isAgain: boolean): void;
  /** What the server's operator says to everybody who comes, in lines. */
  welcome(text: string): void;
  /** The connection is lost and is made again in so many milliseconds. */
  lost(retryMs: number): void;
  /** The session is over, and why. `asksPassword`: another password may help. */
  ended(why: string, asksPassword: boolean): void;
  chat(chat: Chat): void;
  /** A page of the past, oldest first; `hasMore`: there are older ones. */
  past(chats: readonly Chat[], hasMore: boolean): void;
  members(names: ReadonlySet<string>): void;
  joined(name: string): void;
  left(name: string, how: string): void;
  line(line: Line, state: LineState, why: string): void;
}

const REFUSED: Partial<Record<ErrorCode, string>> = {
  [ErrorCode.NAME_INVALID]:
    "This name is not allowed. Choose 1 to 32 characters from A-Z, a-z, 0-9, '.', '_' and '-' that begin with a letter or a digit.",
  [ErrorCode.NAME_RESERVED]: "This name is reserved. Choose another.",
  [ErrorCode.NAME_IN_USE]: "This name is taken. Choose another.",
  [ErrorCode.NAME_NOT_ALLOWED]: "This name is not on the server's list.",
  [ErrorCode.NAME_RECLAIMED]:
    "Another client took this name while this one could not be reached.",
  [ErrorCode.KICKED]: "The server's operator has thrown you out.",
  [ErrorCode.BANNED]: "The server's operator has banned this name or this network.",
  [ErrorCode.REPLACED]: "Another connection continues this session.",
  [ErrorCode.PASSWORD_WRONG]: "The server asks for a password, or for another one.",
};

const LEFT: Partial<Record<LeftReason, string>> = {
  [LeftReason.CONNECTION_LOST]: "connection lost",
  [LeftReason.IDLE_TIMEOUT]: "silent for too long",
  [LeftReason.SLOW_CONSUMER]: "read too slowly",
  [LeftReason.PROTOCOL_ERROR]: "broke the protocol",
  [LeftReason.KICKED]: "thrown out by the operator",
  [LeftReason.BANNED]: "banned by the operator",
};

export class Session {
  private socket: WebSocket | undefined;
  private registered: Registered | undefined;
  // The number up to which every chat is here (CHAT-RES-20), and those here beyond it:
  // a receipt may come before an earlier chat.
  private lastSeq = 0n;
  private readonly ahead = new Set<bigint>();
  private epoch = "";
  private resumeToken = new Uint8Array(0);
  private resumeAttempt = 0;
  // The number before which the past is not here; 0 where it ends.
  private pastBefore = 0n;
  private isPastAsked = false;
  private name: string;
  private nextId = 1n;
  private waiting: Line[] = [];
  private inFlight: Line | undefined;
  private holdUntil = 0;
  private failures = 0;
  private isOver = false;
  private members = new Set<string>();
  private timers = new Map<string, number>();

  constructor(
    name: string,
    private readonly password: string,
    private readonly listener: Listener,
  ) {
    this.name = name;
    addEventListener("online", this.hurry);
    addEventListener("offline", this.drop);
    document.addEventListener("visibilitychange", this.hurry);
    this.connect();
  }

  /** Sends a line, now or when there is a connection. `undefined`: too many wait. */
  send(text: string): Line | undefined {
    if (this.waiting.length >= WAITING_MAX) return undefined;
    const line = { id: this.nextId++, text };
    this.waiting.push(line);
    this.listener.line(line, "waiting", "");
    this.pump();
    return line;
  }

  leave(): void {
    if (this.registered) this.put({ case: "leave", value: create(LeaveSchema) });
    this.end("", false);
  }

  get limits() {
    return this.registered?.limits;
  }

  private connect = (): void => {
    this.clear();
    const url = new URL("/chat", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    const decoder = new Decoder();
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.after("register", REGISTER_MS, () => this.lose(socket));
    socket.onopen = () => {
      const capabilities = [
        Capability.PRESENCE,
        Capability.RECEIPTS,
        Capability.KEEPALIVE,
        Capability.RESUME,
        Capability.HISTORY,
      ];
      const { name, password } = this;
      const register = create(RegisterSchema, { name, capabilities, password });
      if (this.resumeToken.length > 0)
        register.resume = create(ResumeSchema, {
          token: this.resumeToken,
          epoch: this.epoch,
          seq: this.lastSeq,
          attempt: ++this.resumeAttempt, // CHAT-RES-18
        });
      this.put({ case: "register", value: register }); // CHAT-REG-1
    };
    socket.onmessage = (event: MessageEvent) => {
      if (this.socket !== socket) return;
      if (this.registered) this.watch();
      try {
        for (const it of decoder.push(new Uint8Array(event.data as ArrayBuffer)))
          if (this.socket === socket) this.receive(it, socket);
      } catch {
        this.lose(socket);
      }
    };
    socket.onclose = () => this.lose(socket);
  };

  private put(message: ToServer): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encode(message));
  }

  private receive({ message }: ServerEnvelope, socket: WebSocket): void {
    switch (message.case) {
      case "registered":
        this.open(message.value);
        break;
      case "chat": {
        const chat = message.value;
        this.has(chat.seq);
        // In a resumed session its own last line comes back, if it arrived; its receipt
        // follows when it is sent again.
        const isOwn = chat.sender === this.name && chat.text === this.waiting[0]?.text;
        if (!(isOwn && this.isResumed(chat.seq))) this.listener.chat(chat);
        this.pump();
        break;
      }
      case "history": {
        const { chats, from } = message.value;
        const { oldestSeq } = this.registered ?? {};
        this.isPastAsked = false;
        this.pastBefore = from > (oldestSeq ?? 0n) ? from : 0n;
        this.listener.past(chats, this.pastBefore > 0n);
        break;
      }
      case "receipt":
        this.has(message.value.seq);
        this.settle(message.value.id, "sent", "");
        break;
      case "members":
        for (const name of message.value.names) this.members.add(name);
        if (!message.value.more) this.listener.members(this.members);
        break;
      case "joined":
        this.members.add(message.value.name);
        this.listener.joined(message.value.name);
        this.listener.members(this.members);
        break;
      case "left": {
        const { name, reason } = message.value;
        this.members.delete(name);
        this.listener.left(name, LEFT[reason] ?? "");
        this.listener.members(this.members);
        break;
      }
      case "ping": {
        const pong = create(PongSchema, { token: message.value.token });
        this.put({ case: "pong", value: pong });
        break;
      }
      case "error":
        this.refused(message.value, socket);
        break;
      case "serverClosing":
        // It may come back (CHAT-CLOSE-8).
        this.lose(socket, message.value.retryAfterMs);
        break;
    }
  }

  private open(now: Registered): void {
    const isAgain = this.epoch !== "";
    const isNewServer = isAgain && now.epoch !== this.epoch;
    const isResumed = now.resumedFrom > 0n;
    const upTo = isResumed ? now.resumedFrom - 1n : now.seq;
    const missed = isAgain && !isNewServer ? upTo - this.lastSeq : 0n;
    this.registered = now;
    this.name = now.name;
    this.epoch = now.epoch;
    this.lastSeq = upTo;
    this.ahead.clear();
    this.resumeToken = now.resumeToken.slice();
    if (!isResumed) this.resumeAttempt = 0;
    this.failures = 0;
    this.timeOut("register");
    this.members = new Set();
    this.listener.registered(now.name, missed > 0n ? missed : 0n, isNewServer, isAgain);
    if (!isAgain && now.welcome !== "") this.listener.welcome(now.welcome);
    const unanswered = this.inFlight;
    this.inFlight = undefined;
    // CHAT-RES-16, CHAT-RES-17
    if (unanswered && isResumed) this.waiting.unshift(unanswered);
    else if (unanswered)
      this.listener.line(unanswered, "unknown", "the connection was lost");
    if (!isAgain || isNewServer) {
      const hasPast = now.oldestSeq > 0n && now.oldestSeq <= now.seq;
      this.pastBefore = hasPast ? now.seq + 1n : 0n;
    }
    this.isPastAsked = false;
    this.watch();
    this.pump();
    if (!isAgain) this.askForPast();
  }

  /** Asks for older chats, if there are any. */
  askForPast(): void {
    const { registered } = this;
    if (this.isPastAsked || this.pastBefore === 0n) return;
    if (!registered?.capabilities.includes(Capability.HISTORY)) return;
    this.isPastAsked = true;
    const edge = { case: "before", value: this.pastBefore } as const;
    const limit = Math.min(PAGE_CHATS, registered.limits?.historyPageMax ?? PAGE_CHATS);
    this.put({ case: "getHistory", value: create(GetHistorySchema, { edge, limit }) });
  }

  private has(seq: bigint): void {
    this.ahead.add(seq);
    while (this.ahead.delete(this.lastSeq + 1n)) this.lastSeq += 1n;
  }

  // Whether a chat is from before this connection, and in it because it was resumed.
  private isResumed(seq: bigint): boolean {
    const { registered } = this;
    return registered !== undefined && registered.resumedFrom > 0n && seq <= registered.seq;
  }

  private refused(error: Refusal, socket: WebSocket): void {
    if (!error.endsSession) {
      if (error.code === ErrorCode.RATE_LIMITED && this.inFlight?.id === error.id) {
        // CHAT-LIM-3: the same line again, later.
        this.waiting.unshift(this.inFlight);
        this.inFlight = undefined;
        this.holdUntil = Date.now() + error.retryAfterMs;
        this.pump();
      } else if (error.id !== 0n) {
        this.settle(error.id, "refused", error.detail);
      }
      return;
    }
    const why = REFUSED[error.code];
    // The name may be held by this session's own lost connection.
    const isOwn = error.code === ErrorCode.NAME_IN_USE && this.epoch !== "";
    if (why && !(isOwn && this.failures < 5)) {
      // CHAT-MOD-6. The detail has the operator's reason.
      const isOperator = error.code === ErrorCode.KICKED || error.code === ErrorCode.BANNED;
      const reason = isOperator && error.detail !== "" ? ` (${plain(error.detail)})` : "";
      this.end(why + reason, error.code === ErrorCode.PASSWORD_WRONG);
    } else {
      this.lose(socket, error.retryAfterMs);
    }
  }

  private settle(id: bigint, state: LineState, why: string): void {
    if (this.inFlight?.id !== id) return;
    const line = this.inFlight;
    this.inFlight = undefined;
    this.listener.line(line, state, why);
    this.pump();
  }

  // One line at a time, so that one that is refused for its rate changes no order.
  private pump(): void {
    const line = this.waiting[0];
    if (!line || this.inFlight || !this.registered) return;
    // What was missed comes first, so that a line of its own in it is known for one.
    if (this.registered.resumedFrom > 0n && this.lastSeq < this.registered.seq) return;
    const wait = this.holdUntil - Date.now();
    if (wait > 0) {
      this.after("hold", wait, () => this.pump());
      return;
    }
    this.waiting.shift();
    const { id, text } = line;
    this.put({ case: "chat", value: create(ChatSchema, { id, text }) });
    if (this.registered.capabilities.includes(Capability.RECEIPTS)) {
      this.inFlight = line;
    } else {
      this.listener.line(line, "sent", "");
      this.pump();
    }
  }

  // Silence: asks for a sign of life, then takes the connection for lost.
  private watch(): void {
    this.timeOut("answer");
    this.after("silence", SILENCE_MS, this.ask);
  }

  private ask = (): void => {
    const { socket } = this;
    if (!socket || !this.registered) return;
    this.put({ case: "ping", value: create(PingSchema) });
    this.after("answer", ANSWER_MS, () => this.lose(socket));
  };

  // The network is back, or the page is looked at again: finds out at once.
  private hurry = (): void => {
    if (this.isOver || document.visibilityState === "hidden") return;
    if (this.socket) this.ask();
    else this.connect();
  };

  private drop = (): void => {
    if (this.socket) this.lose(this.socket);
  };

  private lose(socket: WebSocket, retryMs = 0): void {
    if (this.socket !== socket || this.isOver) return;
    this.clear();
    socket.close();
    // Nothing continues without a token: what became of the line stays unknown.
    if (this.inFlight && this.resumeToken.length === 0) {
      this.listener.line(this.inFlight, "unknown", "the connection was lost");
      this.inFlight = undefined;
    }
    const doubled = RECONNECT_MS_FIRST * 2 ** Math.min(this.failures++, 10);
    const backOff = Math.min(doubled, RECONNECT_MS_MAX) * (0.5 + Math.random() / 2);
    // A server cannot hold the page for ever.
    const wait = Math.max(backOff, Math.min(retryMs, RETRY_AFTER_MS_MAX));
    this.listener.lost(wait);
    this.after("connect", wait, this.connect);
  }

  private end(why: string, asksPassword: boolean): void {
    if (this.isOver) return;
    this.isOver = true;
    removeEventListener("online", this.hurry);
    removeEventListener("offline", this.drop);
    document.removeEventListener("visibilitychange", this.hurry);
    const { socket } = this;
    this.clear();
    socket?.close();
    for (const line of [this.inFlight, ...this.waiting])
      if (line) this.listener.line(line, "refused", "the session is over");
    this.listener.ended(why, asksPassword);
  }

  private clear(): void {
    this.socket = undefined;
    this.registered = undefined;
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  private after(what: string, ms: number, act: () => void): void {
    this.timeOut(what);
    this.timers.set(what, setTimeout(act, ms));
  }

  private timeOut(what: string): void {
    clearTimeout(this.timers.get(what));
    this.timers.delete(what);
  }
}
