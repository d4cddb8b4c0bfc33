// Frames on a stream of bytes: a length in base 128, then an envelope (CHAT-FRAME).

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ClientEnvelopeSchema,
  ServerEnvelopeSchema,
  type ClientEnvelope,
  type ServerEnvelope,
} from "./generated/chat_pb.js";

// The longest envelope that this page takes from any server, in bytes.
const ENVELOPE_BYTES_MAX = 1 << 20;

export type ToServer = Exclude<ClientEnvelope["message"], { case: undefined }>;

export function encode(message: ToServer): Uint8Array<ArrayBuffer> {
  const body = toBinary(
    ClientEnvelopeSchema,
    create(ClientEnvelopeSchema, { message }),
  );
  const length: number[] = [];
  let rest = body.length;
  for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128);
  length.push(rest);
  const frame = new Uint8Array(length.length + body.length);
  frame.set(length);
  frame.set(body, length.length);
  return frame;
}

/** Puts the bytes of messages together, whose borders mean nothing (CHAT-WS-2). */
export class Decoder {
  private bytes = new Uint8Array(0);

  /**
   * The envelopes that are whole now. Throws on bytes that are no frames, after which
   * the connection must be closed (CHAT-FRAME-11).
   */
  push(more: Uint8Array): ServerEnvelope[] {
    const bytes = new Uint8Array(this.bytes.length + more.length);
    bytes.set(this.bytes);
    bytes.set(more, this.bytes.length);
    const envelopes: ServerEnvelope[] = [];
    let from = 0;
    for (;;) {
      let length = 0;
      let at = from;
      let shift = 1;
      let byte: number | undefined = 128;
      while (byte >= 128) {
        byte = bytes[at];
        if (byte === undefined) break;
        at += 1;
        length += (byte & 127) * shift;
        shift *= 128;
        // CHAT-FRAME-14
        if (length > ENVELOPE_BYTES_MAX || at - from > 10) throw new Error("no frame");
      }
      if (byte === undefined || at + length > bytes.length) break;
      envelopes.push(
        fromBinary(ServerEnvelopeSchema, bytes.subarray(at, at + length)),
      );
      from = at + length;
    }
    this.bytes = bytes.slice(from);
    return envelopes;
  }
}
