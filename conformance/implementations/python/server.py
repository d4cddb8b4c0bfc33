"""A whole chat server: every rule of proto/chat.proto, with all capabilities.

    python server.py --listen 127.0.0.1:7000

The rules are in room.py, the queue of each client in session.py, sockets and time
in connection.py, frames in framing.py. This file has the options, the listener and
the shutdown.
"""

import argparse
import asyncio
import signal
import socket
import sys
import traceback

from admission import read_names, read_password
from address_limiter import AddressLimiter
from connection import Connection
from framing import Refused
from room import NAME_BYTES_MAX, Room
from schema import chat_pb2 as pb

# How many bytes a frame needs beyond its text (CHAT-LIM-7).
FRAME_OVERHEAD_BYTES = 256
# CHAT-CLOSE-3 allows 5 seconds in all.
SHUTDOWN_SECONDS_MAX = 4.0


class Server:
    def __init__(self, room, listener, connections_max, connection_class=Connection, limiter=None):
        self.room = room
        self.listener = listener
        self.connections_max = connections_max
        self.connection_class = connection_class
        # The limits per network address.
        self.limiter = limiter or AddressLimiter(0, 0)
        # The clients whose close is not sent yet.
        self.served = set()
        # All tasks, including those that only wait for their client to close.
        self.tasks = set()

    async def run(self, stop):
        """Serve until the event `stop` is set, then shut down."""
        accepting = asyncio.create_task(self.accept())
        await stop.wait()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        self.accept_pending()
        self.listener.close()
        await self.shut_down()

    async def accept(self):
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self.listener)
            except OSError as problem:
                # Out of descriptors, or the client is gone already: continue, but do
                # not spin.
                print(f"cannot accept: {problem}", file=sys.stderr)
                await asyncio.sleep(0.1)
            else:
                self.accept_connection(sock, address[0])

    def accept_pending(self):
        """A client in the backlog of the listener is connected, too, and is told of
        the shutdown (CHAT-CLOSE-1)."""
        while True:
            try:
                sock, address = self.listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            self.accept_connection(sock, address[0])

    def accept_connection(self, sock, host):
        """Start to serve a client, or reject it."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self.connection_class(self.room, sock)
        try:
            if len(self.served) >= self.connections_max:
                raise Refused(
                    pb.ERROR_CODE_SERVER_FULL,
                    "The server takes no further connection; try again later.",
                )  # CHAT-REG-9
            connection.address_key = self.limiter.key(host)
            self.limiter.acquire(connection.address_key, self.room.now_ms())
        except Refused as refused:
            if len(self.tasks) >= 2 * self.connections_max:
                # Too many rejected connections wait for their error already.
                sock.close()
                return
            self.reject(connection, refused)
        else:
            self.served.add(connection)
        task = asyncio.create_task(self.serve(connection))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def reject(self, connection, refused):
        self.room.refuse(connection.session, refused)

    async def serve(self, connection):
        """A fault of one client, or a bug of ours, must not end the server."""
        try:
            await connection.run(before_end=lambda: self.gone(connection))
        except Exception:
            traceback.print_exc()
        finally:
            self.gone(connection)

    def gone(self, connection):
        if connection in self.served:
            self.served.discard(connection)
            self.limiter.release(connection.address_key)

    async def shut_down(self):
        """Tell all clients and wait for a while until they have read it
        (CHAT-CLOSE-1, CHAT-CLOSE-3)."""
        self.room.close([connection.session for connection in self.served])
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=SHUTDOWN_SECONDS_MAX)
        for task in self.tasks:
            task.cancel()


# Options.


def uint32(text):
    value = int(text)
    if not 0 <= value < 2**32:
        raise ValueError
    return value


def parse_options(arguments):
    parser = argparse.ArgumentParser(description="A chat server for proto/chat.proto.")
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:0")
    parser.add_argument("--connections-max", type=uint32, default=500)
    parser.add_argument("--password-file", metavar="FILE", help="require the password in it")
    parser.add_argument("--allow", metavar="FILE", help="allow only the names in it")
    parser.add_argument("--connections-per-address-max", type=uint32, default=0)
    parser.add_argument("--connections-per-minute-max", type=uint32, default=0)
    parser.add_argument("--mutant", metavar="NAME", help="break one rule on purpose")
    parser.add_argument(
        "--list-mutants", action="store_true", help="list the rules that can be broken"
    )
    for name, default in (
        ("register-deadline-ms", 10_000),
        ("keepalive-interval-ms", 30_000),
        ("idle-deadline-ms", 75_000),
        ("write-deadline-ms", 10_000),
        ("chat-burst", 100),
        ("chat-interval-ms", 10),
        ("text-bytes-max", 4096),
        ("frame-bytes-max", 8192),
        ("lag-bytes-max", 4 * 1024 * 1024),
        ("errors-max", 3_000),
    ):
        parser.add_argument(f"--{name}", type=uint32, default=default, help=f"default {default}")
    # The defaults of these depend on other options.
    for name, default in (
        ("name-check-deadline-ms", "half the register deadline, 2500 at the most"),
        ("frames-per-second-max", "20 for each chat that the rate allows"),
        ("bytes-per-second-max", "4 of the longest frames for each chat"),
    ):
        parser.add_argument(f"--{name}", type=uint32, help=f"default {default}")
    options = parser.parse_args(arguments)
    follow(options)

    def demand(condition, sentence):
        if not condition:
            parser.error(sentence)

    demand(options.connections_max >= 1, "--connections-max is at least 1")
    demand(options.text_bytes_max >= 1, "--text-bytes-max is at least 1")
    demand(
        options.frame_bytes_max >= options.text_bytes_max + FRAME_OVERHEAD_BYTES,
        f"--frame-bytes-max is at least --text-bytes-max + {FRAME_OVERHEAD_BYTES}",
    )
    demand(
        1 <= options.keepalive_interval_ms < options.idle_deadline_ms,
        "--keepalive-interval-ms is at least 1 and less than --idle-deadline-ms",
    )
    for name in ("register_deadline_ms", "write_deadline_ms", "lag_bytes_max"):
        demand(getattr(options, name) >= 1, f"--{name.replace('_', '-')} is at least 1")
    # A mistake in these must not leave the server open to everybody.
    try:
        options.password = read_password(options.password_file)
        options.names = read_names(options.allow)
    except (OSError, ValueError) as problem:
        parser.error(f"the password or the list of names cannot be used: {problem}")
    if options.chat_interval_ms == 0:
        options.chat_burst = 0  # Limits.chat_burst: 0 goes with no rate limit.
    else:
        demand(options.chat_burst >= 1, "--chat-burst is at least 1 where there is a rate")
    return options


def follow(options):
    """Set the options whose defaults depend on others."""
    chats_a_second = 1000 / options.chat_interval_ms if options.chat_interval_ms else 0
    for name, value in (
        ("name_check_deadline_ms", min(2_500, options.register_deadline_ms // 2)),
        ("frames_per_second_max", 20 * chats_a_second),
        ("bytes_per_second_max", 4 * options.frame_bytes_max * chats_a_second),
    ):
        if getattr(options, name) is None:
            setattr(options, name, min(int(value), 2**32 - 1))


def limits_of(options):
    return pb.Limits(
        frame_bytes_max=options.frame_bytes_max,
        text_bytes_max=options.text_bytes_max,
        name_bytes_max=NAME_BYTES_MAX,
        chat_burst=options.chat_burst,
        chat_interval_ms=options.chat_interval_ms,
        register_deadline_ms=options.register_deadline_ms,
        keepalive_interval_ms=options.keepalive_interval_ms,
        idle_deadline_ms=options.idle_deadline_ms,
        write_deadline_ms=options.write_deadline_ms,
        lag_bytes_max=options.lag_bytes_max,
        errors_max=options.errors_max,
        name_check_deadline_ms=options.name_check_deadline_ms,
        frames_per_second_max=options.frames_per_second_max,
        bytes_per_second_max=options.bytes_per_second_max,
    )


def listen(address):
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, int(port)), family=family, backlog=512)
    listener.setblocking(False)
    return listener


def address_of(listener):
    host, port = listener.getsockname()[:2]
    return f"chat://[{host}]:{port}" if ":" in host else f"chat://{host}:{port}"


def log(line):
    """Who joined and who left. Never the texts of chats."""
    print(line, file=sys.stderr, flush=True)


async def serve(options, room_class, connection_class, server_class):
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = listen(options.listen)
    print(f"listening on {address_of(listener)}", flush=True)
    room = room_class(limits_of(options), log, options.password, options.names)
    limiter = AddressLimiter(
        options.connections_per_address_max, options.connections_per_minute_max
    )
    server = server_class(room, listener, options.connections_max, connection_class, limiter)
    await server.run(stop)


def main():
    options = parse_options(sys.argv[1:])
    if options.list_mutants:
        from mutants.server import SERVER_MUTANTS

        print(SERVER_MUTANTS.listing(), end="")
        return
    classes = Room, Connection, Server
    if options.mutant:
        # Servers that break a rule on purpose. They live in a package of their own,
        # because they are no example of how to write a server.
        from mutants.server import classes_of

        classes = classes_of(options.mutant)
    try:
        asyncio.run(serve(options, *classes))
    except (OSError, ValueError, OverflowError) as problem:
        sys.exit(f"cannot listen on {options.listen}: {problem}")


if __name__ == "__main__":
    main()
