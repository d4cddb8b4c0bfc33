//! `chat-conformance audit`: captures of a room in which nothing is wrong, the same ones
//! broken in each way, and captures of the real programs.

mod filters;
mod refusals;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use chat::{
    capture::{Capture, End},
    wire::{
        Capability, Challenge, Chat, ClientEnvelope, Direct, Error, ErrorCode, GetHistory, History,
        Leave, Limits, Proof, Receipt, Register, Registered, Resume, ServerEnvelope,
        client_envelope::Message as Sent, get_history::Edge, server_envelope::Message as Came,
    },
};
use prost::Message;
use serde_json::Value;

use crate::support::{CONFORMS, INCOMPLETE, Ran, USAGE, VIOLATES, listening_to, reference, run};

const EPOCH: &str = "e";

/// How long a client may take to join on a crowded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message on a connection.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Sent(Sent),
    Came(Came),
    Closed,
}

use Event::Closed;

/// The events of a capture, each with its connection.
type Events = Vec<(usize, Event)>;

fn register(name: &str, resume: Option<Resume>) -> Event {
    Event::Sent(Sent::Register(Register {
        name: name.to_owned(),
        password: "the door is ajar".to_owned(),
        resume,
        ..Register::default()
    }))
}

fn registered(name: &str, seq: u64, resumed_from: u64) -> Event {
    Event::Came(Came::Registered(Registered {
        name: name.to_owned(),
        epoch: EPOCH.to_owned(),
        seq,
        resumed_from,
        resume_token: b"0123456789".to_vec(),
        capabilities: [
            Capability::Receipts,
            Capability::Resume,
            Capability::History,
        ]
        .map(i32::from)
        .to_vec(),
        limits: Some(Limits {
            frame_bytes_max: 16_384,
            resend_ids_max: 8,
            ..Limits::default()
        }),
        ..Registered::default()
    }))
}

fn relayed(sender: &str, seq: u64) -> Chat {
    Chat {
        text: format!("text {seq}"),
        sender: sender.to_owned(),
        seq,
        time_unix_ms: 1_000 + seq as i64,
        ..Chat::default()
    }
}

fn chat(sender: &str, seq: u64) -> Event {
    Event::Came(Came::Chat(relayed(sender, seq)))
}

/// The id of a chat is the number that it gets.
fn says(id: u64) -> Event {
    Event::Sent(Sent::Chat(Chat {
        text: format!("text {id}"),
        id,
        ..Chat::default()
    }))
}

fn receipt(seq: u64) -> Event {
    Event::Came(Came::Receipt(Receipt {
        id: seq,
        seq,
        time_unix_ms: 1_000 + seq as i64,
    }))
}

fn refused(id: u64, code: ErrorCode) -> Event {
    Event::Came(Came::Error(Error {
        code: code.into(),
        id,
        ..Error::default()
    }))
}

fn direct(id: u64) -> Event {
    Event::Sent(Sent::Direct(Direct {
        peer: "Alice".to_owned(),
        text: "between us".to_owned(),
        id,
        ..Direct::default()
    }))
}

/// A direct has no number.
fn direct_receipt(id: u64) -> Event {
    Event::Came(Came::Receipt(Receipt {
        id,
        seq: 0,
        time_unix_ms: 1,
    }))
}

fn resume(seq: u64, attempt: u32) -> Option<Resume> {
    Some(Resume {
        token: b"0123456789".to_vec(),
        epoch: EPOCH.to_owned(),
        seq,
        attempt,
    })
}

/// Alice says 1, 3, 6 and 7, loses her connection before she is told of 3, and resumes.
/// Bob says 2, 4, 5 and 8.
fn alice() -> Events {
    let first = [
        register("Alice", None),
        registered("Alice", 0, 0),
        says(1),
        receipt(1),
        chat("Bob", 2),
        says(3),
        Closed,
    ];
    let second = [
        register("Alice", resume(2, 1)),
        registered("Alice", 5, 3),
        chat("Alice", 3),
        says(3),
        chat("Bob", 4),
        chat("Bob", 5),
        receipt(3),
        says(6),
        says(7),
        receipt(6),
        chat("Bob", 8),
        receipt(7),
        Event::Sent(Sent::Leave(Leave {})),
        Closed,
    ];
    let first = first.into_iter().map(|event| (0, event));
    first
        .chain(second.into_iter().map(|event| (1, event)))
        .collect()
}

