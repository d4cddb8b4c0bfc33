"""What a tired implementer does to capabilities: the second and third mistake of each rule
that the proxy breaks."""

import re
import time

from mutants.proxy import (
    NO_TOKEN,
    OTHER_ID,
    Clerk,
    Filtering,
    Forgetful,
    Link,
    Postman,
    WithKey,
    mutant,
)
from room import NAME
from schema import chat_pb2 as pb

# An id of the proxy's own requests.
OWN_ID = 2**50
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f/\\:]")


def is_word(text):
    return NAME.fullmatch(text) is not None


def is_bad(filter):
    return not all(map(is_word, [*filter.topics, *filter.senders, *filter.ignore]))



# Following.


@mutant("long-topic-cut", "CHAT-FOL-1", "cuts a topic that is too long")
class LongTopicCut(Link):
    def client_chat(self, envelope):
        envelope.chat.topic = envelope.chat.topic[:32]
        return [envelope]


@mutant("bad-mentions-left-out", "CHAT-FOL-1", "leaves out mentions that are no names")
class BadMentionsLeftOut(Link):
    def client_chat(self, envelope):
        names = [name for name in envelope.chat.mentions if is_word(name)]
        del envelope.chat.mentions[:]
        envelope.chat.mentions.extend(names)
        return [envelope]


@mutant("mentions-unbounded", "CHAT-FOL-1", "counts no mentions")
class MentionsUnbounded(Link):
    def client_chat(self, envelope):
        del envelope.chat.mentions[self.registered.limits.mentions_max :]
        return [envelope]


@mutant("topic-in-lower-case", "CHAT-FOL-2", "relays topics in lower case")
class TopicInLowerCase(Link):
    def server_chat(self, envelope):
        envelope.chat.topic = envelope.chat.topic.lower()
        return [envelope]


@mutant("topic-of-anybody", "CHAT-FOL-2", "relays the topic of a member without follow")
class TopicOfAnybody(Link):
    def client_chat(self, envelope):
        self.shared[envelope.chat.text] = envelope.chat.topic
        return [envelope]

    def server_chat(self, envelope):
        envelope.chat.topic = self.shared.get(envelope.chat.text, "")
        return [envelope]


@mutant("mention-from-the-text", "CHAT-FOL-3", "takes mentions from the text")
class MentionFromTheText(Link):
    def server_chat(self, envelope):
        if not envelope.chat.mentions:
            envelope.chat.mentions.extend(re.findall(r"@([\w.-]+)", envelope.chat.text))
        return [envelope]


@mutant("topics-in-one-case", "CHAT-FOL-4", "compares topics in their case")
class TopicsInOneCase(Link):
    topics = ()

    def client_follow(self, envelope):
        self.topics = list(envelope.follow.filter.topics)
        return [envelope]

    def server_chat(self, envelope):
        topic = envelope.chat.topic
        folded = [known.lower() for known in self.topics]
        return [] if topic.lower() in folded and topic not in self.topics else [envelope]


@mutant("bad-ignore-is-taken", "CHAT-FOL-5", "checks topics and senders alone")
class BadIgnoreIsTaken(Filtering):
    def change(self, filter):
        ignored = [name for name in filter.ignore if is_word(name)]
        del filter.ignore[:]
        filter.ignore.extend(ignored)


@mutant("bad-filter-in-register", "CHAT-FOL-5", "lets a client with a bad filter in without one")
class BadFilterInRegister(Link):
    def register(self, register):
        if is_bad(register.filter):
            register.ClearField("filter")


@mutant("bad-filter-clears", "CHAT-ERR-3", "refuses a bad filter, and takes the one before away")
class BadFilterClears(Link):
    def client_follow(self, envelope):
        if not is_bad(envelope.follow.filter):
            return [envelope]
        return [pb.ClientEnvelope(follow=pb.Follow(id=OWN_ID)), envelope]

    def server_following(self, envelope):
        return [] if envelope.following.id == OWN_ID else [envelope]


@mutant("filter-unbounded", "CHAT-FOL-5", "counts no entries of a filter")
class FilterUnbounded(Filtering):
    def change(self, filter):
        del filter.topics[self.registered.limits.filter_entries_max :]


@mutant("follow-without-id", "CHAT-FOL-6", "answers a Follow without its id")
class FollowWithoutId(Link):
    def server_following(self, envelope):
        envelope.following.id = 0
        return [envelope]


