"""Shared parts of the mutants of the server."""

import asyncio
from collections import deque

from connection import Connection
from mutants import Mutants
from schema import chat_pb2 as pb
from session import Session

SERVER_MUTANTS = Mutants()
mutant = SERVER_MUTANTS.mutant

# How long a mutant holds back a message that it reorders.
MOMENT_SECONDS = 0.2
# How long a mutant delays an action that should happen at once.
LONG_SECONDS = 60.0


def later(seconds, call, *arguments):
    asyncio.get_running_loop().call_later(seconds, call, *arguments)


def body_of(frame):
    """The body of a frame."""
    prefix_bytes = 1
    while frame[prefix_bytes - 1] > 127:
        prefix_bytes += 1
    return frame[prefix_bytes:]


def message_in(frame):
    """Which message it is: "chat", "error", ..."""
    return pb.ServerEnvelope.FromString(body_of(frame)).WhichOneof("message")


class HoldingSession(Session):
    """Can hold back an event of the room for a moment."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.held = None

    def hold(self, frame):
        self.held = frame
        later(MOMENT_SECONDS, self.release, frame)

    def release(self, frame=None):
        if self.held is not None and frame in (None, self.held):
            held, self.held = self.held, None
            super().send_event(held)

    def finish(self):
        self.release()
        super().finish()


class DelayingSession(Session):
    """Holds back all frames for a moment, in order."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.held = deque()

    def _append(self, frame, from_room):
        self.held.append((frame, from_room))
        later(MOMENT_SECONDS / 2, self.release_first)

    def release_first(self):
        if self.held:
            super()._append(*self.held.popleft())

    def finish(self):
        while self.held:
            self.release_first()
        super().finish()


class DelayingConnection(Connection):
    session_class = DelayingSession
