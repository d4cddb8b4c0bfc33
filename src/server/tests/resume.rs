//! Resuming: a client that comes back receives what it missed, once, and what it sends
//! again is accepted once (CHAT-RES).

use super::*;
use crate::wire::{Registered, Resume, ResumeFailure};

const RESUMES: [Capability; 2] = [Capability::Receipts, Capability::Resume];

/// What a client must keep to come back.
#[derive(Clone)]
struct Kept {
    name: &'static str,
    token: Vec<u8>,
    epoch: String,
    seq: u64,
    attempt: u32,
}

impl Kept {
    fn register(&self, capabilities: &[Capability]) -> Sent {
        Sent::Register(wire::Register {
            name: self.name.to_owned(),
            capabilities: capabilities.iter().map(|&c| c.into()).collect(),
            resume: Some(Resume {
                token: self.token.clone(),
                epoch: self.epoch.clone(),
                seq: self.seq,
                attempt: self.attempt,
            }),
            ..Default::default()
        })
    }
}

async fn registered(peer: &mut Peer) -> Registered {
    match peer.next().await {
        Some(Message::Registered(registered)) => registered,
        message => panic!("not registered but {message:?}"),
    }
}

async fn begin(hub: &Arc<Hub>, name: &'static str) -> (Peer, Kept) {
    let mut peer = Peer::connect(hub, 1 << 20);
    peer.send(register_with(name, &RESUMES)).await;
    let registered = registered(&mut peer).await;
    assert_eq!(registered.resumed_from, 0);
    let kept = Kept {
        name,
        token: registered.resume_token,
        epoch: registered.epoch,
        seq: registered.seq,
        attempt: 1,
    };
    (peer, kept)
}

async fn resume(hub: &Arc<Hub>, kept: &Kept) -> (Peer, Registered) {
    let mut peer = Peer::connect(hub, 1 << 20);
    peer.send(kept.register(&RESUMES)).await;
    let registered = registered(&mut peer).await;
    (peer, registered)
}

fn chat_with(id: u64, text: &str) -> Sent {
    Sent::Chat(wire::Chat {
        text: text.to_owned(),
        id,
        ..Default::default()
    })
}

