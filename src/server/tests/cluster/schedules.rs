//! Seeded schedules: bots talk over nodes that are killed, cut off and started again, on
//! links that lose, double and delay, while the engine loses what is newest. What any bot
//! was told must hold everywhere.
//!
//! `CHAT_CLUSTER_SEEDS=A..B cargo test schedules` runs others than the first
//! [`SEEDS`], with a million of them as good as with one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, mpsc},
};

use prost::Message as _;

use super::{between::direct_to, truth::Truth, *};
use crate::{
    cluster::{
        record::Record,
        replica::{Replica, epoch},
    },
    name::Name,
    session::{Ban, Operation, Reason, Target},
};

/// How many schedules every test run has.
const SEEDS: u64 = 500;

/// How long a schedule is.
const LENGTH: Duration = Duration::from_secs(20);

/// How long it takes until all is well when nothing more happens: late copies arrive, and
/// the dead are declared gone.
const CALM: Duration = Duration::from_secs(20);

/// How long a schedule may be until all is well, in its own time: one that waits for longer
/// waits for ever.
const ENDS: Duration = Duration::from_secs(200);

/// How long a schedule may take, in real time. It takes a third of a second in a debug
/// build; one that goes round and round without its own time passing takes for ever, also on
/// a busy machine.
const REAL: Duration = Duration::from_secs(120);

/// How many seeds may have begun that the watch has not heard of.
const SEEDS_AHEAD_MAX: usize = 2;

const BOTS: u64 = 4;
const NAMES: [&str; 3] = ["n0", "n1", "n2"];
const WANTS: [Capability; 5] = [
    Capability::Receipts,
    Capability::Resume,
    Capability::Presence,
    Capability::Direct,
    Capability::Keepalive,
];

/// For how long a bot may be silent, in milliseconds: longer than the answer to a Ping may
/// take, so that it may lose its name to another.
const SILENT_MS_MAX: u64 = 9_000;

/// What bots were told.
#[derive(Default)]
struct Told {
    /// The sender and the text of each number.
    chats: BTreeMap<(String, u64), (String, String)>,
    /// The text and the sender of each receipt.
    receipts: BTreeMap<(String, u64), String>,
    /// The texts of Directs that came.
    directs: BTreeSet<String>,
    /// Those of which their senders were told that they reach nobody.
    refused: BTreeSet<String>,
    /// Those of which their senders were told that they are delivered.
    delivered: BTreeSet<String>,
    /// How many sessions ended because another client asked for the name.
    reclaimed: u64,
    /// How many the operator ended.
    expelled: u64,
}

type World = Arc<Mutex<Vec<Node>>>;

/// What a bot must keep to resume.
#[derive(Clone)]
struct Line {
    name: String,
    token: Vec<u8>,
    epoch: String,
    seq: u64,
    attempt: u32,
}

struct Bot {
    index: u64,
    world: World,
    told: Arc<Mutex<Told>>,
    random: fastrand::Rng,
    line: Option<Line>,
    /// The operator has ended its session, which it tries to resume all the same.
    is_expelled: bool,
    /// Not receipted yet, by id.
    pending: BTreeMap<u64, String>,
    /// Directs that are not receipted yet, with whom they are for; and those that have no
    /// state yet.
    directs: BTreeMap<u64, (String, String)>,
    unsettled: BTreeMap<u64, String>,
    next_id: u64,
    receipts: u64,
}

