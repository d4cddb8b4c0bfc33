"""Resuming: what a client keeps to continue its line (CHAT-RES), without a socket."""

import random

from schema import chat_pb2 as pb

# The client waits this long before it connects again, then twice as long from try to
# try, half of it by chance: the clients of a server that restarts must not come at once.
FIRST_WAIT_SECONDS = 1.0
WAIT_SECONDS_MAX = 60.0
# When it gives up.
OUTAGE_SECONDS_MAX = 3600.0
# When it gives up what is perhaps in vain: the old session may still have the name.
DOUBTFUL_SECONDS_MAX = 180.0
# How many numbers may lie beyond a hole, and how many chats may be held: only a wrong
# server causes more.
BEYOND_MAX = 10_000
HELD_MAX = 256
# A session that lasts so long ends the outage.
STEADY_SECONDS = 10.0

# After these the server may take the client again. After all others, unknown ones
# included, only the user can decide (CHAT-RES-19, CHAT-NAME-10, CHAT-ADM-7).
WORTHWHILE = frozenset(
    (
        pb.ERROR_CODE_IDLE_TIMEOUT,
        pb.ERROR_CODE_SLOW_CONSUMER,
        pb.ERROR_CODE_OVERLOADED,
        pb.ERROR_CODE_SERVER_FULL,
        pb.ERROR_CODE_TOO_MANY_CONNECTIONS,
        pb.ERROR_CODE_CONNECTING_TOO_FAST,
        pb.ERROR_CODE_REGISTER_TIMEOUT,
    )
)
DOUBTFUL = frozenset((pb.ERROR_CODE_NAME_IN_USE, pb.ERROR_CODE_MALFORMED_FRAME))


class Outage:
    """The tries of one outage."""

    def __init__(self):
        self.tries = 0
        self.since = None

    def session_ended(self, lasted_seconds):
        if lasted_seconds >= STEADY_SECONDS:
            self.__init__()

    def next_wait(self, now, code=None, retry_after_ms=0):
        """How long to wait before the next try, or None to give up. `code` is that of
        the error, if the server gave one."""
        self.since = now if self.since is None else self.since
        tried_max = OUTAGE_SECONDS_MAX
        if code in DOUBTFUL:
            tried_max = DOUBTFUL_SECONDS_MAX
        elif code is not None and code not in WORTHWHILE:
            return None
        if now - self.since >= tried_max:
            return None
        wait = min(FIRST_WAIT_SECONDS * 2 ** min(self.tries, 16), WAIT_SECONDS_MAX)
        self.tries += 1
        return max(wait * random.uniform(0.5, 1), min(retry_after_ms / 1000, 600))


class Line:
    """One line, from its first Registered on."""

    def __init__(self, registered):
        self.begin(registered)

    def begin(self, registered):
        self.name = registered.name
        self.epoch = registered.epoch
        self.token = registered.resume_token
        self.attempt = 0
        # The client has every chat up to this number, and these beyond a hole: an own
        # chat whose receipt is still to come, or a chat that a receipt has overtaken.
        self.seq = registered.seq
        self.beyond = set()
        # The texts of the chats that were not answered when the line was resumed, by id,
        # and the last number that was accepted by then.
        self.unanswered = {}
        self.resumed_seq = 0
        # Chats that are own ones or those of somebody who had the name meanwhile.
        self.held = []

    def resume(self):
        """What the next Register says about the line; None if it cannot be resumed."""
        if not self.token:
            return None
        self.attempt += 1  # CHAT-RES-18
        # CHAT-RES-20, CHAT-RES-21: the epoch is that of the token.
        return pb.Resume(token=self.token, epoch=self.epoch, seq=self.seq, attempt=self.attempt)

    def registered(self, registered, unanswered):
        """A new session is open. Returns how many chats were missed, or None if the line
        was not resumed, and the chats that can be shown now."""
        if registered.resumed_from and registered.epoch == self.epoch:
            self.token = registered.resume_token
            missed = registered.resumed_from - 1 - self.seq
            missed -= sum(seq < registered.resumed_from for seq in self.beyond)
            self.seq = max(self.seq, registered.resumed_from - 1)
            self._count_on()
            self.unanswered = dict(unanswered)
            self.resumed_seq = registered.seq
            return max(missed, 0), self._release()
        shown = self.held
        self.begin(registered)
        return None, shown

    def chat(self, chat):
        """A chat arrived. Returns whether to show it now."""
        if not self.token:
            return True
        if not self._add(chat.seq):
            return False  # It was shown before.
        if (
            chat.seq <= self.resumed_seq
            and chat.sender == self.name
            and chat.text in self.unanswered.values()
            and len(self.held) < HELD_MAX
        ):
            # The receipt will tell whose it is.
            self.held.append(chat)
            return False
        return True

    def receipt(self, chat_id, seq):
        """An own chat was accepted. Returns the chats that can be shown now."""
        self._add(seq)
        self.held = [chat for chat in self.held if chat.seq != seq]
        return self.refused(chat_id)

    def refused(self, chat_id):
        """An own chat was not accepted, so no chat that came before was it."""
        self.unanswered.pop(chat_id, None)
        return self._release()

    def _release(self):
        texts = set(self.unanswered.values())
        shown = [chat for chat in self.held if chat.text not in texts]
        self.held = [chat for chat in self.held if chat.text in texts]
        return shown

    def _add(self, seq):
        if seq <= self.seq or seq in self.beyond:
            return False
        self.beyond.add(seq)
        if len(self.beyond) > BEYOND_MAX:
            self.seq = min(self.beyond)
        self._count_on()
        return True

    def _count_on(self):
        if self.beyond and min(self.beyond) <= self.seq:
            self.beyond = {seq for seq in self.beyond if seq > self.seq}
        while self.seq + 1 in self.beyond:
            self.seq += 1
            self.beyond.remove(self.seq)
