"""Servers that break a rule of CHAT-REG or CHAT-NAME."""

import room as room_module
from framing import Refused
from mutants.server_parts import later, mutant
from room import Room
from schema import chat_pb2 as pb
from server import Server
from session import Session

# Registering.


@mutant(
    "unregistered-unknown-goes-on", "CHAT-REG-2", "answers an unknown first message and continues"
)
class UnregisteredUnknownGoesOn(Room):
    def receive_first(self, session, envelope):
        if envelope.WhichOneof("message") is None:
            raise Refused(pb.ERROR_CODE_UNKNOWN_MESSAGE, "This message is unknown.")
        super().receive_first(session, envelope)


@mutant("unregistered-ignored", "CHAT-REG-2", "ignores all messages before Register")
class UnregisteredIgnored(Room):
    def receive_first(self, session, envelope):
        if envelope.WhichOneof("message") == "register":
            super().receive_first(session, envelope)


@mutant("registered-missing", "CHAT-REG-3", "accepts a Register without an answer")
class RegisteredMissing(Session):
    def reply(self, **message):
        if "registered" not in message:
            super().reply(**message)


@mutant("registered-after-members", "CHAT-REG-3", "sends Members before Registered")
class RegisteredAfterMembers(Room):
    def make_registered(self, session):
        if session.has(pb.CAPABILITY_PRESENCE):
            super().send_members(session)
        return super().make_registered(session)

    def send_members(self, session):
        pass


@mutant("name-lowercased", "CHAT-REG-4", "grants each name in lower case")
class NameLowercased(Room):
    def admit(self, session, register):
        register.name = register.name.lower()
        super().admit(session, register)


@mutant("register-deadline-missing", "CHAT-REG-5", "waits for Register for ever")
class RegisterDeadlineMissing(Room):
    def register_deadline_passed(self, session):
        pass


@mutant("register-deadline-silent", "CHAT-REG-5", "closes at the deadline without an error")
class RegisterDeadlineSilent(Room):
    def register_deadline_passed(self, session):
        if not session.is_member():
            session.finish()


@mutant("second-register-ends", "CHAT-REG-6", "a further Register ends the session")
class SecondRegisterEnds(Room):
    def refuse(self, session, refused, reason=None):
        if refused.code == pb.ERROR_CODE_ALREADY_REGISTERED:
            session.reply(error=self.make_error(refused, True))
            self.end(session, pb.LEFT_REASON_PROTOCOL_ERROR)
        else:
            super().refuse(session, refused, reason)


@mutant("second-register-renames", "CHAT-REG-6", "a further Register changes the name")
class SecondRegisterRenames(Room):
    def receive_from_member(self, session, envelope):
        name = envelope.register.name
        if room_module.NAME.fullmatch(name) and not self.is_taken(name):
            del self.members[self.fold(session.name)]
            session.name = name
            self.members[self.fold(name)] = session
        super().receive_from_member(session, envelope)


@mutant("second-register-ignored", "CHAT-REG-6", "a further Register gets no answer")
class SecondRegisterIgnored(Room):
    def receive_from_member(self, session, envelope):
        if envelope.WhichOneof("message") != "register":
            super().receive_from_member(session, envelope)


@mutant("grants-unasked", "CHAT-REG-7", "grants every client all capabilities")
class GrantsUnasked(Room):
    def make_registered(self, session):
        registered = super().make_registered(session)
        registered.capabilities[:] = room_module.CAPABILITIES
        return registered


@mutant("full-silent", "CHAT-REG-9", "closes without an error when it is full")
class FullSilent(Server):
    def reject(self, connection, refused):
        connection.session.finish()


@mutant("address-full-silent", "CHAT-REG-11", "closes without an error when an address is full")
class AddressFullSilent(FullSilent):
    pass


@mutant(
    "too-often-silent", "CHAT-REG-12", "closes without an error when an address connects too often"
)
class TooOftenSilent(FullSilent):
    pass


@mutant("too-often-without-wait", "CHAT-REG-12", "does not set retry_after_ms")
class TooOftenWithoutWait(Server):
    def reject(self, connection, refused):
        refused.retry_after_ms = 0
        super().reject(connection, refused)


class EndsOfStream(Room):
    """Treats the end of a stream without a message in its own way."""

    def end_of_stream(self, session, inside_frame):
        if session.over or session.is_member() or inside_frame:
            super().end_of_stream(session, inside_frame)
        else:
            self.end_unregistered(session)


@mutant("half-close-refused", "CHAT-REG-13", "sends NOT_REGISTERED at the end of an empty stream")
class HalfCloseRefused(EndsOfStream):
    def end_unregistered(self, session):
        self.refuse(session, Refused(pb.ERROR_CODE_NOT_REGISTERED, "There was no Register."))


@mutant("half-close-held", "CHAT-REG-13", "holds an empty stream that ended until the deadline")
class HalfCloseHeld(EndsOfStream):
    def end_unregistered(self, session):
        pass


# Names.


class LaxNames(Room):
    """Allows some names that the rules forbid."""

    def allows(self, name):
        raise NotImplementedError

    def check_name(self, name):
        try:
            super().check_name(name)
        except Refused as refused:
            if refused.code != pb.ERROR_CODE_NAME_INVALID or not self.allows(name):
                raise


