"""What a proxy changes in the conversation between a client and a correct server, so
that the two together break one rule each.

They stand in for servers of our own: the server in this folder neither resumes nor
keeps the past, and takes no filters.
"""

import os

from mutants import Mutants
from schema import chat_pb2 as pb

PROXY_MUTANTS = Mutants()
mutant = PROXY_MUTANTS.mutant

# Added to an id that must look like a new one.
OTHER_ID = 2**40
NO_TOKEN = b"no token of any line"
EPOCH = "always-the-same"


class Link:
    """One connection through the proxy. Each method returns the envelopes to pass on."""

    # Whether the server begins with an empty room however often it is started.
    forgets = False

    def __init__(self, shared):
        # What all connections of the proxy know.
        self.shared = shared
        self.name = ""
        self.registered = None
        self.resume = None
        # Set to cut the connection to the server.
        self.cuts = False

    def from_client(self, envelope):
        kind = envelope.WhichOneof("message")
        if kind == "register":
            if envelope.register.HasField("resume"):
                self.resume = pb.Resume()
                self.resume.CopyFrom(envelope.register.resume)
            self.register(envelope.register)
        return getattr(self, f"client_{kind}", lambda e: [e])(envelope)

    def from_server(self, envelope):
        kind = envelope.WhichOneof("message")
        if kind == "registered":
            self.name = envelope.registered.name
            self.answer(envelope.registered)
            self.registered = envelope.registered
        return getattr(self, f"server_{kind}", lambda e: [e])(envelope)

    def cut_short(self, rest):
        """What a stream of a client that ended with these bytes of a frame amounts to."""
        return []

    def register(self, register):
        pass

    def answer(self, registered):
        pass

    def is_missed(self, chat):
        """Whether a chat is one that a resumed session missed."""
        registered = self.registered
        return registered.resumed_from > 0 and chat.seq <= registered.seq


# Identity.


class WithKey(Link):
    """Keeps the key and the Challenge of a connection."""

    challenge = None
    key = b""

    def register(self, register):
        self.key = register.key

    def server_challenge(self, envelope):
        self.challenge = envelope
        return [envelope]


@mutant("nonce-of-always", "CHAT-ID-2", "gives the same nonce again and again")
class NonceOfAlways(Link):
    def server_challenge(self, envelope):
        envelope.challenge.nonce = bytes(32)
        return [envelope]


@mutant("nonce-short", "CHAT-ID-2", "gives half a nonce")
class NonceShort(Link):
    def server_challenge(self, envelope):
        envelope.challenge.nonce = envelope.challenge.nonce[:16]
        return [envelope]


@mutant("challenge-for-all", "CHAT-ID-3", "asks clients without a key for a proof, too")
class ChallengeForAll(WithKey):
    def server_registered(self, envelope):
        if self.key:
            return [envelope]
        challenge = pb.Challenge(nonce=bytes(32), epoch=envelope.registered.epoch)
        return [pb.ServerEnvelope(challenge=challenge), envelope]


@mutant("key-of-any-length", "CHAT-ID-4", "ignores a key that is none")
class KeyOfAnyLength(Link):
    def register(self, register):
        if len(register.key) != 32:
            register.key = b""


@mutant("any-proof", "CHAT-ID-5", "takes any proof for right")
class AnyProof(Link):
    held = None

    def register(self, register):
        self.has_key = bool(register.key)
        register.key = b""

    def server_registered(self, envelope):
        if not self.has_key:
            return [envelope]
        self.held = envelope
        challenge = pb.Challenge(nonce=os.urandom(32), epoch=envelope.registered.epoch)
        return [pb.ServerEnvelope(challenge=challenge)]

    def client_proof(self, envelope):
        # The server has something to answer; the answer is what it held back.
        return [pb.ClientEnvelope()] if self.held else [envelope]

    def server_error(self, envelope):
        if self.held and envelope.error.code == pb.ERROR_CODE_UNKNOWN_MESSAGE:
            envelope, self.held = self.held, None
        return [envelope]


@mutant("others-before-the-proof", "CHAT-ID-6", "ignores what comes in place of the proof")
class OthersBeforeTheProof(WithKey):
    def from_client(self, envelope):
        is_due = self.challenge is not None and self.registered is None
        if is_due and envelope.WhichOneof("message") != "proof":
            return []
        return super().from_client(envelope)


@mutant("proof-unknown-to-members", "CHAT-ID-7", "does not know the Proof of a member")
class ProofUnknownToMembers(Link):
    def client_proof(self, envelope):
        return [envelope] if self.registered is None else [pb.ClientEnvelope()]


