//! Following: members with a filter receive what an unfiltered observer receives, less what
//! the filter keeps out, and hear up to where they have everything (CHAT-FOL, CHAT-COV).

use fastrand::Rng;

use super::*;
use crate::{
    filter::Filter,
    wire::{Chat, Covered, Follow, Following, Registered, Resume},
};

const FOLLOWS: [Capability; 1] = [Capability::Follow];
const RESUMES: [Capability; 3] = [Capability::Receipts, Capability::Resume, Capability::Follow];

/// Enough to overflow what can wait for a member, several times.
const FLOOD_CHATS: u64 = 3_000;

fn topics(topics: &[&str]) -> wire::Filter {
    wire::Filter {
        topics: topics.iter().map(|&it| it.to_owned()).collect(),
        ..Default::default()
    }
}

fn follow(id: u64, filter: wire::Filter) -> Sent {
    Sent::Follow(Follow {
        id,
        filter: Some(filter),
    })
}

fn about(topic: &str, text: &str) -> Sent {
    Sent::Chat(Chat {
        text: text.to_owned(),
        topic: topic.to_owned(),
        ..Default::default()
    })
}

fn register_following(name: &str, filter: wire::Filter) -> Sent {
    Sent::Register(wire::Register {
        name: name.to_owned(),
        capabilities: FOLLOWS.iter().map(|&c| c.into()).collect(),
        filter: Some(filter),
        ..Default::default()
    })
}

async fn registered(peer: &mut Peer) -> Registered {
    match peer.next().await {
        Some(Message::Registered(registered)) => registered,
        message => panic!("not registered but {message:?}"),
    }
}

async fn member_following(hub: &Arc<Hub>, name: &str, filter: wire::Filter) -> Peer {
    let mut peer = Peer::connect(hub, 1 << 20);
    peer.send(register_following(name, filter)).await;
    registered(&mut peer).await;
    peer
}

async fn next_chat(peer: &mut Peer) -> Chat {
    match peer.next().await {
        Some(Message::Chat(chat)) => chat,
        message => panic!("no chat but {message:?}"),
    }
}

async fn next_following(peer: &mut Peer) -> Following {
    match peer.next().await {
        Some(Message::Following(following)) => following,
        message => panic!("no Following but {message:?}"),
    }
}