async fn receipt(peer: &mut Peer) -> wire::Receipt {
    match peer.next().await {
        Some(Message::Receipt(receipt)) => receipt,
        message => panic!("no receipt but {message:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_comes_in_order_and_then_what_is_live() {
    let hub = hub(unlimited());
    let mut other = Peer::member(&hub, "other", &[], 1 << 20).await;
    let (mut peer, mut kept) = begin(&hub, "alice").await;
    other.send(chat(1)).await;
    assert_eq!(peer.next_seq().await, 1);
    kept.seq = 1;
    peer.send(chat_with(7, "own")).await;
    assert_eq!(receipt(&mut peer).await.seq, 2);
    assert_eq!(other.next_seq().await, 2);
    drop(peer);
    for _ in 0..50 {
        other.send(chat(1)).await;
    }
    let (mut peer, registered) = resume(&hub, &kept).await;
    assert_eq!(registered.resumed_from, 2);
    // Its own chat, of the session before, comes too.
    for seq in 2..=52 {
        assert_eq!(peer.next_seq().await, seq);
    }
    // What it sends again is accepted once, what is new is not sent back to it.
    peer.send(chat_with(7, "own")).await;
    assert_eq!(receipt(&mut peer).await.seq, 2);
    peer.send(chat_with(8, "new")).await;
    assert_eq!(receipt(&mut peer).await.seq, 53);
    assert_eq!(other.next_seq().await, 53);
    other.send(chat(1)).await;
    assert_eq!(peer.next_seq().await, 54);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_session_is_replaced_and_not_heard_any_more() {
    let hub = hub(unlimited());
    let mut other = Peer::member(&hub, "other", &[Capability::Presence], 1 << 20).await;
    let (mut ghost, kept) = begin(&hub, "alice").await;
    assert!(matches!(other.next().await, Some(Message::Joined(_))));
    let (mut peer, registered) = resume(&hub, &kept).await;
    assert_eq!(registered.resumed_from, 1);
    let left = wire::Left {
        name: "alice".to_owned(),
        reason: LeftReason::ConnectionLost.into(),
    };
    assert_eq!(other.next().await, Some(Message::Left(left)));
    assert!(matches!(other.next().await, Some(Message::Joined(_))));
    let _ = ghost.stream.write_all(&encoded(chat(3))).await;
    ghost.expect_error(ErrorCode::Replaced).await;
    assert_eq!(ghost.next().await, None);
    peer.send(chat_with(1, "x")).await;
    assert_eq!(receipt(&mut peer).await.seq, 1);
    assert_eq!(other.next_seq().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_register_changes_nothing() {
    let hub = hub(unlimited());
    let (_ghost, mut kept) = begin(&hub, "alice").await;
    let late = kept.clone();
    kept.attempt = 2;
    let (mut peer, registered) = resume(&hub, &kept).await;
    assert_eq!(registered.resumed_from, 1);
    let mut second = Peer::connect(&hub, 8_192);
    second.send(late.register(&RESUMES)).await;
    second.expect_error(ErrorCode::Replaced).await;
    peer.send(chat_with(1, "still here")).await;
    assert_eq!(receipt(&mut peer).await.seq, 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_until_a_later_one_is_used() {
    let hub = hub(unlimited());
    let (peer, mut kept) = begin(&hub, "alice").await;
    drop(peer);
    // Registered was lost, several times: the old token still works.
    let mut newest = Vec::new();
    for attempt in 1..10 {
        kept.attempt = attempt;
        let (_, registered) = resume(&hub, &kept).await;
        assert_eq!(registered.resumed_from, 1, "attempt {attempt}");
        newest = registered.resume_token;
    }
    let mut old = kept.clone();
    kept.token = newest;
    kept.attempt = 20;
    let (mut peer, registered) = resume(&hub, &kept).await;
    assert_eq!(registered.resumed_from, 1);
    // Closed in order and not left, so that the name is free.
    peer.stream.shutdown().await.expect("it is open");
    assert_eq!(peer.next().await, None);
    old.attempt = 30;
    let (_, registered) = resume(&hub, &old).await;
    assert_eq!(registered.resumed_from, 0);
    assert_eq!(registered.resume_failure(), ResumeFailure::UnknownToken);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_resumed_is_told_apart() {
    let hub = hub(unlimited());
    type Change = fn(&mut Kept);
    let changes: [(Change, ResumeFailure); 6] = [
        (|it| it.token = vec![1; 16], ResumeFailure::UnknownToken),
        (|it| it.token.clear(), ResumeFailure::UnknownToken),
        (|it| it.token.push(0), ResumeFailure::UnknownToken),
        (|it| it.name = "bob", ResumeFailure::UnknownToken),
        (|it| it.epoch.push('x'), ResumeFailure::OtherEpoch),
        (|it| it.seq = 1, ResumeFailure::FutureSeq),
    ];
    for (change, failure) in changes {
        let (peer, mut kept) = begin(&hub, "alice").await;
        drop(peer);
        change(&mut kept);
        let (mut peer, registered) = resume(&hub, &kept).await;
        assert_eq!(registered.resume_failure(), failure);
        // It is a new session, which can be resumed itself.
        assert_eq!(registered.resumed_from, 0);
        assert!(!registered.resume_token.is_empty());
        peer.send(Sent::Leave(wire::Leave {})).await;
        assert_eq!(peer.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leave_ends_the_line() {
    let hub = hub(unlimited());
    let (mut peer, kept) = begin(&hub, "alice").await;
    peer.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(peer.next().await, None);
    let (_, registered) = resume(&hub, &kept).await;
    assert_eq!(registered.resume_failure(), ResumeFailure::UnknownToken);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_somebody_else_took_leaves_the_token_valid() {
    let hub = hub(unlimited());
    let (peer, kept) = begin(&hub, "alice").await;
    drop(peer);
    let mut thief = Peer::member(&hub, "ALICE", &[], 8_192).await;
    let mut second = Peer::connect(&hub, 8_192);
    second.send(kept.register(&RESUMES)).await;
    second.expect_error(ErrorCode::NameInUse).await;
    thief.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(thief.next().await, None);
    let (_, registered) = resume(&hub, &kept).await;
    assert_eq!(registered.resumed_from, 1);
}

/// The past in memory is bounded, and what is not kept is counted.
#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_told() {
    let hub = hub(Limits {
        history_memory_bytes: 1 << 20, // Two segments.
        ..unlimited()
    });
    let mut other = Peer::member(&hub, "other", &[], 1 << 20).await;
    let (peer, kept) = begin(&hub, "alice").await;
    drop(peer);
    const CHATS: u64 = 3_000;
    for _ in 0..CHATS {
        other.send(chat(1_000)).await;
    }
    let (mut peer, registered) = resume(&hub, &kept).await;
    let from = registered.resumed_from;
    let kept_bytes = (registered.seq - from + 1) * 1_000;
    assert!((1 << 20..2 << 20).contains(&kept_bytes), "from {from}");
    other.send(chat(1)).await;
    for seq in from..=registered.seq + 1 {
        assert_eq!(peer.next_seq().await, seq);
    }
}

/// Presence of the time before the Register is left out, presence behind it is not.
#[tokio::test(start_paused = true)]
async fn presence_begins_with_the_new_session() {
    let hub = hub(unlimited());
    let capabilities = [RESUMES[0], RESUMES[1], Capability::Presence];
    let mut peer = Peer::connect(&hub, 1 << 20);
    peer.send(register_with("alice", &capabilities)).await;
    let registered = registered(&mut peer).await;
    let kept = Kept {
        name: "alice",
        token: registered.resume_token,
        epoch: registered.epoch,
        seq: 0,
        attempt: 1,
    };
    drop(peer);
    let mut other = Peer::member(&hub, "other", &[], 1 << 20).await;
    other.send(chat(1)).await;
    let mut third = Peer::member(&hub, "third", &[], 1 << 20).await;
    other.send(chat(1)).await;
    assert_eq!(third.next_seq().await, 2);
    let mut peer = Peer::connect(&hub, 1 << 20);
    peer.send(kept.register(&capabilities)).await;
    assert_eq!(self::registered(&mut peer).await.resumed_from, 1);
    match peer.next().await {
        Some(Message::Members(members)) => assert_eq!(members.names.len(), 3),
        message => panic!("no members but {message:?}"),
    }
    third.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(third.next().await, None);
    other.send(chat(1)).await;
    assert_eq!(peer.next_seq().await, 1);
    assert_eq!(peer.next_seq().await, 2);
    assert!(matches!(peer.next().await, Some(Message::Left(left)) if left.name == "third"));
    assert_eq!(peer.next_seq().await, 3);
}

/// A chat that was accepted is answered with its receipt, whatever would refuse it now.
#[tokio::test(start_paused = true)]
async fn no_limit_refuses_what_was_accepted_before() {
    let hub = hub(Limits {
        chat_burst: 1,
        chat_interval_ms: Some(3_600_000),
        ..Limits::default()
    });
    let (mut peer, kept) = begin(&hub, "alice").await;
    peer.send(chat_with(5, "x")).await;
    let first = receipt(&mut peer).await;
    peer.send(chat_with(6, "y")).await;
    peer.expect_error(ErrorCode::RateLimited).await;
    drop(peer);
    let (mut peer, _) = resume(&hub, &kept).await;
    assert_eq!(peer.next_seq().await, 1);
    for text in ["x", "", "\u{0}"] {
        peer.send(chat_with(5, text)).await;
        assert_eq!(receipt(&mut peer).await, first);
    }
}

#[tokio::test(start_paused = true)]
async fn resume_is_not_granted_without_receipts() {
    let hub = hub(unlimited());
    let mut peer = Peer::connect(&hub, 8_192);
    peer.send(register_with("alice", &[Capability::Resume]))
        .await;
    let registered = registered(&mut peer).await;
    assert!(registered.capabilities.is_empty() && registered.resume_token.is_empty());
}
