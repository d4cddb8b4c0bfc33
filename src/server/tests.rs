//! Connections over in-memory streams, under time that passes only when all wait.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, timeout},
};

use super::{connection::Connection, hub::Hub, tick};
use crate::{
    engine::AccessPolicy,
    frame::{self, Split},
    limits::{LAG_BYTES_FLOOR, Limits},
    wire::{
        self, Capability, ClientEnvelope, ErrorCode, LeftReason, ServerEnvelope,
        client_envelope::Message as Sent, server_envelope::Message,
    },
};

/// Longer than any deadline of these tests; passes at once when all wait.
const LONG: Duration = Duration::from_secs(3_600);

fn hub(limits: Limits) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(limits, AccessPolicy::default(), "test".to_owned()));
    tokio::spawn(tick(Arc::clone(&hub)));
    hub
}

fn unlimited() -> Limits {
    Limits {
        chat_interval_ms: None,
        frames_per_second_max: None,
        bytes_per_second_max: None,
        errors_max: None,
        ..Limits::default()
    }
}

/// The far end of a connection whose stream holds `buffer_bytes` each way.
struct Peer {
    stream: DuplexStream,
    held: Vec<u8>,
}

impl Peer {
    fn connect(hub: &Arc<Hub>, buffer_bytes: usize) -> Self {
        let (near, far) = tokio::io::duplex(buffer_bytes);
        tokio::spawn(Connection::new(near, Arc::clone(hub), None));
        Self {
            stream: far,
            held: Vec::new(),
        }
    }

    async fn member(
        hub: &Arc<Hub>,
        name: &str,
        capabilities: &[Capability],
        buffer_bytes: usize,
    ) -> Self {
        let mut peer = Self::connect(hub, buffer_bytes);
        peer.send(register_with(name, capabilities)).await;
        assert!(matches!(peer.next().await, Some(Message::Registered(_))));
        if capabilities.contains(&Capability::Presence) {
            assert!(matches!(peer.next().await, Some(Message::Members(_))));
        }
        peer
    }

    async fn send(&mut self, message: Sent) {
        self.stream
            .write_all(&encoded(message))
            .await
            .expect("it is open");
    }

    /// The next message, `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        timeout(LONG, async {
            loop {
                if let Split::Frame { body, rest } =
                    frame::split(&self.held, u32::MAX).expect("frames")
                {
                    let envelope = ServerEnvelope::decode(body).expect("an envelope");
                    self.held = rest.to_vec();
                    return Some(envelope.message.expect("a message"));
                }
                if self.stream.read_buf(&mut self.held).await.unwrap_or(0) == 0 {
                    assert!(self.held.is_empty(), "the stream ends between frames");
                    return None;
                }
            }
        })
        .await
        .expect("a message or the end")
    }

    async fn next_seq(&mut self) -> u64 {
        match self.next().await {
            Some(Message::Chat(chat)) => chat.seq,
            message => panic!("no chat but {message:?}"),
        }
    }

    async fn expect_error(&mut self, code: ErrorCode) {
        match self.next().await {
            Some(Message::Error(error)) => assert_eq!(error.code(), code),
            message => panic!("no error but {message:?}"),
        }
    }
}

async fn three_readers(hub: &Arc<Hub>) -> Vec<Peer> {
    let mut readers = Vec::new();
    for index in 0..3 {
        readers.push(Peer::member(hub, &format!("reader{index}"), &[], 8_192).await);
    }
    readers
}

fn encoded(message: Sent) -> Vec<u8> {
    ClientEnvelope {
        message: Some(message),
    }
    .encode_length_delimited_to_vec()
}

fn chat(text_bytes: usize) -> Sent {
    Sent::Chat(wire::Chat {
        text: "x".repeat(text_bytes),
        ..Default::default()
    })
}

