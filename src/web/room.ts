// The room on the page: what the session tells goes into the views and is shown, what is
// typed goes to the session.

import {
  EVERYTHING,
  followed,
  followsAll,
  has,
  toggled,
  type Filter,
  type Kind,
} from "./follow.js";
import { Files } from "./files.js";
import { Log } from "./log.js";
import { fromChat, fromDirect, fromLine } from "./message.js";
import { WAITING_MAX, type Line, type LineState, type Target } from "./outbox.js";
import { row } from "./row.js";
import { Session, type Listener, type Opening } from "./session.js";
import { Side, type Shown } from "./side.js";
import { lines, plain } from "./text.js";
import { HELP, mentioned, parse, type Typed } from "./typed.js";
import { Views, type Message, type Notice, type View } from "./views.js";
import { Capability, type Chat } from "./generated/chat_pb.js";

// How long a text may be before the server has said it, in bytes.
const TEXT_BYTES_MAX = 4_096;
// How many names may be ignored.
const IGNORED_MAX = 200;
// A hidden page has no frames: after how long it shows what has come.
const FRAME_MS = 200;

export interface Elements {
  readonly log: HTMLElement;
  readonly scroller: HTMLElement;
  readonly more: HTMLButtonElement;
  readonly older: HTMLButtonElement;
  readonly roomList: HTMLElement;
  readonly topicList: HTMLElement;
  readonly peopleList: HTMLElement;
  readonly memberList: HTMLElement;
  readonly viewName: HTMLElement;
  readonly whoButton: HTMLButtonElement;
  readonly followBar: HTMLElement;
  readonly followText: HTMLElement;
  readonly text: HTMLTextAreaElement;
  readonly status: HTMLElement;
  readonly news: HTMLElement;
  readonly shelf: HTMLElement;
}

export interface Events {
  /** It is connected, for the first time or again. */
  opened(name: string, isAgain: boolean): void;
  lost(why: string): void;
  ended(why: string, asksPassword: boolean): void;
  unread(count: number): void;
  /** Another view is shown. */
  viewed(): void;
}

export class Room {
  private session: Session | undefined;
  private views = new Views();
  private own = "";
  private members: ReadonlySet<string> = new Set();
  private here: ReadonlySet<string> = new Set();
  private readonly lines = new Map<bigint, Message>();
  // What is followed and ignored; and the former as it was told last.
  private wanted = EVERYTHING;
  private followed = "";
  private covered = 0n;
  private isFrameDue = false;
  private areMembersDue = false;
  private readonly log: Log;
  private readonly side: Side;
  private readonly files: Files;

  constructor(
    private readonly on: Elements,
    private readonly events: Events,
  ) {
    this.files = new Files(on.shelf, {
      bytesMax: () =>
        this.takesFiles ? Number(this.session?.limits?.fileBytesMax ?? 0n) : undefined,
      send: (target, text, files) => this.send(target, text, files),
      tell: (text) => this.notice(text),
    });
    const make = (entry: Message | Notice) =>
      row(entry, this.views.current === this.views.room, this.files.below);
    this.log = new Log(on.log, on.scroller, on.more, make, () => this.seen());
    this.side = new Side(
      { room: on.roomList, topics: on.topicList, people: on.peopleList, members: on.memberList },
      {
        open: (view) => this.show(view),
        talkTo: (peer) => this.show(this.views.open({ topic: "", peer })),
        toggle: (kind, word) => this.toggle(kind, word),
        toggleWithoutTopic: () =>
          this.follow({ ...this.wanted, withoutTopic: !this.wanted.withoutTopic }),
      },
    );
    on.log.addEventListener("click", ({ target }) => {
      const { topic } = (target as HTMLElement).dataset;
      if (topic !== undefined) this.show(this.views.open({ topic, peer: "" }));
    });
  }

  get isOpen(): boolean {
    return this.session !== undefined;
  }

