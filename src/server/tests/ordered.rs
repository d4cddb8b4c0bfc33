//! A hub whose commands come back later, in an order: what a node of a cluster does, with
//! an order that is of one node.

use super::*;
use crate::room::{Command, MemberId};

/// How long a command is on its way.
const WAY: Duration = Duration::from_millis(20);

const RECEIPTS: [Capability; 1] = [Capability::Receipts];

/// A hub whose commands come back after [`WAY`].
fn ordered_hub(limits: Limits) -> Arc<Hub> {
    let hub = hub(limits);
    hub.order_elsewhere(1_000);
    hub.set_reachable();
    let ordering = Arc::clone(&hub);
    tokio::spawn(async move {
        loop {
            ordering.commands_made().await;
            let commands = ordering.take_outgoing().commands;
            tokio::time::sleep(WAY).await;
            apply(&ordering, commands);
        }
    });
    hub
}

fn apply(hub: &Hub, commands: Vec<Command>) {
    hub.in_order(|in_order| {
        for command in commands {
            let MemberId(session) = match &command {
                Command::Join { member, .. }
                | Command::Chat { member, .. }
                | Command::Leave { member, .. } => *member,
                command => panic!("no session makes {command:?}"),
            };
            in_order.apply(command, Some(session as usize), |_| ());
        }
    });
}

fn chat_with(id: u64, text: &str) -> Sent {
    Sent::Chat(wire::Chat {
        text: text.to_owned(),
        id,
        ..Default::default()
    })
}

