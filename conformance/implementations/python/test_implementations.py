"""Tests of the Python implementations: python -m unittest (in this directory).

The server and the clients run as processes of their own, against one another and
against bytes written here by hand. Ports are the system's choice, and every wait
has a deadline. Frames are read with protobuf's own function, so that a mistake in
framing.py cannot hide itself.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from google.protobuf.message import DecodeError
from google.protobuf.proto import parse_length_prefixed

from framing import encode, encode_length
from generate import PROTO
from mutants import (
    NO_MUTANT,
    proxy_tired,  # noqa: F401 (registers its mutants)
)
from mutants.client import CLIENT_MUTANTS
from mutants.proxy import PROXY_MUTANTS
from mutants.server import SERVER_MUTANTS
from resume import Line, Outage
from schema import chat_pb2 as pb

HERE = Path(__file__).resolve().parent
WAIT_SECONDS = 10
# The limits of capabilities that the server does not have.
# The limits up to errors_max are of the heart; each later one is of a capability.
NOT_GRANTED = {
    field.name
    for field in pb.Limits.DESCRIPTOR.fields
    if field.number > pb.Limits.ERRORS_MAX_FIELD_NUMBER
}
ALL = [pb.CAPABILITY_PRESENCE, pb.CAPABILITY_RECEIPTS, pb.CAPABILITY_KEEPALIVE]


def start(program, *arguments):
    return subprocess.Popen(
        [sys.executable, str(HERE / program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Peer:
    """A scripted client, correct or not."""

    def __init__(self, address, receive_buffer_bytes=None):
        host, port = address.removeprefix("chat://").split(":")
        self.socket = socket.socket()
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(WAIT_SECONDS)
        self.socket.connect((host, int(port)))
        self.stream = self.socket.makefile("rb")

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, **message):
        self.send_bytes(encode(pb.ClientEnvelope(**message)))

    def chat(self, text, id=0):
        self.send(chat=pb.Chat(text=text, id=id))

    def receive(self, message):
        """The next message, which must be of this kind."""
        envelope = parse_length_prefixed(pb.ServerEnvelope, self.stream)
        if envelope is None or envelope.WhichOneof("message") != message:
            raise AssertionError(f"expected {message}, received {envelope or 'the end'}")
        return getattr(envelope, message)

    def refused(self, code, ends=True):
        error = self.receive("error")
        if (error.code, error.ends_session) != (code, ends) or not error.detail:
            raise AssertionError(f"expected {pb.ErrorCode.Name(code)}, received {error}")
        if ends:
            self.end()
        return error

    def end(self):
        rest = self.stream.read()
        if rest:
            raise AssertionError(f"expected the end, received {rest}")

    def register(self, name, capabilities=()):
        self.send(register=pb.Register(name=name, capabilities=capabilities))
        return self.receive("registered")

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.stream.close()
        self.socket.close()


class WithServer(unittest.TestCase):
    options = ()

    def setUp(self):
        self.server = start("server.py", *self.options)
        self.addCleanup(self.stop)
        line = self.server.stdout.readline()
        self.assertRegex(line, r"^listening on chat://127\.0\.0\.1:\d+\n$")
        self.address = line.split()[-1]

    def stop(self):
        """Whatever happened in the test: the server must exit with 0 and must not have
        logged an exception."""
        self.server.send_signal(signal.SIGTERM)
        _, log = self.server.communicate(timeout=WAIT_SECONDS)
        self.assertEqual(self.server.returncode, 0)
        self.assertNotIn("Traceback", log)

    def connect(self, **options):
        peer = Peer(self.address, **options)
        self.addCleanup(peer.close)
        return peer

    def member(self, name, capabilities=(), **options):
        peer = self.connect(**options)
        peer.register(name, capabilities)
        if pb.CAPABILITY_PRESENCE in capabilities:
            peer.receive("members")
        return peer


class Frames(WithServer):
    def test_the_transport_may_split_bytes_anywhere(self):
        bob = self.member("bob")
        script = b"".join(
            encode(pb.ClientEnvelope(**message))
            for message in (
                {"register": pb.Register(name="Alice")},
                {"chat": pb.Chat(text="x" * 200)},
                {"chat": pb.Chat(text="two")},
                {"leave": pb.Leave()},
            )
        )
        for size in (1, 2, 7, len(script)):
            alice = self.connect()
            for start_ in range(0, len(script), size):
                alice.send_bytes(script[start_ : start_ + size])
            alice.receive("registered")
            alice.end()
            self.assertEqual(bob.receive("chat").text, "x" * 200)
            self.assertEqual(bob.receive("chat").text, "two")

    def test_a_length_is_checked_before_the_body(self):
        for length in (1025, 2**31, 2**63, 2**64 - 1):
            peer = self.connect()
            peer.send_bytes(encode_length(length))
            peer.refused(pb.ERROR_CODE_FRAME_TOO_LONG)
        peer = self.member("Alice")
        peer.send_bytes(encode_length(8193))
        peer.refused(pb.ERROR_CODE_FRAME_TOO_LONG)

    def test_lengths_that_do_not_parse(self):
        for length in (b"\xff" * 10, b"\x80" * 10, b"\xff" * 9 + b"\x02"):
            peer = self.connect()
            peer.send_bytes(length)
            peer.refused(pb.ERROR_CODE_MALFORMED_FRAME)

    def test_longer_lengths_are_accepted(self):
        peer = self.connect()
        body = pb.ClientEnvelope(register=pb.Register(name="Alice")).SerializeToString()
        peer.send_bytes(bytes([len(body) + 128]) + b"\x80" * 8 + b"\x00" + body)
        peer.receive("registered")

    def test_bodies_that_do_not_parse(self):
        for body in (
            b"\x0a\x04\x0a\x02\xff\xfe",  # not UTF-8
            b"\x0a\x05\x0a\x03\xed\xa0\x80",  # half a surrogate pair
            b"\x0a\x05\x0a",  # ends too early
            b"\x0e",  # wire type 6
            b"\x0f",  # wire type 7
            b"\x00\x01",  # field 0
            b"\xfb\x01",  # a group without an end
            b"\xfc\x01",  # an end without a group
            b"\xfb\x01" * 200 + b"\xfc\x01" * 200,  # too deep
        ):
            for registered in (False, True):
                peer = self.member("Alice") if registered else self.connect()
                peer.send_bytes(encode_length(len(body)) + body)
                peer.refused(pb.ERROR_CODE_MALFORMED_FRAME)

    def test_unknown_messages_and_fields(self):
        for body in (
            b"",  # an empty envelope
            b"\xf8\x01\x05",  # an arm that does not exist
            b"\xfb\x01\xfc\x01",  # a group
            b"\x08\x05",  # an arm with another wire type
        ):
            peer = self.member("Alice")
            peer.send_bytes(encode_length(len(body)) + body)
            peer.refused(pb.ERROR_CODE_UNKNOWN_MESSAGE, ends=False)
            peer.send(leave=pb.Leave())
            peer.end()
            first = self.connect()
            first.send_bytes(encode_length(len(body)) + body)
            first.refused(pb.ERROR_CODE_NOT_REGISTERED)
        bob = self.member("bob")
        alice = self.member("Alice")
        body = b"\x0a\x09\x0a\x02hi\xf8\x3f\x01\x28\x07" + b"\xfa\x3f\x01x"
        alice.send_bytes(encode_length(len(body)) + body)
        self.assertEqual(bob.receive("chat").text, "hi")

    def test_a_stream_that_ends_inside_a_frame(self):
        bob = self.member("bob", [pb.CAPABILITY_PRESENCE])
        for cut in (b"\x80", b"\x09", b"\x09\x0a\x04\x0a\x02hi"):
            alice = self.member("Alice")
            bob.receive("joined")
            alice.send_bytes(cut)
            alice.half_close()
            alice.refused(pb.ERROR_CODE_MALFORMED_FRAME)
            self.assertEqual(bob.receive("left").reason, pb.LEFT_REASON_CONNECTION_LOST)

    def test_an_error_survives_unread_input(self):
        """A connection closed with bytes unread would be reset, and the error
        lost with it."""
        for _ in range(5):
            peer = self.connect()
            peer.chat("too early")
            peer.send_bytes(b"\x00" * 500_000)
            peer.refused(pb.ERROR_CODE_NOT_REGISTERED)

    def test_noise(self):
        for seed in range(50):
            peer = self.connect()
            noise = bytes((seed * 31 + i * i * 7 + i // 3) % 256 for i in range(300))
            peer.send_bytes(noise)
            peer.half_close()
            peer.receive("error")
            peer.end()


class Registering(WithServer):
    options = ("--register-deadline-ms", "300", "--connections-max", "3")

    def test_names(self):
        holder = self.member("Alice")
        for name, code in (
            ("", pb.ERROR_CODE_NAME_INVALID),
            ("a" * 33, pb.ERROR_CODE_NAME_INVALID),
            (".a", pb.ERROR_CODE_NAME_INVALID),
            ("a b", pb.ERROR_CODE_NAME_INVALID),
            ("a\n", pb.ERROR_CODE_NAME_INVALID),
            ("Zoë", pb.ERROR_CODE_NAME_INVALID),
            ("ALL", pb.ERROR_CODE_NAME_RESERVED),
            ("Server", pb.ERROR_CODE_NAME_RESERVED),
            ("aLICE", pb.ERROR_CODE_NAME_IN_USE),
        ):
            peer = self.connect()
            peer.send(register=pb.Register(name=name))
            peer.refused(code)
        for name in ("a" * 32, "0", "A._-9"):
            peer = self.connect()
            self.assertEqual(peer.register(name).name, name)
            peer.chat(name)
            self.assertEqual(holder.receive("chat").sender, name)
            peer.send(leave=pb.Leave())
            peer.end()
            self.member(name).close()

    def test_registered(self):
        peer = self.connect()
        registered = peer.register("Alice", [99, *ALL, *ALL])
        self.assertEqual(sorted(registered.capabilities), ALL)
        self.assertEqual(registered.seq, 0)
        self.assertEqual(registered.limits.name_bytes_max, 32)
        for field in pb.Limits.DESCRIPTOR.fields:
            if field.name not in NOT_GRANTED:
                self.assertGreater(getattr(registered.limits, field.name), 0)
        self.assertEqual(list(peer.receive("members").names), ["Alice"])
        peer.send(register=pb.Register(name="Other"))
        peer.refused(pb.ERROR_CODE_ALREADY_REGISTERED, ends=False)
        plain = self.connect().register("bob")
        self.assertEqual(list(plain.capabilities), [])
        self.assertEqual(plain.epoch, registered.epoch)

    def test_the_deadline(self):
        peer = self.connect()
        peer.send_bytes(b"\x09\x0a")
        peer.refused(pb.ERROR_CODE_REGISTER_TIMEOUT)

    def test_the_server_is_full(self):
        peers = [self.member(name) for name in ("a", "b", "c")]
        self.connect().refused(pb.ERROR_CODE_SERVER_FULL)
        peers[0].send(leave=pb.Leave())
        peers[0].end()
        self.member("d")


class Admission(WithServer):
    SECRET = "open sesame é"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.password = Path(folder.name, "password")
        self.password.write_text(f"{self.SECRET}\n")
        names = Path(folder.name, "names")
        names.write_text("# who may come\nAlice\n\nbob # at the back\n")
        self.options = ("--password-file", str(self.password), "--allow", str(names))
        super().setUp()

    def test_password_and_list(self):
        for name, password, code in (
            ("Alice", "", pb.ERROR_CODE_PASSWORD_WRONG),
            ("not a name", "wrong", pb.ERROR_CODE_PASSWORD_WRONG),
            ("carol", f"{self.SECRET}\n", pb.ERROR_CODE_PASSWORD_WRONG),
            ("server", self.SECRET, pb.ERROR_CODE_NAME_RESERVED),
            ("carol", self.SECRET, pb.ERROR_CODE_NAME_NOT_ALLOWED),
            ("aLICE", self.SECRET, None),
            ("BOB", self.SECRET, None),
        ):
            peer = self.connect()
            peer.send(register=pb.Register(name=name, password=password))
            if code is None:
                self.assertEqual(peer.receive("registered").name, name)
            else:
                self.assertNotIn(self.SECRET, peer.refused(code).detail)

    def test_a_client_has_a_password(self):
        client = start("client.py", self.address, "bob")
        said, log = client.communicate(timeout=WAIT_SECONDS)
        self.assertEqual((client.returncode, said), (1, ""))
        self.assertIn("has a password", log)
        client = start("client.py", self.address, "bob", "--password-file", str(self.password))
        _, log = client.communicate("hello\n", timeout=WAIT_SECONDS)
        self.assertEqual(client.returncode, 0, log)
        self.assertNotIn("sesame", log)

    def test_unusable_files_are_refused(self):
        self.password.write_text("two\nlines\n")
        for program, *arguments in (
            ("server.py", "--password-file", str(self.password)),
            ("server.py", "--password-file", str(self.password) + "-missing"),
            ("server.py", "--allow", os.devnull),
            ("client.py", "127.0.0.1:1", "bob", "--password-file", os.devnull),
        ):
            peer = start(program, *arguments)
            said, _ = peer.communicate(timeout=WAIT_SECONDS)
            self.assertEqual((peer.returncode, said), (2, ""), arguments)


class Chatting(WithServer):
    options = ("--chat-burst", "3", "--chat-interval-ms", "100", "--text-bytes-max", "64")

    def test_chat_presence_and_receipts(self):
        bob = self.member("bob", ALL)
        alice = self.member("Alice", ALL)
        self.assertEqual(bob.receive("joined").name, "Alice")
        alice.send(chat=pb.Chat(text="hi ü", sender="x", seq=9, time_unix_ms=1, id=7))
        heard, receipt = bob.receive("chat"), alice.receive("receipt")
        self.assertEqual((heard.text, heard.sender, heard.seq, heard.id), ("hi ü", "Alice", 1, 0))
        self.assertEqual((receipt.id, receipt.seq), (7, 1))
        self.assertEqual(receipt.time_unix_ms, heard.time_unix_ms)
        alice.send(ping=pb.Ping(token=2**64 - 1))
        self.assertEqual(alice.receive("pong").token, 2**64 - 1)
        alice.close()
        self.assertEqual(bob.receive("left").reason, pb.LEFT_REASON_CONNECTION_LOST)

    def test_texts(self):
        bob = self.member("bob")
        alice = self.member("Alice", [pb.CAPABILITY_RECEIPTS])
        for text in ("", "a\nb", "\t", "\x7f", "\x9f", "\u2028", "\u2029", "\x00"):
            alice.chat(text, id=5)
            error = alice.refused(pb.ERROR_CODE_TEXT_INVALID, ends=False)
            self.assertEqual(error.id, 5)
        alice.chat("ü" * 32 + "x", id=6)
        self.assertEqual(alice.refused(pb.ERROR_CODE_TEXT_TOO_LONG, ends=False).id, 6)
        for text in ("ü" * 32, " ", "\u202e\u200d😀"):
            alice.chat(text)
            alice.receive("receipt")
            self.assertEqual(bob.receive("chat").text, text)

    def test_the_rate(self):
        bob = self.member("bob")
        alice = self.member("Alice", [pb.CAPABILITY_RECEIPTS])
        for number in range(1, 5):
            alice.chat(str(number), id=number)
        for number in range(1, 4):
            self.assertEqual(alice.receive("receipt").seq, number)
        error = alice.refused(pb.ERROR_CODE_RATE_LIMITED, ends=False)
        self.assertEqual(error.id, 4)
        self.assertTrue(1 <= error.retry_after_ms <= 100)
        threading.Event().wait(error.retry_after_ms / 1000)
        alice.chat("again")
        self.assertEqual(alice.receive("receipt").seq, 4)
        self.assertEqual([bob.receive("chat").seq for _ in range(4)], [1, 2, 3, 4])

    def test_ungranted_messages(self):
        alice = self.member("Alice")
        alice.send(ping=pb.Ping())
        alice.refused(pb.ERROR_CODE_NOT_GRANTED, ends=False)
        alice.send(pong=pb.Pong())
        alice.refused(pb.ERROR_CODE_NOT_GRANTED, ends=False)
        alice.send(leave=pb.Leave())
        alice.end()

    def test_half_closed_is_like_leave(self):
        alice = self.member("Alice", [pb.CAPABILITY_RECEIPTS])
        alice.chat("last words")
        alice.half_close()
        alice.receive("receipt")
        alice.end()
        self.member("alice")

    def test_many_members_are_named(self):
        for number in range(40):
            self.member(f"{number:02}" + "x" * 30)
        peer = self.connect()
        peer.register("Alice", [pb.CAPABILITY_PRESENCE])
        names, more = [], True
        while more:
            members = peer.receive("members")
            names += members.names
            more = members.more
        self.assertEqual(len(set(names)), 41)
        self.assertEqual(len(names), 41)


class ManyMembers(Chatting):
    """The same where Members needs several messages."""

    options = (*Chatting.options, "--frame-bytes-max", "320")


class Silence(WithServer):
    options = ("--keepalive-interval-ms", "150", "--idle-deadline-ms", "400")

    def test_silence(self):
        plain = self.member("plain")
        bob = self.member("bob", [pb.CAPABILITY_PRESENCE])
        alice = self.member("Alice", [pb.CAPABILITY_KEEPALIVE])
        bob.receive("joined")
        for _ in range(4):
            ping = alice.receive("ping")
            alice.send(pong=pb.Pong(token=ping.token))
        alice.receive("ping")
        alice.receive("ping")
        alice.refused(pb.ERROR_CODE_IDLE_TIMEOUT)
        self.assertEqual(bob.receive("left").reason, pb.LEFT_REASON_IDLE_TIMEOUT)
        plain.chat("still here")
        bob.receive("chat")


class SlowReaders(WithServer):
    options = ("--chat-interval-ms", "0", "--lag-bytes-max", "200000", "--write-deadline-ms", "700")

    def test_a_slow_reader_does_not_stop_others(self):
        bob = self.member("bob", [pb.CAPABILITY_PRESENCE])
        slow = self.member("slow", receive_buffer_bytes=4096)
        bob.receive("joined")
        alice = self.member("Alice")
        bob.receive("joined")
        count = 3000
        text = "x" * 4000
        sender = threading.Thread(target=lambda: [alice.chat(text) for _ in range(count)])
        sender.start()
        self.addCleanup(sender.join)
        seqs, left = [], None
        while len(seqs) < count or left is None:
            envelope = parse_length_prefixed(pb.ServerEnvelope, bob.stream)
            if envelope.WhichOneof("message") == "left":
                left = envelope.left
            else:
                seqs.append(envelope.chat.seq)
        self.assertEqual(seqs, list(range(1, count + 1)))
        self.assertEqual((left.name, left.reason), ("slow", pb.LEFT_REASON_SLOW_CONSUMER))
        # The frames that the slow member received have no gap. They end with an error,
        # with a truncated frame or with a reset.
        seqs = []
        with contextlib.suppress(OSError, ValueError, DecodeError):
            while envelope := parse_length_prefixed(pb.ServerEnvelope, slow.stream):
                if envelope.WhichOneof("message") == "error":
                    self.assertEqual(envelope.error.code, pb.ERROR_CODE_SLOW_CONSUMER)
                else:
                    seqs.append(envelope.chat.seq)
        self.assertEqual(seqs, list(range(1, len(seqs) + 1)))

    def test_unread_replies_pause_reading(self):
        bob = self.member("bob", [pb.CAPABILITY_PRESENCE])
        greedy = self.member("greedy", [pb.CAPABILITY_KEEPALIVE], receive_buffer_bytes=4096)
        bob.receive("joined")
        pings = encode(pb.ClientEnvelope(ping=pb.Ping(token=2**63))) * 10_000

        def send_for_ever():
            with contextlib.suppress(OSError):
                while True:
                    greedy.send_bytes(pings)

        sender = threading.Thread(target=send_for_ever)
        sender.start()
        self.addCleanup(sender.join)
        self.assertEqual(bob.receive("left").reason, pb.LEFT_REASON_SLOW_CONSUMER)


class ShuttingDown(WithServer):
    def test_all_clients_are_told(self):
        stubborn = [self.connect(), self.member("a"), self.member("b", ALL)]
        stubborn[1].chat("last words")
        self.member("c").send(leave=pb.Leave())
        self.server.send_signal(signal.SIGTERM)
        stubborn[0].receive("server_closing")
        stubborn[0].end()
        stubborn[1].receive("server_closing")
        stubborn[1].end()
        messages = []
        while envelope := parse_length_prefixed(pb.ServerEnvelope, stubborn[2].stream):
            messages.append(envelope.WhichOneof("message"))
        self.assertEqual(messages[-1], "server_closing")
        # None of them closes its side; the server exits all the same.
        self.assertEqual(self.server.wait(timeout=5), 0)

    def test_an_empty_server(self):
        self.server.send_signal(signal.SIGINT)
        self.assertEqual(self.server.wait(timeout=5), 0)


class Clients(WithServer):
    def test_two_clients_talk(self):
        for program in ("client.py", "smallest_client.py"):
            watcher = self.member("watcher", [pb.CAPABILITY_PRESENCE])
            bob = start(program, self.address, "bob")
            self.assertEqual(watcher.receive("joined").name, "bob")
            alice = start(program, self.address, "Alice")
            _, log = alice.communicate("hello ü\nsecond\n", timeout=WAIT_SECONDS)
            self.assertEqual(alice.returncode, 0, log)
            self.assertEqual(bob.stdout.readline(), "@Alice: hello ü\n")
            self.assertEqual(bob.stdout.readline(), "@Alice: second\n")
            rest, _ = bob.communicate(timeout=WAIT_SECONDS)
            self.assertEqual(rest, "")
            self.assertEqual(bob.returncode, 0)
            watcher.send(leave=pb.Leave())
            while parse_length_prefixed(pb.ServerEnvelope, watcher.stream):
                pass

    def test_a_refused_name(self):
        self.member("Alice")
        client = start("client.py", self.address, "alice")
        said, log = client.communicate(timeout=WAIT_SECONDS)
        self.assertEqual((client.returncode, said), (1, ""))
        self.assertIn("Another member is called alice", log)

    def test_many_lines_in_spite_of_the_rate(self):
        bob = self.member("bob")
        lines = [f"line {number}" for number in range(300)]
        client = start("client.py", self.address, "Alice")
        writer = threading.Thread(target=client.communicate, args=("\n".join(lines),))
        writer.start()
        self.addCleanup(writer.join)
        self.assertEqual(sorted(bob.receive("chat").text for _ in lines), sorted(lines))


class WithClient(unittest.TestCase):
    """client.py against a server written by hand."""

    options = ()

    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.listener.settimeout(WAIT_SECONDS)
        port = self.listener.getsockname()[1]
        self.client = start("client.py", f"127.0.0.1:{port}", "Alice", *self.options)
        self.addCleanup(self.finish)
        register = self.accept()
        self.assertEqual(register.name, "Alice")

    def accept(self):
        self.socket, _ = self.listener.accept()
        self.addCleanup(self.socket.close)
        self.socket.settimeout(WAIT_SECONDS)
        self.stream = self.socket.makefile("rb")
        self.addCleanup(self.stream.close)
        return self.receive("register")

    def finish(self):
        self.client.kill()
        self.client.wait(timeout=WAIT_SECONDS)
        for pipe in (self.client.stdin, self.client.stdout, self.client.stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def receive(self, message):
        envelope = parse_length_prefixed(pb.ClientEnvelope, self.stream)
        self.assertIsNotNone(envelope, f"expected {message}, received the end")
        self.assertEqual(envelope.WhichOneof("message"), message)
        return getattr(envelope, message)

    def send(self, **message):
        self.socket.sendall(encode(pb.ServerEnvelope(**message)))

    def register(self, capabilities=()):
        limits = pb.Limits(text_bytes_max=64, frame_bytes_max=320)
        self.send(
            registered=pb.Registered(
                name="Alice", epoch="e", capabilities=capabilities, limits=limits
            )
        )

    def type(self, line):
        self.client.stdin.write(line)
        self.client.stdin.flush()

    def ended(self, code):
        """The client closes and ends, although nothing ends its stdin."""
        self.assertEqual(self.stream.read(), b"")
        self.client.wait(timeout=WAIT_SECONDS)
        said, log = self.client.stdout.read(), self.client.stderr.read()
        self.assertEqual(self.client.returncode, code, log)
        self.assertNotIn("Traceback", log)
        return said, log

    def still_there(self):
        self.type("still here\n")
        self.assertEqual(self.receive("chat").text, "still here")


class ClientAlone(WithClient):
    def test_nothing_is_sent_before_registered(self):
        self.type("early\n")
        self.socket.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            self.socket.recv(1)
        self.socket.settimeout(WAIT_SECONDS)
        self.stream = self.socket.makefile("rb")
        self.register()
        self.assertEqual(self.receive("chat").text, "early")

    def test_unknown_fields_codes_and_reasons(self):
        self.register(ALL)
        chat = pb.Chat(text="hi", sender="bob", seq=1).SerializeToString() + b"\xf8\x3f\x05"
        body = b"\x0a" + encode_length(len(chat)) + chat + b"\xf8\x3f\x05"
        self.socket.sendall(b"\x00\x03\xf8\x3f\x05" + encode_length(len(body)) + body)
        self.assertEqual(self.client.stdout.readline(), "@bob: hi\n")
        self.send(left=pb.Left(name="bob", reason=99))
        self.send(error=pb.Error(code=99, detail="later"))
        self.still_there()
        self.send(error=pb.Error(code=99, detail="over", ends_session=True))
        _, log = self.ended(1)
        self.assertIn("over", log)

    def test_ping(self):
        self.register(ALL)
        self.send(ping=pb.Ping(token=77))
        self.assertEqual(self.receive("pong").token, 77)

    def test_closing(self):
        self.register()
        self.send(server_closing=pb.ServerClosing(detail="bye"))
        self.ended(0)

    def test_bytes_that_are_no_frame(self):
        self.register()
        self.socket.sendall(b"\xff" * 11)
        self.ended(1)

    def test_a_body_that_does_not_parse(self):
        self.register()
        self.socket.sendall(b"\x06\x0a\x04\x0a\x02\xff\xfe")
        self.ended(1)

    def test_the_end_inside_a_frame(self):
        self.register()
        self.socket.sendall(b"\x09\x0a\x07\x0a\x02hi")
        self.socket.shutdown(socket.SHUT_WR)
        said, _ = self.ended(1)
        self.assertEqual(said, "")

    def test_receipts_are_awaited_before_leave(self):
        self.register(ALL)
        self.type("one\ntwo\n")
        self.client.stdin.close()
        first, second = self.receive("chat"), self.receive("chat")
        self.send(receipt=pb.Receipt(id=first.id, seq=1))
        self.send(error=pb.Error(code=pb.ERROR_CODE_RATE_LIMITED, id=second.id, retry_after_ms=50))
        again = self.receive("chat")
        self.assertEqual(again.text, "two")
        self.send(receipt=pb.Receipt(id=again.id, seq=2))
        self.receive("leave")
        self.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(self.stream.read(), b"")
        self.assertEqual(self.client.wait(timeout=WAIT_SECONDS), 0)



class ClientThatReconnects(WithClient):
    """client.py --reconnect against a server written by hand."""

    options = ("--reconnect",)

    def registered(self, token, **fields):
        limits = pb.Limits(text_bytes_max=64, frame_bytes_max=320, resend_ids_max=4)
        granted = [pb.CAPABILITY_RECEIPTS, pb.CAPABILITY_RESUME]
        self.send(
            registered=pb.Registered(
                name="Alice", capabilities=granted, limits=limits, resume_token=token, **fields
            )
        )

    def cut(self):
        self.stream.close()
        self.socket.close()

    def say(self, seq, sender, text):
        self.send(chat=pb.Chat(seq=seq, sender=sender, text=text, time_unix_ms=1))

    def test_nothing_is_lost_or_doubled(self):
        self.registered(b"one", epoch="e", seq=10)
        self.type("a\nb\nc\n")
        # Two at a time: half of what the server remembers (CHAT-RES-15).
        self.assertEqual([self.receive("chat").id for _ in range(2)], [1, 2])
        self.say(11, "Bob", "first")
        self.assertEqual(self.client.stdout.readline(), "@Bob: first\n")
        self.send(receipt=pb.Receipt(id=1, seq=13))
        self.assertEqual(self.receive("chat").id, 3)
        self.cut()
        resume = self.accept().resume
        expected = pb.Resume(token=b"one", epoch="e", seq=11, attempt=1)
        self.assertEqual(resume, expected)
        self.cut()
        # Its Registered was lost.
        self.assertEqual(self.accept().resume.attempt, 2)
        self.registered(b"two", epoch="e", seq=16, resumed_from=12)
        for seq, sender, text in ((12, "Bob", "x"), (13, "Alice", "a"), (14, "Alice", "b")):
            self.say(seq, sender, text)
        self.say(15, "Alice", "c")
        self.say(16, "Alice", "d")
        again = [self.receive("chat") for _ in range(2)]
        self.assertEqual([(chat.id, chat.text) for chat in again], [(2, "b"), (3, "c")])
        self.send(receipt=pb.Receipt(id=2, seq=14))
        # Somebody else with the name had said c.
        self.send(receipt=pb.Receipt(id=3, seq=17))
        self.say(18, "Bob", "last")
        self.send(server_closing=pb.ServerClosing(detail="later"))
        self.cut()
        resume = self.accept().resume
        self.assertEqual(resume, pb.Resume(token=b"two", epoch="e", seq=18, attempt=3))
        self.registered(b"three", epoch="f", seq=2)
        self.say(3, "Bob", "anew")
        shown = [self.client.stdout.readline().strip() for _ in range(5)]
        self.assertEqual(shown, ["@Bob: x", "@Alice: d", "@Alice: c", "@Bob: last", "@Bob: anew"])
        self.client.stdin.close()
        self.receive("leave")

    def test_a_new_session_sends_nothing_again(self):
        self.registered(b"one", epoch="e", seq=10)
        self.type("a\n")
        self.receive("chat")
        self.cut()
        self.assertEqual(self.accept().resume.token, b"one")
        self.registered(b"two", epoch="f")
        self.type("b\n")
        self.assertEqual(self.receive("chat").text, "b")
        self.cut()

    def test_only_the_user_can_change_that(self):
        self.registered(b"one", epoch="e")
        self.send(error=pb.Error(code=pb.ERROR_CODE_REPLACED, ends_session=True))
        self.assertEqual(self.client.wait(timeout=WAIT_SECONDS), 1)


class Outages(unittest.TestCase):
    def test_waits_double_and_end(self):
        outage = Outage()
        longest = 1.0
        for _ in range(30):
            wait = outage.next_wait(0)
            self.assertTrue(longest / 2 <= wait <= longest, wait)
            longest = min(2 * longest, 60)
        outage.session_ended(9)
        self.assertGreater(outage.next_wait(0), 1)
        outage.session_ended(10)
        self.assertLessEqual(outage.next_wait(0), 1)
        self.assertIsNotNone(outage.next_wait(179, pb.ERROR_CODE_NAME_IN_USE))
        self.assertIsNone(outage.next_wait(180, pb.ERROR_CODE_NAME_IN_USE))
        self.assertIsNone(outage.next_wait(0, 12345))
        self.assertIsNone(outage.next_wait(3600))

    def test_what_is_missed_is_counted(self):
        line = Line(pb.Registered(name="Alice", epoch="e", seq=10, resume_token=b"one"))
        line.receipt(1, 13)
        self.assertEqual(line.resume().seq, 10)
        back = pb.Registered(epoch="e", seq=20, resumed_from=16, resume_token=b"two")
        # 13 it has.
        self.assertEqual(line.registered(back, {}), (4, []))
        self.assertEqual(line.resume().seq, 15)


class Generating(unittest.TestCase):
    def test_first_runs_race(self):
        """Several first runs at once, in a copy that nothing was generated in."""
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory) / "conformance" / "implementations" / "python"
            copy.mkdir(parents=True)
            (Path(directory) / "proto").mkdir()
            (Path(directory) / "proto" / "chat.proto").write_bytes(PROTO.read_bytes())
            for name in ("generate.py", "schema.py"):
                (copy / name).write_bytes((HERE / name).read_bytes())
            program = "from schema import chat_pb2; print(chat_pb2.Chat(text='x').text)"
            runs = [
                subprocess.Popen([sys.executable, "-c", program], cwd=copy, stdout=subprocess.PIPE)
                for _ in range(6)
            ]
            for run in runs:
                self.assertEqual(run.communicate(timeout=60)[0], b"x\n")
            kept = [path.name for path in (copy / ".generated").iterdir()]
            self.assertEqual(len(kept), 1)

    def test_generate(self):
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([sys.executable, HERE / "generate.py", directory], check=True)
            self.assertIn("chat_pb2.py", os.listdir(directory))


class RulesAndMutants(unittest.TestCase):
    """Each MUST has a mutant or a reason; each mutant has a rule."""

    def setUp(self):
        comments = "\n".join(
            line.removeprefix("//").strip()
            for line in PROTO.read_text().splitlines()
            if line.startswith("//")
        )
        comments += "\n\n"
        # A rule begins with its id and a colon and ends at the next rule or at
        # an empty comment line.
        self.rules = dict(
            re.findall(r"^(CHAT-[A-Z]+-\d+): (.*?)(?=^CHAT-[A-Z]+-\d+:|^$)", comments, re.M | re.S)
        )
        self.assertGreater(len(self.rules), 80)

    def musts(self, *ends):
        return {
            rule
            for rule, text in self.rules.items()
            if re.match(rf"A ({'|'.join(ends)}) (?!or)", text) and "MUST" in text
        }

    def check(self, mutated, *ends):
        without = self.musts(*ends) - mutated - NO_MUTANT.keys()
        self.assertEqual(without, set(), "these have neither a mutant nor a reason")
        unknown = mutated - self.rules.keys()
        self.assertEqual(unknown, set(), "these are cited but not in the schema")

    def test_server(self):
        mutated = SERVER_MUTANTS.rules() | PROXY_MUTANTS.rules()
        self.check(mutated, "server", "server or a client")

    def test_client(self):
        self.check(CLIENT_MUTANTS.rules(), "client", "server or a client")

    def test_reasons(self):
        mutated = SERVER_MUTANTS.rules() | PROXY_MUTANTS.rules() | CLIENT_MUTANTS.rules()
        self.assertEqual(NO_MUTANT.keys() - self.rules.keys(), set())
        self.assertEqual(NO_MUTANT.keys() & mutated, set(), "these have a mutant after all")

    def test_every_rule_names_its_subject(self):
        for rule, text in self.rules.items():
            self.assertRegex(text, r"\AA (server|client) ", rule)

    def test_lists(self):
        for program in ("server.py", "proxy.py", "client.py"):
            output = subprocess.run(
                [sys.executable, HERE / program, "--list-mutants"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            lines = output.splitlines()
            self.assertEqual(lines, sorted(lines))
            for line in lines:
                self.assertRegex(line, r"^[a-z0-9-]+\tCHAT-[A-Z]+-\d+\t[^\t]+$")


if __name__ == "__main__":
    unittest.main()
