"""Servers with mistakes in the corners: parsers of one's own, what a refused or cut Register
leaves behind, and what is set where it does not belong."""

from google.protobuf.unknown_fields import UnknownFieldSet

import room as room_module
from connection import Connection
from framing import FrameReader, Refused
from mutants.server_parts import body_of, mutant
from room import Room
from schema import chat_pb2 as pb

ARMS = {arm.number: arm.name for arm in pb.ClientEnvelope.DESCRIPTOR.oneofs[0].fields}
CHAT_ARM = pb.ClientEnvelope.DESCRIPTOR.fields_by_name["chat"].number
TEXT_FIELD = pb.Chat.DESCRIPTOR.fields_by_name["text"].number


def fields(message):
    """The fields of a message, in their order."""
    # To a message without fields, all are unknown.
    return list(UnknownFieldSet(pb.Leave.FromString(message)))


@mutant("first-arm-wins", "CHAT-FRAME-8", "takes the first of two messages in an envelope")
class FirstArmWins(Room):
    def parse(self, body):
        envelope = super().parse(body)
        arms = [field for field in fields(body) if field.field_number in ARMS]
        if len(arms) > 1:
            envelope = pb.ClientEnvelope()
            message = getattr(envelope, ARMS[arms[0].field_number])
            message.SetInParent()
            message.MergeFromString(arms[0].data)
        return envelope


@mutant("first-value-wins", "CHAT-FRAME-8", "takes the first value of a repeated text")
class FirstValueWins(Room):
    def parse(self, body):
        envelope = super().parse(body)
        for chat in fields(body):
            if chat.field_number == CHAT_ARM and envelope.WhichOneof("message") == "chat":
                texts = [f.data for f in fields(chat.data) if f.field_number == TEXT_FIELD]
                envelope.chat.text = texts[0].decode() if texts else ""
        return envelope


@mutant("longer-length-refused", "CHAT-FRAME-3", "refuses a length in more bytes than necessary")
class LongerLengthRefused(FrameReader):
    def _decode_length(self):
        length, prefix_bytes = super()._decode_length()
        if prefix_bytes > 1 and length < 128 ** (prefix_bytes - 1):
            raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "The length is too long.")
        return length, prefix_bytes


@mutant("cut-register-acted-on", "CHAT-FRAME-9", "keeps the name of a Register that was cut short")
class CutRegisterActedOn(Connection):
    def end_of_stream(self):
        rest = body_of(bytes(self.frames._bytes) + b"\x00")[:-1]
        # Two bytes of the envelope's tag and length, two of the name's.
        name = rest[4 : 4 + rest[3]] if len(rest) > 4 else b""
        if not self.session.is_member() and name and len(name) == rest[3]:
            self.room.members.setdefault(self.room.fold(name.decode()), self.session)
        super().end_of_stream()


@mutant("digit-first-refused", "CHAT-NAME-6", "refuses names that begin with a digit")
class DigitFirstRefused(Room):
    def check_name(self, name):
        super().check_name(name)
        if name[0].isdigit():
            raise Refused(pb.ERROR_CODE_NAME_INVALID, "A name begins with a letter.")


@mutant("refused-register-keeps-the-name", "CHAT-NAME-6", "keeps the name of a refused Register")
class RefusedRegisterKeepsTheName(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.refused = set()

    def receive_first(self, session, envelope):
        if envelope.WhichOneof("message") == "register":
            if session in self.refused:
                self.members[self.fold(envelope.register.name)] = session
                session.finish()
            else:
                super().receive_first(session, envelope)
        else:
            refused = Refused(pb.ERROR_CODE_NOT_REGISTERED, "The first message is Register.")
            session.reply(error=self.make_error(refused, True))
            self.refused.add(session)


@mutant("not-registered-has-id", "CHAT-ERR-4", "sets the id of a chat that came before Register")
class NotRegisteredHasId(Room):
    def receive_first(self, session, envelope):
        try:
            super().receive_first(session, envelope)
        except Refused as refused:
            refused.chat_id = envelope.chat.id
            raise


@mutant("come-back-together", "CHAT-CLOSE-7", "tells all clients the same time to come back")
class ComeBackTogether(Room):
    def close(self, sessions):
        apart_ms, room_module.APART_MS = room_module.APART_MS, 0
        super().close(sessions)
        room_module.APART_MS = apart_ms


@mutant("name-given-to-a-third", "CHAT-NAME-12", "gives a name for which somebody waits to everybody")
class NameGivenToAThird(Room):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.waited_for = set()

    def check_holder(self, session, register):
        is_waiting = super().check_holder(session, register)
        if is_waiting:
            self.waited_for.add(self.fold(register.name))
        return is_waiting

    def is_taken(self, name):
        return self.fold(name) not in self.waited_for and super().is_taken(name)