@mutant("following-without-a-number", "CHAT-FOL-7", "tells no place of a change")
class FollowingWithoutANumber(Link):
    def server_following(self, envelope):
        envelope.following.seq = 0
        return [envelope]


@mutant("following-one-too-high", "CHAT-FOL-7", "tells the number behind the place")
class FollowingOneTooHigh(Link):
    def server_following(self, envelope):
        envelope.following.seq += 1
        return [envelope]


@mutant("filter-of-the-line", "CHAT-FOL-9", "keeps the filter of a line over a lost connection")
class FilterOfTheLine(Link):
    def client_follow(self, envelope):
        self.shared[self.name.lower()] = list(envelope.follow.filter.topics)
        return [envelope]

    def server_chat(self, envelope):
        topics = self.shared.get(self.name.lower())
        is_resumed = self.registered.resumed_from > 0
        return [] if topics and is_resumed and envelope.chat.topic not in topics else [envelope]


@mutant("register-filter-later", "CHAT-FOL-9", "applies the filter of Register behind a chat")
class RegisterFilterLater(Link):
    wants = None

    def register(self, register):
        if register.HasField("filter"):
            self.wants = pb.Filter()
            self.wants.CopyFrom(register.filter)
            register.ClearField("filter")

    def server_chat(self, envelope):
        self.passed = getattr(self, "passed", 0) + 1
        is_out = self.wants and self.passed > 1 and envelope.chat.topic not in self.wants.topics
        return [] if is_out else [envelope]


@mutant("page-by-the-filter-of-the-session", "CHAT-FOL-10", "filters pages by the last Follow")
class PageByTheFilterOfTheSession(Link):
    filter = None

    def client_follow(self, envelope):
        self.filter = envelope.follow.filter
        return [envelope]

    def client_get_history(self, envelope):
        if self.filter and not envelope.get_history.HasField("filter"):
            envelope.get_history.filter.CopyFrom(self.filter)
        return [envelope]


@mutant("page-filter-not-granted", "CHAT-FOL-11", "filters the page of a member without follow")
class PageFilterNotGranted(Link):
    topics = ()

    def client_get_history(self, envelope):
        self.topics = list(envelope.get_history.filter.topics)
        return [envelope]

    def server_history(self, envelope):
        chats = [c for c in envelope.history.chats if c.topic in self.topics or not self.topics]
        del envelope.history.chats[:]
        envelope.history.chats.extend(chats)
        return [envelope]


@mutant("bad-filter-not-granted", "CHAT-FOL-11", "refuses a filter that counts for nothing")
class BadFilterNotGranted(Link):
    def register(self, register):
        if is_bad(register.filter):
            register.capabilities.append(pb.CAPABILITY_FOLLOW)


# Coverage.


@mutant("covered-one-too-high", "CHAT-COV-1", "covers a number that nobody has accepted")
class CoveredOneTooHigh(Link):
    def server_covered(self, envelope):
        envelope.covered.seq += 1
        return [envelope]


@mutant("covered-counts-all", "CHAT-COV-4", "counts the chats of the room")
class CoveredCountsAll(Link):
    def server_covered(self, envelope):
        envelope.covered.sent = envelope.covered.seq
        return [envelope]


@mutant("covered-counts-nothing", "CHAT-COV-4", "counts no chats")
class CoveredCountsNothing(Link):
    def server_covered(self, envelope):
        envelope.covered.sent = 0
        return [envelope]


# Directs.


@mutant("direct-to-everybody", "CHAT-DM-2", "sends a Direct to others too, who may not look")
class DirectToEverybody(Link):
    seen = 0

    def server_direct(self, envelope):
        self.shared.setdefault("directs", []).append((self.name, envelope))
        return [envelope]

    def server_chat(self, envelope):
        others = self.shared.get("directs", [])[self.seen :]
        self.seen += len(others)
        return [*(copy for name, copy in others if name != self.name), envelope]


@mutant("direct-in-one-case", "CHAT-DM-2", "finds a recipient by the case of its name alone")
class DirectInOneCase(Postman):
    def answer(self, registered):
        super().answer(registered)
        self.shared.setdefault("names", set()).add(registered.name)

    def client_direct(self, envelope):
        if envelope.direct.peer not in self.shared["names"]:
            envelope.direct.peer = "nobody-of-this-name"
        return [envelope]


@mutant("direct-in-a-page", "CHAT-DM-3", "puts Directs into the past")
class DirectInAPage(Link):
    def server_direct(self, envelope):
        self.shared["last"] = envelope.direct.text
        return [envelope]

    def server_history(self, envelope):
        if "last" in self.shared and envelope.history.chats:
            direct = envelope.history.chats.add()
            direct.CopyFrom(envelope.history.chats[0])
            direct.text = self.shared["last"]
        return [envelope]


