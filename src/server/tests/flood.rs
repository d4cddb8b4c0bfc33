//! Inbound rate: a flood is throttled and loses nothing.

use super::*;

/// Sends `message` `count` times. Returns how long it took until all answers arrived.
async fn answered_after_ms(mut peer: Peer, message: Sent, count: usize) -> u128 {
    let start = Instant::now();
    let bytes = encoded(message).repeat(count);
    let (mut reading, mut writing) = tokio::io::split(peer.stream);
    let writing = tokio::spawn(async move { writing.write_all(&bytes).await });
    let mut answers = 0;
    while answers < count {
        match frame::split(&peer.held, u32::MAX).expect("frames") {
            Split::Frame { rest, .. } => {
                peer.held = rest.to_vec();
                answers += 1;
            }
            Split::Partial => {
                let read = timeout(LONG, reading.read_buf(&mut peer.held)).await;
                assert!(read.expect("an answer").expect("it is open") > 0);
            }
        }
    }
    writing.await.expect("no panic").expect("all is taken");
    start.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_throttled_and_loses_nothing() {
    // CHAT-LIM-9
    let hub = hub(Limits {
        frames_per_second_max: Some(100),
        ..unlimited()
    });
    let keepalive = [Capability::Keepalive];
    let flooder = Peer::member(&hub, "flooder", &keepalive, 1_024).await;
    let flood = tokio::spawn(answered_after_ms(
        flooder,
        Sent::Ping(wire::Ping { token: 1 }),
        100_000,
    ));
    let mut alice = Peer::member(&hub, "alice", &[], 1_024).await;
    let mut bob = Peer::member(&hub, "bob", &[], 1_024).await;
    for seq in 1..=100 {
        let start = Instant::now();
        alice.send(chat(10)).await;
        assert_eq!(bob.next_seq().await, seq);
        assert_eq!(start.elapsed(), Duration::ZERO, "others do not wait");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    // Ten seconds' worth at once, then a hundred a second.
    let after_ms = flood.await.expect("all of it is answered");
    assert!((985_000..995_000).contains(&after_ms), "{after_ms}");
}

#[tokio::test(start_paused = true)]
async fn the_inbound_rate_counts_the_bytes_of_long_frames() {
    let hub = hub(Limits {
        bytes_per_second_max: Some(10_000),
        ..unlimited()
    });
    let peer = Peer::member(&hub, "peer", &[Capability::Receipts], 65_536).await;
    // A megabyte, of which the server reads a tenth at once.
    let after_ms = answered_after_ms(peer, chat(997), 1_000).await;
    assert!((85_000..95_000).contains(&after_ms), "{after_ms}");
}

#[tokio::test(start_paused = true)]
async fn a_member_within_the_chat_rate_does_not_wait() {
    let hub = hub(Limits::default());
    let mut peer = Peer::member(&hub, "peer", &[Capability::Receipts], 1_024).await;
    for count in 0..1_000 {
        if count >= 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let start = Instant::now();
        peer.send(chat(4_096)).await;
        assert!(matches!(peer.next().await, Some(Message::Receipt(_))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
