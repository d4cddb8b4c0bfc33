// Which numbers of the room have arrived: up to which one a session has everything.

// How many numbers may lie behind a hole. A hole is an own chat without its receipt, or one
// that a receipt has overtaken, so a right server causes few.
const BEYOND_MAX = 1_024;

export class Received {
  private last = 0n;
  private readonly beyond = new Set<bigint>();

  /** The number up to which every chat is here, or kept out by a filter (CHAT-RES-20). */
  get upTo(): bigint {
    return this.last;
  }

  /** A session begins behind this number. */
  begin(seq: bigint): void {
    this.last = seq;
    this.beyond.clear();
  }

  /** A chat, or the receipt for an own one. Whether it is new. */
  add(seq: bigint): boolean {
    if (seq <= this.last || this.beyond.has(seq)) return false;
    this.beyond.add(seq);
    this.absorb();
    // A wrong server: the lowest hole is given up.
    if (this.beyond.size > BEYOND_MAX)
      this.pass([...this.beyond].reduce((least, it) => (it < least ? it : least)));
    return true;
  }

  /** What a filter lets pass up to this number has arrived (CHAT-COV-6). */
  pass(seq: bigint): void {
    if (seq <= this.last) return;
    this.last = seq;
    for (const it of this.beyond) if (it <= seq) this.beyond.delete(it);
    this.absorb();
  }

  private absorb(): void {
    while (this.beyond.delete(this.last + 1n)) this.last += 1n;
  }
}