@mutant("direct-is-resumed", "CHAT-DM-3", "sends Directs again to a session that resumes")
class DirectIsResumed(Link):
    def server_direct(self, envelope):
        self.shared[self.name] = envelope
        return [envelope]

    def server_registered(self, envelope):
        direct = self.shared.get(envelope.registered.name)
        is_resumed = envelope.registered.resumed_from > 0
        return [envelope, direct] if direct and is_resumed else [envelope]


@mutant("direct-id-relayed", "CHAT-DM-4", "relays the id of a Direct")
class DirectIdRelayed(Link):
    def client_direct(self, envelope):
        self.shared[envelope.direct.text] = envelope.direct.id
        return [envelope]

    def server_direct(self, envelope):
        envelope.direct.id = self.shared.get(envelope.direct.text, 0)
        return [envelope]


@mutant("direct-of-any-length", "CHAT-DM-5", "cuts the text of a Direct that is too long")
class DirectOfAnyLength(Link):
    def client_direct(self, envelope):
        most = self.registered.limits.text_bytes_max
        envelope.direct.text = envelope.direct.text.encode()[:most].decode(errors="ignore")
        return [envelope]


@mutant("direct-with-controls", "CHAT-DM-5", "replaces the control characters of a Direct")
class DirectWithControls(Link):
    def client_direct(self, envelope):
        envelope.direct.text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", envelope.direct.text)
        return [envelope]


@mutant("ignored-is-told", "CHAT-DM-6", "tells a sender that it is ignored")
class IgnoredIsTold(Postman):
    peer = ""

    def client_direct(self, envelope):
        self.peer = envelope.direct.peer
        return [envelope]

    def server_error(self, envelope):
        takes_directs = pb.CAPABILITY_DIRECT in self.shared["members"].get(self.peer.lower(), [])
        if envelope.error.code == pb.ERROR_CODE_NOT_REACHABLE and takes_directs:
            envelope.error.detail = "that member ignores you"
        return [envelope]


@mutant("ignored-is-heard-alone", "CHAT-DM-6", "delivers the Directs of ignored senders")
class IgnoredIsHeardAlone(Filtering):
    def change(self, filter):
        del filter.ignore[:]


@mutant("unreachable-is-swallowed", "CHAT-DM-6", "answers no Direct that reaches nobody")
class UnreachableIsSwallowed(Link):
    def server_error(self, envelope):
        return [] if envelope.error.code == pb.ERROR_CODE_NOT_REACHABLE else [envelope]


@mutant("direct-receipt-numbered", "CHAT-DM-7", "puts the last number into the Receipt of a Direct")
class DirectReceiptNumbered(Link):
    last_seq = 1

    def server_receipt(self, envelope):
        envelope.receipt.seq = envelope.receipt.seq or self.last_seq
        self.last_seq = envelope.receipt.seq
        return [envelope]


@mutant("direct-receipt-late", "CHAT-DM-7", "answers a Direct behind the next chat")
class DirectReceiptLate(Link):
    held = None

    def server_receipt(self, envelope):
        if envelope.receipt.seq == 0 and self.held is None:
            self.held = envelope
            return []
        held, self.held = self.held, None
        return [envelope, held] if held else [envelope]


@mutant("directs-count-goes-on", "CHAT-DM-8", "counts the Directs of a line over its sessions")
class DirectsCountGoesOn(Link):
    def server_direct(self, envelope):
        counts = self.shared.setdefault("counts", {})
        counts[self.name] = counts.get(self.name, 0) + 1
        envelope.direct.seq = counts[self.name]
        return [envelope]


@mutant("direct-delivered-at-once", "CHAT-DM-9", "says delivered when a Direct is sent")
class DirectDeliveredAtOnce(Link):
    def server_receipt(self, envelope):
        if envelope.receipt.seq:
            return [envelope]
        state = pb.DirectState(id=envelope.receipt.id, delivered=True)
        return [envelope, pb.ServerEnvelope(direct_state=state)]

    def server_direct_state(self, envelope):
        return []