@mutant("owned-is-in-use", "CHAT-ID-8", "says that a name which belongs to a key is in use")
class OwnedIsInUse(Link):
    def server_error(self, envelope):
        if envelope.error.code == pb.ERROR_CODE_NAME_OWNED:
            envelope.error.code = pb.ERROR_CODE_NAME_IN_USE
        return [envelope]


@mutant("ghost-is-reclaimed", "CHAT-ID-9", "ends the owner's ghost with another code")
class GhostIsReclaimed(Link):
    def server_error(self, envelope):
        if envelope.error.code == pb.ERROR_CODE_REPLACED:
            envelope.error.code = pb.ERROR_CODE_NAME_RECLAIMED
        return [envelope]


@mutant("owners-forgotten", "CHAT-ID-11", "forgets over a restart whose the names are")
class OwnersForgotten(Link):
    forgets = True


@mutant("sender-id-missing", "CHAT-ID-12", "tells nobody which key a sender has")
class SenderIdMissing(Link):
    def server_chat(self, envelope):
        envelope.chat.sender_id = b""
        return [envelope]


@mutant("sender-id-for-all", "CHAT-ID-12", "gives senders without a key an id, too")
class SenderIdForAll(Link):
    def server_chat(self, envelope):
        envelope.chat.sender_id = envelope.chat.sender_id or bytes(16)
        return [envelope]


@mutant("key-shown", "CHAT-ID-16", "tells everybody the keys of senders")
class KeyShown(Link):
    def register(self, register):
        self.shared[register.name] = register.key

    def server_chat(self, envelope):
        envelope.chat.sender_id = self.shared.get(envelope.chat.sender, b"")
        return [envelope]


# Resuming.


@mutant("resume-without-receipts", "CHAT-RES-1", "grants resume alone")
class ResumeWithoutReceipts(Link):
    def register(self, register):
        self.asked = list(register.capabilities)

    def answer(self, registered):
        if self.asked == [pb.CAPABILITY_RESUME]:
            registered.capabilities.append(pb.CAPABILITY_RESUME)
            registered.resume_token = b"token"


@mutant("token-missing", "CHAT-RES-2", "gives no token")
class TokenMissing(Link):
    def answer(self, registered):
        registered.resume_token = b""


@mutant("token-of-all", "CHAT-RES-2", "gives everybody the same token")
class TokenOfAll(Link):
    def answer(self, registered):
        if registered.resume_token:
            registered.resume_token = b"token"


@mutant("token-before-is-unknown", "CHAT-RES-3", "takes the newest token of a line only")
class TokenBeforeIsUnknown(Link):
    def register(self, register):
        newest = self.shared.setdefault("newest", {})
        if register.resume.token != newest.get(register.name, register.resume.token):
            register.resume.token = NO_TOKEN

    def answer(self, registered):
        self.shared.setdefault("newest", {})[registered.name] = registered.resume_token


@mutant("leave-keeps-the-line", "CHAT-RES-4", "takes Leave for a lost connection")
class LeaveKeepsTheLine(Link):
    def client_leave(self, envelope):
        self.cuts = True
        return []


@mutant("ghost-ends-otherwise", "CHAT-RES-5", "ends the session before with another code")
class GhostEndsOtherwise(Link):
    def server_error(self, envelope):
        if self.registered and envelope.error.code == pb.ERROR_CODE_REPLACED:
            envelope.error.code = pb.ERROR_CODE_IDLE_TIMEOUT
        return [envelope]


@mutant("ghost-is-not-told", "CHAT-RES-5", "closes the session before without a word")
class GhostIsNotTold(Link):
    def server_error(self, envelope):
        if self.registered and envelope.error.code == pb.ERROR_CODE_REPLACED:
            return []
        return [envelope]


@mutant("late-attempt-resumes", "CHAT-RES-6", "resumes whatever the attempt")
class LateAttemptResumes(Link):
    def register(self, register):
        if register.HasField("resume"):
            self.shared["attempt"] = self.shared.get("attempt", 0) + 1
            register.resume.attempt = self.shared["attempt"]


@mutant("other-name-resumes", "CHAT-RES-7", "resumes under any name")
class OtherNameResumes(Link):
    asked = ""

    def register(self, register):
        name = self.shared.get(register.resume.token, register.name)
        if name.lower() != register.name.lower():
            self.asked = register.name
            register.name = name

    def answer(self, registered):
        if registered.resume_token:
            self.shared[registered.resume_token] = registered.name
        registered.name = self.asked or registered.name