  join(name: string, password: string): void {
    this.own = name;
    const listener: Listener = {
      registered: (opening) => this.registered(opening),
      // CHAT-REG-15
      welcome: (text) => {
        for (const line of text.split("\n")) this.notice("the server says: ", plain(line));
      },
      lost: (retryMs) => this.lost(Math.ceil(retryMs / 1_000)),
      ended: (why, asksPassword) => this.ended(why, asksPassword),
      chat: (chat) => this.heard(fromChat(chat, this.own, false)),
      direct: (direct) => this.heard(fromDirect(direct)),
      past: (view, chats, before) => this.past(view, chats, before),
      following: (filter, why) => this.following(filter, why),
      covered: (seq) => {
        this.covered = seq;
        this.due(false);
      },
      members: (names) => {
        this.members = names;
        this.here = new Set([...names].map((it) => it.toLowerCase()));
        this.due(true);
      },
      joined: (name) => this.notice({ name }, " joined"),
      left: (name, how) => this.notice({ name }, how === "" ? " left" : ` left (${how})`),
      line: (line, state, why, seq) => this.line(line, state, why, seq),
    };
    this.session = new Session(name, password, listener, this.files.transfers);
  }

  leave(): void {
    this.session?.leave();
  }

  /** Takes what was typed. Whether it was understood. */
  say(typed: string): boolean {
    const { current } = this.views;
    const hasTopics = this.grants(Capability.FOLLOW);
    return this.obey(parse(typed, current.target, hasTopics));
  }

  /** Sends a text. */
  private send(target: Target, text: string, files: Message["files"] = []): boolean {
    const { session } = this;
    if (!session) return false;
    if (target.peer !== "" && !this.grants(Capability.DIRECT))
      return this.wrong("this server takes no direct messages; nothing was sent");
    const all = lines(text, session.limits?.textBytesMax ?? TEXT_BYTES_MAX);
    const mentionsMax = this.grants(Capability.FOLLOW) ? session.limits?.mentionsMax : 0;
    const most = target.peer === "" ? (mentionsMax ?? 0) : 0;
    for (const [index, line] of all.entries()) {
      const its = index === 0 ? files : [];
      if (session.send({ ...target, text: line, mentions: mentioned(line, most), files: its }))
        continue;
      return this.wrong(`${all.length - index} lines were not sent: more than ${WAITING_MAX} wait`);
    }
    return true;
  }

  askForPast(): void {
    const { current } = this.views;
    this.session?.askForPast(current.key, current.target.topic, current.pastBefore);
  }

  /** Shows the view with this place in the list, from 0 up. */
  showNumber(index: number): void {
    const view = this.views.all[index];
    if (view) this.show(view);
  }

  /** Shows a view further down the list, or up; `isNew`: the next with something new. */
  step(by: 1 | -1, isNew: boolean): void {
    const { all, current } = this.views;
    const from = all.indexOf(current);
    for (let step = 1; step < all.length; step++) {
      const view = all[(from + by * step + all.length * step) % all.length];
      if (!view || (isNew && view.unread === 0)) continue;
      return this.show(view);
    }
  }

  showTarget(target: Target): void {
    this.show(this.views.open(target));
  }

  get target(): Target {
    return this.views.current.target;
  }

  /** Sends files to where the current view goes. */
  attach(files: Iterable<File>): void {
    this.files.attach(files, this.target);
  }

  /** Whether files are on their way. */
  get isBusy(): boolean {
    return this.files.isBusy;
  }

  get takesFiles(): boolean {
    return this.grants(Capability.FILES);
  }

  followEverything(): void {
    this.follow({ ...EVERYTHING, ignore: this.wanted.ignore });
  }

  notice(...parts: Notice["parts"]): void {
    const notice: Notice = { kind: "notice", parts };
    const { current, room } = this.views;
    room.add(notice);
    if (current !== room) current.add(notice);
    this.log.add(notice);
  }

  private grants(capability: Capability): boolean {
    return this.session?.grants(capability) ?? false;
  }

  private obey(typed: Typed): boolean {
    switch (typed.kind) {
      case "say":
        if (!this.send(typed.target, typed.text)) return false;
        // What was written is seen.
        if (!this.views.shows(this.views.current, typed.target)) this.showTarget(typed.target);
        return true;
      case "view":
        this.showTarget(typed.target);
        return true;
      case "follow":
      case "unfollow": {
        if (typed.words.length === 0) {
          this.followEverything();
          return true;
        }
        const wanted = typed.kind === "follow";
        const filter = typed.words.reduce(
          (all, { kind, word }) =>
            has(all, kind, word) === wanted ? all : toggled(all, kind, word),
          this.wanted,
        );
        this.follow(filter);
        return true;
      }
      case "following":
        this.tellFollowing();
        return true;
      case "ignore":
        this.toggle("ignore", typed.name);
        return true;
      case "help":
        for (const line of HELP) this.notice(line);
        return true;
      case "wrong":
        return this.wrong(typed.why);
    }
  }

