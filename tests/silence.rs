//! What silence means: a server that was stopped, and a network that is slow, are not
//! the fault of a client.

use chat::{
    limits::Limits,
    room::Room,
    session::{AccessPolicy, ConnectionId, Effect, Event, Offer, Progress, Sessions, Time},
    wire::{
        self, Capability, ClientEnvelope, ErrorCode, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};

struct Server {
    sessions: Sessions,
    room: Room,
    now_ms: u64,
}

/// What a connection is told, in short.
#[derive(Debug, PartialEq)]
enum Told {
    Registered,
    Ping,
    Error(ErrorCode),
}

impl Server {
    fn new(limits: Limits) -> Self {
        Self {
            sessions: Sessions::new(limits, AccessPolicy::default(), Offer::default()),
            room: Room::new("epoch".to_owned(), &Limits::default()),
            now_ms: 0,
        }
    }

    fn now(&self) -> Time {
        Time {
            elapsed_ms: self.now_ms,
            unix_ms: 0,
            earliest_arrival_ms: self.now_ms,
        }
    }

    fn connect(&mut self) -> ConnectionId {
        self.sessions.connect(self.now()).expect("there is room")
    }

    fn handle(&mut self, id: &ConnectionId, event: Event) -> Vec<Told> {
        let (now, mut effects) = (self.now(), Vec::new());
        self.sessions
            .handle(&mut self.room, now, id, event, &mut effects);
        let replies = effects.into_iter().filter_map(|effect| match effect {
            Effect::Reply(envelope) => envelope.message,
            _ => None,
        });
        replies
            .map(|message| match message {
                Message::Registered(_) => Told::Registered,
                Message::Ping(_) => Told::Ping,
                Message::Error(error) => Told::Error(error.code()),
                message => panic!("not expected: {message:?}"),
            })
            .collect()
    }

    fn send(&mut self, id: &ConnectionId, message: Sent) -> Vec<Told> {
        let envelope = ClientEnvelope {
            message: Some(message),
        };
        self.handle(id, Event::Message(envelope))
    }

    fn register(&mut self, id: &ConnectionId, name: &str) -> Vec<Told> {
        self.send(
            id,
            Sent::Register(wire::Register {
                name: name.to_owned(),
                capabilities: vec![Capability::Keepalive.into()],
                ..Default::default()
            }),
        )
    }

    fn member(&mut self, name: &str) -> ConnectionId {
        let id = self.connect();
        assert_eq!(self.register(&id, name), [Told::Registered]);
        id
    }

    /// Whether something is due to a connection at this time.
    fn is_due(&mut self, id: &ConnectionId) -> bool {
        let mut due = Vec::new();
        self.sessions.due(&self.room, self.now(), &mut due);
        due.contains(&id.index())
    }

    /// Time passes; what a connection is told if something is due to it then.
    fn pass(&mut self, ms: u64, id: &ConnectionId, progress: Option<Progress>) -> Vec<Told> {
        self.now_ms += ms;
        match self.is_due(id) {
            true => self.handle(id, tick(true, progress)),
            false => Vec::new(),
        }
    }
}

fn tick(reads_drained: bool, progress: Option<Progress>) -> Event {
    Event::Tick {
        reads_drained,
        replies_flushed: true,
        progress,
    }
}

const IDLE_TIMEOUT: Told = Told::Error(ErrorCode::IdleTimeout);

/// CHAT-KEEP-4
#[test]
fn a_silent_member_is_pinged_and_ends_at_the_deadline() {
    let mut server = Server::new(Limits::default());
    let id = server.member("Alice");
    for (ms, told) in [
        (29_999, vec![]),
        (1, vec![Told::Ping]),
        (30_000, vec![Told::Ping]),
        (29_999, vec![]),
        (1, vec![IDLE_TIMEOUT]),
    ] {
        assert_eq!(server.pass(ms, &id, None), told, "at {}", server.now_ms);
    }
}

/// The deadline holds where the interval does not divide it.
#[test]
fn a_late_ping_does_not_delay_the_deadline_by_more_than_its_answer_takes() {
    for (interval_ms, end_ms) in [(50_000, 90_000), (80_000, 90_000), (89_999, 90_000)] {
        let mut server = Server::new(Limits {
            keepalive_interval_ms: interval_ms,
            ..Limits::default()
        });
        let id = server.member("Alice");
        assert_eq!(server.pass(interval_ms.into(), &id, None), [Told::Ping]);
        server.now_ms = end_ms - 1;
        assert_eq!(server.pass(0, &id, None), []);
        assert_eq!(server.pass(1, &id, None), [IDLE_TIMEOUT]);
    }
}

#[test]
fn a_server_that_was_stopped_pings_before_it_ends_a_silent_member() {
    for answers in [true, false] {
        let mut server = Server::new(Limits::default());
        let id = server.member("Alice");
        server.now_ms += 5_000;
        assert_eq!(server.pass(95_000, &id, None), [Told::Ping]);
        assert_eq!(server.pass(9_900, &id, None), []);
        if answers {
            server.send(&id, Sent::Pong(wire::Pong { token: 0 }));
            assert_eq!(server.pass(100, &id, None), []);
        } else {
            assert_eq!(server.pass(100, &id, None), [IDLE_TIMEOUT]);
        }
    }
}

/// It waits in the socket, and the runtime has not noticed it yet.
#[test]
fn a_register_that_arrived_while_the_server_was_stopped_is_in_time() {
    let mut server = Server::new(Limits::default());
    let id = server.connect();
    server.now_ms += 95_000;
    assert!(server.is_due(&id));
    assert_eq!(server.handle(&id, tick(false, None)), []);
    assert_eq!(server.register(&id, "Alice"), [Told::Registered]);

    let silent = server.connect();
    assert_eq!(
        server.pass(10_000, &silent, None),
        [Told::Error(ErrorCode::RegisterTimeout)]
    );
}

/// A holder of a name that another client asks for, and that has been sent its Ping:
/// `behind_bytes` of what was sent before it have not arrived.
fn asked(behind_bytes: u64) -> (Server, ConnectionId, ConnectionId, Progress) {
    let mut server = Server::new(Limits {
        // Longer than the network takes.
        register_deadline_ms: 60_000,
        name_check_deadline_ms: 5_000,
        ..Limits::default()
    });
    let holder = server.member("Alice");
    let newcomer = server.connect();
    server.now_ms += 1;
    assert_eq!(server.register(&newcomer, "alice"), []);
    let progress = Progress {
        written_bytes: 1_000_000,
        acked_bytes: 1_000_000 - behind_bytes,
    };
    assert_eq!(server.pass(100, &holder, Some(progress)), [Told::Ping]);
    assert_eq!(server.pass(100, &holder, Some(progress)), []);
    (server, holder, newcomer, progress)
}

const RECLAIMED: Told = Told::Error(ErrorCode::NameReclaimed);

/// CHAT-NAME-8
#[test]
fn a_holder_behind_a_full_queue_of_the_network_has_its_time_when_the_ping_arrives() {
    let (mut server, holder, newcomer, mut progress) = asked(128_000);
    for _ in 0..40 {
        // 32 KB a second.
        progress.acked_bytes += 3_200;
        progress.written_bytes += 100;
        assert_eq!(server.pass(100, &holder, Some(progress)), []);
    }
    // It has arrived. What is sent later does not count.
    for _ in 0..49 {
        progress.acked_bytes += 100;
        progress.written_bytes += 100;
        assert_eq!(server.pass(100, &holder, Some(progress)), []);
    }
    assert_eq!(server.pass(100, &holder, Some(progress)), [RECLAIMED]);
    let told = server.pass(0, &newcomer, None);
    assert_eq!(told, [Told::Registered]);
}

#[test]
fn a_holder_that_is_gone_loses_its_name_though_the_ping_never_arrives() {
    for behind_bytes in [0, 128_000] {
        let (mut server, holder, newcomer, progress) = asked(behind_bytes);
        assert_eq!(server.pass(4_900, &holder, Some(progress)), []);
        assert_eq!(server.pass(100, &holder, Some(progress)), [RECLAIMED]);
        assert_eq!(server.pass(0, &newcomer, None), [Told::Registered]);
    }
}

#[test]
fn a_newcomer_is_told_the_answer_of_the_holder_even_late() {
    let (mut server, holder, newcomer, progress) = asked(0);
    server.now_ms += 95_000;
    server.send(&holder, Sent::Pong(wire::Pong { token: 0 }));
    let told = server.pass(0, &newcomer, Some(progress));
    assert_eq!(told, [Told::Error(ErrorCode::NameInUse)]);
}

/// The time is read before the lock is taken, so a tick may be older than what it
/// looks at.
#[test]
fn a_tick_that_is_older_than_the_last_ping_changes_nothing() {
    let mut server = Server::new(Limits::default());
    let id = server.member("Alice");
    assert_eq!(server.pass(31_000, &id, None), [Told::Ping]);
    for now_ms in [0, 30_000, 30_999] {
        server.now_ms = now_ms;
        assert!(!server.is_due(&id));
        assert_eq!(server.handle(&id, tick(true, None)), []);
    }
}

/// CHAT-KEEP-4: its Ping waits in a queue of the network, behind what it still takes.
#[test]
fn a_member_behind_a_full_queue_of_the_network_has_its_time_when_the_ping_arrives() {
    let mut server = Server::new(Limits::default());
    let id = server.member("Alice");
    // Beyond 32 bits, so that the count of the bytes wraps meanwhile.
    let mut progress = Progress {
        written_bytes: (1 << 32) + 1_000,
        acked_bytes: (1 << 32) - 1_000_000,
    };
    assert_eq!(server.pass(30_000, &id, Some(progress)), [Told::Ping]);
    for _ in 0..100 {
        progress.acked_bytes += 10_000;
        progress.written_bytes += 10_000;
        let told = server.pass(1_000, &id, Some(progress));
        assert!(told.is_empty() || told == [Told::Ping], "{told:?}");
    }
    progress.acked_bytes += 10_000;
    let told = server.pass(100, &id, Some(progress));
    assert!(told.is_empty() || told == [Told::Ping], "{told:?}");
    // It has arrived, and is not answered.
    let ends = (0..200).find(|_| server.pass(100, &id, Some(progress)) == [IDLE_TIMEOUT]);
    assert!(ends.is_some_and(|ticks| ticks >= 90), "{ends:?}");
}

/// CHAT-NAME-8: the newcomer is told within the time that a check takes.
#[test]
fn a_holder_that_takes_what_is_sent_slowly_keeps_its_name() {
    let (mut server, holder, newcomer, mut progress) = asked(1_000_000);
    for _ in 0..50 {
        progress.acked_bytes += 3_200;
        assert_eq!(server.pass(100, &holder, Some(progress)), []);
    }
    let told = server.pass(0, &newcomer, None);
    assert_eq!(told, [Told::Error(ErrorCode::NameInUse)]);
    // Without a sign of life it is no longer silent than any other member may be.
    assert_eq!(server.pass(1_000, &holder, Some(progress)), []);
}
