"""Clients that break one rule each."""

import socket

from google.protobuf.unknown_fields import UnknownFieldSet

from client import Client
from framing import FrameReader, Refused, encode_length
from keys import Key
from mutants import Mutants
from schema import chat_pb2 as pb

CLIENT_MUTANTS = Mutants()
mutant = CLIENT_MUTANTS.mutant


class OtherFrames(Client):
    """Writes wrong frames."""

    def send(self, **message):
        body = pb.ClientEnvelope(**message).SerializeToString()
        self.unsent += self.encode_length(len(body)) + body


@mutant("big-endian-length", "CHAT-FRAME-1", "lengths are four bytes, the highest first")
class BigEndianLength(OtherFrames):
    def encode_length(self, length):
        return length.to_bytes(4, "big")


@mutant("padded-frames", "CHAT-FRAME-1", "a byte of zero stands between frames")
class PaddedFrames(Client):
    def send(self, **message):
        super().send(**message)
        self.unsent += b"\x00"


@mutant("long-form-length", "CHAT-FRAME-2", "lengths take one byte more than they need")
class LongFormLength(OtherFrames):
    def encode_length(self, length):
        prefix = bytearray(encode_length(length))
        prefix[-1] += 128
        return bytes(prefix) + b"\x00"


@mutant("cut-frame-shown", "CHAT-FRAME-9", "shows a chat that the end of the stream cut short")
class CutFrameShown(Client):
    def end_of_stream(self):
        rest = bytes(self.frames._bytes)[1:]
        try:
            self.receive(pb.ServerEnvelope.FromString(rest))
        except Exception:
            # Four bytes of tags and lengths, then the start of the text.
            self.show(pb.Chat(sender="somebody", text=rest[4:].decode(errors="replace")))
        super().end_of_stream()


@mutant("unparsable-ignored", "CHAT-FRAME-11", "continues after bytes that do not parse")
class UnparsableIgnored(Client):
    def end(self, exit_code, sentence=None):
        if sentence is not None and sentence.startswith("The bytes from the server"):
            self.frames._bytes.clear()
        else:
            super().end(exit_code, sentence)


class OtherLengths(FrameReader):
    """Keeps only the low bits of a length."""

    bits = None

    def check_length(self, length, bytes_max):
        pass

    def _decode_length(self):
        length = 0
        for position, byte in enumerate(self._bytes):
            length += (byte % 128) << (7 * position)
            if byte < 128:
                return length % 2**self.bits, position + 1
            if position == 9:
                raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "The length has no end.")
        return None, 0


@mutant("length-low-32-bits", "CHAT-FRAME-14", "keeps the low 32 bits of a length")
class LengthLow32Bits(Client):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.frames = OtherLengths()
        self.frames.bits = 32


@mutant("length-low-64-bits", "CHAT-FRAME-14", "keeps the low 64 bits of a length")
class LengthLow64Bits(Client):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.frames = OtherLengths()
        self.frames.bits = 64


class EndlessLengths(FrameReader):
    def _decode_length(self):
        if len(self._bytes) >= 10 and min(self._bytes[:10]) > 127:
            return None, 0
        return super()._decode_length()


@mutant("endless-length-awaited", "CHAT-FRAME-11", "waits for the last byte of a length for ever")
class EndlessLengthAwaited(Client):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.frames = EndlessLengths()


@mutant("longer-length-refused", "CHAT-FRAME-3", "refuses a length in more bytes than necessary")
class LongerLengthRefused(Client):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.frames = ShortestLengths()


class ShortestLengths(FrameReader):
    def _decode_length(self):
        length, prefix_bytes = super()._decode_length()
        if prefix_bytes > 1 and length < 128 ** (prefix_bytes - 1):
            raise Refused(pb.ERROR_CODE_MALFORMED_FRAME, "The length is too long.")
        return length, prefix_bytes


@mutant("chat-first", "CHAT-REG-1", "sends a Chat before Register")
class ChatFirst(Client):
    def register(self):
        self.send(chat=pb.Chat(text="hello"))
        super().register()


@mutant("speaks-unregistered", "CHAT-REG-10", "sends typed lines without waiting for Registered")
class SpeaksUnregistered(Client):
    def register(self):
        super().register()
        self.limits = pb.Limits()
        self.registered = True
        self.give_up_at = None


@mutant("password-not-sent", "CHAT-ADM-6", "registers without the password it was given")
class PasswordNotSent(Client):
    def register(self):
        self.password = ""
        super().register()


@mutant("password-ascii-only", "CHAT-ADM-6", "sends only the ASCII characters of its password")
class PasswordAsciiOnly(Client):
    def register(self):
        self.password = self.password.encode("ascii", "ignore").decode()
        super().register()


class RegistersAgain(Client):
    """Connects and registers again after an error that should end it."""

    code = None

    def receive_error(self, error):
        if error.code == self.code:
            server = self.socket.getpeername()
            self.socket.close()
            self.socket = socket.create_connection(server)
            self.socket.setblocking(False)
            self.registered = False
            self.register()
        else:
            super().receive_error(error)


