"""Servers with the mistakes of a tired implementer: units, edges, and what is folded, cut
or counted one step too early."""

import math
import socket
import struct
import time

from connection import Connection
from framing import LENGTH_BYTES_MAX, FrameReader, Refused
from mutants.server_parts import later, mutant
from room import NAME, Room
from schema import chat_pb2 as pb

# Times.


@mutant("time-in-seconds", "CHAT-CHAT-5", "sets time_unix_ms in seconds")
class TimeInSeconds(Room):
    def now_unix_ms(self):
        return int(time.time())


@mutant("time-since-start", "CHAT-CHAT-5", "counts time_unix_ms from the start of the machine")
class TimeSinceStart(Room):
    def now_unix_ms(self):
        return int(time.monotonic() * 1000)


@mutant("register-deadline-late", "CHAT-REG-5", "ends silent connections half as late again")
class RegisterDeadlineLate(Room):
    def register_deadline_passed(self, session):
        late = self.limits.register_deadline_ms / 2000
        later(late, super().register_deadline_passed, session)


class NotingBytes(Connection):
    async def take(self, data):
        self.session.last_byte_at_ms = self.room.now_ms()
        await super().take(data)


@mutant("register-deadline-from-each-byte", "CHAT-REG-5", "counts the deadline from each byte")
class RegisterDeadlineFromEachByte(Room):
    connection_class = NotingBytes

    def register_deadline_passed(self, session):
        last = getattr(session, "last_byte_at_ms", -math.inf)
        left_ms = last + self.limits.register_deadline_ms - self.now_ms()
        if left_ms > 0:
            later(left_ms / 1000, self.register_deadline_passed, session)
        else:
            super().register_deadline_passed(session)


@mutant("idle-deadline-late", "CHAT-KEEP-4", "ends silent sessions half as late again")
class IdleDeadlineLate(Room):
    def idle_deadline_passed(self, session):
        silence_ms = self.now_ms() - session.last_frame_at_ms
        if silence_ms >= 1.5 * self.limits.idle_deadline_ms:
            super().idle_deadline_passed(session)


# Texts.


@mutant("text-mark-stripped", "CHAT-CHAT-3", "removes a byte order mark from the start of a text")
class TextMarkStripped(Room):
    def make_chat(self, session, chat):
        numbered = super().make_chat(session, chat)
        numbered.text = chat.text.removeprefix("\ufeff") or chat.text
        return numbered


@mutant("noncharacters-refused", "CHAT-CHAT-10", "refuses a text with a noncharacter of Unicode")
class NoncharactersRefused(Room):
    def check_text(self, text):
        super().check_text(text)
        if any(ord(c) & 0xFFFE == 0xFFFE or "\ufdd0" <= c <= "\ufdef" for c in text):
            raise Refused(pb.ERROR_CODE_TEXT_INVALID, "There is a noncharacter.")


@mutant("form-feed-allowed", "CHAT-CHAT-6", "allows vertical tab and form feed")
class FormFeedAllowed(Room):
    def check_text(self, text):
        super().check_text(text.replace("\v", "?").replace("\f", "?"))


@mutant("shift-allowed", "CHAT-CHAT-6", "allows U+000E, U+000F and U+0086 to U+0097")
class ShiftAllowed(Room):
    def check_text(self, text):
        allowed = [0x0E, 0x0F, *range(0x86, 0x98)]
        super().check_text(text.translate({code: "?" for code in allowed}))


@mutant("astral-replaced", "CHAT-CHAT-3", "keeps texts in 16 bits a character")
class AstralReplaced(Room):
    def make_chat(self, session, chat):
        numbered = super().make_chat(session, chat)
        numbered.text = "".join(c if c <= "\uffff" else "?" for c in chat.text)
        return numbered


# Names.


@mutant("name-folded-first", "CHAT-NAME-1", "folds the letters of all scripts, then checks a name")
class NameFoldedFirst(Room):
    def check_name(self, name):
        folded = name.casefold().replace("\u0131", "i")
        super().check_name(folded if NAME.fullmatch(folded) else name)


