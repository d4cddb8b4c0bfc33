"""The rules of the chat, without a socket, a task or a thread.

The room is told what came from whom and puts what is due to whom into the queues
of the sessions. It decides everything at once and in the order it is called, so
there is one order for all (CHAT-ORD-1 to CHAT-ORD-5).
"""

import hmac
import math
import re
import secrets
import time

from framing import Refused, encode, parse
from schema import chat_pb2 as pb

# The bound until a Register is accepted, and on everything up to and including
# Registered (CHAT-FRAME-6, CHAT-FRAME-12).
UNREGISTERED_FRAME_BYTES_MAX = 1024
NAME_BYTES_MAX = 32

# An error counts no more after so long (CHAT-ERR-8).
ERROR_FORGOTTEN_EVERY_MS = 100
# How many may wait for the answer of one holder of a name (CHAT-NAME-7).
NEWCOMERS_MAX = 4
# CHAT-NAME-1 and CHAT-NAME-2.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
NAMES_RESERVED = ("all", "server")
# CHAT-CHAT-6.
NOT_IN_TEXT = re.compile("[\u0000-\u001f\u007f-\u009f\u2028\u2029]")

CAPABILITIES = (
    pb.CAPABILITY_PRESENCE,
    pb.CAPABILITY_RECEIPTS,
    pb.CAPABILITY_KEEPALIVE,
)

# The codes after which the connection closes (CHAT-ERR-2), and what the others
# are told of a member that it happens to (CHAT-PRES-5). Some can only happen to
# whoever is not a member yet.
NOT_A_MEMBER = None
ENDS_SESSION = {
    pb.ERROR_CODE_MALFORMED_FRAME: pb.LEFT_REASON_PROTOCOL_ERROR,
    pb.ERROR_CODE_FRAME_TOO_LONG: pb.LEFT_REASON_PROTOCOL_ERROR,
    pb.ERROR_CODE_NOT_REGISTERED: NOT_A_MEMBER,
    pb.ERROR_CODE_REGISTER_TIMEOUT: NOT_A_MEMBER,
    pb.ERROR_CODE_SERVER_FULL: NOT_A_MEMBER,
    pb.ERROR_CODE_TOO_MANY_CONNECTIONS: NOT_A_MEMBER,
    pb.ERROR_CODE_CONNECTING_TOO_FAST: NOT_A_MEMBER,
    pb.ERROR_CODE_NAME_INVALID: NOT_A_MEMBER,
    pb.ERROR_CODE_NAME_RESERVED: NOT_A_MEMBER,
    pb.ERROR_CODE_NAME_IN_USE: NOT_A_MEMBER,
    pb.ERROR_CODE_PASSWORD_WRONG: NOT_A_MEMBER,
    pb.ERROR_CODE_NAME_NOT_ALLOWED: NOT_A_MEMBER,
    pb.ERROR_CODE_TOO_MANY_ERRORS: pb.LEFT_REASON_PROTOCOL_ERROR,
    pb.ERROR_CODE_NAME_RECLAIMED: pb.LEFT_REASON_IDLE_TIMEOUT,
    pb.ERROR_CODE_IDLE_TIMEOUT: pb.LEFT_REASON_IDLE_TIMEOUT,
    pb.ERROR_CODE_SLOW_CONSUMER: pb.LEFT_REASON_SLOW_CONSUMER,
}