@mutant("resumed-from-too-high", "CHAT-RES-8", "names a number behind the first one")
class ResumedFromTooHigh(Link):
    def answer(self, registered):
        if registered.resumed_from:
            registered.resumed_from += 1


@mutant("resumed-before-the-line", "CHAT-RES-8", "resumes from what was before the line")
class ResumedBeforeTheLine(Link):
    def answer(self, registered):
        if registered.resumed_from:
            registered.resumed_from = self.resume.seq + 1


@mutant("own-missed-chats-left-out", "CHAT-RES-9", "keeps a line's own chats from it")
class OwnMissedChatsLeftOut(Link):
    def server_chat(self, envelope):
        return [] if envelope.chat.sender == self.name else [envelope]


@mutant("missed-chat-left-out", "CHAT-RES-9", "leaves out the first missed chat")
class MissedChatLeftOut(Link):
    def server_chat(self, envelope):
        is_first = envelope.chat.seq == self.registered.resumed_from
        return [] if is_first and self.is_missed(envelope.chat) else [envelope]


@mutant("missed-chat-twice", "CHAT-RES-9", "sends the last missed chat twice")
class MissedChatTwice(Link):
    def server_chat(self, envelope):
        is_last = envelope.chat.seq == self.registered.seq
        return [envelope] * (2 if is_last and self.is_missed(envelope.chat) else 1)


@mutant("resume-failure-missing", "CHAT-RES-10", "does not say why it did not resume")
class ResumeFailureMissing(Link):
    def answer(self, registered):
        registered.ClearField("resume_failure")


@mutant("resume-failures-all-the-same", "CHAT-RES-10", "says of every Resume that its token is unknown")
class ResumeFailuresAllTheSame(Link):
    def answer(self, registered):
        if registered.resume_failure:
            registered.resume_failure = pb.RESUME_FAILURE_UNKNOWN_TOKEN


class Forgetful(Link):
    """Makes resent chats look new, if it has forgotten their ids."""

    def ids(self):
        return self.shared.setdefault(("ids", self.name.lower()), [])

    def has_forgotten(self, id):
        raise NotImplementedError

    def client_chat(self, envelope):
        if envelope.chat.id and self.has_forgotten(envelope.chat.id):
            self.shared["again"] = self.shared.get("again", 0) + 1
            envelope.chat.id += OTHER_ID * self.shared["again"]
        return [envelope]

    def server_receipt(self, envelope):
        envelope.receipt.id %= OTHER_ID
        if envelope.receipt.id not in self.ids():
            self.ids().append(envelope.receipt.id)
        return [envelope]

    def server_error(self, envelope):
        envelope.error.id %= OTHER_ID
        return [envelope]


@mutant("resend-is-accepted-again", "CHAT-RES-11", "knows no ids of chats")
class ResendIsAcceptedAgain(Forgetful):
    def has_forgotten(self, id):
        return id in self.ids()


@mutant("resend-is-checked-first", "CHAT-RES-11", "refuses what it accepted before")
class ResendIsCheckedFirst(Forgetful):
    def has_forgotten(self, id):
        return False

    def client_chat(self, envelope):
        if envelope.chat.text in ("", "a\nb") or len(envelope.chat.text) > 4096:
            envelope.chat.id += OTHER_ID
        return [envelope]