@mutant("name-taken-on-an-old-ping", "CHAT-NAME-8", "counts any Ping for the check of a holder")
class NameTakenOnAnOldPing(Room):
    def ping(self, session, token):
        if getattr(session, "pinged_at_ms", -math.inf) <= session.last_frame_at_ms:
            session.pinged_at_ms = self.now_ms()
        super().ping(session, token)

    def check_holder(self, session, register):
        is_waiting = super().check_holder(session, register)
        if is_waiting:
            holder = session.waiting[1]
            holder.checked_at_ms = min(holder.checked_at_ms, holder.pinged_at_ms)
        return is_waiting


# Numbers.


@mutant("seq-restarts-when-empty", "CHAT-ORD-7", "begins the numbers anew when the room is empty")
class SeqRestartsWhenEmpty(Room):
    def end(self, session, reason):
        super().end(session, reason)
        if not self.members:
            self.seq = 0


class NotingConnection(Connection):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.session.seq_at_connect = self.room.seq


@mutant("registered-seq-of-connect", "CHAT-ORD-6", "takes Registered.seq when a client connects")
class RegisteredSeqOfConnect(Room):
    connection_class = NotingConnection

    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.seq = session.seq_at_connect
        return registered


# The rate.


@mutant("rate-refusal-delivered", "CHAT-CHAT-8", "refuses a chat above the rate and delivers it")
class RateRefusalDelivered(Room):
    def receive_chat(self, session, chat):
        try:
            super().receive_chat(session, chat)
        except Refused as refused:
            if refused.code == pb.ERROR_CODE_RATE_LIMITED:
                self.accept(session, chat)
            raise


@mutant("rate-refusal-numbered", "CHAT-CHAT-8", "gives a number to a chat above the rate")
class RateRefusalNumbered(Room):
    def receive_chat(self, session, chat):
        try:
            super().receive_chat(session, chat)
        except Refused as refused:
            if refused.code == pb.ERROR_CODE_RATE_LIMITED:
                self.seq += 1
            raise


@mutant("credit-grows-to-ten", "CHAT-LIM-2", "gives back ten tokens of a burst at the most")
class CreditGrowsToTen(Room):
    def charge(self, session):
        ten_ms = 10 * self.limits.chat_interval_ms
        gained_ms = self.now_ms() - session.chat_credit_at_ms
        if session.chat_credit_ms + gained_ms > ten_ms and gained_ms > ten_ms:
            session.chat_credit_ms = max(session.chat_credit_ms, ten_ms)
            session.chat_credit_at_ms = self.now_ms()
        super().charge(session)


@mutant(
    "rate-refusal-silent-without-receipts",
    "CHAT-LIM-3",
    "drops a chat above the rate in silence where no receipts were asked for",
)
class RateRefusalSilentWithoutReceipts(Room):
    def refuse(self, session, refused, reason=None):
        is_rate = refused.code == pb.ERROR_CODE_RATE_LIMITED
        if not is_rate or session.has(pb.CAPABILITY_RECEIPTS):
            super().refuse(session, refused, reason)


# Bytes and bits.


@mutant("capability-cut-to-a-byte", "CHAT-GROW-4", "looks at the low byte of a capability")
class CapabilityCutToAByte(Room):
    def grant(self, asked):
        return super().grant([capability & 0xFF for capability in asked])


@mutant(
    "invalid-utf8-in-unused", "CHAT-FRAME-8", "does not check the strings that it does not use"
)
class InvalidUtf8InUnused(Room):
    def parse(self, body):
        try:
            return super().parse(body)
        except Refused:
            # The last byte of the cases about fields that this server does not read.
            if body[-1:] != b"\xff" or body[-3:-2] not in (b"\x12", b"\x1a"):
                raise
            return super().parse(body[:-1] + b"?")


