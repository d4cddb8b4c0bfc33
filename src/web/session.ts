// A session with the server that outlives its connections: it connects again by itself,
// sends what waits, and says what may have been missed.

import { create } from "@bufbuild/protobuf";
import { EVERYTHING, Follows, type Filter } from "./follow.js";
import { Decoder, encode, type ToServer } from "./frames.js";
import { Outbox, type Line, type LineState } from "./outbox.js";
import { Pages } from "./pages.js";
import { Received } from "./received.js";
import { plain } from "./text.js";
import type { Transfers } from "./transfers.js";
import { ENDED, LEFT, refusal } from "./words.js";
import {
  Capability,
  ChatSchema,
  DirectAckSchema,
  DirectSchema,
  ErrorCode,
  FollowSchema,
  LeaveSchema,
  PingSchema,
  PongSchema,
  RegisterSchema,
  ResumeSchema,
  type Chat,
  type Direct,
  type Error as Refusal,
  type Limits,
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

const CAPABILITIES = [
  Capability.PRESENCE,
  Capability.RECEIPTS,
  Capability.KEEPALIVE,
  Capability.RESUME,
  Capability.HISTORY,
  Capability.FOLLOW,
  Capability.DIRECT,
  Capability.FILES,
];

/** How a connection begins. */
export interface Opening {
  readonly name: string;
  /** Chats that were not received since the last connection, and are not going to be. */
  readonly missed: bigint;
  /** A filter was on: only some of those would have come. */
  readonly isFiltered: boolean;
  readonly isNewServer: boolean;
  readonly isAgain: boolean;
  /** The number before which the past can be read; 0: none is kept. */
  readonly pastBefore: bigint;
}

export interface Listener {
  registered(opening: Opening): void;
  /** What the server's operator says to everybody who comes, in lines. */
  welcome(text: string): void;
  /** The connection is lost and is made again in so many milliseconds. */
  lost(retryMs: number): void;
  /** The session is over, and why. `asksPassword`: another password may help. */
  ended(why: string, asksPassword: boolean): void;
  chat(chat: Chat): void;
  direct(direct: Direct): void;
  /**
   * A page of the past that `view` asked for, oldest first; `before`: where the next one
   * ends, 0 if there is none.
   */
  past(view: string, chats: readonly Chat[], before: bigint): void;
  /** The server goes by this filter from now on, or why it does not take another. */
  following(filter: Filter, why: string): void;
  /** Everything that the filter lets pass has come up to this number. */
  covered(seq: bigint): void;
  members(names: ReadonlySet<string>): void;
  joined(name: string): void;
  left(name: string, how: string): void;
  line(line: Line, state: LineState, why: string, seq: bigint): void;
}

export class Session {
  private socket: WebSocket | undefined;
  // Of the connection that is open, and of the last one.
  private registered: Registered | undefined;
  private known: Registered | undefined;
  private readonly received = new Received();
  private readonly outbox: Outbox;
  private readonly follows = new Follows();
  private epoch = "";
  private resumeToken = new Uint8Array(0);
  private resumeAttempt = 0;
  private readonly pages = new Pages();
  private name: string;
  private failures = 0;
  private isOver = false;
  private members = new Set<string>();
  private timers = new Map<string, number>();

  constructor(
    name: string,
    private readonly password: string,
    private readonly listener: Listener,
    private readonly transfers: Transfers,
  ) {
    this.name = name;
    this.outbox = new Outbox((...told) => listener.line(...told));
    addEventListener("online", this.hurry);
    addEventListener("offline", this.drop);
    document.addEventListener("visibilitychange", this.hurry);
    this.connect();
  }

  /** Sends a line, now or when there is a connection. `undefined`: too many wait. */
  send(line: Omit<Line, "id">): Line | undefined {
    const queued = this.outbox.push(line);
    this.pump();
    return queued;
  }

  /** Goes by another filter, now or when there is a connection. */
  follow(filter: Filter): void {
    this.follows.wanted = filter;
    this.askToFollow();
  }

  leave(): void {
    if (this.registered) this.put({ case: "leave", value: create(LeaveSchema) });
    this.end("", false);
  }

  /** As the server announced them on the last connection. */
  get limits(): Limits | undefined {
    return this.known?.limits;
  }

  /** Whether the server has granted it, on the last connection. */
  grants(capability: Capability): boolean {
    return this.known?.capabilities.includes(capability) ?? false;
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
      const { name, password } = this;
      const capabilities = CAPABILITIES;
      const register = create(RegisterSchema, { name, capabilities, password });
      const filter = this.follows.forRegister();
      if (filter) register.filter = filter;
      if (this.resumeToken.length > 0)
        register.resume = create(ResumeSchema, {
          token: this.resumeToken,
          epoch: this.epoch,
          seq: this.received.upTo,
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

  private put = (message: ToServer): void => {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encode(message));
  };

  private receive({ message }: ServerEnvelope, socket: WebSocket): void {
    switch (message.case) {
      case "registered":
        this.open(message.value);
        break;
      case "chat":
        this.heard(message.value);
        this.pump();
        break;
      case "direct": {
        this.listener.direct(message.value);
        // CHAT-DM-13
        const ack = create(DirectAckSchema, { seq: message.value.seq });
        this.put({ case: "directAck", value: ack });
        break;
      }
      case "directState":
        this.outbox.state(message.value.id, message.value.delivered);
        break;
      case "history": {
        const { chats, from } = message.value;
        const { oldestSeq } = this.registered ?? {};
        this.pageCame(chats, from > (oldestSeq ?? 0n) ? from : 0n);
        break;
      }
      case "following":
        this.received.pass(message.value.seq);
        if (this.follows.answered(message.value.id))
          this.listener.following(this.follows.current, "");
        this.askToFollow();
        this.covered();
        break;
      case "covered":
        this.received.pass(message.value.seq);
        this.covered();
        break;
      case "receipt": {
        const { id, seq } = message.value;
        if (seq > 0n) this.received.add(seq);
        this.outbox.receipt(id, seq);
        this.pump();
        break;
      }
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
      case "fileState":
        this.transfers.state(message.value.sha256, message.value.have);
        break;
      case "fileData": {
        const { sha256, offset, data } = message.value;
        this.transfers.data(sha256, offset, data);
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
    const missed = isAgain && !isNewServer ? upTo - this.received.upTo : 0n;
    const { isFiltered } = this.follows;
    const wanted = this.follows.wanted;
    this.registered = now;
    this.known = now;
    this.name = now.name;
    this.epoch = now.epoch;
    // What came behind a hole comes again, and is known for it.
    if (isResumed) this.received.pass(upTo);
    else this.received.begin(upTo);
    this.resumeToken = now.resumeToken.slice();
    if (!isResumed) this.resumeAttempt = 0;
    this.failures = 0;
    this.timeOut("register");
    this.members = new Set();
    this.pages.clear();
    if (isResumed) this.outbox.resumed();
    else this.outbox.restarted();
    this.follows.registered(this.grants(Capability.FOLLOW));
    const hasPast = this.grants(Capability.HISTORY) && now.oldestSeq > 0n;
    this.listener.registered({
      name: now.name,
      missed: missed > 0n ? missed : 0n,
      isFiltered,
      isNewServer,
      isAgain,
      pastBefore: hasPast && now.oldestSeq <= now.seq ? now.seq + 1n : 0n,
    });
    if (this.follows.wanted !== wanted) this.listener.following(EVERYTHING, "");
    if (!isAgain && now.welcome !== "") this.listener.welcome(now.welcome);
    this.watch();
    this.askToFollow();
    if (this.grants(Capability.FILES))
      this.transfers.opened(this.put, now.limits?.fileChunkBytesMax ?? 1);
    this.covered();
  }

  private heard(chat: Chat): void {
    const isNew = this.received.add(chat.seq);
    if (this.follows.isFiltered) this.received.pass(chat.seq);
    if (!isNew && this.isResumed(chat.seq)) return;
    // In a resumed session its own last line comes back, if it arrived; its receipt
    // follows when it is sent again.
    const { first } = this.outbox;
    const isOwn =
      chat.sender === this.name &&
      first?.peer === "" &&
      chat.text === first.text &&
      chat.topic === first.topic;
    if (!(isOwn && this.isResumed(chat.seq))) this.listener.chat(chat);
  }

  private covered(): void {
    if (this.follows.isFiltered) this.listener.covered(this.received.upTo);
    this.pump();
  }

  private askToFollow(): void {
    if (!this.registered || !this.grants(Capability.FOLLOW)) return;
    const asked = this.follows.ask();
    if (asked) this.put({ case: "follow", value: create(FollowSchema, asked) });
  }

  /** Asks for older chats of a topic, or of all, for a view. */
  askForPast(view: string, topic: string, before: bigint): void {
    if (before === 0n || !this.registered || !this.grants(Capability.HISTORY)) return;
    this.pages.want(view, topic, before);
    this.askForPage();
  }

  private askForPage(): void {
    const request = this.pages.ask(this.limits?.historyPageMax ?? 0);
    if (request) this.put({ case: "getHistory", value: request });
  }

  private pageCame(chats: readonly Chat[], before: bigint): void {
    const view = this.pages.came();
    if (view === undefined) return;
    this.listener.past(view, chats, before);
    this.askForPage();
  }

  // Whether a chat is from before this connection, and in it because it was resumed.
  private isResumed(seq: bigint): boolean {
    const { registered } = this;
    return registered !== undefined && registered.resumedFrom > 0n && seq <= registered.seq;
  }

  private refused(error: Refusal, socket: WebSocket): void {
    if (!error.endsSession) {
      if (error.sha256.length > 0) return this.transfers.refused(error);
      if (error.id === 0n) return;
      if (this.pages.isAsked(error.id)) this.pageCame([], 0n);
      else if (this.follows.refused(error.id))
        this.listener.following(this.follows.current, refusal(error));
      else if (error.code === ErrorCode.RATE_LIMITED)
        this.outbox.rateLimited(error.id, error.retryAfterMs, refusal(error));
      else this.outbox.refused(error.id, refusal(error));
      this.pump();
      return;
    }
    // Another server may take a shorter filter (CHAT-FOL-5).
    if (error.code === ErrorCode.REQUEST_INVALID && !this.registered) {
      this.follows.wanted = EVERYTHING;
      this.listener.following(EVERYTHING, refusal(error));
    }
    const why = ENDED[error.code];
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

  private pump(): void {
    const { registered } = this;
    if (!registered) return;
    // What was missed comes first, so that a line of its own in it is known for one.
    if (registered.resumedFrom > 0n && this.received.upTo < registered.seq) return;
    for (;;) {
      const line = this.outbox.take();
      if (typeof line === "number") this.after("hold", line, () => this.pump());
      if (line === undefined || typeof line === "number") return;
      const { id, text, topic, peer, mentions, files } = line;
      const own = { id, text, files: [...files] };
      if (peer === "") {
        const chat = create(ChatSchema, { ...own, topic, mentions: [...mentions] });
        this.put({ case: "chat", value: chat });
      } else {
        this.put({ case: "direct", value: create(DirectSchema, { ...own, peer }) });
      }
      if (this.grants(Capability.RECEIPTS)) return;
      this.outbox.receipt(id, 0n);
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
    this.outbox.lost(this.resumeToken.length > 0);
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
    this.outbox.ended();
    this.listener.ended(why, asksPassword);
  }

  private clear(): void {
    this.socket = undefined;
    this.registered = undefined;
    this.transfers.lost();
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