@mutant("name-too-long-allowed", "CHAT-NAME-1", "allows names of 33 characters and more")
class NameTooLongAllowed(LaxNames):
    def allows(self, name):
        return len(name) > 32 and room_module.NAME.match(name[:32]) is not None


@mutant("name-start-unchecked", "CHAT-NAME-1", "allows '.', '_' and '-' as first character")
class NameStartUnchecked(LaxNames):
    def allows(self, name):
        return name[:1] in (".", "_", "-") and room_module.NAME.fullmatch("a" + name[1:])


@mutant("name-space-allowed", "CHAT-NAME-1", "allows spaces in names")
class NameSpaceAllowed(LaxNames):
    def allows(self, name):
        return " " in name and room_module.NAME.fullmatch(name.replace(" ", "a"))


@mutant("name-unicode-allowed", "CHAT-NAME-1", "allows the letters of all scripts in names")
class NameUnicodeAllowed(LaxNames):
    def allows(self, name):
        return not name.isascii() and name.isalnum() and len(name) <= 32


@mutant("name-line-break-allowed", "CHAT-NAME-1", "allows a line break at the end of a name")
class NameLineBreakAllowed(LaxNames):
    def allows(self, name):
        return name[-1:] == "\n" and room_module.NAME.fullmatch(name[:-1])


@mutant("reserved-name-allowed", "CHAT-NAME-2", "allows the names all and server")
class ReservedNameAllowed(Room):
    def is_reserved(self, name):
        return False


@mutant("reserved-name-case", "CHAT-NAME-2", "reserves all and server in lower case only")
class ReservedNameCase(Room):
    def is_reserved(self, name):
        return name in room_module.NAMES_RESERVED


@mutant("name-case-sensitive", "CHAT-NAME-3", "compares names case-sensitively")
class NameCaseSensitive(Room):
    def fold(self, name):
        return name


@mutant("name-holder-ended", "CHAT-NAME-4", "ends the session of the holder when it refuses a name")
class NameHolderEnded(Room):
    def is_taken(self, name):
        holder = self.members.get(self.fold(name))
        if holder is not None:
            self.end(holder, pb.LEFT_REASON_CONNECTION_LOST)
        return holder is not None


@mutant("name-holder-told", "CHAT-NAME-4", "tells the holder, too, that a name is in use")
class NameHolderTold(Room):
    def is_taken(self, name):
        holder = self.members.get(self.fold(name))
        if holder is not None:
            holder.reply(
                error=pb.Error(code=pb.ERROR_CODE_NAME_IN_USE, detail="Another client asked.")
            )
        return holder is not None


@mutant("name-taken-unasked", "CHAT-NAME-8", "reclaims a name without a check")
class NameTakenUnasked(Room):
    def check_holder(self, session, register):
        is_waiting = super().check_holder(session, register)
        if is_waiting:
            session.waiting[1].checked_at_ms = float("-inf")
        return is_waiting

    def has_answered(self, holder):
        return False


@mutant("name-taken-from-who-answers", "CHAT-NAME-8", "reclaims the name of a holder that answers")
class NameTakenFromWhoAnswers(Room):
    def has_answered(self, holder):
        return False


@mutant("name-reclaimed-wrong-code", "CHAT-NAME-9", "ends a holder with IDLE_TIMEOUT")
class NameReclaimedWrongCode(Room):
    def make_error(self, refused, ends_session):
        error = super().make_error(refused, ends_session)
        if error.code == pb.ERROR_CODE_NAME_RECLAIMED:
            error.code = pb.ERROR_CODE_IDLE_TIMEOUT
        return error


@mutant("name-kept", "CHAT-NAME-5", "never frees a name")
class NameKept(Room):
    kept_seconds = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.kept = set()

    def is_taken(self, name):
        return super().is_taken(name) or self.fold(name) in self.kept

    def end(self, session, reason):
        if session.is_member():
            self.kept.add(self.fold(session.name))
            if self.kept_seconds:
                later(self.kept_seconds, self.kept.discard, self.fold(session.name))
        super().end(session, reason)


@mutant("name-freed-late", "CHAT-NAME-5", "frees a name a while after it closed the connection")
class NameFreedLate(NameKept):
    kept_seconds = 1.0


@mutant("name-given-twice", "CHAT-NAME-12", "gives a reclaimed name to every client that waits")
class NameGivenTwice(Room):
    def is_taken(self, name):
        return name not in self.waited_for and super().is_taken(name)

    def decide_waiting_register(self, session):
        self.waited_for = {session.waiting[0].name}
        super().decide_waiting_register(session)
        self.waited_for = set()

    waited_for = frozenset()


@mutant(
    "name-wait-in-vain", "CHAT-NAME-12", "refuses clients that waited although the name is free"
)
class NameWaitInVain(Room):
    is_deciding = False

    def is_taken(self, name):
        return self.is_deciding or super().is_taken(name)

    def decide_waiting_register(self, session):
        self.is_deciding = True
        super().decide_waiting_register(session)
        self.is_deciding = False