  private wrong(why: string): boolean {
    this.notice(plain(why));
    return false;
  }

  private toggle(kind: Kind, word: string): void {
    const filter = toggled(this.wanted, kind, word);
    if (kind !== "ignore") return this.follow(filter);
    if (filter.ignore.length > IGNORED_MAX) return this.notice("you ignore too many already");
    const is = has(filter, "ignore", word);
    this.notice(is ? "you ignore " : "you no longer ignore ", { name: word });
    this.wanted = filter;
    this.apply();
  }

  private follow(filter: Filter): void {
    const { filterEntriesMax } = this;
    if (!this.grants(Capability.FOLLOW)) return this.notice("this server has no topics");
    if (filter.topics.length + filter.senders.length > filterEntriesMax)
      return this.notice(`this server lets you follow no more than ${filterEntriesMax}`);
    this.wanted = filter;
    this.apply();
  }

  // What is ignored need not come at all, as far as the server takes it.
  private apply(): void {
    const { wanted, filterEntriesMax } = this;
    const room = filterEntriesMax - wanted.topics.length - wanted.senders.length;
    const ignore = wanted.ignore.slice(0, Math.max(room, 0));
    if (this.grants(Capability.FOLLOW)) this.session?.follow({ ...wanted, ignore });
    this.due(true);
  }

  private get filterEntriesMax(): number {
    return this.session?.limits?.filterEntriesMax ?? 0;
  }

  /** The server goes by this now. */
  private following(filter: Filter, why: string): void {
    if (why !== "") this.notice(`the server does not take what you follow: ${why}`);
    const wasFollowing = this.followed;
    this.followed = followed(filter);
    if (why !== "" || !this.grants(Capability.FOLLOW))
      this.wanted = { ...filter, ignore: this.wanted.ignore };
    if (this.followed === wasFollowing && why === "") return;
    this.tellFollowing();
    this.due(true);
  }

  private tellFollowing(): void {
    const { wanted: filter } = this;
    if (followsAll(filter)) this.notice("you follow everything");
    else this.notice(plain(`you follow ${followed(filter)}, and what mentions you`));
  }

  private registered(opening: Opening): void {
    const { name, missed, isAgain, isNewServer } = opening;
    this.own = name;
    // The past of other numbers has no place before what is here.
    if (!isAgain || isNewServer) {
      this.views.begin(isAgain ? 0n : opening.pastBefore);
      this.covered = 0n;
    }
    this.showOlder();
    this.on.status.textContent = "connected";
    this.on.status.dataset.state = "connected";
    this.events.opened(name, isAgain);
    if (!isAgain) {
      this.show(this.views.room);
      this.notice("you are ", { name });
    } else if (isNewServer)
      this.notice("connected again; the server was started anew, and what was said meanwhile is not known");
    else if (missed > 0n) {
      // CHAT-COV-6: perhaps none of them was meant for this client.
      const upTo = opening.isFiltered ? "up to " : "";
      this.notice(`connected again; ${upTo}${missed} messages were missed`);
    } else this.notice("connected again; nothing was missed");
    this.askForFirstPast();
    this.due(true);
  }

  private lost(seconds: number): void {
    this.on.status.textContent = navigator.onLine
      ? `not connected, next try in ${seconds} s`
      : "not connected: this device is offline";
    this.on.status.dataset.state = "lost";
    this.events.lost(`The server does not answer; next try in ${seconds} s.`);
  }

  private ended(why: string, asksPassword: boolean): void {
    this.session = undefined;
    this.files.ended();
    this.lines.clear();
    this.views = new Views();
    this.wanted = EVERYTHING;
    this.followed = "";
    this.log.show([]);
    this.members = new Set();
    this.here = new Set();
    this.on.older.hidden = true;
    this.on.followBar.hidden = true;
    this.events.unread(0);
    this.events.ended(why, asksPassword);
  }