@mutant("ids-forgotten-early", "CHAT-RES-12", "remembers half of the ids that it announces")
class IdsForgottenEarly(Forgetful):
    def has_forgotten(self, id):
        remembered = self.ids()[-self.registered.limits.resend_ids_max // 2 :]
        return id in self.ids() and id not in remembered


@mutant("refused-token-is-lost", "CHAT-RES-13", "takes a token away with NAME_IN_USE")
class RefusedTokenIsLost(Link):
    def register(self, register):
        if register.resume.token in self.shared:
            register.resume.token = NO_TOKEN

    def server_error(self, envelope):
        if self.resume and envelope.error.code == pb.ERROR_CODE_NAME_IN_USE:
            self.shared[self.resume.token] = True
        return [envelope]


# Keeping.


class AfterTheCrash(Link):
    """Begins anew after a crash, and says that it did not."""

    forgets = True
    epoch = ""

    def register(self, register):
        if register.resume.epoch == EPOCH:
            register.resume.epoch = self.shared.get("epoch", "")

    def answer(self, registered):
        self.shared["epoch"] = registered.epoch
        registered.epoch = EPOCH


@mutant("told-and-lost", "CHAT-ORD-9", "tells numbers that a crash takes back")
class ToldAndLost(AfterTheCrash):
    pass


@mutant("number-given-twice", "CHAT-HIST-10", "gives numbers again after a crash")
class NumberGivenTwice(AfterTheCrash):
    pass


# The past.


@mutant("request-not-answered", "CHAT-HIST-1", "answers no request")
class RequestNotAnswered(Link):
    def server_history(self, envelope):
        return []


@mutant("request-answered-twice", "CHAT-HIST-1", "answers each request twice")
class RequestAnsweredTwice(Link):
    def server_history(self, envelope):
        return [envelope, envelope]


@mutant("page-with-a-hole", "CHAT-HIST-2", "leaves the last chat out of a page")
class PageWithAHole(Link):
    def server_history(self, envelope):
        if envelope.history.chats:
            del envelope.history.chats[-1]
        return [envelope]


@mutant("page-with-other-times", "CHAT-HIST-2", "sets the time of a page's chats anew")
class PageWithOtherTimes(Link):
    def server_history(self, envelope):
        for chat in envelope.history.chats:
            chat.time_unix_ms += 1_000
        return [envelope]


@mutant("page-falling", "CHAT-HIST-2", "puts the newest chat first")
class PageFalling(Link):
    def server_history(self, envelope):
        chats = [*reversed(envelope.history.chats)]
        del envelope.history.chats[:]
        envelope.history.chats.extend(chats)
        return [envelope]


@mutant("page-before-skips-one", "CHAT-HIST-3", "ends a page one number too early")
class PageBeforeSkipsOne(Link):
    def client_get_history(self, envelope):
        if envelope.get_history.before > 0:
            envelope.get_history.before -= 1
        return [envelope]


@mutant("page-after-repeats-one", "CHAT-HIST-4", "begins a page one number too early")
class PageAfterRepeatsOne(Link):
    def client_get_history(self, envelope):
        if envelope.get_history.after > 0:
            envelope.get_history.after -= 1
        return [envelope]


@mutant("page-covers-nothing", "CHAT-HIST-5", "covers nothing with a page where there is something")
class PageCoversNothing(Link):
    def server_history(self, envelope):
        return [pb.ServerEnvelope(history=pb.History(id=envelope.history.id))]


@mutant("page-above-its-limit", "CHAT-HIST-6", "fills every page")
class PageAboveItsLimit(Link):
    def client_get_history(self, envelope):
        if envelope.get_history.limit > 0:
            envelope.get_history.limit = self.registered.limits.history_page_max
        return [envelope]


@mutant("bad-request-answered", "CHAT-HIST-7", "answers a bad request with an empty page")
class BadRequestAnswered(Link):
    def server_error(self, envelope):
        if envelope.error.code == pb.ERROR_CODE_REQUEST_INVALID:
            return [pb.ServerEnvelope(history=pb.History(id=envelope.error.id))]
        return [envelope]


@mutant("oldest-number-falls", "CHAT-HIST-8", "announces a lower oldest number each time")
class OldestNumberFalls(Link):
    def answer(self, registered):
        self.shared["registered"] = self.shared.get("registered", 0) + 1
        registered.oldest_seq = 1_000_000 - self.shared["registered"]


# Directs.


class Postman(Link):
    """Knows what each member was granted, and what it has received."""

    last_seq = 0

    def answer(self, registered):
        members = self.shared.setdefault("members", {})
        members[registered.name.lower()] = list(registered.capabilities)

    def server_direct(self, envelope):
        self.last_seq = envelope.direct.seq
        return [envelope]


@mutant("direct-without-receipts", "CHAT-DM-1", "grants direct alone")
class DirectWithoutReceipts(Link):
    def register(self, register):
        self.asked = list(register.capabilities)

    def answer(self, registered):
        if self.asked == [pb.CAPABILITY_DIRECT]:
            registered.capabilities.append(pb.CAPABILITY_DIRECT)


@mutant("direct-is-lost", "CHAT-DM-2", "accepts Directs and sends them to nobody")
class DirectIsLost(Link):
    def server_direct(self, envelope):
        return []


@mutant("direct-to-its-sender", "CHAT-DM-2", "sends a Direct back to its sender too")
class DirectToItsSender(Link):
    def client_direct(self, envelope):
        self.text = envelope.direct.text
        return [envelope]

    def server_receipt(self, envelope):
        copy = pb.Direct(peer=self.name, text=getattr(self, "text", ""), seq=1, time_unix_ms=1)
        is_direct = envelope.receipt.seq == 0
        return [envelope] + ([pb.ServerEnvelope(direct=copy)] if is_direct else [])


@mutant("direct-takes-a-number", "CHAT-DM-3", "numbers Directs like chats")
class DirectTakesANumber(Link):
    def numbered(self, numbered):
        if numbered.seq > 0:
            numbered.seq += self.shared.get("directs", 0)

    def server_receipt(self, envelope):
        if envelope.receipt.seq == 0:
            self.shared["directs"] = self.shared.get("directs", 0) + 1
        self.numbered(envelope.receipt)
        return [envelope]

    def server_chat(self, envelope):
        self.numbered(envelope.chat)
        return [envelope]


@mutant("direct-text-trimmed", "CHAT-DM-4", "changes the text of a Direct")
class DirectTextTrimmed(Link):
    def server_direct(self, envelope):
        envelope.direct.text = envelope.direct.text.replace("é", "")
        return [envelope]


@mutant("direct-peer-as-asked", "CHAT-DM-4", "leaves the name of the recipient in a Direct")
class DirectPeerAsAsked(Link):
    def server_direct(self, envelope):
        envelope.direct.peer = self.name
        return [envelope]


@mutant("direct-of-another-time", "CHAT-DM-4", "gives a Direct another time than its Receipt")
class DirectOfAnotherTime(Link):
    def server_direct(self, envelope):
        envelope.direct.time_unix_ms += 1
        return [envelope]


@mutant("direct-of-any-text", "CHAT-DM-5", "takes any text in a Direct")
class DirectOfAnyText(Link):
    def client_direct(self, envelope):
        if not envelope.direct.text:
            envelope.direct.text = "(nothing)"
        return [envelope]


@mutant("absent-is-told", "CHAT-DM-6", "tells an absent recipient from one that takes no Directs")
class AbsentIsTold(Postman):
    def client_direct(self, envelope):
        self.peer = envelope.direct.peer
        return [envelope]

    def server_error(self, envelope):
        is_here = getattr(self, "peer", "").lower() in self.shared["members"]
        if envelope.error.code == pb.ERROR_CODE_NOT_REACHABLE and is_here:
            envelope.error.detail = "that member takes no direct messages"
        return [envelope]


@mutant("direct-without-receipt", "CHAT-DM-7", "accepts a Direct without a word")
class DirectWithoutReceipt(Link):
    def server_receipt(self, envelope):
        return [envelope] if envelope.receipt.seq else []


@mutant("directs-count-from-zero", "CHAT-DM-8", "counts Directs from 0")
class DirectsCountFromZero(Link):
    def server_direct(self, envelope):
        envelope.direct.seq -= 1
        return [envelope]


@mutant("directs-counted-for-all", "CHAT-DM-8", "counts the Directs of all members together")
class DirectsCountedForAll(Link):
    def server_direct(self, envelope):
        self.shared["directs"] = self.shared.get("directs", 0) + 1
        envelope.direct.seq = self.shared["directs"]
        return [envelope]


@mutant("direct-state-missing", "CHAT-DM-9", "never tells what became of a Direct")
class DirectStateMissing(Link):
    def server_direct_state(self, envelope):
        return []


@mutant("direct-always-delivered", "CHAT-DM-9", "says of every Direct that it was delivered")
class DirectAlwaysDelivered(Link):
    def server_direct_state(self, envelope):
        envelope.direct_state.delivered = True
        return [envelope]


@mutant("direct-ack-ahead", "CHAT-DM-10", "takes any number in a DirectAck")
class DirectAckAhead(Postman):
    def client_direct_ack(self, envelope):
        envelope.direct_ack.seq = min(envelope.direct_ack.seq, self.last_seq)
        return [envelope]


@mutant("direct-is-delivered-again", "CHAT-DM-11", "knows no ids of Directs")
class DirectIsDeliveredAgain(Forgetful):
    def has_forgotten(self, id):
        return id in self.ids()

    def client_direct(self, envelope):
        if envelope.direct.id and self.has_forgotten(envelope.direct.id):
            self.shared["again"] = self.shared.get("again", 0) + 1
            envelope.direct.id += OTHER_ID * self.shared["again"]
        return [envelope]


# Moderation.


class OtherCode(Link):
    """Sends another error in place of one; none if the other is None."""

    code = None
    other = None

    def server_error(self, envelope):
        if envelope.error.code == self.code:
            if self.other is None:
                return []
            envelope.error.code = self.other
        return [envelope]


@mutant("kick-unsaid", "CHAT-MOD-1", "closes the connection of a kicked member without a word")
class KickUnsaid(OtherCode):
    code = pb.ERROR_CODE_KICKED


@mutant("ban-is-a-kick", "CHAT-MOD-2", "tells a banned member that it was thrown out")
class BanIsAKick(OtherCode):
    code = pb.ERROR_CODE_BANNED
    other = pb.ERROR_CODE_KICKED


@mutant("ban-by-a-list", "CHAT-MOD-3", "says that a banned name is not on a list")
class BanByAList(OtherCode):
    code = pb.ERROR_CODE_BANNED
    other = pb.ERROR_CODE_NAME_NOT_ALLOWED


@mutant("mute-swallows", "CHAT-MOD-4", "drops the chats of a muted member without a word")
class MuteSwallows(OtherCode):
    code = pb.ERROR_CODE_MUTED


@mutant("kicked-line-goes-on", "CHAT-MOD-5", "resumes the session of a kicked member")
class KickedLineGoesOn(Link):
    def answer(self, registered):
        if registered.resume_failure == pb.RESUME_FAILURE_UNKNOWN_TOKEN:
            registered.resume_failure = pb.RESUME_FAILURE_UNSPECIFIED
            registered.resumed_from = registered.seq + 1


@mutant("removed-text-stays", "CHAT-MOD-8", "sends a removed chat with some text")
class RemovedTextStays(Link):
    def server_chat(self, envelope):
        if envelope.chat.removed:
            envelope.chat.text = "still here"
        return [envelope]


@mutant("removed-unmarked", "CHAT-MOD-8", "does not mark removed chats in the past")
class RemovedUnmarked(Link):
    def server_history(self, envelope):
        for chat in envelope.history.chats:
            chat.removed = False
        return [envelope]
# Following.


@mutant("bad-topic-is-taken", "CHAT-FOL-1", "takes any topic and any mention")
class BadTopicIsTaken(Link):
    def server_error(self, envelope):
        return [] if envelope.error.code == pb.ERROR_CODE_TOPIC_INVALID else [envelope]


@mutant("topic-is-not-relayed", "CHAT-FOL-2", "relays no topic")
class TopicIsNotRelayed(Link):
    def server_chat(self, envelope):
        envelope.chat.ClearField("topic")
        return [envelope]


@mutant("mentions-in-lower-case", "CHAT-FOL-2", "relays mentions in lower case")
class MentionsInLowerCase(Link):
    def server_chat(self, envelope):
        mentions = [name.lower() for name in envelope.chat.mentions]
        del envelope.chat.mentions[:]
        envelope.chat.mentions.extend(mentions)
        return [envelope]


@mutant("topic-from-the-text", "CHAT-FOL-3", "takes a topic from the text")
class TopicFromTheText(Link):
    def server_chat(self, envelope):
        chat = envelope.chat
        if chat.text.startswith("#") and not chat.topic:
            chat.topic = chat.text[1:].split()[0]
        return [envelope]


class Filtering(Link):
    """Changes the filters that the server gets."""

    def change(self, filter):
        raise NotImplementedError

    def register(self, register):
        if register.HasField("filter"):
            self.change(register.filter)

    def client_follow(self, envelope):
        if envelope.follow.HasField("filter"):
            self.change(envelope.follow.filter)
        return [envelope]


@mutant("topics-not-followed", "CHAT-FOL-4", "sends what is sent by those who are followed alone")
class TopicsNotFollowed(Filtering):
    def change(self, filter):
        if filter.senders:
            del filter.topics[:]


@mutant("senders-not-followed", "CHAT-FOL-4", "sends what has a topic that is followed alone")
class SendersNotFollowed(Filtering):
    def change(self, filter):
        if filter.topics:
            del filter.senders[:]


@mutant("ignored-is-heard", "CHAT-FOL-4", "ignores nobody")
class IgnoredIsHeard(Filtering):
    def change(self, filter):
        del filter.ignore[:]


@mutant("no-topic-passes", "CHAT-FOL-4", "lets chats without a topic pass always")
class NoTopicPasses(Filtering):
    def change(self, filter):
        if filter.topics:
            filter.without_topic = True


@mutant("mentions-kept-out", "CHAT-FOL-4", "keeps mentions from members that follow something")
class MentionsKeptOut(Link):
    follows = False

    def client_follow(self, envelope):
        self.follows = envelope.follow.HasField("filter")
        return [envelope]

    def server_chat(self, envelope):
        names = [name.lower() for name in envelope.chat.mentions]
        return [] if self.follows and self.name.lower() in names else [envelope]


@mutant("bad-filter-is-taken", "CHAT-FOL-5", "answers a bad filter with Following")
class BadFilterIsTaken(Link):
    def server_error(self, envelope):
        if self.registered and envelope.error.code == pb.ERROR_CODE_REQUEST_INVALID:
            return [pb.ServerEnvelope(following=pb.Following(id=envelope.error.id))]
        return [envelope]


@mutant("follow-not-answered", "CHAT-FOL-6", "answers no Follow")
class FollowNotAnswered(Link):
    def server_following(self, envelope):
        return []


@mutant("follow-answered-twice", "CHAT-FOL-6", "answers each Follow twice")
class FollowAnsweredTwice(Link):
    def server_following(self, envelope):
        return [envelope, envelope]


@mutant("following-one-too-low", "CHAT-FOL-7", "tells the number before the place")
class FollowingOneTooLow(Link):
    def server_following(self, envelope):
        envelope.following.seq -= min(1, envelope.following.seq)
        return [envelope]


@mutant("following-comes-late", "CHAT-FOL-8", "sends Following behind the next chat")
class FollowingComesLate(Link):
    held = None

    def server_following(self, envelope):
        held, self.held = self.held, envelope
        return [held] if held else []

    def server_chat(self, envelope):
        held, self.held = self.held, None
        return [envelope, held] if held else [envelope]


@mutant("following-comes-early", "CHAT-FOL-8", "sends Following before the last chat that it counts")
class FollowingComesEarly(Link):
    held = None
    follows = False

    def answer(self, registered):
        self.follows = pb.CAPABILITY_FOLLOW in registered.capabilities

    def server_chat(self, envelope):
        if not self.follows:
            return [envelope]
        held, self.held = self.held, envelope
        return [held] if held else []

    def server_following(self, envelope):
        held, self.held = self.held, None
        return [envelope, held] if held else [envelope]


@mutant("register-filter-ignored", "CHAT-FOL-9", "takes no filter from a Register")
class RegisterFilterIgnored(Link):
    def register(self, register):
        register.ClearField("filter")


@mutant("page-with-everything", "CHAT-FOL-10", "takes no filter from a GetHistory")
class PageWithEverything(Link):
    def client_get_history(self, envelope):
        if envelope.get_history.id == 1:
            envelope.get_history.ClearField("filter")
        return [envelope]


@mutant("filter-not-granted", "CHAT-FOL-11", "goes by the filter of a client without follow")
class FilterNotGranted(Link):
    asked = True

    def register(self, register):
        self.asked = pb.CAPABILITY_FOLLOW in register.capabilities or not register.HasField("filter")

    def server_chat(self, envelope):
        return [envelope] if self.asked else []


# Coverage.


@mutant("covered-too-early", "CHAT-COV-1", "sends Covered before the chats that it covers")
class CoveredTooEarly(Link):
    def answer(self, registered):
        self.is_early = registered.resumed_from > 0

    def server_chat(self, envelope):
        covered = pb.ServerEnvelope(covered=pb.Covered(seq=self.registered.seq, sent=4))
        is_first, self.is_early = self.is_early, False
        return [covered, envelope] if is_first else [envelope]

    def server_covered(self, envelope):
        return []


@mutant("covered-never", "CHAT-COV-2", "never sends Covered")
class CoveredNever(Link):
    def server_covered(self, envelope):
        return []


@mutant("covered-not-after-a-resume", "CHAT-COV-3", "sends no Covered behind what a session missed")
class CoveredNotAfterAResume(Link):
    def server_covered(self, envelope):
        return [] if self.registered.resumed_from else [envelope]


@mutant("covered-counts-one-less", "CHAT-COV-4", "counts one chat less than it sent")
class CoveredCountsOneLess(Link):
    def server_covered(self, envelope):
        envelope.covered.sent -= min(1, envelope.covered.sent)
        return [envelope]


@mutant("covered-without-a-filter", "CHAT-COV-5", "sends Covered to everybody with follow")
class CoveredWithoutAFilter(Link):
    def server_chat(self, envelope):
        covered = pb.ServerEnvelope(covered=pb.Covered(seq=envelope.chat.seq, sent=1))
        has_follow = pb.CAPABILITY_FOLLOW in self.registered.capabilities
        return [envelope, covered] if has_follow else [envelope]


# Files.


class Clerk(Link):
    """Knows what each connection has asked of files."""

    sizes = {}

    def client_put_file(self, envelope):
        self.sizes = {**self.sizes, envelope.put_file.sha256: envelope.put_file.size}
        return [envelope]


@mutant("file-named-unseen", "CHAT-FILE-1", "accepts a chat whatever files it names")
class FileNamedUnseen(Link):
    def client_chat(self, envelope):
        self.shared.setdefault("files", {})[envelope.chat.text] = list(envelope.chat.files)
        del envelope.chat.files[:]
        return [envelope]


@mutant("file-state-missing", "CHAT-FILE-2", "answers no PutFile")
class FileStateMissing(Link):
    def server_file_state(self, envelope):
        return [] if envelope.file_state.have == 0 else [envelope]


@mutant("file-state-of-all", "CHAT-FILE-3", "tells what it has of a file from anybody")
class FileStateOfAll(Link):
    def server_file_state(self, envelope):
        have = self.shared.setdefault("have", {})
        state = envelope.file_state
        state.have = have[state.sha256] = max(state.have, have.get(state.sha256, 0))
        return [envelope]


@mutant("file-state-of-none", "CHAT-FILE-3", "says that it has nothing of an upload")
class FileStateOfNone(Link):
    def server_file_state(self, envelope):
        envelope.file_state.have = 0
        return [envelope]


@mutant("file-absence-is-told", "CHAT-FILE-4", "tells a file that is withheld from one that is absent")
class FileAbsenceIsTold(Clerk):
    def client_put_file(self, envelope):
        self.shared.setdefault("put", set()).add(envelope.put_file.sha256)
        return [envelope]

    def server_error(self, envelope):
        if envelope.error.sha256 in self.shared.get("put", set()):
            envelope.error.detail = "that file is not for you"
        return [envelope]


@mutant("file-for-nobody", "CHAT-FILE-4", "gives a file to nobody")
class FileForNobody(Link):
    def server_file_data(self, envelope):
        error = pb.Error(
            code=pb.ERROR_CODE_FILE_UNKNOWN, detail="no", sha256=envelope.file_data.sha256
        )
        return [pb.ServerEnvelope(error=error)]


@mutant("piece-anywhere", "CHAT-FILE-5", "takes a piece for the next one wherever it begins")
class PieceAnywhere(Link):
    have = 0

    def client_file_data(self, envelope):
        envelope.file_data.offset = self.have
        return [envelope]

    def server_file_state(self, envelope):
        self.have = envelope.file_state.have
        return [envelope]


@mutant("hash-unchecked", "CHAT-FILE-6", "takes an upload for whole whatever is in it")
class HashUnchecked(Clerk):
    def server_error(self, envelope):
        error = envelope.error
        if error.code == pb.ERROR_CODE_FILE_MISMATCH:
            state = pb.FileState(sha256=error.sha256, have=self.sizes.get(error.sha256, 0))
            return [pb.ServerEnvelope(file_state=state)]
        return [envelope]


@mutant("upload-forgotten", "CHAT-FILE-7", "forgets an upload with its connection")
class UploadForgotten(Link):
    def server_file_state(self, envelope):
        if not self.shared.get(id(self)):
            self.shared[id(self)] = True
            envelope.file_state.have = 0
        return [envelope]


@mutant("file-of-any-name", "CHAT-FILE-8", "takes any name of a file")
class FileOfAnyName(Link):
    def client_chat(self, envelope):
        for file in envelope.chat.files:
            file.name = "file"
        return [envelope]


@mutant("short-hash-taken", "CHAT-FILE-9", "takes a hash that is too short for an absent one")
class ShortHashTaken(Link):
    def server_error(self, envelope):
        if envelope.error.code == pb.ERROR_CODE_REQUEST_INVALID:
            envelope.error.code = pb.ERROR_CODE_FILE_UNKNOWN
        return [envelope]


@mutant("file-from-the-start", "CHAT-FILE-10", "sends a file from its begin whatever is asked")
class FileFromTheStart(Link):
    def client_get_file(self, envelope):
        envelope.get_file.offset = 0
        return [envelope]


@mutant("file-to-its-end", "CHAT-FILE-10", "sends a file to its end whatever is asked")
class FileToItsEnd(Link):
    def client_get_file(self, envelope):
        envelope.get_file.length = 0
        return [envelope]


@mutant("file-lost-with-the-server", "CHAT-FILE-12", "loses its files when it ends")
class FileLostWithTheServer(Link):
    def client_get_file(self, envelope):
        if self.name.startswith("carol"):
            envelope.get_file.sha256 = bytes(32)
        return [envelope]

    def server_error(self, envelope):
        return [envelope]


@mutant("file-of-any-length", "CHAT-FILE-13", "takes a file of any length")
class FileOfAnyLength(Link):
    def client_put_file(self, envelope):
        most = self.registered.limits.file_bytes_max
        envelope.put_file.size = min(envelope.put_file.size, most)
        return [envelope]


@mutant("file-names-left-out", "CHAT-FILE-16", "relays a chat without its files")
class FileNamesLeftOut(Link):
    def server_chat(self, envelope):
        del envelope.chat.files[:]
        return [envelope]