async fn next_covered(peer: &mut Peer) -> Covered {
    match peer.next().await {
        Some(Message::Covered(covered)) => covered,
        message => panic!("no Covered but {message:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_receives_what_passes_and_hears_what_is_covered() {
    let hub = hub(unlimited());
    let mut bob = Peer::member(&hub, "bob", &FOLLOWS, 8_192).await;
    let mut eve = Peer::member(&hub, "Eve", &FOLLOWS, 8_192).await;
    let filter = wire::Filter {
        senders: vec!["EVE".to_owned()],
        ..topics(&["Build"])
    };
    let mut alice = member_following(&hub, "alice", filter).await;
    bob.send(about("other", "kept out")).await;
    bob.send(about("bUILD", "a topic")).await;
    bob.send(about("", "kept out")).await;
    for seq in 1..=3 {
        assert_eq!(next_chat(&mut eve).await.seq, seq);
    }
    eve.send(about("", "a sender")).await;
    assert_eq!(next_chat(&mut bob).await.seq, 4);
    bob.send(Sent::Chat(Chat {
        text: "a mention".to_owned(),
        mentions: vec!["carol".to_owned(), "Alice".to_owned()],
        ..Default::default()
    }))
    .await;
    bob.send(about("", "kept out")).await;
    for (seq, text) in [(2, "a topic"), (4, "a sender"), (5, "a mention")] {
        let chat = next_chat(&mut alice).await;
        assert_eq!((chat.seq, chat.text.as_str()), (seq, text));
    }
    assert_eq!(next_covered(&mut alice).await, Covered { seq: 6, sent: 3 });
    // Nothing more is told until something is passed over again.
    let interval = Duration::from_millis(u64::from(hub.limits().covered_interval_ms));
    assert!(timeout(4 * interval, alice.next()).await.is_err());
    let passed_over = Instant::now();
    bob.send(about("", "kept out")).await;
    assert_eq!(next_covered(&mut alice).await, Covered { seq: 7, sent: 3 });
    assert!(passed_over.elapsed() <= interval, "CHAT-COV-2");
}

#[tokio::test(start_paused = true)]
async fn topics_are_relayed_to_everybody_and_taken_from_members_with_follow_alone() {
    let hub = hub(unlimited());
    let mut bob = Peer::member(&hub, "bob", &FOLLOWS, 8_192).await;
    let mut plain = Peer::member(&hub, "plain", &[], 8_192).await;
    let chat = Chat {
        text: "hi".to_owned(),
        topic: "Build".to_owned(),
        mentions: vec!["Bob".to_owned()],
        ..Default::default()
    };
    bob.send(Sent::Chat(chat.clone())).await;
    let relayed = next_chat(&mut plain).await;
    assert_eq!(
        (relayed.topic, relayed.mentions),
        (chat.topic.clone(), chat.mentions.clone())
    );
    plain.send(Sent::Chat(chat)).await;
    let relayed = next_chat(&mut bob).await;
    assert!(relayed.topic.is_empty() && relayed.mentions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn bad_topics_mentions_and_filters_are_refused() {
    let hub = hub(unlimited());
    let mut bob = Peer::member(&hub, "bob", &FOLLOWS, 8_192).await;
    let mentions = |count: u32, name: &str| Chat {
        text: "hi".to_owned(),
        id: 5,
        mentions: vec![name.to_owned(); count as usize],
        ..Default::default()
    };
    let most = hub.limits().mentions();
    let topic = Chat {
        topic: "a b".to_owned(),
        ..mentions(0, "")
    };
    for chat in [topic, mentions(most + 1, "a"), mentions(1, "@a")] {
        bob.send(Sent::Chat(chat)).await;
        match bob.next().await {
            Some(Message::Error(error)) => {
                assert_eq!((error.code(), error.id), (ErrorCode::TopicInvalid, 5));
            }
            message => panic!("no error but {message:?}"),
        }
    }
    let long = vec!["a"; hub.limits().filter_entries_max as usize + 1];
    for filter in [topics(&["#build"]), topics(&long)] {
        bob.send(follow(7, filter.clone())).await;
        match bob.next().await {
            Some(Message::Error(error)) => {
                assert_eq!((error.code(), error.id), (ErrorCode::RequestInvalid, 7));
                assert!(!error.ends_session);
            }
            message => panic!("no error but {message:?}"),
        }
        let mut newcomer = Peer::connect(&hub, 8_192);
        newcomer.send(register_following("newcomer", filter)).await;
        newcomer.expect_error(ErrorCode::RequestInvalid).await;
        assert_eq!(newcomer.next().await, None);
    }
    let mut plain = Peer::member(&hub, "plain", &[], 8_192).await;
    plain.send(follow(1, topics(&["a"]))).await;
    plain.expect_error(ErrorCode::NotGranted).await;
}

/// What a member receives in a flood, with a change of the filter at a random place every
/// now and then, checked against an observer without a filter.
#[tokio::test(start_paused = true)]
async fn a_filter_that_changes_in_a_flood_keeps_to_its_places() {
    for seed in 0..20 {
        let mut rng = Rng::with_seed(seed);
        let hub = hub(unlimited());
        let mut sender = Peer::member(&hub, "sender", &FOLLOWS, 1 << 20).await;
        let mut observer = Peer::member(&hub, "observer", &[], 1 << 20).await;
        // Some take little at a time, so that what is due to them overflows.
        let buffer_bytes = rng.choice([256, 1 << 14, 1 << 20]).expect("one");
        let mut member = Peer::member(&hub, "member", &FOLLOWS, buffer_bytes).await;
        let mut filters = vec![wire::Filter::default()];
        for id in 1..=6 {
            for _ in 0..rng.u64(0..FLOOD_CHATS / 6) {
                let topic = rng.choice(["", "a", "b", "c"]).expect("one");
                sender.send(about(topic, "x")).await;
            }
            let filter = wire::Filter {
                without_topic: rng.bool(),
                ignore: vec!["sender".to_owned(); usize::from(rng.u8(..) < 30)],
                ..topics(rng.choice([&["a"][..], &["b", "c"], &[]]).expect("one"))
            };
            filters.push(filter.clone());
            member.send(follow(id, filter)).await;
        }
        sender.send(about("a", "the end")).await;
        member.send(follow(7, wire::Filter::default())).await;
        filters.push(wire::Filter::default());
        let mut chats = Vec::new();
        while chats
            .last()
            .is_none_or(|chat: &Chat| chat.text != "the end")
        {
            chats.push(next_chat(&mut observer).await);
        }
        let (mut received, mut seen, mut stage) = (0, 0, 0);
        let mut parsed = None;
        while stage < 7 {
            match member.next().await {
                Some(Message::Chat(chat)) => {
                    let due = chats.iter().find(|it| it.seq > seen && passes(&parsed, it));
                    assert_eq!(Some(&chat), due, "seed {seed}, CHAT-FOL-4");
                    seen = chat.seq;
                    received += 1;
                }
                Some(Message::Following(following)) => {
                    stage += 1;
                    assert_eq!(following.id, stage as u64);
                    let skipped = chats
                        .iter()
                        .find(|it| it.seq > seen && it.seq <= following.seq && passes(&parsed, it));
                    assert_eq!(skipped, None, "seed {seed}, CHAT-FOL-8");
                    assert!(following.seq >= seen, "seed {seed}, CHAT-FOL-7");
                    seen = following.seq;
                    parsed = Filter::parse("member", &filters[stage], 8).expect("good");
                }
                Some(Message::Covered(covered)) => {
                    assert_eq!(covered.sent, received, "seed {seed}, CHAT-COV-4");
                    let skipped = chats
                        .iter()
                        .find(|it| it.seq > seen && it.seq <= covered.seq && passes(&parsed, it));
                    assert_eq!(skipped, None, "seed {seed}, CHAT-COV-1");
                    assert!(parsed.is_some(), "CHAT-COV-5");
                }
                message => panic!("seed {seed}: {message:?}"),
            }
        }
    }
}

fn passes(filter: &Option<Filter>, chat: &Chat) -> bool {
    filter.as_ref().is_none_or(|filter| filter.passes(chat))
}

/// Members with presence hear of everybody, whatever they follow, also when too much is due
/// for them.
#[tokio::test(start_paused = true)]
async fn presence_passes_every_filter() {
    let hub = hub(unlimited());
    let mut sender = Peer::member(&hub, "sender", &FOLLOWS, 1 << 20).await;
    let mut member = Peer::connect(&hub, 256);
    let capabilities = [Capability::Follow, Capability::Presence];
    member.send(register_with("member", &capabilities)).await;
    registered(&mut member).await;
    assert!(matches!(member.next().await, Some(Message::Members(_))));
    member.send(follow(1, topics(&["a"]))).await;
    assert_eq!(
        next_following(&mut member).await,
        Following { id: 1, seq: 0 }
    );
    for _ in 0..600 {
        sender.send(about("b", "x")).await;
        sender.send(about("a", "x")).await;
        let mut guest = Peer::member(&hub, "guest", &[], 256).await;
        guest.send(Sent::Leave(wire::Leave {})).await;
        assert_eq!(guest.next().await, None);
    }
    let (mut joined, mut left, mut chats) = (0, 0, 0);
    while (joined, left, chats) != (600, 600, 600) {
        match member.next().await {
            Some(Message::Joined(_)) => joined += 1,
            Some(Message::Left(_)) => left += 1,
            Some(Message::Chat(chat)) => {
                chats += 1;
                assert_eq!(chat.seq, chats * 2);
            }
            Some(Message::Covered(_)) => {}
            message => panic!("{message:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_member_receives_what_passes_and_then_its_coverage() {
    let hub = hub(unlimited());
    let mut other = Peer::member(&hub, "other", &FOLLOWS, 1 << 20).await;
    let mut peer = Peer::connect(&hub, 1 << 20);
    peer.send(register_with("alice", &RESUMES)).await;
    let first = registered(&mut peer).await;
    peer.send(about("a", "own, and lost")).await;
    assert_eq!(next_chat(&mut other).await.seq, 1);
    drop(peer);
    for number in 0..1_000 {
        let topic = if number % 100 == 50 { "a" } else { "b" };
        other.send(about(topic, "x")).await;
    }
    let mut peer = Peer::connect(&hub, 1 << 20);
    peer.send(Sent::Register(wire::Register {
        name: "alice".to_owned(),
        capabilities: RESUMES.iter().map(|&c| c.into()).collect(),
        resume: Some(Resume {
            token: first.resume_token,
            epoch: first.epoch,
            seq: 0,
            attempt: 1,
        }),
        filter: Some(topics(&["a"])),
        ..Default::default()
    }))
    .await;
    assert_eq!(registered(&mut peer).await.resumed_from, 1);
    let mut seqs = Vec::new();
    let covered = loop {
        match peer.next().await {
            Some(Message::Chat(chat)) => seqs.push(chat.seq),
            Some(Message::Covered(covered)) => break covered,
            message => panic!("{message:?}"),
        }
    };
    let mut expected = vec![1];
    expected.extend((0..10).map(|hundred| 52 + hundred * 100));
    assert_eq!(seqs, expected);
    // CHAT-COV-3
    assert_eq!(
        covered,
        Covered {
            seq: 1_001,
            sent: 11
        }
    );
    other.send(about("b", "x")).await;
    other.send(about("a", "live")).await;
    assert_eq!(next_chat(&mut peer).await.seq, 1_003);
}

#[tokio::test(start_paused = true)]
async fn how_many_were_sent_counts_over_all_filters() {
    let hub = hub(unlimited());
    let mut other = Peer::member(&hub, "other", &FOLLOWS, 1 << 20).await;
    let mut member = Peer::member(&hub, "member", &FOLLOWS, 1 << 20).await;
    let mut sent = 0;
    for round in 0..4 {
        // Without a filter, its own chats not counted.
        for _ in 0..3 {
            other.send(about("b", "x")).await;
            next_chat(&mut member).await;
            sent += 1;
            member.send(about("b", "own")).await;
            next_chat(&mut other).await;
        }
        member.send(follow(1, topics(&["a"]))).await;
        next_following(&mut member).await;
        for _ in 0..round {
            other.send(about("a", "x")).await;
            next_chat(&mut member).await;
            sent += 1;
        }
        other.send(about("b", "kept out")).await;
        assert_eq!(next_covered(&mut member).await.sent, sent, "CHAT-COV-4");
        member.send(follow(2, wire::Filter::default())).await;
        next_following(&mut member).await;
    }
}

/// Following and Covered tell numbers, so they wait for the commit (CHAT-ORD-9).
#[tokio::test(start_paused = true)]
async fn following_waits_for_the_commit() {
    let hub = hub(unlimited());
    let mut other = Peer::member(&hub, "other", &FOLLOWS, 1 << 20).await;
    let mut member = Peer::member(&hub, "member", &FOLLOWS, 1 << 20).await;
    hub.defer_commits();
    other.send(about("a", "before")).await;
    let settle = Duration::from_secs(1);
    assert!(timeout(settle, member.next()).await.is_err());
    member.send(follow(1, topics(&["b"]))).await;
    assert!(timeout(settle, member.next()).await.is_err());
    hub.commit();
    assert_eq!(next_chat(&mut member).await.seq, 1);
    assert_eq!(
        next_following(&mut member).await,
        Following { id: 1, seq: 1 }
    );
    other.send(about("b", "behind")).await;
    other.send(about("a", "kept out")).await;
    assert!(timeout(settle, member.next()).await.is_err());
    hub.commit();
    assert_eq!(next_chat(&mut member).await.seq, 2);
}

/// What nobody follows is held for nobody, and puts nobody behind.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_due_nothing_holds_nothing() {
    let limits = Limits {
        history_memory_bytes: 0,
        lag_bytes_max: LAG_BYTES_FLOOR,
        ..unlimited()
    };
    let hub = hub(limits);
    let mut sender = Peer::member(&hub, "sender", &FOLLOWS, 1 << 20).await;
    let mut members = Vec::new();
    for index in 0..20 {
        members.push(member_following(&hub, &format!("member{index}"), topics(&["a"])).await);
    }
    let text = "x".repeat(4_000);
    for _ in 0..4 * LAG_BYTES_FLOOR / 4_000 {
        sender.send(about("b", &text)).await;
    }
    sender.send(about("a", "the end")).await;
    for member in &mut members {
        loop {
            match member.next().await {
                Some(Message::Chat(chat)) => break assert_eq!(chat.text, "the end"),
                Some(Message::Covered(_)) => {}
                message => panic!("{message:?}"),
            }
        }
    }
    // The one that is being filled, and one that was closed at the last moment.
    assert!(hub.channel.retained_bytes() <= 2 * 512 * 1_024);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_a_filter_is_told_that_the_server_closes() {
    let hub = hub(unlimited());
    let mut member = member_following(&hub, "member", topics(&["a"])).await;
    hub.begin_closing(closing());
    assert!(matches!(
        member.next().await,
        Some(Message::ServerClosing(_))
    ));
    assert_eq!(member.next().await, None);
}
