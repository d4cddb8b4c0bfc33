// SHA-256 (FIPS 180-4) of bytes that come piece by piece. What browsers have takes a whole
// file at once, and not over plain http.

const BLOCK_BYTES = 64;

/** The first 32 bits of the fractional parts of the roots of the first primes. */
function fractions(count: number, root: (prime: number) => number): Uint32Array {
  const primes: number[] = [];
  for (let it = 2; primes.length < count; it++)
    if (primes.every((prime) => it % prime !== 0)) primes.push(it);
  return Uint32Array.from(primes, (prime) => (root(prime) % 1) * 2 ** 32);
}

const START = fractions(8, Math.sqrt);
const K = fractions(64, Math.cbrt);

export class Sha256 {
  private readonly state = START.slice();
  private readonly words = new Uint32Array(64);
  private readonly rest = new Uint8Array(BLOCK_BYTES);
  private restBytes = 0;
  private bytes = 0;

  update(data: Uint8Array): void {
    this.bytes += data.length;
    let from = 0;
    if (this.restBytes > 0) {
      from = Math.min(BLOCK_BYTES - this.restBytes, data.length);
      this.rest.set(data.subarray(0, from), this.restBytes);
      this.restBytes += from;
      if (this.restBytes < BLOCK_BYTES) return;
      this.block(this.rest, 0);
      this.restBytes = 0;
    }
    for (; from + BLOCK_BYTES <= data.length; from += BLOCK_BYTES) this.block(data, from);
    this.rest.set(data.subarray(from));
    this.restBytes = data.length - from;
  }

  /** The hash of all; nothing can be added to it. */
  digest(): Uint8Array<ArrayBuffer> {
    const { bytes } = this;
    // One bit, zeros, and the length in bits at the end of a block.
    const zeros = (2 * BLOCK_BYTES - 9 - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
    const end = new Uint8Array(1 + zeros + 8);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(1 + zeros, Math.floor(bytes / 2 ** 29));
    view.setUint32(5 + zeros, bytes * 8);
    this.update(end);
    const hash = new DataView(new ArrayBuffer(32));
    this.state.forEach((word, index) => hash.setUint32(4 * index, word));
    return new Uint8Array(hash.buffer);
  }

  private block(data: Uint8Array, from: number): void {
    const { state, words: w } = this;
    for (let t = 0; t < 16; t++) {
      const at = from + 4 * t;
      w[t] =
        (data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!;
    }
    for (let t = 16; t < 64; t++) {
      const x = w[t - 15]!;
      const y = w[t - 2]!;
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[t] = (w[t - 16]! + s0 + w[t - 7]! + s1) | 0;
    }
    let a = state[0]! | 0;
    let b = state[1]! | 0;
    let c = state[2]! | 0;
    let d = state[3]! | 0;
    let e = state[4]! | 0;
    let f = state[5]! | 0;
    let g = state[6]! | 0;
    let h = state[7]! | 0;
    for (let t = 0; t < 64; t++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const one = (h + s1 + ((e & f) ^ (~e & g)) + K[t]! + w[t]!) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + one) | 0;
      d = c;
      c = b;
      b = a;
      a = (one + two) | 0;
    }
    state[0]! += a;
    state[1]! += b;
    state[2]! += c;
    state[3]! += d;
    state[4]! += e;
    state[5]! += f;
    state[6]! += g;
    state[7]! += h;
  }
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
