// Uploads and downloads over the connection of a session (CHAT-FILE). They go on where a
// lost connection has cut them.

import { create } from "@bufbuild/protobuf";
import { sha256 as hash } from "@noble/hashes/sha2.js";
import { bytesToHex as hex } from "@noble/hashes/utils.js";
import type { ToServer } from "./frames.js";
import { refusal } from "./words.js";
import {
  ErrorCode,
  FileDataSchema,
  GetFileSchema,
  PutFileSchema,
  type Error as Refusal,
} from "./generated/chat_pb.js";

// How many pieces of an upload may be without an answer: enough for a long link, little
// enough that the talk does not wait behind them.
const PIECES_UNANSWERED_MAX = 8;
// How many pieces a download asks for at a time.
const PIECES_ASKED = 32;
// The longest piece, whatever the server takes: one message of a WebSocket (CHAT-WS-5).
const PIECE_BYTES_MAX = 32 << 10;
// How long the server may be silent about a transfer while there is a connection.
const SILENCE_MS_MAX = 60_000;
// How often a transfer begins again without getting on, and how much longer it waits each
// time: what a lost connection has left may still be on its way to the server's disk.
const RESTARTS_MAX = 16;
const RESTART_MS = 20;
// How much of a file is read at once to compute its hash.
const HASH_BYTES = 1 << 20;
// How much of a download is held as single pieces.
const PART_BYTES = 4 << 20;
// How many answers may wait for a transfer.
const ANSWERS_MAX = 4 * PIECES_ASKED;

const CHANGED = "it changed while it was read, or it cannot be read; try again";

type Answer =
  | { case: "state"; have: number }
  | { case: "data"; offset: number; data: Uint8Array }
  | { case: "error"; error: Refusal }
  | { case: "lost" };

export type Progress = (bytes: number, of: number) => void;

/** A connection that takes files. */
interface Link {
  readonly put: (message: ToServer) => void;
  readonly pieceBytes: number;
}

export class Transfers {
  private link: Link | undefined;
  private readonly linked = new Set<() => void>();
  private readonly boxes = new Map<string, Box>();

  /** A connection was opened. */
  opened(put: (message: ToServer) => void, pieceBytesMax: number): void {
    this.link = { put, pieceBytes: Math.min(pieceBytesMax, PIECE_BYTES_MAX) };
    for (const go of this.linked) go();
  }

  /** The connection is lost: every transfer begins again where it was. */
  lost(): void {
    this.link = undefined;
    for (const box of this.boxes.values()) box.put({ case: "lost" });
    this.boxes.clear();
  }

  state(sha256: Uint8Array, have: bigint): void {
    this.boxes.get(hex(sha256))?.put({ case: "state", have: Number(have) });
  }

  data(sha256: Uint8Array, offset: bigint, data: Uint8Array): void {
    this.boxes.get(hex(sha256))?.put({ case: "data", offset: Number(offset), data });
  }

  refused(error: Refusal): void {
    this.boxes.get(hex(error.sha256))?.put({ case: "error", error });
  }

