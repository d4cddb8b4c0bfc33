// Files on the page: sent when they are dropped, fetched when the user asks for it
// (CHAT-FILE-18), with what is under way shown above the line that is typed.

import { create } from "@bufbuild/protobuf";
import { savedName, sentName, sizeText } from "./file_name.js";
import type { Target } from "./outbox.js";
import { isPictureName, typeOf } from "./pictures.js";
import { element } from "./row.js";
import { plain } from "./text.js";
import { Transfers, hashOf, type Progress } from "./transfers.js";
import type { Message } from "./views.js";
import { FileSchema, type File as Named } from "./generated/chat_pb.js";

// A download is held in the memory of the page until it is whole and checked: a longer one
// is not begun.
export const FETCH_BYTES_MAX = 256 << 20;
// The longest picture that is shown, and how many are shown at once.
const PICTURE_BYTES_MAX = 16 << 20;
const PICTURES_MAX = 8;
// How many files may be on their way.
const JOBS_MAX = 16;
// How long a browser has to begin to save a file.
const SAVE_MS_MAX = 60_000;
// How long a failed one stays in sight.
const FAILED_MS = 20_000;

const CANCELLED = "cancelled";

/** What a file of a message shows beside its name. */
interface Card {
  element: HTMLElement;
  /** The address of its picture, while that is shown. */
  picture: string;
  why: string;
  isBusy: boolean;
}

export interface Outward {
  /** What the server takes; `undefined`: no files. */
  readonly bytesMax: () => number | undefined;
  /** An uploaded file is to be named in a message. */
  readonly send: (target: Target, text: string, files: readonly Named[]) => void;
  readonly tell: (text: string) => void;
}

export class Files {
  readonly transfers = new Transfers();
  private readonly cards = new WeakMap<Named, Card>();
  private readonly jobs = new Set<AbortController>();
  // One upload and one download at a time: a GetFile takes the place of the one before.
  private uploads: Promise<void> = Promise.resolve();
  private downloads: Promise<void> = Promise.resolve();
  private shown: Named[] = [];
  private saved = "";

  constructor(
    private readonly shelf: HTMLElement,
    private readonly out: Outward,
  ) {}

  /** Sends files to where they were dropped. */
  attach(files: Iterable<File>, target: Target): void {
    for (const file of files) {
      const why = this.refusal(file);
      if (why !== "") this.out.tell(plain(`${file.name} is not sent: ${why}`));
      else this.upload(file, target);
    }
  }

  /** What stands below a message: its files. */
  below = ({ files, isRemoved }: Message): HTMLElement[] =>
    isRemoved ? [] : files.map((file) => this.card(file).element);

  get isBusy(): boolean {
    return this.jobs.size > 0;
  }

  /** The session is over. */
  ended(): void {
    for (const job of this.jobs) job.abort(new Error("the session is over"));
    for (const file of this.shown) this.hide(file);
    this.shown = [];
  }

  private refusal(file: File): string {
    const bytesMax = this.out.bytesMax();
    if (bytesMax === undefined) return "this server takes no files";
    if (file.size === 0) return "it is empty, or no file";
    if (file.size > bytesMax)
      return `it is longer than the ${sizeText(bytesMax)} that this server takes`;
    if (this.jobs.size >= JOBS_MAX) return `${JOBS_MAX} files are on their way already`;
    return "";
  }

  private upload(file: File, target: Target): void {
    const run = async (progress: Progress, signal: AbortSignal) => {
      const sha256 = await hashOf(file, signal);
      await this.transfers.upload(file, sha256, progress, signal);
      const name = sentName(file.name);
      const named = create(FileSchema, { sha256, size: BigInt(file.size), name });
      // CHAT-FILE-21
      this.out.send(target, `${name} (${sizeText(file.size)})`, [named]);
    };
    this.uploads = this.uploads.then(this.job(`↑ ${file.name}`, run));
  }

  /** Fetches a file, and hands it over when it is whole and checked. */
  private fetch(file: Named, bytesMax: number, use: (whole: Blob) => Promise<void>): void {
    const card = this.card(file);
    const size = Number(file.size);
    if (size > bytesMax)
      card.why = `it is longer than the ${sizeText(bytesMax)} that this page can hold; chat-client can save it`;
    else if (this.jobs.size >= JOBS_MAX) card.why = `${JOBS_MAX} files are on their way already`;
    else {
      card.why = "";
      card.isBusy = true;
      const run = async (progress: Progress, signal: AbortSignal) => {
        try {
          await use(await this.transfers.download(file.sha256.slice(), size, progress, signal));
        } finally {
          card.isBusy = false;
          this.fill(file, card);
        }
      };
      this.downloads = this.downloads.then(this.job(`↓ ${file.name}`, run));
    }
    this.fill(file, card);
  }

