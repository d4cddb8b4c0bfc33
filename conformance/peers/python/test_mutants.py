"""Tests that each mutant shows on the wire: the same conversation with the
straight server or client and with the mutant is not the same.

That its rule, and not another, is what it breaks is for the conformance suite to
prove. Many conversations go on side by side, as each spends its time waiting.
"""

import asyncio
import contextlib
import socket
import sys
import time
import unittest
from pathlib import Path

from connection import Connection
from framing import encode, encode_length
from mutants.client import CLIENT_MUTANTS
from mutants.server import SERVER_MUTANTS, classes_of
from room import Room
from schema import chat_pb2 as pb
from server import Server, limits_of, listen, parse_options

HERE = Path(__file__).resolve().parent

# Longer than the mutants wait for what they put out of order.
SETTLE_SECONDS = 0.6
PRESENCE, RECEIPTS, KEEPALIVE = pb.Capability.values()[1:]


class Peer:
    """A client that notes all it receives."""

    def __init__(self, stage, name):
        self.stage = stage
        self.name = name
        # What came, and what was going on when it came.
        self.log = []
        self.answers = {}

    async def connect(self, **options):
        sock = socket.socket()
        for option, value in options.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.stage.address)
        self.reader, self.writer = await asyncio.open_connection(sock=sock)
        self.reading = asyncio.create_task(self.read())

    async def read(self):
        """Read frames by hand, so that their form is noted, too."""
        try:
            while True:
                length, prefix = 0, b""
                while not prefix or prefix[-1] > 127:
                    prefix += await self.reader.readexactly(1)
                    length += (prefix[-1] % 128) << 7 * (len(prefix) - 1)
                if len(prefix) != len(encode_length(length)):
                    self.log.append("a length in a longer form")
                body = await self.reader.readexactly(length)
                envelope = pb.ServerEnvelope.FromString(body)
                self.log.append((length > self.stage.limits.frame_bytes_max, envelope))
                if answer := self.answers.get(envelope.WhichOneof("message")):
                    self.send(*answer)
        except (OSError, EOFError):
            self.log.append("the end")
        except Exception as problem:
            self.log.append(type(problem).__name__)

    def raw(self, data):
        if not self.writer.transport.is_closing():
            self.writer.write(data)

    def send(self, *messages):
        self.raw(b"".join(encode(message) for message in messages))

    async def slowly(self, data):
        for byte in data:
            if self.reading.done():
                return
            self.raw(bytes([byte]))
            await asyncio.sleep(0.003)

    def half_close(self):
        self.writer.write_eof()


def register(name, *capabilities):
    return pb.ClientEnvelope(register=pb.Register(name=name, capabilities=capabilities))


def chat(text, **fields):
    return pb.ClientEnvelope(chat=pb.Chat(text=text, **fields))


def frame(body):
    return encode_length(len(body)) + body


LEAVE = pb.ClientEnvelope(leave=pb.Leave())
PING = pb.ClientEnvelope(ping=pb.Ping(token=5))
PONG = pb.ClientEnvelope(pong=pb.Pong(token=6))
UNKNOWN = frame(b"\xf8\x3f\x05")
EMPTY = b"\x00"


def padded(message, bytes_):
    """The same message with an unknown field that makes it so long."""
    body = message.SerializeToString()
    return frame(body + b"\xfa\x3f" + encode_length(bytes_) + b"x" * bytes_)


