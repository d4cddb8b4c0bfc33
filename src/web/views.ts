// The views: the room, each topic in it and each person that one talks with alone; what
// each has, and what nobody has seen of it yet.

import type { Target } from "./outbox.js";
import type { File } from "./generated/chat_pb.js";

// How many entries a topic or a direct talk keeps, and how many of these there are. The
// room keeps as many as its rows.
const VIEW_ENTRIES_MAX = 200;
const VIEWS_MAX = 100;
export const ROOM_ENTRIES_MAX = 500;

export interface Message {
  readonly kind: "message";
  /** Its number in the room; 0: none, or not known yet. */
  seq: bigint;
  readonly sender: string;
  readonly text: string;
  readonly time: Date;
  readonly target: Target;
  readonly files: readonly File[];
  readonly isOwn: boolean;
  readonly isMention: boolean;
  readonly isRemoved: boolean;
  /** Of an own one, what became of it. */
  state: string;
  why: string;
}

export interface Notice {
  readonly kind: "notice";
  readonly parts: readonly (string | { readonly name: string })[];
}

export type Entry = Message | Notice;

export const EVERYBODY: Target = { topic: "", peer: "" };

/** The same for every way to write a name. */
export function keyOf({ topic, peer }: Target): string {
  if (peer !== "") return `@${peer.toLowerCase()}`;
  return topic === "" ? "" : `#${topic.toLowerCase()}`;
}

export class View {
  readonly key: string;
  entries: Entry[] = [];
  unread = 0;
  mentions = 0;
  /** Where the past that is not here ends; 0: nothing is kept there. */
  pastBefore = 0n;
  /** Whether a page of it has come. */
  hasPast = false;
  usedAt = 0;
  /** What was typed there and not sent. */
  draft = "";

  constructor(readonly target: Target) {
    this.key = keyOf(target);
  }

  get label(): string {
    const { topic, peer } = this.target;
    if (peer !== "") return peer;
    return topic === "" ? "Room" : `#${topic}`;
  }

  private get entriesMax(): number {
    return this.key === "" ? ROOM_ENTRIES_MAX : VIEW_ENTRIES_MAX;
  }

  get isFull(): boolean {
    return this.entries.length >= this.entriesMax;
  }

  add(entry: Entry): void {
    this.entries.push(entry);
    if (this.entries.length > this.entriesMax) this.entries.shift();
  }

  /** Older ones, as far as there is room for them. Returns those. */
  prepend(entries: readonly Entry[]): readonly Entry[] {
    const room = this.entriesMax - this.entries.length;
    const fitting = room <= 0 ? [] : entries.slice(-room);
    this.entries = [...fitting, ...this.entries];
    return fitting;
  }
}

export class Views {
  readonly room = new View(EVERYBODY);
  current = this.room;
  private readonly others = new Map<string, View>();
  private uses = 0;

  /** The room, the topics and the people, each by name. */
  get all(): readonly View[] {
    const others = [...this.others.values()];
    others.sort((a, b) => (a.key < b.key ? -1 : 1)); // '#' is before '@'
    return [this.room, ...others];
  }

  get unread(): number {
    return this.all.reduce((sum, view) => sum + view.unread, 0);
  }

  /** The view of a target, which is made where there is none. */
  open(target: Target): View {
    const key = keyOf(target);
    let view = key === "" ? this.room : this.others.get(key);
    if (!view) {
      this.makeRoom();
      view = new View(target);
      // What came since then is in the room, and would have opened the view.
      if (target.peer === "") view.pastBefore = this.room.pastBefore;
      this.others.set(key, view);
    }
    view.usedAt = ++this.uses;
    return view;
  }

  show(view: View): void {
    view.usedAt = ++this.uses;
    this.current = view;
  }

  /** Whether a view shows what is for a target. */
  shows(view: View, target: Target): boolean {
    return view.key === keyOf(target) || (view === this.room && target.peer === "");
  }

  /** Puts a message behind the others. `isSeen`: the reader sees the current view's end. */
  add(message: Message, isSeen: boolean): void {
    const home = this.open(message.target);
    home.add(message);
    if (message.target.topic !== "") this.room.add(message);
    if (message.isOwn || (isSeen && this.shows(this.current, message.target))) return;
    home.unread += 1;
    if (message.isMention || message.target.peer !== "") home.mentions += 1;
  }

  /** The reader has seen the current view. Whether something was new. */
  seen(): boolean {
    let wasUnread = false;
    for (const view of this.all) {
      if (view.unread === 0 || !this.shows(this.current, view.target)) continue;
      view.unread = 0;
      view.mentions = 0;
      wasUnread = true;
    }
    return wasUnread;
  }

  /** What nobody has seen of what the current view shows. */
  get unreadHere(): number {
    const shown = this.all.filter((view) => this.shows(this.current, view.target));
    return shown.reduce((sum, view) => sum + view.unread, 0);
  }

  /** A session begins, whose past ends here. */
  begin(pastBefore: bigint): void {
    for (const view of this.all) {
      view.pastBefore = view.target.peer === "" ? pastBefore : 0n;
      view.hasPast = false;
    }
  }

  /**
   * A page of the past, oldest first, that a view asked for. Returns what became part of
   * the view.
   */
  past(view: View, messages: readonly Message[], before: bigint): readonly Entry[] {
    view.hasPast = true;
    if (view !== this.room) {
      view.pastBefore = before;
      return view.prepend(messages);
    }
    // A page of the room is one of each topic, too. One that is known from further back
    // has its part of it already.
    const byTopic = new Map<View, Message[]>();
    for (const message of messages) {
      if (message.target.topic === "") continue;
      const topic = this.open(message.target);
      if (topic.pastBefore === 0n || message.seq >= topic.pastBefore) continue;
      const its = byTopic.get(topic) ?? [];
      byTopic.set(topic, its);
      its.push(message);
    }
    for (const [topic, its] of byTopic) topic.prepend(its);
    for (const topic of this.others.values())
      if (topic.target.peer === "" && topic.pastBefore > before) topic.pastBefore = before;
    view.pastBefore = before;
    return view.prepend(messages);
  }

  /** Forgets a view that nobody looks at, so that there is room for another. */
  private makeRoom(): void {
    if (this.others.size < VIEWS_MAX) return;
    const idle = [...this.others.values()].filter((view) => view !== this.current);
    // Topics first: they can be read again.
    const topics = idle.filter((view) => view.target.peer === "");
    const some = topics.length > 0 ? topics : idle;
    const oldest = some.reduce((a, b) => (a.usedAt <= b.usedAt ? a : b));
    this.others.delete(oldest.key);
  }
}
