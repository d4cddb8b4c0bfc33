// The page: joins, shows what happens, sends what is typed.

import { Log, message, type Row } from "./log.js";
import { Session, WAITING_MAX, type Line, type LineState } from "./session.js";
import { lines, mentions, plain, safe } from "./text.js";

const TITLE = "chat";
// Where the name is kept for the next visit. A password is not kept.
const NAME_KEY = "chat-name";
// How long a text may be before the server has said it, in bytes.
const TEXT_BYTES_MAX = 4_096;

function find<E extends Element>(selector: string): E {
  const element = document.querySelector<E>(selector);
  if (!element) throw new Error(selector);
  return element;
}

const joinForm = find<HTMLFormElement>("#join");
const nameField = find<HTMLInputElement>("#name");
const passwordField = find<HTMLInputElement>("#password");
const passwordRow = find<HTMLElement>("#password-row");
const joinError = find<HTMLElement>("#join-error");
const joinButton = find<HTMLButtonElement>("#join-button");
const room = find<HTMLElement>("#room");
const status = find<HTMLElement>("#status");
const who = find<HTMLElement>("#who");
const whoList = find<HTMLUListElement>("#who-list");
const whoButton = find<HTMLButtonElement>("#who-button");
const leaveButton = find<HTMLButtonElement>("#leave");
const composer = find<HTMLFormElement>("#composer");
const textField = find<HTMLTextAreaElement>("#text");
const olderButton = find<HTMLButtonElement>("#older");
const scroller = find<HTMLElement>("#scroller");
const mentionStatus = find<HTMLElement>("#mention");

const log = new Log(
  find<HTMLElement>("#log"),
  scroller,
  find<HTMLButtonElement>("#more"),
  (unread) => {
    document.title = unread > 0 ? `(${unread}) ${TITLE}` : TITLE;
    if (unread === 0) mentionStatus.textContent = "";
  },
);

let session: Session | undefined;
let own = "";
let rows = new Map<bigint, Row>();

const STATES: Record<LineState, string> = {
  waiting: "sending …",
  sent: "sent",
  refused: "not sent",
  unknown: "may not have arrived",
};

function name(text: string): HTMLElement {
  const element = document.createElement("bdi");
  element.className = "name";
  element.textContent = plain(text);
  return element;
}

// CHAT-MOD-9
function shown({ text, removed }: { text: string; removed: boolean }): string {
  return removed ? "(removed by the server's operator)" : text;
}

function showLine(line: Line, state: LineState, why: string): void {
  let row = rows.get(line.id);
  if (!row) {
    row = log.message(own, line.text, new Date(), true, false);
    rows.set(line.id, row);
  }
  row.element.dataset.state = state;
  const reason = why === "" || state === "sent" ? "" : `: ${why}`;
  row.state.replaceChildren(safe(STATES[state] + reason));
  if (state !== "waiting") rows.delete(line.id);
}

function join(): void {
  joinError.textContent = "";
  joinButton.disabled = true;
  own = nameField.value.trim();
  session = new Session(own, passwordField.value, {
    registered(registeredName, missed, isNewServer, isAgain) {
      own = registeredName;
      localStorage.setItem(NAME_KEY, own);
      passwordField.value = "";
      joinForm.hidden = true;
      room.hidden = false;
      status.textContent = "connected";
      status.dataset.state = "connected";
      joinButton.disabled = false;
      if (!isAgain) log.notice("you are ", name(own));
      else if (isNewServer)
        log.notice("connected again; the server was started anew, and what was said meanwhile is not known");
      else if (missed > 0n) log.notice(`connected again; ${missed} messages were missed`);
      else log.notice("connected again; nothing was missed");
      textField.focus();
    },
    // CHAT-REG-15
    welcome(text) {
      for (const line of text.split("\n")) log.notice("the server says: ", plain(line));
    },
    lost(retryMs) {
      const seconds = Math.ceil(retryMs / 1_000);
      status.textContent = navigator.onLine
        ? `not connected, next try in ${seconds} s`
        : "not connected: this device is offline";
      status.dataset.state = "lost";
      if (room.hidden) joinError.textContent = `The server does not answer; next try in ${seconds} s.`;
    },
    ended(why, asksPassword) {
      session = undefined;
      rows = new Map();
      log.clear();
      olderButton.hidden = true;
      room.hidden = true;
      joinForm.hidden = false;
      joinButton.disabled = false;
      joinError.textContent = why;
      document.title = TITLE;
      if (asksPassword) {
        passwordRow.hidden = false;
        passwordField.focus();
      } else {
        nameField.focus();
      }
    },
    past(chats, hasMore) {
      const rows = chats.map((chat) => {
        const { sender, timeUnixMs } = chat;
        const text = shown(chat);
        const isOwn = sender === own;
        const isMention = !isOwn && mentions(text, own);
        return message(sender, text, new Date(Number(timeUnixMs)), isOwn, isMention);
      });
      const fits = log.past(rows);
      olderButton.hidden = !hasMore || !fits;
    },
    chat(chat) {
      const { sender, timeUnixMs } = chat;
      const text = shown(chat);
      const time = new Date(Number(timeUnixMs));
      const isMention = mentions(text, own);
      log.message(sender, text, time, false, isMention);
      if (isMention && document.hidden)
        mentionStatus.textContent = `${plain(sender)} mentioned you`;
    },
    members(names) {
      const others = [...names].filter((it) => it !== own).sort((a, b) => a.localeCompare(b));
      whoButton.textContent = others.length === 0 ? "alone here" : `${others.length + 1} here`;
      whoList.replaceChildren(
        ...[own, ...others].map((it) => {
          const item = document.createElement("li");
          item.append(name(it), it === own ? " (you)" : "");
          return item;
        }),
      );
    },
    joined(who) {
      log.notice(name(who), " joined");
    },
    left(who, how) {
      log.notice(name(who), how === "" ? " left" : ` left (${how})`);
    },
    line: showLine,
  });
}

joinForm.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!session) join();
});

function send(): void {
  const all = lines(textField.value, session?.limits?.textBytesMax ?? TEXT_BYTES_MAX);
  for (const [index, line] of all.entries()) {
    if (session?.send(line)) continue;
    log.notice(`${all.length - index} lines were not sent: more than ${WAITING_MAX} wait`);
    break;
  }
  textField.value = "";
  textField.rows = 1;
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

textField.addEventListener("keydown", (event) => {
  // Enter that ends the input of a character (IME) sends nothing.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});

textField.addEventListener("input", () => {
  textField.rows = Math.min(textField.value.split("\n").length, 5);
});

olderButton.addEventListener("click", () => session?.askForPast());
scroller.addEventListener("scroll", () => {
  if (scroller.scrollTop === 0 && !olderButton.hidden) session?.askForPast();
});

leaveButton.addEventListener("click", () => session?.leave());

whoButton.addEventListener("click", () => {
  const isOpen = who.classList.toggle("open");
  whoButton.setAttribute("aria-expanded", String(isOpen));
});

addEventListener("pagehide", () => session?.leave());

nameField.value = localStorage.getItem(NAME_KEY) ?? "";
nameField.focus();
