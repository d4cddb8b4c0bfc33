//! The rules as scripts: what happens in, what follows out, as snapshots that were
//! reviewed against the schema.

use chat::{
    frame::FrameError,
    limits::Limits,
    log::Audience,
    name::Name,
    password::Password,
    room::{Publication, Room},
    session::{AccessPolicy, AddressLimit, ConnectionId, Effect, Event, Sessions, Time},
    wire::{
        self, Capability, ClientEnvelope, LeftReason, ServerEnvelope,
        client_envelope::Message as Sent, server_envelope::Message,
    },
};

const START_UNIX_MS: i64 = 1_700_000_000_000;

/// A room whose every event and effect is written down.
struct Script {
    sessions: Sessions,
    room: Room,
    elapsed_ms: u64,
    transcript: String,
}

/// A connection with the name it goes by in the script.
struct Client {
    label: &'static str,
    id: ConnectionId,
}

impl Script {
    fn new(limits: Limits) -> Self {
        Self::with_access(limits, AccessPolicy::default())
    }

    fn with_access(limits: Limits, access: AccessPolicy) -> Self {
        Self {
            sessions: Sessions::new(limits, access),
            room: Room::new("epoch-1".to_owned()),
            elapsed_ms: 0,
            transcript: String::new(),
        }
    }

    fn note(&mut self, line: String) {
        self.transcript.push_str(&line);
        self.transcript.push('\n');
    }

    fn now(&self) -> Time {
        Time {
            elapsed_ms: self.elapsed_ms,
            unix_ms: START_UNIX_MS + self.elapsed_ms as i64,
            earliest_arrival_ms: self.elapsed_ms,
        }
    }

    fn connect(&mut self, label: &'static str) -> Client {
        let id = self.sessions.connect(self.now()).expect("there is room");
        Client { label, id }
    }

    fn connect_in_vain(&mut self) {
        let answer = self.sessions.connect(self.now()).expect_err("no room");
        self.note(format!(
            "a connection is turned away\n    <- {}",
            show(&answer)
        ));
    }

    fn reject(&mut self, client: Client, cause: AddressLimit) {
        let answer = self.sessions.reject(client.id, cause);
        self.note(format!(
            "{}: is turned away\n    <- {}",
            client.label,
            show(&answer)
        ));
    }

    fn handle(&mut self, client: &Client, what: &str, event: Event) {
        self.note(format!("{}: {what}", client.label));
        let mut effects = Vec::new();
        {
            let now = self.now();
            self.sessions
                .handle(&mut self.room, now, &client.id, event, &mut effects);
        }
        self.effects(effects);
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let line = match effect {
                Effect::Reply(envelope) => format!("<- {}", show(&envelope)),
                Effect::Publish(Publication { audience, envelope }) => {
                    let whom = match audience {
                        Audience::Everyone => "all",
                        Audience::Presence => "presence",
                    };
                    format!("=> {whom}: {}", show(&envelope))
                }
                Effect::Subscribe { name, presence } => {
                    format!("follows as {name}, presence {presence}")
                }
                Effect::Closed(end) => format!("ends: {end:?}"),
            };
            self.note(format!("    {line}"));
        }
    }

    fn send(&mut self, client: &Client, message: Sent) {
        let what = format!("{message:?}");
        let envelope = ClientEnvelope {
            message: Some(message),
        };
        self.handle(client, &what, Event::Message(envelope));
    }

    fn register(&mut self, client: &Client, name: &str, capabilities: &[Capability]) {
        let asked: Vec<_> = capabilities.iter().map(|c| c.as_str_name()).collect();
        let capabilities = capabilities.iter().map(|&c| c.into()).collect();
        self.register_raw(client, name, capabilities, &asked.join(" "));
    }

    fn register_raw(&mut self, client: &Client, name: &str, capabilities: Vec<i32>, asked: &str) {
        let register = wire::Register {
            name: name.to_owned(),
            capabilities,
            ..Default::default()
        };
        let envelope = ClientEnvelope {
            message: Some(Sent::Register(register)),
        };
        let what = format!("register {name:?} {asked}");
        self.handle(client, what.trim_end(), Event::Message(envelope));
    }

    fn register_with_password(&mut self, client: &Client, name: &str, password: &str) {
        let register = Sent::Register(wire::Register {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        });
        let which = match password {
            "" => "no",
            SECRET => "the right",
            _ => "another",
        };
        // As a log would show it.
        let what = format!("{register:?}, that is {which} password");
        let envelope = ClientEnvelope {
            message: Some(register),
        };
        self.handle(client, &what, Event::Message(envelope));
    }

    fn chat(&mut self, client: &Client, text: &str, id: u64) {
        let chat = wire::Chat {
            text: text.to_owned(),
            id,
            ..Default::default()
        };
        let envelope = ClientEnvelope {
            message: Some(Sent::Chat(chat)),
        };
        self.handle(
            client,
            &format!("chat {text:?} id {id}"),
            Event::Message(envelope),
        );
    }

    fn member(&mut self, label: &'static str, capabilities: &[Capability]) -> Client {
        let client = self.connect(label);
        self.register(&client, label, capabilities);
        client
    }

    /// Lets time pass and hands a Tick to each connection that is due.
    fn pass_ms(&mut self, ms: u64, clients: &[&Client]) {
        self.elapsed_ms += ms;
        self.note(format!("{ms} ms pass"));
        let mut due = Vec::new();
        self.sessions.due(&self.room, self.now(), &mut due);
        for client in clients {
            if due.contains(&client.id.index()) {
                self.handle(client, "is due", time_passed(true, true));
            }
        }
    }

    fn close(&mut self) {
        self.note("the server closes".to_owned());
        let mut effects = Vec::new();
        self.sessions
            .begin_closing("maintenance".to_owned(), &mut effects);
        self.effects(effects);
    }

    fn disconnect(&mut self, client: Client) {
        self.note(format!("{}: is gone", client.label));
        let mut effects = Vec::new();
        let now = self.now();
        self.sessions
            .disconnect(&mut self.room, now, client.id, &mut effects);
        self.effects(effects);
    }
}

