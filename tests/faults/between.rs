//! The promises that the simulation checks, on the real server, with a proxy that
//! cuts, delays and breaks what goes between. A witness without a proxy hears
//! everything; what it heard is the order that all others are judged by.

use std::{
    collections::BTreeMap,
    io::Write,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use chat::wire::{Capability, Chat, ErrorCode, LeftReason, Receipt};
use fastrand::Rng;

use crate::{
    proxy::{self, Fault, Way},
    support::{
        NOTHING, PATIENCE, Peer, Received, TestServer, chat_with_id, frames, leave, register,
    },
};

const PEERS: usize = 8;

/// How many chats each peer has to say.
const CHATS: u64 = 40;

/// How often is asked whether all have gone, in milliseconds.
const ASK_MS: u64 = 20;

/// What all do who take part in a run.
#[derive(Clone, Copy)]
struct Load {
    /// How long each text is, in bytes, at the least.
    text_bytes: usize,
    slices_bytes_max: [usize; 4],
    /// After how many bytes a fault comes, at the most.
    fault_after_bytes_max: usize,
}

/// Little is said, a byte at a time: faults come inside frames.
const SMALL: Load = Load {
    text_bytes: 0,
    slices_bytes_max: [1, 3, 100, 4_000],
    fault_after_bytes_max: 1_000,
};

/// More is said than the system holds for who stalls: the server has to wait.
const LARGE: Load = Load {
    text_bytes: 3_500,
    slices_bytes_max: [1_000, 4_000, 16_000, 60_000],
    fault_after_bytes_max: 100_000,
};

/// What one peer is and has heard.
struct Heard {
    name: String,
    /// Whether all that it says arrives, and all that is said to it.
    is_heard: bool,
    hears_all: bool,
    /// Whether it was told that it is registered, and after which number.
    registered: Option<u64>,
    chats: Vec<Chat>,
    receipts: Vec<Receipt>,
    last_word: Option<ErrorCode>,
}

/// What the witness saw.
#[derive(Default)]
struct Seen {
    order: Vec<Chat>,
    stays: BTreeMap<String, Stay>,
}

/// One member's time in the room: the chats with these indices in the order.
struct Stay {
    from: usize,
    until: Option<usize>,
    reason: LeftReason,
}

/// How often the faults had consequences.
#[derive(Debug, Default)]
struct Tally {
    unharmed: usize,
    cut_off: usize,
    cut_inside_frame: usize,
}

#[test]
fn faults_in_between_break_no_promise() {
    run_all(&SMALL, 0..6);
}

#[test]
fn faults_in_between_break_no_promise_to_those_who_lag() {
    run_all(&LARGE, 100..104);
}

fn run_all(load: &Load, seeds: std::ops::Range<u64>) {
    let mut tally = Tally::default();
    seeds.for_each(|seed| run(seed, load, &mut tally));
    eprintln!("{tally:?}");
    let reached = [tally.unharmed, tally.cut_off, tally.cut_inside_frame];
    assert!(!reached.contains(&0), "some faults did nothing: {tally:?}");
}

fn run(seed: u64, load: &Load, tally: &mut Tally) {
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let server = TestServer::start(&["--rate-limit", "off"]);
    let (mut witness, _) = Peer::join_with(&server, "Witness", &[Capability::Presence]);
    witness.sees_members();
    let watching = thread::spawn(move || watch(&mut witness));
    let peers: Vec<_> = (0..PEERS)
        .map(|number| {
            // Some go through unharmed, so that the faults of others show.
            let is_harmed = number >= 2;
            let up = way(&mut rng, load, is_harmed);
            let down = way(&mut rng, load, is_harmed);
            eprintln!("  peer{number}: up {up:?}, down {down:?}");
            let address = proxy::start(server.address, up, down, rng.fork());
            let rng = rng.fork();
            let heard = Heard {
                name: format!("peer{number}"),
                is_heard: !up.breaks() && !down.resets(),
                hears_all: !down.breaks() && !up.resets(),
                registered: None,
                chats: Vec::new(),
                receipts: Vec::new(),
                last_word: None,
            };
            let text_bytes = load.text_bytes;
            thread::spawn(move || take_part(address, heard, text_bytes, rng))
        })
        .collect();
    let heard: Vec<_> = peers
        .into_iter()
        .map(|peer| peer.join().expect("it keeps what it heard"))
        .collect();

    // Somebody's end may still be under way.
    let mut last = Peer::join(&server, "Last");
    let deadline = Instant::now() + PATIENCE;
    while !watching.is_finished() {
        assert!(Instant::now() < deadline, "somebody has never left");
        last.say("the end");
        thread::sleep(Duration::from_millis(ASK_MS));
    }
    let seen = watching.join().expect("the witness saw what it may see");
    for one in &heard {
        judge(one, &seen, load, tally);
        // Whoever came has gone, and the name is free again.
        Peer::join_with(&server, &one.name.to_uppercase(), NOTHING);
    }
}

/// Watches until the end, when nobody is there any more.
fn watch(witness: &mut Peer) -> Seen {
    let mut seen = Seen::default();
    loop {
        let now = seen.order.len();
        match witness.recv() {
            Received::Joined(joined) => {
                let stay = Stay {
                    from: now,
                    until: None,
                    reason: LeftReason::Unspecified,
                };
                let before = seen.stays.insert(joined.name.clone(), stay);
                assert!(before.is_none(), "CHAT-NAME-3: {joined:?}");
            }
            Received::Left(left) => {
                let stay = seen.stays.get_mut(&left.name);
                let stay = stay.filter(|stay| stay.until.is_none());
                let stay = stay.expect("CHAT-PRES-3: who left was there");
                stay.until = Some(now);
                stay.reason = left.reason();
            }
            Received::Chat(chat) => {
                let stay = seen.stays.get(&chat.sender);
                let is_there = stay.is_some_and(|stay| stay.until.is_none());
                assert!(is_there, "CHAT-PRES-2, CHAT-PRES-3: {chat:?}");
                assert_eq!(chat.seq, now as u64 + 1, "CHAT-ORD-1");
                let is_end = chat.sender == "Last";
                seen.order.push(chat);
                let present = seen.stays.values().filter(|stay| stay.until.is_none());
                if is_end && present.count() == 1 {
                    return seen;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What one peer heard, by what the witness saw.
fn judge(heard: &Heard, seen: &Seen, load: &Load, tally: &mut Tally) {
    let name = &heard.name;
    let is_unharmed = heard.is_heard && heard.hears_all;
    let said: Vec<_> = seen.order.iter().filter(|c| c.sender == *name).collect();
    for (index, chat) in said.iter().enumerate() {
        // What was cut off is the end of it, nothing in between.
        let text = text(name, index as u64 + 1, load.text_bytes);
        assert_eq!(chat.text, text, "CHAT-ORD-3");
    }
    let Some(stay) = seen.stays.get(name) else {
        let is_silent = heard.chats.is_empty() && heard.receipts.is_empty();
        assert!(
            is_silent && heard.registered.is_none() && !is_unharmed,
            "CHAT-REG-3: {name} was never there"
        );
        return;
    };

    // It heard a beginning of all that was said while it was there, or all of it.
    if heard.registered.is_some() || heard.hears_all {
        assert_eq!(
            heard.registered,
            Some(stay.from as u64),
            "CHAT-ORD-6: {name}"
        );
    }
    let stayed = &seen.order[stay.from..stay.until.expect("all have left")];
    let due: Vec<_> = stayed.iter().filter(|chat| chat.sender != *name).collect();
    for (chat, due) in heard.chats.iter().zip(&due) {
        assert_eq!(chat, *due, "CHAT-ORD-4: {name} has a gap");
    }
    let (got, due) = (heard.chats.len(), due.len());
    assert!(got <= due, "CHAT-CHAT-2, CHAT-ORD-4: {name} heard too much");
    // An error is the last that anybody hears (CHAT-ERR-1), even if more was due.
    let is_all_due = heard.hears_all && heard.last_word.is_none();
    assert!(
        got == due || !is_all_due,
        "CHAT-LEAVE-2: {name} heard {got} of {due}"
    );
    for (receipt, (number, chat)) in heard.receipts.iter().zip((1..).zip(&said)) {
        let told = (receipt.id, receipt.seq, receipt.time_unix_ms);
        assert_eq!(told, (number, chat.seq, chat.time_unix_ms), "CHAT-RCPT-2");
    }
    let (got, due) = (heard.receipts.len(), said.len());
    assert!(got <= due, "CHAT-RCPT-1: {name}'s is not in the order");
    assert!(
        got == due || !heard.hears_all,
        "CHAT-RCPT-1: {name} has {got} of {due}"
    );

    // Who said all has left; whom the network cut off was lost, and nobody is told
    // that they did anything wrong.
    let has_said_all = said.len() as u64 == CHATS;
    match stay.reason {
        LeftReason::Leave => assert!(has_said_all, "CHAT-ORD-3: {name} was not heard out"),
        LeftReason::ConnectionLost => assert!(!heard.is_heard, "{name} was not lost"),
        reason => panic!("CHAT-PRES-5: {name} left for {reason:?}"),
    }
    let is_lost = stay.reason == LeftReason::ConnectionLost;
    match heard.last_word {
        None => {}
        // CHAT-FRAME-10
        Some(ErrorCode::MalformedFrame) => assert!(is_lost, "{name} was not cut short"),
        Some(code) => panic!("CHAT-ERR-5: {name} was told {code:?}"),
    }
    tally.unharmed += usize::from(is_unharmed);
    tally.cut_off += usize::from(is_lost);
    tally.cut_inside_frame += usize::from(heard.last_word.is_some());
}

fn text(name: &str, number: u64, bytes: usize) -> String {
    format!("{:x<bytes$}", format!("{name} says {number} "))
}

/// Registers, says all it has to say, leaves, and reads to the end.
fn take_part(address: SocketAddr, mut heard: Heard, text_bytes: usize, mut rng: Rng) -> Heard {
    let stream = TcpStream::connect(address).expect("the proxy accepts");
    let mut sending = stream.try_clone().expect("it is open");
    let name = heard.name.clone();
    let sender = thread::spawn(move || {
        let mut bytes = frames([&register(&name, &[Capability::Receipts])]);
        for number in 1..=CHATS {
            let text = text(&name, number, text_bytes);
            bytes.extend(frames([&chat_with_id(&text, number)]));
            if rng.u8(0..4) == 0 {
                // A connection that broke takes no more; that is no mistake.
                let _ = sending.write_all(&std::mem::take(&mut bytes));
                thread::sleep(Duration::from_millis(rng.u64(0..40)));
            }
        }
        bytes.extend(frames([&leave()]));
        // CHAT-LEAVE-4
        let too_late = text(&name, CHATS + 1, text_bytes);
        bytes.extend(frames([&chat_with_id(&too_late, CHATS + 1)]));
        let _ = sending.write_all(&bytes);
    });
    let mut peer = Peer::from_stream(stream);
    while let Some(message) = peer.recv_or_cut() {
        assert_eq!(heard.last_word, None, "CHAT-ERR-1: {message:?}");
        match message {
            Received::Registered(registered) => heard.registered = Some(registered.seq),
            Received::Chat(chat) => heard.chats.push(chat),
            Received::Receipt(receipt) => heard.receipts.push(receipt),
            Received::Error(error) if error.ends_session => heard.last_word = Some(error.code()),
            other => panic!("{} did not ask for {other:?}", heard.name),
        }
    }
    sender.join().expect("it ends");
    heard
}

fn way(rng: &mut Rng, load: &Load, is_harmed: bool) -> Way {
    let after_bytes = rng.usize(1..load.fault_after_bytes_max);
    let fault = match rng.u8(0..4) {
        0 => Some(Fault::Reset),
        1 => Some(Fault::HalfClose),
        2 => Some(Fault::StallMs(rng.u64(100..800))),
        _ => None,
    };
    Way {
        slice_bytes_max: rng.choice(load.slices_bytes_max).unwrap_or(1),
        delay_ms_max: rng.choice([0, 0, 1]).unwrap_or(0),
        fault: fault
            .filter(|_| is_harmed)
            .map(|fault| (after_bytes, fault)),
    }
}
