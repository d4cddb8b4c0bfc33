//! Replies, and the last bytes before a connection closes.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_replies_is_not_read_from() {
    let hub = hub(unlimited());
    let mut peer = Peer::member(&hub, "peer", &[], 4_096).await;
    // Each empty frame provokes a reply many times its size.
    let empty_frames = [0u8; 4_096];
    let mut taken_bytes = 0;
    // Bounded, so that a server that takes everything fails below.
    while taken_bytes < 1 << 20
        && let Ok(Ok(bytes)) =
            timeout(Duration::from_secs(1), peer.stream.write(&empty_frames)).await
    {
        taken_bytes += bytes;
    }
    // The frames whose replies fill the buffer, one read, and the transport's buffer.
    assert!(
        taken_bytes < 16_384,
        "{taken_bytes} bytes of empty frames were taken"
    );
    let mut replies = 0;
    loop {
        match peer.next().await {
            Some(Message::Error(error)) if error.code() == ErrorCode::UnknownMessage => {
                replies += 1
            }
            message => panic!("{message:?}"),
        }
        // A peer that reads its replies is read from again.
        if replies == taken_bytes {
            break;
        }
    }
    peer.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(peer.next().await, None);
}

/// CHAT-LEAVE-3: frames that have arrived count, even if a failed write is the first sign
/// that the peer is gone.
#[tokio::test(start_paused = true)]
async fn frames_that_arrived_before_a_failed_write_still_count() {
    let hub = hub(unlimited());
    let mut witness = Peer::member(&hub, "Witness", &[Capability::Presence], 1_024).await;
    let (near, mut far) = tokio::io::duplex(1_024);
    let mut connection =
        Connection::new(near, Arc::clone(&hub), hub.connect(peer::Peer::internal()));
    far.write_all(&encoded(register("Vic")))
        .await
        .expect("it is open");
    assert!(!poll_once(&mut connection));
    witness.send(chat(1)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let last_frames = [encoded(chat(10)), encoded(Sent::Leave(wire::Leave {}))];
    far.write_all(&last_frames.concat())
        .await
        .expect("it is open");
    drop(far);
    let is_gone = poll_once(&mut connection);
    assert!(is_gone, "a chat is due to it, and cannot be sent");
    drop(connection);
    assert!(matches!(witness.next().await, Some(Message::Joined(_))));
    assert!(matches!(witness.next().await, Some(Message::Chat(_))));
    match witness.next().await {
        Some(Message::Left(left)) => assert_eq!(left.reason(), LeftReason::Leave),
        message => panic!("{message:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_reaches_a_peer_that_is_still_sending() {
    let hub = hub(Limits::default());
    let mut peer = Peer::connect(&hub, 1_024);
    peer.send(chat(10)).await;
    peer.expect_error(ErrorCode::NotRegistered).await;
    // It continues to send until the server stops lingering.
    let mut sent_bytes = 0;
    while sent_bytes < 1 << 30
        && let Ok(Ok(bytes)) = timeout(LONG, peer.stream.write(&[0; 1_024])).await
    {
        sent_bytes += bytes;
    }
    assert!((100_000..10_000_000).contains(&sent_bytes), "{sent_bytes}");
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_lingers_for_a_bounded_time() {
    let hub = hub(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let mut held = Peer::member(&hub, "held", &[], 1_024).await;
    held.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(held.next().await, None);
    // The peer does not close. Its place is free again after the linger time.
    let mut early = Peer::connect(&hub, 1_024);
    early.expect_error(ErrorCode::ServerFull).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Peer::member(&hub, "next", &[], 1_024).await;
}

#[tokio::test(start_paused = true)]
async fn chats_before_the_close_arrive_before_server_closing() {
    let hub = hub(unlimited());
    let mut reader = Peer::member(&hub, "reader", &[], 256).await;
    let mut newcomer = Peer::connect(&hub, 256);
    let mut sender = Peer::member(&hub, "sender", &[Capability::Receipts], 1 << 20).await;
    for _ in 0..50 {
        sender.send(chat(100)).await;
    }
    for _ in 0..50 {
        assert!(matches!(sender.next().await, Some(Message::Receipt(_))));
    }
    hub.begin_closing(closing());
    let closing = Some(Message::ServerClosing(wire::ServerClosing {
        detail: "test".to_owned(),
        retry_after_ms: 0,
    }));
    assert_eq!(newcomer.next().await, closing);
    assert_eq!(newcomer.next().await, None);
    assert_eq!(sender.next().await, closing);
    for seq in 1..=50 {
        assert_eq!(reader.next_seq().await, seq); // CHAT-CLOSE-6
    }
    assert_eq!(reader.next().await, closing);
    assert_eq!(reader.next().await, None); // CHAT-CLOSE-2
    let mut late = Peer::connect(&hub, 256);
    assert_eq!(late.next().await, closing);
}

#[tokio::test(start_paused = true)]
async fn chats_before_a_leave_arrive_before_the_end() {
    let hub = hub(unlimited());
    let mut leaver = Peer::member(&hub, "leaver", &[Capability::Receipts], 256).await;
    let mut sender = Peer::member(&hub, "sender", &[Capability::Receipts], 1 << 20).await;
    for _ in 0..50 {
        sender.send(chat(100)).await;
        assert!(matches!(sender.next().await, Some(Message::Receipt(_))));
    }
    leaver.send(chat(1)).await;
    leaver.send(Sent::Leave(wire::Leave {})).await;
    let own = sender.next_seq().await;
    sender.send(chat(100)).await;
    let mut seq = 0;
    let mut receipts = 0;
    while let Some(message) = leaver.next().await {
        match message {
            Message::Chat(chat) => {
                seq += 1;
                assert_eq!(chat.seq, seq);
            }
            Message::Receipt(receipt) => {
                assert_eq!(receipt.seq, own); // CHAT-LEAVE-3
                receipts += 1;
            }
            message => panic!("{message:?}"),
        }
    }
    assert_eq!((seq, own, receipts), (50, 51, 1));
}
