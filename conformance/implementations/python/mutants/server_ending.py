"""Servers that break a rule of CHAT-LEAVE, CHAT-CLOSE or CHAT-ERR."""

import asyncio
from collections import deque

import room as room_module
from connection import Connection
from framing import Refused
from mutants.server_parts import (
    LONG_SECONDS,
    MOMENT_SECONDS,
    DelayingConnection,
    later,
    message_in,
    mutant,
)
from room import Room
from schema import chat_pb2 as pb
from server import Server
from session import Session

# Leaving.


@mutant("leave-not-closed", "CHAT-LEAVE-2", "leaves the connection open after Leave")
class LeaveNotClosed(Connection):
    left = False

    def note_activity(self, body):
        super().note_activity(body)
        try:
            self.left = self.room.parse(body).WhichOneof("message") == "leave"
        except Refused:
            pass

    async def write(self):
        await super().write()
        if self.left:
            await asyncio.sleep(LONG_SECONDS)


@mutant("leave-drops-queue", "CHAT-LEAVE-2", "drops the queue when Leave arrives")
class LeaveDropsQueue(Room):
    connection_class = DelayingConnection

    def end(self, session, reason):
        if reason == pb.LEFT_REASON_LEAVE:
            session.held.clear()
        super().end(session, reason)


class Overtaken(Room):
    """Handles chats late, so that other frames overtake them."""

    reasons = ()

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.held = deque()

    def receive_chat(self, session, chat):
        self.held.append((session, chat))
        later(MOMENT_SECONDS / 2, self.release_first)

    def release_first(self):
        if not self.held:
            return
        session, chat = self.held.popleft()
        if session.is_member():
            try:
                super().receive_chat(session, chat)
            except Refused as refused:
                self.refuse(session, refused)

    def end(self, session, reason):
        if reason in self.reasons:
            self.held = deque(pair for pair in self.held if pair[0] is not session)
        elif session.is_member():
            while any(pair[0] is session for pair in self.held):
                self.release_first()
        super().end(session, reason)


@mutant("leave-overtakes", "CHAT-LEAVE-3", "drops a chat when Leave directly follows it")
class LeaveOvertakes(Overtaken):
    reasons = (pb.LEFT_REASON_LEAVE,)