async fn expect_receipt(peer: &mut Peer, seq: u64) {
    match peer.next().await {
        Some(Message::Receipt(receipt)) => assert_eq!(receipt.seq, seq),
        message => panic!("no receipt but {message:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_comes_when_the_chat_was_applied() {
    let hub = ordered_hub(Limits::default());
    let mut reader = Peer::member(&hub, "reader", &[], 8_192).await;
    let mut sender = Peer::member(&hub, "sender", &RECEIPTS, 8_192).await;
    let sent = Instant::now();
    sender.send(chat(1)).await;
    expect_receipt(&mut sender, 1).await;
    assert!(sent.elapsed() >= WAY);
    assert_eq!(reader.next_seq().await, 1);
    // Its own chat does not come back to the sender (CHAT-CHAT-2), that of another does.
    reader.send(chat(1)).await;
    assert_eq!(sender.next_seq().await, 2);
}

/// CHAT-RCPT-2, where one of the answers could be given at once.
#[tokio::test(start_paused = true)]
async fn answers_keep_the_order_of_the_chats() {
    let hub = ordered_hub(Limits::default());
    let capabilities = [Capability::Receipts, Capability::Keepalive];
    let mut sender = Peer::member(&hub, "sender", &capabilities, 8_192).await;
    sender.send(chat_with(1, "first")).await;
    sender.send(chat_with(2, "")).await;
    sender.send(Sent::Ping(wire::Ping { token: 7 })).await;
    sender.send(chat_with(3, "second")).await;
    sender.send(Sent::Ping(wire::Ping { token: 8 })).await;
    expect_receipt(&mut sender, 1).await;
    sender.expect_error(ErrorCode::TextInvalid).await;
    assert!(matches!(sender.next().await, Some(Message::Pong(pong)) if pong.token == 7));
    expect_receipt(&mut sender, 2).await;
    assert!(matches!(sender.next().await, Some(Message::Pong(pong)) if pong.token == 8));
}

#[tokio::test(start_paused = true)]
async fn a_leaving_member_receives_its_receipts_first_and_its_name_is_free() {
    let hub = ordered_hub(Limits::default());
    let mut reader = Peer::member(&hub, "reader", &[Capability::Presence], 8_192).await;
    let mut sender = Peer::member(&hub, "sender", &RECEIPTS, 8_192).await;
    sender.send(chat(1)).await;
    sender.send(Sent::Leave(wire::Leave {})).await;
    expect_receipt(&mut sender, 1).await;
    assert_eq!(sender.next().await, None);
    assert!(matches!(reader.next().await, Some(Message::Joined(_))));
    assert_eq!(reader.next_seq().await, 1);
    match reader.next().await {
        Some(Message::Left(left)) => assert_eq!(left.reason(), LeftReason::Leave),
        message => panic!("not left but {message:?}"),
    }
    Peer::member(&hub, "sender", &[], 8_192).await;
}

/// An error that ends the session comes behind the receipts too.
#[tokio::test(start_paused = true)]
async fn a_fatal_error_comes_behind_the_receipts() {
    let hub = ordered_hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &RECEIPTS, 8_192).await;
    sender.send(chat(1)).await;
    // A length of eleven bytes.
    sender.stream.write_all(&[0xff; 11]).await.expect("open");
    expect_receipt(&mut sender, 1).await;
    sender.expect_error(ErrorCode::MalformedFrame).await;
    assert_eq!(sender.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_before_its_join_came_back_is_no_member() {
    let hub = ordered_hub(Limits::default());
    for _ in 0..3 {
        let (near, mut far) = tokio::io::duplex(8_192);
        let mut connection =
            Connection::new(near, Arc::clone(&hub), hub.connect(peer::Peer::internal()));
        let register = encoded(register("gone"));
        far.write_all(&register).await.expect("it is open");
        assert!(!poll_once(&mut connection), "it waits for its Join");
        drop(connection);
        // It has another id than the one that is gone.
        let mut other = Peer::member(&hub, "other", &RECEIPTS, 8_192).await;
        tokio::time::sleep(WAY * 4).await;
        assert_eq!(hub.names(), ["other"]);
        other.send(Sent::Leave(wire::Leave {})).await;
        assert_eq!(other.next().await, None);
        drop(other);
        tokio::time::sleep(WAY * 4).await;
        assert_eq!(hub.connection_count(), 0);
    }
    Peer::member(&hub, "gone", &[], 8_192).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_joins_the_first_in_the_order_has_the_name() {
    let hub = ordered_hub(Limits::default());
    let mut peers = [Peer::connect(&hub, 8_192), Peer::connect(&hub, 8_192)];
    for peer in &mut peers {
        peer.send(register("same")).await;
    }
    let [first, second] = &mut peers;
    assert!(matches!(first.next().await, Some(Message::Registered(_))));
    // CHAT-NAME-7: the other is a newcomer who asks for its name, as on one node.
    assert!(matches!(first.next().await, Some(Message::Ping(_))));
    first.send(Sent::Pong(wire::Pong::default())).await;
    second.expect_error(ErrorCode::NameInUse).await;
    assert_eq!(second.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_ends_its_sessions_and_lets_nobody_in() {
    let hub = ordered_hub(Limits::default());
    let mut member = Peer::member(&hub, "member", &RECEIPTS, 8_192).await;
    let mut unregistered = Peer::connect(&hub, 8_192);
    let mut joining = Peer::connect(&hub, 8_192);
    joining.send(register("joining")).await;
    tokio::time::sleep(WAY / 2).await;
    hub.set_unreachable(1_000);
    let mut newcomer = Peer::connect(&hub, 8_192);
    unregistered.send(register("late")).await;
    for peer in [&mut member, &mut joining, &mut unregistered, &mut newcomer] {
        match peer.next().await {
            // CHAT-CLUS-1
            Some(Message::Error(error)) => {
                assert_eq!(error.code(), ErrorCode::ClusterUnreachable);
                assert!(error.ends_session && error.retry_after_ms > 0);
            }
            message => panic!("no error but {message:?}"),
        }
        assert_eq!(peer.next().await, None);
    }
    hub.begin_room("another".to_owned(), 0);
    hub.set_reachable();
    let mut member = Peer::connect(&hub, 8_192);
    member.send(register("member")).await;
    match member.next().await {
        Some(Message::Registered(registered)) => {
            assert_eq!((registered.epoch.as_str(), registered.seq), ("another", 0));
        }
        message => panic!("not registered but {message:?}"),
    }
    member.send(chat(1)).await;
    expect_receipt(&mut member, 1).await;
}

#[tokio::test(start_paused = true)]
async fn members_are_not_read_from_while_the_order_is_behind() {
    let hub = ordered_hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &RECEIPTS, 8_192).await;
    hub.set_order_behind(true);
    sender.send(chat(1)).await;
    let answer = timeout(WAY * 50, sender.next()).await;
    assert!(answer.is_err(), "answered with {answer:?}");
    hub.set_order_behind(false);
    expect_receipt(&mut sender, 1).await;
}