@mutant("direct-state-of-the-last", "CHAT-DM-9", "tells one state for an ack that covers several")
class DirectStateOfTheLast(Link):
    def client_direct_ack(self, envelope):
        last = self.shared.get("acked", 0)
        self.shared["skipped"] = max(0, envelope.direct_ack.seq - last - 1)
        self.shared["acked"] = envelope.direct_ack.seq
        return [envelope]

    def server_direct_state(self, envelope):
        if self.shared.get("skipped", 0) > 0:
            self.shared["skipped"] -= 1
            return []
        return [envelope]


@mutant("ack-of-nothing-refused", "CHAT-DM-10", "answers a DirectAck of nothing with an error")
class AckOfNothingRefused(Postman):
    def client_direct_ack(self, envelope):
        return [envelope if 0 < envelope.direct_ack.seq <= self.last_seq else pb.ClientEnvelope()]


@mutant("direct-ids-apart", "CHAT-DM-11", "remembers the ids of Directs apart from those of chats")
class DirectIdsApart(Forgetful):
    def has_forgotten(self, id):
        return id in self.shared.get("direct ids", ())

    def client_direct(self, envelope):
        self.shared.setdefault("direct ids", set()).add(envelope.direct.id)
        return [envelope]


# Files.


@mutant("file-of-another-size", "CHAT-FILE-1", "does not look at the size that a chat says")
class FileOfAnotherSize(Clerk):
    def client_chat(self, envelope):
        for file in envelope.chat.files:
            file.size = self.sizes.get(file.sha256, file.size)
        return [envelope]


@mutant("first-file-checked", "CHAT-FILE-1", "checks the first file of a chat alone")
class FirstFileChecked(Link):
    def client_chat(self, envelope):
        del envelope.chat.files[1:]
        return [envelope]


@mutant("pieces-unanswered", "CHAT-FILE-2", "answers the last piece of an upload alone")
class PiecesUnanswered(Clerk):
    def server_file_state(self, envelope):
        state = envelope.file_state
        return [envelope] if state.have in (0, self.sizes.get(state.sha256, 0)) else []


@mutant("bad-pieces-unanswered", "CHAT-FILE-2", "answers no piece that it does not take")
class BadPiecesUnanswered(Link):
    def server_error(self, envelope):
        return [] if envelope.error.code == pb.ERROR_CODE_FILE_MISMATCH else [envelope]


@mutant("empty-piece-taken", "CHAT-FILE-5", "takes an empty piece")
class EmptyPieceTaken(Clerk):
    def client_file_data(self, envelope):
        piece = envelope.file_data
        if piece.data or piece.sha256 not in self.sizes:
            return [envelope]
        put = pb.PutFile(sha256=piece.sha256, size=self.sizes[piece.sha256])
        return [pb.ClientEnvelope(put_file=put)]


@mutant("long-piece-cut", "CHAT-FILE-5", "takes of a piece what still belongs to the file")
class LongPieceCut(Clerk):
    def client_file_data(self, envelope):
        piece = envelope.file_data
        left = self.sizes.get(piece.sha256, 2**20) - piece.offset
        if 0 < left < len(piece.data):
            piece.data = piece.data[:left]
        return [envelope]


@mutant("piece-of-nothing-mismatches", "CHAT-FILE-5", "says FILE_MISMATCH without an upload")
class PieceOfNothingMismatches(Link):
    def server_error(self, envelope):
        if envelope.error.code == pb.ERROR_CODE_FILE_UNKNOWN:
            envelope.error.code = pb.ERROR_CODE_FILE_MISMATCH
        return [envelope]


@mutant("wrong-upload-kept", "CHAT-FILE-6", "refuses an upload for its hash, and keeps it")
class WrongUploadKept(Clerk):
    def server_error(self, envelope):
        if envelope.error.code == pb.ERROR_CODE_FILE_MISMATCH:
            self.shared[envelope.error.sha256] = True
        return [envelope]

    def server_file_state(self, envelope):
        state = envelope.file_state
        if self.shared.get(state.sha256) and state.have == 0:
            state.have = self.sizes[state.sha256]
        return [envelope]


class ChangedNames(Link):
    """Makes the names of files right."""

    def change(self, name):
        raise NotImplementedError

    def client_chat(self, envelope):
        for file in envelope.chat.files:
            file.name = self.change(file.name)
        return [envelope]


@mutant("file-name-cleaned", "CHAT-FILE-8", "replaces what a name of a file must not hold")
class FileNameCleaned(ChangedNames):
    def change(self, name):
        return NOT_IN_NAMES.sub("_", name)


@mutant("file-name-unhidden", "CHAT-FILE-8", "takes the dots from the start of a name")
class FileNameUnhidden(ChangedNames):
    def change(self, name):
        return name.lstrip(".") or name[:0]


