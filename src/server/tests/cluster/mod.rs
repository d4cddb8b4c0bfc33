//! Several nodes over a double of the engine.

mod between;
mod disk;
mod double;
mod names;
mod schedules;
mod truth;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::*;
use crate::cluster::replica::epoch;
use crate::server::{
    cluster::{Closing, Part, take_part},
    hub::{Origin, Outside},
};
use disk::Disk;
use double::{Double, Link, Weather};

const BOTH: [Capability; 2] = [Capability::Receipts, Capability::Resume];

/// After how many bytes of records the nodes write a checkpoint: a few dozens of records.
const CHECKPOINT_BYTES: u64 = 4_000;

/// A clock on the wall that never shows a time twice.
fn wall_unix_ms() -> i64 {
    static NOW_UNIX_MS: AtomicI64 = AtomicI64::new(1_700_000_000_000);
    NOW_UNIX_MS.fetch_add(1, Ordering::Relaxed)
}

/// Two hours later.
fn fast_unix_ms() -> i64 {
    wall_unix_ms() + 7_200_000
}

/// Two hours earlier.
fn slow_unix_ms() -> i64 {
    wall_unix_ms() - 7_200_000
}

/// A node: a hub and the task by which it takes part.
struct Node {
    hub: Arc<Hub>,
    link: Link,
    closing: Arc<Closing>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Node {
    fn start(double: &Arc<Double>, name: &str) -> Self {
        Self::start_at(double, name, wall_unix_ms, None)
    }

    /// The same, with another clock on the wall, and a disk.
    fn start_at(
        double: &Arc<Double>,
        name: &str,
        wall_unix_ms: fn() -> i64,
        disk: Option<&Disk>,
    ) -> Self {
        let (limits, access) = (unlimited(), AccessPolicy::default());
        let origin = match disk {
            Some(disk) => disk.origin(&limits),
            None => Origin::empty(&limits, "none".to_owned()),
        };
        let archive = origin.archive.clone();
        let hub = Arc::new(Hub::within(
            Outside::with_clock(wall_unix_ms),
            limits,
            access,
            origin,
        ));
        hub.order_elsewhere(1_000);
        let mut tasks = Vec::new();
        if let (Some(disk), Some(archive)) = (disk, archive) {
            hub.set_kept(disk.on_disk().place.clone());
            tasks.push(tokio::spawn(disk.clone().serve(Arc::clone(&hub), archive)));
        }
        let link = Link::new(double);
        let closing = Arc::<Closing>::default();
        tasks.push(tokio::spawn(tick(Arc::clone(&hub))));
        tasks.push(tokio::spawn(take_part(
            Arc::clone(&hub),
            link.clone(),
            Part {
                node: name.to_owned(),
                checkpoint_bytes: CHECKPOINT_BYTES,
            },
            Arc::clone(&closing),
        )));
        Self {
            hub,
            link,
            closing,
            tasks,
        }
    }

    /// The process is killed.
    fn kill(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        self.hub.abort();
    }

    /// Waits until clients are let in.
    async fn serves(&self) {
        for _ in 0..1_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Ok((id, _)) = self.hub.connect(peer::Peer::internal()) {
                return self.hub.disconnect(id);
            }
        }
        panic!("the node does not come back");
    }
}

async fn nodes(double: &Arc<Double>, names: &[&str]) -> Vec<Node> {
    let nodes: Vec<_> = names.iter().map(|name| Node::start(double, name)).collect();
    for node in &nodes {
        node.serves().await;
    }
    nodes
}

fn chat_with(id: u64, text: &str) -> Sent {
    Sent::Chat(wire::Chat {
        text: text.to_owned(),
        id,
        ..Default::default()
    })
}

/// Goes on with the session that was told this, from a number on.
fn resume(before: &wire::Registered, capabilities: &[Capability], seq: u64, attempt: u32) -> Sent {
    Sent::Register(wire::Register {
        name: before.name.clone(),
        capabilities: capabilities.iter().map(|&it| it.into()).collect(),
        resume: Some(wire::Resume {
            token: before.resume_token.clone(),
            epoch: before.epoch.clone(),
            seq,
            attempt,
        }),
        ..Default::default()
    })
}

async fn registered(peer: &mut Peer) -> wire::Registered {
    match peer.next().await {
        Some(Message::Registered(registered)) => registered,
        message => panic!("not registered but {message:?}"),
    }
}