@mutant("acts-after-leave", "CHAT-LEAVE-4", "acts on messages for a moment after Leave")
class ActsAfterLeave(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.leaving = set()

    def receive_from_member(self, session, envelope):
        if envelope.WhichOneof("message") == "leave":
            self.leaving.add(session)
            later(MOMENT_SECONDS, self.end, session, pb.LEFT_REASON_LEAVE)
        else:
            super().receive_from_member(session, envelope)

    def end(self, session, reason):
        if session in self.leaving:
            reason = pb.LEFT_REASON_LEAVE
        super().end(session, reason)


@mutant("lost-member-kept", "CHAT-LEAVE-5", "keeps a member whose connection is closed or lost")
class LostMemberKept(Room):
    def end_of_stream(self, session, inside_frame):
        if session.is_member() and not inside_frame:
            session.cannot_write = True
        else:
            super().end_of_stream(session, inside_frame)

    def lost(self, session):
        if session.is_member():
            session.cannot_write = True
        else:
            super().lost(session)


# Closing.


@mutant("closing-unannounced", "CHAT-CLOSE-1", "closes all connections without a message")
class ClosingUnannounced(Room):
    def close(self, sessions):
        for session in sessions:
            session.finish()


@mutant(
    "closing-told-to-members-only", "CHAT-CLOSE-1", "does not tell clients that have not registered"
)
class ClosingToldToMembersOnly(Room):
    def close(self, sessions):
        for session in sessions:
            if not session.is_member():
                session.finish()
        super().close(sessions)


@mutant("speaks-after-closing", "CHAT-CLOSE-2", "sends an Error after ServerClosing")
class SpeaksAfterClosing(Session):
    def reply(self, **message):
        super().reply(**message)
        if "server_closing" in message:
            super().reply(error=pb.Error(code=pb.ERROR_CODE_UNKNOWN_MESSAGE, detail="One more."))


class LingersForEver(Connection):
    async def linger(self, reading):
        await super().linger(reading)
        await reading


@mutant("shutdown-waits-for-clients", "CHAT-CLOSE-3", "waits until every client has closed")
class ShutdownWaitsForClients(Server):
    connection_class = LingersForEver

    async def shut_down(self):
        self.room.close([connection.session for connection in self.served])
        if self.tasks:
            await asyncio.wait(self.tasks)


@mutant("accepts-while-closing", "CHAT-CLOSE-5", "accepts chats after ServerClosing")
class AcceptsWhileClosing(Server):
    async def shut_down(self):
        told = []
        for connection in list(self.served):
            self.tell(connection.session)
            told.append(connection.session)
            # Time for this one to send a chat, and for the next to receive it.
            await asyncio.sleep(min(MOMENT_SECONDS, 2.0 / (1 + len(self.served))))
        for session in told:
            session.finish()
        await super().shut_down()

    def tell(self, session):
        session.reply(server_closing=pb.ServerClosing(detail="The server shuts down."))
        session.cannot_write = True


@mutant("closing-drops-queue", "CHAT-CLOSE-6", "drops the queued chats when it shuts down")
class ClosingDropsQueue(Room):
    connection_class = DelayingConnection

    def close(self, sessions):
        for session in sessions:
            kept = [pair for pair in session.held if message_in(pair[0]) != "chat"]
            session.held = deque(kept)
        super().close(sessions)


# Errors.


class NotingSession(Session):
    ended_by_error = False

    def reply(self, **message):
        super().reply(**message)
        if "error" in message and message["error"].ends_session:
            self.ended_by_error = True


@mutant("open-after-error", "CHAT-ERR-1", "leaves the connection open after a fatal error")
class OpenAfterError(Connection):
    session_class = NotingSession

    async def write(self):
        await super().write()
        if self.session.ended_by_error:
            await asyncio.sleep(LONG_SECONDS)


@mutant("speaks-after-error", "CHAT-ERR-1", "sends a second Error after a fatal one")
class SpeaksAfterError(Session):
    def reply(self, **message):
        super().reply(**message)
        if "error" in message and message["error"].ends_session:
            super().reply(error=pb.Error(code=pb.ERROR_CODE_UNKNOWN_MESSAGE, detail="One more."))


@mutant("ends-session-missing", "CHAT-ERR-2", "does not set ends_session on fatal errors")
class EndsSessionMissing(Room):
    def make_error(self, refused, ends_session):
        return super().make_error(refused, False)


@mutant("ends-session-always", "CHAT-ERR-2", "sets ends_session on every error")
class EndsSessionAlways(Room):
    def make_error(self, refused, ends_session):
        return super().make_error(refused, True)


@mutant("error-closes", "CHAT-ERR-3", "closes after a non-fatal error")
class ErrorCloses(Room):
    def refuse(self, session, refused, reason=None):
        super().refuse(session, refused, reason)
        self.end(session, pb.LEFT_REASON_PROTOCOL_ERROR)


@mutant("error-takes-capabilities", "CHAT-ERR-3", "revokes the capabilities after an error")
class ErrorTakesCapabilities(Room):
    def refuse(self, session, refused, reason=None):
        super().refuse(session, refused, reason)
        session.granted = frozenset()


@mutant("errors-too-few", "CHAT-ERR-9", "ends a session for fewer errors than it announces")
class ErrorsTooFew(Room):
    def count_error(self, session):
        session.errors += 1
        super().count_error(session)


@mutant("error-id-missing", "CHAT-ERR-4", "does not set Error.id")
class ErrorIdMissing(Room):
    def make_error(self, refused, ends_session):
        refused.chat_id = 0
        return super().make_error(refused, ends_session)


@mutant("error-id-sticks", "CHAT-ERR-4", "sets the id of the last chat in every error")
class ErrorIdSticks(Room):
    last_id = 0

    def receive_chat(self, session, chat):
        self.last_id = chat.id
        super().receive_chat(session, chat)

    def make_error(self, refused, ends_session):
        error = super().make_error(refused, ends_session)
        error.id = self.last_id
        return error


@mutant("acts-after-error", "CHAT-ERR-10", "acts on messages for a moment after a fatal error")
class ActsAfterError(Room):
    def refuse(self, session, refused, reason=None):
        reason = reason or room_module.ENDS_SESSION.get(refused.code)
        if reason is None or not session.is_member() or session.cannot_write:
            super().refuse(session, refused, reason)
        else:
            session.reply(error=self.make_error(refused, True))
            session.cannot_write = True
            later(MOMENT_SECONDS, self.end, session, reason)


@mutant("error-overtakes", "CHAT-ERR-11", "drops a chat when a malformed frame directly follows it")
class ErrorOvertakes(Overtaken):
    reasons = (pb.LEFT_REASON_PROTOCOL_ERROR,)


@mutant("error-drops-answers", "CHAT-ERR-11", "drops the queued answers before a fatal error")
class ErrorDropsAnswers(Room):
    connection_class = DelayingConnection

    def refuse(self, session, refused, reason=None):
        if refused.code in room_module.ENDS_SESSION:
            session.held.clear()
        super().refuse(session, refused, reason)


class WrongCodes(Room):
    """Sends wrong codes."""

    def make_error(self, refused, ends_session):
        error = super().make_error(refused, ends_session)
        error.code = self.instead.get(error.code, error.code)
        return error


@mutant("wrong-code-for-names", "CHAT-ERR-5", "sends NAME_INVALID for every name that it refuses")
class WrongCodeForNames(WrongCodes):
    instead = {
        pb.ERROR_CODE_NAME_RESERVED: pb.ERROR_CODE_NAME_INVALID,
        pb.ERROR_CODE_NAME_IN_USE: pb.ERROR_CODE_NAME_INVALID,
    }


@mutant("long-name-refused", "CHAT-NAME-6", "sends NAME_INVALID for a name of 32 characters")
class LongNameRefused(Room):
    def check_name(self, name):
        super().check_name(name if len(name) < 32 else "")


@mutant(
    "wrong-code-for-long-frame", "CHAT-ERR-5", "sends MALFORMED_FRAME for a frame that is too long"
)
class WrongCodeForLongFrame(WrongCodes):
    instead = {pb.ERROR_CODE_FRAME_TOO_LONG: pb.ERROR_CODE_MALFORMED_FRAME}


@mutant("wrong-code-for-long-text", "CHAT-ERR-5", "sends TEXT_INVALID for a text that is too long")
class WrongCodeForLongText(WrongCodes):
    instead = {pb.ERROR_CODE_TEXT_TOO_LONG: pb.ERROR_CODE_TEXT_INVALID}


@mutant("code-missing", "CHAT-ERR-5", "sends errors without a code")
class CodeMissing(WrongCodes):
    instead = dict.fromkeys(pb.ErrorCode.values(), pb.ERROR_CODE_UNSPECIFIED)


class CheckedEarly(Room):
    """Runs a check of a chat before those that come first in the schema's table."""

    def receive_chat(self, session, chat):
        try:
            self.check_early(session, chat)
        except Refused as refused:
            refused.chat_id = chat.id
            raise
        super().receive_chat(session, chat)


@mutant("rate-before-text", "CHAT-ERR-5", "checks the rate of a chat before its text")
class RateBeforeText(CheckedEarly):
    def check_early(self, session, chat):
        # Without a charge of its own: it gives the token back.
        self.charge(session)
        session.chat_credit_ms += self.limits.chat_interval_ms


@mutant("text-content-before-length", "CHAT-ERR-5", "checks the characters of a text first")
class TextContentBeforeLength(CheckedEarly):
    def check_early(self, session, chat):
        if room_module.NOT_IN_TEXT.search(chat.text):
            raise Refused(pb.ERROR_CODE_TEXT_INVALID, "There is a control character.")


@mutant("name-before-session", "CHAT-ERR-5", "checks the name of a Register in an open session")
class NameBeforeSession(Room):
    def receive_from_member(self, session, envelope):
        if envelope.WhichOneof("message") == "register":
            self.check_name(envelope.register.name)
        super().receive_from_member(session, envelope)


@mutant("error-detail-missing", "CHAT-ERR-6", "sends errors without a sentence")
class ErrorDetailMissing(Room):
    def make_error(self, refused, ends_session):
        error = super().make_error(refused, ends_session)
        error.detail = ""
        return error