class Stage:
    """A server, and those who talk to it."""

    def __init__(self, classes, options):
        room_class, connection_class, server_class = classes
        self.options = parse_options(
            ["--text-bytes-max", "64", "--frame-bytes-max", "2000", *options]
        )
        self.limits = limits_of(self.options)
        listener = listen("127.0.0.1:0")
        self.address = listener.getsockname()
        room = room_class(self.limits)
        server = server_class(room, listener, self.options.connections_max, connection_class)
        self.stop = asyncio.Event()
        self.running = asyncio.create_task(server.run(self.stop))
        self.peers = []
        self.ended_in_time = False

    async def peer(self, name, *capabilities, registers=True, **options):
        peer = Peer(self, name)
        await peer.connect(**options)
        self.peers.append(peer)
        if registers:
            peer.send(register(name, *capabilities))
            await asyncio.sleep(0.05)
        return peer

    async def settle(self, step, seconds=SETTLE_SECONDS):
        await asyncio.sleep(seconds)
        for peer in self.peers:
            peer.log.append(f"({step})")

    async def shut_down(self):
        self.stop.set()
        done, _ = await asyncio.wait([self.running], timeout=5)
        self.ended_in_time = bool(done)
        await asyncio.sleep(0.05)
        self.running.cancel()
        for peer in self.peers:
            peer.reading.cancel()
            peer.writer.close()
        await asyncio.gather(self.running, return_exceptions=True)

    def transcript(self):
        """All that was noted, without what differs from run to run."""
        envelopes = [entry[1] for peer in self.peers for entry in peer.log if type(entry) is tuple]
        time_of = {e.chat.seq: e.chat.time_unix_ms for e in envelopes if e.HasField("chat")}
        epochs = {e.registered.epoch for e in envelopes if e.HasField("registered")}
        now = time.time() * 1000
        for envelope in envelopes:
            message = envelope.WhichOneof("message")
            if message == "receipt":
                same = time_of.get(envelope.receipt.seq) == envelope.receipt.time_unix_ms
                envelope.receipt.time_unix_ms = int(same)
            elif message == "chat":
                near = abs(now - envelope.chat.time_unix_ms) < 60_000
                envelope.chat.time_unix_ms = int(near)
            elif message == "registered":
                random = len(envelope.registered.epoch) == 32
                envelope.registered.epoch = "random" if random and len(epochs) == 1 else "wrong"
            elif message == "members":
                envelope.members.names[:] = sorted(envelope.members.names)
            elif message == "error" and len(envelope.error.detail) < 200:
                envelope.error.detail = "a sentence" if envelope.error.detail else ""
                envelope.error.retry_after_ms = min(1, envelope.error.retry_after_ms)
        lines = [f"ended in time: {self.ended_in_time}"]
        for peer in self.peers:
            lines.append(f"{peer.name}:")
            lines += [" ".join(str(entry).split()) for entry in peer.log]
        return "\n".join(lines)


# Conversations, by the area of the rules that they touch.


async def frames(stage):
    await stage.peer("bob")
    alice = await stage.peer("Alice", registers=False)
    await alice.slowly(encode(register("Alice")) + padded(chat("slow"), 150))
    alice.send(chat("one"), chat("two"), chat("three"))
    await stage.settle("cuts")
    alice.raw(encode(chat("x" * 40))[:20])
    await asyncio.sleep(0.05)
    alice.raw(encode(chat("x" * 40))[20:])
    alice.raw(padded(chat("padded"), 1500))
    await stage.settle("long")
    for number, data in enumerate(
        (
            b"\xff" * 11,
            b"\xff" * 9 + b"\x02",
            encode_length(1500),
            padded(register("long"), 1100),
        )
    ):
        (await stage.peer(f"u{number}", registers=False)).raw(data)
    for number, data in enumerate(
        (
            encode_length(2001),
            frame(b"\x0a\x04\x0a\x02\xff\xfe"),
            frame(b"\x0e"),
            encode_length(12) + chat("cut").SerializeToString() + b"\xfa",
            encode(chat("cut in the text"))[:-4],
        )
    ):
        peer = await stage.peer(f"m{number}")
        peer.raw(data)
        if number > 2:
            peer.half_close()
    await stage.settle("malformed")


async def registering(stage):
    await stage.peer("bob", RECEIPTS)
    early = await stage.peer("early", registers=False)
    await stage.peer("silent", registers=False)
    early.send(register("Early", PRESENCE))
    for number, first in enumerate((encode(chat("hi")), UNKNOWN, EMPTY, encode(LEAVE))):
        peer = await stage.peer(f"first{number}", registers=False)
        peer.raw(first)
        await asyncio.sleep(0.02)
        peer.send(register(f"late{number}"))
    early.send(register("Other"), chat("still here"))
    await stage.settle("registered", 1.0)
    for number in range(6):
        await stage.peer(f"many{number}")
    await stage.settle("full")


