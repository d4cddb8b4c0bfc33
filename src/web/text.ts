// Text of others, made safe to show: no markup, nothing invisible, links to the web only.

// What a reader cannot see or what changes the direction of writing. Joiners stay between
// the parts of an emoji.
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]|[\u{1d173}-\u{1d17a}]|[\u{e0000}-\u{e0fff}]|(?<!\p{Extended_Pictographic}|\ufe0f|[\u{1f3fb}-\u{1f3ff}])\u200d|(?<=\p{M}{8})\p{M}/gu;

const LINK = /https?:\/\/[^\s<>"'`{}|\\^]+[^\s<>"'`{}|\\^.,;:!?)\]]/giu;

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

/** For attributes and the title, where there is only text. */
export function plain(text: string): string {
  return text.replace(HIDDEN, escaped);
}

/** Appends the text, its hidden characters as visible escapes. */
function appendVisible(to: Node, text: string): void {
  let end = 0;
  for (const hidden of text.matchAll(HIDDEN)) {
    to.appendChild(document.createTextNode(text.slice(end, hidden.index)));
    const mark = document.createElement("span");
    mark.className = "escape";
    mark.textContent = escaped(hidden[0]);
    to.appendChild(mark);
    end = hidden.index + hidden[0].length;
  }
  to.appendChild(document.createTextNode(text.slice(end)));
}

function address(link: string): string | undefined {
  const url = URL.canParse(link) ? new URL(link) : undefined;
  const isWeb = url?.protocol === "http:" || url?.protocol === "https:";
  // A name before the host looks like a host.
  return isWeb && !url.username && !url.password ? url.href : undefined;
}

/** The text in its own direction, its links as links. */
export function safe(text: string): HTMLElement {
  const all = document.createElement("bdi");
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const href = plain(match[0]) === match[0] ? address(match[0]) : undefined;
    if (!href) continue;
    appendVisible(all, text.slice(end, match.index));
    const link = document.createElement("a");
    link.href = href;
    link.rel = "noopener noreferrer";
    link.target = "_blank";
    link.textContent = match[0];
    all.appendChild(link);
    end = match.index + match[0].length;
  }
  appendVisible(all, text.slice(end));
  return all;
}

/** Whether a text names somebody, as a word of its own. */
export function mentions(text: string, name: string): boolean {
  const literal = name.replace(/[.\-]/g, "\\$&");
  return new RegExp(`(^|[^A-Za-z0-9._-])${literal}($|[^A-Za-z0-9_-])`, "i").test(text);
}

/**
 * The chats that a typed or pasted text becomes: a line each, without characters that no
 * chat may have, none longer than the server takes.
 */
export function lines(text: string, bytesMax: number): string[] {
  const encoder = new TextEncoder();
  const all: string[] = [];
  for (const raw of text.split(/\r\n|[\r\n\u2028\u2029]/)) {
    const line = raw
      .replace(/\t/g, "    ")
      // Half a surrogate pair is no character.
      .toWellFormed()
      .replace(/[\u0000-\u001f\u007f-\u009f]/g, escaped);
    if (line.trim() === "") continue;
    let part = "";
    let bytes = 0;
    for (const character of line) {
      const more = encoder.encode(character).length;
      if (bytes + more > bytesMax) {
        all.push(part);
        part = "";
        bytes = 0;
      }
      part += character;
      bytes += more;
    }
    if (part !== "") all.push(part);
  }
  return all;
}
