"""Session: one client as the room sees it."""

import math
from collections import deque

from framing import encode
from schema import chat_pb2 as pb


class Session:
    """The state of a client and the queue of frames for it.

        connected --Register--> member --Leave, loss, error--> over
            |                                                    ^
            +----------------loss, error-------------------------+

    All frames for a client wait in one queue: answers to its own messages and events
    of the room. One queue makes every order right: a Joined before the Chat, a Left
    before the next Joined, each Receipt in its turn.

    Once a session is over, nothing is added to the queue (CHAT-ERR-1, CHAT-CLOSE-2)
    and no more messages are taken from the client (CHAT-LEAVE-4). The rest of the
    queue is still sent (CHAT-LEAVE-2), then the connection closes.
    """

    def __init__(self, wake=lambda: None):
        # Empty until registered.
        self.name = ""
        self.granted = frozenset()
        self.over = False
        # A Register that waits for the holder of its name (CHAT-NAME-7), and the
        # holder.
        self.waiting = None
        # For a holder: when it was checked, how many wait for the result, and when its
        # last frame arrived.
        self.checked_at_ms = -math.inf
        self.waiting_registers = 0
        self.last_frame_at_ms = 0
        # Non-fatal errors that are not forgotten yet (CHAT-ERR-8).
        self.errors = 0
        self.errors_at_ms = 0
        # The connection is lost for writing.
        self.cannot_write = False
        # Token bucket of chats, in milliseconds (CHAT-LIM-2).
        self.chat_credit_ms = 0
        self.chat_credit_at_ms = 0
        # Pairs of a frame and whether it is an event of the room (True) or an answer
        # (False); and the bytes of each kind.
        self.queue = deque()
        self.lag_bytes = 0
        self.reply_bytes = 0
        # Called when a frame is queued or the session is over.
        self._wake = wake

    def is_member(self):
        return self.name != "" and not self.over

    def has(self, capability):
        return capability in self.granted

    def reply(self, **message):
        """Queue an answer to this client."""
        self._append(encode(pb.ServerEnvelope(**message)), False)

    def send_event(self, frame):
        """Queue an event of the room, which is encoded once for all members."""
        self._append(frame, True)

    def _append(self, frame, from_room):
        if self.over or self.cannot_write:
            return
        self.queue.append((frame, from_room))
        self._count(frame, from_room, +1)
        self._wake()

    def _count(self, frame, from_room, sign):
        if from_room:
            self.lag_bytes += sign * len(frame)
        else:
            self.reply_bytes += sign * len(frame)

    def take_queued(self, bytes_max):
        """Take as many whole frames as fit, at least one. Fewer and larger writes keep
        a busy room cheap."""
        piece = bytearray()
        while self.queue and (not piece or len(piece) + len(self.queue[0][0]) <= bytes_max):
            frame, from_room = self.queue.popleft()
            self._count(frame, from_room, -1)
            piece += frame
        return bytes(piece)

    def drop_queue(self):
        """Drop all unsent frames. The frames that were sent have no gap
        (CHAT-ORD-4)."""
        self.queue.clear()
        self.lag_bytes = 0
        self.reply_bytes = 0
        self._wake()

    def finish(self):
        self.over = True
        self._wake()
