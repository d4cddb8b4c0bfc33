//! Clients that do not read, or not fast enough.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use chat::wire::{Capability, ErrorCode, LeftReason};

use crate::support::{NOTHING, Peer, Received, TestServer, chat, frames, ping};

/// What the server keeps for those behind, in these tests.
const LAG_BYTES_MAX: &str = "2097152";

fn long_chats(count: usize) -> Vec<u8> {
    let text = "x".repeat(4_000);
    frames(&(0..count).map(|_| chat(&text)).collect::<Vec<_>>())
}

/// CHAT-LIM-4, CHAT-LIM-5, CHAT-ORD-4, CHAT-PRES-5: the others get everything;
/// who is too far behind is told, as the last thing it hears, if it reads again.
#[test]
fn a_member_that_does_not_read_holds_nobody_and_is_told() {
    let server = TestServer::start(&[
        "--rate-limit",
        "off",
        "--lag-bytes-max",
        LAG_BYTES_MAX,
        // So that only being behind can close it.
        "--write-deadline-ms",
        "60000",
    ]);
    let stuck = Peer::join_narrow(&server, "Stuck", NOTHING);
    let mut sender = Peer::join(&server, "Sender");
    let (mut reader, _) = Peer::join_with(&server, "Reader", &[Capability::Presence]);
    reader.sees_members();

    // Twenty times what the server keeps.
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
                // Reads again, while the others go on.
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

/// CHAT-LIM-5: also when nobody says anything more.
#[test]
fn who_takes_nothing_for_the_write_deadline_is_closed() {
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
    // The connection is closed too, even though it cannot be told.
    let _sender = sending.join().expect("the server reads it all");
    let taken = (0..).take_while(|_| stuck.stream_goes_on()).count();
    assert!(taken < 1_000, "much of it was never sent");
    Peer::join(&server, "Stuck");
}

impl Peer {
    /// Reads once, whatever it is.
    fn stream_goes_on(&mut self) -> bool {
        use std::io::Read;
        let mut bytes = [0; 64 * 1024];
        self.stream.read(&mut bytes).is_ok_and(|count| count > 0)
    }
}

/// CHAT-LIM-5: reading slowly is not the same as not reading. Who always takes
/// something within the deadline is not closed for it, however much the system
/// keeps between the two.
#[test]
fn who_reads_slowly_gets_everything() {
    let server = TestServer::start(&["--rate-limit", "off", "--write-deadline-ms", "1500"]);
    let mut slow = Peer::join_narrow(&server, "Slow", NOTHING);
    let mut sender = Peer::join(&server, "Sender");
    // More than a socket holds.
    const CHATS: u64 = 2_000;
    sender.send_bytes(&long_chats(CHATS as usize));
    // Slowness is what this test is about: 200 kB a second, for so long that the
    // deadline passes twice.
    let start = Instant::now();
    for seq in 1..=CHATS {
        assert_eq!(slow.chat().seq, seq);
        if seq % 5 == 0 && start.elapsed() < Duration::from_secs(4) {
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// CHAT-LIM-5, CHAT-LIM-6: replies that are not read stop the reading, so they
/// take little memory, and then they end the session.
#[test]
fn who_sends_without_reading_the_replies_is_not_read_from_and_then_closed() {
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
    // What makes replies: pings, chats with a receipt, chats that are refused,
    // and empty frames, one byte each with an answer of sixty.
    let refused = frames(&[chat("")]);
    let floods = [
        ("Pings", frames(&[ping(u64::MAX)])),
        ("Refused", refused),
        ("Empty", vec![0]),
    ];
    let mut flooders = Vec::new();
    for (name, one) in floods {
        let mut flooder = Peer::join_narrow(&server, name, &all);
        watcher.sees_joined(name);
        flooders.push(thread::spawn(move || {
            let many = one.repeat(64 * 1024 / one.len());
            // Ends when the server closes; until then it blocks.
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

/// A server whose clients are stuck has nothing to do, and does nothing.
#[test]
fn a_server_at_rest_rests() {
    let server = TestServer::start(&["--rate-limit", "off", "--write-deadline-ms", "60000"]);
    let mut sender = Peer::join(&server, "Sender");
    let mut witness = Peer::join(&server, "Witness");
    let _stuck: Vec<_> = (0..10)
        .map(|index| Peer::join_narrow(&server, &format!("stuck{index}"), NOTHING))
        .collect();
    let mut unregistered = Peer::connect(&server);
    unregistered.send_bytes(&[5]); // a frame that never comes
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
        "{used_ticks} hundredths of a second in one"
    );
}
