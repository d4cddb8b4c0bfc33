//! Slow consumers, backpressure and full queues.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_is_closed_and_delays_no_other_member() {
    let hub = hub(unlimited());
    let mut watcher = Peer::member(&hub, "watcher", &[Capability::Presence], 1 << 20).await;
    let mut stuck = Peer::member(&hub, "stuck", &[], 100).await;
    let mut sender = Peer::member(&hub, "sender", &[], 1 << 20).await;
    let start = Instant::now();
    for _ in 0..100 {
        sender.send(chat(50)).await;
    }
    for name in ["stuck", "sender"] {
        let joined = Some(Message::Joined(wire::Joined {
            name: name.to_owned(),
        }));
        assert_eq!(watcher.next().await, joined);
    }
    for seq in 1..=100 {
        assert_eq!(watcher.next_seq().await, seq);
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "CHAT-LIM-4");
    let left = watcher.next().await;
    let Some(Message::Left(left)) = left else {
        panic!("no Left but {left:?}");
    };
    assert_eq!(left.reason(), wire::LeftReason::SlowConsumer);
    // At the write deadline, or at twice that if it took some bytes meanwhile.
    let after_ms = start.elapsed().as_millis();
    assert!((10_000..=20_000).contains(&after_ms), "{after_ms}");

    // Then it reads: a prefix without a gap (CHAT-ORD-4), the error, the end.
    let mut seq = 0;
    loop {
        match stuck.next().await {
            Some(Message::Chat(chat)) => {
                seq += 1;
                assert_eq!(chat.seq, seq);
            }
            Some(Message::Error(error)) => {
                assert_eq!(error.code(), ErrorCode::SlowConsumer);
                break;
            }
            message => panic!("{message:?}"),
        }
    }
    assert!((1..100).contains(&seq));
    assert_eq!(stuck.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn connections_with_the_largest_queues_are_evicted_first() {
    const HOGS: usize = 80;
    /// Together somewhat more than two segments of the log.
    const CHATS: u64 = 300;
    const CHAT_BYTES: usize = 4_000;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        history_memory_bytes: 0,
        queue_bytes_max: LAG_BYTES_FLOOR,
        ..unlimited()
    });
    let mut hogs = Vec::new();
    for index in 0..HOGS {
        let mut hog = Peer::member(&hub, &format!("hog{index}"), &[], 1_024).await;
        // Replies to empty frames, which it does not read: at least 32 KiB, or as little
        // as each may have once the buffers are crowded.
        let frames = [0; 3_000];
        let _ = timeout(Duration::from_millis(1), hog.stream.write_all(&frames)).await;
        hogs.push(hog);
    }
    let crowd_bytes = hub.registry.buffered_bytes();
    let half_bytes = LAG_BYTES_FLOOR / 2;
    assert!(
        (half_bytes..half_bytes + half_bytes / 2).contains(&crowd_bytes),
        "the buffers stop growing when they are crowded, not at {crowd_bytes}"
    );
    // None of the hogs takes the chats, so the log grows until something must go.
    let mut alice = Peer::member(&hub, "alice", &[], 65_536).await;
    let mut bob = Peer::member(&hub, "bob", &[], 65_536).await;
    for seq in 1..=CHATS {
        alice.send(chat(CHAT_BYTES)).await;
        assert_eq!(bob.next_seq().await, seq);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut evicted = Vec::new();
    for (index, hog) in hogs.iter_mut().enumerate() {
        let mut ended = None;
        // A hog that stays receives its errors, and then the chats.
        while ended.is_none() {
            match hog.next().await.expect("an error ends it") {
                Message::Error(error) if error.ends_session => ended = Some(error.code()),
                Message::Error(_) => {}
                Message::Chat(_) => break,
                message => panic!("{message:?}"),
            }
        }
        if let Some(code) = ended {
            assert_eq!(code, ErrorCode::Overloaded);
            assert_eq!(hog.next().await, None);
            evicted.push(index);
        }
    }
    // Those that came first hold most; the later ones hold too little to help.
    let count = evicted.len();
    assert!((4..32).contains(&count), "{count} of {HOGS}");
    assert!(evicted.iter().all(|&index| index < 32), "{evicted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_longer_than_the_log_loses_nothing_in_a_slow_room() {
    const CHATS: u64 = 20_000;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        history_memory_bytes: 0,
        ..unlimited()
    });
    let readers = three_readers(&hub).await;
    let sender = Peer::member(&hub, "sender", &[], 8_192).await;
    let sending = tokio::spawn(async move {
        let mut sender = sender;
        for _ in 0..CHATS {
            sender.send(chat(400)).await;
        }
        sender
    });
    let reading = readers.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            for seq in 1..=CHATS {
                assert_eq!(reader.next_seq().await, seq);
                // Slower than the sender could send.
                if seq % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("all of it, in order");
    }
    sending.await.expect("all of it was taken");
}

