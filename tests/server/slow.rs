//! Slow consumers, over sockets: clients that do not read, or not fast enough.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use chat::wire::{Capability, ErrorCode, LeftReason};

use crate::support::{NOTHING, Peer, Received, TestServer, chat, frames, ping};

/// How far a member may fall behind in these tests, in bytes.
const LAG_BYTES_MAX: &str = "2097152";

fn long_chats(count: usize) -> Vec<u8> {
    let text = "x".repeat(4_000);
    frames(&(0..count).map(|_| chat(&text)).collect::<Vec<_>>())
}

/// CHAT-LIM-4, CHAT-LIM-5, CHAT-ORD-4, CHAT-PRES-5: the others receive everything. A
/// member that is too far behind receives an error last, if it reads again.
#[test]
fn a_member_that_does_not_read_delays_no_other_and_is_told() {
    let server = TestServer::start(&[
        "--rate-limit",
        "off",
        "--lag-bytes-max",
        LAG_BYTES_MAX,
        // Too long to close it, so that only its lag does.
        "--write-deadline-ms",
        "60000",
    ]);
    let stuck = Peer::join_narrow(&server, "Stuck", NOTHING);
    let mut sender = Peer::join(&server, "Sender");
    let (mut reader, _) = Peer::join_with(&server, "Reader", &[Capability::Presence]);
    reader.sees_members();

    // Twenty times LAG_BYTES_MAX.
    const CHATS: u64 = 10_000;
    let sending = thread::spawn(move || {
        sender.send_bytes(&long_chats(CHATS as usize));
        sender
    });
    let mut next_seq = 1;
    let mut stuck = Some(stuck);
    let mut reading = None;
    while next_seq <= CHATS || reading.is_none() {
        match reader.recv() {
            Received::Chat(chat) => {
                assert_eq!(chat.seq, next_seq);
                next_seq += 1;
            }
            Received::Left(left) => {
                assert_eq!(left.name, "Stuck");
                assert_eq!(left.reason(), LeftReason::SlowConsumer);
                let mut stuck = stuck.take().expect("it leaves once");
                // It reads again while the others chat on.
                reading = Some(thread::spawn(move || stuck.rest()));
            }
            other => panic!("{other:?}"),
        }
    }
    let told = reading.expect("it was closed").join().expect("it ends");
    let (last, before) = told.split_last().expect("something was sent");
    assert!(
        matches!(last, Received::Error(error) if error.ends_session
            && error.code() == ErrorCode::SlowConsumer),
        "{last:?}"
    );
    assert!(!before.is_empty());
    for (index, message) in before.iter().enumerate() {
        assert!(matches!(message, Received::Chat(chat) if chat.seq == index as u64 + 1));
    }
    // CHAT-NAME-5
    let mut stuck = Peer::join(&server, "STUCK");
    let mut sender = sending.join().expect("the server reads again");
    sender.say("and on we go");
    reader.sees_joined("STUCK");
    reader.hears("and on we go");
    stuck.hears("and on we go");
}

/// CHAT-LIM-5: also if no further chats are sent.
#[test]
fn a_member_that_takes_no_bytes_for_the_write_deadline_is_closed() {
    let server = TestServer::start(&["--rate-limit", "off", "--write-deadline-ms", "300"]);
    let mut stuck = Peer::join_narrow(&server, "Stuck", NOTHING);
    let mut sender = Peer::join(&server, "Sender");
    let (mut reader, _) = Peer::join_with(&server, "Reader", &[Capability::Presence]);
    reader.sees_members();
    let sending = thread::spawn(move || {
        sender.send_bytes(&long_chats(2_000));
        sender
    });
    let mut next_seq = 1;
    let mut is_gone = false;
    while next_seq <= 2_000 || !is_gone {
        match reader.recv() {
            Received::Chat(chat) => {
                assert_eq!(chat.seq, next_seq);
                next_seq += 1;
            }
            Received::Left(left) => {
                assert_eq!(left.name, "Stuck");
                assert_eq!(left.reason(), LeftReason::SlowConsumer);
                is_gone = true;
            }
            other => panic!("{other:?}"),
        }
    }
    // The connection is closed, though the error cannot be sent.
    let _sender = sending.join().expect("the server reads it all");
    let reads = (0..).take_while(|_| stuck.stream_goes_on()).count();
    assert!(reads < 1_000, "most of it was never sent");
    Peer::join(&server, "Stuck");
}