/// A member called Alice, and a newcomer who has asked for the same name.
fn contested(limits: Limits) -> (Script, Client, Client) {
    let mut script = Script::new(limits);
    let holder = script.member("Alice", &[Capability::Keepalive]);
    let newcomer = script.connect("newcomer");
    script.register(&newcomer, "alice", &[]);
    (script, holder, newcomer)
}

fn time_passed(reads_drained: bool, replies_flushed: bool) -> Event {
    Event::Tick {
        reads_drained,
        replies_flushed,
        progress: None,
    }
}

/// One line for a message, with what matters of it.
fn show(envelope: &ServerEnvelope) -> String {
    match envelope
        .message
        .as_ref()
        .expect("a server sends no empty envelope")
    {
        Message::Registered(registered) => format!(
            "registered {} epoch {} seq {} granted {:?}",
            registered.name,
            registered.epoch,
            registered.seq,
            registered.capabilities().collect::<Vec<_>>()
        ),
        Message::Chat(chat) => {
            assert_eq!(chat.id, 0, "CHAT-CHAT-9");
            let after_ms = chat.time_unix_ms - START_UNIX_MS;
            format!(
                "chat #{} @{}: {:?} at {after_ms} ms",
                chat.seq, chat.sender, chat.text
            )
        }
        Message::Error(error) => {
            let mut line = format!("error {} ({})", error.code().as_str_name(), error.detail);
            if error.ends_session {
                line += " ends the session";
            }
            if error.id != 0 {
                line += &format!(" id {}", error.id);
            }
            if error.retry_after_ms != 0 {
                line += &format!(" retry after {} ms", error.retry_after_ms);
            }
            line
        }
        Message::ServerClosing(closing) => format!("server closing ({})", closing.detail),
        Message::Receipt(receipt) => {
            let after_ms = receipt.time_unix_ms - START_UNIX_MS;
            format!(
                "receipt id {} #{} at {after_ms} ms",
                receipt.id, receipt.seq
            )
        }
        Message::Joined(joined) => format!("joined {}", joined.name),
        Message::Left(left) => format!("left {} {}", left.name, left.reason().as_str_name()),
        Message::Members(members) => {
            format!("members {:?} more {}", members.names, members.more)
        }
        Message::Ping(ping) => format!("ping {}", ping.token),
        Message::Pong(pong) => format!("pong {}", pong.token),
    }
}

const ALL: [Capability; 3] = [
    Capability::Presence,
    Capability::Receipts,
    Capability::Keepalive,
];