fn bob() -> Events {
    let events = [
        register("Bob", None),
        registered("Bob", 0, 0),
        chat("Alice", 1),
        says(2),
        says(90),
        receipt(2),
        refused(90, ErrorCode::TextInvalid),
        chat("Alice", 3),
        says(4),
        says(5),
        receipt(4),
        receipt(5),
        chat("Alice", 6),
        chat("Alice", 7),
        says(8),
        receipt(8),
        Event::Sent(Sent::GetHistory(GetHistory {
            id: 1,
            edge: Some(Edge::Before(9)),
            limit: 3,
            filter: None,
        })),
        Event::Came(Came::History(History {
            id: 1,
            from: 6,
            to: 8,
            chats: vec![relayed("Alice", 6), relayed("Alice", 7), relayed("Bob", 8)],
        })),
        Closed,
    ];
    events.into_iter().map(|event| (0, event)).collect()
}

/// Writes the events as the programs write theirs.
fn write(path: &Path, events: &Events) {
    let file = chat::files::append_private(path).expect("a file");
    let capture = Capture::new(file, "a test");
    let mut connections = Vec::new();
    for (index, event) in events {
        if connections.len() <= *index {
            connections.push(Some(capture.connection()));
        }
        let message = |it: &Sent| {
            let message = Some(it.clone());
            ClientEnvelope { message }.encode_to_vec()
        };
        match event {
            Closed => connections[*index] = None,
            Event::Sent(sent) => {
                let connection = connections[*index].as_ref().expect("an open one");
                connection.envelope(End::Client, &message(sent));
            }
            Event::Came(came) => {
                let connection = connections[*index].as_ref().expect("an open one");
                let message = Some(came.clone());
                let envelope = ServerEnvelope { message }.encode_to_vec();
                connection.envelope(End::Server, &envelope);
            }
        }
    }
}

/// Audits the events of two captures.
fn audit(alice: &Events, bob: &Events) -> (Ran, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("alice"), alice);
    write(&path("bob"), bob);
    audit_files(&[path("alice"), path("bob")])
}

/// The rule is told to be broken, with this in the sentence, to people and to programs.
fn assert_found((ran, report): (Ran, Value), rule: &str, sentence: &str) {
    assert_eq!(ran.code, VIOLATES, "{rule} {sentence}: {}", ran.stdout);
    let findings = report["findings"].as_array().expect("findings");
    let is_told = findings.iter().any(|finding| {
        let told = finding["sentence"].as_str().unwrap_or_default();
        finding["rule"] == *rule && told.contains(sentence)
    });
    assert!(is_told, "{rule} {sentence}: {}", ran.stdout);
    assert!(ran.stdout.contains(rule), "{}", ran.stdout);
}

fn audit_files(files: &[PathBuf]) -> (Ran, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.json");
    let report = report.to_str().expect("a path in UTF-8");
    let files = files.iter().map(|path| path.to_str().expect("UTF-8"));
    let arguments: Vec<&str> = ["audit", "--json", report]
        .into_iter()
        .chain(files)
        .collect();
    let ran = run(&arguments);
    let json = fs::read_to_string(report).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let schema = include_str!("../../conformance/schema/audit.schema.json");
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    if let Err(error) = validator.validate(&json) {
        panic!("{error}: {json:#}");
    }
    (ran, json)
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let (ran, report) = audit(&alice(), &bob());
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert_eq!(
        (&report["chats"], &report["epochs"]),
        (&8.into(), &1.into())
    );
    let summary = "2 captures, 3 sessions, 8 chats in 1 epoch: nothing is wrong";
    assert!(ran.stdout.contains(summary), "{}", ran.stdout);
    let sessions = report["sessions"].as_array().expect("sessions");
    let of_alice = &sessions[1];
    assert_eq!((&of_alice["from"], &of_alice["to"]), (&3.into(), &8.into()));
    assert_eq!(
        (&of_alice["resumed"], &of_alice["missed"]),
        (&true.into(), &0.into())
    );
}

/// Where an event is.
fn at(events: &Events, connection: usize, event: &Event) -> usize {
    let place = events
        .iter()
        .position(|it| *it == (connection, event.clone()));
    place.unwrap_or_else(|| panic!("no {event:?}"))
}

fn replace(events: &mut Events, connection: usize, event: &Event, new: Event) {
    let place = at(events, connection, event);
    events[place].1 = new;
}

