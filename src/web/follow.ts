// Which chats a session receives (CHAT-FOL). Names and topics are equal whatever the case of
// their letters.

import { create, toBinary } from "@bufbuild/protobuf";
import { FilterSchema, type Filter as WireFilter } from "./generated/chat_pb.js";

// A longer filter does not go into Register, beside the longest name, password and token,
// but by Follow right behind, in bytes.
const REGISTER_FILTER_BYTES_MAX = 512;
// Where the ids of changes begin, so that they are not those of chats: an error names either.
const IDS_FROM = 1n << 62n;

const WORD = /^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/;

/** Whether a topic or a name can be one (CHAT-NAME-1). */
export function isWord(text: string): boolean {
  return WORD.test(text);
}

export function isSame(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/** What is followed and ignored. Nothing followed: every chat comes. */
export interface Filter {
  readonly topics: readonly string[];
  readonly senders: readonly string[];
  readonly ignore: readonly string[];
  readonly withoutTopic: boolean;
}

export const EVERYTHING: Filter = { topics: [], senders: [], ignore: [], withoutTopic: false };

export type Kind = "topics" | "senders" | "ignore";

export function has(filter: Filter, kind: Kind, word: string): boolean {
  return filter[kind].some((it) => isSame(it, word));
}

export function toggled(filter: Filter, kind: Kind, word: string): Filter {
  const others = filter[kind].filter((it) => !isSame(it, word));
  const isThere = others.length < filter[kind].length;
  return { ...filter, [kind]: isThere ? others : [...others, word] };
}

export function followsAll({ topics, senders, withoutTopic }: Filter): boolean {
  return topics.length === 0 && senders.length === 0 && !withoutTopic;
}

export function isEmpty(filter: Filter): boolean {
  return followsAll(filter) && filter.ignore.length === 0;
}

/** What is followed, as a person writes it. */
export function followed({ topics, senders, withoutTopic }: Filter): string {
  const words = [...topics.map((it) => `#${it}`), ...senders.map((it) => `@${it}`)];
  if (withoutTopic) words.unshift("what has no topic");
  return words.join(", ");
}

export function toWire(filter: Filter): WireFilter {
  const { topics, senders, ignore, withoutTopic } = filter;
  return create(FilterSchema, {
    topics: [...topics],
    senders: [...senders],
    ignore: [...ignore],
    withoutTopic,
  });
}

/** The filter of a session, and the change of it that the server has not answered. */
export class Follows {
  /** What the user wants last. */
  wanted: Filter = EVERYTHING;
  /** What the server goes by. */
  current: Filter = EVERYTHING;
  private nextId = IDS_FROM;
  private asked: { id: bigint; filter: Filter } | undefined;

  /** Whether the server keeps chats out. */
  get isFiltered(): boolean {
    return !isEmpty(this.current);
  }

  /** The filter for the next Register. */
  forRegister(): WireFilter | undefined {
    this.asked = undefined;
    if (isEmpty(this.wanted)) return undefined;
    const filter = toWire(this.wanted);
    if (toBinary(FilterSchema, filter).length > REGISTER_FILTER_BYTES_MAX) return undefined;
    this.asked = { id: 0n, filter: this.wanted };
    return filter;
  }

  /** A connection has registered with it. */
  registered(isGranted: boolean): void {
    this.current = (isGranted && this.asked?.filter) || EVERYTHING;
    this.asked = undefined;
    if (!isGranted) this.wanted = EVERYTHING;
  }

  /** The change to ask for now, if there is one: one at a time. */
  ask(): { id: bigint; filter: WireFilter } | undefined {
    if (this.asked || this.wanted === this.current) return undefined;
    if (isEmpty(this.wanted) && isEmpty(this.current)) return undefined;
    const id = this.nextId++;
    this.asked = { id, filter: this.wanted };
    return { id, filter: toWire(this.wanted) };
  }

  /** The server goes by the filter that it was asked for. Whether it was asked. */
  answered(id: bigint): boolean {
    if (this.asked?.id !== id) return false;
    this.current = this.asked.filter;
    this.asked = undefined;
    return true;
  }

  /** The server does not take the filter. Whether it was asked. */
  refused(id: bigint): boolean {
    if (this.asked?.id !== id) return false;
    this.asked = undefined;
    this.wanted = this.current;
    return true;
  }
}