async def names(stage):
    await stage.peer("Holder")
    bad = ("", "a" * 33, ".a", "a b", "Zoë", "a\n", "ALL", "server", "Server", "hOLDER", "Holder")
    for name in (*bad, "a" * 32, "A._-"):
        await stage.peer(name)
    leaver = await stage.peer("leaver")
    leaver.send(LEAVE)
    await asyncio.sleep(0.1)
    await stage.peer("leaver")
    await stage.settle("names")


async def chatting(stage):
    for number in range(3):
        await stage.peer(f"plain{number}")
    await stage.peer("bob", PRESENCE, RECEIPTS)
    alice = await stage.peer("Alice", RECEIPTS)
    for text in (
        *(" both ends ", "e\u0301", "a\u202eb\u2066c", "x" * 64, " ", "\u200d😀"),
        *("", "a\tb", "a\nb", "\x00", "\x7f", "\x85", "\u2028", "x" * 65, "ü" * 40),
    ):
        alice.send(chat(text, sender="Bob", seq=77, time_unix_ms=5, id=9))
        await asyncio.sleep(0.01)
    await stage.settle("texts")
    alice.send(chat("one", id=1), chat("two", id=2), chat("three", id=3), chat("", id=4))
    await stage.settle("order")
    await stage.peer("new", PRESENCE)
    await stage.peer("newer")
    alice.send(chat("more"))
    alice.send(chat("and more"))
    await stage.settle("joined")


async def leaving(stage):
    await stage.peer("bob", PRESENCE)
    alice = await stage.peer("Alice", RECEIPTS)
    alice.send(chat("last words"), LEAVE, chat("too late"))
    await stage.settle("left")
    carl = await stage.peer("Carl", RECEIPTS)
    carl.send(chat("last words"))
    carl.half_close()
    await stage.settle("half-closed")
    for name in ("Alice", "Carl"):
        await stage.peer(name)
    await stage.settle("again")


async def closing(stage):
    await stage.peer("nobody", registers=False)
    for name in ("bob", "Alice", "Carl"):
        peer = await stage.peer(name)
        peer.answers["server_closing"] = [chat("too late")]
    await stage.settle("ready")
    # Due when the server shuts down. Nobody here closes before the server ends.
    peer.send(chat("in time"))
    await asyncio.sleep(0.03)


async def errors(stage):
    await stage.peer("bob", PRESENCE)
    alice = await stage.peer("Alice", RECEIPTS, KEEPALIVE)
    alice.send(chat("", id=4))
    alice.send(chat("x" * 65, id=5), register("Other"))
    alice.raw(UNKNOWN)
    alice.send(chat("fine", id=6), PING)
    await stage.settle("goes on")
    alice.raw(b"\xff" * 11)
    (await stage.peer("long")).raw(encode_length(2001))
    for name in ("all", "BOB", "a" * 32):
        await stage.peer(name)
    await stage.settle("ended")


async def rates(stage):
    await stage.peer("bob")
    alice = await stage.peer("Alice", RECEIPTS)
    for _ in range(2):
        alice.send(*(chat(str(number), id=number) for number in range(1, 5)))
        await stage.settle("burst", 0.5)


async def slow_readers(stage):
    await stage.peer("bob")
    slow = await stage.peer("slow", SO_RCVBUF=4096)
    slow.reading.cancel()
    slow.writer.transport.pause_reading()
    alice = await stage.peer("Alice")
    # More than the system takes for somebody who does not read.
    alice.raw(encode(chat("x" * 4000)) * 3000)
    await stage.settle("flood", 1.5)
    received = sum(type(entry) is tuple for entry in stage.peers[0].log)
    stage.peers[0].log = [f"everything received: {received > 3000}"]
    stage.peers[1].log = []


async def growing(stage):
    await stage.peer("bob", PRESENCE, KEEPALIVE)
    alice = await stage.peer("Alice", PRESENCE, PRESENCE, 99, RECEIPTS)
    plain = await stage.peer("plain")
    plain.raw(UNKNOWN)
    plain.raw(EMPTY)
    plain.send(PING, PONG, chat("after ping"))
    await stage.settle("ungranted")
    alice.raw(padded(chat("with more fields"), 20))
    alice.send(LEAVE)
    await stage.settle("unknown")


