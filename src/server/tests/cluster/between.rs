//! What goes between nodes beside chats: Directs, and what operators do.

use super::*;
use crate::{
    cluster::record::{Kind, NodeDown, Record},
    name::Name,
    session::{Ban, Operated, Operation, Reason, Target},
    text::Text,
    wire::ResumeFailure,
};

const DIRECT: [Capability; 3] = [Capability::Receipts, Capability::Resume, Capability::Direct];

pub(super) fn direct_to(peer: &str, id: u64, text: &str) -> Sent {
    Sent::Direct(wire::Direct {
        peer: peer.to_owned(),
        text: text.to_owned(),
        id,
        ..Default::default()
    })
}

async fn direct(peer: &mut Peer) -> wire::Direct {
    match peer.next().await {
        Some(Message::Direct(direct)) => direct,
        message => panic!("no Direct but {message:?}"),
    }
}

async fn state(peer: &mut Peer) -> (u64, bool) {
    match peer.next().await {
        Some(Message::DirectState(state)) => (state.id, state.delivered),
        message => panic!("no state but {message:?}"),
    }
}

async fn unreachable(peer: &mut Peer, id: u64) {
    match peer.next().await {
        Some(Message::Error(error)) => {
            assert_eq!(error.code(), ErrorCode::NotReachable);
            assert_eq!(error.id, id);
        }
        message => panic!("no error but {message:?}"),
    }
}

/// CHAT-DM-2 to CHAT-DM-9: as on one node, and no text of it is in the stream.
#[tokio::test(start_paused = true)]
async fn a_direct_goes_to_a_member_of_another_node() {
    let double = Double::new(20, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &DIRECT, 1 << 16).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &DIRECT, 1 << 16).await;
    let mut carol = Peer::member(&nodes[1].hub, "carol", &BOTH, 1 << 16).await;
    // The answers keep the order of what was sent.
    alice.send(chat_with(1, "to all")).await;
    alice.send(direct_to("BOB", 2, "between us")).await;
    alice.send(direct_to("carol", 3, "takes none")).await;
    alice.send(direct_to("nobody", 4, "is not there")).await;
    alice.send(chat_with(5, "to all again")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    assert_eq!(receipt(&mut alice).await, 0);
    unreachable(&mut alice, 3).await;
    unreachable(&mut alice, 4).await;
    assert_eq!(receipt(&mut alice).await, 2);
    assert_eq!(bob.next_seq().await, 1);
    let came = direct(&mut bob).await;
    assert_eq!(
        (came.peer.as_str(), came.text.as_str()),
        ("alice", "between us")
    );
    assert_eq!((came.seq, came.id), (1, 0));
    assert_eq!(bob.next_seq().await, 2);
    bob.send(Sent::DirectAck(wire::DirectAck { seq: 1 })).await;
    assert_eq!(state(&mut alice).await, (2, true));
    assert_eq!([carol.next_seq().await, carol.next_seq().await], [1, 2]);
    for record in double.records() {
        let text = b"between us";
        assert!(!record.windows(text.len()).any(|it| it == text));
    }
}

/// CHAT-DM-11: the id is remembered on every node.
#[tokio::test(start_paused = true)]
async fn a_direct_that_is_sent_again_over_another_node_comes_once() {
    let double = Double::new(21, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b", "c"]).await;
    let mut alice = Peer::connect(&nodes[0].hub, 1 << 16);
    alice.send(register_with("alice", &DIRECT)).await;
    let first = registered(&mut alice).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &DIRECT, 1 << 16).await;
    alice.send(direct_to("bob", 7, "once")).await;
    assert_eq!(receipt(&mut alice).await, 0);
    assert_eq!(direct(&mut bob).await.text, "once");
    nodes[0].kill();
    let mut alice = Peer::connect(&nodes[2].hub, 1 << 16);
    alice.send(resume(&first, &DIRECT, 0, 1)).await;
    registered(&mut alice).await;
    alice.send(direct_to("bob", 7, "once")).await;
    assert_eq!(receipt(&mut alice).await, 0);
    alice.send(direct_to("bob", 8, "another")).await;
    assert_eq!(receipt(&mut alice).await, 0);
    assert_eq!(direct(&mut bob).await.text, "another");
}

/// The recipient's node dies: what it has not answered reaches nobody, and what it has is
/// not delivered (CHAT-DM-9).
#[tokio::test(start_paused = true)]
async fn directs_to_a_dead_node_are_settled() {
    let double = Double::new(22, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &DIRECT, 1 << 16).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &DIRECT, 1 << 16).await;
    alice.send(direct_to("bob", 1, "taken")).await;
    assert_eq!(receipt(&mut alice).await, 0);
    assert_eq!(direct(&mut bob).await.text, "taken");
    nodes[1].kill();
    let asked = Instant::now();
    alice.send(direct_to("bob", 2, "into the void")).await;
    unreachable(&mut alice, 2).await;
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(state(&mut alice).await, (1, false));
}

