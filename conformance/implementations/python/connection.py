"""Connection: the socket of one client. Bytes go from it to the room, frames from its
session's queue to it.

Reading and writing run side by side and never wait for another client.
"""

import asyncio
import socket

from framing import FrameReader, Refused
from schema import chat_pb2 as pb
from session import Session

READ_BYTES_MAX = 16 * 1024
WRITE_BYTES_MAX = 64 * 1024
# The server stops reading from a client with more unread answers than this
# (CHAT-LIM-6).
REPLY_BYTES_MAX = 64 * 1024
# Backpressure: before each read, a sender waits this long at most for others to
# catch up (CHAT-LIM-6). It is enough for a burst, and too short for one member that
# does not read to stop the others (CHAT-LIM-4).
CATCH_UP_SECONDS_MAX = 0.05
# How many seconds' worth of frames and bytes may arrive at once (CHAT-LIM-9).
FLOOD_SECONDS = 10.0
# How long a connection waits, after its last byte is sent, for the client to close
# its side too.
LINGER_SECONDS_MAX = 1.0


class Connection:
    session_class = Session
    frame_reader_class = FrameReader

    def __init__(self, room, sock):
        self.room = room
        self.socket = sock
        self.has_work = asyncio.Event()
        self.session = self.session_class(wake=self.has_work.set)
        self.frames = self.frame_reader_class()
        self.last_frame_at = self.now()
        self.silence_watch = None
        # When the token bucket of frames and bytes is full again.
        self.throttle_paid_at = 0.0

    def now(self):
        return asyncio.get_running_loop().time()

    # From accept to close.

    async def run(self, before_end=lambda: None):
        """Serve the client until its session has ended and everything is sent. Then
        call before_end, before the client can see the close."""
        register_timer = asyncio.get_running_loop().call_later(
            self.room.limits.register_deadline_ms / 1000,
            self.room.register_deadline_passed,
            self.session,
        )
        reading = asyncio.create_task(self.read())
        try:
            try:
                await self.write()
            except TimeoutError:
                before_end()
            except OSError:
                # Nothing can be sent any more. Messages that the client sent before
                # still count; reading them ends with the session.
                self.room.write_failed(self.session)
                await reading
                before_end()
            else:
                before_end()
                await self.linger(reading)
        finally:
            register_timer.cancel()
            for task in (reading, self.silence_watch):
                if task is not None:
                    task.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            self.room.lost(self.session)
            self.socket.close()

    async def linger(self, reading):
        """Shut down the sending side and keep reading for a while, until the client
        closes too. A close with unread bytes would reset the connection and could
        destroy an error that is still on its way (CHAT-ERR-1)."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        await asyncio.wait([reading], timeout=LINGER_SECONDS_MAX)

    # From the client.

    async def read(self):
        """Read until the end of the stream. Bytes that arrive after the end of the
        session are discarded."""
        loop = asyncio.get_running_loop()
        while True:
            # sock_recv returns at once if bytes are there; without this, a client that
            # never stops sending would starve all others.
            await asyncio.sleep(0)
            await self.wait_for_slow_readers()
            try:
                data = await loop.sock_recv(self.socket, READ_BYTES_MAX)
            except OSError:
                self.room.lost(self.session)
                return
            if not data:
                self.end_of_stream()
                return
            if not self.session.over:
                await self.take(data)

    def end_of_stream(self):
        self.room.end_of_stream(self.session, self.frames.inside_frame())

    async def take(self, data):
        """Pass each complete frame to the room."""
        self.frames.feed(data)
        try:
            while not self.session.over:
                body = self.frames.next_body(self.room.frame_bytes_max(self.session))
                if body is None:
                    return
                self.note_activity(body)
                self.room.receive(self.session, body)
                await self.wait_for_name()
                self.watch_silence_if_granted()
                await self.wait_while_throttled(len(body))
                await self.wait_for_reply_queue()
        except Refused as refused:
            self.room.refuse(self.session, refused)

    def note_activity(self, body):
        """Every frame is a sign of life (CHAT-KEEP-4)."""
        self.last_frame_at = self.now()
        self.session.last_frame_at_ms = self.room.now_ms()

    async def wait_for_name(self):
        """A Register may wait for the holder of its name; later frames wait behind it
        (CHAT-NAME-7)."""
        while self.session.waiting:
            await asyncio.sleep(0.02)
            self.room.decide_waiting_register(self.session)

    async def wait_while_throttled(self, body_bytes):
        """Token bucket: stop reading for a while from a member that sends more frames
        or bytes than the limits allow (CHAT-LIM-6, CHAT-LIM-9)."""
        if not self.session.is_member():
            return
        limits = self.room.limits
        worth = 0
        if limits.frames_per_second_max:
            worth = 1 / limits.frames_per_second_max
        if limits.bytes_per_second_max:
            worth = max(worth, body_bytes / limits.bytes_per_second_max)
        self.throttle_paid_at = max(self.throttle_paid_at, self.now()) + worth
        burst_seconds = limits.chat_burst * limits.chat_interval_ms / 1000
        wait = self.throttle_paid_at - self.now() - max(FLOOD_SECONDS, burst_seconds)
        if worth and wait > 0:
            await asyncio.sleep(wait)
            # The server did not read, so this time is no silence (CHAT-KEEP-4).
            self.last_frame_at = self.now()

    async def wait_for_reply_queue(self):
        """Stop reading from a client that does not read its answers (CHAT-LIM-6).
        The write deadline ends this wait, too."""
        if self.session.reply_bytes <= REPLY_BYTES_MAX:
            return
        while self.session.reply_bytes > REPLY_BYTES_MAX and not self.session.over:
            await asyncio.sleep(0.005)
        # The server did not read, so this time is no silence (CHAT-KEEP-4).
        self.last_frame_at = self.now()

    async def wait_for_slow_readers(self):
        give_up_at = self.now() + CATCH_UP_SECONDS_MAX
        while self.room.is_crowded() and not self.session.over and self.now() < give_up_at:
            await asyncio.sleep(0.005)

    # To the client.

    async def write(self):
        """Write until the session has ended and its queue is empty."""
        while True:
            await self.has_work.wait()
            self.has_work.clear()
            while self.session.queue:
                await self.send(memoryview(self.session.take_queued(WRITE_BYTES_MAX)))
            if self.session.over:
                return

    async def send(self, piece):
        while piece:
            try:
                piece = piece[self.socket.send(piece) :]
            except BlockingIOError:
                await self.wait_until_writable()

    async def wait_until_writable(self):
        """The socket buffers are full: the client must take bytes within the deadline
        (CHAT-LIM-5). If not, its session ends, and it has the same time once more
        to take the error."""
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(self.socket, writable.set)
        try:
            while not writable.is_set():
                try:
                    await asyncio.wait_for(
                        writable.wait(), self.room.limits.write_deadline_ms / 1000
                    )
                except TimeoutError:
                    if self.session.over:
                        raise
                    self.room.write_timed_out(self.session)
        finally:
            loop.remove_writer(self.socket)

    # Silence.

    def watch_silence_if_granted(self):
        if self.silence_watch is None and self.session.has(pb.CAPABILITY_KEEPALIVE):
            self.silence_watch = asyncio.create_task(self.watch_silence())

    async def watch_silence(self):
        """Ping a silent member once per interval; end its session at the deadline
        (CHAT-KEEP-3, CHAT-KEEP-4). Members without keepalive are not watched
        (CHAT-KEEP-6)."""
        interval = self.room.limits.keepalive_interval_ms / 1000
        deadline = self.room.limits.idle_deadline_ms / 1000
        pings = 0
        token = 0
        while not self.session.over:
            last_frame_at = self.last_frame_at
            next_ping_at = last_frame_at + (pings + 1) * interval
            await asyncio.sleep(min(next_ping_at, last_frame_at + deadline) - self.now())
            if self.last_frame_at != last_frame_at:
                pings = 0
            elif self.now() >= last_frame_at + deadline:
                self.room.idle_deadline_passed(self.session)
            elif self.now() >= next_ping_at:
                pings += 1
                token += 1
                self.room.ping(self.session, token)