@mutant("file-name-of-any-length", "CHAT-FILE-8", "cuts a name that is too long")
class FileNameOfAnyLength(ChangedNames):
    def change(self, name):
        return name.encode()[:128].decode(errors="ignore")


@mutant("any-number-of-files", "CHAT-FILE-9", "leaves out files above the announced number")
class AnyNumberOfFiles(Link):
    def client_chat(self, envelope):
        del envelope.chat.files[self.registered.limits.files_per_chat_max :]
        return [envelope]


@mutant("empty-file-taken", "CHAT-FILE-9", "takes a file without a byte for one of one byte")
class EmptyFileTaken(Link):
    def client_put_file(self, envelope):
        envelope.put_file.size = envelope.put_file.size or 1
        return [envelope]


@mutant("file-behind-its-end", "CHAT-FILE-9", "answers a GetFile from the end with nothing")
class FileBehindItsEnd(Link):
    def client_get_file(self, envelope):
        self.offset = envelope.get_file.offset
        return [envelope]

    def server_error(self, envelope):
        error = envelope.error
        if error.code == pb.ERROR_CODE_REQUEST_INVALID and getattr(self, "offset", 0):
            data = pb.FileData(sha256=error.sha256, offset=self.offset)
            return [pb.ServerEnvelope(file_data=data)]
        return [envelope]


@mutant("file-offsets-from-zero", "CHAT-FILE-10", "counts the offsets of pieces from the request")
class FileOffsetsFromZero(Link):
    def client_get_file(self, envelope):
        self.asked = envelope.get_file.offset
        return [envelope]

    def server_file_data(self, envelope):
        envelope.file_data.offset -= min(self.asked, envelope.file_data.offset)
        return [envelope]


@mutant("file-names-in-lower-case", "CHAT-FILE-16", "relays the names of files without blanks")
class FileNamesInLowerCase(Link):
    def server_chat(self, envelope):
        for file in envelope.chat.files:
            file.name = file.name.replace(" ", "_")
        return [envelope]


@mutant("direct-files-left-out", "CHAT-FILE-16", "relays a Direct without its files")
class DirectFilesLeftOut(Link):
    def server_direct(self, envelope):
        del envelope.direct.files[:]
        return [envelope]


# Identity.


@mutant("challenge-without-an-epoch", "CHAT-ID-2", "tells no epoch with a nonce")
class ChallengeWithoutAnEpoch(Link):
    def server_challenge(self, envelope):
        envelope.challenge.epoch = ""
        return [envelope]


@mutant("long-key-cut", "CHAT-ID-4", "cuts a key that is too long")
class LongKeyCut(Link):
    def register(self, register):
        register.key = register.key[:32]


@mutant("second-proof-ends", "CHAT-ID-7", "ends a session at its second Proof")
class SecondProofEnds(Link):
    def client_proof(self, envelope):
        self.cuts = self.registered is not None
        return [envelope]


@mutant("owned-in-one-case", "CHAT-ID-8", "guards an owned name in one case alone")
class OwnedInOneCase(Link):
    asked = ""

    def register(self, register):
        owned = self.shared.setdefault("owned", {})
        known = owned.get(register.name.lower())
        if known is None and register.key:
            owned[register.name.lower()] = register.name
        elif known and known != register.name:
            self.asked = register.name
            register.name = "x" + register.name[1:]

    def answer(self, registered):
        registered.name = self.asked or registered.name


@mutant("ghost-is-not-told-of-the-owner", "CHAT-ID-9", "closes the owner's ghost without a word")
class GhostIsNotToldOfTheOwner(Link):
    def server_error(self, envelope):
        return [] if envelope.error.code == pb.ERROR_CODE_REPLACED else [envelope]


@mutant("sender-id-whole", "CHAT-ID-12", "tells an id of 32 bytes")
class SenderIdWhole(Link):
    def server_chat(self, envelope):
        envelope.chat.sender_id *= 2
        return [envelope]


@mutant("sender-id-from-client", "CHAT-ID-12", "relays the id that a client says")
class SenderIdFromClient(Link):
    def client_chat(self, envelope):
        self.shared[envelope.chat.text] = envelope.chat.sender_id
        return [envelope]

    def server_chat(self, envelope):
        envelope.chat.sender_id = self.shared.get(envelope.chat.text) or envelope.chat.sender_id
        return [envelope]


# Resuming.