  private save(file: Named, whole: Blob): void {
    // Not a type that a browser would open.
    const blob = new Blob([whole], { type: "application/octet-stream" });
    URL.revokeObjectURL(this.saved);
    const address = URL.createObjectURL(blob);
    this.saved = address;
    const link = document.createElement("a");
    link.href = address;
    link.download = savedName(file.name);
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), SAVE_MS_MAX);
  }

  private async show(file: Named, whole: Blob): Promise<void> {
    const found = typeOf(new Uint8Array(await whole.arrayBuffer()));
    if ("why" in found) throw new Error(found.why);
    const card = this.card(file);
    card.picture = URL.createObjectURL(new Blob([whole], { type: found.type }));
    this.shown.push(file);
    const oldest = this.shown.length > PICTURES_MAX ? this.shown.shift() : undefined;
    if (oldest) this.hide(oldest);
  }

  private hide(file: Named): void {
    const card = this.card(file);
    URL.revokeObjectURL(card.picture);
    card.picture = "";
    this.shown = this.shown.filter((it) => it !== file);
    this.fill(file, card);
  }

  private card(file: Named): Card {
    let card = this.cards.get(file);
    if (!card) {
      card = { element: element("div", "file"), picture: "", why: "", isBusy: false };
      this.cards.set(file, card);
      this.fill(file, card);
    }
    return card;
  }

  private fill(file: Named, card: Card): void {
    const label = plain(file.name);
    const size = Number(file.size);
    const name = element("bdi", "file-name", label);
    const button = (text: string, act: () => void) => {
      const made = element("button", "", text);
      made.type = "button";
      made.ariaLabel = `${text} ${label}`;
      made.disabled = card.isBusy;
      made.onclick = act;
      return made;
    };
    const parts: HTMLElement[] = [name, element("span", "size", sizeText(size))];
    const save = async (whole: Blob) => this.save(file, whole);
    parts.push(button("Save", () => this.fetch(file, FETCH_BYTES_MAX, save)));
    if (card.picture !== "") parts.push(button("Hide", () => this.hide(file)));
    else if (isPictureName(file.name) && size <= PICTURE_BYTES_MAX)
      parts.push(
        button("Show", () =>
          this.fetch(file, PICTURE_BYTES_MAX, (whole) => this.show(file, whole)),
        ),
      );
    if (card.why !== "") parts.push(element("span", "why", plain(card.why)));
    if (card.picture !== "") {
      const picture = document.createElement("img");
      picture.alt = label;
      picture.src = card.picture;
      picture.onerror = () => {
        card.why = "this picture cannot be shown";
        this.hide(file);
      };
      parts.push(picture);
    }
    const focused = [...card.element.children].indexOf(document.activeElement as Element);
    card.element.replaceChildren(...parts);
    if (focused >= 0) (card.element.children[focused] as HTMLElement | undefined)?.focus();
  }

  /** A transfer with its row on the shelf. */
  private job(
    title: string,
    run: (progress: Progress, signal: AbortSignal) => Promise<void>,
  ): () => Promise<void> {
    const job = new AbortController();
    this.jobs.add(job);
    const row = element("div", "transfer");
    const label = plain(title);
    const bar = document.createElement("progress");
    bar.ariaLabel = label;
    const amount = element("span", "amount", "waits");
    const cancel = element("button", "", "Cancel");
    cancel.type = "button";
    cancel.ariaLabel = `Cancel ${label}`;
    cancel.onclick = () => job.abort(new Error(CANCELLED));
    row.append(element("bdi", "file-name", label), bar, amount, cancel);
    this.shelf.append(row);
    return async () => {
      const progress = (bytes: number, of: number) => {
        bar.max = of;
        bar.value = bytes;
        amount.textContent = `${sizeText(bytes)} of ${sizeText(of)}`;
      };
      try {
        amount.textContent = "";
        job.signal.throwIfAborted();
        await run(progress, job.signal);
        row.remove();
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        if (why === CANCELLED) return row.remove();
        bar.remove();
        amount.textContent = `not done: ${why}`;
        row.classList.add("failed");
        cancel.textContent = "Close";
        cancel.ariaLabel = `Close ${label}`;
        cancel.onclick = () => row.remove();
        setTimeout(() => row.remove(), FAILED_MS);
      } finally {
        this.jobs.delete(job);
      }
    };
  }
}