impl Bot {
    async fn run(mut self, until: Instant) -> u64 {
        while Instant::now() < until {
            self.session(until).await;
            let pause = self.random.u64(1..1_500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.receipts
    }

    async fn session(&mut self, until: Instant) {
        let hub = {
            let nodes = self.world.lock().unwrap();
            Arc::clone(&nodes[self.random.usize(..nodes.len())].hub)
        };
        let mut peer = Peer::connect(&hub, 1 << 18);
        let name = match &self.line {
            Some(line) => line.name.clone(),
            None => NAMES[self.random.usize(..NAMES.len())].to_owned(),
        };
        let resume = self.line.as_mut().map(|line| {
            line.attempt += 1;
            wire::Resume {
                token: line.token.clone(),
                epoch: line.epoch.clone(),
                seq: line.seq,
                attempt: line.attempt,
            }
        });
        let is_resume = resume.is_some();
        let register = Sent::Register(wire::Register {
            name: name.clone(),
            capabilities: WANTS.map(Into::into).to_vec(),
            resume,
            ..Default::default()
        });
        if peer.try_send(register).await.is_err() {
            return;
        }
        let registered = match peer.try_next().await {
            Some(Message::Registered(registered)) => registered,
            Some(Message::Error(error)) => {
                if matches!(error.code(), ErrorCode::NameInUse | ErrorCode::Replaced) && !is_resume
                {
                    self.line = None;
                }
                return;
            }
            _ => return,
        };
        let mut seq = registered.seq;
        let was_expelled = std::mem::take(&mut self.is_expelled);
        if registered.resumed_from > 0 {
            assert!(!was_expelled, "CHAT-MOD-5");
            let line = self.line.as_mut().expect("it resumed");
            assert_eq!(line.epoch, registered.epoch, "only an epoch resumes");
            if registered.resumed_from == line.seq + 1 {
                seq = line.seq;
            } else {
                seq = registered.resumed_from - 1;
            }
            line.token = registered.resume_token.clone();
        } else {
            self.pending.clear();
            self.directs.clear();
            self.line = Some(Line {
                name: name.clone(),
                token: registered.resume_token.clone(),
                epoch: registered.epoch.clone(),
                seq,
                attempt: 0,
            });
        }
        let mut present = match peer.try_next().await {
            Some(Message::Members(members)) => {
                assert!(!members.more);
                members.names.into_iter().collect::<BTreeSet<_>>()
            }
            _ => return,
        };
        assert!(present.contains(&name), "{name} is none of {present:?}");
        // What was not receipted comes again.
        for (id, text) in self.pending.clone() {
            if peer.try_send(chat_with(id, &text)).await.is_err() {
                return;
            }
        }
        for (id, (to, text)) in self.directs.clone() {
            if peer.try_send(direct_to(&to, id, &text)).await.is_err() {
                return;
            }
        }
        self.unsettled.clear();
        let mut own = BTreeSet::new();
        let ends = Instant::now() + Duration::from_millis(self.random.u64(200..9_000));
        let ends = ends.min(until);
        loop {
            let pause = Duration::from_millis(self.random.u64(5..400));
            match timeout(pause, peer.try_next()).await {
                Err(_) if Instant::now() >= ends => {
                    if self.random.u8(..4) == 0 {
                        // With a Leave the line ends.
                        let _ = peer.try_send(Sent::Leave(wire::Leave {})).await;
                        while let Some(message) = peer.try_next().await {
                            if let Message::Receipt(receipt) = message {
                                self.receipted(&registered.epoch, &receipt);
                            }
                        }
                        self.line = None;
                        self.pending.clear();
                        self.directs.clear();
                    }
                    return;
                }
                Err(_) if self.random.u8(..100) == 0 => {
                    let silent_ms = self.random.u64(..SILENT_MS_MAX);
                    tokio::time::sleep(Duration::from_millis(silent_ms)).await;
                }
                Ok(Some(Message::Ping(ping))) => {
                    let pong = Sent::Pong(wire::Pong { token: ping.token });
                    if peer.try_send(pong).await.is_err() {
                        return;
                    }
                }
                Ok(Some(Message::Error(error))) if error.code() == ErrorCode::NameReclaimed => {
                    self.told.lock().unwrap().reclaimed += 1;
                }
                Ok(Some(Message::Error(error)))
                    if matches!(error.code(), ErrorCode::Kicked | ErrorCode::Banned) =>
                {
                    self.is_expelled = true;
                    self.told.lock().unwrap().expelled += 1;
                }
                Err(_) => {
                    let id = self.next_id;
                    self.next_id += 1;
                    let text = format!("{}-{id}", self.index);
                    if self.random.u8(..4) == 0 {
                        let to = NAMES[self.random.usize(..NAMES.len())];
                        let direct = direct_to(to, id, &text);
                        self.directs.insert(id, (to.to_owned(), text));
                        if peer.try_send(direct).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    self.pending.insert(id, text.clone());
                    if peer.try_send(chat_with(id, &text)).await.is_err() {
                        return;
                    }
                }
                Ok(Some(Message::Chat(chat))) => {
                    assert!(chat.seq > seq, "bot {} is told a chat twice", self.index);
                    let is_whole = (seq + 1..chat.seq).all(|number| own.contains(&number));
                    assert!(is_whole, "bot {} has a gap", self.index);
                    seq = chat.seq;
                    self.told_chat(&registered.epoch, &chat);
                    self.line.as_mut().expect("it has one").seq = with_own(seq, &own);
                }
                Ok(Some(Message::Direct(direct))) => {
                    let is_new = self.told.lock().unwrap().directs.insert(direct.text);
                    assert!(is_new, "a Direct came twice");
                    let ack = Sent::DirectAck(wire::DirectAck { seq: direct.seq });
                    if peer.try_send(ack).await.is_err() {
                        return;
                    }
                }
                Ok(Some(Message::DirectState(state))) => {
                    let text = self.unsettled.remove(&state.id);
                    let text = text.expect("a state comes once, behind its receipt");
                    if state.delivered {
                        self.told.lock().unwrap().delivered.insert(text);
                    }
                }
                Ok(Some(Message::Error(error))) if error.code() == ErrorCode::NotReachable => {
                    let (_, text) = self.directs.remove(&error.id).expect("it has asked");
                    self.told.lock().unwrap().refused.insert(text);
                }
                Ok(Some(Message::Receipt(receipt))) if receipt.seq == 0 => {
                    if let Some((_, text)) = self.directs.remove(&receipt.id) {
                        self.unsettled.insert(receipt.id, text);
                    }
                }
                Ok(Some(Message::Receipt(receipt))) => {
                    // It overtakes the chats before it. A chat that came again has its old
                    // number, and may still come among those that were missed.
                    own.insert(receipt.seq);
                    self.line.as_mut().expect("it has one").seq = with_own(seq, &own);
                    self.receipted(&registered.epoch, &receipt);
                }
                Ok(Some(Message::Joined(joined))) => {
                    assert_ne!(joined.name, name, "CHAT-PRES-6");
                    assert!(present.insert(joined.name), "two of one name");
                }
                Ok(Some(Message::Left(left))) => {
                    assert_ne!(left.name, name, "CHAT-PRES-6");
                    assert!(present.remove(&left.name), "{} was not there", left.name);
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
            }
        }
    }

    fn told_chat(&self, epoch: &str, chat: &wire::Chat) {
        let mut told = self.told.lock().unwrap();
        let said = (chat.sender.clone(), chat.text.clone());
        let known = told
            .chats
            .entry((epoch.to_owned(), chat.seq))
            .or_insert_with(|| said.clone());
        assert_eq!(
            *known, said,
            "number {} of {epoch} means two chats",
            chat.seq
        );
    }

    fn receipted(&mut self, epoch: &str, receipt: &wire::Receipt) {
        self.receipts += 1;
        let Some(text) = self.pending.remove(&receipt.id) else {
            return;
        };
        let key = (epoch.to_owned(), receipt.seq);
        let mut told = self.told.lock().unwrap();
        let before = told.receipts.insert(key, text);
        assert_eq!(before, None, "two chats were receipted as {}", receipt.seq);
    }
}

/// The number up to which a bot has every chat, with those of its own.
fn with_own(mut seq: u64, own: &BTreeSet<u64>) -> u64 {
    while own.contains(&(seq + 1)) {
        seq += 1;
    }
    seq
}

impl Peer {
    async fn try_send(&mut self, message: Sent) -> std::io::Result<()> {
        self.stream.write_all(&encoded(message)).await
    }

    /// The next message; `None` at the end of the stream, even one that was cut.
    async fn try_next(&mut self) -> Option<Message> {
        loop {
            if let Ok(Split::Frame { body, rest }) = frame::split(&self.held, u32::MAX) {
                let envelope = ServerEnvelope::decode(body).expect("an envelope");
                self.held = rest.to_vec();
                return Some(envelope.message.expect("a message"));
            }
            let read = timeout(CALM, self.stream.read_buf(&mut self.held)).await;
            if read.ok()?.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// The operator of a node throws out the holder of a name, and keeps it out for a while.
async fn throw_out(hub: Arc<Hub>, name: &str, banned_ms: Option<u64>) {
    let name = Name::parse(name).expect("a name");
    let target = || Target::Name(name.clone());
    let operation = match banned_ms {
        None => Operation::Kick {
            name: name.clone(),
            reason: Reason::default(),
        },
        Some(_) => Operation::Ban {
            targets: vec![target()],
            with_address_of: None,
            ban: Ban {
                until_unix_ms: None,
                reason: Reason::default(),
            },
        },
    };
    let _ = hub.carry_out_operation(operation).await;
    if let Some(banned_ms) = banned_ms {
        tokio::time::sleep(Duration::from_millis(banned_ms)).await;
        let unban = Operation::Unban { target: target() };
        let _ = hub.carry_out_operation(unban).await;
    }
}

/// One schedule. Returns how many receipts there were, how many lost their names, and how
/// many the operator has thrown out.
async fn schedule(seed: u64) -> (u64, u64, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let double = Double::new(seed, Weather::STORMY);
    let count = 2 + seed % 2;
    let names: Vec<_> = (0..count).map(|index| format!("node{index}")).collect();
    let clocks: [fn() -> i64; 3] = match seed % 3 {
        0 => [wall_unix_ms, fast_unix_ms, slow_unix_ms],
        _ => [wall_unix_ms; 3],
    };
    // Of two nodes, one at the least keeps the room.
    let disks: Vec<_> = (0..count)
        .map(|index| (seed % 3 != index).then(Disk::default))
        .collect();
    let nodes = names.iter().zip(clocks);
    let nodes: Vec<_> = nodes
        .zip(&disks)
        .map(|((it, clock), disk)| Node::start_at(&double, it, clock, disk.as_ref()))
        .collect();
    let world: World = Arc::new(Mutex::new(nodes));
    let told = Arc::<Mutex<Told>>::default();
    let until = Instant::now() + LENGTH;
    let bots: Vec<_> = (0..BOTS)
        .map(|index| {
            let bot = Bot {
                index,
                world: Arc::clone(&world),
                told: Arc::clone(&told),
                random: random.fork(),
                line: None,
                is_expelled: false,
                pending: BTreeMap::new(),
                directs: BTreeMap::new(),
                unsettled: BTreeMap::new(),
                next_id: 1,
                receipts: 0,
            };
            tokio::spawn(bot.run(until))
        })
        .collect();
    let restarts = seed.is_multiple_of(4);
    while Instant::now() < until {
        let pause = random.u64(100..6_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let mut nodes = world.lock().unwrap();
        let index = random.usize(..nodes.len());
        match random.u8(..12) {
            0..3 => nodes[index].link.set_cut(true),
            3 => nodes[index].link.set_slow(random.u64(1..200)),
            4..7 => nodes.iter().for_each(|node| node.link.set_cut(false)),
            7..9 => {
                nodes[index].kill();
                // With another clock than before.
                let clock = clocks[random.usize(..clocks.len())];
                let disk = disks[index].as_ref();
                nodes[index] = Node::start_at(&double, &names[index], clock, disk);
            }
            9..11 => {
                let hub = Arc::clone(&nodes[index].hub);
                let name = NAMES[random.usize(..NAMES.len())];
                let banned_ms = random.bool().then(|| random.u64(..3_000));
                tokio::spawn(throw_out(hub, name, banned_ms));
            }
            _ if restarts => double.restart(random.usize(..6)),
            _ => {}
        }
    }
    double.is_fine_from_now_on();
    for node in world.lock().unwrap().iter() {
        node.link.set_cut(false);
        node.link.set_slow(0);
    }
    let mut receipts = 0;
    for bot in bots {
        receipts += match bot.await {
            Ok(receipts) => receipts,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
    }
    tokio::time::sleep(CALM).await;
    // The stream decides what is true.
    let life = double.life();
    let mut truth = Truth::new(epoch(&life));
    let mut replica = Replica::new(&life);
    for bytes in double.records() {
        replica.apply(Record::decode(&bytes[..]).expect("a record"), &mut truth);
    }
    let room = &truth.room;
    let bans = world.lock().unwrap()[0].hub.bans();
    let members: Vec<_> = room
        .names_after(None)
        .map(|name| name.as_str().to_owned())
        .collect();
    assert_eq!(members, [""; 0], "all bots have gone");
    for node in world.lock().unwrap().iter_mut() {
        assert_eq!(node.hub.names(), members, "every node knows the members");
        assert_eq!(node.hub.room_seq(), room.seq(), "every node has every chat");
        // From wherever it started.
        assert_eq!(node.hub.snapshot(), room.snapshot(), "every node agrees");
        assert_eq!(node.hub.bans(), bans, "every node has the bans");
        node.kill();
    }
    for disk in disks.iter().flatten() {
        let kept = disk.on_disk();
        assert_eq!(kept.epoch, room.epoch(), "the disk follows");
        assert_eq!(kept.seq, room.seq(), "the disk has every chat");
        let expected = truth.chats.range(kept.oldest_seq..);
        let chats = kept.chats.iter();
        assert!(
            chats.eq(expected),
            "from {} on the disk has what was said",
            kept.oldest_seq
        );
    }
    let texts: BTreeSet<_> = truth.chats.values().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), truth.chats.len(), "nobody is heard twice");
    let told = told.lock().unwrap();
    for text in &told.refused {
        assert!(!told.directs.contains(text), "{text} was refused, and came");
    }
    for text in &told.delivered {
        assert!(
            told.directs.contains(text),
            "{text} is delivered, and never came"
        );
    }
    for ((epoch, seq), said) in &told.chats {
        if *epoch == room.epoch() {
            assert_eq!(truth.chats.get(seq), Some(said), "what was shown is so");
        }
    }
    for ((epoch, seq), text) in &told.receipts {
        let shown = told.chats.get(&(epoch.clone(), *seq));
        assert!(shown.is_none_or(|said| said.1 == *text), "{text} has {seq}");
        if *epoch == room.epoch() {
            let said = truth.chats.get(seq).map(|said| &said.1);
            assert_eq!(said, Some(text), "what was receipted is not lost");
        }
    }
    (receipts, told.reclaimed, told.expelled)
}

/// Names a seed, with the command that runs it.
fn name_seed(seed: u64, what: &str) {
    eprintln!(
        "seed {seed} {what}: CHAT_CLUSTER_SEEDS={seed}..{}",
        seed + 1
    );
}

/// Names the seed that takes longer than [`REAL`], and ends the process: nothing else ends a
/// task that never waits. It ends with the sender.
fn watch(begun: mpsc::Receiver<u64>, real: Duration, hangs: impl Fn(u64)) {
    let Ok(mut seed) = begun.recv() else { return };
    loop {
        match begun.recv_timeout(real) {
            Ok(next) => seed = next,
            Err(mpsc::RecvTimeoutError::Timeout) => return hangs(seed),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[test]
fn a_seed_that_hangs_is_named() {
    let (begins, begun) = mpsc::sync_channel(SEEDS_AHEAD_MAX);
    for seed in [7, 8] {
        begins.send(seed).expect("it is open");
    }
    let (names, named) = mpsc::sync_channel(SEEDS_AHEAD_MAX);
    watch(begun, Duration::from_millis(1), |seed| {
        names.send(seed).expect("it is open");
    });
    assert_eq!(named.try_recv(), Ok(8));
}

#[test]
fn schedules() {
    let seeds = match std::env::var("CHAT_CLUSTER_SEEDS") {
        Ok(seeds) => {
            let (from, to) = seeds.split_once("..").expect("A..B");
            from.parse().expect("a number")..to.parse().expect("a number")
        }
        Err(_) => 0..SEEDS,
    };
    let (mut receipts, mut reclaimed, mut expelled) = (0, 0, 0);
    let count = seeds.end - seeds.start;
    let (begins, begun) = mpsc::sync_channel(SEEDS_AHEAD_MAX);
    std::thread::spawn(|| {
        watch(begun, REAL, |seed| {
            name_seed(seed, "hangs");
            std::process::abort();
        });
    });
    for seed in seeds {
        begins.send(seed).expect("it watches");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let run = std::panic::AssertUnwindSafe(|| {
            let ended = runtime.block_on(async { timeout(ENDS, schedule(seed)).await });
            ended.expect("it waits for ever")
        });
        match std::panic::catch_unwind(run) {
            Ok(seen) => {
                receipts += seen.0;
                reclaimed += seen.1;
                expelled += seen.2;
            }
            Err(panic) => {
                name_seed(seed, "fails");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(receipts > count * 3, "the bots were heard: {receipts}");
    if count >= SEEDS {
        assert!(reclaimed > 0, "nobody who was silent has lost its name");
        assert!(expelled > 0, "the operator has thrown nobody out");
    }
}
