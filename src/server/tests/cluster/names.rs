//! Names between nodes: the holder of a name that a client asks for is at another node.

use super::{between::SLOW_MS, *};

const KEEPALIVE: [Capability; 3] = [
    Capability::Receipts,
    Capability::Resume,
    Capability::Keepalive,
];

/// How long a holder has for its answer, in milliseconds.
fn deadline_ms() -> u64 {
    u64::from(unlimited().name_check_deadline_ms)
}

/// Asks for a name.
async fn ask(node: &Node, name: &str, capabilities: &[Capability]) -> Peer {
    let mut peer = Peer::connect(&node.hub, 1 << 16);
    peer.send(register_with(name, capabilities)).await;
    peer
}

async fn expect_ping(peer: &mut Peer) {
    let message = peer.next().await;
    assert!(matches!(message, Some(Message::Ping(_))), "{message:?}");
}

/// CHAT-NAME-7, CHAT-NAME-9
#[tokio::test(start_paused = true)]
async fn a_silent_holder_at_another_node_loses_its_name() {
    let double = Double::new(40, Weather::FINE);
    let nodes = nodes(&double, &["a", "b", "c"]).await;
    let presence = [Capability::Presence];
    let mut witness = Peer::member(&nodes[2].hub, "witness", &presence, 1 << 16).await;
    let mut silent = Peer::member(&nodes[0].hub, "alice", &KEEPALIVE, 1 << 16).await;
    assert!(matches!(witness.next().await, Some(Message::Joined(_))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    let mut alice = ask(&nodes[1], "ALICE", &KEEPALIVE).await;
    registered(&mut alice).await;
    let lasted = asked.elapsed();
    assert!(lasted >= Duration::from_millis(deadline_ms()), "{lasted:?}");
    assert!(lasted < Duration::from_millis(deadline_ms() + 2_000));
    assert!(matches!(witness.next().await, Some(Message::Left(it)) if it.name == "alice"));
    assert!(matches!(witness.next().await, Some(Message::Joined(it)) if it.name == "ALICE"));
    expect_ping(&mut silent).await;
    expect_end(&mut silent, ErrorCode::NameReclaimed).await;
}

/// CHAT-NAME-8: and is not pinged again for each that asks.
#[tokio::test(start_paused = true)]
async fn a_holder_at_another_node_that_answers_keeps_its_name() {
    let double = Double::new(41, Weather::FINE);
    let nodes = nodes(&double, &["a", "b", "c"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &KEEPALIVE, 1 << 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut newcomer = ask(&nodes[1], "alice", &[]).await;
    expect_ping(&mut alice).await;
    // The newcomer waits for it.
    assert!(
        timeout(Duration::from_secs(1), newcomer.next())
            .await
            .is_err()
    );
    alice.send(Sent::Pong(wire::Pong::default())).await;
    let answered = Instant::now();
    expect_end(&mut newcomer, ErrorCode::NameInUse).await;
    for node in &nodes[1..] {
        let mut another = ask(node, "alice", &[]).await;
        expect_end(&mut another, ErrorCode::NameInUse).await;
    }
    let lasted = answered.elapsed();
    assert!(lasted < Duration::from_secs(1), "{lasted:?}");
    alice.send(chat_with(1, "still here")).await;
    assert_eq!(receipt(&mut alice).await, 1);
}

/// The node of the newcomer does not know the holder yet.
#[tokio::test(start_paused = true)]
async fn a_holder_that_a_node_does_not_know_yet_is_asked_too() {
    let double = Double::new(47, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    nodes[1].link.set_slow(SLOW_MS);
    let _first = Peer::member(&nodes[1].hub, "first", &[], 1 << 16).await;
    // The next record is slow.
    let mut silent = Peer::member(&nodes[0].hub, "alice", &KEEPALIVE, 1 << 16).await;
    assert_eq!(nodes[1].hub.names(), ["first"]);
    let mut alice = ask(&nodes[1], "alice", &KEEPALIVE).await;
    expect_ping(&mut silent).await;
    registered(&mut alice).await;
    expect_end(&mut silent, ErrorCode::NameReclaimed).await;
}

/// There is nothing to check it with.
#[tokio::test(start_paused = true)]
async fn a_holder_without_keepalive_keeps_its_name_at_once() {
    let double = Double::new(42, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let _alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    let mut newcomer = ask(&nodes[1], "alice", &[]).await;
    expect_end(&mut newcomer, ErrorCode::NameInUse).await;
    let lasted = asked.elapsed();
    assert!(lasted < Duration::from_secs(1), "{lasted:?}");
}

/// CHAT-NAME-12: one of those that wait at three nodes has it, the others are told.
#[tokio::test(start_paused = true)]
async fn one_of_those_that_wait_at_several_nodes_gets_the_name() {
    let double = Double::new(43, Weather::FINE);
    let nodes = nodes(&double, &["a", "b", "c"]).await;
    let _silent = Peer::member(&nodes[0].hub, "alice", &KEEPALIVE, 1 << 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut let_in, mut refused) = (0, 0);
    let mut waiting = Vec::new();
    for node in &nodes {
        waiting.push(ask(node, "alice", &[]).await);
    }
    for peer in &mut waiting {
        match peer.next().await {
            Some(Message::Registered(_)) => let_in += 1,
            Some(Message::Error(error)) if error.code() == ErrorCode::NameInUse => refused += 1,
            message => panic!("{message:?}"),
        }
    }
    assert_eq!((let_in, refused), (1, 2));
}

/// The node of the holder is dead: the name is free when the others say so.
#[tokio::test(start_paused = true)]
async fn a_name_that_a_dead_node_holds_becomes_free() {
    let double = Double::new(44, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b"]).await;
    let _alice = Peer::member(&nodes[0].hub, "alice", &KEEPALIVE, 1 << 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    nodes[0].kill();
    let killed = Instant::now();
    let mut alice = ask(&nodes[1], "alice", &KEEPALIVE).await;
    registered(&mut alice).await;
    let lasted = killed.elapsed();
    assert!(lasted < Duration::from_secs(9), "{lasted:?}");
}

/// The holder leaves while it is checked, and a later member of the name is no ghost.
#[tokio::test(start_paused = true)]
async fn a_holder_that_leaves_while_it_is_checked_frees_the_name() {
    let double = Double::new(45, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &KEEPALIVE, 1 << 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut newcomer = ask(&nodes[1], "alice", &KEEPALIVE).await;
    expect_ping(&mut alice).await;
    let left = Instant::now();
    alice.send(Sent::Leave(wire::Leave {})).await;
    registered(&mut newcomer).await;
    assert!(left.elapsed() < Duration::from_secs(1));
    // Nobody asks for its name, so it is never ended for that.
    tokio::time::sleep(Duration::from_millis(2 * deadline_ms())).await;
    newcomer.send(chat_with(1, "mine")).await;
    while !matches!(newcomer.next().await, Some(Message::Receipt(_))) {}
}

/// CHAT-RES-5: a session that goes on at another node ends at the first one.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_resumed_elsewhere_is_replaced() {
    let double = Double::new(46, Weather::FINE);
    let nodes = nodes(&double, &["a", "b", "c"]).await;
    let presence = [Capability::Presence];
    let mut witness = Peer::member(&nodes[2].hub, "witness", &presence, 1 << 16).await;
    let mut before = Peer::connect(&nodes[0].hub, 1 << 16);
    before.send(register_with("alice", &KEEPALIVE)).await;
    let first = registered(&mut before).await;
    assert!(matches!(witness.next().await, Some(Message::Joined(_))));
    let resume = |attempt| resume(&first, &KEEPALIVE, 0, attempt);
    let resumed = Instant::now();
    let mut after = Peer::connect(&nodes[1].hub, 1 << 16);
    after.send(resume(2)).await;
    assert!(registered(&mut after).await.resumed_from > 0);
    // The holder is not asked: the token says enough.
    assert!(resumed.elapsed() < Duration::from_secs(1));
    expect_end(&mut before, ErrorCode::Replaced).await;
    // CHAT-RES-6: one that was on its way for longer, over a third node.
    let mut late = Peer::connect(&nodes[2].hub, 1 << 16);
    late.send(resume(1)).await;
    expect_end(&mut late, ErrorCode::Replaced).await;
    after.send(chat_with(1, "here")).await;
    assert_eq!(receipt(&mut after).await, 1);
}

/// A session goes on at a node that is behind: it knows the holder, and not yet what the
/// client has from another node.
#[tokio::test(start_paused = true)]
async fn a_session_is_resumed_at_a_node_that_is_behind() {
    let double = Double::new(48, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut before = Peer::connect(&nodes[0].hub, 1 << 16);
    before.send(register_with("alice", &BOTH)).await;
    let first = registered(&mut before).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes[1].hub.names(), ["alice"]);
    nodes[1].link.set_slow(SLOW_MS);
    // The first record passes, and the others are slow.
    for id in 1..=3 {
        before.send(chat_with(id, "hello")).await;
        assert_eq!(receipt(&mut before).await, id);
    }
    let mut after = Peer::connect(&nodes[1].hub, 1 << 16);
    after.send(resume(&first, &BOTH, 3, 1)).await;
    let second = registered(&mut after).await;
    assert_eq!((second.resumed_from, second.seq), (4, 3));
    expect_end(&mut before, ErrorCode::Replaced).await;
}