@mutant("invalid-utf8-in-topics", "CHAT-FRAME-8", "does not check topics, mentions and file names")
class InvalidUtf8InTopics(Room):
    def parse(self, body):
        try:
            return super().parse(body)
        except Refused:
            # The tags behind the text of a chat in the case about these fields.
            if body[-1:] != b"\xff" or body[5:6] not in (b"\x32", b"\x3a", b"\x42"):
                raise
            return super().parse(body[:-1] + b"?")


@mutant("negative-capability-refused", "CHAT-GROW-4", "takes a negative capability for a mistake")
class NegativeCapabilityRefused(Room):
    def grant(self, asked):
        if any(capability < 0 for capability in asked):
            raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "A capability is negative.")
        return super().grant(asked)


@mutant("name-echoed", "CHAT-FRAME-12", "repeats a bad name in the error, however long it is")
class NameEchoed(Room):
    def check_name(self, name):
        try:
            super().check_name(name)
        except Refused as refused:
            refused.detail = f"{name} is no name; choose another one."
            raise


@mutant("text-echoed", "CHAT-FRAME-12", "repeats a text that is too long in the error")
class TextEchoed(Room):
    def check_text(self, text):
        try:
            super().check_text(text)
        except Refused as refused:
            refused.detail = f"The text {text!r} is no text; send another one."
            raise


# Endings.


class Hasty(Connection):
    """Breaks the connection off as soon as everything is handed to the system."""

    async def linger(self, reading):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@mutant("leave-resets", "CHAT-LEAVE-2", "resets the connection once the queue is written")
class LeaveResets(Hasty):
    pass


@mutant("end-of-stream-resets", "CHAT-LEAVE-5", "resets the connection once the queue is written")
class EndOfStreamResets(Hasty):
    pass


@mutant("leave-drops-backlog", "CHAT-LEAVE-2", "drops what the system does not take at Leave")
class LeaveDropsBacklog(Room):
    def end(self, session, reason):
        if reason == pb.LEFT_REASON_LEAVE:
            session.drop_queue()
        super().end(session, reason)


@mutant("end-of-stream-drops-backlog", "CHAT-LEAVE-5", "takes a half-close for a lost connection")
class EndOfStreamDropsBacklog(Room):
    def end_of_stream(self, session, inside_frame):
        if session.is_member() and not inside_frame:
            session.drop_queue()
        super().end_of_stream(session, inside_frame)


@mutant("closing-drops-backlog", "CHAT-CLOSE-6", "sends the system's buffers alone at a shutdown")
class ClosingDropsBacklog(Room):
    def close(self, sessions):
        for session in sessions:
            session.drop_queue()
        super().close(sessions)


# Secrets.


@mutant("password-in-any-case", "CHAT-ADM-1", "does not look at the case of a password")
class PasswordInAnyCase(Room):
    def is_password_right(self, password):
        return password.casefold() == self.password.casefold()


@mutant(
    "password-before-session", "CHAT-ERR-5", "checks the password of a Register in an open session"
)
class PasswordBeforeSession(Room):
    def receive_from_member(self, session, envelope):
        if envelope.WhichOneof("message") == "register":
            self.check_password(envelope.register.password)
        super().receive_from_member(session, envelope)


@mutant("bound-per-read", "CHAT-FRAME-7", "holds all bytes of a read against the bound of a frame")
class BoundPerRead(FrameReader):
    def next_body(self, bytes_max):
        self.check_length(len(self._bytes) - LENGTH_BYTES_MAX, bytes_max)
        return super().next_body(bytes_max)


# Signs of life.


@mutant("bytes-are-signs-of-life", "CHAT-KEEP-4", "takes every byte for a sign of life")
class BytesAreSignsOfLife(Connection):
    async def take(self, data):
        self.last_frame_at = self.now()
        await super().take(data)


@mutant("pongs-are-signs-of-life", "CHAT-KEEP-4", "takes nothing but a Pong for a sign of life")
class PongsAreSignsOfLife(Connection):
    def note_activity(self, body):
        if not self.session.is_member() or pb.ClientEnvelope.FromString(body).HasField("pong"):
            super().note_activity(body)
