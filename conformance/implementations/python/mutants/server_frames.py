"""Servers that break a rule of CHAT-FRAME."""

import room as room_module
from connection import Connection
from framing import FrameReader, Refused, encode_length
from mutants.server_parts import body_of, mutant
from room import Room
from schema import chat_pb2 as pb
from session import Session


@mutant("big-endian-length", "CHAT-FRAME-1", "lengths are four bytes, the highest first")
class BigEndianLength(Session):
    def _append(self, frame, from_room):
        body = body_of(frame)
        super()._append(len(body).to_bytes(4, "big") + body, from_room)


@mutant("padded-frames", "CHAT-FRAME-1", "a byte of zero stands between frames")
class PaddedFrames(Session):
    def _append(self, frame, from_room):
        super()._append(frame + b"\x00", from_room)


@mutant("long-form-length", "CHAT-FRAME-2", "lengths take one byte more than they need")
class LongFormLength(Session):
    def _append(self, frame, from_room):
        body = body_of(frame)
        prefix = bytearray(encode_length(len(body)))
        prefix[-1] += 128
        super()._append(bytes(prefix) + b"\x00" + body, from_room)


@mutant("endless-length-awaited", "CHAT-FRAME-4", "waits for the last byte of a length for ever")
class EndlessLengthAwaited(FrameReader):
    def _decode_length(self):
        if len(self._bytes) >= 10 and min(self._bytes[:10]) > 127:
            return None, 0
        return super()._decode_length()


@mutant("length-wraps", "CHAT-FRAME-4", "takes a length modulo 2^64")
class LengthWraps(FrameReader):
    def _decode_length(self):
        if len(self._bytes) >= 10 and min(self._bytes[:9]) > 127 and 1 < self._bytes[9] < 128:
            self._bytes[9] %= 2
        return super()._decode_length()


@mutant(
    "length-checked-after-body", "CHAT-FRAME-5", "checks a length only when the body is complete"
)
class LengthCheckedAfterBody(FrameReader):
    def next_body(self, bytes_max):
        length, prefix_bytes = self._decode_length()
        if length is not None and len(self._bytes) < prefix_bytes + length:
            return None
        return super().next_body(bytes_max)


@mutant("reg-bound-missing", "CHAT-FRAME-6", "accepts frames above 1,024 bytes before Register")
class RegBoundMissing(Room):
    def frame_bytes_max(self, session):
        return self.limits.frame_bytes_max


@mutant("reg-bound-stays", "CHAT-FRAME-6", "applies the bound of 1,024 bytes after Register, too")
class RegBoundStays(Room):
    def frame_bytes_max(self, session):
        return room_module.UNREGISTERED_FRAME_BYTES_MAX


@mutant("one-frame-a-read", "CHAT-FRAME-7", "drops the bytes behind a frame in the same read")
class OneFrameARead(Connection):
    def note_activity(self, body):
        super().note_activity(body)
        self.frames._bytes.clear()


@mutant("cut-frame-dropped", "CHAT-FRAME-7", "drops a frame that arrives in several reads")
class CutFrameDropped(Connection):
    async def take(self, data):
        await super().take(data)
        self.frames._bytes.clear()


@mutant("cut-length-refused", "CHAT-FRAME-7", "refuses a length that arrives in several reads")
class CutLengthRefused(FrameReader):
    def next_body(self, bytes_max):
        if self._bytes and self._decode_length() == (None, 0):
            raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "The length is cut.")
        return super().next_body(bytes_max)


@mutant("unparsable-ignored", "CHAT-FRAME-8", "continues after a body that does not parse")
class UnparsableIgnored(Room):
    def receive(self, session, body):
        try:
            self.parse(body)
        except Refused:
            return
        super().receive(session, body)


@mutant("invalid-utf8-replaced", "CHAT-FRAME-8", "reads bytes that are not UTF-8 as '?'")
class InvalidUtf8Replaced(Room):
    def parse(self, body):
        try:
            return super().parse(body)
        except Refused:
            return super().parse(bytes(byte if byte < 128 else ord("?") for byte in body))


@mutant(
    "cut-frame-acted-on", "CHAT-FRAME-9", "acts on a frame that the end of the stream cut short"
)
class CutFrameActedOn(Connection):
    def end_of_stream(self):
        if self.session.is_member() and self.frames.inside_frame():
            rest = body_of(bytes(self.frames._bytes) + b"\x00")[:-1]
            try:
                envelope = pb.ClientEnvelope.FromString(rest)
            except Exception:
                # Four bytes of tags and lengths, then the start of the text.
                text = rest[4:].decode(errors="replace")
                envelope = pb.ClientEnvelope(chat=pb.Chat(text=text))
            self.room.receive(self.session, envelope.SerializeToString())
        super().end_of_stream()


@mutant(
    "cut-stream-unanswered", "CHAT-FRAME-10", "closes without an error when a frame is cut short"
)
class CutStreamUnanswered(Room):
    def end_of_stream(self, session, inside_frame):
        super().end_of_stream(session, False)


@mutant("error-above-bound", "CHAT-FRAME-12", "the detail of an error is as long as a frame may be")
class ErrorAboveBound(Room):
    def make_error(self, refused, ends_session):
        error = super().make_error(refused, ends_session)
        error.detail += " " * self.limits.frame_bytes_max
        return error
