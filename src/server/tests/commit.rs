//! Append and commit: no client receives a frame or its number before the commit.

use super::*;

/// Long enough for everything that can happen without a commit.
const SETTLE: Duration = Duration::from_secs(1);

async fn receives_nothing(peer: &mut Peer) {
    let next = timeout(SETTLE, peer.next()).await;
    assert!(next.is_err(), "received before the commit: {next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_chat_and_its_receipt_wait_for_the_commit() {
    let hub = hub(Limits::default());
    let mut reader = Peer::member(&hub, "reader", &[], 8_192).await;
    let capabilities = [Capability::Receipts, Capability::Keepalive];
    let mut sender = Peer::member(&hub, "sender", &capabilities, 8_192).await;
    hub.defer_commits();

    // Replies behind a receipt wait with it, those before it do not.
    sender.send(Sent::Ping(wire::Ping { token: 1 })).await;
    assert!(matches!(sender.next().await, Some(Message::Pong(_))));
    sender.send(chat(1)).await;
    sender.send(Sent::Ping(wire::Ping { token: 2 })).await;
    receives_nothing(&mut sender).await;
    receives_nothing(&mut reader).await;
    hub.commit();
    assert_eq!(reader.next_seq().await, 1);
    assert!(matches!(sender.next().await, Some(Message::Receipt(receipt)) if receipt.seq == 1));
    assert!(matches!(sender.next().await, Some(Message::Pong(pong)) if pong.token == 2));

    // Each commit releases what was appended before it, and nothing else.
    sender.send(chat(1)).await;
    receives_nothing(&mut sender).await;
    sender.send(chat(1)).await;
    hub.commit();
    for seq in 2..=3 {
        if seq == 3 {
            receives_nothing(&mut sender).await;
            hub.commit();
        }
        assert!(
            matches!(sender.next().await, Some(Message::Receipt(receipt)) if receipt.seq == seq)
        );
        assert_eq!(reader.next_seq().await, seq);
    }
}

#[tokio::test(start_paused = true)]
async fn registered_waits_for_the_commit() {
    let hub = hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &[], 8_192).await;
    hub.defer_commits();
    sender.send(chat(1)).await;
    let mut newcomer = Peer::connect(&hub, 8_192);
    newcomer.send(register("newcomer")).await;
    receives_nothing(&mut newcomer).await;
    hub.commit();
    match newcomer.next().await {
        Some(Message::Registered(registered)) => assert_eq!(registered.seq, 1),
        message => panic!("not registered but {message:?}"),
    }
    // The newcomer receives no earlier chat, and every later one.
    sender.send(chat(1)).await;
    receives_nothing(&mut newcomer).await;
    hub.commit();
    assert_eq!(newcomer.next_seq().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_leaving_member_receives_its_receipts_first() {
    let hub = hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &[Capability::Receipts], 8_192).await;
    hub.defer_commits();
    sender.send(chat(1)).await;
    sender.send(Sent::Leave(wire::Leave {})).await;
    receives_nothing(&mut sender).await;
    hub.commit();
    assert!(matches!(sender.next().await, Some(Message::Receipt(_))));
    assert!(sender.next().await.is_none());
}

/// CHAT-CLOSE-6: what was accepted, and ServerClosing, as well where the commit takes a
/// while.
#[tokio::test(start_paused = true)]
async fn a_closing_server_waits_for_the_commit() {
    let hub = hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &[], 8_192).await;
    let mut reader = Peer::member(&hub, "reader", &[], 8_192).await;
    hub.defer_commits();
    sender.send(chat(1)).await;
    receives_nothing(&mut reader).await;
    hub.begin_closing(closing());
    receives_nothing(&mut reader).await;
    hub.commit();
    assert_eq!(reader.next_seq().await, 1);
    for peer in [&mut reader, &mut sender] {
        assert!(matches!(peer.next().await, Some(Message::ServerClosing(_))));
        assert!(peer.next().await.is_none());
    }
}

/// CHAT-HIST-9: a full disk refuses chats, and goes on with everything else.
#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_chats_and_newcomers_until_there_is_space() {
    let hub = hub(Limits::default());
    let capabilities = [Capability::Receipts, Capability::Keepalive];
    let mut sender = Peer::member(&hub, "sender", &capabilities, 8_192).await;
    hub.set_store_full(true);
    sender
        .send(Sent::Chat(wire::Chat {
            text: "x".to_owned(),
            id: 7,
            ..Default::default()
        }))
        .await;
    match sender.next().await {
        Some(Message::Error(error)) => {
            assert_eq!((error.code(), error.id), (ErrorCode::StorageFull, 7));
            assert!(!error.ends_session);
        }
        message => panic!("no error but {message:?}"),
    }
    sender.send(Sent::Ping(wire::Ping { token: 1 })).await;
    assert!(matches!(sender.next().await, Some(Message::Pong(_))));
    let mut newcomer = Peer::connect(&hub, 8_192);
    newcomer.send(register("newcomer")).await;
    newcomer.expect_error(ErrorCode::ServerFull).await;
    hub.set_store_full(false);
    sender.send(chat(1)).await;
    assert!(matches!(sender.next().await, Some(Message::Receipt(receipt)) if receipt.seq == 1));
}

/// A full disk may stay full: who leaves does not wait for it for ever.
#[tokio::test(start_paused = true)]
async fn a_leaving_member_waits_for_a_commit_no_longer_than_for_a_write() {
    let hub = hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &[Capability::Receipts], 8_192).await;
    hub.defer_commits();
    sender.send(chat(1)).await;
    sender.send(Sent::Leave(wire::Leave {})).await;
    let left = Instant::now();
    receives_nothing(&mut sender).await;
    assert_eq!(sender.next().await, None);
    let deadline = Duration::from_millis(Limits::default().write_deadline_ms.into());
    assert!(left.elapsed() >= deadline && left.elapsed() < deadline * 2);
}
