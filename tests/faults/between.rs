//! The promises that the simulation checks, on the real server, with a proxy that
//! cuts, delays and breaks what goes between. A witness without a proxy hears
//! everything; what it heard is the order that all others are judged by.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::TcpStream,
    thread,
    time::Duration,
};

use chat::wire::{Capability, Chat, LeftReason, Receipt};
use fastrand::Rng;

use crate::{
    proxy::{self, Fault, Way},
    support::{Peer, Received, TestServer, chat_with_id, frames, leave, register},
};

/// How many runs there are, of about two seconds each.
const SEEDS: u64 = 6;

const PEERS: usize = 8;

/// How many chats each peer has to say.
const CHATS: u64 = 40;

/// What one peer has heard.
struct Heard {
    name: String,
    /// Whether it was told that it is registered, and after which number.
    registered: Option<u64>,
    chats: Vec<Chat>,
    receipts: Vec<Receipt>,
    is_whole: bool,
}

#[test]
fn faults_in_between_break_no_promise() {
    for seed in 0..SEEDS {
        run(seed);
    }
}

fn run(seed: u64) {
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let server = TestServer::start(&["--rate-limit", "off"]);
    let (mut witness, _) = Peer::join_with(&server, "Witness", &[Capability::Presence]);
    witness.sees_members();
    let peers: Vec<_> = (0..PEERS)
        .map(|number| {
            // Some go through unharmed, so that the faults of others show.
            let is_harmed = number >= 2;
            let (up, down) = (way(&mut rng, is_harmed), way(&mut rng, is_harmed));
            eprintln!("  peer{number}: up {up:?}, down {down:?}");
            let address = proxy::start(server.address, up, down, rng.fork());
            let rng = rng.fork();
            let may_break = [up, down]
                .iter()
                .any(|way| matches!(way.fault, Some((_, Fault::Reset | Fault::HalfClose))));
            thread::spawn(move || take_part(address, &format!("peer{number}"), rng, !may_break))
        })
        .collect();
    let heard: Vec<_> = peers
        .into_iter()
        .map(|peer| peer.join().expect("it keeps what it heard"))
        .collect();

    // Whoever came has gone: each name once in, once out, and it is free again.
    let mut present = BTreeSet::new();
    let mut came = BTreeMap::new();
    let mut order = Vec::new();
    let mut last = Peer::join(&server, "Last");
    last.say("the end");
    loop {
        match witness.recv() {
            Received::Joined(joined) => {
                assert!(
                    present.insert(joined.name.clone()),
                    "CHAT-NAME-3: {joined:?}"
                );
                came.insert(joined.name, order.len() as u64);
            }
            Received::Left(left) => {
                assert!(present.remove(&left.name), "{left:?} was not there");
                assert_ne!(left.reason(), LeftReason::IdleTimeout, "{left:?}");
                assert_ne!(left.reason(), LeftReason::SlowConsumer, "{left:?}");
            }
            Received::Chat(chat) if chat.sender == "Last" => {
                if present.len() == 1 {
                    break;
                }
                // Somebody's end is still under way.
                thread::sleep(Duration::from_millis(20));
                order.push(chat);
                last.say("the end");
            }
            Received::Chat(chat) => {
                assert!(present.contains(&chat.sender), "CHAT-PRES-2: {chat:?}");
                order.push(chat);
            }
            other => panic!("{other:?}"),
        }
    }
    for (index, chat) in order.iter().enumerate() {
        assert_eq!(chat.seq, index as u64 + 1, "CHAT-ORD-1");
    }
    for one in &heard {
        judge(one, &order, &came);
    }
}

