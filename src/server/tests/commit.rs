//! Append and commit: what is appended is told to nobody before it is committed.

use super::*;

/// Long enough for everything that can happen without a commit.
const SETTLE: Duration = Duration::from_secs(1);

async fn nothing_comes(peer: &mut Peer) {
    let next = timeout(SETTLE, peer.next()).await;
    assert!(next.is_err(), "told before the commit: {next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_chat_and_its_receipt_wait_for_the_commit() {
    let hub = hub(Limits::default());
    let mut reader = Peer::member(&hub, "reader", &[], 8_192).await;
    let capabilities = [Capability::Receipts, Capability::Keepalive];
    let mut sender = Peer::member(&hub, "sender", &capabilities, 8_192).await;
    hub.defer_commits();

    // Answers behind a receipt keep their place, those before it do not wait.
    sender.send(Sent::Ping(wire::Ping { token: 1 })).await;
    assert!(matches!(sender.next().await, Some(Message::Pong(_))));
    sender.send(chat(1)).await;
    sender.send(Sent::Ping(wire::Ping { token: 2 })).await;
    nothing_comes(&mut sender).await;
    nothing_comes(&mut reader).await;
    hub.commit();
    assert_eq!(reader.next_seq().await, 1);
    assert!(matches!(sender.next().await, Some(Message::Receipt(receipt)) if receipt.seq == 1));
    assert!(matches!(sender.next().await, Some(Message::Pong(pong)) if pong.token == 2));

    // Each commit releases what was appended before it, and nothing else.
    sender.send(chat(1)).await;
    nothing_comes(&mut sender).await;
    sender.send(chat(1)).await;
    hub.commit();
    for seq in 2..=3 {
        if seq == 3 {
            nothing_comes(&mut sender).await;
            hub.commit();
        }
        assert!(
            matches!(sender.next().await, Some(Message::Receipt(receipt)) if receipt.seq == seq)
        );
        assert_eq!(reader.next_seq().await, seq);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_told_no_number_before_the_commit() {
    let hub = hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &[], 8_192).await;
    hub.defer_commits();
    sender.send(chat(1)).await;
    let mut newcomer = Peer::connect(&hub, 8_192);
    newcomer.send(register("newcomer")).await;
    nothing_comes(&mut newcomer).await;
    hub.commit();
    match newcomer.next().await {
        Some(Message::Registered(registered)) => assert_eq!(registered.seq, 1),
        message => panic!("not registered but {message:?}"),
    }
    // What was said before it came is not for it, what is said now is.
    sender.send(chat(1)).await;
    nothing_comes(&mut newcomer).await;
    hub.commit();
    assert_eq!(newcomer.next_seq().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_gets_its_receipts_first() {
    let hub = hub(Limits::default());
    let mut sender = Peer::member(&hub, "sender", &[Capability::Receipts], 8_192).await;
    hub.defer_commits();
    sender.send(chat(1)).await;
    sender.send(Sent::Leave(wire::Leave {})).await;
    nothing_comes(&mut sender).await;
    hub.commit();
    assert!(matches!(sender.next().await, Some(Message::Receipt(_))));
    assert!(sender.next().await.is_none());
}