@mutant("token-too-long", "CHAT-RES-2", "gives a token of 65 bytes")
class TokenTooLong(Link):
    def answer(self, registered):
        if token := registered.resume_token:
            registered.resume_token = token.ljust(65, b"x")
            self.shared[registered.resume_token] = token

    def register(self, register):
        register.resume.token = self.shared.get(register.resume.token, register.resume.token)


@mutant("other-epoch-resumes", "CHAT-RES-4", "does not look at the epoch of a Resume")
class OtherEpochResumes(Link):
    def answer(self, registered):
        self.shared["epoch"] = registered.epoch

    def register(self, register):
        if register.HasField("resume"):
            register.resume.epoch = self.shared.get("epoch", "")


@mutant("other-case-is-another-name", "CHAT-RES-7", "resumes in the same case of a name alone")
class OtherCaseIsAnotherName(Link):
    def register(self, register):
        if self.shared.get(register.resume.token, register.name) != register.name:
            register.resume.token = NO_TOKEN

    def answer(self, registered):
        self.shared[registered.resume_token] = registered.name


@mutant("resumed-from-the-last", "CHAT-RES-8", "names the last number that the client has")
class ResumedFromTheLast(Link):
    def answer(self, registered):
        registered.resumed_from -= min(1, registered.resumed_from)


@mutant("resume-failed-refused", "CHAT-RES-10", "refuses a client that it cannot resume")
class ResumeFailedRefused(Link):
    def server_registered(self, envelope):
        if envelope.registered.resume_failure:
            error = pb.Error(
                code=pb.ERROR_CODE_REPLACED, detail="That is over.", ends_session=True
            )
            return [pb.ServerEnvelope(error=error)]
        return [envelope]


@mutant("resend-gets-another-time", "CHAT-RES-11", "answers what is sent again with the time of now")
class ResendGetsAnotherTime(Link):
    def server_receipt(self, envelope):
        times = self.shared.setdefault(("times", self.name.lower()), {})
        receipt = envelope.receipt
        receipt.time_unix_ms += receipt.id in times
        times[receipt.id] = True
        return [envelope]


@mutant("ids-forgotten-with-the-session", "CHAT-RES-12", "remembers the ids of one session alone")
class IdsForgottenWithTheSession(Forgetful):
    def __init__(self, shared):
        super().__init__(shared)
        self.own = set()

    def has_forgotten(self, id):
        is_own = id in self.own
        self.own.add(id)
        return id in self.ids() and not is_own


@mutant("refused-attempt-counts", "CHAT-RES-13", "takes a refused attempt for the last of a line")
class RefusedAttemptCounts(Link):
    def register(self, register):
        if register.HasField("resume") and register.resume.attempt <= self.shared.get("attempt", 0):
            register.resume.token = NO_TOKEN

    def server_error(self, envelope):
        if self.resume and envelope.error.code == pb.ERROR_CODE_NAME_IN_USE:
            self.shared["attempt"] = OTHER_ID
        return [envelope]


# The past.


@mutant("request-without-id", "CHAT-HIST-1", "answers a request without its id")
class RequestWithoutId(Link):
    def server_history(self, envelope):
        envelope.history.id = 0
        return [envelope]


@mutant("page-before-and-with", "CHAT-HIST-3", "counts the chat that a client asks before to a page")
class PageBeforeAndWith(Link):
    def client_get_history(self, envelope):
        if 0 < envelope.get_history.before < 2**64 - 1:
            envelope.get_history.before += 1
        return [envelope]


@mutant("page-after-skips-one", "CHAT-HIST-4", "begins a page one number too late")
class PageAfterSkipsOne(Link):
    def client_get_history(self, envelope):
        if envelope.get_history.WhichOneof("edge") == "after":
            envelope.get_history.after += envelope.get_history.after < 2**64 - 1
        return [envelope]


@mutant("page-of-nothing-has-an-edge", "CHAT-HIST-5", "tells numbers of a page that covers none")
class PageOfNothingHasAnEdge(Link):
    def server_history(self, envelope):
        history = envelope.history
        if history.to == 0:
            history.to = getattr(history, "from") or 1
        return [envelope]


@mutant("page-one-above-its-limit", "CHAT-HIST-6", "puts one chat more into a page")
class PageOneAboveItsLimit(Link):
    def client_get_history(self, envelope):
        if 0 < envelope.get_history.limit < self.registered.limits.history_page_max:
            envelope.get_history.limit += 1
        return [envelope]


