// Frames: a length as a varint, then one envelope. The library's functions read a body
// before its length can be refused, so a server cuts frames itself.

export class Malformed extends Error {}
export class TooLong extends Error {}

const LENGTH_BYTES_MAX = 10;

/** Takes one body from the front of the bytes; undefined: it is not there yet. */
export function takeFrame(bytes: Buffer, bodyBytesMax: number): { body: Buffer; rest: Buffer } | undefined {
  let length = 0n;
  for (let i = 0; i < bytes.length; i++) {
    length |= BigInt(bytes[i]! & 0x7f) << BigInt(7 * i);
    if (length >= 1n << 64n) throw new Malformed("the length does not fit in 64 bits"); // CHAT-FRAME-4
    if (bytes[i]! < 0x80) {
      if (length > BigInt(bodyBytesMax)) throw new TooLong(); // CHAT-FRAME-5: before the body comes
      const end = i + 1 + Number(length);
      if (bytes.length < end) return undefined;
      return { body: bytes.subarray(i + 1, end), rest: bytes.subarray(end) };
    }
    if (i + 1 === LENGTH_BYTES_MAX) throw new Malformed("the length has no end"); // CHAT-FRAME-4
  }
  return undefined;
}