async fn receipt(peer: &mut Peer) -> u64 {
    match peer.next().await {
        Some(Message::Receipt(receipt)) => receipt.seq,
        message => panic!("no receipt but {message:?}"),
    }
}

async fn expect_end(peer: &mut Peer, code: ErrorCode) {
    peer.expect_error(code).await;
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn members_of_two_nodes_are_in_one_room() {
    let double = Double::new(1, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let presence = [Capability::Presence, Capability::Receipts];
    let mut alice = Peer::member(&nodes[0].hub, "alice", &presence, 1 << 16).await;
    let mut bob = Peer::connect(&nodes[1].hub, 1 << 16);
    bob.send(register_with("bob", &presence)).await;
    let epoch = registered(&mut bob).await.epoch;
    match bob.next().await {
        Some(Message::Members(members)) => assert_eq!(members.names, ["alice", "bob"]),
        message => panic!("no members but {message:?}"),
    }
    assert!(matches!(alice.next().await, Some(Message::Joined(it)) if it.name == "bob"));
    // The name is in use on every node.
    let mut other = Peer::connect(&nodes[1].hub, 1 << 16);
    other.send(register("ALICE")).await;
    expect_end(&mut other, ErrorCode::NameInUse).await;
    alice.send(chat(1)).await;
    bob.send(chat(2)).await;
    let (mut seqs, mut own) = (Vec::new(), Vec::new());
    for peer in [&mut alice, &mut bob] {
        for _ in 0..2 {
            match peer.next().await {
                Some(Message::Chat(chat)) => seqs.push(chat.seq),
                Some(Message::Receipt(receipt)) => own.push(receipt.seq),
                message => panic!("neither chat nor receipt but {message:?}"),
            }
        }
    }
    // Each has the number that the other was told.
    own.reverse();
    assert_eq!(seqs, own);
    alice.send(Sent::Leave(wire::Leave {})).await;
    assert!(matches!(bob.next().await, Some(Message::Left(it)) if it.name == "alice"));
    assert!(epoch.starts_with("life-1"), "{epoch}");
}

/// A session goes on at another node, without a gap, and what is sent again is accepted
/// once.
#[tokio::test(start_paused = true)]
async fn a_session_is_resumed_on_another_node() {
    let double = Double::new(2, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::connect(&nodes[0].hub, 1 << 16);
    alice.send(register_with("alice", &BOTH)).await;
    let first = registered(&mut alice).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &BOTH, 1 << 16).await;
    alice.send(chat_with(1, "hello")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    assert_eq!(bob.next_seq().await, 1);
    nodes[0].kill();
    bob.send(chat_with(1, "while alice is away")).await;
    assert_eq!(receipt(&mut bob).await, 2);
    let mut alice = Peer::connect(&nodes[1].hub, 1 << 16);
    alice.send(resume(&first, &BOTH, 0, 1)).await;
    let second = registered(&mut alice).await;
    assert_eq!((second.resumed_from, &second.epoch), (1, &first.epoch));
    assert_eq!([alice.next_seq().await, alice.next_seq().await], [1, 2]);
    // Its receipt may have been lost.
    alice.send(chat_with(1, "hello")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    alice.send(chat_with(2, "again here")).await;
    assert_eq!(receipt(&mut alice).await, 3);
    assert_eq!(bob.next_seq().await, 3);
}

#[tokio::test(start_paused = true)]
async fn the_members_of_a_dead_node_leave() {
    let double = Double::new(3, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b", "c"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &[Capability::Presence], 1 << 16).await;
    let _bob = Peer::member(&nodes[1].hub, "bob", &[], 1 << 16).await;
    assert!(matches!(alice.next().await, Some(Message::Joined(_))));
    let killed = Instant::now();
    nodes[1].kill();
    match alice.next().await {
        Some(Message::Left(left)) => {
            assert_eq!(left.name, "bob");
            assert_eq!(left.reason(), LeftReason::ConnectionLost);
        }
        message => panic!("not left but {message:?}"),
    }
    assert!(
        killed.elapsed() < Duration::from_secs(8),
        "{:?}",
        killed.elapsed()
    );
    Peer::member(&nodes[2].hub, "bob", &[], 1 << 16).await;
}

/// A process that starts again under the name of a dead one takes its place at once.
#[tokio::test(start_paused = true)]
async fn the_members_of_a_node_leave_when_it_starts_again() {
    let double = Double::new(4, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &[Capability::Presence], 1 << 16).await;
    let _bob = Peer::member(&nodes[1].hub, "bob", &[], 1 << 16).await;
    assert!(matches!(alice.next().await, Some(Message::Joined(_))));
    let killed = Instant::now();
    nodes[1].kill();
    let again = Node::start(&double, "b");
    again.serves().await;
    assert!(matches!(alice.next().await, Some(Message::Left(it)) if it.name == "bob"));
    assert!(
        killed.elapsed() < Duration::from_secs(2),
        "{:?}",
        killed.elapsed()
    );
    Peer::member(&again.hub, "bob", &[], 1 << 16).await;
}

/// CHAT-CLUS-1. The other nodes go on; the one that is cut off comes back by itself.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_ends_its_sessions_and_comes_back() {
    let double = Double::new(5, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &BOTH, 1 << 16).await;
    nodes[0].link.set_cut(true);
    // Nothing of this is receipted, and nothing is told to the others.
    alice.send(chat_with(1, "into the void")).await;
    let cut = Instant::now();
    expect_end(&mut alice, ErrorCode::ClusterUnreachable).await;
    assert!(
        cut.elapsed() < Duration::from_secs(8),
        "{:?}",
        cut.elapsed()
    );
    let mut newcomer = Peer::connect(&nodes[0].hub, 1 << 16);
    expect_end(&mut newcomer, ErrorCode::ClusterUnreachable).await;
    bob.send(chat_with(1, "still here")).await;
    assert_eq!(receipt(&mut bob).await, 1);
    nodes[0].link.set_cut(false);
    nodes[0].serves().await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    alice.send(chat_with(1, "back")).await;
    assert_eq!(receipt(&mut alice).await, 2);
    assert_eq!(bob.next_seq().await, 2);
}

/// An engine that may have lost what it acknowledged is another room.
#[tokio::test(start_paused = true)]
async fn another_life_of_the_engine_is_another_epoch() {
    let double = Double::new(6, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    alice.send(chat_with(1, "hello")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    double.restart(1);
    expect_end(&mut alice, ErrorCode::ClusterUnreachable).await;
    for node in &nodes {
        node.serves().await;
        let mut peer = Peer::connect(&node.hub, 1 << 16);
        peer.send(register("newcomer")).await;
        let registered = registered(&mut peer).await;
        assert!(registered.epoch.starts_with("life-2"), "{registered:?}");
        assert_eq!(registered.seq, 0);
        peer.send(Sent::Leave(wire::Leave {})).await;
        assert_eq!(peer.next().await, None);
    }
}

/// A node that comes later knows the members, the numbers and the past.
#[tokio::test(start_paused = true)]
async fn a_newcomer_knows_what_was_before() {
    let double = Double::new(7, Weather::FINE);
    let nodes = nodes(&double, &["a"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    for id in 1..=300 {
        alice.send(chat_with(id, "before")).await;
        assert_eq!(receipt(&mut alice).await, id);
    }
    let newcomer = Node::start(&double, "b");
    newcomer.serves().await;
    assert_eq!(newcomer.hub.names(), ["alice"]);
    let mut bob = Peer::connect(&newcomer.hub, 1 << 16);
    bob.send(register_with("bob", &BOTH)).await;
    assert_eq!(registered(&mut bob).await.seq, 300);
    alice.send(chat_with(301, "after")).await;
    assert_eq!(bob.next_seq().await, 301);
}

/// The stream does not grow for ever, and who comes when its beginning is gone knows the
/// members, the numbers, the lines and what was sent from them.
#[tokio::test(start_paused = true)]
async fn a_newcomer_starts_from_a_checkpoint() {
    let double = Double::new(10, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::connect(&nodes[0].hub, 1 << 16);
    alice.send(register_with("alice", &BOTH)).await;
    let first = registered(&mut alice).await;
    let _bob = Peer::member(&nodes[1].hub, "bob", &[], 1 << 16).await;
    let mut id = 0;
    // Each must be dropped in its turn.
    for rounds in 1..=3 {
        let dropped = double.dropped();
        while double.dropped() <= dropped {
            id += 1;
            assert!(id < 2_000, "nothing was dropped in round {rounds}");
            alice.send(chat_with(id, "one more")).await;
            assert_eq!(receipt(&mut alice).await, id);
        }
        let kept: usize = double.kept_bytes();
        assert!(
            kept < 3 * CHECKPOINT_BYTES as usize,
            "{kept} bytes are kept"
        );
    }
    let newcomer = Node::start(&double, "c");
    newcomer.serves().await;
    assert_eq!(newcomer.hub.names(), ["alice", "bob"]);
    let sent = |node: &Node| {
        let lines = node.hub.snapshot().lines.into_iter();
        let sent: Vec<_> = lines
            .map(|(id, line)| (id, line.tokens, line.sent))
            .collect();
        sent
    };
    assert_eq!(sent(&newcomer), sent(&nodes[0]));
    nodes[0].kill();
    let mut alice = Peer::connect(&newcomer.hub, 1 << 16);
    alice.send(resume(&first, &BOTH, id, 1)).await;
    let second = registered(&mut alice).await;
    assert_eq!((second.resumed_from, &second.epoch), (id + 1, &first.epoch));
    alice.send(chat_with(id, "one more")).await;
    assert_eq!(receipt(&mut alice).await, id, "it was accepted before");
    alice.send(chat_with(id + 1, "new")).await;
    assert_eq!(receipt(&mut alice).await, id + 1);
}

/// A node that was away for less than others notice, but for longer than the stream keeps.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_overtaken_begins_again_from_a_checkpoint() {
    let double = Double::new(11, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &BOTH, 1 << 16).await;
    nodes[1].link.set_cut(true);
    let (end, mut id) = (double.records().len() as u64, 0);
    while double.dropped() <= end {
        id += 1;
        alice.send(chat_with(id, "one more")).await;
        assert_eq!(receipt(&mut alice).await, id);
    }
    nodes[1].link.set_cut(false);
    expect_end(&mut bob, ErrorCode::ClusterUnreachable).await;
    nodes[1].serves().await;
    assert_eq!(nodes[1].hub.room_seq(), id);
}

/// The disk has what NATS has acknowledged and lost: the numbers would be given again.
#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_ahead_of_the_order_does_not_serve() {
    let double = Double::new(12, Weather::FINE);
    let nodes = nodes(&double, &["a"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    alice.send(chat_with(1, "hello")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    // Another record stands there; none does; the chats are others.
    let end = double.records().len() as u64;
    for (position, record, seq) in [(end, "b/1/1", 1), (end + 1_000, "", 1), (end, "", 7)] {
        let disk = Disk::default();
        {
            let mut kept = disk.on_disk();
            (kept.epoch, kept.seq, kept.oldest_seq) = (epoch(&double.life()), seq, seq + 1);
            (kept.place.position, kept.place.record) = (position, record.to_owned());
        }
        let node = Node::start_at(&double, "b", wall_unix_ms, Some(&disk));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let failure = node.hub.failure().expect("it has failed");
        assert!(failure.contains("--cluster-durable"), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_says_so() {
    let double = Double::new(8, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &[Capability::Presence], 1 << 16).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &[], 1 << 16).await;
    assert!(matches!(alice.next().await, Some(Message::Joined(_))));
    let closed = Instant::now();
    nodes[1].hub.begin_closing(closing());
    assert!(matches!(bob.next().await, Some(Message::ServerClosing(_))));
    assert_eq!(bob.next().await, None);
    nodes[1].closing.begin();
    assert!(matches!(alice.next().await, Some(Message::Left(it)) if it.name == "bob"));
    assert!(closed.elapsed() < Duration::from_secs(1));
}

/// Two processes with one name: the later one serves, the earlier one says why it ends.
#[tokio::test(start_paused = true)]
async fn two_nodes_of_one_name_do_not_serve() {
    let double = Double::new(9, Weather::FINE);
    let nodes = nodes(&double, &["a"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &[], 1 << 16).await;
    let later = Node::start(&double, "a");
    later.serves().await;
    assert!(matches!(
        alice.next().await,
        Some(Message::Error(_) | Message::ServerClosing(_))
    ));
    let failure = nodes[0].hub.failure().expect("it has failed");
    assert!(failure.contains("--node"), "{failure}");
}
