"""A whole chat client for the terminal or a pipe.

    python client.py chat://127.0.0.1:7000 Alice

With --reconnect it connects again when the connection is lost or the server restarts,
and where the server resumes, no line is lost or comes twice (resume.py).

Chats go to stdout as `@name: text`, what is said to this client alone as
`@name (direct): text`, everything else to stderr. Each line of stdin is sent as a chat,
and `/msg NAME TEXT` as TEXT to NAME alone. The exit code is 0 after the end of stdin or a shutdown of the
server, 1 after a fatal error or a lost connection.

One loop waits for the socket and stdin together, so nothing here needs a lock.
"""

import argparse
import os
import select
import socket
import sys
import time
from collections import deque

from admission import read_password
from framing import FrameReader, Refused, encode, parse
from keys import read_key
from resume import Line, Outage
from schema import chat_pb2 as pb

READ_BYTES_MAX = 64 * 1024
# The client stops reading stdin while this many bytes wait to be sent.
UNSENT_BYTES_MAX = 64 * 1024
# How many chats may be without an answer, if the server sends receipts.
UNANSWERED_MAX = 64
# How long the server may take to answer Register, to answer the last chats, and
# to close after Leave.
REGISTER_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 10.0
LEAVE_SECONDS_MAX = 5.0
# A line that begins with this is for one member alone.
DIRECT = "/msg "
# The client stops reading from the server while this many bytes wait to be sent.
UNSENT_BYTES_STOP = 1024 * 1024
# The client treats a longer frame as malformed, whatever the server announces.
FRAME_BYTES_MAX = 16 * 1024 * 1024

# A server refuses texts with these characters (CHAT-CHAT-6). If one arrives anyway,
# the client makes it visible instead of sending it to the terminal.
CONTROLS = {code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)]}


