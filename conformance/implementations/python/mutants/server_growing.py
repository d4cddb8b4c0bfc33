"""Servers that break a rule of CHAT-LIM or CHAT-GROW."""

import asyncio

from google.protobuf.unknown_fields import UnknownFieldSet

import room as room_module
from connection import Connection
from framing import Refused
from mutants.server_parts import mutant
from room import Room
from schema import chat_pb2 as pb

# Limits.


@mutant("limits-missing", "CHAT-LIM-1", "announces no limits")
class LimitsMissing(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.ClearField("limits")
        return registered


@mutant("limits-half", "CHAT-LIM-1", "announces no deadlines")
class LimitsHalf(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        for field in ("register_deadline_ms", "idle_deadline_ms", "write_deadline_ms"):
            registered.limits.ClearField(field)
        return registered


@mutant("limits-of-files", "CHAT-LIM-1", "announces limits of files and grants none")
class LimitsOfFiles(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.limits.file_bytes_max = 1 << 20
        return registered


@mutant("limits-of-history", "CHAT-LIM-1", "announces the size of a page and has no past")
class LimitsOfHistory(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.limits.history_page_max = 100
        return registered


@mutant("burst-one-short", "CHAT-LIM-2", "accepts one chat less at once than it announces")
class BurstOneShort(Room):
    def charge(self, session):
        cost_ms = self.limits.chat_interval_ms
        super().charge(session)
        if session.chat_credit_ms < cost_ms:
            session.chat_credit_ms += cost_ms
            raise Refused(pb.ERROR_CODE_RATE_LIMITED, "Too many chats.", retry_after_ms=cost_ms)


@mutant("credit-never-grows", "CHAT-LIM-2", "accepts nothing more after the first burst")
class CreditNeverGrows(Room):
    def charge(self, session):
        session.chat_credit_at_ms = self.now_ms()
        super().charge(session)


@mutant("refusals-make-debt", "CHAT-LIM-2", "charges refused chats even without a token")
class RefusalsMakeDebt(Room):
    def charge(self, session):
        try:
            super().charge(session)
        except Refused:
            session.chat_credit_ms -= self.limits.chat_interval_ms
            raise


@mutant("rate-refusal-silent", "CHAT-LIM-3", "drops a chat above the rate without an answer")
class RateRefusalSilent(Room):
    def refuse(self, session, refused, reason=None):
        if refused.code != pb.ERROR_CODE_RATE_LIMITED:
            super().refuse(session, refused, reason)


@mutant("retry-after-missing", "CHAT-LIM-3", "does not set retry_after_ms")
class RetryAfterMissing(Room):
    def make_error(self, refused, ends_session):
        refused.retry_after_ms = 0
        return super().make_error(refused, ends_session)


@mutant(
    "slow-reader-holds-all", "CHAT-LIM-4", "stops reading from all clients while one does not read"
)
class SlowReaderHoldsAll(Connection):
    async def wait_for_slow_readers(self):
        while any(member.lag_bytes > 0 for member in self.room.members.values()):
            await asyncio.sleep(0.005)


@mutant("flood-dropped", "CHAT-LIM-9", "drops the frames above the limit on frames")
class FloodDropped(Room):
    def receive(self, session, body):
        session.frames = getattr(session, "frames", 0) + 1
        if session.frames <= 10 * self.limits.frames_per_second_max:
            super().receive(session, body)


@mutant("frame-bound-too-small", "CHAT-LIM-7", "announces frames of text_bytes_max + 255 bytes")
class FrameBoundTooSmall(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.limits.frame_bytes_max = self.limits.text_bytes_max + 255
        return registered


# Growing.


@mutant("unknown-ends-session", "CHAT-GROW-1", "closes after an unknown message")
class UnknownEndsSession(Room):
    def refuse(self, session, refused, reason=None):
        if refused.code == pb.ERROR_CODE_UNKNOWN_MESSAGE:
            session.reply(error=self.make_error(refused, True))
            self.end(session, pb.LEFT_REASON_PROTOCOL_ERROR)
        else:
            super().refuse(session, refused, reason)


@mutant("unknown-ignored", "CHAT-GROW-1", "does not answer an unknown message")
class UnknownIgnored(Room):
    def receive_from_member(self, session, envelope):
        if len(UnknownFieldSet(envelope)) == 0 or envelope.WhichOneof("message"):
            super().receive_from_member(session, envelope)


@mutant("empty-ignored", "CHAT-GROW-1", "does not answer an empty envelope")
class EmptyIgnored(Room):
    def receive_from_member(self, session, envelope):
        if envelope.ByteSize() > 0:
            super().receive_from_member(session, envelope)


@mutant("unknown-fields-refused", "CHAT-GROW-3", "refuses a message with an unknown field")
class UnknownFieldsRefused(Room):
    def parse(self, body):
        envelope = super().parse(body)
        message = envelope.WhichOneof("message")
        if message is not None:
            unknown = len(UnknownFieldSet(envelope)) + len(
                UnknownFieldSet(getattr(envelope, message))
            )
            if unknown > 0:
                raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "There is an unknown field.")
        return envelope


@mutant(
    "unknown-capability-refused", "CHAT-GROW-4", "refuses a Register with an unknown capability"
)
class UnknownCapabilityRefused(Room):
    def admit(self, session, register):
        if not set(register.capabilities) <= set(room_module.CAPABILITIES):
            raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "There is an unknown capability.")
        super().admit(session, register)


@mutant("unknown-capability-granted", "CHAT-GROW-4", "grants unknown capabilities")
class UnknownCapabilityGranted(Room):
    def grant(self, asked):
        return set(asked)


@mutant("capability-granted-twice", "CHAT-GROW-4", "grants a capability as often as it is named")
class CapabilityGrantedTwice(Room):
    def grant(self, asked):
        self.asked = [capability for capability in asked if capability in room_module.CAPABILITIES]
        return super().grant(asked)

    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.capabilities[:] = self.asked
        return registered


@mutant("ungranted-answered", "CHAT-GROW-6", "answers the Ping of a member without keepalive")
class UngrantedAnswered(Room):
    def need(self, session, capability):
        pass


@mutant("ungranted-ignored", "CHAT-GROW-6", "ignores the Ping of a member without keepalive")
class UngrantedIgnored(Room):
    def refuse(self, session, refused, reason=None):
        if refused.code != pb.ERROR_CODE_NOT_GRANTED:
            super().refuse(session, refused, reason)


@mutant(
    "ungranted-ends-session", "CHAT-GROW-6", "closes after the Ping of a member without keepalive"
)
class UngrantedEndsSession(Room):
    def need(self, session, capability):
        if not session.has(capability):
            raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "This was not granted.")


@mutant("presence-to-all", "CHAT-GROW-7", "sends Joined and Left to members without presence")
class PresenceToAll(Room):
    def announce(self, member, **event):
        self.broadcast(self.others(member), **event)


@mutant("members-to-all", "CHAT-GROW-7", "sends Members to members without presence")
class MembersToAll(Room):
    def admit(self, session, register):
        super().admit(session, register)
        if not session.has(pb.CAPABILITY_PRESENCE):
            self.send_members(session)


@mutant("receipts-to-all", "CHAT-GROW-7", "sends Receipts to members without receipts")
class ReceiptsToAll(Room):
    def send_receipt(self, session, chat, numbered):
        receipt = pb.Receipt(id=chat.id, seq=numbered.seq, time_unix_ms=numbered.time_unix_ms)
        session.reply(receipt=receipt)


@mutant("ping-to-all", "CHAT-GROW-7", "pings members without keepalive")
class PingToAll(Connection):
    def watch_silence_if_granted(self):
        super().watch_silence_if_granted()
        if self.silence_watch is None and self.session.is_member():
            self.silence_watch = asyncio.create_task(self.ping_always())

    async def ping_always(self):
        while not self.session.over:
            await asyncio.sleep(self.room.limits.keepalive_interval_ms / 1000)
            self.room.ping(self.session, 1)


@mutant("unknown-fields-relayed", "CHAT-GROW-9", "relays the unknown fields of a chat")
class UnknownFieldsRelayed(Room):
    def make_chat(self, session, chat):
        numbered = pb.Chat()
        numbered.CopyFrom(chat)
        numbered.MergeFrom(super().make_chat(session, chat))
        numbered.id = 0
        return numbered


@mutant("field-of-its-own", "CHAT-GROW-9", "sends a field in Registered that the schema lacks")
class FieldOfItsOwn(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        # Field 100, a string.
        registered.MergeFromString(b"\xa2\x06\x04beta")
        return registered


@mutant("code-of-its-own", "CHAT-GROW-9", "sends an error code that the schema lacks")
class CodeOfItsOwn(Room):
    def make_error(self, refused, ends_session):
        error = super().make_error(refused, ends_session)
        error.code = 4_000 + error.code
        return error


@mutant("message-of-its-own", "CHAT-GROW-9", "sends a message that the schema lacks")
class MessageOfItsOwn(Room):
    def admit(self, session, register):
        super().admit(session, register)
        # Arm 100, empty.
        session.send_event(b"\x03\xa2\x06\x00")


@mutant("empty-envelope-sent", "CHAT-GROW-9", "sends an empty envelope as a sign of life")
class EmptyEnvelopeSent(Room):
    def admit(self, session, register):
        super().admit(session, register)
        session.send_event(b"\x00")