@mutant("page-of-any-limit", "CHAT-HIST-7", "takes the limit of a page for as much as it allows")
class PageOfAnyLimit(Link):
    def client_get_history(self, envelope):
        most = self.registered.limits.history_page_max
        envelope.get_history.limit = min(envelope.get_history.limit or most, most)
        return [envelope]


@mutant("page-without-an-edge", "CHAT-HIST-7", "takes a request without an edge for the newest page")
class PageWithoutAnEdge(Link):
    def client_get_history(self, envelope):
        if envelope.get_history.WhichOneof("edge") is None:
            envelope.get_history.before = 2**63
        return [envelope]


# What no case of an area was known to catch: what a room without the capability, or a
# client that comes back, makes easy to forget.


@mutant("no-id-is-an-id", "CHAT-RES-11", "remembers the absent id like any other")
class NoIdIsAnId(Link):
    def client_chat(self, envelope):
        envelope.chat.id = envelope.chat.id or OTHER_ID
        return [envelope]

    def server_receipt(self, envelope):
        envelope.receipt.id %= OTHER_ID
        return [envelope]

    def server_error(self, envelope):
        envelope.error.id %= OTHER_ID
        return [envelope]


class Answering(Link):
    """Answers in the server's place: what the server says to an empty envelope is replaced."""

    held = ()

    def instead(self, **message):
        self.held = [*self.held, pb.ServerEnvelope(**message)]
        return [pb.ClientEnvelope()]

    def server_error(self, envelope):
        if self.held and envelope.error.code == pb.ERROR_CODE_UNKNOWN_MESSAGE:
            answer, *self.held = self.held
            return [answer]
        return [envelope]


@mutant("ids-of-all-lines", "CHAT-RES-11", "remembers the ids of all lines in one place")
class IdsOfAllLines(Answering):
    def receipts(self):
        return self.shared.setdefault("receipts", {})

    def client_chat(self, envelope):
        sender, receipt = self.receipts().get(envelope.chat.id, (self.name, None))
        is_known = envelope.chat.id and sender != self.name
        return self.instead(receipt=receipt) if is_known else [envelope]

    def server_receipt(self, envelope):
        receipt = pb.Receipt()
        receipt.CopyFrom(envelope.receipt)
        self.receipts().setdefault(receipt.id, (self.name, receipt))
        return [envelope]


@mutant("resends-pay-the-rate", "CHAT-RES-11", "takes a token for a chat that it has already")
class ResendsPayTheRate(Answering):
    sent = 0

    def client_chat(self, envelope):
        chat, limits = envelope.chat, self.registered.limits
        self.sent += 1
        ids = self.shared.setdefault(("sent", self.name), set())
        if chat.id in ids and self.sent > limits.chat_burst:
            return self.instead(
                error=pb.Error(
                    code=pb.ERROR_CODE_RATE_LIMITED,
                    detail="Wait a little.",
                    id=chat.id,
                    retry_after_ms=limits.chat_interval_ms,
                )
            )
        ids.add(chat.id)
        return [envelope]


@mutant("directs-beside-the-rate", "CHAT-DM-5", "takes no token for a Direct")
class DirectsBesideTheRate(Link):
    def client_direct(self, envelope):
        self.shared[envelope.direct.id] = True
        return [envelope]

    def server_error(self, envelope):
        error = envelope.error
        if error.code != pb.ERROR_CODE_RATE_LIMITED or error.id not in self.shared:
            return [envelope]
        now_ms = int(time.time() * 1000)
        return [pb.ServerEnvelope(receipt=pb.Receipt(id=error.id, time_unix_ms=now_ms))]


@mutant("line-outlives-its-time", "CHAT-RES-4", "announces a shorter time than it resumes")
class LineOutlivesItsTime(Link):
    def answer(self, registered):
        registered.limits.resume_ms = min(registered.limits.resume_ms, 400)


class SaysNothingOfThoseWhoComeBack(Link):
    """Takes a member that resumes for one that never left."""

    def register(self, register):
        if register.HasField("resume"):
            self.shared[register.name.lower()] = True

    def without(self, name, envelope):
        return [] if name.lower() in self.shared else [envelope]


@mutant("coming-back-is-no-leaving", "CHAT-PRES-3", "sends no Left for a session that goes on")
class ComingBackIsNoLeaving(SaysNothingOfThoseWhoComeBack):
    def server_left(self, envelope):
        return self.without(envelope.left.name, envelope)