fn remove(events: &mut Events, connection: usize, event: &Event) {
    let place = at(events, connection, event);
    events.remove(place);
}

fn insert_behind(events: &mut Events, connection: usize, event: &Event, new: Event) {
    let place = at(events, connection, event);
    events.insert(place + 1, (connection, new));
}

fn with_text(mut chat: Chat, text: &str) -> Event {
    chat.text = text.to_owned();
    Event::Came(Came::Chat(chat))
}

/// Each way to break the captures: what is done, and what is found.
#[test]
fn a_capture_that_is_broken_is_told_by_its_rule() {
    type Break = fn(&mut Events, &mut Events);
    let ways: &[(&str, &str, Break)] = &[
        ("CHAT-ORD-2", "the chat 6 comes twice", |_, bob| {
            insert_behind(bob, 0, &chat("Alice", 6), chat("Alice", 6));
        }),
        ("CHAT-ORD-2", "the chat 6 comes after 7", |_, bob| {
            let place = at(bob, 0, &chat("Alice", 6));
            bob.swap(place, place + 1);
        }),
        // Its own chats explain no hole that somebody else's chat is in.
        (
            "CHAT-ORD-4",
            "Bob lacks the chat 6 by Alice in",
            |_, bob| {
                remove(bob, 0, &chat("Alice", 6));
            },
        ),
        (
            "CHAT-ORD-4",
            "Alice lacks the chat 2 by Bob in",
            |alice, _| {
                remove(alice, 0, &chat("Bob", 2));
                // A later number shows that it is missing.
                insert_behind(alice, 0, &receipt(1), says(80));
                insert_behind(alice, 0, &says(3), chat("Bob", 4));
            },
        ),
        (
            "CHAT-ORD-4",
            "Alice lacks 3 chats, 9 among them, and 0 of its own",
            |alice, _| {
                insert_behind(alice, 1, &receipt(7), chat("Bob", 12));
            },
        ),
        (
            "CHAT-RES-9",
            "Alice lacks the chat 4 by Bob in",
            |alice, _| {
                remove(alice, 1, &chat("Bob", 4));
            },
        ),
        (
            "CHAT-RES-9",
            "Alice lacks the chat 3 by Alice in",
            |alice, _| {
                remove(alice, 1, &chat("Alice", 3));
                replace(alice, 1, &says(3), says(103));
                replace(alice, 1, &receipt(3), refused(103, ErrorCode::RateLimited));
            },
        ),
        (
            "CHAT-RES-9",
            "the chat 2 comes, and the session begins with 3",
            |alice, _| {
                let place = at(alice, 1, &chat("Alice", 3));
                alice.insert(place, (1, chat("Bob", 2)));
            },
        ),
        (
            "CHAT-ORD-5",
            "the chat 1 comes, and the session begins with 2",
            |_, bob| {
                replace(bob, 0, &registered("Bob", 0, 0), registered("Bob", 1, 0));
            },
        ),
        ("CHAT-CHAT-2", "back to", |_, bob| {
            insert_behind(bob, 0, &receipt(5), chat("Bob", 5));
        }),
        ("CHAT-CHAT-3", "\"other\"", |_, bob| {
            let other = with_text(relayed("Alice", 6), "other");
            replace(bob, 0, &chat("Alice", 6), other);
        }),
        (
            "CHAT-CHAT-4",
            "the chat 6 is by Eve here and by Alice",
            |_, bob| {
                replace(bob, 0, &chat("Alice", 6), chat("Eve", 6));
            },
        ),
        ("CHAT-HIST-10", "the chat 6 is", |_, bob| {
            let mut other = relayed("Alice", 6);
            other.time_unix_ms = 9;
            replace(bob, 0, &chat("Alice", 6), with_text(other, "other"));
        }),
        ("CHAT-RCPT-3", "of the time", |_, bob| {
            let mut later = relayed("Alice", 6);
            later.time_unix_ms = 9;
            replace(bob, 0, &chat("Alice", 6), Event::Came(Came::Chat(later)));
        }),
        (
            "CHAT-RCPT-2",
            "comes before those to 1 earlier",
            |_, bob| {
                let place = at(bob, 0, &receipt(4));
                bob.swap(place, place + 1);
            },
        ),
        (
            "CHAT-RCPT-2",
            "no chat of this session waits for an answer to its id 7",
            |_, bob| {
                insert_behind(bob, 0, &receipt(8), receipt(7));
            },
        ),
        (
            "CHAT-ORD-1",
            "the chats 4 and 5 have the same number 4",
            |_, bob| {
                let mut same = Receipt {
                    id: 5,
                    seq: 4,
                    time_unix_ms: 1_004,
                };
                same.id = 5;
                replace(bob, 0, &receipt(5), Event::Came(Came::Receipt(same)));
            },
        ),
        (
            "CHAT-RES-11",
            "the chat 1 is accepted twice, as 1 and 9",
            |alice, _| {
                insert_behind(alice, 1, &receipt(7), says(1));
                let again = Receipt {
                    id: 1,
                    seq: 9,
                    time_unix_ms: 1_001,
                };
                insert_behind(alice, 1, &says(1), Event::Came(Came::Receipt(again)));
            },
        ),
        (
            "CHAT-HIST-2",
            "a page from 6 to 8 lacks the chat 7",
            |_, bob| {
                edit_page(bob, |chats| drop(chats.remove(1)));
            },
        ),
        ("CHAT-HIST-2", "has the chat 6 behind 7", |_, bob| {
            edit_page(bob, |chats| chats.swap(0, 1));
        }),
        ("CHAT-CHAT-3", "\"other\"", |_, bob| {
            edit_page(bob, |chats| chats[0].text = "other".to_owned());
        }),
        (
            "CHAT-RES-8",
            "resumed from 2, which its client has",
            |alice, _| {
                replace(
                    alice,
                    1,
                    &registered("Alice", 5, 3),
                    registered("Alice", 5, 2),
                );
            },
        ),
        (
            "CHAT-ORD-6",
            "says that 1 chats were accepted, and 2 had been told",
            |alice, _| {
                replace(
                    alice,
                    1,
                    &registered("Alice", 5, 3),
                    registered("Alice", 1, 3),
                );
            },
        ),
        ("CHAT-REG-3", "before Registered", |_, bob| {
            let place = at(bob, 0, &registered("Bob", 0, 0));
            bob.insert(place, (0, chat("Alice", 1)));
        }),
        ("CHAT-REG-1", "chat came before Register", |_, bob| {
            bob.insert(0, (0, says(1)));
        }),
        ("CHAT-REG-10", "chat came before Registered", |_, bob| {
            bob.insert(1, (0, says(2)));
        }),
        (
            "CHAT-RES-14",
            "the id 6 was another chat's before",
            |alice, _| {
                let mut other = relayed("", 0);
                other.id = 6;
                other.text = "other".to_owned();
                insert_behind(alice, 1, &receipt(6), Event::Sent(Sent::Chat(other)));
            },
        ),
        (
            "CHAT-RES-15",
            "5 chats are unanswered, 4 may be",
            |_, bob| {
                for id in 20..25 {
                    insert_behind(bob, 0, &receipt(8), says(id));
                }
            },
        ),
        (
            "CHAT-RES-16",
            "the new chat 6 is sent before 1 that were not",
            |alice, _| {
                remove(alice, 1, &says(3));
                remove(alice, 1, &receipt(3));
            },
        ),
        ("CHAT-RES-18", "the attempt 0 comes after 0", |alice, _| {
            let before = register("Alice", resume(2, 1));
            replace(alice, 1, &before, register("Alice", resume(2, 0)));
        }),
        (
            "CHAT-RES-20",
            "it has everything up to 2, and says 3",
            |alice, _| {
                let before = register("Alice", resume(2, 1));
                replace(alice, 1, &before, register("Alice", resume(3, 1)));
            },
        ),
        ("CHAT-RES-21", "from another epoch", |alice, _| {
            let mut other = resume(2, 1);
            other.as_mut().expect("one").epoch = "f".to_owned();
            let before = register("Alice", resume(2, 1));
            replace(alice, 1, &before, register("Alice", other));
        }),
        ("CHAT-DM-7", "the direct 70 has a number: 9", |_, bob| {
            insert_behind(bob, 0, &receipt(8), direct(70));
            let answer = Receipt {
                id: 70,
                seq: 9,
                time_unix_ms: 1,
            };
            insert_behind(bob, 0, &direct(70), Event::Came(Came::Receipt(answer)));
        }),
        (
            "CHAT-RCPT-1",
            "the chat 70 is accepted without a number",
            |_, bob| {
                insert_behind(bob, 0, &receipt(8), says(70));
                insert_behind(bob, 0, &says(70), direct_receipt(70));
            },
        ),
        (
            "CHAT-GROW-7",
            "presence came, which was not granted",
            |_, bob| {
                let joined = Came::Joined(chat::wire::Joined {
                    name: "Eve".to_owned(),
                });
                insert_behind(bob, 0, &receipt(8), Event::Came(joined));
            },
        ),
    ];
    for (rule, sentence, break_it) in ways {
        let (mut alice, mut bob) = (alice(), bob());
        break_it(&mut alice, &mut bob);
        assert_found(audit(&alice, &bob), rule, sentence);
    }
}

