// Sentences for what a server says in codes.

import { plain } from "./text.js";
import { ErrorCode, LeftReason, type Error as Refusal } from "./generated/chat_pb.js";

/** Why a session is over, for the codes behind which only a person can help. */
export const ENDED: Partial<Record<ErrorCode, string>> = {
  [ErrorCode.NAME_INVALID]:
    "This name is not allowed. Choose 1 to 32 characters from A-Z, a-z, 0-9, '.', '_' and '-' that begin with a letter or a digit.",
  [ErrorCode.NAME_RESERVED]: "This name is reserved. Choose another.",
  [ErrorCode.NAME_IN_USE]: "This name is taken. Choose another.",
  [ErrorCode.NAME_NOT_ALLOWED]: "This name is not on the server's list.",
  [ErrorCode.NAME_OWNED]:
    "This name belongs to somebody with a key, which this page cannot have. Choose another.",
  [ErrorCode.NAME_RECLAIMED]:
    "Another client took this name while this one could not be reached.",
  [ErrorCode.KICKED]: "The server's operator has thrown you out.",
  [ErrorCode.BANNED]: "The server's operator has banned this name or this network.",
  [ErrorCode.REPLACED]: "Another connection continues this session.",
  [ErrorCode.PASSWORD_WRONG]: "The server asks for a password, or for another one.",
};

export const LEFT: Partial<Record<LeftReason, string>> = {
  [LeftReason.CONNECTION_LOST]: "connection lost",
  [LeftReason.IDLE_TIMEOUT]: "silent for too long",
  [LeftReason.SLOW_CONSUMER]: "read too slowly",
  [LeftReason.PROTOCOL_ERROR]: "broke the protocol",
  [LeftReason.KICKED]: "thrown out by the operator",
  [LeftReason.BANNED]: "banned by the operator",
};

const REFUSED: Partial<Record<ErrorCode, string>> = {
  [ErrorCode.NOT_REACHABLE]: "nobody of this name takes direct messages here now",
  [ErrorCode.TEXT_TOO_LONG]: "it is too long for the server, write less",
  [ErrorCode.RATE_LIMITED]: "the server takes no more for now, try again later",
};

// The longest part of a server's detail that is shown, in characters.
const DETAIL_CHARS_MAX = 300;

/** Why the server refused something, in words that are safe to show. */
export function refusal({ code, detail, sha256 }: Refusal): string {
  // CHAT-CLUS-2
  if (code === ErrorCode.NOT_REACHABLE && sha256.length > 0)
    return "another server of the room has it and cannot be reached now, try again later";
  const known = REFUSED[code];
  if (known !== undefined) return known;
  return plain(detail.slice(0, DETAIL_CHARS_MAX)) || "the server did not say why";
}
