"""Room: the rules of the chat, without a socket, a task or a thread.

The room receives the messages of the clients and puts frames into the queues of the
sessions. It handles each call completely and in the order of the calls, so all
members see one order (CHAT-ORD-1 to CHAT-ORD-5).
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

# One error is forgotten after so long (CHAT-ERR-8).
ERROR_FORGOTTEN_EVERY_MS = 100
# How many clients may wait for the check of one holder (CHAT-NAME-7).
WAITING_REGISTERS_MAX = 4
# How long a restart takes, and how far apart the clients come back (CHAT-CLOSE-7).
RESTART_MS = 1000
APART_MS = 5
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

# The fatal codes (CHAT-ERR-2), and the reason that the other members receive
# (CHAT-PRES-5). Some codes only end connections that have not registered.
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
        """`password`: empty for none. `names`: the list of allowed names, or None for
        all."""
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

    # The clocks, in methods of their own, so that mutants can replace them.

    def now_ms(self):
        """For measuring: never jumps."""
        return time.monotonic() * 1000

    def now_unix_ms(self):
        """For people to read (Chat.time_unix_ms)."""
        return time.time_ns() // 1_000_000

    # Events of a connection.

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
        """Send an error and end the session if the error is fatal. The other members
        receive `reason`, if it is not the one that belongs to the code."""
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
        """Error budget: end the session of a member that causes too many errors
        (CHAT-ERR-8). Errors are forgotten as time passes."""
        now_ms = self.now_ms()
        forgotten = (now_ms - session.errors_at_ms) / ERROR_FORGOTTEN_EVERY_MS
        session.errors = max(0, session.errors - forgotten) + 1
        session.errors_at_ms = now_ms
        if 0 < self.limits.errors_max < session.errors:
            self.refuse(
                session,
                Refused(
                    pb.ERROR_CODE_TOO_MANY_ERRORS,
                    "Too many messages of this client were refused; see the errors before this.",
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
        """The client closed its sending side. That ends the session as Leave would
        (CHAT-LEAVE-5): its queue is still sent, because the client may read on."""
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
        session.drop_queue()

    def write_failed(self, session):
        """Nothing can be sent any more, but messages that the client sent before may
        still arrive (CHAT-LEAVE-3)."""
        session.cannot_write = True
        session.drop_queue()

    def write_timed_out(self, session):
        """The client has taken no bytes for Limits.write_deadline_ms (CHAT-LIM-5). If
        it reads again now, it still receives the error."""
        session.drop_queue()
        self.refuse(
            session,
            Refused(
                pb.ERROR_CODE_SLOW_CONSUMER,
                "This client has not read for too long; read faster.",
            ),
        )

    def end_laggards(self):
        """Slow-consumer policy: end the sessions of members that are too far behind
        (CHAT-LIM-5). It loops because a Left may put another member too far
        behind."""
        bytes_max = self.limits.lag_bytes_max
        while laggards := [m for m in self.members.values() if m.lag_bytes > bytes_max]:
            for member in laggards:
                member.drop_queue()
                self.refuse(
                    member,
                    Refused(
                        pb.ERROR_CODE_SLOW_CONSUMER,
                        f"This client is more than {bytes_max} bytes behind; read faster.",
                    ),
                )

    def is_crowded(self):
        """Whether a member is so far behind that a short pause of the senders may save
        its session (CHAT-LIM-6)."""
        return any(2 * m.lag_bytes > self.limits.lag_bytes_max for m in self.members.values())

    def close(self, sessions):
        """The server shuts down: queue ServerClosing for all clients, behind the frames
        that wait already (CHAT-CLOSE-1, CHAT-CLOSE-6). Then each session is over,
        so nothing follows and no chat is accepted (CHAT-CLOSE-2, CHAT-CLOSE-5). Each is
        told another time to come back (CHAT-CLOSE-7)."""
        for place, session in enumerate(sessions):
            closing = pb.ServerClosing(
                detail="The server shuts down.",
                retry_after_ms=RESTART_MS + place * APART_MS,
            )
            session.reply(server_closing=closing)
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
        # Before the holder is checked: no member is disturbed for a name that is
        # refused anyway (CHAT-ADM-4).
        self.check_name(register.name)
        if not self.check_holder(session, register):
            self.check_free(register.name)
            self.admit(session, register)

    def check_holder(self, session, register):
        """Check the holder of the name with a Ping, if it has keepalive, and let the
        Register wait for the result (CHAT-NAME-7). One check serves all waiting
        clients, and a holder is checked at most once per deadline."""
        holder = self.members.get(self.fold(register.name))
        deadline_ms = self.limits.name_check_deadline_ms
        if not holder or not holder.has(pb.CAPABILITY_KEEPALIVE) or not deadline_ms:
            return False
        now_ms = self.now_ms()
        if now_ms - holder.checked_at_ms >= deadline_ms and holder.waiting_registers == 0:
            holder.checked_at_ms = now_ms
            self.ping(holder, int(now_ms))
        elif self.has_answered(holder) or holder.waiting_registers >= WAITING_REGISTERS_MAX:
            return False
        holder.waiting_registers += 1
        session.waiting = (register, holder)
        return True

    def has_answered(self, holder):
        return holder.last_frame_at_ms > holder.checked_at_ms

    def decide_waiting_register(self, session):
        """Answer a waiting Register once the check of the holder has a result. Called
        regularly while session.waiting."""
        register, holder = session.waiting
        is_held = not holder.over
        is_late = self.now_ms() - holder.checked_at_ms >= self.limits.name_check_deadline_ms
        if is_held and not self.has_answered(holder) and not is_late and not session.over:
            return
        session.waiting = None
        holder.waiting_registers -= 1
        if session.over:
            return
        if is_held and not self.has_answered(holder):
            self.refuse(
                holder,
                Refused(
                    pb.ERROR_CODE_NAME_RECLAIMED,
                    "Another client asked for your name, and you did not answer a Ping in time.",
                ),
            )  # CHAT-NAME-9
        try:
            self.check_free(register.name)
        except Refused as refused:
            self.refuse(session, refused)
        else:
            self.admit(session, register)

    def check_password(self, password):
        """Runs before any check of names (CHAT-ADM-2). The error contains neither
        password (CHAT-ADM-5)."""
        if self.password and not self.is_password_right(password):
            raise Refused(
                pb.ERROR_CODE_PASSWORD_WRONG,
                "This server has a password, and this was not it; connect again with it.",
            )  # CHAT-ADM-1

    def is_password_right(self, password):
        # In constant time, so that a client cannot learn how much of a guess was right.
        return hmac.compare_digest(password.encode(), self.password.encode())

    def check_name(self, name):
        """Whether this name is allowed here, used or not."""
        if not NAME.fullmatch(name):
            raise Refused(
                pb.ERROR_CODE_NAME_INVALID,
                "A name is 1 to 32 characters from A-Z, a-z, 0-9, '.', '_' and '-', "
                "of which the first is a letter or a digit; choose such a name.",
            )
        if self.is_reserved(name):
            raise Refused(
                pb.ERROR_CODE_NAME_RESERVED, f"{name} is a reserved name; choose another name."
            )
        if not self.is_allowed(name):
            raise Refused(
                pb.ERROR_CODE_NAME_NOT_ALLOWED,
                f"{name} is not on this server's list; choose a name that is.",
            )  # CHAT-ADM-4

    def check_free(self, name):
        if self.is_taken(name):
            raise Refused(
                pb.ERROR_CODE_NAME_IN_USE, f"Another member is called {name}; choose another name."
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
        """The known ones of the requested capabilities, each once (CHAT-REG-7,
        CHAT-GROW-4)."""
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
            # An empty envelope, or an arm of a newer schema.
            raise Refused(
                pb.ERROR_CODE_UNKNOWN_MESSAGE,
                "This server does not know this message; do not send it.",
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
        """Token bucket: charge one chat (CHAT-LIM-2). Only accepted chats cost."""
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
        """Number the chat and send it to the other members."""
        self.seq += 1
        numbered = self.make_chat(session, chat)
        self.broadcast(self.recipients(session), chat=numbered)
        self.send_receipt(session, chat, numbered)

    def make_chat(self, session, chat):
        """The text is unchanged, the server sets all other fields, and the id is not
        relayed (CHAT-CHAT-3, CHAT-CHAT-4, CHAT-CHAT-5, CHAT-CHAT-9)."""
        return pb.Chat(
            text=chat.text,
            sender=session.name,
            seq=self.seq,
            time_unix_ms=self.now_unix_ms(),
        )

    def recipients(self, speaker):
        """All other members (CHAT-CHAT-1, CHAT-CHAT-2)."""
        return self.others(speaker)

    def others(self, session):
        return [member for member in self.members.values() if member is not session]

    def send_receipt(self, session, chat, numbered):
        if session.has(pb.CAPABILITY_RECEIPTS):
            session.reply(
                receipt=pb.Receipt(id=chat.id, seq=numbered.seq, time_unix_ms=numbered.time_unix_ms)
            )  # CHAT-RCPT-1, CHAT-RCPT-3

    def broadcast(self, members, **message):
        """Encode a message once and queue it for each member. Nothing here waits."""
        frame = encode(pb.ServerEnvelope(**message))
        for member in members:
            member.send_event(frame)

    # Presence.

    def send_members(self, session):
        """List all members, in as many messages as the bound on frames requires
        (CHAT-PRES-1, CHAT-FRAME-12). They are queued at once, so no member can
        leave in between (CHAT-PRES-4)."""
        names = [session.name, *(member.name for member in self.others(session))]
        # Each name costs two more bytes, and the envelope a few.
        names_a_message = (self.limits.frame_bytes_max - 16) // (NAME_BYTES_MAX + 2)
        for start in range(0, len(names), names_a_message):
            end = start + names_a_message
            session.reply(members=pb.Members(names=names[start:end], more=end < len(names)))

    def announce(self, member, **event):
        """Send a Joined or Left to members with presence, except to the member that it
        is about (CHAT-PRES-2, CHAT-PRES-3, CHAT-PRES-6, CHAT-GROW-7)."""
        watchers = [m for m in self.others(member) if m.has(pb.CAPABILITY_PRESENCE)]
        self.broadcast(watchers, **event)

    # Leaving.

    def end(self, session, reason):
        """End the session. From now on its name is free (CHAT-NAME-5)."""
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

    def idle_deadline_passed(self, session):
        self.refuse(
            session,
            Refused(
                pb.ERROR_CODE_IDLE_TIMEOUT,
                "This client was silent for too long; answer each Ping with a Pong.",
            ),
        )  # CHAT-KEEP-4

    def register_deadline_passed(self, session):
        if not session.is_member():
            self.refuse(
                session,
                Refused(
                    pb.ERROR_CODE_REGISTER_TIMEOUT,
                    "No Register arrived in time; connect again and send it at once.",
                ),
            )  # CHAT-REG-5