@mutant("password-tried-again", "CHAT-ADM-7", "tries a refused password again and again")
class PasswordTriedAgain(RegistersAgain):
    code = pb.ERROR_CODE_PASSWORD_WRONG


@mutant("name-taken-back", "CHAT-NAME-10", "registers a reclaimed name again")
class NameTakenBack(RegistersAgain):
    code = pb.ERROR_CODE_NAME_RECLAIMED


@mutant("kicked-comes-back", "CHAT-MOD-6", "registers again after it was thrown out")
class KickedComesBack(RegistersAgain):
    code = pb.ERROR_CODE_KICKED


@mutant("banned-comes-back", "CHAT-MOD-6", "registers again after it was banned")
class BannedComesBack(RegistersAgain):
    code = pb.ERROR_CODE_BANNED


@mutant("owned-name-again", "CHAT-ID-15", "registers a name that belongs to another key again")
class OwnedNameAgain(RegistersAgain):
    code = pb.ERROR_CODE_NAME_OWNED


@mutant("wrong-proof-again", "CHAT-ID-15", "registers again after its proof was refused")
class WrongProofAgain(RegistersAgain):
    code = pb.ERROR_CODE_PROOF_WRONG
    key = Key(bytes(32))


@mutant("challenge-unanswered", "CHAT-ID-13", "sends a key and never proves it")
class ChallengeUnanswered(Client):
    key = Key(bytes(32))

    def receive_challenge(self, challenge):
        pass


@mutant("proof-of-another-name", "CHAT-ID-13", "proves its key for another name")
class ProofOfAnotherName(Client):
    key = Key(bytes(32))

    def receive_challenge(self, challenge):
        signature = self.key.prove(challenge, self.name + "x")
        self.send(proof=pb.Proof(signature=signature))


@mutant("challenge-expected", "CHAT-ID-14", "takes no Registered without a Challenge")
class ChallengeExpected(Client):
    key = Key(bytes(32))
    is_challenged = False

    def receive_challenge(self, challenge):
        self.is_challenged = True
        super().receive_challenge(challenge)

    def receive_registered(self, registered):
        if not self.is_challenged:
            self.end(1, "The server does not ask for the key.")
        else:
            super().receive_registered(registered)


@mutant("password-shown", "CHAT-ADM-8", "prints the password that it registers with")
class PasswordShown(Client):
    def register(self):
        self.note(f"Registering as {self.name} with {self.password!r}.")
        super().register()


@mutant("refusal-unsaid", "CHAT-ADM-9", "exits without a message when it is refused")
class RefusalUnsaid(Client):
    def receive_error(self, error):
        if error.code in (pb.ERROR_CODE_PASSWORD_WRONG, pb.ERROR_CODE_NAME_NOT_ALLOWED):
            self.end(1)
        else:
            super().receive_error(error)


@mutant("refusal-is-success", "CHAT-ADM-9", "exits with status 0 when it is refused")
class RefusalIsSuccess(Client):
    def receive_error(self, error):
        if error.code in (pb.ERROR_CODE_PASSWORD_WRONG, pb.ERROR_CODE_NAME_NOT_ALLOWED):
            self.end(0, error.detail)
        else:
            super().receive_error(error)


@mutant("closing-ignored", "CHAT-CLOSE-4", "stays connected after ServerClosing")
class ClosingIgnored(Client):
    def receive(self, envelope):
        if envelope.WhichOneof("message") != "server_closing":
            super().receive(envelope)


@mutant("ends-session-ignored", "CHAT-ERR-7", "continues after a fatal error")
class EndsSessionIgnored(Client):
    def receive_error(self, error):
        error.ends_session = False
        super().receive_error(error)


@mutant("refused-and-speaks", "CHAT-ERR-7", "says typed lines although its Register was refused")
class RefusedAndSpeaks(Client):
    def receive_error(self, error):
        if error.ends_session and not self.registered:
            self.registered = True
            self.limits = pb.Limits()
            self.give_up_at = None
        else:
            super().receive_error(error)


@mutant("every-error-ends", "CHAT-ERR-7", "ends at every error")
class EveryErrorEnds(Client):
    def receive_error(self, error):
        error.ends_session = True
        super().receive_error(error)


@mutant("unknown-message-ends", "CHAT-GROW-2", "ends when it receives an unknown message")
class UnknownMessageEnds(Client):
    def receive(self, envelope):
        if envelope.WhichOneof("message") is None:
            self.end(1, "The server sends a message that is unknown here.")
        else:
            super().receive(envelope)


@mutant("unknown-field-ends", "CHAT-GROW-3", "ends when it receives an unknown field")
class UnknownFieldEnds(Client):
    def receive(self, envelope):
        message = envelope.WhichOneof("message")
        if message and len(UnknownFieldSet(getattr(envelope, message))) > 0:
            self.end(1, "The server sends a field that is unknown here.")
        else:
            super().receive(envelope)