@mutant("coming-back-is-no-joining", "CHAT-PRES-2", "sends no Joined for a session going on")
class ComingBackIsNoJoining(SaysNothingOfThoseWhoComeBack):
    def server_joined(self, envelope):
        return self.without(envelope.joined.name, envelope)


class OldMembers(Link):
    """Knows which members each name has seen, over lost connections."""

    def seen(self):
        return self.shared.setdefault(("seen", self.name.lower()), [])

    def server_joined(self, envelope):
        self.seen().append(envelope.joined.name)
        return [envelope]


@mutant("members-of-then", "CHAT-PRES-1", "lists the members of before the cut")
class MembersOfThen(OldMembers):
    def server_members(self, envelope):
        names = envelope.members.names
        if self.registered.resumed_from:
            del names[:]
            names.extend([self.name, *self.seen()])
        return [envelope]


@mutant("joined-of-then", "CHAT-PRES-2", "sends a resumed member the Joined that it missed")
class JoinedOfThen(Link):
    def answer(self, registered):
        self.shared.setdefault("all", []).append(registered.name)

    def server_members(self, envelope):
        if not self.registered.resumed_from:
            return [envelope]
        missed = [name for name in self.shared["all"] if name not in envelope.members.names]
        joined = [pb.ServerEnvelope(joined=pb.Joined(name=name)) for name in missed]
        return [envelope, *joined]


@mutant("proof-takes-the-name", "CHAT-NAME-3", "gives a proved key the name of a member")
class ProofTakesTheName(WithKey):
    is_proved = False

    def answer(self, registered):
        self.shared["registered"] = registered

    def client_proof(self, envelope):
        self.is_proved = True
        return [envelope]

    def server_error(self, envelope):
        if not self.is_proved or envelope.error.code != pb.ERROR_CODE_NAME_IN_USE:
            return [envelope]
        return [pb.ServerEnvelope(registered=self.shared["registered"])]


@mutant("wrong-proof-ends-the-holder", "CHAT-NAME-8", "ends a holder before it checks the proof")
class WrongProofEndsTheHolder(WithKey):
    def client_proof(self, envelope):
        self.shared["proved"] = self.asked
        return [envelope]

    def register(self, register):
        super().register(register)
        self.asked = register.name.lower()

    def server_chat(self, envelope):
        if self.shared.get("proved") != self.name.lower():
            return [envelope]
        error = pb.Error(
            code=pb.ERROR_CODE_NAME_RECLAIMED, detail="Another has your name.", ends_session=True
        )
        return [pb.ServerEnvelope(error=error)]


@mutant("late-proof-is-taken", "CHAT-REG-5", "waits longer for a proof than for a Register")
class LateProofIsTaken(Link):
    def answer(self, registered):
        registered.limits.register_deadline_ms = 500


@mutant("history-to-everybody", "CHAT-GROW-6", "answers the GetHistory of any member")
class HistoryToEverybody(Link):
    is_added = False

    def register(self, register):
        if pb.CAPABILITY_HISTORY not in register.capabilities:
            register.capabilities.append(pb.CAPABILITY_HISTORY)
            self.is_added = True

    def answer(self, registered):
        if self.is_added and pb.CAPABILITY_HISTORY in registered.capabilities:
            registered.capabilities.remove(pb.CAPABILITY_HISTORY)


class Ungranted(Link):
    """Forgets to look at what it granted, in one place."""

    def has(self, capability):
        return capability in self.registered.capabilities


@mutant("ungranted-direct-swallowed", "CHAT-GROW-6", "ignores a Direct that was not granted")
class UngrantedDirectSwallowed(Ungranted):
    def client_direct(self, envelope):
        return [envelope] if self.has(pb.CAPABILITY_DIRECT) else []


@mutant("ungranted-files-left-out", "CHAT-GROW-6", "relays a chat without its files")
class UngrantedFilesLeftOut(Ungranted):
    def client_chat(self, envelope):
        if not self.has(pb.CAPABILITY_FILES):
            del envelope.chat.files[:]
        return [envelope]


@mutant("no-topic-is-not-followed", "CHAT-FOL-4", "overlooks Filter.without_topic beside topics")
class NoTopicIsNotFollowed(Filtering):
    def change(self, filter):
        if filter.topics:
            filter.without_topic = False


@mutant("mentions-in-a-set", "CHAT-FOL-2", "relays each mention once, in the order of a set")
class MentionsInASet(Link):
    def server_chat(self, envelope):
        names = sorted(set(envelope.chat.mentions))
        del envelope.chat.mentions[:]
        envelope.chat.mentions.extend(names)
        return [envelope]