#[test]
fn a_conversation() {
    let mut script = Script::new(Limits::default());
    let alice = script.member("Alice", &[]);
    let bob = script.member("Bob", &ALL);
    script.elapsed_ms += 5;
    script.chat(&alice, "hello", 7);
    script.chat(&bob, "hi", 8);
    script.chat(&bob, "there", 0);
    // CHAT-CHAT-4, CHAT-CHAT-5: what a client puts into the server's fields.
    script.send(
        &alice,
        Sent::Chat(wire::Chat {
            text: "forged".to_owned(),
            sender: "Bob".to_owned(),
            seq: 99,
            time_unix_ms: 1,
            id: 0,
        }),
    );
    script.send(&alice, Sent::Leave(wire::Leave {}));
    script.chat(&alice, "after the leave", 0);
    let again = script.member("ALICE", &[Capability::Presence]);
    script.handle(
        &again,
        "end of stream",
        Event::EndOfStream {
            inside_frame: false,
        },
    );
    script.disconnect(again);
    script.disconnect(bob);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn registrations_refused() {
    let mut script = Script::new(Limits::default());
    let holder = script.member("Alice", &[]);
    for name in [
        "aLICE",
        "all",
        "SERVER",
        "",
        "x y",
        "-x",
        "é",
        &"x".repeat(33),
    ] {
        let client = script.connect("newcomer");
        script.register(&client, name, &ALL);
        script.disconnect(client);
    }
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

/// The secret of the tests. No output may hold it.
const SECRET: &str = "open sesame";

/// CHAT-ADM-1 to CHAT-ADM-5.
#[test]
fn who_may_come_in() {
    let password = Password::parse(SECRET).expect("it is one");
    let name = |name| Name::parse(name).expect("the rules allow it");
    let access = AccessPolicy {
        password: Some(password),
        names: Some([name("Alice"), name("bob")].into()),
    };
    let mut script = Script::with_access(Limits::default(), access);
    let present = script.connect("Alice");
    script.register_with_password(&present, "Alice", SECRET);
    let longer = format!("{SECRET}!");
    for (name, password) in [
        // Nothing of names is told to whoever has no password (CHAT-ADM-2).
        ("alice", ""),
        ("alice", "open sesam"),
        ("bob", &longer),
        ("bob", "OPEN SESAME"),
        ("carol", "wrong"),
        ("all", "wrong"),
        ("x y", ""),
        ("all", SECRET),
        ("x y", SECRET),
        ("carol", SECRET),
        ("aLICE", SECRET),
        ("BOB", SECRET),
    ] {
        let client = script.connect("newcomer");
        script.register_with_password(&client, name, password);
        assert!(!format!("{:?}", script.sessions).contains(SECRET));
        script.disconnect(client);
    }
    assert!(!script.transcript.contains(SECRET));
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ADM-3.
#[test]
fn a_password_that_nobody_asked_for_is_ignored() {
    let mut script = Script::new(Limits::default());
    let client = script.connect("newcomer");
    script.register_with_password(&client, "Alice", &"x".repeat(900));
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn first_messages_that_are_no_register() {
    let mut script = Script::new(Limits::default());
    for message in [
        Some(Sent::Chat(wire::Chat {
            text: "hello".to_owned(),
            id: 3,
            ..Default::default()
        })),
        Some(Sent::Leave(wire::Leave {})),
        Some(Sent::Ping(wire::Ping { token: 1 })),
        Some(Sent::Pong(wire::Pong { token: 1 })),
        None,
    ] {
        let client = script.connect("newcomer");
        let what = format!("{message:?}");
        script.handle(&client, &what, Event::Message(ClientEnvelope { message }));
        script.disconnect(client);
    }
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn what_a_session_survives() {
    let mut script = Script::new(Limits {
        text_bytes_max: 10,
        ..Limits::default()
    });
    let plain = script.member("Plain", &[]);
    let full = script.member("Full", &ALL);
    script.register(&plain, "Other", &ALL);
    script.chat(&plain, "", 1);
    script.chat(&plain, "a\nb", 2);
    script.chat(&plain, "a\u{85}b", 3);
    script.chat(&plain, "12345678901", 4);
    script.chat(&full, "12345678901", 5);
    script.send(&plain, Sent::Ping(wire::Ping { token: 5 }));
    script.send(&plain, Sent::Pong(wire::Pong { token: 5 }));
    script.send(&full, Sent::Ping(wire::Ping { token: 5 }));
    script.send(&full, Sent::Pong(wire::Pong { token: 5 }));
    script.handle(
        &plain,
        "an empty envelope",
        Event::Message(ClientEnvelope { message: None }),
    );
    script.chat(&plain, "1234567890", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn what_ends_a_session() {
    let too_long = FrameError::TooLong {
        length_bytes: u64::MAX,
        length_bytes_max: 8_192,
    };
    let mut script = Script::new(Limits::default());
    let watcher = script.member("Watcher", &[Capability::Presence]);
    for (what, event) in [
        ("length malformed", Event::BadFrame(FrameError::Length)),
        ("length too long", Event::BadFrame(too_long)),
        ("body malformed", Event::BadEnvelope),
        (
            "cut inside a frame",
            Event::EndOfStream { inside_frame: true },
        ),
        (
            "end of stream",
            Event::EndOfStream {
                inside_frame: false,
            },
        ),
        ("lost", Event::ConnectionLost),
        ("stalled", Event::WriteTimedOut),
        ("evicted", Event::Evicted),
    ] {
        let client = script.member("Member", &[]);
        script.handle(&client, what, event);
        script.handle(&client, "once more", Event::ConnectionLost);
        script.disconnect(client);
    }
    for (what, event) in [
        ("length malformed", Event::BadFrame(FrameError::Length)),
        (
            "cut inside a frame",
            Event::EndOfStream { inside_frame: true },
        ),
        ("lost", Event::ConnectionLost),
        ("stalled", Event::WriteTimedOut),
        ("evicted", Event::Evicted),
    ] {
        let client = script.connect("newcomer");
        script.handle(&client, what, event);
        script.disconnect(client);
    }
    script.chat(&watcher, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn capabilities_are_granted_as_asked_and_known() {
    let mut script = Script::new(Limits::default());
    let client = script.connect("future");
    // Unspecified, unknown, named twice (CHAT-GROW-4).
    script.register_raw(&client, "Future", vec![0, 99, 2, -1, 2, 3], "0 99 2 -1 2 3");
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn limits_are_announced() {
    let limits = Limits {
        chat_interval_ms: None,
        ..Limits::default()
    };
    insta::assert_debug_snapshot!([Limits::default().announced(), limits.announced()]);
}

#[test]
fn it_tells_the_limits_it_works_within() {
    let limits = Limits {
        connections_max: 7,
        ..Limits::default()
    };
    let sessions = Sessions::new(limits.clone(), AccessPolicy::default());
    assert_eq!(sessions.limits(), &limits);
}

#[test]
fn deadlines() {
    let mut script = Script::new(Limits {
        register_deadline_ms: 1_000,
        keepalive_interval_ms: 300,
        idle_deadline_ms: 900,
        ..Limits::default()
    });
    let newcomer = script.connect("newcomer");
    let silent = script.member("Silent", &[Capability::Keepalive]);
    let alive = script.member("Alive", &[Capability::Keepalive]);
    let plain = script.member("Plain", &[Capability::Presence]);
    let clients = [&newcomer, &silent, &alive, &plain];
    script.pass_ms(299, &clients);
    script.pass_ms(1, &clients);
    script.send(&alive, Sent::Pong(wire::Pong { token: 300 }));
    script.pass_ms(300, &clients);
    script.send(&alive, Sent::Pong(wire::Pong { token: 0 }));
    script.pass_ms(299, &clients);
    script.pass_ms(1, &clients);
    script.pass_ms(99, &clients);
    script.pass_ms(1, &clients);
    script.pass_ms(100_000, &[&plain]);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn who_is_not_read_from_is_not_silent() {
    let mut script = Script::new(Limits {
        keepalive_interval_ms: 300,
        idle_deadline_ms: 900,
        ..Limits::default()
    });
    let held_up = script.member("HeldUp", &[Capability::Keepalive]);
    for _ in 0..5 {
        script.elapsed_ms += 1_000;
        let not_read = time_passed(false, true);
        script.handle(&held_up, "is due, not read from", not_read);
    }
    script.pass_ms(300, &[&held_up]);
    script.pass_ms(600, &[&held_up]);
    insta::assert_snapshot!(script.transcript);
}

/// Limits under which nobody is pinged for silence, nor closed for it.
fn patient() -> Limits {
    Limits {
        keepalive_interval_ms: 1_000_000,
        idle_deadline_ms: 2_000_000,
        register_deadline_ms: 20_000,
        ..Limits::default()
    }
}

#[test]
fn a_holder_that_answers_keeps_its_name() {
    let mut script = Script::new(patient());
    let alice = script.member("Alice", &[Capability::Keepalive]);
    let plain = script.member("Plain", &[]);
    script.note("one without keepalive cannot be asked".to_owned());
    let newcomer = script.connect("newcomer");
    script.register(&newcomer, "PLAIN", &[]);

    script.note("one with keepalive is asked, once for all who want its name".to_owned());
    let waiting = ["w1", "w2", "w3", "w4", "w5"].map(|label| script.connect(label));
    for client in &waiting {
        script.register(client, "ALICE", &[]);
    }
    let [w1, w2, w3, w4, _] = &waiting;
    let clients = [&alice, w1, w2, w3, w4];
    script.pass_ms(100, &clients);
    script.pass_ms(900, &clients);
    script.note("one that goes waits no longer, and leaves its place".to_owned());
    script.handle(w2, "is lost", Event::ConnectionLost);
    let late = script.connect("late");
    script.register(&late, "alice", &[]);
    script.note("while the others wait on".to_owned());
    script.pass_ms(99, &[&alice, w1, w3, w4, &late]);
    script.send(&alice, Sent::Pong(wire::Pong { token: 100 }));
    script.pass_ms(100, &[&alice, w1, w3, w4, &late]);

    script.note("and it is not asked again at once".to_owned());
    let again = script.connect("again");
    script.register(&again, "Alice", &[]);
    script.elapsed_ms += 3_800;
    let soon = script.connect("soon");
    script.register(&soon, "Alice", &[]);
    script.note("but so long after the first question as it had to answer".to_owned());
    script.elapsed_ms += 1;
    let later = script.connect("later");
    script.register(&later, "Alice", &[]);
    script.pass_ms(100, &[&alice, &later]);
    script.chat(&alice, "still here", 0);
    script.chat(&plain, "me too", 0);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-NAME-8: also a part of a frame is a sign of life, for the name alone.
#[test]
fn a_holder_that_is_in_the_midst_of_a_frame_keeps_its_name() {
    let (mut script, alice, newcomer) = contested(patient());
    script.pass_ms(100, &[&alice, &newcomer]);
    script.pass_ms(100, &[&alice, &newcomer]);
    script.elapsed_ms += 4_000;
    let now = script.now();
    script
        .sessions
        .charge_inbound(&script.room, now, &alice.id, 0, 1);
    script.pass_ms(1_000, &[&alice, &newcomer]);
    script.chat(&alice, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_holder_that_is_gone_loses_its_name() {
    let mut script = Script::new(patient());
    let gone = script.member("Alice", &[Capability::Keepalive]);
    let witness = script.member("Witness", &[Capability::Presence]);
    let first = script.connect("first");
    let second = script.connect("second");
    script.register(&first, "alice", &[Capability::Receipts]);
    script.register(&second, "ALICE", &[]);
    let clients = [&gone, &witness, &first, &second];
    script.pass_ms(100, &clients);
    script.note("it was sent the Ping".to_owned());
    script.pass_ms(100, &clients);
    script.pass_ms(4_999, &clients);
    script.pass_ms(1, &clients);
    script.pass_ms(100, &clients);
    script.chat(&first, "mine now", 1);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-NAME-8: the Ping has not gone out, however long it waits.
#[test]
fn a_holder_that_takes_nothing_cannot_be_asked() {
    let (mut script, holder, newcomer) = contested(patient());
    script.pass_ms(100, &[&holder, &newcomer]);
    script.elapsed_ms += 100;
    script.handle(&holder, "is due, not written to", time_passed(true, false));
    script.pass_ms(6_000, &[&holder, &newcomer]);
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_holder_that_is_asked_is_pinged_for_its_silence_as_ever() {
    let (mut script, holder, newcomer) = contested(Limits {
        keepalive_interval_ms: 1_000,
        ..patient()
    });
    script.pass_ms(100, &[&holder, &newcomer]);
    script.note("the question is open".to_owned());
    script.pass_ms(1_000, &[&holder, &newcomer]);
    script.send(&holder, Sent::Pong(wire::Pong { token: 100 }));
    script.pass_ms(100, &[&holder, &newcomer]);
    script.note("it was answered long ago".to_owned());
    script.pass_ms(10_000, &[&holder]);
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn whoever_waits_for_a_name() {
    let mut script = Script::new(Limits {
        register_deadline_ms: 2_000,
        ..patient()
    });
    let holder = script.member("Alice", &[Capability::Keepalive]);
    script.note("has its own deadline to register".to_owned());
    let late = script.connect("late");
    script.pass_ms(1_000, &[&late]);
    script.register(&late, "alice", &[]);
    script.pass_ms(999, &[&holder, &late]);
    script.pass_ms(1, &[&holder, &late]);
    script.note("gets it when the holder leaves".to_owned());
    let lucky = script.connect("lucky");
    script.register(&lucky, "alice", &[Capability::Keepalive]);
    script.pass_ms(100, &[&holder, &lucky]);
    script.send(&holder, Sent::Leave(wire::Leave {}));
    script.pass_ms(100, &[&lucky]);
    script.note("is not to be read from, and to send nothing".to_owned());
    let hasty = script.connect("hasty");
    script.register(&hasty, "alice", &[]);
    assert!(script.sessions.is_throttled(&hasty.id));
    script.chat(&hasty, "hello?", 0);
    script.note("is told when the server closes".to_owned());
    let last = script.connect("last");
    script.register(&last, "alice", &[]);
    script.close();
    script.pass_ms(100, &[&lucky, &last]);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_holder_that_cannot_be_heard_is_not_taken_for_dead() {
    let (mut script, holder, newcomer) = contested(patient());
    let not_read = time_passed(false, true);
    script.handle(&holder, "is due, not read from", not_read);
    script.pass_ms(6_000, &[&holder, &newcomer]);
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn rate() {
    let mut script = Script::new(Limits {
        chat_burst: 2,
        chat_interval_ms: Some(100),
        ..Limits::default()
    });
    let alice = script.member("Alice", &[Capability::Receipts]);
    let bob = script.member("Bob", &[]);
    for id in 1..=3 {
        script.chat(&alice, "quick", id);
    }
    // A refused text does not use up the rate, and another's rate is its own.
    script.chat(&alice, "", 4);
    script.chat(&bob, "mine", 1);
    script.pass_ms(100, &[]);
    script.chat(&alice, "later", 5);
    script.chat(&alice, "too soon", 6);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn who_provokes_error_after_error_is_ended() {
    let mut script = Script::new(Limits {
        errors_max: Some(5),
        chat_burst: 1,
        chat_interval_ms: Some(1_000),
        ..Limits::default()
    });
    let alice = script.member("Alice", &[Capability::Receipts]);
    let bob = script.member("Bob", &[]);
    script.note("one of each kind, which a session survives".to_owned());
    script.chat(&alice, "fine", 1);
    script.chat(&alice, "too fast", 2);
    script.chat(&alice, "", 3);
    script.send(&alice, Sent::Ping(wire::Ping { token: 1 }));
    script.register(&alice, "Alice", &[]);
    let unknown = || Event::Message(ClientEnvelope { message: None });
    script.handle(&alice, "unknown", unknown());
    script.note("forgotten, two in 200 ms".to_owned());
    script.pass_ms(200, &[]);
    script.handle(&alice, "unknown", unknown());
    script.handle(&alice, "unknown", unknown());
    script.note("the errors of others are theirs".to_owned());
    script.handle(&bob, "unknown", unknown());
    script.chat(&alice, "one too many", 4);
    script.chat(&bob, "bye", 0);
    insta::assert_snapshot!(script.transcript);
}

/// Twenty members, who take more than one page.
fn members_for_pages() -> (Script, Vec<Client>) {
    let mut script = Script::new(Limits {
        text_bytes_max: 1,
        frame_bytes_max: 257,
        ..Limits::default()
    });
    let mut clients = Vec::new();
    for index in 0..20 {
        let client = script.connect("member");
        script.register(&client, &format!("member-number-{index:02}"), &[]);
        clients.push(client);
    }
    (script, clients)
}

#[test]
fn members_come_in_pages() {
    let (mut script, mut clients) = members_for_pages();
    script.transcript.clear();
    let watcher = script.member("Watcher", &[Capability::Presence]);
    // Somebody on a page to come goes, somebody on a page that went comes.
    let gone = clients.pop().expect("twenty came");
    script.disconnect(gone);
    script.member("aaa", &[]);
    while let Some(page) = script.sessions.more_members(&script.room, &watcher.id) {
        script.note(format!("then\n    <- {}", show(&page)));
    }
    assert_eq!(
        script.sessions.more_members(&script.room, &watcher.id),
        None
    );
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn the_last_page_of_members_is_empty_when_all_on_it_have_left() {
    let (mut script, clients) = members_for_pages();
    let watcher = script.member("first-of-all", &[Capability::Presence]);
    assert!(script.transcript.ends_with("more true\n"));
    clients
        .into_iter()
        .for_each(|client| script.disconnect(client));
    let mut more = || script.sessions.more_members(&script.room, &watcher.id);
    let last = more().map(|page| show(&page));
    assert_eq!(last.as_deref(), Some("members [] more false"));
    assert_eq!(more(), None);
}

#[test]
fn closing() {
    let mut script = Script::new(Limits::default());
    let newcomer = script.connect("newcomer");
    let alice = script.member("Alice", &[Capability::Receipts]);
    let bob = script.member("Bob", &ALL);
    let lost = script.member("Lost", &[]);
    script.close();
    script.close();
    script.chat(&alice, "too late", 1);
    script.pass_ms(0, &[&newcomer, &alice, &bob]);
    script.disconnect(lost);
    script.connect_in_vain();
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_full_server_turns_away() {
    let mut script = Script::new(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let only = script.connect("only");
    script.connect_in_vain();
    script.disconnect(only);
    script.connect("next");
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn an_address_with_too_many_is_turned_away() {
    let mut script = Script::new(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    for cause in [
        AddressLimit::Concurrent,
        AddressLimit::Rate {
            retry_after_ms: 500,
        },
    ] {
        let client = script.connect("newcomer");
        script.reject(client, cause);
    }
    // It took no place.
    script.connect("next");
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-LIM-9.
#[test]
fn who_floods_is_held_up_for_a_while() {
    let mut script = Script::new(Limits {
        frames_per_second_max: Some(20),
        bytes_per_second_max: Some(200_000),
        ..patient()
    });
    let newcomer = script.connect("newcomer");
    let alice = script.member("Alice", &[]);
    let bob = script.member("Bob", &[]);
    let ended = script.member("Ended", &[]);
    script.send(&ended, Sent::Leave(wire::Leave {}));
    let mut charge_inbound = |client: &Client, elapsed_ms: u64, frames: usize, bytes: usize| {
        script.elapsed_ms = elapsed_ms;
        let is_throttled =
            script
                .sessions
                .charge_inbound(&script.room, script.now(), &client.id, frames, bytes);
        assert_eq!(is_throttled, script.sessions.is_throttled(&client.id));
        is_throttled
    };
    // Who is no member has nothing to be counted.
    assert!(!charge_inbound(&newcomer, 0, 1_000, 10_000_000));
    assert!(!charge_inbound(&ended, 0, 1_000, 10_000_000));
    assert!(!charge_inbound(&alice, 0, 200, 1));
    assert!(charge_inbound(&alice, 0, 1, 1));
    assert!(!charge_inbound(&bob, 0, 1, 2_000_000));
    assert!(charge_inbound(&bob, 0, 0, 1_000));
    // The one's flood is not the other's; and it is over when it is told so.
    script.pass_ms(4, &[&newcomer, &alice, &bob]);
    assert!(script.sessions.is_throttled(&bob.id));
    script.pass_ms(1, &[&newcomer, &alice, &bob]);
    assert!(!script.sessions.is_throttled(&bob.id));
    script.pass_ms(44, &[&newcomer, &alice, &bob]);
    assert!(script.sessions.is_throttled(&alice.id));
    script.chat(&alice, "not lost", 0);
    // Whoever tells it so too early is not believed.
    script.handle(&alice, "is told", time_passed(true, true));
    assert!(script.sessions.is_throttled(&alice.id));
    script.pass_ms(1, &[&newcomer, &alice, &bob]);
    assert!(!script.sessions.is_throttled(&alice.id));
    script.pass_ms(1, &[&newcomer, &alice, &bob]);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn every_error_fits_into_the_smallest_frame() {
    use prost::Message as _;
    // The longest details are those with the largest numbers.
    let limits = Limits {
        text_bytes_max: 1,
        frame_bytes_max: 257,
        chat_burst: 1,
        chat_interval_ms: Some(3_600_000),
        ..Limits::default()
    };
    let mut sessions = Sessions::new(limits, AccessPolicy::default());
    let mut room = Room::new("e".repeat(64));
    let now = Time {
        elapsed_ms: 0,
        unix_ms: i64::MAX,
        earliest_arrival_ms: 0,
    };
    let mut effects = Vec::new();
    let long_name = "n".repeat(32);
    let register = |name: &str| {
        Event::Message(ClientEnvelope {
            message: Some(Sent::Register(wire::Register {
                name: name.to_owned(),
                capabilities: vec![1, 2, 3],
                ..Default::default()
            })),
        })
    };
    let chat = |text: &str| {
        Event::Message(ClientEnvelope {
            message: Some(Sent::Chat(wire::Chat {
                text: text.to_owned(),
                id: u64::MAX,
                ..Default::default()
            })),
        })
    };
    let member = sessions.connect(now).expect("there is room");
    let mut handle =
        |id: &ConnectionId, event| sessions.handle(&mut room, now, id, event, &mut effects);
    handle(&member, register(&long_name));
    for event in [
        register("again"),
        chat(""),
        chat("\u{2029}"),
        chat("12"),
        chat("x"),
        chat("x"),
        Event::Message(ClientEnvelope { message: None }),
        Event::BadFrame(FrameError::TooLong {
            length_bytes: u64::MAX,
            length_bytes_max: u32::MAX,
        }),
    ] {
        handle(&member, event);
    }
    for name in ["", "all", "x y", &long_name] {
        let newcomer = sessions.connect(now).expect("there is room");
        sessions.handle(&mut room, now, &newcomer, register(name), &mut effects);
        let again = sessions.connect(now).expect("there is room");
        sessions.handle(&mut room, now, &again, register(&long_name), &mut effects);
        let twice = sessions.connect(now).expect("there is room");
        sessions.handle(&mut room, now, &twice, register(&long_name), &mut effects);
    }
    let mut errors = 0;
    for effect in &effects {
        if let Effect::Reply(envelope) = effect {
            let bytes_max = match &envelope.message {
                // CHAT-FRAME-12: its bound is another.
                Some(Message::Registered(_)) => 1_024,
                _ => 257,
            };
            assert!(envelope.encoded_len() <= bytes_max, "{envelope:?}");
            errors += usize::from(matches!(envelope.message, Some(Message::Error(_))));
        }
    }
    assert!(errors >= 12, "{errors}");
}

#[test]
fn every_cause_has_its_reason() {
    // CHAT-PRES-5, as far as the snapshots above show it; none is unspecified.
    let mut script = Script::new(Limits::default());
    let client = script.member("Member", &[]);
    script.handle(&client, "stalled", Event::WriteTimedOut);
    assert!(
        script
            .transcript
            .contains(LeftReason::SlowConsumer.as_str_name())
    );
    assert!(!script.transcript.contains("UNSPECIFIED"));
}

#[test]
fn time_that_passes_too_early_changes_nothing() {
    let mut script = Script::new(Limits::default());
    // Deadlines count from what a connection did, not from the server's start.
    script.elapsed_ms = 10_000_000;
    let newcomer = script.connect("newcomer");
    let member = script.member("Member", &ALL);
    let before = script.transcript.clone();
    for client in [&newcomer, &member] {
        let mut effects = Vec::new();
        let event = time_passed(true, true);
        let now = script.now();
        script
            .sessions
            .handle(&mut script.room, now, &client.id, event, &mut effects);
        assert_eq!(effects, []);
    }
    assert_eq!(script.transcript, before);
}

#[test]
fn members_that_fill_a_frame_exactly_come_in_one() {
    // Each name takes twelve bytes of a Members, and 16 are set aside for the rest.
    const NAMES: usize = 30;
    let limits = |spare_bytes: usize| Limits {
        frame_bytes_max: (16 + 12 * NAMES - spare_bytes) as u32,
        text_bytes_max: 60,
        ..Limits::default()
    };
    let is_more = |limits| {
        let mut script = Script::new(limits);
        for number in 1..NAMES {
            let name = Box::leak(format!("number{number:04}").into_boxed_str());
            script.member(name, &[]);
        }
        script.member("number0000", &ALL);
        script.transcript.contains("more true")
    };
    assert!(!is_more(limits(0)));
    assert!(is_more(limits(1)));
}