/// Slow readers and a loud sender keep reads paused. Two members that say little do not
/// notice.
#[tokio::test(start_paused = true)]
async fn a_member_that_says_little_does_not_notice_a_read_pause() {
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        history_memory_bytes: 0,
        ..unlimited()
    });
    let slow = three_readers(&hub).await.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            while reader.next().await.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let slow: Vec<_> = slow.collect();
    let mut loud = Peer::member(&hub, "loud", &[], 8_192).await;
    tokio::spawn(async move {
        loop {
            loud.send(chat(400)).await;
        }
    });
    // Its transport holds everything that it is sent.
    let mut first = Peer::member(&hub, "first", &[], 1 << 25).await;
    let mut second = Peer::member(&hub, "second", &[], 8_192).await;
    let mut paused = 0;
    for number in 0..100 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        paused += u32::from(hub.channel.is_paused());
        let before = Instant::now();
        first.send(chat(20 + number)).await;
        let received = timeout(Duration::from_secs(10), async {
            loop {
                match second.next().await {
                    Some(Message::Chat(chat)) if chat.sender == "first" => break,
                    Some(Message::Chat(_)) => {}
                    message => panic!("no chat but {message:?}"),
                }
            }
        });
        received.await.expect("it arrives soon");
        let waited_ms = before.elapsed().as_millis();
        assert!(waited_ms <= 300, "message {number} took {waited_ms} ms");
    }
    assert!(paused > 90, "reads were paused {paused} times of 100");
    drop(slow);
}

/// CHAT-LIM-2: the rate counts from the arrival of a chat, not from when it is read.
#[tokio::test(start_paused = true)]
async fn chats_sent_in_time_are_within_the_rate_after_a_read_pause() {
    const INTERVAL_MS: u64 = 100;
    const CHATS: u32 = 600;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        history_memory_bytes: 0,
        chat_burst: 5,
        chat_interval_ms: Some(INTERVAL_MS as u32),
        ..unlimited()
    });
    for mut reader in three_readers(&hub).await {
        tokio::spawn(async move {
            while reader.next().await.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let mut senders = Vec::new();
    for index in 0..2 {
        // The transport holds everything that it sends and is sent.
        senders.push(Peer::member(&hub, &format!("sender{index}"), &[], 1 << 25).await);
    }
    let mut silent = Peer::member(&hub, "silent", &[], 1 << 25).await;
    let mut paused = 0;
    for _ in 0..CHATS {
        for sender in &mut senders {
            sender.send(chat(4_000)).await;
        }
        tokio::time::sleep(Duration::from_millis(INTERVAL_MS)).await;
        paused += u32::from(hub.channel.is_paused());
    }
    assert!(paused > CHATS / 4, "reads were paused {paused} times");
    // A silent member saves up no tokens by the pause.
    for _ in 0..60 {
        silent.send(chat(10)).await;
    }
    let mut refused = 0;
    while refused < 40 {
        match silent.next().await {
            Some(Message::Chat(_)) => {}
            Some(Message::Error(error)) if error.code() == ErrorCode::RateLimited => refused += 1,
            message => panic!("{refused} refused, then {message:?}"),
        }
    }
    for sender in &mut senders {
        let mut received = 0;
        while received < CHATS {
            match sender.next().await {
                Some(Message::Chat(chat)) => received += u32::from(chat.sender != "silent"),
                message => panic!("after {received}: {message:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_stuck_member_delays_a_burst_for_its_stall_budget() {
    const CHATS: u64 = 20_000;
    let hub = hub(Limits {
        lag_bytes_max: LAG_BYTES_FLOOR,
        history_memory_bytes: 0,
        ..unlimited()
    });
    let mut stuck = Peer::member(&hub, "stuck", &[], 8_192).await;
    let readers = three_readers(&hub).await;
    let mut sender = Peer::member(&hub, "sender", &[], 8_192).await;
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..CHATS {
            sender.send(chat(400)).await;
        }
        sender
    });
    let reading = readers.into_iter().map(|mut reader| {
        tokio::spawn(async move {
            for seq in 1..=CHATS {
                assert_eq!(reader.next_seq().await, seq);
            }
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("all of it, in order");
    }
    sending.await.expect("all of it was taken");
    // Far less than the write deadline, and less than the stall budgets of two members
    // that stop by turns (src/server/slow_consumer.rs).
    let after_ms = start.elapsed().as_millis();
    assert!(after_ms < 3_000, "{after_ms}");
    let mut seq = 0;
    while let Some(Message::Chat(chat)) = stuck.next().await {
        seq += 1;
        assert_eq!(chat.seq, seq);
    }
    assert!(seq < CHATS);
    assert_eq!(stuck.next().await, None);
}

/// The end of a read pause, without the tick that repairs a missed one: as soon as the
/// whole room has caught up with the sender window, or one slow member with the log.
#[tokio::test(start_paused = true)]
async fn a_read_pause_ends_as_soon_as_the_slow_members_have_caught_up() {
    for (slow_count, prompt_count) in [(3, 0), (1, 3)] {
        let limits = Limits {
            lag_bytes_max: LAG_BYTES_FLOOR,
            history_memory_bytes: 0,
            ..unlimited()
        };
        // No task ticks this hub.
        let hub = Arc::new(Hub::in_memory(limits, AccessPolicy::default()));
        let mut slow = Vec::new();
        for index in 0..slow_count {
            slow.push(Peer::member(&hub, &format!("slow{index}"), &[], 8_192).await);
        }
        for index in 0..prompt_count {
            let mut prompt = Peer::member(&hub, &format!("prompt{index}"), &[], 8_192).await;
            tokio::spawn(async move { while prompt.next().await.is_some() {} });
        }
        let mut sender = Peer::member(&hub, "sender", &[], 8_192).await;
        let mut sent = 0;
        while !hub.channel.is_paused() {
            sender.send(chat(4_000)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            sent += 1;
            assert!(sent < 1_000, "reads do not pause");
        }
        for slow in &mut slow {
            for seq in 1..=sent {
                assert_eq!(slow.next_seq().await, seq);
            }
        }
        assert!(!hub.channel.is_paused(), "{slow_count} slow members");
    }
}
