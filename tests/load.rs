//! Load: bursts through a running server lose nothing, and two thousand members chat at
//! once.

mod support;

use std::{
    collections::BTreeMap,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use chat::wire::Capability;
use socket2::SockRef;

use support::{NOTHING, PATIENCE, Peer, Received, TestServer, chat, frames};

/// CHAT-ORD-2, CHAT-ORD-3, CHAT-ORD-4, CHAT-CHAT-2, CHAT-LIM-6: senders that are faster
/// than the readers are slowed down. Nothing is lost, though the server keeps a fraction
/// of the burst.
#[test]
fn a_burst_loses_nothing() {
    const SENDERS: usize = 4;
    const CHATS_EACH: usize = 6_000;
    const READERS: usize = 8;
    /// For how long all readers stop once, as in a hiccup of a network. The whole room is
    /// slow then, so the senders wait for it.
    const HICCUP: Duration = Duration::from_millis(400);
    let server = TestServer::start(&["--rate-limit", "off", "--lag-bytes-max", "2097152"]);
    let senders: Vec<_> = (0..SENDERS)
        .map(|index| Peer::join(&server, &format!("sender{index}")))
        .collect();
    let readers: Vec<_> = (0..READERS)
        .map(|index| {
            let reader = Peer::join(&server, &format!("reader{index}"));
            // Little of the burst fits into the system's buffers.
            SockRef::from(&reader.stream)
                .set_recv_buffer_size(64 * 1024)
                .expect("any size is allowed");
            reader
        })
        .collect();
    // About 1,500 bytes each: fifteen times what the server keeps.
    let text = |sender: usize, number: usize| format!("{sender} {number} {}", "x".repeat(1_480));

    let reading: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            thread::spawn(move || {
                let mut next_of = [0; SENDERS];
                for seq in 1..=(SENDERS * CHATS_EACH) as u64 {
                    let chat = reader.chat();
                    assert_eq!(chat.seq, seq, "CHAT-ORD-1, CHAT-ORD-2");
                    let mut words = chat.text.split(' ');
                    let mut number = || -> usize {
                        let word = words.next().expect("it was sent so");
                        word.parse().expect("a number")
                    };
                    let (sender, number) = (number(), number());
                    assert_eq!(chat.sender, format!("sender{sender}"));
                    assert_eq!(number, next_of[sender], "CHAT-ORD-3");
                    next_of[sender] += 1;
                    if seq == 3_000 {
                        thread::sleep(HICCUP);
                    }
                }
            })
        })
        .collect();
    let sending: Vec<_> = senders
        .into_iter()
        .enumerate()
        .map(|(index, mut sender)| {
            let mut writer = Peer::from_stream(sender.stream.try_clone().expect("a copy"));
            let writing = thread::spawn(move || {
                for start in (0..CHATS_EACH).step_by(100) {
                    let chats: Vec<_> = (start..start + 100)
                        .map(|number| chat(&text(index, number)))
                        .collect();
                    writer.send_bytes(&frames(&chats));
                }
            });
            // A sender receives the chats of the others, and never its own.
            thread::spawn(move || {
                let own = format!("sender{index}");
                let mut last_seq = 0;
                for _ in 0..(SENDERS - 1) * CHATS_EACH {
                    let chat = sender.chat();
                    assert_ne!(chat.sender, own, "CHAT-CHAT-2");
                    assert!(chat.seq > last_seq);
                    last_seq = chat.seq;
                }
                writing.join().expect("the server reads on");
                sender
            })
        })
        .collect();
    for reader in reading {
        reader.join().expect("a reader got everything");
    }
    let mut senders: Vec<_> = sending
        .into_iter()
        .map(|sender| sender.join().expect("a sender got everything"))
        .collect();
    // Nothing else follows the burst.
    let (first, others) = senders.split_first_mut().expect("there are some");
    first.say("the end");
    for other in others {
        other.hears("the end");
    }
}