#[tokio::test(start_paused = true)]
async fn who_never_registers_is_told_so_at_the_deadline() {
    let hub = hub(Limits::default());
    let start = Instant::now();
    let mut peer = Peer::connect(&hub, 1_024);
    peer.expect_error(ErrorCode::RegisterTimeout).await;
    let after_ms = start.elapsed().as_millis();
    assert!((10_000..10_200).contains(&after_ms), "{after_ms}");
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_does_not_extend_the_deadline() {
    let hub = hub(Limits::default());
    let mut peer = Peer::connect(&hub, 1_024);
    let register = encoded(Sent::Register(wire::Register {
        name: "x".repeat(30),
        ..Default::default()
    }));
    for byte in &register[..20] {
        tokio::time::sleep(Duration::from_millis(600)).await;
        // The last of them find it closed.
        let _ = peer.stream.write_all(&[*byte]).await;
    }
    peer.expect_error(ErrorCode::RegisterTimeout).await;
}

#[tokio::test(start_paused = true)]
async fn one_byte_a_second_for_an_hour_is_no_danger() {
    const SECOND: Duration = Duration::from_secs(1);
    let hub = hub(Limits::default());
    // Who has not registered has ten seconds, and one to hear so.
    let mut stranger = Peer::connect(&hub, 1_024);
    let register = encoded(Sent::Register(wire::Register {
        password: "x".repeat(900),
        ..Default::default()
    }));
    let mut written = 0;
    for byte in register {
        tokio::time::sleep(SECOND).await;
        if stranger.stream.write_all(&[byte]).await.is_err() {
            break;
        }
        written += 1;
    }
    assert!((9..13).contains(&written), "{written}");
    stranger.expect_error(ErrorCode::RegisterTimeout).await;
    assert_eq!(stranger.next().await, None);

    // A member may take an hour for a message. It costs what it has sent of it, and
    // nobody notices.
    let mut slow = Peer::member(&hub, "slow", &[], 1_024).await;
    let mut alice = Peer::member(&hub, "alice", &[], 8_192).await;
    let mut bob = Peer::member(&hub, "bob", &[], 8_192).await;
    let frame = encoded(chat(3_592));
    assert_eq!(frame.len(), 3_600);
    for (second, byte) in frame.into_iter().enumerate() {
        tokio::time::sleep(SECOND).await;
        assert_eq!(hub.buffered_bytes(), second as u64);
        slow.stream.write_all(&[byte]).await.expect("it is open");
        if second % 60 == 0 {
            let start = Instant::now();
            alice.send(chat(10)).await;
            let seq = bob.next_seq().await;
            assert_eq!(slow.next_seq().await, seq);
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }
    match bob.next().await {
        Some(Message::Chat(chat)) => assert_eq!(chat.text.len(), 3_592),
        message => panic!("{message:?}"),
    }
    assert_eq!(hub.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_huge_lengths_are_told_so_and_cost_nothing() {
    // 2^63: its last byte is the 64th bit.
    let huge = [[0x80; 9].as_slice(), &[0x01]].concat();
    let hub = hub(Limits::default());
    let mut alice = Peer::member(&hub, "alice", &[], 1_024).await;
    let mut bob = Peer::member(&hub, "bob", &[], 1_024).await;
    for number in 0..10_000 {
        let start = Instant::now();
        let mut peer = match number % 2 {
            0 => Peer::connect(&hub, 1_024),
            _ => Peer::member(&hub, &format!("peer{number}"), &[], 1_024).await,
        };
        peer.stream.write_all(&huge).await.expect("it is open");
        peer.expect_error(ErrorCode::FrameTooLong).await;
        assert_eq!(peer.next().await, None);
        assert_eq!(start.elapsed(), Duration::ZERO, "at once");
        if number % 100 == 0 {
            alice.send(chat(10)).await;
            assert_eq!(bob.next_seq().await, number / 100 + 1);
            // Alice may send one in a tenth of a second.
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(hub.buffered_bytes(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_told_so_and_costs_the_others_nothing() {
    let hub = hub(unlimited());
    let mut watcher = Peer::member(&hub, "watcher", &[Capability::Presence], 1 << 20).await;
    let mut stuck = Peer::member(&hub, "stuck", &[], 100).await;
    let mut sender = Peer::member(&hub, "sender", &[], 1 << 20).await;
    let start = Instant::now();
    for _ in 0..100 {
        sender.send(chat(50)).await;
    }
    for name in ["stuck", "sender"] {
        let joined = Some(Message::Joined(wire::Joined {
            name: name.to_owned(),
        }));
        assert_eq!(watcher.next().await, joined);
    }
    for seq in 1..=100 {
        assert_eq!(watcher.next_seq().await, seq);
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "CHAT-LIM-4");
    let left = watcher.next().await;
    let Some(Message::Left(left)) = left else {
        panic!("no Left but {left:?}");
    };
    assert_eq!(left.reason(), wire::LeftReason::SlowConsumer);
    // At the write deadline, or at twice that where something was taken meanwhile.
    let after_ms = start.elapsed().as_millis();
    assert!((10_000..=20_000).contains(&after_ms), "{after_ms}");

    // When it reads at last: a prefix without a gap (CHAT-ORD-4), the error, the end.
    let mut seq = 0;
    loop {
        match stuck.next().await {
            Some(Message::Chat(chat)) => {
                seq += 1;
                assert_eq!(chat.seq, seq);
            }
            Some(Message::Error(error)) => {
                assert_eq!(error.code(), ErrorCode::SlowConsumer);
                break;
            }
            message => panic!("{message:?}"),
        }
    }
    assert!((1..100).contains(&seq));
    assert_eq!(stuck.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_replies_is_not_read_from() {
    let hub = hub(unlimited());
    let mut peer = Peer::member(&hub, "peer", &[], 4_096).await;
    // Each empty frame makes a reply many times its size.
    let empty_frames = [0u8; 4_096];
    let mut taken_bytes = 0;
    // Bounded, so that a server that takes everything fails below.
    while taken_bytes < 1 << 20
        && let Ok(Ok(bytes)) =
            timeout(Duration::from_secs(1), peer.stream.write(&empty_frames)).await
    {
        taken_bytes += bytes;
    }
    // What its replies fill, what one read takes in, what the stream holds.
    assert!(
        taken_bytes < 16_384,
        "{taken_bytes} bytes of empty frames were taken"
    );
    let mut replies = 0;
    loop {
        match peer.next().await {
            Some(Message::Error(error)) if error.code() == ErrorCode::UnknownMessage => {
                replies += 1
            }
            message => panic!("{message:?}"),
        }
        // Who reads them is read from again.
        if replies == taken_bytes {
            break;
        }
    }
    peer.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(peer.next().await, None);
}

fn register(name: &str) -> Sent {
    register_with(name, &[Capability::Receipts, Capability::Keepalive])
}

fn register_with(name: &str, capabilities: &[Capability]) -> Sent {
    Sent::Register(wire::Register {
        name: name.to_owned(),
        capabilities: capabilities.iter().map(|&c| c.into()).collect(),
        ..Default::default()
    })
}

/// Gives a connection that nobody else runs a turn. Returns whether it is gone.
fn take_turn(connection: &mut Connection<DuplexStream>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(connection).poll(&mut context).is_ready()
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_gone_loses_its_name_in_seconds() {
    let hub = hub(Limits::default());
    // It never reads nor sends again, as behind a cut cable.
    let _gone = Peer::member(&hub, "Alice", &[Capability::Keepalive], 1_024).await;
    let start = Instant::now();
    let mut back = Peer::connect(&hub, 1_024);
    // What comes with the Register waits behind it.
    let mut bytes = encoded(register("alice"));
    for _ in 0..3 {
        bytes.extend(encoded(chat(5)));
    }
    back.stream.write_all(&bytes).await.expect("it is open");
    assert!(matches!(back.next().await, Some(Message::Registered(_))));
    let after_ms = start.elapsed().as_millis();
    assert!((5_000..5_400).contains(&after_ms), "{after_ms}");
    for seq in 1..=3 {
        match back.next().await {
            Some(Message::Receipt(receipt)) => assert_eq!(receipt.seq, seq),
            message => panic!("{message:?}"),
        }
    }
}

/// CHAT-LEAVE-3: what has come counts, though it is a write that tells first that the
/// peer is gone.
#[tokio::test(start_paused = true)]
async fn last_words_are_heard_though_nothing_can_be_sent_any_more() {
    let hub = hub(unlimited());
    let mut witness = Peer::member(&hub, "Witness", &[Capability::Presence], 1_024).await;
    let (near, mut far) = tokio::io::duplex(1_024);
    let mut connection = Connection::new(near, Arc::clone(&hub), None);
    far.write_all(&encoded(register("Vic")))
        .await
        .expect("it is open");
    assert!(!take_turn(&mut connection));
    witness.send(chat(1)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let last_words = [encoded(chat(10)), encoded(Sent::Leave(wire::Leave {}))];
    far.write_all(&last_words.concat())
        .await
        .expect("it is open");
    drop(far);
    let is_gone = take_turn(&mut connection);
    assert!(is_gone, "a chat is due to it, and cannot be sent");
    drop(connection);
    assert!(matches!(witness.next().await, Some(Message::Joined(_))));
    assert!(matches!(witness.next().await, Some(Message::Chat(_))));
    match witness.next().await {
        Some(Message::Left(left)) => assert_eq!(left.reason(), LeftReason::Leave),
        message => panic!("{message:?}"),
    }
}

/// CHAT-NAME-8: its answer is there, and was not read because more of the members was
/// due to it.
#[tokio::test(start_paused = true)]
async fn a_holder_that_is_being_told_who_is_there_is_read_before_it_is_judged() {
    let limits = Limits {
        frame_bytes_max: 1_024,
        text_bytes_max: 256,
        ..unlimited()
    };
    let deadline = Duration::from_millis(limits.name_check_deadline_ms.into());
    // Nobody ticks but this test.
    let hub = Arc::new(Hub::new(limits, AccessPolicy::default(), "test".to_owned()));
    let mut members = Vec::new();
    for index in 0..100 {
        let name = format!("member-with-a-long-name-{index}");
        members.push(Peer::member(&hub, &name, &[], 1_024).await);
    }
    let (near, mut far) = tokio::io::duplex(1_024);
    let mut connection = Connection::new(near, Arc::clone(&hub), None);
    let held = encoded(register_with(
        "Alice",
        &[Capability::Presence, Capability::Keepalive],
    ));
    far.write_all(&held).await.expect("it is open");
    assert!(!take_turn(&mut connection));
    let mut newcomer = Peer::connect(&hub, 1_024);
    newcomer.send(register("Alice")).await;
    // A moment later it is asked.
    tokio::time::sleep(Duration::from_millis(1)).await;
    hub.tick();
    assert!(!take_turn(&mut connection));
    tokio::time::advance(deadline).await;
    hub.tick();
    let pong = Sent::Pong(wire::Pong { token: 0 });
    far.write_all(&encoded(pong)).await.expect("it is open");
    let mut taken = [0; 1_024];
    far.read_exact(&mut taken).await.expect("more of a page");
    assert!(!take_turn(&mut connection));
    hub.tick();
    newcomer.expect_error(ErrorCode::NameInUse).await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_connect_again_by_themselves_do_not_throw_each_other_out() {
    let hub = hub(Limits::default());
    let mut usage = Peer::connect(&hub, 1_024);
    usage.send(register("Alice")).await;
    let holding = tokio::spawn(async move {
        let mut pings = 0;
        loop {
            match usage.next().await {
                Some(Message::Registered(_)) => {}
                Some(Message::Ping(wire::Ping { token })) => {
                    pings += 1;
                    usage.send(Sent::Pong(wire::Pong { token })).await;
                }
                Some(Message::ServerClosing(_)) => return pings,
                message => panic!("{message:?}"),
            }
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(100) {
        let asked = Instant::now();
        let mut other = Peer::connect(&hub, 1_024);
        other.send(register("Alice")).await;
        other.expect_error(ErrorCode::NameInUse).await;
        let after_ms = asked.elapsed().as_millis();
        assert!(after_ms <= 300, "{after_ms}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    hub.begin_closing("test".to_owned());
    // Once in five seconds and for its silence, however many ask.
    let pings = holding.await.expect("it kept its name");
    assert!((15..=25).contains(&pings), "{pings}");
}

/// Sends `count` of `message` and returns how long it took for all their answers
/// to come.
async fn answered_after_ms(mut peer: Peer, message: Sent, count: usize) -> u128 {
    let start = Instant::now();
    let bytes = encoded(message).repeat(count);
    let (mut reading, mut writing) = tokio::io::split(peer.stream);
    let writing = tokio::spawn(async move { writing.write_all(&bytes).await });
    let mut answers = 0;
    while answers < count {
        match frame::split(&peer.held, u32::MAX).expect("frames") {
            Split::Frame { rest, .. } => {
                peer.held = rest.to_vec();
                answers += 1;
            }
            Split::Partial => {
                let read = timeout(LONG, reading.read_buf(&mut peer.held)).await;
                assert!(read.expect("an answer").expect("it is open") > 0);
            }
        }
    }
    writing.await.expect("no panic").expect("all is taken");
    start.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn who_floods_is_made_to_wait_and_loses_nothing() {
    // CHAT-LIM-9
    let hub = hub(Limits {
        frames_per_second_max: Some(100),
        ..unlimited()
    });
    let keepalive = [Capability::Keepalive];
    let flooder = Peer::member(&hub, "flooder", &keepalive, 1_024).await;
    let flood = tokio::spawn(answered_after_ms(
        flooder,
        Sent::Ping(wire::Ping { token: 1 }),
        100_000,
    ));
    let mut alice = Peer::member(&hub, "alice", &[], 1_024).await;
    let mut bob = Peer::member(&hub, "bob", &[], 1_024).await;
    for seq in 1..=100 {
        let start = Instant::now();
        alice.send(chat(10)).await;
        assert_eq!(bob.next_seq().await, seq);
        assert_eq!(start.elapsed(), Duration::ZERO, "others do not notice");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    // Ten seconds' worth at once, then a hundred a second.
    let after_ms = flood.await.expect("all of it is answered");
    assert!((985_000..995_000).contains(&after_ms), "{after_ms}");
}

#[tokio::test(start_paused = true)]
async fn long_frames_count_by_their_bytes() {
    let hub = hub(Limits {
        bytes_per_second_max: Some(10_000),
        ..unlimited()
    });
    let peer = Peer::member(&hub, "peer", &[Capability::Receipts], 65_536).await;
    // A megabyte, of which a tenth comes at once.
    let after_ms = answered_after_ms(peer, chat(997), 1_000).await;
    assert!((85_000..95_000).contains(&after_ms), "{after_ms}");
}

#[tokio::test(start_paused = true)]
async fn who_keeps_to_the_rate_of_chats_is_not_made_to_wait() {
    let hub = hub(Limits::default());
    let mut peer = Peer::member(&hub, "peer", &[Capability::Receipts], 1_024).await;
    for count in 0..1_000 {
        if count >= 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let start = Instant::now();
        peer.send(chat(4_096)).await;
        assert!(matches!(peer.next().await, Some(Message::Receipt(_))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn queues_that_take_too_much_are_emptied_the_largest_first() {
    const HOGS: usize = 80;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        queue_bytes_max: LAG_BYTES_FLOOR,
        ..unlimited()
    });
    let mut hogs = Vec::new();
    for index in 0..HOGS {
        let mut hog = Peer::member(&hub, &format!("hog{index}"), &[], 1_024).await;
        // Answers to empty frames, which it does not read: 32 KiB at least.
        let frames = [0; 3_000];
        let _ = timeout(Duration::from_millis(1), hog.stream.write_all(&frames)).await;
        hogs.push(hog);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut alice = Peer::member(&hub, "alice", &[], 1_024).await;
    let mut bob = Peer::member(&hub, "bob", &[], 1_024).await;
    alice.send(chat(10)).await;
    assert_eq!(bob.next_seq().await, 1);
    let mut evicted = 0;
    for hog in &mut hogs {
        let mut ended = None;
        // A hog that stays is told of its errors, and then of the chat.
        while ended.is_none() {
            match hog.next().await.expect("its end is told") {
                Message::Error(error) if error.ends_session => ended = Some(error.code()),
                Message::Error(_) => {}
                Message::Chat(_) => break,
                message => panic!("{message:?}"),
            }
        }
        if let Some(code) = ended {
            assert_eq!(code, ErrorCode::Overloaded);
            assert_eq!(hog.next().await, None);
            evicted += 1;
        }
    }
    // As many as it takes: the others have what they are allowed beside a segment of
    // log, at most 48 of them with 32 KiB each.
    assert!((32..60).contains(&evicted), "{evicted}");
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_a_peer_that_is_still_sending() {
    let hub = hub(Limits::default());
    let mut peer = Peer::connect(&hub, 1_024);
    peer.send(chat(10)).await;
    peer.expect_error(ErrorCode::NotRegistered).await;
    // It goes on sending, and finds the end when the server has had enough.
    let mut sent_bytes = 0;
    while sent_bytes < 1 << 30
        && let Ok(Ok(bytes)) = timeout(LONG, peer.stream.write(&[0; 1_024])).await
    {
        sent_bytes += bytes;
    }
    assert!((100_000..10_000_000).contains(&sent_bytes), "{sent_bytes}");
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_that_is_held_open_is_let_go() {
    let hub = hub(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let mut held = Peer::member(&hub, "held", &[], 1_024).await;
    held.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(held.next().await, None);
    // Its peer does not close. The place is free again after the linger time.
    let mut early = Peer::connect(&hub, 1_024);
    early.expect_error(ErrorCode::ServerFull).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Peer::member(&hub, "next", &[], 1_024).await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_beyond_what_is_retained_loses_nothing_when_all_are_slow() {
    const CHATS: u64 = 20_000;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        ..unlimited()
    });
    let readers = three_readers(&hub).await;
    let sender = Peer::member(&hub, "sender", &[], 8_192).await;
    let sending = tokio::spawn(async move {
        let mut sender = sender;
        for _ in 0..CHATS {
            sender.send(chat(400)).await;
        }
        sender
    });
    let reading = readers.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            for seq in 1..=CHATS {
                assert_eq!(reader.next_seq().await, seq);
                // Slower than the sender could send.
                if seq % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("all of it, in order");
    }
    sending.await.expect("all of it was taken");
}

/// Many who read slowly, and who say more than they read, keep the room waiting. Two
/// who say little do not notice.
#[tokio::test(start_paused = true)]
async fn a_room_that_waits_for_slow_readers_does_not_hold_up_who_says_little() {
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        ..unlimited()
    });
    let slow = three_readers(&hub).await.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            while reader.next().await.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let slow: Vec<_> = slow.collect();
    let mut loud = Peer::member(&hub, "loud", &[], 8_192).await;
    tokio::spawn(async move {
        loop {
            loud.send(chat(400)).await;
        }
    });
    // Holds all that it is sent here.
    let mut first = Peer::member(&hub, "first", &[], 1 << 25).await;
    let mut second = Peer::member(&hub, "second", &[], 8_192).await;
    let mut paused = 0;
    for said in 0..100 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        paused += u32::from(hub.is_paused());
        let before = Instant::now();
        first.send(chat(20 + said)).await;
        let heard = timeout(Duration::from_secs(10), async {
            loop {
                match second.next().await {
                    Some(Message::Chat(chat)) if chat.sender == "first" => break,
                    Some(Message::Chat(_)) => {}
                    message => panic!("no chat but {message:?}"),
                }
            }
        });
        heard.await.expect("it comes soon");
        let waited_ms = before.elapsed().as_millis();
        assert!(waited_ms <= 300, "message {said} took {waited_ms} ms");
    }
    assert!(paused > 90, "the room waited {paused} times of 100");
    drop(slow);
}

/// CHAT-LIM-2: what could not be read in time was said in time.
#[tokio::test(start_paused = true)]
async fn who_keeps_to_the_rate_is_refused_nothing_for_having_been_waited_with() {
    const INTERVAL_MS: u64 = 100;
    const CHATS: u32 = 600;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        chat_burst: 5,
        chat_interval_ms: Some(INTERVAL_MS as u32),
        ..unlimited()
    });
    for mut reader in three_readers(&hub).await {
        tokio::spawn(async move {
            while reader.next().await.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let mut senders = Vec::new();
    for index in 0..2 {
        // Holds all that it sends and is sent.
        senders.push(Peer::member(&hub, &format!("sender{index}"), &[], 1 << 25).await);
    }
    let mut silent = Peer::member(&hub, "silent", &[], 1 << 25).await;
    let mut paused = 0;
    for _ in 0..CHATS {
        for sender in &mut senders {
            sender.send(chat(4_000)).await;
        }
        tokio::time::sleep(Duration::from_millis(INTERVAL_MS)).await;
        paused += u32::from(hub.is_paused());
    }
    assert!(paused > CHATS / 4, "the room waited {paused} times");
    // Who was silent has saved up nothing by that.
    for _ in 0..60 {
        silent.send(chat(10)).await;
    }
    let mut refused = 0;
    while refused < 40 {
        match silent.next().await {
            Some(Message::Chat(_)) => {}
            Some(Message::Error(error)) if error.code() == ErrorCode::RateLimited => refused += 1,
            message => panic!("{refused} refused, then {message:?}"),
        }
    }
    for sender in &mut senders {
        let mut heard = 0;
        while heard < CHATS {
            match sender.next().await {
                Some(Message::Chat(chat)) => heard += u32::from(chat.sender != "silent"),
                message => panic!("after {heard}: {message:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_stops_reading_holds_up_a_burst_for_a_bounded_while() {
    const CHATS: u64 = 20_000;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        ..unlimited()
    });
    let mut stuck = Peer::member(&hub, "stuck", &[], 8_192).await;
    let readers = three_readers(&hub).await;
    let mut sender = Peer::member(&hub, "sender", &[], 8_192).await;
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..CHATS {
            sender.send(chat(400)).await;
        }
        sender
    });
    let reading = readers.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            for seq in 1..=CHATS {
                assert_eq!(reader.next_seq().await, seq);
            }
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("all of it, in order");
    }
    sending.await.expect("all of it was taken");
    // Far less than the write deadline, and less than two members that stop by
    // turns could make of it (src/server/slow_consumer.rs).
    let after_ms = start.elapsed().as_millis();
    assert!(after_ms < 3_000, "{after_ms}");
    let mut seq = 0;
    while let Some(Message::Chat(chat)) = stuck.next().await {
        seq += 1;
        assert_eq!(chat.seq, seq);
    }
    assert!(seq < CHATS);
    assert_eq!(stuck.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_the_close_is_delivered_before_it() {
    let hub = hub(unlimited());
    let mut reader = Peer::member(&hub, "reader", &[], 256).await;
    let mut newcomer = Peer::connect(&hub, 256);
    let mut sender = Peer::member(&hub, "sender", &[Capability::Receipts], 1 << 20).await;
    for _ in 0..50 {
        sender.send(chat(100)).await;
    }
    for _ in 0..50 {
        assert!(matches!(sender.next().await, Some(Message::Receipt(_))));
    }
    hub.begin_closing("test".to_owned());
    let closing = Some(Message::ServerClosing(wire::ServerClosing {
        detail: "test".to_owned(),
    }));
    assert_eq!(newcomer.next().await, closing);
    assert_eq!(newcomer.next().await, None);
    assert_eq!(sender.next().await, closing);
    for seq in 1..=50 {
        assert_eq!(reader.next_seq().await, seq); // CHAT-CLOSE-6
    }
    assert_eq!(reader.next().await, closing);
    assert_eq!(reader.next().await, None); // CHAT-CLOSE-2
    let mut late = Peer::connect(&hub, 256);
    assert_eq!(late.next().await, closing);
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_a_leave_is_delivered_before_the_end() {
    let hub = hub(unlimited());
    let mut leaver = Peer::member(&hub, "leaver", &[Capability::Receipts], 256).await;
    let mut sender = Peer::member(&hub, "sender", &[Capability::Receipts], 1 << 20).await;
    for _ in 0..50 {
        sender.send(chat(100)).await;
        assert!(matches!(sender.next().await, Some(Message::Receipt(_))));
    }
    leaver.send(chat(1)).await;
    leaver.send(Sent::Leave(wire::Leave {})).await;
    let own = sender.next_seq().await;
    sender.send(chat(100)).await;
    let mut seq = 0;
    let mut receipts = 0;
    while let Some(message) = leaver.next().await {
        match message {
            Message::Chat(chat) => {
                seq += 1;
                assert_eq!(chat.seq, seq);
            }
            Message::Receipt(receipt) => {
                assert_eq!(receipt.seq, own); // CHAT-LEAVE-3
                receipts += 1;
            }
            message => panic!("{message:?}"),
        }
    }
    assert_eq!((seq, own, receipts), (50, 51, 1));
}
