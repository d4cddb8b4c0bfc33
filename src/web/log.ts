// The log of messages: the newest rows, unread ones counted while the reader is elsewhere.

import { plain, safe } from "./text.js";

// How many rows stay in the page: more would slow it down.
export const ROWS_MAX = 500;
// From how many pixels above its end a reader is taken to read older rows.
const AT_END_PX = 40;

export interface Row {
  readonly element: HTMLDivElement;
  readonly state: HTMLSpanElement;
}

export class Log {
  private pending: HTMLDivElement[] = [];
  private isFrameDue = false;
  private unread = 0;
  private isAtEnd = true;

  constructor(
    private readonly list: HTMLElement,
    private readonly scroller: HTMLElement,
    private readonly more: HTMLButtonElement,
    private readonly onUnread: (count: number) => void,
  ) {
    scroller.addEventListener("scroll", () => {
      const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
      this.isAtEnd = below < AT_END_PX;
      this.seen();
    });
    new ResizeObserver(() => {
      if (this.isAtEnd) this.toEnd();
    }).observe(scroller);
    more.addEventListener("click", () => {
      this.toEnd();
      this.seen();
    });
    document.addEventListener("visibilitychange", () => this.seen());
  }

  /** A message at the end. */
  message(sender: string, text: string, time: Date, isOwn: boolean, isMention: boolean): Row {
    const row = message(sender, text, time, isOwn, isMention);
    this.put(row.element);
    if (!isOwn && (document.hidden || !this.isAtEnd)) {
      this.unread += 1;
      this.show();
    }
    return row;
  }

  /** Older messages before all others. Whether more of them would fit. */
  past(rows: readonly Row[]): boolean {
    this.flush();
    const { scroller, list } = this;
    const below = scroller.scrollHeight - scroller.scrollTop;
    const room = Math.max(ROWS_MAX - list.childElementCount, 0);
    const fitting = room === 0 ? [] : rows.slice(-room);
    list.prepend(...fitting.map((row) => row.element));
    // What is read stays where it is.
    if (this.isAtEnd) this.toEnd();
    else scroller.scrollTop = scroller.scrollHeight - below;
    return list.childElementCount < ROWS_MAX;
  }

  notice(...parts: (string | HTMLElement)[]): void {
    const element = document.createElement("div");
    element.className = "notice";
    element.append(...parts);
    this.put(element);
  }

  clear(): void {
    this.pending = [];
    this.list.replaceChildren();
    this.unread = 0;
    this.show();
  }

  // In a burst, a frame shows what came before it, and no more than stays.
  private put(element: HTMLDivElement): void {
    this.pending.push(element);
    if (this.pending.length > ROWS_MAX) this.pending.shift();
    if (this.isFrameDue) return;
    this.isFrameDue = true;
    const flush = () => {
      if (!this.isFrameDue) return;
      this.isFrameDue = false;
      this.flush();
    };
    requestAnimationFrame(flush);
    // A hidden page has no frames.
    setTimeout(flush, 200);
  }

  private flush(): void {
    const { isAtEnd } = this;
    this.list.append(...this.pending);
    this.pending = [];
    while (this.list.childElementCount > ROWS_MAX) this.list.firstElementChild?.remove();
    if (isAtEnd) this.toEnd();
  }

  private toEnd(): void {
    this.isAtEnd = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  private seen(): void {
    if (document.hidden || !this.isAtEnd || this.unread === 0) return;
    this.unread = 0;
    this.show();
  }

  private show(): void {
    const { unread } = this;
    this.more.hidden = unread === 0 || this.isAtEnd;
    this.more.textContent = unread === 1 ? "1 new message" : `${unread} new messages`;
    this.onUnread(unread);
  }
}

/** A message, to be put somewhere. */
export function message(
  sender: string,
  text: string,
  time: Date,
  isOwn: boolean,
  isMention: boolean,
): Row {
  const element = document.createElement("div");
  element.className = `message${isOwn ? " own" : ""}${isMention ? " mention" : ""}`;
  const name = document.createElement("bdi");
  name.className = "name";
  name.textContent = plain(sender);
  name.style.setProperty("--hue", String(hue(sender)));
  const when = document.createElement("time");
  if (!Number.isNaN(time.getTime())) {
    when.dateTime = time.toISOString();
    when.title = time.toLocaleString();
    when.textContent = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }
  const state = document.createElement("span");
  state.className = "state";
  const body = document.createElement("p");
  body.append(safe(text));
  element.append(name, " ", when, " ", state, body);
  return { element, state };
}

// The same colour for a name everywhere.
function hue(name: string): number {
  let hash = 0;
  for (const character of name.toLowerCase())
    hash = (hash * 31 + character.charCodeAt(0)) % 360;
  return hash;
}
