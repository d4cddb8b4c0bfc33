"""Mistakes in the corners of the rules that the proxy breaks: streams that are cut, values
that are just not allowed, and what an operator's word reaches."""

from mutants.proxy import Filtering, Link, mutant
from room import NAME
from schema import chat_pb2 as pb


def is_word(text):
    return NAME.fullmatch(text) is not None


# Streams that are cut.

CHAT_TAG = 0x0A
REGISTER_TAG = 0x12
# Of the text of a Chat, and of the name of a Register.
FIRST_TAG = 0x0A


def behind_varint(data):
    """The bytes behind a length."""
    for position, byte in enumerate(data):
        if byte < 128:
            return data[position + 1 :]
    return b""


def first_of(rest, tag):
    """The first field of the message in a frame that was cut short, as far as it came, and
    whether it is whole; empty for a message of another kind."""
    body = behind_varint(rest)
    message = behind_varint(body[1:]) if body[:1] == bytes([tag]) else b""
    if len(message) < 2 or message[0] != FIRST_TAG:
        return "", False
    value = message[2 : 2 + message[1]]
    return value.decode(errors="replace"), len(value) == message[1]


@mutant("cut-chat-acted-on", "CHAT-FRAME-9", "accepts a chat that the end of the stream cut short")
class CutChatActedOn(Link):
    def cut_short(self, rest):
        text, _ = first_of(rest, CHAT_TAG) if self.registered else ("", False)
        return [pb.ClientEnvelope(chat=pb.Chat(text=text))] if text else []


@mutant("cut-register-acted-on", "CHAT-FRAME-9", "resumes the line of a Register that was cut short")
class CutRegisterActedOn(Link):
    def answer(self, registered):
        if registered.resume_token:
            self.shared[registered.name] = registered

    def cut_short(self, rest):
        name, is_whole = first_of(rest, REGISTER_TAG)
        before = self.shared.get(name) if is_whole else None
        if before is None or self.registered:
            return []
        resume = pb.Resume(
            token=before.resume_token, epoch=before.epoch, seq=before.seq, attempt=1
        )
        asked = [pb.CAPABILITY_RECEIPTS, pb.CAPABILITY_RESUME]
        register = pb.Register(name=before.name, capabilities=asked, resume=resume)
        return [pb.ClientEnvelope(register=register)]


# Following.


class OtherTopic(Link):
    """Lets some topics through that are none."""

    def is_let_through(self, topic):
        raise NotImplementedError

    def client_chat(self, envelope):
        if self.is_let_through(envelope.chat.topic):
            envelope.chat.topic = "build"
        return [envelope]


@mutant("topic-of-any-first-letter", "CHAT-FOL-1", "lets a topic begin with a dot")
class TopicOfAnyFirstLetter(OtherTopic):
    def is_let_through(self, topic):
        return topic[:1] in (".", "_", "-") and is_word(topic[1:])


@mutant("topic-with-a-line-break", "CHAT-FOL-1", "lets a line break stand behind a topic")
class TopicWithALineBreak(OtherTopic):
    def is_let_through(self, topic):
        return topic[-1:] == "\n" and is_word(topic[:-1])


@mutant("bad-topic-of-anybody-refused", "CHAT-FOL-2", "judges topics that it leaves out")
class BadTopicOfAnybodyRefused(Link):
    def client_chat(self, envelope):
        chat = envelope.chat
        is_granted = pb.CAPABILITY_FOLLOW in self.registered.capabilities
        if not is_granted and chat.topic and not is_word(chat.topic):
            # The server refuses an empty text in the same way.
            chat.text = ""
        return [envelope]

    def server_error(self, envelope):
        if envelope.error.code == pb.ERROR_CODE_TEXT_INVALID:
            envelope.error.code = pb.ERROR_CODE_TOPIC_INVALID
        return [envelope]


@mutant("empty-filter-keeps-all-out", "CHAT-FOL-4", "takes an empty filter for one of nothing")
class EmptyFilterKeepsAllOut(Link):
    is_empty = False

    def register(self, register):
        self.is_empty = register.HasField("filter") and register.filter == pb.Filter()

    def client_follow(self, envelope):
        follow = envelope.follow
        self.is_empty = follow.HasField("filter") and follow.filter == pb.Filter()
        return [envelope]

    def server_chat(self, envelope):
        return [] if self.is_empty else [envelope]


@mutant("entry-of-any-first-letter", "CHAT-FOL-5", "lets an entry of a filter begin with a dot")
class EntryOfAnyFirstLetter(Filtering):
    def change(self, filter):
        topics = [topic.lstrip("._-") for topic in filter.topics]
        del filter.topics[:]
        filter.topics.extend(topics)