fn edit_page(events: &mut Events, edit: impl Fn(&mut Vec<Chat>)) {
    for (_, event) in events {
        if let Event::Came(Came::History(page)) = event {
            edit(&mut page.chats);
        }
    }
}

/// What the operator removed since has no text in a page, and is the same chat.
#[test]
fn a_removed_chat_agrees_with_what_it_was() {
    let remove_text = |chats: &mut Vec<Chat>| {
        chats[0].removed = true;
        chats[0].text.clear();
    };
    let mut bob = bob();
    edit_page(&mut bob, remove_text);
    let (ran, _) = audit(&alice(), &bob);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    edit_page(&mut bob, |chats| chats[0].text = "text 6".to_owned());
    let (ran, report) = audit(&alice(), &bob);
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    assert_eq!(report["findings"][0]["rule"], "CHAT-MOD-8", "{report}");
}

/// A client that proves its key sends a message before it is registered.
#[test]
fn a_proof_may_come_before_registered() {
    let mut bob = bob();
    let challenge = Event::Came(Came::Challenge(Challenge {
        nonce: vec![7; 32],
        epoch: EPOCH.to_owned(),
    }));
    let proof = Event::Sent(Sent::Proof(Proof {
        signature: vec![7; 64],
    }));
    bob.splice(1..1, [(0, challenge), (0, proof)]);
    let (ran, _) = audit(&alice(), &bob);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
}

