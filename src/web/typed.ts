// What is typed: a line for somebody, or a command.

import { isSame, isWord, type Kind } from "./follow.js";
import type { Target } from "./outbox.js";

export type Typed =
  | { kind: "say"; target: Target; text: string }
  | { kind: "view"; target: Target }
  | { kind: "follow" | "unfollow"; words: { kind: Kind; word: string }[] }
  | { kind: "following" }
  | { kind: "ignore"; name: string }
  | { kind: "help" }
  | { kind: "wrong"; why: string };

export const HELP = [
  "#topic text gives one line a topic; ##word sends a line that begins with #word",
  "/topic #topic shows a topic, and gives it to what you write there; /topic shows the room",
  "/msg NAME text says it to NAME alone",
  "/follow #topic @name lets only these come, beside what mentions you; /unfollow lets everything come again; /following shows it",
  "/ignore NAME hides what NAME says, or shows it again",
  "/me text says what you do; //word sends a line that begins with /word",
  "Alt and a number, or Alt and the arrows, switch between the room, topics and people; with Shift the arrows go to what is not read",
];

const USAGE: Record<string, string> = {
  "/msg": "/msg NAME TEXT",
  "/topic": "/topic #TOPIC",
  "/follow": "/follow #TOPIC @NAME ...",
  "/unfollow": "/unfollow #TOPIC @NAME ...",
  "/ignore": "/ignore NAME",
};

/**
 * Understands what was typed where `current` is shown. The first of several lines decides
 * for all of them, so that the rest of a direct never goes to the room.
 */
export function parse(typed: string, current: Target, hasTopics: boolean): Typed {
  const text = typed.replace(/^\s+/, "");
  const topic = /^#(\S+)[^\S\n]+(?=\S)/.exec(text);
  if (hasTopics && topic?.[1] && isWord(topic[1])) {
    const target = { topic: topic[1], peer: "" };
    return { kind: "say", target, text: text.slice(topic[0].length) };
  }
  if (hasTopics && text.startsWith("##")) return say(current, text.slice(1));
  if (text.startsWith("//")) return say(current, text.slice(1));
  if (!text.startsWith("/") || text.startsWith("/me ")) return say(current, typed);
  const word = /^\S+/.exec(text)?.[0].toLowerCase() ?? "";
  const rest = text.slice(word.length).trim();
  if (word === "/msg") {
    const [, name = "", said = ""] = /^(\S+)\s+(\S[^]*)$/.exec(rest) ?? [];
    const peer = name.replace(/^@|:$/g, "");
    if (isWord(peer) && said !== "") return { kind: "say", target: { topic: "", peer }, text: said };
    return usage(word);
  }
  if (rest.includes("\n")) return wrong("a command is one line; nothing was sent");
  const words = rest.split(/\s+/).filter((it) => it !== "");
  switch (word) {
    case "/topic": {
      const topic = rest.replace(/^#/, "");
      if (topic !== "" && !isWord(topic)) return usage(word);
      return { kind: "view", target: { topic, peer: "" } };
    }
    case "/follow":
    case "/unfollow": {
      if (word === "/follow" && words.length === 0) return { kind: "following" };
      const all = words.map((it) => ({
        kind: it.startsWith("#") ? ("topics" as const) : ("senders" as const),
        word: it.slice(1),
      }));
      if (!words.every((it) => /^[#@]/.test(it) && isWord(it.slice(1)))) return usage(word);
      return { kind: word === "/follow" ? "follow" : "unfollow", words: all };
    }
    case "/following":
      return { kind: "following" };
    case "/ignore": {
      const name = rest.replace(/^@/, "");
      return isWord(name) ? { kind: "ignore", name } : usage(word);
    }
    case "/help":
      return { kind: "help" };
  }
  return wrong(`unknown command ${word}, nothing was sent; /help shows the commands, and a second slash sends the line: /${word}`);
}

/** The names that a text mentions, as many as a server takes. */
export function mentioned(text: string, most: number): string[] {
  const names: string[] = [];
  for (const word of text.split(/\s+/)) {
    if (names.length >= most) break;
    // A sentence may go on or end behind a name.
    const name = /^@([A-Za-z0-9._-]*[A-Za-z0-9])/.exec(word)?.[1] ?? "";
    if (isWord(name) && !names.some((it) => isSame(it, name))) names.push(name);
  }
  return names;
}

function say(target: Target, text: string): Typed {
  return { kind: "say", target, text };
}

function wrong(why: string): Typed {
  return { kind: "wrong", why };
}

function usage(word: string): Typed {
  return wrong(`usage: ${USAGE[word] ?? word}`);
}