@mutant("covered-counts-from-the-follow", "CHAT-COV-4", "counts the chats since the last Follow")
class CoveredCountsFromTheFollow(Link):
    sent = 0

    def server_following(self, envelope):
        self.sent = 0
        return [envelope]

    def server_chat(self, envelope):
        self.sent += 1
        return [envelope]

    def server_covered(self, envelope):
        envelope.covered.sent = self.sent
        return [envelope]


# The past.


class Librarian(Link):
    """Loses something of each chat on its way into the past."""

    def change(self, chat):
        raise NotImplementedError

    def server_history(self, envelope):
        for chat in envelope.history.chats:
            self.change(chat)
        return [envelope]


@mutant("page-without-mentions", "CHAT-HIST-2", "forgets the mentions of past chats")
class PageWithoutMentions(Librarian):
    def change(self, chat):
        del chat.mentions[:]


@mutant("page-without-sender-ids", "CHAT-HIST-2", "forgets the keys of past senders")
class PageWithoutSenderIds(Librarian):
    def change(self, chat):
        chat.sender_id = b""


@mutant("limit-cut-to-16-bits", "CHAT-HIST-7", "keeps the low 16 bits of a limit")
class LimitCutTo16Bits(Link):
    def client_get_history(self, envelope):
        envelope.get_history.limit %= 2**16
        return [envelope]


# Resuming, Directs, files.


@mutant("attempt-of-zero-resumes", "CHAT-RES-6", "takes a missing attempt for the first one")
class AttemptOfZeroResumes(Link):
    def register(self, register):
        if register.HasField("resume") and register.resume.attempt == 0:
            register.resume.attempt = 1


@mutant("direct-to-oneself-refused", "CHAT-DM-2", "reaches every member but the sender")
class DirectToOneselfRefused(Link):
    def client_direct(self, envelope):
        if envelope.direct.peer.lower() == self.name.lower():
            # No member has such a name.
            envelope.direct.peer = ""
        return [envelope]


@mutant("direct-file-unchecked", "CHAT-FILE-1", "checks the files of chats alone")
class DirectFileUnchecked(Link):
    def __init__(self, shared):
        super().__init__(shared)
        self.uploaded = set()

    def client_put_file(self, envelope):
        self.uploaded.add(envelope.put_file.sha256)
        return [envelope]

    def client_direct(self, envelope):
        files = [file for file in envelope.direct.files if file.sha256 in self.uploaded]
        del envelope.direct.files[:]
        envelope.direct.files.extend(files)
        return [envelope]


@mutant("long-hash-cut", "CHAT-FILE-9", "cuts a hash that is too long")
class LongHashCut(Link):
    def client_put_file(self, envelope):
        envelope.put_file.sha256 = envelope.put_file.sha256[:32]
        return [envelope]


@mutant("file-range-cut-to-a-piece", "CHAT-FILE-10", "answers a range with one piece")
class FileRangeCutToAPiece(Link):
    def client_get_file(self, envelope):
        get = envelope.get_file
        get.length = min(get.length, self.registered.limits.file_chunk_bytes_max)
        return [envelope]


@mutant("file-first-piece-again", "CHAT-FILE-10", "sends the bytes of the first piece in each")
class FileFirstPieceAgain(Link):
    def client_get_file(self, envelope):
        self.first = b""
        return [envelope]

    def server_file_data(self, envelope):
        piece = envelope.file_data
        self.first = self.first or piece.data
        piece.data = self.first[: len(piece.data)]
        return [envelope]


@mutant("file-pieces-swapped", "CHAT-FILE-10", "sends the second piece of a file first")
class FilePiecesSwapped(Link):
    held = None
    asked = 0

    def client_get_file(self, envelope):
        self.asked = envelope.get_file.offset
        return [envelope]

    def server_file_data(self, envelope):
        piece = envelope.file_data
        is_full = len(piece.data) == self.registered.limits.file_chunk_bytes_max
        if piece.offset == self.asked and is_full:
            self.held = envelope
            return []
        held, self.held = self.held, None
        return [envelope, held] if held else [envelope]


# The operator.


@mutant("mute-spares-directs", "CHAT-MOD-4", "lets the Directs of a muted member through")
class MuteSparesDirects(Link):
    def __init__(self, shared):
        super().__init__(shared)
        self.directs = set()

    def client_direct(self, envelope):
        self.directs.add(envelope.direct.id)
        return [envelope]

    def server_error(self, envelope):
        error = envelope.error
        if error.code != pb.ERROR_CODE_MUTED or error.id not in self.directs:
            return [envelope]
        return [pb.ServerEnvelope(receipt=pb.Receipt(id=error.id, time_unix_ms=1))]


@mutant("mute-ends-with-the-session", "CHAT-MOD-4", "forgets a mute when the member leaves")
class MuteEndsWithTheSession(Link):
    def client_leave(self, envelope):
        self.shared[self.name.lower()] = True
        return [envelope]

    def server_error(self, envelope):
        is_muted = envelope.error.code == pb.ERROR_CODE_MUTED
        return [] if is_muted and self.name.lower() in self.shared else [envelope]