@mutant("unknown-code-ends", "CHAT-GROW-5", "ends at an error with an unknown code")
class UnknownCodeEnds(Client):
    def receive_error(self, error):
        if error.code not in pb.ErrorCode.values():
            error.ends_session = True
        super().receive_error(error)


@mutant("unknown-code-ignored", "CHAT-GROW-5", "continues after a fatal error with an unknown code")
class UnknownCodeIgnored(Client):
    def receive_error(self, error):
        if error.code not in pb.ErrorCode.values():
            error.ends_session = False
        super().receive_error(error)


@mutant("unknown-reason-ends", "CHAT-GROW-8", "ends at a Left with an unknown reason")
class UnknownReasonEnds(Client):
    def receive(self, envelope):
        if envelope.WhichOneof("message") == "left":
            if envelope.left.reason not in pb.LeftReason.values():
                self.end(1, "The server sends a reason that is unknown here.")
        super().receive(envelope)


@mutant("pong-missing", "CHAT-KEEP-2", "does not answer a Ping")
class PongMissing(Client):
    def send(self, **message):
        if "pong" not in message:
            super().send(**message)


@mutant("pong-token-missing", "CHAT-KEEP-2", "answers a Ping without its token")
class PongTokenMissing(Client):
    def send(self, **message):
        super().send(**({"pong": pb.Pong()} if "pong" in message else message))


@mutant("direct-ack-missing", "CHAT-DM-13", "acknowledges no Direct")
class DirectAckMissing(Client):
    def send(self, **message):
        if "direct_ack" not in message:
            super().send(**message)


@mutant("file-fetched-unasked", "CHAT-FILE-18", "fetches every file")
class FileFetchedUnasked(Client):
    CAPABILITIES = (*Client.CAPABILITIES, pb.CAPABILITY_FILES)

    def receive(self, envelope):
        super().receive(envelope)
        for file in envelope.chat.files:
            self.send(get_file=pb.GetFile(sha256=file.sha256))


@mutant("leave-missing", "CHAT-LEAVE-1", "closes without Leave")
class LeaveMissing(Client):
    def leave(self):
        self.left = True
        self.end(0)


@mutant("ids-begin-anew", "CHAT-RES-14", "gives ids again after a lost connection")
class IdsBeginAnew(Client):
    def continue_line(self, registered):
        super().continue_line(registered)
        self.last_id = 0


@mutant("window-ignored", "CHAT-RES-15", "has more chats unanswered than it may")
class WindowIgnored(Client):
    def unanswered_max(self):
        return 64


class SendsAgainOtherwise(Client):
    """Does something else in place of sending again what was not answered."""

    def continue_line(self, registered):
        super().continue_line(registered)
        if self.unanswered:
            self.unsent.clear()
            self.send_again()


@mutant("resends-backwards", "CHAT-RES-16", "sends the unanswered chats again in reverse")
class ResendsBackwards(SendsAgainOtherwise):
    def send_again(self):
        for chat_id in sorted(self.unanswered, reverse=True):
            self.send(chat=pb.Chat(text=self.unanswered[chat_id], id=chat_id))


@mutant("resends-with-new-ids", "CHAT-RES-16", "sends the unanswered chats again as new ones")
class ResendsWithNewIds(SendsAgainOtherwise):
    def send_again(self):
        self.lines_again.extend(self.unanswered.values())
        self.unanswered.clear()


@mutant("resends-forgotten", "CHAT-RES-16", "sends new chats and none of the unanswered ones")
class ResendsForgotten(SendsAgainOtherwise):
    def send_again(self):
        self.unanswered.clear()


@mutant("resends-unasked", "CHAT-RES-17", "sends unanswered chats again on a line of its own")
class ResendsUnasked(Client):
    def continue_line(self, registered):
        unanswered = dict(self.unanswered)
        super().continue_line(registered)
        if not registered.resumed_from:
            for chat_id, text in unanswered.items():
                self.send(chat=pb.Chat(text=text, id=chat_id))


@mutant("attempt-not-raised", "CHAT-RES-18", "says that each attempt is the first")
class AttemptNotRaised(Client):
    def register(self):
        if self.line is not None:
            self.line.attempt = 0
        super().register()


@mutant("replaced-comes-back", "CHAT-RES-19", "registers again after REPLACED")
class ReplacedComesBack(Client):
    def receive_error(self, error):
        if error.code == pb.ERROR_CODE_REPLACED:
            error.code = pb.ERROR_CODE_IDLE_TIMEOUT
        super().receive_error(error)


@mutant("seq-of-the-newest", "CHAT-RES-20", "says that it has all up to the newest chat")
class SeqOfTheNewest(Client):
    def register(self):
        if self.line is not None and self.line.beyond:
            self.line.seq = max(self.line.beyond)
        super().register()


@mutant("token-kept", "CHAT-RES-21", "uses a token in the next epoch")
class TokenKept(Client):
    def receive_registered(self, registered):
        token = self.line.token if self.line is not None else None
        super().receive_registered(registered)
        if token:
            self.line.token = token
