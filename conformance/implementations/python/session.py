"""One connection as the room sees it."""

import math
from collections import deque

from framing import encode
from schema import chat_pb2 as pb


class Session:
    """What is known of a client, and what is due to it.

        connected --Register--> member --Leave, loss, error--> over
            |                                                    ^
            +----------------loss, error-------------------------+

    Everything due to a client waits in one queue, the answers to its own
    messages and what the room says alike. That the queue is one makes the order
    right everywhere: a Joined before the Chat, a Left before the Joined that
    follows it, each Receipt in its turn.

    Once a session is over, nothing is added to the queue (CHAT-ERR-1,
    CHAT-CLOSE-2) and nothing more is taken from the client (CHAT-LEAVE-4). What
    is in the queue is still sent (CHAT-LEAVE-2), then the connection closes.
    """

    def __init__(self, wake=lambda: None):
        # Empty until registered.
        self.name = ""
        self.granted = frozenset()
        self.over = False
        # A Register that waits for a sign of life from the holder of its name
        # (CHAT-NAME-7).
        self.waiting = None
        # For a holder: when it was asked for one, and by how many; when a frame came.
        self.asked_at_ms = -math.inf
        self.newcomers = 0
        self.heard_at_ms = 0
        # Errors that the session survived, as far as they are not forgotten.
        self.errors = 0
        self.errors_at_ms = 0
        # Nothing can be sent to the client any more.
        self.deaf = False
        # How many milliseconds' worth of chats may be sent at once.
        self.chat_credit_ms = 0
        self.chat_credit_at_ms = 0
        # Pairs of a frame and whether the room said it (True) or it answers the
        # client (False); the bytes of each kind.
        self.due = deque()
        self.lag_bytes = 0
        self.reply_bytes = 0
        # Called when there is something to send, or the session is over.
        self._wake = wake

    def is_member(self):
        return self.name != "" and not self.over

    def has(self, capability):
        return capability in self.granted

    def reply(self, **message):
        """Send this client something that answers what it sent."""
        self._append(encode(pb.ServerEnvelope(**message)), False)

    def hear(self, frame):
        """Send this client something that the room says. It comes as a frame,
        which is encoded once for everybody."""
        self._append(frame, True)

    def _append(self, frame, from_room):
        if self.over or self.deaf:
            return
        self.due.append((frame, from_room))
        self._count(frame, from_room, +1)
        self._wake()

    def _count(self, frame, from_room, sign):
        if from_room:
            self.lag_bytes += sign * len(frame)
        else:
            self.reply_bytes += sign * len(frame)

    def take_due(self, bytes_max):
        """Take as many whole frames as fit, at least one, as one piece. Fewer and
        larger writes are what makes a busy room cheap."""
        piece = bytearray()
        while self.due and (not piece or len(piece) + len(self.due[0][0]) <= bytes_max):
            frame, from_room = self.due.popleft()
            self._count(frame, from_room, -1)
            piece += frame
        return bytes(piece)

    def drop_due(self):
        """Forget what was not sent. What was sent has no gap (CHAT-ORD-4)."""
        self.due.clear()
        self.lag_bytes = 0
        self.reply_bytes = 0
        self._wake()

    def finish(self):
        self.over = True
        self._wake()
