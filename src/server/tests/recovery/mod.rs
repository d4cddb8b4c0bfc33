//! Crashes: seeded schedules of chats, cuts, commits and crashes against a hub whose disk
//! is a list. After any of them, clients that resume agree on one sequence: no number of
//! an epoch means two chats, and no chat is there twice (CHAT-ORD-9, CHAT-RES,
//! CHAT-HIST-10). Nothing that anybody was told is lost when the process is killed, nor
//! with `--sync always` when the machine crashes; otherwise that begins a new epoch. What
//! the disk does not keep any more is counted as missed.

mod client;
mod disk;

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;
use crate::{
    log::{Audience, Log},
    room::Room,
    server::{
        archive::{Archive, Delivery, Pending, RequestKind},
        hub::Origin,
    },
    wire::Filter,
};
use client::{Client, SETTLE, Told, shown};
use disk::{Disk, Sync};

/// How many schedules run.
const SEEDS: u64 = 240;

/// How many steps each has.
const STEPS: usize = 140;

const CLIENTS: usize = 5;

/// How many of the newest chats a server has in memory when it starts.
const RECENT_CHATS: u64 = 5;

/// How many chats a resumed client is sent of the disk at once.
const CATCH_UP_CHATS: usize = 3;

/// What happens in a schedule at least sometimes, and in how many of all at the least.
const REACHED: [(&str, usize); 11] = [
    ("resumed", 100),
    ("gap", 8),
    ("new epoch", 60),
    ("covered", 80),
    ("following", 15),
    ("overtaken", 1),
    ("the process is killed", 100),
    ("the machine crashes", 100),
    ("commits are lost", 60),
    ("past from the disk", 15),
    ("pruned", 15),
];

/// A server and its disk.
struct Server {
    limits: Limits,
    disk: Disk,
    hub: Arc<Hub>,
    archive: Arc<Archive>,
    events: Vec<&'static str>,
}

impl Server {
    fn start(limits: Limits, disk: Disk) -> Self {
        let (hub, archive) = start(&limits, &disk);
        Self {
            limits,
            disk,
            hub,
            archive,
            events: Vec::new(),
        }
    }

    /// Everything that was appended is committed, if anything was.
    fn commit(&mut self) {
        if let Some(pending) = self.archive.take_pending() {
            let Pending {
                changes,
                log_end,
                audience,
                waiting,
                ..
            } = pending;
            let oldest_seq = self.disk.kept.oldest_seq();
            self.disk.commit(changes);
            if self.disk.kept.oldest_seq() > oldest_seq {
                self.hub
                    .prune(&self.disk.epoch(), self.disk.kept.oldest_seq());
                self.events.push("pruned");
            }
            self.hub.commit_up_to(log_end, audience, &waiting);
        }
    }

    /// The process dies, before or behind the commit of what was appended. The machine may
    /// crash too.
    async fn crash(&mut self, rng: &mut Rng) {
        if rng.bool()
            && let Some(pending) = self.archive.take_pending()
        {
            self.disk.commit(pending.changes);
        }
        if rng.bool() {
            self.events.push("the machine crashes");
            if self.disk.crash(rng) {
                self.events.push("commits are lost");
            }
        } else {
            self.events.push("the process is killed");
        }
        self.hub.abort();
        tokio::time::sleep(SETTLE).await;
        (self.hub, self.archive) = start(&self.limits, &self.disk);
    }

    /// Reads from the disk what one connection has asked for.
    fn read_disk(&mut self) {
        let Some(request) = self.archive.take_request() else {
            return;
        };
        let RequestKind::Chats {
            from_seq,
            until_seq,
            filter,
        } = &request.kind
        else {
            panic!("nobody asks for a page");
        };
        let (mut frames, mut chats, mut next_seq) = (Vec::new(), 0, *from_seq);
        while next_seq < *until_seq && next_seq < from_seq + CATCH_UP_CHATS as u64 {
            let Some(chat) = self.disk.kept.chat(next_seq) else {
                break;
            };
            next_seq += 1;
            if filter.as_ref().is_none_or(|filter| filter.passes(chat)) {
                chats += 1;
                let message = Some(Message::Chat(chat.clone()));
                frame::encode(&ServerEnvelope { message }, &mut frames);
            }
        }
        self.events.push("past from the disk");
        let delivery = match next_seq == *from_seq {
            true => Delivery::Removed,
            false => Delivery::Chats {
                frames,
                chats,
                is_last: next_seq >= *until_seq,
            },
        };
        let index = request.index;
        self.archive.deliver(request, delivery, next_seq);
        self.hub.registry.notify(&[index]);
    }
}

/// A server that starts with what is on the disk.
fn start(limits: &Limits, disk: &Disk) -> (Arc<Hub>, Arc<Archive>) {
    let kept = &disk.kept;
    let lines = kept.lines.iter().map(|(&id, line)| {
        let mut line = line.clone();
        line.sent = kept.sent.get(&id).cloned().unwrap_or_default();
        (id, line)
    });
    let bounds = (kept.oldest_seq(), kept.seq);
    let room = Room::restored(disk.epoch(), limits, bounds, lines, kept.owners.clone());
    // The rest of the past is read from the disk.
    let first_seq = (kept.seq + 1).saturating_sub(RECENT_CHATS);
    let first_seq = first_seq.max(kept.oldest_seq());
    let mut log = Log::new(first_seq, limits.history_memory_bytes);
    for chat in kept.chats.iter().filter(|chat| chat.seq >= first_seq) {
        let message = Some(Message::Chat(chat.clone()));
        log.append(Audience::Everyone, &ServerEnvelope { message });
    }
    log.commit();
    let archive = Arc::new(Archive::default());
    let origin = Origin {
        room,
        log,
        archive: Some(Arc::clone(&archive)),
        files: None,
        offers_history: false,
    };
    let hub = Arc::new(Hub::new(limits.clone(), AccessPolicy::default(), origin));
    tokio::spawn(tick(Arc::clone(&hub)));
    (hub, archive)
}