  /** Uploads a file whose hash is known. `progress` is told how much the server has. */
  async upload(
    file: Blob,
    sha256: Uint8Array<ArrayBuffer>,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<void> {
    let have = 0;
    await this.again(signal, sha256, async (link, box) => {
      const before = have;
      link.put({
        case: "putFile",
        value: create(PutFileSchema, { sha256, size: BigInt(file.size) }),
      });
      let sent = -1; // until the server has said where to begin
      for (;;) {
        const answer = await box.next(signal);
        if (answer.case === "error") {
          if (answer.error.code !== ErrorCode.FILE_MISMATCH) throw new Error(refusal(answer.error));
          // CHAT-FILE-6: it was sent to its end, and is not what was hashed.
          const isLast = sent === file.size && file.size - have <= link.pieceBytes;
          if (isLast) throw new Error(CHANGED);
          return have > before;
        }
        if (answer.case === "lost") return have > before;
        if (answer.case !== "state") continue;
        if (answer.have > file.size || (sent >= 0 && answer.have <= have)) return have > before;
        have = answer.have;
        sent = Math.max(sent, have);
        progress(have, file.size);
        if (have === file.size) return "done";
        while (sent < file.size && sent - have < PIECES_UNANSWERED_MAX * link.pieceBytes) {
          const end = Math.min(sent + link.pieceBytes, file.size);
          const data = await read(file, sent, end);
          signal.throwIfAborted();
          link.put({
            case: "fileData",
            value: create(FileDataSchema, { sha256, offset: BigInt(sent), data }),
          });
          sent = end;
        }
      }
    });
  }

  /** Fetches a file and checks its hash (CHAT-FILE-20). */
  async download(
    sha256: Uint8Array<ArrayBuffer>,
    size: number,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<Blob> {
    const hasher = hash.create();
    const parts: Blob[] = [];
    let pieces: Uint8Array<ArrayBuffer>[] = [];
    let have = 0;
    let held = 0;
    progress(0, size);
    await this.again(signal, sha256, async (link, box) => {
      const before = have;
      while (have < size) {
        const end = Math.min(have + PIECES_ASKED * link.pieceBytes, size);
        const range = { sha256, offset: BigInt(have), length: BigInt(end - have) };
        link.put({ case: "getFile", value: create(GetFileSchema, range) });
        while (have < end) {
          const answer = await box.next(signal);
          if (answer.case === "error") throw new Error(refusal(answer.error));
          if (answer.case === "lost") return have > before;
          // Of an earlier range.
          if (answer.case !== "data" || answer.offset !== have) continue;
          const { data } = answer;
          if (data.length === 0 || data.length > end - have) throw new Error(OTHER);
          hasher.update(data);
          pieces.push(data.slice());
          have += data.length;
          held += data.length;
          if (held >= PART_BYTES) {
            parts.push(new Blob(pieces));
            pieces = [];
            held = 0;
          }
          progress(have, size);
        }
      }
      return "done";
    });
    if (hex(hasher.digest()) !== hex(sha256)) throw new Error(OTHER);
    return new Blob([...parts, ...pieces]);
  }

  /** Runs a transfer over one connection after another, until it is done. */
  private async again(
    signal: AbortSignal,
    sha256: Uint8Array,
    run: (link: Link, box: Box) => Promise<boolean | "done">,
  ): Promise<void> {
    const key = hex(sha256);
    for (let restarts = 0; ; ) {
      const link = await this.whenLinked(signal);
      const box = new Box();
      this.boxes.set(key, box);
      try {
        const gotOn = await run(link, box);
        if (gotOn === "done") return;
        restarts = gotOn ? 0 : restarts + 1;
      } finally {
        if (this.boxes.get(key) === box) this.boxes.delete(key);
      }
      if (restarts > RESTARTS_MAX) throw new Error("the server does not go on with it");
      await sleep(RESTART_MS * (restarts + 1));
      signal.throwIfAborted();
    }
  }

  private whenLinked(signal: AbortSignal): Promise<Link> {
    return new Promise((found, failed) => {
      const check = () => {
        if (!signal.aborted && !this.link) return;
        this.linked.delete(check);
        signal.removeEventListener("abort", check);
        if (signal.aborted) failed(signal.reason as Error);
        else if (this.link) found(this.link);
      };
      this.linked.add(check);
      signal.addEventListener("abort", check);
      check();
    });
  }
}

const OTHER = "what came is another file than was announced";

/** The answers for one transfer. */
class Box {
  private readonly answers: Answer[] = [];
  private wake: (() => void) | undefined;

  put(answer: Answer): void {
    if (this.answers.length >= ANSWERS_MAX && answer.case !== "lost") return;
    this.answers.push(answer);
    this.wake?.();
  }

  next(signal: AbortSignal): Promise<Answer> {
    return new Promise((found, failed) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", check);
        this.wake = undefined;
      };
      const check = () => {
        const answer = signal.aborted ? undefined : this.answers.shift();
        if (!answer && !signal.aborted) return;
        end();
        if (answer) found(answer);
        else failed(signal.reason as Error);
      };
      const timer = setTimeout(() => {
        end();
        failed(new Error("the server says nothing about it"));
      }, SILENCE_MS_MAX);
      this.wake = check;
      signal.addEventListener("abort", check);
      check();
    });
  }
}

/** The hash of a file, read in parts: what browsers have takes a whole one, and not over http. */
export async function hashOf(file: Blob, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const hasher = hash.create();
  for (let from = 0; from < file.size; from += HASH_BYTES) {
    const to = Math.min(from + HASH_BYTES, file.size);
    hasher.update(await read(file, from, to));
    signal.throwIfAborted();
  }
  return hasher.digest();
}

async function read(file: Blob, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const data = new Uint8Array(await file.slice(from, to).arrayBuffer());
    if (data.length === to - from) return data;
  } catch {
    // told below
  }
  throw new Error(CHANGED);
}

function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
