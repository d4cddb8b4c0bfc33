"""Servers that break a rule of CHAT-ADM, when they run with a password or a list of
names."""

from framing import Refused
from mutants.server_parts import mutant
from room import Room
from schema import chat_pb2 as pb

# The password.


@mutant("password-missing-accepted", "CHAT-ADM-1", "accepts a Register without a password")
class PasswordMissingAccepted(Room):
    def is_password_right(self, password):
        return password == "" or super().is_password_right(password)


@mutant("password-wrong-accepted", "CHAT-ADM-1", "accepts every password")
class PasswordWrongAccepted(Room):
    def is_password_right(self, password):
        return password != ""


@mutant("password-start-accepted", "CHAT-ADM-1", "accepts the start of the password")
class PasswordStartAccepted(Room):
    def is_password_right(self, password):
        return password != "" and self.password.startswith(password)


@mutant("password-longer-accepted", "CHAT-ADM-1", "accepts the password with more behind it")
class PasswordLongerAccepted(Room):
    def is_password_right(self, password):
        return password.startswith(self.password)


@mutant("password-trimmed", "CHAT-ADM-1", "accepts spaces around the password")
class PasswordTrimmed(Room):
    def is_password_right(self, password):
        return super().is_password_right(password.strip())


@mutant("password-other-code", "CHAT-ADM-1", "refuses a wrong password with another code")
class PasswordOtherCode(Room):
    def check_password(self, password):
        try:
            super().check_password(password)
        except Refused as refused:
            refused.code = pb.ERROR_CODE_NOT_REGISTERED
            raise


@mutant("password-after-names", "CHAT-ADM-2", "checks the name before the password")
class PasswordAfterNames(Room):
    def receive_first(self, session, envelope):
        if envelope.WhichOneof("message") == "register":
            self.check_name(envelope.register.name)
        super().receive_first(session, envelope)


@mutant("password-after-in-use", "CHAT-ADM-2", "sends NAME_IN_USE before it checks the password")
class PasswordAfterInUse(Room):
    def receive_first(self, session, envelope):
        if envelope.WhichOneof("message") == "register":
            self.check_free(envelope.register.name)
        super().receive_first(session, envelope)


@mutant("password-after-list", "CHAT-ADM-2", "sends NAME_NOT_ALLOWED before it checks the password")
class PasswordAfterList(Room):
    def receive_first(self, session, envelope):
        if not self.is_allowed(envelope.register.name):
            self.check_name(envelope.register.name)
        super().receive_first(session, envelope)


@mutant("password-unasked-refused", "CHAT-ADM-3", "has no password and refuses a Register with one")
class PasswordUnaskedRefused(Room):
    def check_password(self, password):
        super().check_password(password)
        if password and not self.password:
            raise Refused(pb.ERROR_CODE_PASSWORD_WRONG, "This server has no password.")


class TellingRoom(Room):
    """Reveals a password in the error."""

    def tell(self, password):
        raise NotImplementedError

    def check_password(self, password):
        try:
            super().check_password(password)
        except Refused as refused:
            refused.detail = self.tell(password)
            raise


@mutant("password-sent-back", "CHAT-ADM-5", "sends the wrong password back")
class PasswordSentBack(TellingRoom):
    def tell(self, password):
        return f"The password {password!r} is wrong; connect again with the right one."


@mutant("password-told", "CHAT-ADM-5", "sends its own password")
class PasswordTold(TellingRoom):
    def tell(self, password):
        return f"The password is {self.password!r}; connect again with it."


# The list of names.


@mutant("list-ignored", "CHAT-ADM-4", "accepts names that are not on its list")
class ListIgnored(Room):
    def is_allowed(self, name):
        return True


@mutant("list-case-sensitive", "CHAT-ADM-4", "compares names with its list case-sensitively")
class ListCaseSensitive(Room):
    def __init__(self, limits, log, password, names):
        super().__init__(limits, log, password, names)
        self.names = names

    def is_allowed(self, name):
        return self.names is None or name in self.names


@mutant("list-other-code", "CHAT-ADM-4", "refuses names that are not on its list as invalid")
class ListOtherCode(Room):
    def check_name(self, name):
        try:
            super().check_name(name)
        except Refused as refused:
            if refused.code == pb.ERROR_CODE_NAME_NOT_ALLOWED:
                refused.code = pb.ERROR_CODE_NAME_INVALID
            raise
