// A row of the log: what one message or notice looks like.

import { plain, safe } from "./text.js";
import type { Entry, Message, Notice } from "./views.js";

/** What stands under a message, such as its files. */
export type Below = (message: Message) => readonly HTMLElement[];

export function row(entry: Entry, showsTopic: boolean, below: Below): HTMLElement {
  return entry.kind === "notice" ? notice(entry) : message(entry, showsTopic, below);
}

/** A name in its own direction. */
export function name(text: string): HTMLElement {
  const element = document.createElement("bdi");
  element.className = "name";
  element.textContent = plain(text);
  return element;
}

/** An element with a class and a text. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className: string,
  text = "",
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function notice({ parts }: Notice): HTMLElement {
  const made = element("div", "notice");
  made.append(...parts.map((it) => (typeof it === "string" ? it : name(it.name))));
  return made;
}

function message(entry: Message, showsTopic: boolean, below: Below): HTMLElement {
  const { sender, text, time, target, isOwn, isMention } = entry;
  const made = element("div", `message${isOwn ? " own" : ""}${isMention ? " mention" : ""}`);
  if (entry.state !== "") made.dataset.state = entry.state;
  const who = name(sender);
  who.style.setProperty("--hue", String(hue(sender)));
  made.append(who, " ");
  if (showsTopic && target.topic !== "") {
    const topic = element("bdi", "topic", plain(`#${target.topic}`));
    topic.dataset.topic = target.topic;
    made.append(topic, " ");
  }
  const when = document.createElement("time");
  if (!Number.isNaN(time.getTime())) {
    when.dateTime = time.toISOString();
    when.title = time.toLocaleString();
    when.textContent = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }
  const state = element("span", "state");
  const shown = STATES[entry.state] ?? "";
  state.append(safe(entry.why === "" ? shown : `${shown}: ${entry.why}`));
  const body = document.createElement("p");
  const does = /^\/me (.+)$/.exec(text)?.[1];
  if (does !== undefined) body.className = "does";
  // CHAT-MOD-9
  const said = entry.isRemoved ? "(removed by the server's operator)" : (does ?? text);
  body.append(safe(said));
  made.append(when, " ", state, body, ...below(entry));
  return made;
}

const STATES: Record<string, string> = {
  waiting: "sending …",
  sent: "sent",
  refused: "not sent",
  unknown: "may not have arrived",
  accepted: "not yet delivered",
  delivered: "delivered",
  undelivered: "perhaps not delivered",
};

// The same colour for a name everywhere.
function hue(name: string): number {
  let hash = 0;
  for (const character of name.toLowerCase())
    hash = (hash * 31 + character.charCodeAt(0)) % 360;
  return hash;
}