async def presence(stage):
    await stage.peer("bob", PRESENCE)
    await stage.peer("plain")
    leaver = await stage.peer("leaver")
    await stage.peer("carl", PRESENCE)
    leaver.send(chat("bye"), LEAVE)
    await asyncio.sleep(0.1)
    alice = await stage.peer("leaver", PRESENCE)
    await stage.settle("came")
    alice.send(chat("hi"))
    await stage.settle("chat")
    alice.half_close()
    (await stage.peer("broken")).raw(b"\xff" * 11)
    one, two = await stage.peer("one"), await stage.peer("two", PRESENCE)
    one.send(LEAVE)
    await asyncio.sleep(0.1)
    two.send(LEAVE)
    await stage.settle("left")


async def silence(stage):
    await stage.peer("bob", PRESENCE)
    alice = await stage.peer("Alice", KEEPALIVE)
    alice.send(PING, PONG)
    living = await stage.peer("living", KEEPALIVE)
    living.answers["ping"] = [PONG]
    await stage.settle("silence", 2.0)
    for peer in stage.peers:
        # How many pings there are depends on the moment.
        pings = [e for e in peer.log if type(e) is tuple and e[1].HasField("ping")]
        peer.log = [e for e in peer.log if e not in pings] + ["pinged"] * bool(pings)


NO_RATE = ("--chat-interval-ms", "0")
REGISTER = (*NO_RATE, "--register-deadline-ms", "700", "--connections-max", "6")
RATE = ("--chat-burst", "3", "--chat-interval-ms", "100")
SLOW = (
    *NO_RATE,
    "--text-bytes-max",
    "4000",
    "--frame-bytes-max",
    "5000",
    "--lag-bytes-max",
    "100000000",
    "--write-deadline-ms",
    "60000",
)
SILENCE = (*NO_RATE, "--keepalive-interval-ms", "500", "--idle-deadline-ms", "1100")

# Which conversation shows the mutants of an area.
CONVERSATIONS = {
    "FRAME": [(frames, NO_RATE)],
    "REG": [(registering, REGISTER)],
    "NAME": [(names, NO_RATE)],
    "CHAT": [(chatting, NO_RATE)],
    "ORD": [(chatting, NO_RATE)],
    "LEAVE": [(leaving, NO_RATE)],
    "CLOSE": [(closing, NO_RATE)],
    "ERR": [(errors, NO_RATE)],
    "LIM": [(rates, RATE)],
    "GROW": [(growing, NO_RATE), (silence, SILENCE)],
    "PRES": [(presence, NO_RATE)],
    "RCPT": [(chatting, NO_RATE)],
    "KEEP": [(silence, SILENCE)],
}
STRAIGHT = Room, Connection, Server


async def play(classes, conversation, options):
    stage = Stage(classes, options)
    try:
        await conversation(stage)
    finally:
        # Some mutants do not close when they should.
        with contextlib.suppress(Exception):
            await stage.shut_down()
    return stage.transcript()


async def play_all(classes, conversations):
    return [await play(classes, *conversation) for conversation in conversations]


class EachMutantShows(unittest.TestCase):
    maxDiff = None

    async def find_hidden(self, area, names, conversations):
        """Those that behave like the straight server."""
        straight, straight_again, *mutated = await asyncio.gather(
            # Twice, to know that the conversation itself is the same each time.
            play_all(STRAIGHT, conversations),
            play_all(STRAIGHT, conversations),
            *(play_all(classes_of(name), conversations) for name in names),
        )
        for one, two in zip(straight, straight_again, strict=True):
            self.assertEqual(one, two, area)
        return [name for name, played in zip(names, mutated, strict=True) if played == straight]

    async def find_all_hidden(self):
        # It takes a room that is flooded, so it has a test of its own.
        rules = SERVER_MUTANTS.rule_by_name()
        del rules["slow-reader-holds-all"]
        return await asyncio.gather(
            *(
                self.find_hidden(
                    area, [name for name in rules if f"-{area}-" in rules[name]], conversations
                )
                for area, conversations in CONVERSATIONS.items()
            )
        )

    def test_each(self):
        self.assertEqual(sum(asyncio.run(self.find_all_hidden()), []), [])

    def test_slow_reader(self):
        names = ["slow-reader-holds-all"]
        self.assertEqual(asyncio.run(self.find_hidden("LIM", names, [(slow_readers, SLOW)])), [])


