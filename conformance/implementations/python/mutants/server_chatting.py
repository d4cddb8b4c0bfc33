"""Servers that break a rule of CHAT-CHAT or CHAT-ORD."""

import secrets
import unicodedata

from framing import Refused
from mutants.server_parts import MOMENT_SECONDS, HoldingSession, later, message_in, mutant
from room import Room
from schema import chat_pb2 as pb
from session import Session

# Chatting.


@mutant("chat-to-one-only", "CHAT-CHAT-1", "sends a chat to the oldest member only")
class ChatToOneOnly(Room):
    def recipients(self, speaker):
        return super().recipients(speaker)[:1]


@mutant("chat-not-to-plain", "CHAT-CHAT-1", "sends no chat to members without capabilities")
class ChatNotToPlain(Room):
    def recipients(self, speaker):
        return [member for member in super().recipients(speaker) if member.granted]


@mutant("echo-to-sender", "CHAT-CHAT-2", "sends a chat back to its sender, too")
class EchoToSender(Room):
    def recipients(self, speaker):
        return list(self.members.values())


class ChangedChats(Room):
    """Changes the relayed chat."""

    def make_chat(self, session, chat):
        numbered = super().make_chat(session, chat)
        self.change(numbered, chat)
        return numbered

    def change(self, numbered, chat):
        raise NotImplementedError


@mutant("text-trimmed", "CHAT-CHAT-3", "removes spaces from both ends of a text")
class TextTrimmed(ChangedChats):
    def change(self, numbered, chat):
        numbered.text = chat.text.strip() or chat.text


@mutant("text-normalized", "CHAT-CHAT-3", "puts texts into a Unicode normal form")
class TextNormalized(ChangedChats):
    def change(self, numbered, chat):
        numbered.text = unicodedata.normalize("NFC", chat.text)


@mutant("text-bidi-removed", "CHAT-CHAT-3", "removes bidirectional overrides from texts")
class TextBidiRemoved(ChangedChats):
    def change(self, numbered, chat):
        controls = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
        numbered.text = chat.text.translate(controls) or chat.text


@mutant("sender-from-client", "CHAT-CHAT-4", "relays the sender that the client set")
class SenderFromClient(ChangedChats):
    def change(self, numbered, chat):
        numbered.sender = chat.sender or numbered.sender


@mutant("sender-lowercased", "CHAT-CHAT-4", "relays the sender's name in lower case")
class SenderLowercased(ChangedChats):
    def change(self, numbered, chat):
        numbered.sender = numbered.sender.lower()


@mutant("seq-from-client", "CHAT-CHAT-5", "relays the seq that the client set")
class SeqFromClient(ChangedChats):
    def change(self, numbered, chat):
        numbered.seq = chat.seq or numbered.seq


@mutant("time-from-client", "CHAT-CHAT-5", "relays the time_unix_ms that the client set")
class TimeFromClient(ChangedChats):
    def change(self, numbered, chat):
        numbered.time_unix_ms = chat.time_unix_ms or numbered.time_unix_ms


class LaxTexts(Room):
    """Allows some texts that the rules forbid."""

    code = pb.ERROR_CODE_TEXT_INVALID

    def allows(self, text):
        raise NotImplementedError

    def check_text(self, text):
        try:
            super().check_text(text)
        except Refused as refused:
            if refused.code != self.code or not self.allows(text):
                raise


@mutant("empty-text-allowed", "CHAT-CHAT-6", "allows the empty text")
class EmptyTextAllowed(LaxTexts):
    def allows(self, text):
        return text == ""


@mutant("controls-allowed", "CHAT-CHAT-6", "allows U+0000 to U+001F, line breaks included")
class ControlsAllowed(LaxTexts):
    def allows(self, text):
        return any(character < " " for character in text)


@mutant("tab-allowed", "CHAT-CHAT-6", "allows tabs")
class TabAllowed(LaxTexts):
    def allows(self, text):
        return "\t" in text


@mutant("delete-and-c1-allowed", "CHAT-CHAT-6", "allows U+007F to U+009F")
class DeleteAndC1Allowed(LaxTexts):
    def allows(self, text):
        return any("\u007f" <= character <= "\u009f" for character in text)


@mutant("line-separators-allowed", "CHAT-CHAT-6", "allows U+2028 and U+2029")
class LineSeparatorsAllowed(LaxTexts):
    def allows(self, text):
        return "\u2028" in text or "\u2029" in text


@mutant("text-bound-missing", "CHAT-CHAT-7", "allows every text that fits into a frame")
class TextBoundMissing(LaxTexts):
    code = pb.ERROR_CODE_TEXT_TOO_LONG

    def allows(self, text):
        return True


@mutant("text-bound-in-characters", "CHAT-CHAT-7", "counts the characters of a text, not its bytes")
class TextBoundInCharacters(TextBoundMissing):
    def allows(self, text):
        return len(text) <= self.limits.text_bytes_max


@mutant("refused-text-delivered", "CHAT-CHAT-8", "refuses a text and delivers it all the same")
class RefusedTextDelivered(Room):
    def receive_chat(self, session, chat):
        try:
            super().receive_chat(session, chat)
        except Refused:
            refused = pb.Chat(text=chat.text, sender=session.name, seq=self.seq + 1)
            refused.time_unix_ms = self.now_unix_ms()
            self.broadcast(self.recipients(session), chat=refused)
            raise


