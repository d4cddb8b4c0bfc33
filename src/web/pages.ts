// Pages of the past: which views want one, one asked for at a time.

import { create } from "@bufbuild/protobuf";
import { EVERYTHING, toWire } from "./follow.js";
import { GetHistorySchema, type GetHistory } from "./generated/chat_pb.js";

// How many chats a page has at most.
const PAGE_CHATS = 50;
// Where the ids of pages begin, so that they are not those of chats: an error names either.
const IDS_FROM = 1n << 61n;

/** Up to which number, and of which topic. */
interface Page {
  readonly before: bigint;
  readonly topic: string;
}

export class Pages {
  // By view, so there are no more than views; the first is asked for.
  private readonly wanted = new Map<string, Page>();
  private id = IDS_FROM;
  private isOnItsWay = false;

  want(view: string, topic: string, before: bigint): void {
    if (!this.wanted.has(view)) this.wanted.set(view, { before, topic });
  }

  /** What to ask for now. */
  ask(historyPageMax: number): GetHistory | undefined {
    const [page] = this.wanted.values();
    if (!page || this.isOnItsWay) return undefined;
    this.isOnItsWay = true;
    const request = create(GetHistorySchema, {
      id: ++this.id,
      edge: { case: "before", value: page.before },
      limit: Math.min(PAGE_CHATS, historyPageMax || PAGE_CHATS),
    });
    if (page.topic !== "") request.filter = toWire({ ...EVERYTHING, topics: [page.topic] });
    return request;
  }

  isAsked(id: bigint): boolean {
    return this.isOnItsWay && id === this.id;
  }

  /** The page that was asked for is here. Returns the view that wants it. */
  came(): string | undefined {
    const [view] = this.wanted.keys();
    if (view === undefined || !this.isOnItsWay) return undefined;
    this.wanted.delete(view);
    this.isOnItsWay = false;
    return view;
  }

  /** A connection begins, on which nothing was asked for. */
  clear(): void {
    this.wanted.clear();
    this.isOnItsWay = false;
  }
}
