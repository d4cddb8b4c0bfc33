// Messages, as the session tells them: what the views keep and the rows show.

import { isSame } from "./follow.js";
import type { Line } from "./outbox.js";
import { mentions } from "./text.js";
import type { Message } from "./views.js";
import type { Chat, Direct } from "./generated/chat_pb.js";

// More files of one message are not shown, whatever a server sends.
const FILES_MAX = 16;

const NOTHING = {
  kind: "message",
  seq: 0n,
  isOwn: false,
  isMention: false,
  isRemoved: false,
  state: "",
  why: "",
} as const;

/** A chat that another member has sent, or one of the past. */
export function fromChat(chat: Chat, own: string, isPast: boolean): Message {
  const { sender, text, topic, seq, removed, timeUnixMs } = chat;
  // A live one comes from somebody else, or from an earlier session of this name.
  const isOwn = isPast && isSame(sender, own);
  const isNamed = mentions(text, own) || chat.mentions.some((it) => isSame(it, own));
  return {
    ...NOTHING,
    seq,
    sender,
    text,
    time: new Date(Number(timeUnixMs)),
    target: { topic, peer: "" },
    files: chat.files.slice(0, FILES_MAX),
    isOwn,
    isMention: !isOwn && isNamed,
    isRemoved: removed,
  };
}

export function fromDirect({ peer, text, timeUnixMs, files }: Direct): Message {
  return {
    ...NOTHING,
    sender: peer,
    text,
    time: new Date(Number(timeUnixMs)),
    target: { topic: "", peer },
    files: files.slice(0, FILES_MAX),
  };
}

/** What the user sends. */
export function fromLine({ text, topic, peer, files }: Line, own: string): Message {
  const target = { topic, peer };
  return { ...NOTHING, sender: own, text, time: new Date(), target, files, isOwn: true };
}