/// What one peer heard, by the order that the witness heard.
fn judge(heard: &Heard, order: &[Chat], came: &BTreeMap<String, u64>) {
    let name = &heard.name;
    let said: Vec<_> = order.iter().filter(|chat| chat.sender == *name).collect();
    for (index, chat) in said.iter().enumerate() {
        // What was cut off is the end of it, nothing in between (CHAT-ORD-3).
        assert_eq!(chat.text, text(name, index as u64 + 1), "CHAT-ORD-3");
    }
    let Some(after) = heard.registered else {
        assert!(
            heard.chats.is_empty() && heard.receipts.is_empty(),
            "CHAT-REG-3"
        );
        return;
    };
    assert_eq!(came.get(name), Some(&after), "CHAT-ORD-6: {name}");
    let due: Vec<_> = order[after as usize..]
        .iter()
        .filter(|chat| chat.sender != *name)
        .collect();
    assert!(
        heard.chats.len() <= due.len(),
        "{name} heard more than was said"
    );
    for (chat, due) in heard.chats.iter().zip(due) {
        assert_eq!(chat, due, "CHAT-ORD-4: {name} has a gap");
    }
    for (index, receipt) in heard.receipts.iter().enumerate() {
        let chat = said.get(index).expect("CHAT-RCPT-1: it is in the order");
        let told = (receipt.id, receipt.seq, receipt.time_unix_ms);
        assert_eq!(
            told,
            (index as u64 + 1, chat.seq, chat.time_unix_ms),
            "CHAT-RCPT-2"
        );
    }
    if heard.is_whole {
        assert_eq!(heard.receipts.len() as u64, CHATS, "{name} lost a receipt");
        let until = said.last().map_or(0, |chat| chat.seq);
        let before_leave = order[after as usize..until as usize].iter();
        let due = before_leave.filter(|chat| chat.sender != *name).count();
        assert!(heard.chats.len() >= due, "CHAT-LEAVE-2: {name}");
    }
}

fn text(name: &str, number: u64) -> String {
    format!("{name} says {number}")
}

/// Registers, says all it has to say, leaves, and reads to the end.
fn take_part(address: std::net::SocketAddr, name: &str, mut rng: Rng, is_whole: bool) -> Heard {
    let stream = TcpStream::connect(address).expect("the proxy accepts");
    let mut sending = stream.try_clone().expect("it is open");
    let own_name = name.to_owned();
    let sender = thread::spawn(move || {
        let mut bytes = frames([&register(&own_name, &[Capability::Receipts])]);
        for number in 1..=CHATS {
            bytes.extend(frames([&chat_with_id(&text(&own_name, number), number)]));
            if rng.u8(0..4) == 0 {
                // A connection that broke takes no more; that is no mistake.
                let _ = sending.write_all(&std::mem::take(&mut bytes));
                thread::sleep(Duration::from_millis(rng.u64(0..40)));
            }
        }
        bytes.extend(frames([&leave()]));
        let _ = sending.write_all(&bytes);
    });
    let mut peer = Peer::from_stream(stream);
    let mut heard = Heard {
        name: name.to_owned(),
        registered: None,
        chats: Vec::new(),
        receipts: Vec::new(),
        is_whole,
    };
    while let Some(message) = peer.recv_or_cut() {
        match message {
            Received::Registered(registered) => heard.registered = Some(registered.seq),
            Received::Chat(chat) => heard.chats.push(chat),
            Received::Receipt(receipt) => heard.receipts.push(receipt),
            // The stream was cut inside a frame (CHAT-FRAME-10).
            Received::Error(error) if !is_whole && error.ends_session => {}
            other => panic!("{name} did not ask for {other:?}"),
        }
    }
    sender.join().expect("it ends");
    heard
}

fn way(rng: &mut Rng, is_harmed: bool) -> Way {
    let after_bytes = rng.usize(1..1_500);
    let fault = match rng.u8(0..4) {
        0 => Some(Fault::Reset),
        1 => Some(Fault::HalfClose),
        2 => Some(Fault::StallMs(rng.u64(100..800))),
        _ => None,
    };
    Way {
        slice_bytes_max: rng.choice([1, 3, 100, 4_000]).unwrap_or(1),
        delay_ms_max: rng.choice([0, 0, 1]).unwrap_or(0),
        fault: fault
            .filter(|_| is_harmed)
            .map(|fault| (after_bytes, fault)),
    }
}