/// What its sender was told is lost does not come later.
#[tokio::test(start_paused = true)]
async fn a_direct_that_was_given_up_does_not_come_late() {
    let double = Double::new(23, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &DIRECT, 1 << 16).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &DIRECT, 1 << 16).await;
    nodes[1].link.set_cut(true);
    alice.send(direct_to("bob", 1, "too late")).await;
    unreachable(&mut alice, 1).await;
    nodes[1].link.set_cut(false);
    alice.send(direct_to("bob", 2, "in time")).await;
    assert_eq!(receipt(&mut alice).await, 0);
    assert_eq!(direct(&mut bob).await.text, "in time");
}

/// How long the next record takes to a node that is behind, in milliseconds.
pub(super) const SLOW_MS: u64 = 400;

/// Who was told of a member reaches it, though its own node does not know it yet.
#[tokio::test(start_paused = true)]
async fn a_direct_reaches_a_member_that_has_just_joined_at_another_node() {
    let double = Double::new(28, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &DIRECT, 1 << 16).await;
    nodes[0].link.set_slow(SLOW_MS);
    // The next one is slow.
    alice.send(chat_with(9, "alone?")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    let mut bob = Peer::member(&nodes[1].hub, "bob", &DIRECT, 1 << 16).await;
    assert_eq!(nodes[0].hub.names(), ["alice"]);
    alice.send(direct_to("bob", 1, "welcome")).await;
    assert_eq!(receipt(&mut alice).await, 0);
    assert_eq!(direct(&mut bob).await.text, "welcome");
}

/// The text may come to the recipient's node before it knows the node of the sender.
#[tokio::test(start_paused = true)]
async fn a_direct_waits_for_a_node_that_is_behind() {
    let double = Double::new(29, Weather::FINE);
    let nodes = nodes(&double, &["b"]).await;
    let mut bob = Peer::member(&nodes[0].hub, "bob", &DIRECT, 1 << 16).await;
    nodes[0].link.set_slow(SLOW_MS);
    bob.send(chat_with(9, "alone?")).await;
    assert_eq!(receipt(&mut bob).await, 1);
    let newcomer = Node::start(&double, "a");
    newcomer.serves().await;
    let mut alice = Peer::member(&newcomer.hub, "alice", &DIRECT, 1 << 16).await;
    assert_eq!(nodes[0].hub.names(), ["bob"]);
    alice.send(direct_to("bob", 1, "I am new here")).await;
    assert_eq!(receipt(&mut alice).await, 0);
    assert_eq!(direct(&mut bob).await.text, "I am new here");
}

/// The recipient goes on at a third node while a Direct is on its way to the second one.
#[tokio::test(start_paused = true)]
async fn a_direct_follows_its_recipient() {
    let double = Double::new(30, Weather::FINE);
    let mut nodes = nodes(&double, &["a", "b", "c"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &DIRECT, 1 << 16).await;
    let mut bob = Peer::connect(&nodes[1].hub, 1 << 16);
    bob.send(register_with("bob", &DIRECT)).await;
    let first = registered(&mut bob).await;
    nodes[1].kill();
    alice.send(direct_to("bob", 1, "follow me")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut bob = Peer::connect(&nodes[2].hub, 1 << 16);
    bob.send(resume(&first, &DIRECT, 0, 1)).await;
    registered(&mut bob).await;
    // Then it is certain that the second one does not answer.
    let _again = Node::start(&double, "b");
    assert_eq!(receipt(&mut alice).await, 0);
    assert_eq!(direct(&mut bob).await.text, "follow me");
    bob.send(Sent::DirectAck(wire::DirectAck { seq: 1 })).await;
    assert_eq!(state(&mut alice).await, (1, true));
}

/// CHAT-MOD: what an operator does at one node holds at all of them.
#[tokio::test(start_paused = true)]
async fn an_operator_reaches_members_of_all_nodes() {
    let double = Double::new(24, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let name = |name: &str| Name::parse(name).expect("a name");
    let ban = || Ban {
        until_unix_ms: None,
        reason: Reason::parse("enough").expect("a reason"),
    };
    let operator = &nodes[0].hub;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &BOTH, 1 << 16).await;
    let kick = |who: &str| Operation::Kick {
        name: name(who),
        reason: Reason::default(),
    };
    let kicked = operator.carry_out_operation(kick("Bob")).await;
    assert_eq!(kicked, Ok(Operated::Done(true)));
    expect_end(&mut bob, ErrorCode::Kicked).await;
    // Its Leave follows.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let kicked = operator.carry_out_operation(kick("bob")).await;
    assert_eq!(kicked, Ok(Operated::Done(false)));

    let mut bob = Peer::member(&nodes[1].hub, "bob", &BOTH, 1 << 16).await;
    let say = Operation::Say {
        text: Text::parse("a word".to_owned(), 100).expect("a text"),
    };
    let said = operator.carry_out_operation(say).await;
    assert_eq!(said, Ok(Operated::Said(1)));
    assert_eq!(bob.next_seq().await, 1);
    let mute = Operation::Mute {
        name: name("bob"),
        mute: ban(),
    };
    let muted = operator.carry_out_operation(mute).await;
    assert_eq!(muted, Ok(Operated::Done(true)));
    // It is ordered at this node; the other one is some milliseconds behind.
    tokio::time::sleep(Duration::from_millis(100)).await;
    bob.send(chat_with(1, "hello")).await;
    bob.expect_error(ErrorCode::Muted).await;
    let unmute = Operation::Unmute { name: name("bob") };
    let unmuted = nodes[1].hub.carry_out_operation(unmute).await;
    assert_eq!(unmuted, Ok(Operated::Done(true)));
    bob.send(chat_with(2, "remove me")).await;
    assert_eq!(receipt(&mut bob).await, 2);
    assert!(operator.remove(3).await.is_err());
    operator.remove(2).await.expect("it is there");

    let banned = operator
        .carry_out_operation(Operation::Ban {
            targets: vec![Target::Name(name("bob"))],
            with_address_of: None,
            ban: ban(),
        })
        .await;
    assert_eq!(banned, Ok(Operated::Ended(1)));
    expect_end(&mut bob, ErrorCode::Banned).await;
    // Also for who comes later, and in another life of the engine.
    let newcomer = Node::start(&double, "c");
    newcomer.serves().await;
    double.restart(0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let latest = Node::start(&double, "d");
    for node in nodes.iter().chain([&newcomer, &latest]) {
        node.serves().await;
        let mut bob = Peer::connect(&node.hub, 1 << 16);
        bob.send(register("bob")).await;
        expect_end(&mut bob, ErrorCode::Banned).await;
    }
    let unban = Operation::Unban {
        target: Target::Name(name("bob")),
    };
    let unbanned = latest.hub.carry_out_operation(unban).await;
    assert_eq!(unbanned, Ok(Operated::Done(true)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    Peer::member(&nodes[0].hub, "bob", &BOTH, 1 << 16).await;
}

fn banned(name: &Name) -> Operation {
    Operation::Ban {
        targets: vec![Target::Name(name.clone())],
        with_address_of: None,
        ban: Ban {
            until_unix_ms: None,
            reason: Reason::default(),
        },
    }
}

/// CHAT-MOD-5: not at another node either, while its own does not know of it yet.
#[tokio::test(start_paused = true)]
async fn a_session_that_the_operator_has_ended_is_not_resumed_at_another_node() {
    let double = Double::new(31, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let name = Name::parse("alice").expect("a name");
    let kick = Operation::Kick {
        name: name.clone(),
        reason: Reason::default(),
    };
    for (operation, code) in [
        (kick, ErrorCode::Kicked),
        (banned(&name), ErrorCode::Banned),
    ] {
        let mut alice = Peer::connect(&nodes[0].hub, 1 << 16);
        alice.send(register_with("alice", &BOTH)).await;
        let first = registered(&mut alice).await;
        nodes[0].link.set_slow(SLOW_MS);
        let operated = nodes[1].hub.carry_out_operation(operation).await;
        assert!(
            matches!(operated, Ok(Operated::Done(true) | Operated::Ended(1))),
            "{operated:?}"
        );
        assert_eq!(nodes[1].hub.names(), [""; 0]);
        let first = wire::Registered {
            name: "ally".to_owned(),
            ..first
        };
        let mut ally = Peer::connect(&nodes[1].hub, 1 << 16);
        ally.send(resume(&first, &BOTH, 0, 1)).await;
        let second = registered(&mut ally).await;
        assert_eq!(second.resume_failure(), ResumeFailure::UnknownToken);
        ally.send(Sent::Leave(wire::Leave {})).await;
        assert_eq!(ally.next().await, None);
        nodes[0].link.set_slow(0);
        expect_end(&mut alice, code).await;
    }
}

/// CHAT-MOD-3: the ban stands in the order before a Join that a node has made without
/// knowing of it.
#[tokio::test(start_paused = true)]
async fn a_ban_ends_a_join_that_stands_behind_it() {
    let double = Double::new(32, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let name = Name::parse("alice").expect("a name");
    let mut bob = Peer::member(&nodes[1].hub, "bob", &[Capability::Presence], 1 << 16).await;
    nodes[0].link.set_slow(SLOW_MS);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let operated = nodes[1].hub.carry_out_operation(banned(&name)).await;
    assert_eq!(operated, Ok(Operated::Ended(0)));
    let mut alice = Peer::connect(&nodes[0].hub, 1 << 16);
    alice.send(register_with("alice", &BOTH)).await;
    expect_end(&mut alice, ErrorCode::Banned).await;
    assert!(matches!(bob.next().await, Some(Message::Joined(it)) if it.name == "alice"));
    match bob.next().await {
        Some(Message::Left(left)) => assert_eq!(left.reason(), LeftReason::Banned),
        message => panic!("not left but {message:?}"),
    }
    // It cannot be resumed.
    assert!(nodes[1].hub.snapshot().lines.is_empty());
}

/// Its Leave stands behind the kick in the order, and changes nothing any more.
#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_while_the_operator_throws_it_out_is_closed() {
    let double = Double::new(33, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    nodes[0].link.set_slow(SLOW_MS);
    // The next one is slow.
    alice.send(chat_with(1, "hello")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    let kick = Operation::Kick {
        name: Name::parse("alice").expect("a name"),
        reason: Reason::default(),
    };
    let kicked = nodes[1].hub.carry_out_operation(kick).await;
    assert_eq!(kicked, Ok(Operated::Done(true)));
    alice.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(alice.next().await, None);
}

/// An operator whose server is cut off is told so.
#[tokio::test(start_paused = true)]
async fn an_operation_of_a_node_that_is_cut_off_is_refused() {
    let double = Double::new(25, Weather::FINE);
    let nodes = nodes(&double, &["a"]).await;
    let unmute = || Operation::Unmute {
        name: Name::parse("bob").expect("a name"),
    };
    nodes[0].link.set_cut(true);
    let refused = nodes[0].hub.carry_out_operation(unmute()).await;
    assert!(refused.is_err(), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(7)).await;
    let refused = nodes[0].hub.carry_out_operation(unmute()).await;
    assert!(refused.is_err(), "{refused:?}");
}

/// A NodeDown that names the last batch of a node counts, for that node too.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_declared_gone_ends_its_sessions_at_once() {
    let double = Double::new(26, Weather::FINE);
    let nodes = nodes(&double, &["a", "b"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    let mut bob = Peer::member(&nodes[1].hub, "bob", &[Capability::Presence], 1 << 16).await;
    let records = double.records();
    let records = records
        .iter()
        .map(|it| Record::decode(&it[..]).expect("a record"));
    let mut of_a = records.filter(|it| it.node == "a");
    let last = of_a.next_back().expect("it spoke");
    let down = |node: &str, last_batch| Record {
        life: double.life(),
        node: node.to_owned(),
        incarnation: 1,
        batch_no: 1,
        time_unix_ms: 1,
        items: vec![
            Kind::NodeDown(NodeDown {
                node: "a".to_owned(),
                incarnation: last.incarnation,
                last_batch,
            })
            .into(),
        ],
    };
    // One that knows an earlier batch only has no effect.
    double.inject(down("y", last.batch_no - 1).encode_to_vec());
    alice.send(chat_with(1, "I am here")).await;
    assert_eq!(receipt(&mut alice).await, 1);
    assert_eq!(bob.next_seq().await, 1);
    let last_batch = last.batch_no + 1;
    let declared = Instant::now();
    double.inject(down("z", last_batch).encode_to_vec());
    expect_end(&mut alice, ErrorCode::ClusterUnreachable).await;
    assert!(declared.elapsed() < Duration::from_secs(1));
    assert!(matches!(bob.next().await, Some(Message::Left(it)) if it.name == "alice"));
    nodes[0].serves().await;
}

/// A batch that is lost on the way is published again until it is in the stream, however
/// often: whoever goes on has its receipts without sending anything again.
#[tokio::test(start_paused = true)]
async fn what_is_lost_on_the_way_is_published_again() {
    let half = Weather {
        lost: 20,
        refused: 30,
        ..Weather::FINE
    };
    let double = Double::new(27, half);
    let nodes = nodes(&double, &["a"]).await;
    let mut alice = Peer::member(&nodes[0].hub, "alice", &BOTH, 1 << 16).await;
    for id in 1..=40 {
        alice.send(chat_with(id, "hello")).await;
        assert_eq!(receipt(&mut alice).await, id);
    }
}
