// The page: joins, and has keys and buttons do what they say.

import { isWord } from "./follow.js";
import { Room } from "./room.js";
import { NUMBERED_MAX } from "./side.js";

const TITLE = "chat";
// Where the name is kept for the next visit. A password is not kept.
const NAME_KEY = "chat-name";
// More rows are scrolled.
const TEXT_ROWS_MAX = 5;

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
const place = find<HTMLElement>("#room");
const side = find<HTMLElement>("#side");
const sideButton = find<HTMLButtonElement>("#side-button");
const sideCount = find<HTMLElement>("#side-count");
const goForm = find<HTMLFormElement>("#go");
const goField = find<HTMLInputElement>("#go-to");
const who = find<HTMLElement>("#who");
const whoButton = find<HTMLButtonElement>("#who-button");
const composer = find<HTMLFormElement>("#composer");
const textField = find<HTMLTextAreaElement>("#text");
const attachButton = find<HTMLButtonElement>("#attach");
const fileInput = find<HTMLInputElement>("#file-input");
const olderButton = find<HTMLButtonElement>("#older");
const scroller = find<HTMLElement>("#scroller");

const room = new Room(
  {
    log: find("#log"),
    scroller,
    more: find("#more"),
    older: olderButton,
    roomList: find("#room-list"),
    topicList: find("#topic-list"),
    peopleList: find("#people-list"),
    memberList: find("#who-list"),
    viewName: find("#view-name"),
    whoButton,
    followBar: find("#follow-bar"),
    followText: find("#follow-text"),
    text: textField,
    status: find("#status"),
    news: find("#mention"),
    shelf: find("#shelf"),
  },
  {
    opened(name) {
      localStorage.setItem(NAME_KEY, name);
      passwordField.value = "";
      joinForm.hidden = true;
      place.hidden = false;
      joinButton.disabled = false;
      attachButton.hidden = !room.takesFiles;
      write();
    },
    lost(why) {
      if (place.hidden) joinError.textContent = why;
    },
    ended(why, asksPassword) {
      place.hidden = true;
      joinForm.hidden = false;
      joinButton.disabled = false;
      joinError.textContent = why;
      passwordRow.hidden &&= !asksPassword;
      (asksPassword ? passwordField : nameField).focus();
    },
    unread(count) {
      document.title = count > 0 ? `(${count}) ${TITLE}` : TITLE;
      sideCount.textContent = count > 0 ? String(count) : "";
      sideButton.ariaLabel = count > 0 ? `Topics and people, ${count} unread` : "Topics and people";
    },
    viewed() {
      toggle(side, sideButton, false);
      toggle(who, whoButton, false);
      fit();
      write();
    },
  },
);

// A keyboard on the screen would hide what was just opened.
function write(): void {
  if (!matchMedia("(pointer: coarse)").matches) textField.focus();
}

joinForm.addEventListener("submit", (event) => {
  event.preventDefault();
  if (room.isOpen) return;
  joinError.textContent = "";
  joinButton.disabled = true;
  room.join(nameField.value.trim(), passwordField.value);
});

function send(): void {
  const typed = textField.value;
  textField.value = "";
  // What was not understood can be mended.
  if (typed.trim() !== "" && !room.say(typed)) textField.value = typed;
  fit();
}

function fit(): void {
  textField.rows = Math.min(textField.value.split("\n").length, TEXT_ROWS_MAX);
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

textField.addEventListener("input", fit);

attachButton.addEventListener("click", () => fileInput.click());
fileInput.addEventListener("change", () => {
  room.attach(fileInput.files ?? []);
  fileInput.value = "";
  write();
});

textField.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files;
  if (!files || files.length === 0) return;
  event.preventDefault();
  room.attach(files);
});

// A file that misses its place must not take the place of the page.
for (const kind of ["dragover", "dragleave", "drop"] as const)
  addEventListener(kind, (event) => {
    const { dataTransfer } = event;
    if (!dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    // From one part of the page to another it is still above the page.
    if (kind === "dragleave" && event.relatedTarget) return;
    place.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && !place.hidden) room.attach(dataTransfer.files);
  });

olderButton.addEventListener("click", () => room.askForPast());
scroller.addEventListener("scroll", () => {
  if (scroller.scrollTop === 0 && !olderButton.hidden) room.askForPast();
});

find("#leave").addEventListener("click", () => room.leave());
find("#follow-all").addEventListener("click", () => room.followEverything());

// On a narrow screen the lists lie over the log while they are open.
function toggle(list: HTMLElement, button: HTMLButtonElement, isOpen: boolean): void {
  list.classList.toggle("open", isOpen);
  button.ariaExpanded = String(isOpen);
}

for (const [list, button, other, otherButton] of [
  [side, sideButton, who, whoButton],
  [who, whoButton, side, sideButton],
] as const)
  button.addEventListener("click", () => {
    const isOpen = !list.classList.contains("open");
    toggle(list, button, isOpen);
    toggle(other, otherButton, false);
    if (isOpen) list.querySelector<HTMLButtonElement>(".view:not(:disabled)")?.focus();
  });

find("#middle").addEventListener("pointerdown", () => {
  toggle(side, sideButton, false);
  toggle(who, whoButton, false);
});

// A topic or a name, with or without its sign; without one it is a topic.
goForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const word = goField.value.trim();
  const bare = word.replace(/^[#@]/, "");
  goField.setCustomValidity(isWord(bare) ? "" : "Write #topic or @name");
  if (!goField.reportValidity()) return;
  goField.value = "";
  room.showTarget(word.startsWith("@") ? { topic: "", peer: bare } : { topic: bare, peer: "" });
});
goField.addEventListener("input", () => goField.setCustomValidity(""));

addEventListener("keydown", (event) => {
  if (place.hidden) return;
  if (event.key === "Escape") {
    const isOpen = side.classList.contains("open") || who.classList.contains("open");
    toggle(side, sideButton, false);
    toggle(who, whoButton, false);
    if (isOpen) textField.focus();
    return;
  }
  if (!event.altKey || event.ctrlKey || event.metaKey) return;
  // The key and not its character, which Alt changes on some keyboards.
  const number = Number(/^Digit([1-9])$/.exec(event.code)?.[1] ?? 0);
  if (number > 0 && number <= NUMBERED_MAX && !event.shiftKey) room.showNumber(number - 1);
  else if (event.key === "ArrowDown") room.step(1, event.shiftKey);
  else if (event.key === "ArrowUp") room.step(-1, event.shiftKey);
  else return;
  event.preventDefault();
});

addEventListener("beforeunload", (event) => {
  if (room.isBusy) event.preventDefault();
});
addEventListener("pagehide", () => room.leave());

nameField.value = localStorage.getItem(NAME_KEY) ?? "";
nameField.focus();