/// A muted member is answered like any other whose chat is refused.
#[test]
fn a_chat_of_a_muted_member_is_answered() {
    let mut bob = bob();
    insert_behind(&mut bob, 0, &receipt(5), says(91));
    insert_behind(&mut bob, 0, &says(91), refused(91, ErrorCode::Muted));
    let (ran, _) = audit(&alice(), &bob);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
}

/// A direct is answered in its turn, has no number and explains none.
#[test]
fn a_direct_counts_for_no_number() {
    let (alice, mut bob) = (alice(), bob());
    insert_behind(&mut bob, 0, &receipt(2), direct(70));
    insert_behind(&mut bob, 0, &receipt(8), direct(71));
    insert_behind(&mut bob, 0, &direct(70), direct(72));
    // In the order in which they were sent: 90, 70 and 72 came before 4.
    let refusal = refused(90, ErrorCode::TextInvalid);
    insert_behind(&mut bob, 0, &refusal, direct_receipt(70));
    insert_behind(
        &mut bob,
        0,
        &direct_receipt(70),
        refused(72, ErrorCode::NotReachable),
    );
    let (ran, _) = audit(&alice, &bob);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    // The direct 71 is not answered.
    remove(&mut bob, 0, &receipt(5));
    remove(&mut bob, 0, &says(5));
    let (ran, report) = audit(&alice, &bob);
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    assert_eq!(report["findings"][0]["rule"], "CHAT-ORD-4", "{report}");
}

/// A chat that was sent and never answered may be the number that its sender lacks.
#[test]
fn an_own_chat_without_an_answer_explains_a_hole() {
    let (mut alice, bob) = (alice(), bob());
    remove(&mut alice, 1, &receipt(7));
    let (ran, _) = audit(&alice, &bob);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
}