@mutant("mute-in-one-case", "CHAT-MOD-4", "mutes a name as it is written alone")
class MuteInOneCase(Link):
    def server_error(self, envelope):
        is_muted = envelope.error.code == pb.ERROR_CODE_MUTED
        return [] if is_muted and self.name.isupper() else [envelope]


@mutant("banned-line-goes-on", "CHAT-MOD-5", "resumes the session of a banned member")
class BannedLineGoesOn(Link):
    def server_error(self, envelope):
        if self.registered and envelope.error.code == pb.ERROR_CODE_BANNED:
            self.shared[self.name] = True
        return [envelope]

    def answer(self, registered):
        if registered.resume_failure and registered.name in self.shared:
            registered.ClearField("resume_failure")
            registered.resumed_from = registered.seq + 1


@mutant("operator-unnumbered", "CHAT-ORD-1", "gives no number to what the operator says")
class OperatorUnnumbered(Link):
    def server_chat(self, envelope):
        if envelope.chat.sender == "server":
            envelope.chat.seq = 0
        return [envelope]


# The order of checks.


def is_bad(filter):
    return not all(map(is_word, [*filter.topics, *filter.senders, *filter.ignore]))


@mutant("topic-before-text", "CHAT-ERR-5", "judges the topic of a chat before its text")
class TopicBeforeText(Link):
    def client_chat(self, envelope):
        chat = envelope.chat
        if not all(map(is_word, [chat.topic or "none", *chat.mentions])):
            chat.text = "a text"
        return [envelope]


@mutant("file-name-before-topic", "CHAT-ERR-5", "judges the files of a chat before its topic")
class FileNameBeforeTopic(Link):
    def client_chat(self, envelope):
        chat = envelope.chat
        if any(file.name.startswith(".") for file in chat.files):
            chat.text, chat.topic = "a text", ""
        return [envelope]


@mutant("text-before-mute", "CHAT-ERR-5", "judges the text of a muted member's chat")
class TextBeforeMute(Link):
    def __init__(self, shared):
        super().__init__(shared)
        self.empty = set()

    def client_chat(self, envelope):
        if not envelope.chat.text:
            self.empty.add(envelope.chat.id)
        return [envelope]

    def server_error(self, envelope):
        error = envelope.error
        if error.code == pb.ERROR_CODE_MUTED and error.id in self.empty:
            error.code = pb.ERROR_CODE_TEXT_INVALID
        return [envelope]


@mutant("proof-before-filter", "CHAT-ERR-5", "asks for the proof before it judges the filter")
class ProofBeforeFilter(Link):
    def register(self, register):
        if register.key and is_bad(register.filter):
            register.ClearField("filter")


@mutant("filter-before-owner", "CHAT-ERR-5", "judges the filter before the owner of the name")
class FilterBeforeOwner(Link):
    is_filter_bad = False

    def register(self, register):
        self.is_filter_bad = is_bad(register.filter)

    def server_error(self, envelope):
        if self.is_filter_bad and envelope.error.code == pb.ERROR_CODE_NAME_OWNED:
            envelope.error.code = pb.ERROR_CODE_REQUEST_INVALID
        return [envelope]


@mutant("unknown-file-before-how-many", "CHAT-ERR-5", "looks for the files of a chat before it counts them")
class UnknownFileBeforeHowMany(Link):
    def server_error(self, envelope):
        error = envelope.error
        if error.code == pb.ERROR_CODE_REQUEST_INVALID and error.id and not error.sha256:
            error.code = pb.ERROR_CODE_FILE_UNKNOWN
        return [envelope]


@mutant("how-many-before-file-names", "CHAT-ERR-5", "counts the files of a chat before it reads their names")
class HowManyBeforeFileNames(Link):
    def client_chat(self, envelope):
        files = envelope.chat.files
        if len(files) > self.registered.limits.files_per_chat_max:
            for file in files:
                file.name = "a"
        return [envelope]


class BansLater(Link):
    """Judges something of a Register before the bans."""

    is_wrong = False
    code = pb.ERROR_CODE_UNSPECIFIED

    def server_error(self, envelope):
        if self.is_wrong and envelope.error.code == pb.ERROR_CODE_BANNED:
            envelope.error.code = self.code
        return [envelope]


@mutant("key-before-ban", "CHAT-ERR-5", "judges the key before the bans")
class KeyBeforeBan(BansLater):
    code = pb.ERROR_CODE_PROOF_WRONG

    def register(self, register):
        self.is_wrong = len(register.key) not in (0, 32)


@mutant("filter-before-ban", "CHAT-ERR-5", "judges the filter before the bans")
class FilterBeforeBan(BansLater):
    code = pb.ERROR_CODE_REQUEST_INVALID

    def register(self, register):
        self.is_wrong = is_bad(register.filter)
