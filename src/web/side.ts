// The lists at the side: the room, its topics and the people that one talks with; and who
// is here. What changes is changed in place, so that no click is lost.

import { followsAll, has, type Filter, type Kind } from "./follow.js";
import { element, name } from "./row.js";
import { plain } from "./text.js";
import type { View } from "./views.js";

// How many members are listed: more would slow the page down.
const MEMBERS_MAX = 300;
// How many views have a number to switch to them.
export const NUMBERED_MAX = 9;

/** What the lists depend on. */
export interface Shown {
  readonly views: readonly View[];
  readonly current: View;
  readonly filter: Filter;
  readonly hasTopics: boolean;
  readonly hasDirects: boolean;
  readonly own: string;
  readonly members: ReadonlySet<string>;
  /** The members in lower case. */
  readonly here: ReadonlySet<string>;
}

export interface Actions {
  open(view: View): void;
  talkTo(peer: string): void;
  toggle(kind: Kind, word: string): void;
  toggleWithoutTopic(): void;
}

export class Side {
  constructor(
    private readonly lists: {
      readonly room: HTMLElement;
      readonly topics: HTMLElement;
      readonly people: HTMLElement;
      readonly members: HTMLElement;
    },
    private readonly actions: Actions,
  ) {
    for (const list of Object.values(lists)) list.addEventListener("keydown", arrows);
  }

  showViews(shown: Shown): void {
    const numbers = new Map(shown.views.map((view, index) => [view, index + 1]));
    const of = (kind: string) => shown.views.filter((view) => view.key.slice(0, 1) === kind);
    for (const [list, kind] of [
      [this.lists.room, ""],
      [this.lists.topics, "#"],
      [this.lists.people, "@"],
    ] as const) {
      const views = of(kind);
      if (list.parentElement) list.parentElement.hidden = views.length === 0;
      reconcile(list, views, (it) => it.key, () => this.viewItem(), (item, view) =>
        this.showView(item, view, numbers.get(view) ?? 0, shown),
      );
    }
  }

  private viewItem(): HTMLElement {
    const item = document.createElement("li");
    const button = element("button", "view");
    button.type = "button";
    button.append(element("bdi", "label"), element("span", "badge"));
    item.append(button, tool("follow"), tool("ignore"));
    return item;
  }

  private showView(item: HTMLElement, view: View, number: number, shown: Shown): void {
    const [button, follow, ignore] = item.children as unknown as HTMLButtonElement[];
    const [label, badge] = button?.children ?? [];
    if (!button || !follow || !ignore || !label || !badge) return;
    const { topic, peer } = view.target;
    const text = plain(view.label);
    setText(label, text);
    const { unread, mentions } = view;
    setText(badge, unread === 0 ? "" : `${mentions > 0 ? "@" : ""}${unread}`);
    badge.classList.toggle("for-you", mentions > 0);
    item.classList.toggle("unread", unread > 0);
    item.classList.toggle("away", peer !== "" && !shown.here.has(peer.toLowerCase()));
    const forYou = mentions > 0 && peer === "" ? `, ${mentions} for you` : "";
    button.ariaLabel = unread === 0 ? text : `${text}, ${unread} unread${forYou}`;
    button.ariaCurrent = String(view === shown.current);
    button.title = number <= NUMBERED_MAX ? `Alt+${number}` : "";
    button.onclick = () => this.actions.open(view);
    follow.hidden = !shown.hasTopics;
    ignore.hidden = peer === "";
    if (peer !== "") return this.showTools(follow, ignore, peer, shown.filter);
    const what = topic === "" ? "messages without a topic" : text;
    const isFollowed =
      topic === "" ? shown.filter.withoutTopic : has(shown.filter, "topics", topic);
    press(follow, isFollowed, `Follow ${what}`, isFollowed ? "★" : "☆");
    follow.onclick = () =>
      topic === "" ? this.actions.toggleWithoutTopic() : this.actions.toggle("topics", topic);
    // With nothing followed the room has everything.
    if (topic === "") follow.hidden = !shown.hasTopics || followsAll(shown.filter);
  }

  private showTools(
    follow: HTMLButtonElement,
    ignore: HTMLButtonElement,
    peer: string,
    filter: Filter,
  ): void {
    const isFollowed = has(filter, "senders", peer);
    press(follow, isFollowed, `Follow ${plain(peer)}`, isFollowed ? "★" : "☆");
    follow.onclick = () => this.actions.toggle("senders", peer);
    press(ignore, has(filter, "ignore", peer), `Ignore ${plain(peer)}`, "⊘");
    ignore.onclick = () => this.actions.toggle("ignore", peer);
  }

  showMembers(shown: Shown): void {
    const { own, members, hasDirects } = shown;
    const others = [...members].filter((it) => it !== own).sort((a, b) => a.localeCompare(b));
    const listed = [own, ...others.slice(0, MEMBERS_MAX)];
    const rest = others.length - (listed.length - 1);
    if (rest > 0) listed.push(""); // no name is empty
    const make = () => {
      const item = document.createElement("li");
      item.append(element("button", "view"), tool("follow"), tool("ignore"));
      return item;
    };
    reconcile(this.lists.members, listed, (it) => it, make, (item, member) => {
      const [button, follow, ignore] = item.children as unknown as HTMLButtonElement[];
      if (!button || !follow || !ignore) return;
      const isOther = member !== own && member !== "";
      follow.hidden = !isOther || !shown.hasTopics;
      ignore.hidden = !isOther;
      button.type = "button";
      button.disabled = !isOther || !hasDirects;
      if (member === "") return setText(button, `and ${rest} more`);
      if (button.dataset.name !== member || button.childElementCount === 0) {
        button.dataset.name = member;
        button.replaceChildren(name(member), ...(member === own ? [" (you)"] : []));
      }
      if (isOther && hasDirects) button.title = `Talk to ${plain(member)} alone`;
      button.onclick = () => this.actions.talkTo(member);
      if (isOther) this.showTools(follow, ignore, member, shown.filter);
    });
  }
}

function tool(className: string): HTMLButtonElement {
  const made = element("button", `tool ${className}`);
  made.type = "button";
  return made;
}

function press(button: HTMLButtonElement, isPressed: boolean, label: string, sign: string): void {
  button.ariaPressed = String(isPressed);
  button.ariaLabel = label;
  button.title = label;
  setText(button, sign);
}

function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes the children of a list those of the items, and keeps what is there. */
function reconcile<T>(
  list: HTMLElement,
  items: readonly T[],
  keyOf: (item: T) => string,
  make: () => HTMLElement,
  show: (element: HTMLElement, item: T) => void,
): void {
  const there = new Map(
    [...list.children].map((it) => [(it as HTMLElement).dataset.key ?? "", it as HTMLElement]),
  );
  items.forEach((item, index) => {
    const key = keyOf(item);
    const made = there.get(key) ?? make();
    there.delete(key);
    made.dataset.key = key;
    show(made, item);
    if (list.children[index] !== made) list.insertBefore(made, list.children[index] ?? null);
  });
  for (const gone of there.values()) gone.remove();
}

// Up and Down go through the buttons of a list.
function arrows(event: KeyboardEvent): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (step === 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const side = (event.currentTarget as HTMLElement).closest("nav, aside");
  const buttons = [...(side?.querySelectorAll<HTMLButtonElement>(".view") ?? [])];
  const shown = buttons.filter((it) => it.offsetParent !== null && !it.disabled);
  const at = shown.indexOf(document.activeElement as HTMLButtonElement);
  if (at < 0) return;
  event.preventDefault();
  shown[at + step]?.focus();
}