#[test]
fn what_is_no_capture_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let name = path.to_str().expect("UTF-8");
    let head = "{\"capture\":1,\"by\":\"a test\"}\n";
    let opened = "{\"at_ms\":1,\"connection\":1,\"event\":\"opened\"}\n";
    let frame = |hex: &str| {
        format!("{{\"at_ms\":1,\"connection\":1,\"from\":\"client\",\"frame\":\"{hex}\"}}\n")
    };
    for (text, sentence) in [
        (String::new(), "is empty"),
        ("hello\n".to_owned(), "file:1: this is no line of a capture"),
        (
            opened.to_owned(),
            "its first line is not {\"capture\":1,...}",
        ),
        (
            head.replace('1', "2"),
            "version 2, and this program reads version 1",
        ),
        (
            format!("{head}{{}}\n"),
            "file:2: the line is about no connection",
        ),
        (
            format!("{head}{}", frame("zz")),
            "file:2: the frame is not in hexadecimal digits",
        ),
        (
            format!("{head}{}", frame("0506")),
            "file:2: the frame is not whole",
        ),
        (
            format!("{head}{}", frame("01060a")),
            "file:2: there are bytes behind the frame",
        ),
    ] {
        fs::write(&path, &text).expect("a file");
        let ran = run(&["audit", name]);
        assert_eq!(ran.code, USAGE, "{text}: {}", ran.stdout);
        assert!(ran.stderr.contains(sentence), "{text}: {}", ran.stderr);
    }
    // A recorder that was killed leaves half a line.
    fs::write(&path, format!("{head}{opened}{{\"at_ms\":1,\"conn")).expect("a file");
    let ran = run(&["audit", name]);
    assert_eq!(ran.code, INCOMPLETE, "{}", ran.stderr);
    assert!(ran.stdout.contains("ends within a line"), "{}", ran.stdout);
    assert_eq!(run(&["audit", "/nowhere/at/all"]).code, USAGE);
    assert_eq!(run(&["audit"]).code, USAGE);
}

/// Captures of the client and of the recording proxy, over TCP and over TLS, agree, and
/// have none of the secrets.
#[test]
fn captures_of_the_programs_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let password = chat::files::append_private(&path("password"));
    writeln!(password.expect("a file"), "the door is ajar").expect("a file");
    let here = folder.path().display();
    let options = format!(
        "--listen none --tls-listen 127.0.0.1:0 --tls-self-signed {here}/tls --password-file {here}/password"
    );
    let (_server, address) = listening_to(&reference(&options));
    let mut proxy = crate::support::runner()
        .args(["record", &address, "--capture"])
        .arg(path("proxy"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the runner starts");
    let mut output = BufReader::new(proxy.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    let near = line
        .trim()
        .strip_prefix("listening on ")
        .expect("an address");
    let client = |address: &str, name: &str| {
        let mut client = Command::new(env!("CARGO_BIN_EXE_chat-client"));
        client
            .args([address, name, "--reconnect", "--capture"])
            .arg(path(name))
            .arg("--password-file")
            .arg(path("password"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        client.spawn().expect("the client starts")
    };
    // Bob is behind the proxy, Alice at the server itself.
    let mut bob = client(near, "bob");
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(path("bob")).is_ok_and(|text| text.contains("\"server\"")) {
        assert!(Instant::now() < deadline, "Bob does not join");
        thread::sleep(Duration::from_millis(20));
    }
    let mut alice = client(&address, "alice");
    let [mut alice_says, mut bob_says] =
        [&mut alice, &mut bob].map(|it| it.stdin.take().expect("a pipe"));
    let [mut alice_hears, mut bob_hears] =
        [&mut alice, &mut bob].map(|it| BufReader::new(it.stdout.take().expect("a pipe")));
    for round in 0..20 {
        for (says, hears) in [
            (&mut alice_says, &mut bob_hears),
            (&mut bob_says, &mut alice_hears),
        ] {
            writeln!(says, "line {round}").expect("it reads");
            let mut line = String::new();
            hears.read_line(&mut line).expect("text");
            assert!(line.ends_with(&format!(": line {round}\n")), "{line}");
        }
    }
    drop((alice_says, bob_says));
    assert!(alice.wait().expect("a child").success());
    assert!(bob.wait().expect("a child").success());
    output.read_to_string(&mut String::new()).expect("a draft");
    assert!(proxy.wait().expect("a child").success());
    let files = ["alice", "bob", "proxy"].map(path);
    let (ran, report) = audit_files(&files);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    assert_eq!(
        report["sessions"].as_array().map(Vec::len),
        Some(3),
        "{}",
        ran.stdout
    );
    assert_eq!(report["chats"], 40, "{report}");
    for file in &files {
        let mut text = String::new();
        let mut open = File::open(file).expect("it was written");
        open.read_to_string(&mut text).expect("text");
        let hex = |text: &str| {
            text.bytes()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert!(!text.contains(&hex("door")), "{text}");
        assert!(text.contains(&hex("<password>")), "{text}");
        assert!(text.contains(&hex("<token>")), "{text}");
    }
}