impl Peer {
    /// Reads once. Returns whether the stream goes on.
    fn stream_goes_on(&mut self) -> bool {
        use std::io::Read;
        let mut bytes = [0; 64 * 1024];
        self.stream.read(&mut bytes).is_ok_and(|count| count > 0)
    }
}

/// CHAT-LIM-5: a member that takes some bytes within each write deadline is not closed for
/// it, however many bytes the system's buffers hold.
#[test]
fn a_slow_reader_receives_everything() {
    let server = TestServer::start(&["--rate-limit", "off", "--write-deadline-ms", "1500"]);
    let mut slow = Peer::join_narrow(&server, "Slow", NOTHING);
    let mut sender = Peer::join(&server, "Sender");
    // More than the socket's buffers hold.
    const CHATS: u64 = 2_000;
    sender.send_bytes(&long_chats(CHATS as usize));
    // 200 kB a second, for longer than two deadlines.
    let start = Instant::now();
    for seq in 1..=CHATS {
        assert_eq!(slow.chat().seq, seq);
        if seq % 5 == 0 && start.elapsed() < Duration::from_secs(4) {
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// CHAT-LIM-5, CHAT-LIM-6: the server stops reading from a client that does not read its
/// replies, so they take little memory, and then ends the session.
#[test]
fn a_sender_that_does_not_read_replies_is_not_read_from_and_then_closed() {
    let server = TestServer::start(&[
        "--rate-limit",
        "off",
        "--errors-max",
        "off",
        "--write-deadline-ms",
        "2000",
    ]);
    let (mut watcher, _) = Peer::join_with(&server, "Watcher", &[Capability::Presence]);
    watcher.sees_members();
    let before_bytes = server.peak_bytes();
    let all = [Capability::Keepalive, Capability::Receipts];
    // Frames that provoke replies: pings, rejected chats, and empty frames, which take one
    // byte each and are answered with sixty.
    let rejected = frames(&[chat("")]);
    let floods = [
        ("Pings", frames(&[ping(u64::MAX)])),
        ("Rejected", rejected),
        ("Empty", vec![0]),
    ];
    let mut flooders = Vec::new();
    for (name, one) in floods {
        let mut flooder = Peer::join_narrow(&server, name, &all);
        watcher.sees_joined(name);
        flooders.push(thread::spawn(move || {
            let many = one.repeat(64 * 1024 / one.len());
            // A write blocks until the server reads, and fails when it closes.
            let mut sent_bytes = 0;
            while flooder.stream.write_all(&many).is_ok() {
                sent_bytes += many.len();
                assert!(sent_bytes < 256 << 20, "the server never stops reading");
            }
        }));
    }
    let mut left = Vec::new();
    while left.len() < flooders.len() {
        match watcher.recv() {
            Received::Left(gone) => {
                assert_eq!(gone.reason(), LeftReason::SlowConsumer);
                left.push(gone.name);
            }
            other => panic!("{other:?}"),
        }
    }
    let grown_bytes = server.peak_bytes() - before_bytes;
    assert!(grown_bytes < 4 << 20, "{grown_bytes}");
    for flooder in flooders {
        flooder.join().expect("it was stopped");
    }
}

/// A server whose clients are all stuck or silent waits without polling.
#[test]
fn a_server_with_stuck_clients_uses_no_processor_time() {
    let server = TestServer::start(&["--rate-limit", "off", "--write-deadline-ms", "60000"]);
    let mut sender = Peer::join(&server, "Sender");
    let mut witness = Peer::join(&server, "Witness");
    let _stuck: Vec<_> = (0..10)
        .map(|index| Peer::join_narrow(&server, &format!("stuck{index}"), NOTHING))
        .collect();
    let mut unregistered = Peer::connect(&server);
    unregistered.send_bytes(&[5]); // a length without its body
    sender.send_bytes(&long_chats(2_000));
    for _ in 0..2_000 {
        witness.chat();
    }
    let before_ticks = server.processor_ticks();
    // The time over which this test measures.
    thread::sleep(Duration::from_secs(1));
    let used_ticks = server.processor_ticks() - before_ticks;
    assert!(
        used_ticks <= 10,
        "{used_ticks} hundredths of a second of processor time in one second"
    );
}
