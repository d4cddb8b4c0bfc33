"""Servers that break a rule of CHAT-PRES, CHAT-RCPT or CHAT-KEEP."""

import asyncio

from connection import Connection
from framing import Refused
from mutants.server_parts import MOMENT_SECONDS, HoldingSession, later, message_in, mutant
from room import Room
from schema import chat_pb2 as pb
from session import Session

# Presence.


@mutant("members-missing", "CHAT-PRES-1", "sends no Members")
class MembersMissing(Room):
    def send_members(self, session):
        pass


@mutant("members-after-chat", "CHAT-PRES-1", "sends Members a moment after Registered")
class MembersAfterChat(Room):
    def send_members(self, session):
        later(MOMENT_SECONDS, super().send_members, session)


@mutant("members-without-self", "CHAT-PRES-1", "leaves the new member out of Members")
class MembersWithoutSelf(Room):
    def send_members(self, session):
        names = [member.name for member in self.others(session)]
        session.reply(members=pb.Members(names=names))


@mutant("members-without-others", "CHAT-PRES-1", "lists only the new member in Members")
class MembersWithoutOthers(Room):
    def send_members(self, session):
        session.reply(members=pb.Members(names=[session.name]))


@mutant("members-never-last", "CHAT-PRES-1", "sets Members.more in the last Members")
class MembersNeverLast(Room):
    def send_members(self, session):
        names = [member.name for member in self.members.values()]
        session.reply(members=pb.Members(names=names, more=True))


@mutant("joined-missing", "CHAT-PRES-2", "sends no Joined")
class JoinedMissing(Room):
    def announce(self, member, **event):
        if "joined" not in event:
            super().announce(member, **event)


