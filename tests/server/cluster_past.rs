//! The past that a node has missed, over a real NATS server: it comes from the other nodes,
//! whatever ends meanwhile, and never from one that gives something wrong.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use chat::wire::{self, Capability, server_envelope::Message};
use prost::Message as _;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    cluster::Nats,
    cluster_data::{folder, node, past, text},
    support::{self, PATIENCE, Peer, TestServer},
};

/// With so little between two checkpoints, NATS keeps next to nothing.
const LITTLE: [&str; 2] = ["--cluster-checkpoint", "4KiB"];

/// Says so many long texts, and returns the number of the last one.
fn say(peer: &mut Peer, count: usize) -> u64 {
    let text = "long ".repeat(400);
    let mut last = 0;
    for _ in 0..count / 50 {
        (0..50).for_each(|_| peer.say(&text));
        for _ in 0..50 {
            match peer.recv() {
                Message::Receipt(receipt) => last = receipt.seq,
                message => panic!("no receipt but {message:?}"),
            }
        }
    }
    last
}

fn export(dir: &TempDir) -> String {
    let exported = Command::new(env!("CARGO_BIN_EXE_chat-server"))
        .args(["history", text(dir), "export"])
        .output()
        .expect("it is built");
    assert!(exported.status.success());
    String::from_utf8(exported.stdout).expect("text")
}

/// The first number on a disk, of which none behind it is missing.
fn oldest(dir: &TempDir) -> u64 {
    let connection = Connection::open(dir.path().join("room.sqlite")).expect("it is there");
    let sql = "SELECT ifnull(min(seq), (SELECT oldest_seq FROM room)),
        ifnull(max(seq) + 1 - min(seq), 0) = count(*) FROM chat";
    let (oldest, is_whole) = connection
        .query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
        })
        .expect("SQL");
    assert!(is_whole, "there is a gap");
    oldest.cast_unsigned()
}

/// Waits until a folder has the past from a number on.
fn has_from(dir: &TempDir, seq: u64) {
    let began = Instant::now();
    while oldest(dir) != seq {
        assert!(began.elapsed() < PATIENCE, "it has it from {}", oldest(dir));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Two nodes, of which the second one is away while more is said than NATS keeps. Returns the
/// last number.
fn away(nats: &Nats, one: &TempDir, two: &TempDir, count: usize) -> (TestServer, u64) {
    let first = node(nats, "first", one, &LITTLE);
    let second = node(nats, "second", two, &LITTLE);
    let (mut alice, _) = Peer::join_with(&first, "alice", &[Capability::Receipts]);
    say(&mut alice, 50);
    assert_eq!(past(&second).1.len(), 50);
    second.signal("KILL");
    (first, say(&mut alice, count))
}

/// It is killed many times while it gets what it lacks, and has all of it in the end.
#[test]
fn a_node_gets_the_past_that_it_has_missed() {
    let nats = Nats::start();
    let (one, two, control) = (folder(), folder(), folder());
    let (first, last) = away(&nats, &one, &two, 3_000);
    drop(first);
    let socket = control.path().join("control");
    let socket = socket.to_str().expect("a path that is text");
    let first = node(
        &nats,
        "first",
        &one,
        &[&LITTLE[..], &["--control", socket]].concat(),
    );
    let removed = support::command(&["ctl", "--control", socket, "remove", "60"]);
    assert!(support::output(removed).status.success());
    let mut found = Vec::new();
    for delay_ms in (0..100).step_by(10) {
        let second = node(&nats, "second", &two, &LITTLE);
        thread::sleep(Duration::from_millis(delay_ms));
        second.signal("KILL");
        drop(second);
        found.push(oldest(&two));
        if found.last() == Some(&1) {
            break;
        }
    }
    assert!(found[0] > 51, "it has missed something: {found:?}");
    assert!(
        found.is_sorted_by(|before, after| before >= after),
        "{found:?}"
    );
    let second = node(&nats, "second", &two, &LITTLE);
    has_from(&two, 1);
    let (registered, chats) = past(&second);
    assert_eq!((registered.oldest_seq, registered.seq), (1, last));
    assert_eq!(chats.len() as u64, last);
    assert!(chats[59].removed && chats[59].text.is_empty());
    assert!(chats == past(&first).1);
    drop((first, second));
    assert!(export(&two) == export(&one));
}

/// What a node asks for, and what it is given.
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    epoch: String,
    #[prost(uint64, tag = "2")]
    before_seq: u64,
    #[prost(bool, tag = "4")]
    is_search: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    epoch: String,
    #[prost(uint64, tag = "3")]
    position: u64,
    #[prost(message, repeated, tag = "4")]
    chats: Vec<wire::Chat>,
}

/// A program that answers as a node with this name, and changes what it gives.
fn lie(nats: &Nats, name: &str, change: fn(&mut Answer)) -> thread::JoinHandle<()> {
    let stream = TcpStream::connect(("127.0.0.1", nats.port)).expect("NATS listens");
    let mut writer = stream.try_clone().expect("a stream");
    let subscribed =
        format!("CONNECT {{}}\r\nSUB chat-past.main 1\r\nSUB chat-past.main.{name} 2\r\nPING\r\n");
    writer.write_all(subscribed.as_bytes()).expect("it reads");
    let name = name.to_owned();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("NATS answers");
    }
    thread::spawn(move || {
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let words: Vec<_> = line.split_whitespace().collect();
            let ["MSG", _, _, reply, bytes] = words[..] else {
                continue;
            };
            let mut payload = vec![0; bytes.parse().expect("a number")];
            reader.read_exact(&mut payload).expect("it comes");
            let asked = Asked::decode(&payload[..]).expect("a question");
            let chat = |seq| wire::Chat {
                seq,
                sender: "mallory".to_owned(),
                text: "a lie".to_owned(),
                ..wire::Chat::default()
            };
            let mut answer = Answer {
                node: name.clone(),
                epoch: asked.epoch,
                position: u64::MAX >> 1,
                chats: match asked.is_search {
                    true => Vec::new(),
                    false => (asked.before_seq - 9..asked.before_seq).map(chat).collect(),
                },
            };
            if !asked.is_search {
                change(&mut answer);
            }
            let answer = answer.encode_to_vec();
            let head = format!("PUB {reply} {}\r\n", answer.len());
            let whole = [head.as_bytes(), &answer, b"\r\n"].concat();
            writer.write_all(&whole).expect("it reads");
        }
    })
}

#[test]
fn a_node_that_gives_something_wrong_is_passed_over() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let (first, last) = away(&nats, &one, &two, 600);
    // Nobody but the liars has anything.
    drop(first);
    let _epoch = lie(&nats, "epoch", |it| it.epoch.push('x'));
    let _holes = lie(&nats, "holes", |it| drop(it.chats.remove(3)));
    let second = node(&nats, "second", &two, &LITTLE);
    for liar in ["node=\"epoch\"", "node=\"holes\""] {
        second.wait_for_log(liar);
    }
    let lacks = oldest(&two);
    assert!(lacks > 51);
    let first = node(&nats, "first", &one, &LITTLE);
    has_from(&two, 1);
    second.wait_for_log("has the past that it keeps");
    assert_eq!(past(&second).1.len() as u64, last);
    drop((first, second));
    assert!(export(&two) == export(&one));
}