# What a server sends to the client, by the rule whose mutants it shows.
FROM_SERVER = {
    "CHAT-FRAME-9": [encode(pb.ServerEnvelope(chat=pb.Chat(text="cut", sender="bob")))[:-1]],
    "CHAT-FRAME-11": [frame(b"\x0a\x04\x0a\x02\xff\xfe"), frame(b"\x0e")],
    "CHAT-CLOSE-4": [encode(pb.ServerEnvelope(server_closing=pb.ServerClosing()))],
    "CHAT-ERR-7": [encode(pb.ServerEnvelope(error=pb.Error(code=16, ends_session=True)))],
    "CHAT-GROW-2": [EMPTY + UNKNOWN],
    "CHAT-GROW-3": [frame(b"\x0a\x0b\x0a\x02hi\x12\x01b\xfa\x3f\x01x")],
    "CHAT-GROW-5": [
        encode(pb.ServerEnvelope(error=pb.Error(code=99))),
        encode(pb.ServerEnvelope(error=pb.Error(code=99, ends_session=True))),
    ],
    "CHAT-GROW-8": [encode(pb.ServerEnvelope(left=pb.Left(name="bob", reason=99)))],
    "CHAT-KEEP-2": [encode(pb.ServerEnvelope(ping=pb.Ping(token=5)))],
}


async def play_client(mutant, data, cut):
    """All that a client sends, at which step, and prints, and how it ends. The
    stream to it may be cut after the data."""
    seen = [b""]
    served = asyncio.Event()

    async def serve(reader, writer):
        async def collect():
            with contextlib.suppress(OSError):
                while received := await reader.read(1000):
                    seen[-1] += received
            seen[-1] += b"(the end)"

        collecting = asyncio.create_task(collect())
        registered = pb.Registered(name="Alice", epoch="e", capabilities=pb.Capability.values()[1:])
        registered.limits.text_bytes_max = 100
        for step in (b"", encode(pb.ServerEnvelope(registered=registered)), data):
            writer.write(step)
            await asyncio.sleep(0.7)
            seen.append(b"")
        if cut:
            writer.write_eof()
        client.stdin.write(b"more\n")
        client.stdin.close()
        for id in (1, 2):
            # The client awaits an answer to what it said before it leaves.
            await asyncio.sleep(0.3)
            if not cut:
                writer.write(encode(pb.ServerEnvelope(receipt=pb.Receipt(id=id, seq=id))))
        await asyncio.sleep(0.3)
        writer.close()
        await collecting
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    arguments = [str(HERE / "client.py"), f"127.0.0.1:{port}", "Alice"]
    if mutant:
        arguments += ["--mutant", mutant]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
    client = await asyncio.create_subprocess_exec(sys.executable, *arguments, **pipes)
    client.stdin.write(b"typed\n")
    said = await asyncio.wait_for(client.stdout.read(), 30)
    ended = (said, await client.wait())
    await asyncio.wait_for(served.wait(), 30)
    server.close()
    seen.append(ended)
    return seen


class EachClientMutantShows(unittest.TestCase):
    async def find_hidden(self, rule, names):
        """Those that behave like the straight client."""
        hidden = set(names)
        cut = rule == "CHAT-FRAME-9"
        for data in FROM_SERVER.get(rule, [b""]):
            straight, *mutated = await asyncio.gather(
                *(play_client(name, data, cut) for name in (None, *names))
            )
            hidden -= {n for n, seen in zip(names, mutated, strict=True) if seen != straight}
        return sorted(hidden)

    async def find_all_hidden(self):
        rules = CLIENT_MUTANTS.rule_by_name()
        return await asyncio.gather(
            *(
                self.find_hidden(rule, [name for name in rules if rules[name] == rule])
                for rule in set(rules.values())
            )
        )

    def test_each(self):
        self.assertEqual(sum(asyncio.run(self.find_all_hidden()), []), [])


if __name__ == "__main__":
    unittest.main()
