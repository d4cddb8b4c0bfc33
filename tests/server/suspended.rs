//! A server that was stopped for a while, like one on a sleeping machine: bytes that
//! arrived meanwhile count, although the clock jumps before the server reads them.

use std::{thread, time::Duration};

use chat::wire::{Capability, ErrorCode};

use crate::support::{NOTHING, Peer, Received, TestServer, chat, frames, ping, pong, register};

/// How many members each test has, since the order of events after the stop is random.
const MEMBERS: u64 = 8;

/// The deadline of each test, and how long the server is stopped, in milliseconds.
const DEADLINE_MS: &str = "2000";
const STOP_MS: u64 = 2_500;

/// Stops the server, runs `meanwhile`, and resumes the server after the deadline.
fn stop(server: &TestServer, meanwhile: impl FnOnce()) {
    server.signal("STOP");
    meanwhile();
    thread::sleep(Duration::from_millis(STOP_MS));
    server.signal("CONT");
}

/// CHAT-NAME-8.
#[test]
fn a_holder_that_answered_during_the_stop_keeps_its_name() {
    let server = TestServer::start(&["--name-check-deadline-ms", DEADLINE_MS]);
    let name = |index| format!("holder{index}");
    let mut holders: Vec<_> = (0..MEMBERS)
        .map(|index| Peer::join_with(&server, &name(index), &[Capability::Keepalive]).0)
        .collect();
    let mut newcomers: Vec<_> = (0..MEMBERS).map(|_| Peer::connect(&server)).collect();
    for (index, newcomer) in (0..).zip(&mut newcomers) {
        newcomer.send(&register(&name(index), NOTHING));
    }
    let asked = holders.iter_mut().map(|holder| match holder.recv() {
        Received::Ping(asked) => asked.token,
        other => panic!("{other:?}"),
    });
    let tokens: Vec<_> = asked.collect();
    stop(&server, || {
        for (holder, token) in holders.iter_mut().zip(tokens) {
            holder.send(&pong(token));
        }
    });
    for newcomer in &mut newcomers {
        newcomer.is_ended(ErrorCode::NameInUse);
    }
}

/// CHAT-KEEP-4.
#[test]
fn a_member_that_sent_during_the_stop_is_not_idle() {
    let server = TestServer::start(&["--idle-deadline-ms", DEADLINE_MS]);
    let mut members: Vec<_> = (0..MEMBERS)
        .map(|index| {
            Peer::join_with(&server, &format!("member{index}"), &[Capability::Keepalive]).0
        })
        .collect();
    stop(&server, || {
        for (token, member) in (1..).zip(&mut members) {
            member.send(&ping(token));
        }
    });
    for (token, member) in (1..).zip(&mut members) {
        loop {
            match member.recv() {
                Received::Pong(pong) => break assert_eq!(pong.token, token),
                Received::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// CHAT-LIM-5.
#[test]
fn a_member_that_read_during_the_stop_is_not_slow() {
    let server = TestServer::start(&["--rate-limit", "off", "--write-deadline-ms", DEADLINE_MS]);
    let members: Vec<_> = (0..MEMBERS)
        .map(|index| Peer::join_narrow(&server, &format!("member{index}"), NOTHING))
        .collect();
    let mut sender = Peer::join(&server, "Sender");
    // More than the socket buffers.
    const CHATS: u64 = 200;
    let text = "x".repeat(4_000);
    sender.send_bytes(&frames(&vec![chat(&text); CHATS as usize]));
    // Now the server waits for them.
    thread::sleep(Duration::from_millis(500));
    let mut reading = Vec::new();
    stop(&server, || {
        reading.extend(members.into_iter().map(|mut member| {
            thread::spawn(move || {
                for seq in 1..=CHATS {
                    assert_eq!(member.chat().seq, seq);
                }
            })
        }));
    });
    for reading in reading {
        reading.join().expect("a member heard all");
    }
}