@mutant("refused-text-numbered", "CHAT-CHAT-8", "gives a number to a text that it refuses")
class RefusedTextNumbered(Room):
    def receive_chat(self, session, chat):
        try:
            super().receive_chat(session, chat)
        except Refused:
            self.seq += 1
            raise


@mutant("id-relayed", "CHAT-CHAT-9", "relays the id of a chat")
class IdRelayed(ChangedChats):
    def change(self, numbered, chat):
        numbered.id = chat.id


class StrictTexts(Room):
    """Refuses some texts that the rules allow."""

    code = pb.ERROR_CODE_TEXT_INVALID

    def check_text(self, text):
        super().check_text(text)
        if self.forbids(text):
            raise Refused(self.code, "This text is refused without a reason.")


@mutant("longest-text-refused", "CHAT-CHAT-10", "refuses a text of exactly text_bytes_max bytes")
class LongestTextRefused(StrictTexts):
    code = pb.ERROR_CODE_TEXT_TOO_LONG

    def forbids(self, text):
        return len(text.encode()) == self.limits.text_bytes_max


@mutant("non-ascii-refused", "CHAT-CHAT-10", "refuses every text that is not ASCII")
class NonAsciiRefused(StrictTexts):
    def forbids(self, text):
        return not text.isascii()


@mutant("bidi-refused", "CHAT-CHAT-10", "refuses bidirectional overrides and joiners")
class BidiRefused(StrictTexts):
    def forbids(self, text):
        return any(unicodedata.category(character) == "Cf" for character in text)


@mutant("blank-text-refused", "CHAT-CHAT-10", "refuses a text of spaces alone")
class BlankTextRefused(StrictTexts):
    def forbids(self, text):
        return text.isspace()


# Order.


@mutant("seq-gap", "CHAT-ORD-1", "counts by two")
class SeqGap(Room):
    def accept(self, session, chat):
        self.seq += 1
        super().accept(session, chat)


@mutant("seq-counts-joins", "CHAT-ORD-1", "gives a number to each Register")
class SeqCountsJoins(Room):
    def admit(self, session, register):
        super().admit(session, register)
        self.seq += 1


@mutant("chats-swapped", "CHAT-ORD-2", "sends the second of two chats first")
class ChatsSwapped(HoldingSession):
    def send_event(self, frame):
        if message_in(frame) != "chat":
            self.release()
            super().send_event(frame)
        elif self.held is None:
            self.hold(frame)
        else:
            super().send_event(frame)
            self.release()


@mutant("chat-twice", "CHAT-ORD-2", "sends each chat twice")
class ChatTwice(Session):
    def send_event(self, frame):
        super().send_event(frame)
        if message_in(frame) == "chat":
            super().send_event(frame)


@mutant("pongs-come-late", "CHAT-ORD-8", "answers a Ping after later messages")
class PongsComeLate(Room):
    def receive_from_member(self, session, envelope):
        receive = super().receive_from_member
        if envelope.WhichOneof("message") == "ping":
            later(MOMENT_SECONDS, receive, session, envelope)
        else:
            receive(session, envelope)


@mutant("newest-first", "CHAT-ORD-3", "accepts the second of two chats first")
class NewestFirst(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.held = {}

    def receive_chat(self, session, chat):
        if session in self.held:
            held = self.held.pop(session)
            self.receive_now(session, chat)
            self.receive_now(session, held)
        else:
            self.held[session] = chat
            later(MOMENT_SECONDS, self.release, session, chat)

    def receive_now(self, session, chat):
        try:
            super().receive_chat(session, chat)
        except Refused as refused:
            self.refuse(session, refused)

    def release(self, session, chat=None):
        if session in self.held and chat in (None, self.held[session]):
            self.receive_now(session, self.held.pop(session))

    def end(self, session, reason):
        self.release(session)
        super().end(session, reason)


@mutant("every-third-chat-lost", "CHAT-ORD-4", "delivers every third chat to no member")
class EveryThirdChatLost(Room):
    def recipients(self, speaker):
        return [] if self.seq % 3 == 0 else super().recipients(speaker)


@mutant("first-chat-missed", "CHAT-ORD-4", "leaves out the first chat after a Register")
class FirstChatMissed(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.fresh = set()

    def admit(self, session, register):
        super().admit(session, register)
        self.fresh.add(session)

    def recipients(self, speaker):
        recipients = super().recipients(speaker)
        fresh = [member for member in recipients if member in self.fresh]
        self.fresh.difference_update(fresh)
        return [member for member in recipients if member not in fresh]


@mutant("last-chat-replayed", "CHAT-ORD-5", "sends a new member the chat before its Register")
class LastChatReplayed(Room):
    last = None

    def make_chat(self, session, chat):
        self.last = super().make_chat(session, chat)
        return self.last

    def admit(self, session, register):
        super().admit(session, register)
        if self.last is not None:
            self.broadcast([session], chat=self.last)


@mutant("registered-seq-missing", "CHAT-ORD-6", "Registered.seq is always 0")
class RegisteredSeqMissing(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.seq = 0
        return registered


@mutant("registered-seq-of-next", "CHAT-ORD-6", "Registered.seq is the number of the next chat")
class RegisteredSeqOfNext(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.seq += 1
        return registered


@mutant("epoch-per-member", "CHAT-ORD-7", "gives each member its own epoch")
class EpochPerMember(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.epoch = secrets.token_hex(16)
        return registered


@mutant("epoch-constant", "CHAT-ORD-7", "has the same epoch after each start")
class EpochConstant(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.epoch = "always"
