//! Register: its deadline, and the reclaiming of names.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_registers_is_closed_at_the_deadline() {
    let hub = hub(Limits::default());
    let start = Instant::now();
    let mut peer = Peer::connect(&hub, 1_024);
    peer.expect_error(ErrorCode::RegisterTimeout).await;
    let after_ms = start.elapsed().as_millis();
    assert!((10_000..10_200).contains(&after_ms), "{after_ms}");
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_of_bytes_does_not_extend_the_register_deadline() {
    let hub = hub(Limits::default());
    let mut peer = Peer::connect(&hub, 1_024);
    let register = encoded(Sent::Register(wire::Register {
        name: "x".repeat(30),
        ..Default::default()
    }));
    for byte in &register[..20] {
        tokio::time::sleep(Duration::from_millis(600)).await;
        // The last ones find the stream closed.
        let _ = peer.stream.write_all(&[*byte]).await;
    }
    peer.expect_error(ErrorCode::RegisterTimeout).await;
}

#[tokio::test(start_paused = true)]
async fn one_byte_a_second_takes_the_memory_of_one_frame() {
    const SECOND: Duration = Duration::from_secs(1);
    let hub = hub(Limits::default());
    // An unregistered client has ten seconds, and the linger time of one second.
    let mut stranger = Peer::connect(&hub, 1_024);
    let register = encoded(Sent::Register(wire::Register {
        password: "x".repeat(900),
        ..Default::default()
    }));
    let mut written = 0;
    for byte in register {
        tokio::time::sleep(SECOND).await;
        if stranger.stream.write_all(&[byte]).await.is_err() {
            break;
        }
        written += 1;
    }
    assert!((9..13).contains(&written), "{written}");
    stranger.expect_error(ErrorCode::RegisterTimeout).await;
    assert_eq!(stranger.next().await, None);

    // A member may take an hour for a frame. It takes the memory of the part that has
    // arrived, and the others do not wait.
    let mut slow = Peer::member(&hub, "slow", &[], 1_024).await;
    let mut alice = Peer::member(&hub, "alice", &[], 8_192).await;
    let mut bob = Peer::member(&hub, "bob", &[], 8_192).await;
    let frame = encoded(chat(3_592));
    assert_eq!(frame.len(), 3_600);
    for (second, byte) in frame.into_iter().enumerate() {
        tokio::time::sleep(SECOND).await;
        assert_eq!(hub.registry.buffered_bytes(), second as u64);
        slow.stream.write_all(&[byte]).await.expect("it is open");
        if second % 60 == 0 {
            let start = Instant::now();
            alice.send(chat(10)).await;
            let seq = bob.next_seq().await;
            assert_eq!(slow.next_seq().await, seq);
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }
    match bob.next().await {
        Some(Message::Chat(chat)) => assert_eq!(chat.text.len(), 3_592),
        message => panic!("{message:?}"),
    }
    assert_eq!(hub.registry.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_huge_lengths_are_rejected_and_take_no_memory() {
    // 2^63: its last byte is the 64th bit.
    let huge = [[0x80; 9].as_slice(), &[0x01]].concat();
    let hub = hub(Limits::default());
    let mut alice = Peer::member(&hub, "alice", &[], 1_024).await;
    let mut bob = Peer::member(&hub, "bob", &[], 1_024).await;
    for number in 0..10_000 {
        let start = Instant::now();
        let mut peer = match number % 2 {
            0 => Peer::connect(&hub, 1_024),
            _ => Peer::member(&hub, &format!("peer{number}"), &[], 1_024).await,
        };
        peer.stream.write_all(&huge).await.expect("it is open");
        peer.expect_error(ErrorCode::FrameTooLong).await;
        assert_eq!(peer.next().await, None);
        assert_eq!(start.elapsed(), Duration::ZERO, "at once");
        if number % 100 == 0 {
            alice.send(chat(10)).await;
            assert_eq!(bob.next_seq().await, number / 100 + 1);
            // The chat rate allows one chat in a tenth of a second.
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(hub.registry.buffered_bytes(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_does_not_answer_loses_its_name_in_seconds() {
    let hub = hub(Limits::default());
    // It neither reads nor sends again, as behind a cut cable.
    let _gone = Peer::member(&hub, "Alice", &[Capability::Keepalive], 1_024).await;
    let start = Instant::now();
    let mut back = Peer::connect(&hub, 1_024);
    // The chats sent with the Register wait behind it.
    let mut bytes = encoded(register("alice"));
    for _ in 0..3 {
        bytes.extend(encoded(chat(5)));
    }
    back.stream.write_all(&bytes).await.expect("it is open");
    assert!(matches!(back.next().await, Some(Message::Registered(_))));
    let after_ms = start.elapsed().as_millis();
    assert!((5_000..5_400).contains(&after_ms), "{after_ms}");
    for seq in 1..=3 {
        match back.next().await {
            Some(Message::Receipt(receipt)) => assert_eq!(receipt.seq, seq),
            message => panic!("{message:?}"),
        }
    }
}

/// CHAT-NAME-8: the answer has arrived and was not read, since a page of members is due
/// to the holder.
#[tokio::test(start_paused = true)]
async fn the_answer_of_a_holder_that_receives_members_is_read_in_time() {
    let limits = Limits {
        frame_bytes_max: 1_024,
        text_bytes_max: 256,
        ..unlimited()
    };
    let deadline = Duration::from_millis(limits.name_check_deadline_ms.into());
    // Only this test ticks the hub.
    let hub = Arc::new(Hub::in_memory(limits, AccessPolicy::default()));
    let mut members = Vec::new();
    for index in 0..100 {
        let name = format!("member-with-a-long-name-{index}");
        members.push(Peer::member(&hub, &name, &[], 1_024).await);
    }
    let (near, mut far) = tokio::io::duplex(1_024);
    let mut connection =
        Connection::new(near, Arc::clone(&hub), hub.connect(peer::Peer::internal()));
    let held = encoded(register_with(
        "Alice",
        &[Capability::Presence, Capability::Keepalive],
    ));
    far.write_all(&held).await.expect("it is open");
    assert!(!poll_once(&mut connection));
    let mut newcomer = Peer::connect(&hub, 1_024);
    newcomer.send(register("Alice")).await;
    // A moment later it is probed.
    tokio::time::sleep(Duration::from_millis(1)).await;
    hub.tick();
    assert!(!poll_once(&mut connection));
    tokio::time::advance(deadline).await;
    hub.tick();
    let pong = Sent::Pong(wire::Pong { token: 0 });
    far.write_all(&encoded(pong)).await.expect("it is open");
    let mut taken = [0; 1_024];
    far.read_exact(&mut taken).await.expect("more of a page");
    assert!(!poll_once(&mut connection));
    hub.tick();
    newcomer.expect_error(ErrorCode::NameInUse).await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_reconnect_automatically_do_not_evict_each_other() {
    let hub = hub(Limits::default());
    let mut holder = Peer::connect(&hub, 1_024);
    holder.send(register("Alice")).await;
    let holding = tokio::spawn(async move {
        let mut pings = 0;
        loop {
            match holder.next().await {
                Some(Message::Registered(_)) => {}
                Some(Message::Ping(wire::Ping { token })) => {
                    pings += 1;
                    holder.send(Sent::Pong(wire::Pong { token })).await;
                }
                Some(Message::ServerClosing(_)) => return pings,
                message => panic!("{message:?}"),
            }
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(100) {
        let asked = Instant::now();
        let mut other = Peer::connect(&hub, 1_024);
        other.send(register("Alice")).await;
        other.expect_error(ErrorCode::NameInUse).await;
        let after_ms = asked.elapsed().as_millis();
        assert!(after_ms <= 300, "{after_ms}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    hub.begin_closing(closing());
    // One Ping in five seconds, and those for its silence, however many clients ask.
    let pings = holding.await.expect("it kept its name");
    assert!((15..=25).contains(&pings), "{pings}");
}