class Room:
    def __init__(self, limits, log=lambda line: None, password="", names=None):
        """`password`: empty for none. `names`: the only ones that are let in, or
        None for all."""
        self.limits = limits
        self.log = log
        self.password = password
        self.names = None if names is None else {self.fold(name) for name in names}
        # Random, so that another start has another epoch (CHAT-ORD-7).
        self.epoch = secrets.token_hex(16)
        # The number of the last accepted chat (CHAT-ORD-1).
        self.seq = 0
        # By name in lower case, which is how names are compared (CHAT-NAME-3).
        self.members = {}

    # What the clocks say, apart so that tests can say something else.

    def now_ms(self):
        """For measuring: never jumps."""
        return time.monotonic() * 1000

    def now_unix_ms(self):
        """For people to read (Chat.time_unix_ms)."""
        return time.time_ns() // 1_000_000

    # What happens to a connection.

    def frame_bytes_max(self, session):
        if session.is_member():
            return self.limits.frame_bytes_max
        return UNREGISTERED_FRAME_BYTES_MAX

    def receive(self, session, body):
        """The client sent a frame."""
        if session.over:
            return
        try:
            envelope = self.parse(body)
            if session.is_member():
                self.receive_from_member(session, envelope)
            else:
                self.receive_first(session, envelope)
        except Refused as refused:
            self.refuse(session, refused)
        self.end_laggards()

    def parse(self, body):
        return parse(pb.ClientEnvelope, body)

    def refuse(self, session, refused, reason=None):
        """Something that the client did, or failed to do, is refused. The others
        are told `reason`, where it is not the one that goes with the code."""
        if session.over:
            return
        ends_session = refused.code in ENDS_SESSION
        session.reply(error=self.make_error(refused, ends_session))
        if not ends_session:
            self.count_error(session)
        else:
            self.log(f"{session.name or 'a client'}: {refused.detail}")
            self.end(session, reason or ENDS_SESSION[refused.code])

    def count_error(self, session):
        """End the session of who provokes error after error (CHAT-ERR-8). They are
        forgotten as time passes."""
        now_ms = self.now_ms()
        forgotten = (now_ms - session.errors_at_ms) / ERROR_FORGOTTEN_EVERY_MS
        session.errors = max(0, session.errors - forgotten) + 1
        session.errors_at_ms = now_ms
        if 0 < self.limits.errors_max < session.errors:
            self.refuse(
                session,
                Refused(
                    pb.ERROR_CODE_TOO_MANY_ERRORS,
                    "Too much of what this client sent was refused; see the errors before this.",
                ),
            )

    def make_error(self, refused, ends_session):
        return pb.Error(
            code=refused.code,
            detail=refused.detail,
            ends_session=ends_session,
            id=refused.chat_id,
            retry_after_ms=refused.retry_after_ms,
        )

    def end_of_stream(self, session, inside_frame):
        """The client sends nothing more. That is an end like Leave
        (CHAT-LEAVE-5): what is due is still sent, as the client may read on."""
        if session.over:
            return
        if inside_frame:
            self.refuse(
                session,
                Refused(
                    pb.ERROR_CODE_MALFORMED_FRAME,
                    "The stream ended inside a frame; send whole frames.",
                ),  # CHAT-FRAME-10
                pb.LEFT_REASON_CONNECTION_LOST,
            )
        else:
            self.end(session, pb.LEFT_REASON_CONNECTION_LOST)

    def lost(self, session):
        """The connection is gone; nothing more can be sent."""
        self.end(session, pb.LEFT_REASON_CONNECTION_LOST)
        session.drop_due()

    def lost_hearing(self, session):
        """Nothing can be sent any more, but what the client sent before may still
        be on its way here (CHAT-LEAVE-3)."""
        session.deaf = True
        session.drop_due()

    def taken_nothing(self, session):
        """The client has taken nothing for Limits.write_deadline_ms
        (CHAT-LIM-5). It may be told if it wakes up now."""
        session.drop_due()
        self.refuse(
            session,
            Refused(
                pb.ERROR_CODE_SLOW_CONSUMER,
                "Nothing of what is due to this client was read for too long; read faster.",
            ),
        )

    def end_laggards(self):
        """End the sessions of members who are too far behind (CHAT-LIM-5). It is
        a loop because the notice of an end may be what puts another too far
        behind."""
        bytes_max = self.limits.lag_bytes_max
        while laggards := [m for m in self.members.values() if m.lag_bytes > bytes_max]:
            for member in laggards:
                member.drop_due()
                self.refuse(
                    member,
                    Refused(
                        pb.ERROR_CODE_SLOW_CONSUMER,
                        f"This client is more than {bytes_max} bytes behind; read faster.",
                    ),
                )

    def is_crowded(self):
        """Whether somebody is so far behind that a short wait may spare it its
        end (CHAT-LIM-6)."""
        return any(2 * m.lag_bytes > self.limits.lag_bytes_max for m in self.members.values())

    def close(self, sessions):
        """The server shuts down: tell everyone, behind all that is due to them
        (CHAT-CLOSE-1, CHAT-CLOSE-6). As each session is then over, nothing
        follows it and no chat is accepted (CHAT-CLOSE-2, CHAT-CLOSE-5)."""
        for session in sessions:
            session.reply(server_closing=pb.ServerClosing(detail="The server shuts down."))
        for session in sessions:
            session.finish()

    # Registering.

    def receive_first(self, session, envelope):
        if envelope.WhichOneof("message") != "register":
            raise Refused(
                pb.ERROR_CODE_NOT_REGISTERED,
                "The first message must be Register; connect again and send it first.",
            )  # CHAT-REG-2
        register = envelope.register
        self.check_password(register.password)
        # Before the holder is asked: no member is disturbed for a name that is
        # refused anyway (CHAT-ADM-4).
        self.check_name(register.name)
        if not self.waits_for_name(session, register):
            self.check_free(register.name)
            self.admit(session, register)

    def waits_for_name(self, session, register):
        """Ask the holder of the name for a sign of life, if it can be asked, and let
        the Register wait for it (CHAT-NAME-7). A holder is asked once for all who
        wait, and once in a deadline at the most."""
        holder = self.members.get(self.fold(register.name))
        deadline_ms = self.limits.name_check_deadline_ms
        if not holder or not holder.has(pb.CAPABILITY_KEEPALIVE) or not deadline_ms:
            return False
        now_ms = self.now_ms()
        if now_ms - holder.asked_at_ms >= deadline_ms and holder.newcomers == 0:
            holder.asked_at_ms = now_ms
            self.ping(holder, int(now_ms))
        elif self.is_there(holder) or holder.newcomers >= NEWCOMERS_MAX:
            return False
        holder.newcomers += 1
        session.waiting = (register, holder)
        return True

    def is_there(self, holder):
        return holder.heard_at_ms > holder.asked_at_ms

    def decide_name(self, session):
        """Tell a newcomer that waits what has become of the name. To be called
        every now and then while session.waiting."""
        register, holder = session.waiting
        is_held = not holder.over
        is_late = self.now_ms() - holder.asked_at_ms >= self.limits.name_check_deadline_ms
        if is_held and not self.is_there(holder) and not is_late and not session.over:
            return
        session.waiting = None
        holder.newcomers -= 1
        if session.over:
            return
        if is_held and not self.is_there(holder):
            self.refuse(
                holder,
                Refused(
                    pb.ERROR_CODE_NAME_RECLAIMED,
                    "Somebody else asked for your name, and you did not answer a Ping in time.",
                ),
            )  # CHAT-NAME-9
        try:
            self.check_free(register.name)
        except Refused as refused:
            self.refuse(session, refused)
        else:
            self.admit(session, register)

    def check_password(self, password):
        """Before anything is said about names (CHAT-ADM-2). The answer holds
        neither password (CHAT-ADM-5)."""
        if self.password and not self.is_right(password):
            raise Refused(
                pb.ERROR_CODE_PASSWORD_WRONG,
                "This server asks for a password, and this was not it; connect again with it.",
            )  # CHAT-ADM-1

    def is_right(self, password):
        # In constant time, so that nobody learns how much of a guess was right.
        return hmac.compare_digest(password.encode(), self.password.encode())

    def check_name(self, name):
        """Whether anybody may have this name here."""
        if not NAME.fullmatch(name):
            raise Refused(
                pb.ERROR_CODE_NAME_INVALID,
                "A name is 1 to 32 characters from A-Z, a-z, 0-9, '.', '_' and '-', "
                "of which the first is a letter or a digit; choose such a name.",
            )
        if self.is_reserved(name):
            raise Refused(
                pb.ERROR_CODE_NAME_RESERVED, f"Nobody may be called {name}; choose another name."
            )
        if not self.is_allowed(name):
            raise Refused(
                pb.ERROR_CODE_NAME_NOT_ALLOWED,
                f"{name} is not on this server's list; choose a name that is.",
            )  # CHAT-ADM-4

    def check_free(self, name):
        if self.is_taken(name):
            raise Refused(
                pb.ERROR_CODE_NAME_IN_USE, f"{name} is here already; choose another name."
            )

    def is_reserved(self, name):
        return name.lower() in NAMES_RESERVED

    def is_allowed(self, name):
        return self.names is None or self.fold(name) in self.names

    def is_taken(self, name):
        return self.fold(name) in self.members

    def fold(self, name):
        """Equal for names that are the same name (CHAT-NAME-3)."""
        return name.lower()

    def admit(self, session, register):
        session.name = register.name
        session.granted = frozenset(self.grant(register.capabilities))
        session.chat_credit_ms = self.limits.chat_burst * self.limits.chat_interval_ms
        session.chat_credit_at_ms = self.now_ms()
        self.members[self.fold(session.name)] = session
        self.log(f"{session.name} registered")
        session.reply(registered=self.make_registered(session))  # CHAT-REG-3
        if session.has(pb.CAPABILITY_PRESENCE):
            self.send_members(session)
        self.announce(session, joined=pb.Joined(name=session.name))

    def grant(self, asked):
        """What was asked for and is known, each once (CHAT-REG-7, CHAT-GROW-4)."""
        return [capability for capability in CAPABILITIES if capability in asked]

    def make_registered(self, session):
        return pb.Registered(
            name=session.name,
            epoch=self.epoch,
            seq=self.seq,
            capabilities=sorted(session.granted),
            limits=self.limits,
        )

    # Chatting.

    def receive_from_member(self, session, envelope):
        message = envelope.WhichOneof("message")
        if message == "chat":
            self.receive_chat(session, envelope.chat)
        elif message == "leave":
            self.end(session, pb.LEFT_REASON_LEAVE)  # CHAT-LEAVE-2
        elif message == "ping":
            self.need(session, pb.CAPABILITY_KEEPALIVE)
            session.reply(pong=pb.Pong(token=envelope.ping.token))  # CHAT-KEEP-1
        elif message == "pong":
            # A sign of life, which the connection has noted (CHAT-KEEP-5).
            self.need(session, pb.CAPABILITY_KEEPALIVE)
        elif message == "register":
            raise Refused(
                pb.ERROR_CODE_ALREADY_REGISTERED,
                f"This session is open as {session.name}; to change the name, connect again.",
            )  # CHAT-REG-6
        else:
            # Nothing set, or an arm that the schema has gained since.
            raise Refused(
                pb.ERROR_CODE_UNKNOWN_MESSAGE,
                "This server does not know such a message; leave it out.",
            )  # CHAT-GROW-1

    def need(self, session, capability):
        if not session.has(capability):
            raise Refused(
                pb.ERROR_CODE_NOT_GRANTED,
                f"This message needs {pb.Capability.Name(capability)}; ask for it in Register.",
            )  # CHAT-GROW-6

    def receive_chat(self, session, chat):
        try:
            self.check_text(chat.text)
            self.charge(session)
        except Refused as refused:
            refused.chat_id = chat.id  # CHAT-ERR-4
            raise
        self.accept(session, chat)

    def check_text(self, text):
        if len(text.encode()) > self.limits.text_bytes_max:
            raise Refused(
                pb.ERROR_CODE_TEXT_TOO_LONG,
                f"A text is at most {self.limits.text_bytes_max} bytes of UTF-8; send it in parts.",
            )
        if text == "" or NOT_IN_TEXT.search(text):
            raise Refused(
                pb.ERROR_CODE_TEXT_INVALID,
                "A text is one line that is not empty, without control characters; "
                "send each line by itself.",
            )

    def charge(self, session):
        """Take one chat from the credit, which grows with time (CHAT-LIM-2). Only
        what is accepted costs."""
        cost_ms = self.limits.chat_interval_ms
        if cost_ms == 0:
            return
        now_ms = self.now_ms()
        session.chat_credit_ms = min(
            session.chat_credit_ms + now_ms - session.chat_credit_at_ms,
            self.limits.chat_burst * cost_ms,
        )
        session.chat_credit_at_ms = now_ms
        missing_ms = cost_ms - session.chat_credit_ms
        if missing_ms > 0:
            raise Refused(
                pb.ERROR_CODE_RATE_LIMITED,
                "Too many chats at once; send this one again after retry_after_ms.",
                retry_after_ms=math.ceil(missing_ms),
            )  # CHAT-LIM-3
        session.chat_credit_ms -= cost_ms

    def accept(self, session, chat):
        """Number the chat and send it to everybody else."""
        self.seq += 1
        numbered = self.make_chat(session, chat)
        self.say(self.hearers(session), chat=numbered)
        self.send_receipt(session, chat, numbered)

    def make_chat(self, session, chat):
        """The text as it came, all else by the server; the id is not relayed
        (CHAT-CHAT-3, CHAT-CHAT-4, CHAT-CHAT-5, CHAT-CHAT-9)."""
        return pb.Chat(
            text=chat.text,
            sender=session.name,
            seq=self.seq,
            time_unix_ms=self.now_unix_ms(),
        )

    def hearers(self, speaker):
        """Everybody else (CHAT-CHAT-1, CHAT-CHAT-2)."""
        return self.others(speaker)

    def others(self, session):
        return [member for member in self.members.values() if member is not session]

    def send_receipt(self, session, chat, numbered):
        if session.has(pb.CAPABILITY_RECEIPTS):
            session.reply(
                receipt=pb.Receipt(id=chat.id, seq=numbered.seq, time_unix_ms=numbered.time_unix_ms)
            )  # CHAT-RCPT-1, CHAT-RCPT-3

    def say(self, members, **message):
        """Put a message, encoded once, into the queue of each. Nobody waits."""
        frame = encode(pb.ServerEnvelope(**message))
        for member in members:
            member.hear(frame)

    # Presence.

    def send_members(self, session):
        """Name all who are here, in as many messages as it takes to keep each
        within the bound (CHAT-PRES-1, CHAT-FRAME-12). They are queued at once,
        so nobody can leave in between (CHAT-PRES-4)."""
        names = [session.name, *(member.name for member in self.others(session))]
        # A name costs two bytes beyond itself; the envelope costs a few more.
        names_a_message = (self.limits.frame_bytes_max - 16) // (NAME_BYTES_MAX + 2)
        for start in range(0, len(names), names_a_message):
            end = start + names_a_message
            session.reply(members=pb.Members(names=names[start:end], more=end < len(names)))

    def announce(self, whom, **notice):
        """Tell those who asked for presence, but not whom it is about
        (CHAT-PRES-2, CHAT-PRES-3, CHAT-PRES-6, CHAT-GROW-7)."""
        watchers = [m for m in self.others(whom) if m.has(pb.CAPABILITY_PRESENCE)]
        self.say(watchers, **notice)

    # Leaving.

    def end(self, session, reason):
        """The session is over; the name is free from here on (CHAT-NAME-5)."""
        if session.over:
            return
        if session.is_member():
            del self.members[self.fold(session.name)]
            self.log(f"{session.name} left: {pb.LeftReason.Name(reason)}")
            self.announce(session, left=pb.Left(name=session.name, reason=reason))
        session.finish()

    # Keepalive.

    def ping(self, session, token):
        session.reply(ping=pb.Ping(token=token))  # CHAT-KEEP-3

    def silent_too_long(self, session):
        self.refuse(
            session,
            Refused(
                pb.ERROR_CODE_IDLE_TIMEOUT,
                "Nothing came from this client for too long; answer each Ping with a Pong.",
            ),
        )  # CHAT-KEEP-4

    def register_deadline_passed(self, session):
        if not session.is_member():
            self.refuse(
                session,
                Refused(
                    pb.ERROR_CODE_REGISTER_TIMEOUT,
                    "No Register came in time; connect again and send it at once.",
                ),
            )  # CHAT-REG-5
