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


@mutant("members-without-self", "CHAT-PRES-1", "does not name the new member in Members")
class MembersWithoutSelf(Room):
    def send_members(self, session):
        names = [member.name for member in self.others(session)]
        session.reply(members=pb.Members(names=names))


@mutant("members-without-others", "CHAT-PRES-1", "names only the new member in Members")
class MembersWithoutOthers(Room):
    def send_members(self, session):
        session.reply(members=pb.Members(names=[session.name]))


@mutant("members-never-last", "CHAT-PRES-1", "says in the last Members that there is more")
class MembersNeverLast(Room):
    def send_members(self, session):
        names = [member.name for member in self.members.values()]
        session.reply(members=pb.Members(names=names, more=True))


@mutant("joined-missing", "CHAT-PRES-2", "sends no Joined")
class JoinedMissing(Room):
    def announce(self, whom, **notice):
        if "joined" not in notice:
            super().announce(whom, **notice)


@mutant("joined-after-chat", "CHAT-PRES-2", "sends a Joined after the first Chat of that client")
class JoinedAfterChat(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.unannounced = {}

    def announce(self, whom, **notice):
        if "joined" in notice:
            self.unannounced[whom] = notice
        else:
            self.announce_late(whom)
            super().announce(whom, **notice)

    def announce_late(self, whom):
        if whom in self.unannounced:
            super().announce(whom, **self.unannounced.pop(whom))

    def accept(self, session, chat):
        super().accept(session, chat)
        self.announce_late(session)


@mutant("left-missing", "CHAT-PRES-3", "sends no Left")
class LeftMissing(Room):
    def announce(self, whom, **notice):
        if "left" not in notice:
            super().announce(whom, **notice)


@mutant("left-late", "CHAT-PRES-3", "sends a Left after the Joined that takes the name again")
class LeftLate(Room):
    def announce(self, whom, **notice):
        if "left" in notice:
            later(2 * MOMENT_SECONDS, lambda: super(LeftLate, self).announce(whom, **notice))
        else:
            super().announce(whom, **notice)


@mutant("left-before-last-chat", "CHAT-PRES-3", "sends a Left before the last Chat of that member")
class LeftBeforeLastChat(HoldingSession):
    def hear(self, frame):
        message = message_in(frame)
        if message == "left":
            super().hear(frame)
            self.release()
        elif message == "chat":
            self.release()
            self.hold(frame)
        else:
            self.release()
            super().hear(frame)


@mutant(
    "members-name-the-gone", "CHAT-PRES-4", "names in a later Members who has left since the first"
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
    """Says another reason than the true one."""

    def announce(self, whom, **notice):
        if "left" in notice:
            notice["left"].reason = self.instead.get(notice["left"].reason, notice["left"].reason)
        super().announce(whom, **notice)


@mutant("left-reason-always-leave", "CHAT-PRES-5", "says LEAVE whatever ended the session")
class LeftReasonAlwaysLeave(WrongReasons):
    instead = dict.fromkeys(pb.LeftReason.values(), pb.LEFT_REASON_LEAVE)


@mutant("left-reason-always-lost", "CHAT-PRES-5", "says CONNECTION_LOST whatever ended the session")
class LeftReasonAlwaysLost(WrongReasons):
    instead = dict.fromkeys(pb.LeftReason.values(), pb.LEFT_REASON_CONNECTION_LOST)


@mutant("left-reason-missing", "CHAT-PRES-5", "sends a Left without a reason")
class LeftReasonMissing(WrongReasons):
    instead = dict.fromkeys(pb.LeftReason.values(), pb.LEFT_REASON_UNSPECIFIED)


@mutant("joined-to-self", "CHAT-PRES-6", "sends a member the Joined about itself")
class JoinedToSelf(Room):
    def announce(self, whom, **notice):
        super().announce(whom, **notice)
        if "joined" in notice and whom.has(pb.CAPABILITY_PRESENCE):
            self.say([whom], **notice)


@mutant("left-to-self", "CHAT-PRES-6", "sends a member the Left about itself")
class LeftToSelf(Room):
    def announce(self, whom, **notice):
        super().announce(whom, **notice)
        if "left" in notice and whom.has(pb.CAPABILITY_PRESENCE):
            if notice["left"].reason == pb.LEFT_REASON_LEAVE:
                self.say([whom], **notice)


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


@mutant("receipt-time-differs", "CHAT-RCPT-3", "the time of a Receipt is not that of the Chat")
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
    def silent_too_long(self, session):
        pass


@mutant("idle-end-silent", "CHAT-KEEP-4", "ends a silent session without an error")
class IdleEndSilent(Room):
    def silent_too_long(self, session):
        self.end(session, pb.LEFT_REASON_IDLE_TIMEOUT)


@mutant("stray-pong-refused", "CHAT-KEEP-5", "answers a Pong that answers no Ping with an error")
class StrayPongRefused(Room):
    def receive_from_member(self, session, envelope):
        super().receive_from_member(session, envelope)
        if envelope.WhichOneof("message") == "pong":
            raise Refused(pb.ERROR_CODE_UNKNOWN_MESSAGE, "There was no Ping.")


@mutant(
    "pong-no-sign-of-life", "CHAT-KEEP-5", "a Pong does not put off the end of a silent session"
)
class PongNoSignOfLife(Connection):
    def heard(self, body):
        try:
            if self.room.parse(body).WhichOneof("message") == "pong":
                return
        except Refused:
            pass
        super().heard(body)


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
                self.room.silent_too_long(self.session)
            await asyncio.sleep(max(0.001, deadline - silence))
