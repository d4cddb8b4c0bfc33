// What is to be sent: one line at a time, sent again where that is safe, and what became of
// each.

import type { File } from "./generated/chat_pb.js";

// How many lines may wait to be sent.
export const WAITING_MAX = 1_000;
// How often a line is sent again that was refused for its rate, and the longest pause.
const RETRIES_MAX = 100;
const RETRY_AFTER_MS_MAX = 60_000;
// How many directs may be without their state: more than a server keeps for a sender.
const TOLD_MAX = 1_000;

/** Whom a line is for: everybody, those who follow a topic, or one member. */
export interface Target {
  /** Without `#`; empty: no topic. */
  readonly topic: string;
  /** The recipient of a direct; empty: no direct. */
  readonly peer: string;
}

export interface Line extends Target {
  readonly id: bigint;
  readonly text: string;
  readonly mentions: readonly string[];
  readonly files: readonly File[];
}

export type LineState =
  | "waiting"
  | "sent"
  | "refused"
  | "unknown"
  // Of directs: the server has it; the other has it; the other has left before.
  | "accepted"
  | "delivered"
  | "undelivered";

const LOST = "the connection was lost";

export class Outbox {
  private nextId = 1n;
  private waiting: Line[] = [];
  private inFlight: Line | undefined;
  private retries = 0;
  private holdUntil = 0;
  // Directs that the server has, and whose state it has not told.
  private readonly told = new Map<bigint, Line>();

  constructor(
    private readonly tell: (line: Line, state: LineState, why: string, seq: bigint) => void,
  ) {}

  /** `undefined`: too many wait. */
  push(line: Omit<Line, "id">): Line | undefined {
    if (this.waiting.length >= WAITING_MAX) return undefined;
    // CHAT-RES-14
    const numbered = { ...line, id: this.nextId++ };
    this.waiting.push(numbered);
    this.tell(numbered, "waiting", "", 0n);
    return numbered;
  }

  /** The line that is sent next, whatever it waits for. */
  get first(): Line | undefined {
    return this.waiting[0];
  }

  /**
   * The line to send now, which is in flight from then on; or in how many milliseconds to
   * ask again. One at a time, so that one that is refused for its rate changes no order.
   */
  take(): Line | number | undefined {
    if (this.inFlight || !this.waiting[0]) return undefined;
    const wait = this.holdUntil - Date.now();
    if (wait > 0) return wait;
    this.inFlight = this.waiting.shift();
    return this.inFlight;
  }

  receipt(id: bigint, seq: bigint): void {
    const line = this.answered(id);
    if (!line) return;
    if (line.peer === "") return this.tell(line, "sent", "", seq);
    this.told.set(id, line);
    const [oldest] = this.told;
    if (this.told.size > TOLD_MAX && oldest) this.forget(oldest[1], "the server did not say");
    this.tell(line, "accepted", "", 0n);
  }

  refused(id: bigint, why: string): void {
    const line = this.answered(id);
    if (line) this.tell(line, "refused", why, 0n);
  }

  /** CHAT-LIM-3: the same line again, later, before all others. */
  rateLimited(id: bigint, afterMs: number, why: string): void {
    if (++this.retries > RETRIES_MAX) return this.refused(id, why);
    const { retries } = this;
    const line = this.answered(id);
    if (!line) return;
    this.retries = retries;
    this.waiting.unshift(line);
    this.holdUntil = Date.now() + Math.min(afterMs, RETRY_AFTER_MS_MAX);
  }

  /** CHAT-DM-9 */
  state(id: bigint, isDelivered: boolean): void {
    const line = this.told.get(id);
    if (!line) return;
    this.told.delete(id);
    if (isDelivered) this.tell(line, "delivered", "", 0n);
    else this.tell(line, "undelivered", "the other has left", 0n);
  }

  /** The connection is lost; `continues`: the session may be resumed. */
  lost(continues: boolean): void {
    for (const line of [...this.told.values()]) this.forget(line, LOST);
    if (!continues) this.restarted();
  }

  /** What was not answered is sent again, before all others (CHAT-RES-16, CHAT-DM-14). */
  resumed(): void {
    if (this.inFlight) this.waiting.unshift(this.inFlight);
    this.inFlight = undefined;
  }

  /** What was not answered is not sent again (CHAT-RES-17). */
  restarted(): void {
    if (this.inFlight) this.tell(this.inFlight, "unknown", LOST, 0n);
    this.inFlight = undefined;
  }

  ended(): void {
    const over = "the session is over";
    if (this.inFlight) this.tell(this.inFlight, "unknown", over, 0n);
    for (const line of this.waiting) this.tell(line, "refused", over, 0n);
    this.waiting = [];
    this.inFlight = undefined;
  }

  private answered(id: bigint): Line | undefined {
    const line = this.inFlight;
    if (line?.id !== id) return undefined;
    this.inFlight = undefined;
    this.retries = 0;
    return line;
  }

  private forget(line: Line, why: string): void {
    this.told.delete(line.id);
    this.tell(line, "undelivered", why, 0n);
  }
}