fn any_filter(rng: &mut Rng) -> Filter {
    let mut filter = Filter::default();
    match rng.u8(0..6) {
        0 => filter.topics.push("a".to_owned()),
        1 => filter.topics.extend(["A".to_owned(), "b".to_owned()]),
        2 => filter.senders.push("CLIENT0".to_owned()),
        3 => filter.ignore.push("client1".to_owned()),
        4 => filter.without_topic = true,
        _ => {}
    }
    filter
}

/// Runs a schedule; returns what has happened.
async fn run(seed: u64) -> Vec<&'static str> {
    let mut rng = Rng::with_seed(seed);
    let limits = Limits {
        resend_ids_max: 8,
        covered_interval_ms: 500,
        ..unlimited()
    };
    let sync = [Sync::Always, Sync::Interval, Sync::Off][seed as usize % 3];
    let chats_max = match rng.u8(0..3) {
        0 => rng.usize(3..15),
        _ => usize::MAX,
    };
    let mut server = Server::start(limits, Disk::new(sync, chats_max));
    let mut clients: Vec<_> = (0..CLIENTS).map(Client::new).collect();
    let mut told = Told::new();
    for step in 0..STEPS {
        let index = rng.usize(0..CLIENTS);
        let client = &mut clients[index];
        match rng.u8(0..100) {
            0..25 if client.peer.is_none() => {
                client.connect(&server.hub, any_filter(&mut rng)).await;
            }
            // CHAT-RES-15
            0..45 if client.is_registered && client.unanswered.len() < 4 => {
                let topic = rng.choice(["", "a", "B"]).unwrap_or_default();
                client.say(format!("{step}"), topic).await;
            }
            45..50 => client.follow(any_filter(&mut rng)).await,
            50..56 => client.cut(),
            56..72 => server.commit(),
            72..76 => server.read_disk(),
            76..79 => {
                tokio::time::sleep(Duration::from_millis(250)).await;
                server.disk.time_passes(&mut rng);
            }
            79..83 => {
                server.crash(&mut rng).await;
                clients.iter_mut().for_each(Client::cut);
            }
            _ => client.read(&server.disk, &mut told).await,
        }
    }
    // In the end everybody comes back, and all that was sent is answered.
    for _ in 0..40 {
        for client in &mut clients {
            if client.peer.is_none() {
                client.connect(&server.hub, any_filter(&mut rng)).await;
            }
            client.read(&server.disk, &mut told).await;
            server.commit();
            server.read_disk();
        }
    }
    check_end(&server.disk, &clients, &told);
    let mut events = server.events;
    events.extend(clients.into_iter().flat_map(|client| client.events));
    events.sort_unstable();
    events.dedup();
    events
}

fn check_end(disk: &Disk, clients: &[Client], told: &Told) {
    let kept = &disk.kept;
    let mut texts: Vec<_> = kept.chats.iter().map(|chat| chat.text.as_str()).collect();
    let count = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), count, "CHAT-RES-11: a chat is there twice");
    // Nothing that anybody was told in this epoch is lost.
    let epoch = disk.epoch();
    let told = told.iter().filter(|((of, _), _)| *of == epoch);
    let told: BTreeMap<u64, &String> = told.map(|((_, seq), text)| (*seq, text)).collect();
    for (&seq, &text) in told.range(kept.oldest_seq()..) {
        let chat = kept.chat(seq).map(shown);
        assert_eq!(chat.as_ref(), Some(text), "CHAT-ORD-9: {seq} is lost");
    }
    let names: Vec<&String> = clients.iter().map(|client| &client.name).collect();
    for client in clients {
        let name = &client.name;
        assert!(client.is_registered, "{name} is not registered");
        assert!(client.unanswered.is_empty(), "{name} has no answer");
        client.check_has(kept.seq, kept, "CHAT-RES-9, CHAT-ORD-4");
        let members: Vec<&String> = client.members.iter().collect();
        assert!(
            members.is_empty() || members == names,
            "CHAT-PRES: {name} knows {members:?}"
        );
    }
}

/// Runs something on a paused clock of its own, which ends all tasks of it.
fn on_a_clock_of_its_own<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime can be had").block_on(run)
}

#[test]
fn nothing_that_was_told_is_lost_or_doubled_by_crashes() {
    let mut counts = BTreeMap::<&str, usize>::new();
    if let Ok(seed) = std::env::var("RECOVERY_SEED") {
        drop(on_a_clock_of_its_own(run(seed.parse().expect("a number"))));
        return;
    }
    for seed in 0..SEEDS {
        eprintln!("seed {seed}, alone with RECOVERY_SEED={seed}");
        for event in on_a_clock_of_its_own(run(seed)) {
            *counts.entry(event).or_default() += 1;
        }
    }
    eprintln!("{counts:#?}");
    for (event, least) in REACHED {
        let count = counts.get(event).copied().unwrap_or(0);
        assert!(count >= least, "{event} in {count} schedules, not {least}");
    }
}
