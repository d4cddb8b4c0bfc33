// The log: the rows of one view, the newest at the end, where the reader stays unless it
// scrolls away.

import type { Entry } from "./views.js";

// How many rows stay in the page: more would slow it down.
export const ROWS_MAX = 500;
// From how many pixels above its end a reader is taken to read older rows.
const AT_END_PX = 40;
// A hidden page has no frames: after how long it shows what has come.
const FRAME_MS = 200;

export class Log {
  private rows = new WeakMap<Entry, HTMLElement>();
  private pending: Entry[] = [];
  private isFrameDue = false;
  private isAtEnd = true;

  constructor(
    private readonly list: HTMLElement,
    private readonly scroller: HTMLElement,
    private readonly more: HTMLButtonElement,
    private readonly make: (entry: Entry) => HTMLElement,
    /** The reader sees the newest rows. */
    private readonly onSeen: () => void,
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

  /** Whether the reader sees the newest rows. */
  get isSeen(): boolean {
    return this.isAtEnd && !document.hidden;
  }

  /** Shows another view. */
  show(entries: readonly Entry[]): void {
    this.pending = [];
    this.rows = new WeakMap();
    // Nothing of it is new, so nobody is read all of it.
    this.list.setAttribute("aria-live", "off");
    const shown = entries.slice(-ROWS_MAX);
    this.list.replaceChildren(...shown.map((entry) => this.row(entry)));
    this.toEnd();
    setTimeout(() => this.list.setAttribute("aria-live", "polite"), FRAME_MS);
    this.seen();
  }

  /** A row at the end. In a burst, a frame shows what came before it, and no more than stays. */
  add(entry: Entry): void {
    this.pending.push(entry);
    if (this.pending.length > ROWS_MAX) this.pending.shift();
    if (this.isFrameDue) return;
    this.isFrameDue = true;
    const flush = () => {
      if (!this.isFrameDue) return;
      this.isFrameDue = false;
      this.flush();
    };
    requestAnimationFrame(flush);
    setTimeout(flush, FRAME_MS);
  }

  /** Older rows before all others. Whether more of them would fit. */
  prepend(entries: readonly Entry[]): boolean {
    this.flush();
    const { scroller, list } = this;
    const below = scroller.scrollHeight - scroller.scrollTop;
    const room = Math.max(ROWS_MAX - list.childElementCount, 0);
    const fitting = room === 0 ? [] : entries.slice(-room);
    list.prepend(...fitting.map((entry) => this.row(entry)));
    // What is read stays where it is.
    if (this.isAtEnd) this.toEnd();
    else scroller.scrollTop = scroller.scrollHeight - below;
    return list.childElementCount < ROWS_MAX;
  }

  /** Shows an entry anew, if it is shown. */
  update(entry: Entry): void {
    const before = this.rows.get(entry);
    if (!before?.isConnected) return;
    before.replaceWith(this.row(entry));
    if (this.isAtEnd) this.toEnd();
  }

  /** How many there are that nobody has seen. */
  setUnread(count: number): void {
    this.more.hidden = count === 0 || this.isAtEnd;
    this.more.textContent = count === 1 ? "1 new message" : `${count} new messages`;
  }

  private row(entry: Entry): HTMLElement {
    const made = this.make(entry);
    this.rows.set(entry, made);
    return made;
  }

  private flush(): void {
    const { isAtEnd } = this;
    this.list.append(...this.pending.map((entry) => this.row(entry)));
    this.pending = [];
    while (this.list.childElementCount > ROWS_MAX) this.list.firstElementChild?.remove();
    if (isAtEnd) this.toEnd();
  }

  private toEnd(): void {
    this.isAtEnd = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  private seen(): void {
    if (this.isSeen) this.onSeen();
  }
}