  private heard(message: Message): void {
    const { sender, target } = message;
    if (has(this.wanted, "ignore", sender)) return;
    this.views.add(message, this.log.isSeen);
    if (this.views.shows(this.views.current, target)) this.log.add(message);
    // What is in the log is read from there.
    const isElsewhere = !this.log.isSeen || !this.views.shows(this.views.current, target);
    if (isElsewhere && target.peer !== "")
      this.on.news.textContent = `${plain(sender)} wrote to you alone`;
    else if (isElsewhere && message.isMention)
      this.on.news.textContent = `${plain(sender)} mentioned you`;
    this.due(false);
  }

  private line(line: Line, state: LineState, why: string, seq: bigint): void {
    let message = this.lines.get(line.id);
    if (!message) {
      message = fromLine(line, this.own);
      this.lines.set(line.id, message);
      this.views.add(message, true);
      if (this.views.shows(this.views.current, message.target)) this.log.add(message);
      this.due(false);
    }
    message.state = state;
    message.why = state === "sent" ? "" : why;
    if (seq > 0n) message.seq = seq;
    this.log.update(message);
    if (state !== "waiting" && state !== "accepted") this.lines.delete(line.id);
  }

  private past(key: string, chats: readonly Chat[], before: bigint): void {
    const view = this.views.all.find((it) => it.key === key);
    if (!view) return;
    const isIgnored = ({ sender }: Chat) => has(this.wanted, "ignore", sender);
    const messages = chats.filter((it) => !isIgnored(it)).map((it) => fromChat(it, this.own, true));
    const fitting = this.views.past(view, messages, before);
    if (view === this.views.current) this.log.prepend(fitting);
    this.showOlder();
    this.due(false);
  }

  private show(view: View): void {
    // What was begun for one person must not go to the room.
    this.views.current.draft = this.on.text.value;
    this.views.show(view);
    this.on.text.value = view.draft;
    this.log.show(view.entries);
    this.on.viewName.textContent = plain(view.label);
    const { topic, peer } = view.target;
    const to = peer === "" ? (topic === "" ? "" : ` ${view.label}`) : ` ${peer} alone`;
    this.on.text.placeholder = plain(`Message${to}`);
    this.askForFirstPast();
    this.showOlder();
    this.showLists();
    this.events.viewed();
  }

  private askForFirstPast(): void {
    const { current } = this.views;
    if (current.pastBefore > 0n && !current.hasPast && !current.isFull) this.askForPast();
  }

  private showOlder(): void {
    const { current } = this.views;
    this.on.older.hidden = current.pastBefore === 0n || current.isFull;
  }

  private seen(): void {
    if (this.views.seen()) this.due(false);
    this.on.more.hidden = true;
    if (this.views.unread === 0) this.on.news.textContent = "";
  }

  // In a burst, the lists change once in a frame.
  private due(areMembersDue: boolean): void {
    this.areMembersDue ||= areMembersDue;
    if (this.isFrameDue) return;
    this.isFrameDue = true;
    const show = () => {
      if (this.isFrameDue) this.showLists();
    };
    requestAnimationFrame(show);
    setTimeout(show, FRAME_MS);
  }

  private showLists(): void {
    this.isFrameDue = false;
    const { views, wanted: filter, own, members, here } = this;
    const shown: Shown = {
      views: views.all,
      current: views.current,
      filter,
      hasTopics: this.grants(Capability.FOLLOW),
      hasDirects: this.grants(Capability.DIRECT),
      own,
      members,
      here,
    };
    this.side.showViews(shown);
    if (this.areMembersDue) {
      this.areMembersDue = false;
      this.side.showMembers(shown);
      const others = Math.max(members.size - 1, 0);
      this.on.whoButton.textContent = others === 0 ? "alone here" : `${others + 1} here`;
    }
    const isFollowing = !followsAll(filter);
    this.on.followBar.hidden = !isFollowing;
    if (isFollowing) {
      const upTo = this.covered > 0n ? `; all of it is here up to message ${this.covered}` : "";
      const text = plain(`Only ${followed(filter)}, and what mentions you${upTo}`);
      if (this.on.followText.textContent !== text) this.on.followText.textContent = text;
    }
    this.log.setUnread(views.unreadHere);
    this.events.unread(views.unread);
  }
}