/// CHAT-CLOSE-5, CHAT-CLOSE-6: a signal closes the server in the middle of a burst. Every
/// member receives all accepted chats, up to the same number, and then ServerClosing.
#[test]
fn all_members_receive_the_same_chats_before_server_closing() {
    for _ in 0..3 {
        let mut server = TestServer::start(&["--rate-limit", "off", "--lag-bytes-max", "2097152"]);
        let receipts = [Capability::Receipts];
        let senders: Vec<_> = (0..3)
            .map(|index| Peer::join_with(&server, &format!("sender{index}"), &receipts).0)
            .collect();
        let readers: Vec<_> = (0..8)
            .map(|index| Peer::join(&server, &format!("reader{index}")))
            .collect();
        let (in_the_middle, is_in_the_middle) = mpsc::sync_channel(16);
        let sending: Vec<_> = senders
            .into_iter()
            .map(|mut sender| {
                let stream = sender.stream.try_clone().expect("a copy");
                thread::spawn(move || {
                    let writing = thread::spawn(move || {
                        use std::io::Write;
                        let chats: Vec<_> = (0..100).map(|_| chat("hello, everybody")).collect();
                        let bytes = frames(&chats);
                        // Until the server closes.
                        while (&stream).write_all(&bytes).is_ok() {}
                    });
                    let mut seqs = Vec::new();
                    let mut is_told = false;
                    // The system may drop the last bytes of a server to a client that
                    // continues to send, so the stream may end anywhere.
                    while let Some(message) = sender.recv_or_cut() {
                        assert!(!is_told, "CHAT-CLOSE-2");
                        match message {
                            Received::Chat(chat) => seqs.push(chat.seq),
                            Received::Receipt(receipt) => seqs.push(receipt.seq),
                            Received::ServerClosing(_) => {
                                is_told = true;
                                // CHAT-CLOSE-4
                                let _ = sender.stream.shutdown(std::net::Shutdown::Write);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    writing.join().expect("it stops at an error");
                    seqs.sort_unstable();
                    (seqs, is_told)
                })
            })
            .collect();
        let reading: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let in_the_middle = in_the_middle.clone();
                thread::spawn(move || {
                    let mut last_seq = 0;
                    loop {
                        match reader.recv() {
                            Received::Chat(chat) => {
                                assert_eq!(chat.seq, last_seq + 1);
                                last_seq = chat.seq;
                                if last_seq == 20_000 {
                                    let _ = in_the_middle.send(());
                                }
                            }
                            Received::ServerClosing(_) => break,
                            other => panic!("{other:?}"),
                        }
                    }
                    reader.is_closed();
                    last_seq
                })
            })
            .collect();
        is_in_the_middle
            .recv_timeout(PATIENCE)
            .expect("the burst goes on");
        server.signal("TERM");
        let mut ends = BTreeMap::new();
        for reader in reading {
            let last_seq = reader.join().expect("a reader got everything");
            *ends.entry(last_seq).or_insert(0) += 1;
        }
        assert_eq!(ends.len(), 1, "{ends:?}");
        let (&end, _) = ends.first_key_value().expect("there are readers");
        for sender in sending {
            let (seqs, is_told) = sender.join().expect("a sender");
            if is_told {
                assert_eq!(seqs, (1..=end).collect::<Vec<_>>());
            }
        }
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// Two thousand members connect at once; one chats to all, and fifty answer.
#[test]
fn two_thousand_members_chat_at_once() {
    const MEMBERS: usize = 2_000;
    // Descriptors for the sockets of this process, and some more.
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("the system says");
    assert!(limit > MEMBERS as u64 + 200, "this needs file descriptors");
    let server = TestServer::start(&[]);
    let start = Instant::now();
    // All of them connect before the first registers.
    let mut peers: Vec<_> = (0..MEMBERS).map(|_| Peer::connect(&server)).collect();
    for (index, peer) in peers.iter_mut().enumerate() {
        peer.send(&support::register(&format!("member{index}"), NOTHING));
    }
    for peer in &mut peers {
        peer.registered();
    }
    let (first, others) = peers.split_first_mut().expect("there are some");
    first.say("can you all hear me?");
    for other in &mut *others {
        other.hears("can you all hear me?");
    }
    for other in &mut others[..50] {
        other.say("yes");
    }
    for _ in 0..50 {
        first.hears("yes");
    }
    let elapsed = start.elapsed();
    assert!(elapsed < PATIENCE, "{elapsed:?}");
}
