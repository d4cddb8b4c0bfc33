"""One client's socket: bytes from it to the room, frames due to it from the room.

Reading and writing go on side by side and never wait for another client.
"""

import asyncio
import socket

from framing import FrameReader, Refused
from schema import chat_pb2 as pb
from session import Session

READ_BYTES_MAX = 16 * 1024
WRITE_BYTES_MAX = 64 * 1024
# A client with more unread answers than this is not read from (CHAT-LIM-6).
REPLY_BYTES_MAX = 64 * 1024
# Before each read, senders wait this long at most for others to catch up
# (CHAT-LIM-6): enough for a burst to pass, too short to hold anybody for the
# sake of one who does not read (CHAT-LIM-4).
CATCH_UP_SECONDS_MAX = 0.05
# How much may come at once of what the limits allow a second (CHAT-LIM-9).
FLOOD_SECONDS = 10.0
# How long, after its last byte is sent, a connection waits for the client to
# close its side too.
LINGER_SECONDS_MAX = 1.0


class Connection:
    session_class = Session
    frame_reader_class = FrameReader

    def __init__(self, room, sock):
        self.room = room
        self.socket = sock
        self.something_due = asyncio.Event()
        self.session = self.session_class(wake=self.something_due.set)
        self.frames = self.frame_reader_class()
        self.last_frame_at = self.now()
        self.silence_watch = None
        # When what the client sent of late is forgotten.
        self.flood_forgotten_at = 0.0

    def now(self):
        return asyncio.get_running_loop().time()

    # The whole life of it.

    async def run(self, before_end=lambda: None):
        """Serve the client until its session is over and told so. before_end is
        called when all is sent, before the client can see the end."""
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
                # Nothing can be sent any more. What the client sent before that
                # still counts; reading it ends with the session.
                self.room.lost_hearing(self.session)
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
        """Say that nothing more comes, and read on for a while, until the client
        closes too. To close with bytes unread would reset the connection, and
        with it destroy an error that is still on its way (CHAT-ERR-1)."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        await asyncio.wait([reading], timeout=LINGER_SECONDS_MAX)

    # From the client.

    async def read(self):
        """Until the end of the stream. What comes after the end of the session is
        read and forgotten."""
        loop = asyncio.get_running_loop()
        while True:
            # sock_recv does not wait where bytes are there already; without this,
            # a client that never stops sending would have the server to itself.
            await asyncio.sleep(0)
            await self.let_others_catch_up()
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
        """Give the room each frame that is whole."""
        self.frames.feed(data)
        try:
            while not self.session.over:
                body = self.frames.next_body(self.room.frame_bytes_max(self.session))
                if body is None:
                    return
                self.heard(body)
                self.room.receive(self.session, body)
                await self.until_name_is_decided()
                self.watch_silence_if_granted()
                await self.until_flood_is_over(len(body))
                await self.until_replies_are_read()
        except Refused as refused:
            self.room.refuse(self.session, refused)

    def heard(self, body):
        """Any frame is a sign of life (CHAT-KEEP-4)."""
        self.last_frame_at = self.now()
        self.session.heard_at_ms = self.room.now_ms()

    async def until_name_is_decided(self):
        """A Register may wait for the holder of its name, and what is behind it
        waits as well (CHAT-NAME-7)."""
        while self.session.waiting:
            await asyncio.sleep(0.02)
            self.room.decide_name(self.session)

    async def until_flood_is_over(self, body_bytes):
        """Read no more for a while from a member that sends more frames or bytes
        than the limits allow (CHAT-LIM-6, CHAT-LIM-9)."""
        if not self.session.is_member():
            return
        limits = self.room.limits
        worth = 0
        if limits.frames_per_second_max:
            worth = 1 / limits.frames_per_second_max
        if limits.bytes_per_second_max:
            worth = max(worth, body_bytes / limits.bytes_per_second_max)
        self.flood_forgotten_at = max(self.flood_forgotten_at, self.now()) + worth
        burst_seconds = limits.chat_burst * limits.chat_interval_ms / 1000
        wait = self.flood_forgotten_at - self.now() - max(FLOOD_SECONDS, burst_seconds)
        if worth and wait > 0:
            await asyncio.sleep(wait)
            # The silence was ours.
            self.last_frame_at = self.now()

    async def until_replies_are_read(self):
        """Read no more from a client that does not read its answers
        (CHAT-LIM-6). Writing has its own deadline, which ends this wait too."""
        if self.session.reply_bytes <= REPLY_BYTES_MAX:
            return
        while self.session.reply_bytes > REPLY_BYTES_MAX and not self.session.over:
            await asyncio.sleep(0.005)
        # The silence was ours.
        self.last_frame_at = self.now()

    async def let_others_catch_up(self):
        give_up_at = self.now() + CATCH_UP_SECONDS_MAX
        while self.room.is_crowded() and not self.session.over and self.now() < give_up_at:
            await asyncio.sleep(0.005)

    # To the client.

    async def write(self):
        """Until the session is over and all that was due is sent."""
        while True:
            await self.something_due.wait()
            self.something_due.clear()
            while self.session.due:
                await self.send(memoryview(self.session.take_due(WRITE_BYTES_MAX)))
            if self.session.over:
                return

    async def send(self, piece):
        while piece:
            try:
                piece = piece[self.socket.send(piece) :]
            except BlockingIOError:
                await self.wait_until_writable()

    async def wait_until_writable(self):
        """The client's buffers and ours are full: it has to take something within
        the deadline (CHAT-LIM-5). If not, its session is over, and it has the
        same time once more to take the error."""
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
                    self.room.taken_nothing(self.session)
        finally:
            loop.remove_writer(self.socket)

    # Silence.

    def watch_silence_if_granted(self):
        if self.silence_watch is None and self.session.has(pb.CAPABILITY_KEEPALIVE):
            self.silence_watch = asyncio.create_task(self.watch_silence())

    async def watch_silence(self):
        """Ping a silent client once in each interval; end its session at the
        deadline (CHAT-KEEP-3, CHAT-KEEP-4). Nobody without keepalive is watched
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
                self.room.silent_too_long(self.session)
            elif self.now() >= next_ping_at:
                pings += 1
                token += 1
                self.room.ping(self.session, token)
