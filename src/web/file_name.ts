// Names of files: what may be sent, and what may be saved. A name is for people to read,
// and never a path.

import { plain } from "./text.js";

// CHAT-FILE-8
const NAME_BYTES_MAX = 128;
const SAVED_CHARS_MAX = 100;

const NOT_IN_NAMES = /[/\\:\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

/** The name under which a file is sent: its own, without what no name may have. */
export function sentName(name: string): string {
  let sent = "";
  let bytes = 0;
  for (const it of name.toWellFormed().replace(NOT_IN_NAMES, "_").replace(/^\.+/, "")) {
    bytes += new TextEncoder().encode(it).length;
    if (bytes > NAME_BYTES_MAX) break;
    sent += it;
  }
  return sent.trim() === "" ? "file" : sent;
}

/** The name under which a file is saved, whatever its sender has written. */
export function savedName(name: string): string {
  const seen = plain(name).replace(/\\u\{[0-9a-f]+\}/g, "");
  const saved = [...seen.replace(NOT_IN_NAMES, "").replace(/[<>"|?*]/g, "_")]
    .slice(0, SAVED_CHARS_MAX)
    .join("")
    .replace(/^[. -]+|[. ]+$/g, "");
  return saved === "" ? "file" : saved;
}

/** "12 KB": a size, for people. */
export function sizeText(bytes: number): string {
  for (const [unit, name] of [
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "KB"],
  ] as const)
    if (bytes >= unit) return `${Math.ceil(bytes / unit)} ${name}`;
  return `${bytes} B`;
}