class Client:
    # What it proves to be itself with, if anything (CHAT-ID).
    key = None

    # What it asks for, beside resume where it may come back.
    CAPABILITIES = (
        pb.CAPABILITY_PRESENCE,
        pb.CAPABILITY_RECEIPTS,
        pb.CAPABILITY_KEEPALIVE,
        pb.CAPABILITY_DIRECT,
    )

    def __init__(self, sock, name, stdin, password="", address=None):
        # None between two connections.
        self.socket = sock
        # Where to connect again; None to end with the connection.
        self.address = address
        self.stdin = stdin
        self.name = name
        self.password = password
        self.frames = FrameReader()
        self.unsent = bytearray()
        self.limits = None
        self.granted = frozenset()
        self.registered = False
        self.left = False
        # Set to end the loop.
        self.exit_code = None
        # Input that is not sent yet: the start of a line, and whole lines.
        self.line_begun = b""
        self.lines = deque()
        # Chats that the server refused with RATE_LIMITED, to be sent again.
        self.lines_again = deque()
        self.stdin_ended = False
        # Chats without an answer yet, by their id.
        self.unanswered = {}
        # The recipients of those that are Directs, until it is known what became of them.
        self.directs = {}
        self.last_id = 0
        # No chat may be sent before this time (Error.retry_after_ms).
        self.wait_until = 0.0
        # The pause between chats after a RATE_LIMITED: sending all refused chats at
        # once would have most of them refused again (CHAT-ERR-8).
        self.pace_seconds = 0.0
        # What continues from one connection to the next, from the first Registered on.
        self.line = None
        self.outage = Outage()
        self.registered_at = 0.0
        self.connect_at = 0.0
        # When the current wait ends at the latest.
        self.give_up_at = time.monotonic() + REGISTER_SECONDS_MAX

    # The loop.

    def run(self):
        while self.exit_code is None:
            if self.socket is None:
                self.connect_again()
                continue
            self.say_lines()
            readable, writable = self.wait()
            if self.socket in writable:
                self.write()
            if self.socket in readable:
                self.read()
            if self.stdin in readable:
                self.read_stdin()
            if self.give_up_at is not None and time.monotonic() > self.give_up_at:
                self.give_up()
        if self.socket is not None:
            self.socket.close()
        return self.exit_code

    def wait(self):
        sources = [self.socket] if len(self.unsent) < UNSENT_BYTES_STOP else []
        if self.wants_lines():
            sources.append(self.stdin)
        sinks = [self.socket] if self.unsent else []
        now = time.monotonic()
        moments = [at for at in (self.give_up_at, self.wait_until) if at is not None and at > now]
        timeout = min(moments) - now if moments else None
        readable, writable, _ = select.select(sources, sinks, [], timeout)
        return readable, writable

    # From one connection to the next.

    def lost(self, exit_code, sentence, code=None, retry_after_ms=0):
        """The connection is of no use any more: end, or connect again later."""
        wait = None
        if self.address is not None and self.line is not None and not self.left:
            now = time.monotonic()
            if self.registered:
                self.outage.session_ended(now - self.registered_at)
            wait = self.outage.next_wait(now, code, retry_after_ms)
        if wait is None or self.is_done():
            self.end(exit_code if wait is None else 0, sentence)
            return
        self.note(f"{sentence} Connecting again in {wait:.1f} s.")
        self.connect_at = time.monotonic() + wait
        if self.socket is not None:
            self.socket.close()
        self.socket = None
        self.registered = False
        self.give_up_at = None
        self.unsent.clear()
        self.frames = FrameReader()

    def is_done(self):
        """Whether there is nothing to come back for."""
        return self.stdin_ended and not (self.lines or self.lines_again or self.unanswered)

    def connect_again(self):
        time.sleep(max(0, self.connect_at - time.monotonic()))
        try:
            self.socket = connect(self.address)
        except OSError as problem:
            self.lost(1, f"Cannot connect: {problem}.")
            return
        self.give_up_at = time.monotonic() + REGISTER_SECONDS_MAX
        self.register()

    def continue_line(self, registered):
        """The client is back. What was not answered is sent again if the line was resumed
        (CHAT-RES-16), under the same ids, and else never (CHAT-RES-17)."""
        chats = {i: text for i, text in self.unanswered.items() if i not in self.directs}
        missed, shown = self.line.registered(registered, chats)
        # The server tells no more of those that it has accepted.
        self.directs = {i: peer for i, peer in self.directs.items() if i in self.unanswered}
        self.show_all(shown)
        if missed is None:
            self.note("The server does not resume the session; what was said meanwhile is missed.")
            for text in self.unanswered.values():
                self.note(f"Perhaps not sent: {text}")
            self.unanswered.clear()
        else:
            self.note(f"Back again; {missed} messages are missed.")
            for chat_id in sorted(self.unanswered):
                self.send_line(chat_id, self.unanswered[chat_id])

    def wants_lines(self):
        """Whether to read stdin: only if its lines can be sent soon, and not before
        Registered (CHAT-REG-10)."""
        return self.registered and not self.stdin_ended and not self.lines

    def end(self, exit_code, sentence=None):
        if sentence:
            self.note(sentence)
        if self.exit_code is None:
            self.exit_code = exit_code

    def give_up(self):
        self.give_up_at = None
        if not self.registered:
            self.lost(1, "The server does not answer.")
        elif self.left:
            self.end(0)
        else:
            # The server did not answer some chats.
            self.leave()

    # To the server.

    def send(self, **message):
        self.unsent += encode(pb.ClientEnvelope(**message))

    def write(self):
        try:
            del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            # The connection is lost for writing, but frames may still be readable; the
            # read side reports the end.
            self.unsent.clear()
            if self.address is None:
                self.left = self.stdin_ended = True

    def register(self):
        """CHAT-REG-1, CHAT-ADM-6"""
        asked = [*self.CAPABILITIES]
        if self.address is not None:
            asked.append(pb.CAPABILITY_RESUME)
        resume = self.line.resume() if self.line else None
        self.send(
            register=pb.Register(
                name=self.name,
                capabilities=asked,
                password=self.password,
                resume=resume,
                key=self.key.public if self.key else b"",
            )
        )

    def leave(self):
        """CHAT-LEAVE-1"""
        self.send(leave=pb.Leave())
        self.left = True
        self.give_up_at = time.monotonic() + LEAVE_SECONDS_MAX

    def say_lines(self):
        """Send typed lines as far as the server can take them now; leave when all
        are sent."""
        if not self.registered or self.left:
            return
        for lines in (self.lines_again, self.lines):
            while lines and self.may_say():
                self.say(lines.popleft())
        if not self.stdin_ended or self.lines_again or self.lines:
            self.give_up_at = None
        elif not self.awaits_answers():
            self.leave()
        elif self.give_up_at is None:
            self.give_up_at = time.monotonic() + ANSWER_SECONDS_MAX

    def answered(self, chat_id):
        """The server answered a chat, so it gets more time for the rest."""
        if not self.left:
            self.give_up_at = None
        return self.unanswered.pop(chat_id, None)

    def may_say(self):
        return (
            len(self.unsent) < UNSENT_BYTES_MAX
            and time.monotonic() >= self.wait_until
            and not (self.gets_receipts() and len(self.unanswered) >= self.unanswered_max())
        )

    def unanswered_max(self):
        """CHAT-RES-15"""
        if pb.CAPABILITY_RESUME in self.granted:
            return min(UNANSWERED_MAX, max(1, self.limits.resend_ids_max // 2))
        return UNANSWERED_MAX

    def gets_receipts(self):
        return pb.CAPABILITY_RECEIPTS in self.granted

    def awaits_answers(self):
        return self.gets_receipts() and len(self.unanswered) > 0

    def say(self, text):
        self.last_id += 1  # CHAT-RES-14: no id comes twice.
        self.unanswered[self.last_id] = text
        if not self.gets_receipts() and len(self.unanswered) > UNANSWERED_MAX:
            # Without receipts the client never learns that a chat was accepted; it
            # keeps the last ones, in case the server refuses one with RATE_LIMITED.
            del self.unanswered[min(self.unanswered)]
        if text.startswith(DIRECT) and pb.CAPABILITY_DIRECT in self.granted:
            peer, _, text = text.removeprefix(DIRECT).strip().partition(" ")
            self.directs[self.last_id] = peer
            self.unanswered[self.last_id] = text
        self.send_line(self.last_id, text)
        if self.pace_seconds:
            self.wait_until = time.monotonic() + self.pace_seconds

    def send_line(self, line_id, text):
        """A line to all, or to the one that it is for (CHAT-DM-14)."""
        peer = self.directs.get(line_id)
        if peer is None:
            self.send(chat=pb.Chat(text=text, id=line_id))
        else:
            self.send(direct=pb.Direct(peer=peer, text=text, id=line_id))

    def read_stdin(self):
        typed = os.read(self.stdin.fileno(), READ_BYTES_MAX)
        *lines, self.line_begun = (self.line_begun + typed).split(b"\n")
        if not typed:
            self.stdin_ended = True
            lines.append(self.line_begun)
        for line in lines:
            self.take_line(line.decode(errors="replace").removesuffix("\r"))

    def take_line(self, line):
        if len(line.encode()) > self.limits.text_bytes_max > 0:
            # The server would refuse the text, or end the session if the frame were
            # too long.
            self.note("That line is too long; send it in parts.")
        elif line:
            self.lines.append(line)

    # From the server.

    def read(self):
        try:
            data = self.socket.recv(READ_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(1, f"The connection is lost: {problem}.")
            return
        if not data:
            # A frame that the end cut short is dropped (CHAT-FRAME-9).
            self.end_of_stream()
            return
        self.frames.feed(data)
        try:
            while self.exit_code is None and self.socket is not None:
                body = self.frames.next_body(FRAME_BYTES_MAX)
                if body is None:
                    return
                self.receive(parse(pb.ServerEnvelope, body))
        except Refused:
            self.end(1, "The bytes from the server do not parse.")  # CHAT-FRAME-11

    def end_of_stream(self):
        if self.left:
            self.end(0)
        else:
            self.lost(1, "The server closed the connection.")

    def receive(self, envelope):
        """Act on one message. Unknown messages are ignored (CHAT-GROW-2), and so are
        messages that were not asked for."""
        message = envelope.WhichOneof("message")
        if message == "registered":
            # With or without a Challenge before it (CHAT-ID-14).
            self.receive_registered(envelope.registered)
        elif message == "challenge":
            self.receive_challenge(envelope.challenge)
        elif message == "chat":
            if self.line is None or self.line.chat(envelope.chat):
                self.show(envelope.chat)
        elif message == "error":
            self.receive_error(envelope.error)
        elif message == "server_closing":
            # CHAT-CLOSE-4, CHAT-CLOSE-8
            closing = envelope.server_closing
            self.lost(
                0,
                f"The server says goodbye: {closing.detail}",
                retry_after_ms=closing.retry_after_ms,
            )
        elif message == "receipt":
            self.answered(envelope.receipt.id)
            if self.line is not None:
                self.show_all(self.line.receipt(envelope.receipt.id, envelope.receipt.seq))
        elif message == "direct":
            self.receive_direct(envelope.direct)
        elif message == "direct_state":
            self.receive_direct_state(envelope.direct_state)
        elif message == "ping" and pb.CAPABILITY_KEEPALIVE in self.granted:
            self.send(pong=pb.Pong(token=envelope.ping.token))  # CHAT-KEEP-2
        elif message == "members":
            self.note("Here: " + ", ".join(envelope.members.names))
        elif message == "joined":
            self.note(f"{envelope.joined.name} is here.")
        elif message == "left":
            # Whatever the reason, even an unknown one (CHAT-GROW-8).
            self.note(f"{envelope.left.name} is gone.")

    def receive_challenge(self, challenge):
        """CHAT-ID-13"""
        if self.key is not None and not self.registered:
            signature = self.key.prove(challenge, self.name)
            self.send(proof=pb.Proof(signature=signature))

    def receive_registered(self, registered):
        self.registered = True
        self.give_up_at = None
        self.limits = registered.limits
        self.granted = frozenset(registered.capabilities)
        self.registered_at = time.monotonic()
        if self.line is None:
            self.line = Line(registered)
            self.note(f"You are here as {registered.name}.")
            for line in registered.welcome.splitlines():  # CHAT-REG-15
                self.note(f"The server says: {line}")
        else:
            self.continue_line(registered)

    def receive_direct(self, direct):
        print(f"@{visible(direct.peer)} (direct): {visible(direct.text)}", flush=True)
        self.send(direct_ack=pb.DirectAck(seq=direct.seq))  # CHAT-DM-13

    def receive_direct_state(self, state):
        peer = self.directs.pop(state.id, None)
        if peer is not None:
            self.note(f"{peer} has it." if state.delivered else f"{peer} left before it came.")

    def receive_error(self, error):
        """Only ends_session tells whether the error is fatal; the code may be unknown
        to this client (CHAT-ERR-7, CHAT-GROW-5)."""
        detail = error.detail or f"error {error.code}"
        if error.ends_session:
            # This includes PASSWORD_WRONG and NAME_OWNED: the client does not try again
            # (CHAT-ADM-7, CHAT-ID-15).
            self.lost(1, detail, error.code, error.retry_after_ms)
            return
        refused_text = self.answered(error.id)
        peer = self.directs.pop(error.id, None)
        if peer is not None and refused_text:
            refused_text = f"{DIRECT}{peer} {refused_text}"
        if self.line is not None:
            self.show_all(self.line.refused(error.id))
        if error.code == pb.ERROR_CODE_RATE_LIMITED and refused_text and not self.left:
            # Send it again after retry_after_ms, before lines that were typed later.
            self.wait_until = time.monotonic() + error.retry_after_ms / 1000
            self.pace_seconds = self.limits.chat_interval_ms / 1000
            self.lines_again.append(refused_text)
        else:
            self.note(detail)

    def note(self, sentence):
        """Print a sentence that is not a chat."""
        print(visible(sentence), file=sys.stderr, flush=True)

    def show(self, chat):
        # CHAT-MOD-9
        text = "(removed by the server's operator)" if chat.removed else visible(chat.text)
        print(f"@{visible(chat.sender)}: {text}", flush=True)

    def show_all(self, chats):
        for chat in chats:
            self.show(chat)


def visible(text):
    return text.translate(CONTROLS)


def connect(address):
    host, _, port = address.removeprefix("chat://").rpartition(":")
    sock = socket.create_connection((host.strip("[]"), int(port)), timeout=REGISTER_SECONDS_MAX)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def run(client):
    """Run to the end; Ctrl-C leaves."""
    client.register()
    try:
        return client.run()
    except KeyboardInterrupt:
        if client.registered and not client.left:
            client.leave()
            return client.run()
        return 0


def main():
    parser = argparse.ArgumentParser(description="A chat client for proto/chat.proto.")
    parser.add_argument("address", metavar="ADDRESS", nargs="?", help="chat://HOST:PORT")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the name to be known by")
    parser.add_argument("--password-file", metavar="FILE", help="holds the server's password")
    parser.add_argument(
        "--key", metavar="FILE", help="holds the key that the name belongs to; made if absent"
    )
    parser.add_argument(
        "--reconnect", action="store_true", help="connect again when the connection is lost"
    )
    parser.add_argument("--mutant", metavar="NAME", help="break one rule on purpose")
    parser.add_argument(
        "--list-mutants", action="store_true", help="list the rules that can be broken"
    )
    options = parser.parse_args()
    client_class = Client
    if options.list_mutants or options.mutant:
        # Clients that break a rule on purpose, kept apart as in server.py.
        from mutants.client import CLIENT_MUTANTS

        if options.list_mutants:
            print(CLIENT_MUTANTS.listing(), end="")
            return
        client_class = CLIENT_MUTANTS.find(options.mutant)
    if options.name is None:
        parser.error("ADDRESS and NAME are needed")
    try:
        password = read_password(options.password_file)
    except (OSError, ValueError) as problem:
        parser.error(f"the password cannot be used: {problem}")
    try:
        key = read_key(options.key) if options.key else None
    except (OSError, ValueError) as problem:
        parser.error(f"the key cannot be used: {problem}")
    try:
        sock = connect(options.address)
    except (OSError, ValueError, OverflowError) as problem:
        sys.exit(f"cannot connect to {options.address}: {problem}")
    try:
        address = options.address if options.reconnect else None
        client = client_class(sock, options.name, sys.stdin, password, address)
        if key is not None:
            client.key = key
        sys.exit(run(client))
    except BrokenPipeError:
        # The reader of our stdout is gone, so the client has no use any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