@mutant("joined-after-chat", "CHAT-PRES-2", "sends a Joined after the first Chat of that client")
class JoinedAfterChat(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.unannounced = {}

    def announce(self, member, **event):
        if "joined" in event:
            self.unannounced[member] = event
        else:
            self.announce_late(member)
            super().announce(member, **event)

    def announce_late(self, member):
        if member in self.unannounced:
            super().announce(member, **self.unannounced.pop(member))

    def accept(self, session, chat):
        super().accept(session, chat)
        self.announce_late(session)


@mutant("left-missing", "CHAT-PRES-3", "sends no Left")
class LeftMissing(Room):
    def announce(self, member, **event):
        if "left" not in event:
            super().announce(member, **event)


@mutant("left-late", "CHAT-PRES-3", "sends a Left after the next Joined of the same name")
class LeftLate(Room):
    def announce(self, member, **event):
        if "left" in event:
            later(2 * MOMENT_SECONDS, lambda: super(LeftLate, self).announce(member, **event))
        else:
            super().announce(member, **event)


@mutant("left-before-last-chat", "CHAT-PRES-3", "sends a Left before the last Chat of that member")
class LeftBeforeLastChat(HoldingSession):
    def send_event(self, frame):
        message = message_in(frame)
        if message == "left":
            super().send_event(frame)
            self.release()
        elif message == "chat":
            self.release()
            self.hold(frame)
        else:
            self.release()
            super().send_event(frame)


@mutant(
    "members-name-the-gone", "CHAT-PRES-4", "lists a member in a later Members that has left since"
)
class MembersNameTheGone(Room):
    def send_members(self, session):
        names = [member.name for member in self.members.values()]
        rest = pb.Members(names=names[:-1])
        if rest.names:
            session.reply(members=pb.Members(names=names[-1:], more=True))
            later(2 * MOMENT_SECONDS, lambda: session.reply(members=rest))
        else:
            super().send_members(session)


class WrongReasons(Room):
    """Sends a wrong reason."""

    def announce(self, member, **event):
        if "left" in event:
            event["left"].reason = self.instead.get(event["left"].reason, event["left"].reason)
        super().announce(member, **event)


@mutant("left-reason-always-leave", "CHAT-PRES-5", "sends LEAVE whatever ended the session")
class LeftReasonAlwaysLeave(WrongReasons):
    instead = dict.fromkeys(pb.LeftReason.values(), pb.LEFT_REASON_LEAVE)


@mutant(
    "left-reason-always-lost", "CHAT-PRES-5", "sends CONNECTION_LOST whatever ended the session"
)
class LeftReasonAlwaysLost(WrongReasons):
    instead = dict.fromkeys(pb.LeftReason.values(), pb.LEFT_REASON_CONNECTION_LOST)


@mutant("left-reason-missing", "CHAT-PRES-5", "sends a Left without a reason")
class LeftReasonMissing(WrongReasons):
    instead = dict.fromkeys(pb.LeftReason.values(), pb.LEFT_REASON_UNSPECIFIED)


@mutant("joined-to-self", "CHAT-PRES-6", "sends a member the Joined about itself")
class JoinedToSelf(Room):
    def announce(self, member, **event):
        super().announce(member, **event)
        if "joined" in event and member.has(pb.CAPABILITY_PRESENCE):
            self.broadcast([member], **event)


@mutant("left-to-self", "CHAT-PRES-6", "sends a member the Left about itself")
class LeftToSelf(Room):
    def announce(self, member, **event):
        super().announce(member, **event)
        if "left" in event and member.has(pb.CAPABILITY_PRESENCE):
            if event["left"].reason == pb.LEFT_REASON_LEAVE:
                self.broadcast([member], **event)


# Receipts.


@mutant("receipt-missing", "CHAT-RCPT-1", "sends no Receipt")
class ReceiptMissing(Room):
    def send_receipt(self, session, chat, numbered):
        pass


class WrongReceipts(Room):
    def send_receipt(self, session, chat, numbered):
        wrong = pb.Receipt(id=chat.id, seq=numbered.seq, time_unix_ms=numbered.time_unix_ms)
        self.spoil(wrong)
        if session.has(pb.CAPABILITY_RECEIPTS):
            session.reply(receipt=wrong)


@mutant("receipt-id-missing", "CHAT-RCPT-1", "sends a Receipt without the id of the chat")
class ReceiptIdMissing(WrongReceipts):
    def spoil(self, receipt):
        receipt.id = 0


@mutant("receipt-seq-wrong", "CHAT-RCPT-1", "puts the number of the next chat into a Receipt")
class ReceiptSeqWrong(WrongReceipts):
    def spoil(self, receipt):
        receipt.seq += 1


@mutant("receipts-late", "CHAT-RCPT-2", "an Error overtakes the Receipt of an earlier chat")
class ReceiptsLate(Room):
    def send_receipt(self, session, chat, numbered):
        later(MOMENT_SECONDS, super().send_receipt, session, chat, numbered)


@mutant("receipt-twice", "CHAT-RCPT-2", "sends each Receipt twice")
class ReceiptTwice(Room):
    def send_receipt(self, session, chat, numbered):
        super().send_receipt(session, chat, numbered)
        super().send_receipt(session, chat, numbered)


@mutant("receipt-time-differs", "CHAT-RCPT-3", "Receipt.time_unix_ms differs from that of the Chat")
class ReceiptTimeDiffers(WrongReceipts):
    def spoil(self, receipt):
        receipt.time_unix_ms += 1


# Keepalive.


@mutant("pong-missing", "CHAT-KEEP-1", "does not answer a Ping")
class PongMissing(Session):
    def reply(self, **message):
        if "pong" not in message:
            super().reply(**message)


@mutant("pong-token-missing", "CHAT-KEEP-1", "answers a Ping without its token")
class PongTokenMissing(Session):
    def reply(self, **message):
        super().reply(**({"pong": pb.Pong()} if "pong" in message else message))


@mutant("ping-missing", "CHAT-KEEP-3", "sends no Ping to a silent member")
class PingMissing(Room):
    def ping(self, session, token):
        pass


@mutant("idle-deadline-missing", "CHAT-KEEP-4", "never ends a silent session")
class IdleDeadlineMissing(Room):
    def idle_deadline_passed(self, session):
        pass


@mutant("idle-end-silent", "CHAT-KEEP-4", "ends a silent session without an error")
class IdleEndSilent(Room):
    def idle_deadline_passed(self, session):
        self.end(session, pb.LEFT_REASON_IDLE_TIMEOUT)


@mutant("stray-pong-refused", "CHAT-KEEP-5", "answers a Pong that answers no Ping with an error")
class StrayPongRefused(Room):
    def receive_from_member(self, session, envelope):
        super().receive_from_member(session, envelope)
        if envelope.WhichOneof("message") == "pong":
            raise Refused(pb.ERROR_CODE_UNKNOWN_MESSAGE, "There was no Ping.")


@mutant("pong-no-sign-of-life", "CHAT-KEEP-5", "does not count a Pong as a sign of life")
class PongNoSignOfLife(Connection):
    def note_activity(self, body):
        try:
            if self.room.parse(body).WhichOneof("message") == "pong":
                return
        except Refused:
            pass
        super().note_activity(body)


@mutant("idle-for-all", "CHAT-KEEP-6", "ends silent sessions without keepalive, too")
class IdleForAll(Connection):
    def watch_silence_if_granted(self):
        super().watch_silence_if_granted()
        if self.silence_watch is None and self.session.is_member():
            self.silence_watch = asyncio.create_task(self.end_when_silent())

    async def end_when_silent(self):
        deadline = self.room.limits.idle_deadline_ms / 1000
        while not self.session.over:
            silence = self.now() - self.last_frame_at
            if silence >= deadline:
                self.room.idle_deadline_passed(self.session)
            await asyncio.sleep(max(0.001, deadline - silence))
