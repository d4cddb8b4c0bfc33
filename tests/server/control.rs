//! The control socket and `chat-server ctl`: what an operator does to a running server,
//! and what members see of it (CHAT-MOD).

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Output,
};

use chat::wire::{
    Capability, ClientEnvelope, ErrorCode, GetHistory, LeftReason, Register, Registered, Resume,
    ResumeFailure, client_envelope::Message as Sent, get_history, server_envelope::Message,
};
use serde_json::{Value, json};

use crate::support::{Peer, TestServer, command, output, register};

/// A server with a control socket, in a folder of its own.
struct Operated {
    server: TestServer,
    folder: tempfile::TempDir,
}

impl Operated {
    fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a place for files"), options)
    }

    fn start_in(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let socket = folder.path().join("control");
        let control = ["--control", socket.to_str().expect("UTF-8")];
        let server = TestServer::start(&[options, &control].concat());
        Self { server, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ctl(&self, words: &[&str]) -> Output {
        let socket = self.path("control");
        let control = ["ctl", "--control", socket.to_str().expect("UTF-8")];
        output(command(&[&control, words].concat()))
    }

    /// What it prints; it must have succeeded.
    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What it says on its error output; the server must have refused.
    #[track_caller]
    fn refuses(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        assert_eq!(output.stdout, b"", "{words:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// A client that comes back to its session and has nothing of it.
    fn resume(&self, name: &str, asked: &[Capability], registered: Registered) -> Peer {
        let mut peer = Peer::connect(&self.server);
        peer.send(&ClientEnvelope {
            message: Some(Sent::Register(Register {
                name: name.to_owned(),
                capabilities: asked.iter().copied().map(i32::from).collect(),
                resume: Some(Resume {
                    token: registered.resume_token,
                    epoch: registered.epoch,
                    seq: 0,
                    attempt: 1,
                }),
                ..Register::default()
            })),
        });
        peer
    }

    /// The answer to one request.
    fn asks(&self, request: &str) -> Value {
        let mut stream = UnixStream::connect(self.path("control")).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        stream.write_all(b"\n").expect("it reads");
        let mut answer = String::new();
        let read = BufReader::new(stream).read_line(&mut answer);
        read.expect("it answers");
        serde_json::from_str(&answer).expect("JSON")
    }
}

fn has(folder: &Path, text: &str) -> bool {
    let mut files = fs::read_dir(folder).expect("a folder");
    files.any(|file| {
        let path = file.expect("a file").path();
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|it| it == text.as_bytes())
    })
}

#[test]
fn members_are_listed_with_their_addresses() {
    let operated = Operated::start(&[]);
    let mut alice = Peer::join(&operated.server, "Alice");
    let mut bob = Peer::join(&operated.server, "bob");
    bob.say("hello");
    alice.hears("hello");
    let listed = operated.does(&["list"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("NAME "), "{listed}");
    assert!(lines[1].starts_with("Alice "), "{listed}");
    assert!(lines[1].contains(&alice.address().to_string()), "{listed}");
    assert!(lines[2].starts_with("bob "), "{listed}");
    assert!(lines[2].ends_with(" 1"), "{listed}");
    let json = operated.does(&["--json", "list"]);
    let json: Value = serde_json::from_str(&json).expect("a line of JSON");
    assert_eq!(json["members"][1]["name"], "bob");
    assert_eq!(json["members"][1]["messages"], 1);
    assert_eq!(json["more"], false);
    let behind = operated.asks(r#"{"command":"list","after":"Alice"}"#);
    assert_eq!(behind["members"][0]["name"], "bob");
    assert_eq!(behind["members"].as_array().map(Vec::len), Some(1));
    let stats = operated.does(&["stats"]);
    assert!(stats.contains("members        2"), "{stats}");
    assert!(stats.contains("last message   1"), "{stats}");
}

/// CHAT-MOD-1, CHAT-PRES-5.
#[test]
fn a_kicked_member_is_told_why_and_the_others_that_it_left() {
    let operated = Operated::start(&[]);
    let (mut bob, _) = Peer::join_with(&operated.server, "Bob", &[Capability::Presence]);
    bob.sees_members();
    let mut alice = Peer::join(&operated.server, "Alice");
    bob.sees_joined("Alice");
    operated.does(&["kick", "ALICE", "no", "spam", "please"]);
    let error = alice.is_ended(ErrorCode::Kicked);
    assert!(error.detail.ends_with(": no spam please"), "{error:?}");
    bob.sees_left("Alice", LeftReason::Kicked);
    operated.server.wait_for_log("the operator has thrown out");
    // It is not kept out.
    Peer::join(&operated.server, "Alice");
    bob.sees_joined("Alice");
    let sentence = operated.refuses(&["kick", "Carol"]);
    assert!(
        sentence.contains("no member has the name Carol"),
        "{sentence}"
    );
    let sentence = operated.refuses(&["kick", "a b"]);
    assert!(sentence.contains("is no name"), "{sentence}");
    let long = "x".repeat(121);
    let sentence = operated.refuses(&["kick", "Bob", &long]);
    assert!(sentence.contains("120 bytes"), "{sentence}");
}

/// CHAT-MOD-5.
#[test]
fn a_kicked_session_is_not_resumed() {
    let operated = Operated::start(&[]);
    let asked = [Capability::Receipts, Capability::Resume];
    let (mut alice, registered) = Peer::join_with(&operated.server, "Alice", &asked);
    operated.does(&["kick", "Alice"]);
    alice.is_ended(ErrorCode::Kicked);
    let mut again = operated.resume("Alice", &asked, registered);
    let failure = again.registered().resume_failure();
    assert_eq!(failure, ResumeFailure::UnknownToken);
}

/// CHAT-MOD-2, CHAT-MOD-3.
#[test]
fn a_banned_name_is_out_until_the_ban_is_lifted() {
    let operated = Operated::start(&[]);
    let mut alice = Peer::join(&operated.server, "Alice");
    let told = operated.does(&["ban", "alice", "--for", "2h", "spam"]);
    assert_eq!(told, "banned, until the server ends; sessions ended: 1\n");
    let error = alice.is_ended(ErrorCode::Banned);
    assert!(error.detail.contains("for 2 hours: spam"), "{error:?}");
    let mut again = Peer::connect(&operated.server);
    again.send(&register("ALICE", &[]));
    again.is_ended(ErrorCode::Banned);
    Peer::join(&operated.server, "Alicia");
    let bans = operated.does(&["bans"]);
    assert!(bans.starts_with("ban   alice"), "{bans}");
    assert!(bans.contains("  # spam"), "{bans}");
    operated.does(&["unban", "Alice"]);
    Peer::join(&operated.server, "Alice");
    operated.refuses(&["unban", "Alice"]);
    operated.refuses(&["ban", "a/b"]);
}

/// CHAT-MOD-2, CHAT-MOD-3: also those that have not registered.
#[test]
fn a_banned_address_is_out_with_all_its_connections() {
    let operated = Operated::start(&[]);
    let mut alice = Peer::join(&operated.server, "Alice");
    let mut silent = Peer::connect(&operated.server);
    operated.asks(r#"{"command":"stats"}"#);
    let told = operated.does(&["ban", "127.0.0.0/8"]);
    assert!(told.ends_with("sessions ended: 2\n"), "{told}");
    alice.is_ended(ErrorCode::Banned);
    silent.is_ended(ErrorCode::Banned);
    // Before it has said anything.
    Peer::connect(&operated.server).is_ended(ErrorCode::Banned);
    operated.does(&["unban", "127.0.0.0/8"]);
    let mut alice = Peer::join(&operated.server, "Alice");
    operated.does(&["ban", "Alice", "--address"]);
    alice.is_ended(ErrorCode::Banned);
    let bans = operated.does(&["bans"]);
    assert!(bans.contains("127.0.0.1"), "{bans}");
    Peer::connect(&operated.server).is_ended(ErrorCode::Banned);
}

/// CHAT-MOD-4.
#[test]
fn a_muted_member_is_refused_and_still_hears() {
    let operated = Operated::start(&[]);
    let mut alice = Peer::join(&operated.server, "Alice");
    let mut bob = Peer::join(&operated.server, "Bob");
    operated.does(&["mute", "alice", "calm", "down"]);
    alice.say("one");
    let error = alice.is_refused(ErrorCode::Muted);
    assert!(error.detail.ends_with(": calm down"), "{error:?}");
    bob.say("two");
    assert_eq!(alice.hears("two").seq, 1);
    operated.does(&["unmute", "Alice"]);
    alice.say("three");
    assert_eq!(bob.hears("three").seq, 2);
    operated.refuses(&["unmute", "Alice"]);
    operated.does(&["mute", "Bob", "--for", "1ms"]);
    std::thread::sleep(std::time::Duration::from_millis(5));
    bob.say("four");
    alice.hears("four");
}

/// CHAT-MOD-7.
#[test]
fn what_the_operator_says_comes_from_the_server() {
    let operated = Operated::start(&[]);
    let mut alice = Peer::join(&operated.server, "Alice");
    assert_eq!(
        operated.does(&["say", "back", "in a", "minute"]),
        "said, as message 1\n"
    );
    let chat = alice.hears("back in a minute");
    assert_eq!((chat.sender.as_str(), chat.seq), ("server", 1));
    let sentence = operated.refuses(&["say", "two\nlines"]);
    assert!(sentence.contains("U+000A"), "{sentence}");
    operated.refuses(&["say", &"x".repeat(5_000)]);
}

#[test]
fn draining_closes_the_server_as_sigterm_does() {
    let mut operated = Operated::start(&[]);
    let mut alice = Peer::join(&operated.server, "Alice");
    operated.does(&["drain"]);
    alice.sees_closing();
    assert!(operated.server.wait().success());
    assert!(!operated.path("control").exists());
    let output = operated.ctl(&["list"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn only_the_servers_user_can_open_the_socket() {
    let operated = Operated::start(&[]);
    let mode = fs::metadata(operated.path("control")).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_server_does_not_take_the_socket_and_a_later_one_does() {
    let mut operated = Operated::start(&[]);
    let socket = operated.path("control");
    let options = ["--control", socket.to_str().expect("UTF-8")];
    let second = output(command(&options));
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(
        stderr.contains("a server that runs listens there"),
        "{stderr}"
    );
    // Killed, it leaves the socket.
    operated.server.signal("KILL");
    operated.server.wait();
    assert!(socket.exists());
    let later = Operated::start_in(operated.folder, &[]);
    later.does(&["stats"]);
}

#[test]
fn requests_that_are_none_are_refused_with_a_code() {
    let operated = Operated::start(&[]);
    for request in [
        "",
        "{}",
        "hello",
        r#"{"command":"reboot"}"#,
        r#"{"command":"list","x":1}"#,
    ] {
        let answer = operated.asks(request);
        assert_eq!(answer["ok"], json!(false), "{request}: {answer}");
        assert_eq!(answer["code"], "invalid", "{request}: {answer}");
    }
    let answer = operated.asks(&" ".repeat(1 << 20));
    assert_eq!(answer["error"], "the request is too long");
    assert_eq!(operated.asks(r#"{"command":"stats"}"#)["ok"], json!(true));
    let stats = operated.does(&["stats", "--json"]);
    assert!(stats.starts_with(r#"{"ok":true"#), "{stats}");
    let usage = operated.ctl(&["ban"]);
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
}

/// The file of `--deny`, at the start and on SIGHUP, and a wrong one.
#[test]
fn the_file_of_deny_is_read_again_on_sighup() {
    let folder = tempfile::tempdir().expect("a place for files");
    let deny = folder.path().join("deny");
    fs::write(&deny, "mallory # spam\n").expect("ours");
    let path = deny.to_str().expect("UTF-8").to_owned();
    let operated = Operated::start(&["--deny", &path]);
    let mut mallory = Peer::connect(&operated.server);
    mallory.send(&register("Mallory", &[]));
    mallory.is_ended(ErrorCode::Banned);
    let mut alice = Peer::join(&operated.server, "Alice");
    let sentence = operated.refuses(&["unban", "mallory"]);
    assert!(sentence.contains("--deny"), "{sentence}");

    fs::write(&deny, "alice until noon\n").expect("ours");
    let sentence = operated.refuses(&["reload"]);
    assert!(sentence.contains("deny:1: "), "{sentence}");
    let told = "the operator reloads: nothing has changed: ";
    operated.server.wait_for_log(told);
    alice.say("still here");

    fs::write(&deny, "alice until 2999-01-01T00:00:00Z # enough\n").expect("ours");
    operated.server.signal("HUP");
    let error = alice.is_ended(ErrorCode::Banned);
    assert!(error.detail.contains("enough"), "{error:?}");
    Peer::join(&operated.server, "Mallory");
    assert_eq!(
        operated.does(&["reload"]),
        "nothing has changed, serving on\n"
    );
    let told = "the operator reloads: nothing has changed, serving on";
    operated.server.wait_for_log(told);
    let wrong = output(command(&["--deny", "/nowhere/deny"]));
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

/// CHAT-REG-14.
#[test]
fn members_are_welcomed_in_the_operators_words() {
    let folder = tempfile::tempdir().expect("a place for files");
    let welcome = folder.path().join("welcome");
    fs::write(&welcome, "be kind\nno spam\n").expect("ours");
    let path = welcome.to_str().expect("UTF-8").to_owned();
    let operated = Operated::start(&["--welcome", &path]);
    let (_, registered) = Peer::join_with(&operated.server, "Alice", &[]);
    assert_eq!(registered.welcome, "be kind\nno spam");
    fs::write(&welcome, "x".repeat(513)).expect("ours");
    operated.refuses(&["reload"]);
    let (_, registered) = Peer::join_with(&operated.server, "Bob", &[]);
    assert_eq!(registered.welcome, "be kind\nno spam");
    fs::write(&welcome, "x".repeat(512)).expect("ours");
    operated.does(&["reload"]);
    let (_, registered) = Peer::join_with(&operated.server, "Carol", &[]);
    assert_eq!(registered.welcome.len(), 512);
}

#[test]
fn bans_and_mutes_survive_a_restart_where_the_room_does() {
    let folder = tempfile::tempdir().expect("a place for files");
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8").to_owned();
    let mut operated = Operated::start_in(folder, &["--data", &data]);
    let told = operated.does(&["ban", "mallory", "spam"]);
    assert_eq!(told, "banned; sessions ended: 0\n");
    operated.does(&["mute", "Alice"]);
    // The longest time is a date that can be read again.
    operated.does(&["ban", "late", "--for", "36525d"]);
    for words in [
        ["ban", "late", "--for", "36526d"],
        ["mute", "late", "--for", "9999999d"],
    ] {
        let said = operated.refuses(&words);
        assert!(said.contains("longer than a hundred years"), "{said}");
    }
    operated.server.signal("KILL");
    operated.server.wait();
    let again = Operated::start_in(operated.folder, &["--data", &data]);
    let mut mallory = Peer::connect(&again.server);
    mallory.send(&register("mallory", &[]));
    let error = mallory.is_ended(ErrorCode::Banned);
    assert!(error.detail.ends_with(": spam"), "{error:?}");
    let mut alice = Peer::join(&again.server, "Alice");
    alice.say("one");
    alice.is_refused(ErrorCode::Muted);
}

/// CHAT-MOD-8: memory, disk, pages, resumed sessions, also after a restart.
#[test]
fn a_removed_text_is_gone_everywhere() {
    const SECRET: &str = "the password is hunter2";
    let folder = tempfile::tempdir().expect("a place for files");
    let data = folder.path().join("data");
    let path = data.to_str().expect("UTF-8").to_owned();
    let mut operated = Operated::start_in(folder, &["--data", &path]);
    let asked = [
        Capability::Receipts,
        Capability::Resume,
        Capability::History,
    ];
    let (alice, registered) = Peer::join_with(&operated.server, "Alice", &asked);
    let mut bob = Peer::join(&operated.server, "Bob");
    let mut carol = Peer::join(&operated.server, "Carol");
    for text in ["one", SECRET, "three"] {
        bob.say(text);
        carol.hears(text);
    }
    drop(alice);
    // An index of words would give it away too.
    let searched = output(command(&["history", &path, "search", "hunter2"]));
    assert!(String::from_utf8_lossy(&searched.stdout).contains(SECRET));
    assert!(has(&data, SECRET));

    operated.does(&["remove", "2"]);
    assert!(!has(&data, SECRET));
    let searched = output(command(&["history", &path, "search", "hunter2"]));
    assert_eq!(searched.stdout, b"", "{searched:?}");
    let exported = output(command(&["history", &path, "export"]));
    let exported = String::from_utf8(exported.stdout).expect("UTF-8");
    assert!(
        exported.contains(r#""text":"","removed":true"#),
        "{exported}"
    );

    let resumes = |server: &TestServer, attempt: u32, token: Vec<u8>| {
        let mut alice = Peer::connect(server);
        alice.send(&ClientEnvelope {
            message: Some(Sent::Register(Register {
                name: "Alice".to_owned(),
                capabilities: asked.map(i32::from).to_vec(),
                resume: Some(Resume {
                    token,
                    epoch: registered.epoch.clone(),
                    seq: 0,
                    attempt,
                }),
                ..Register::default()
            })),
        });
        let resumed = alice.registered();
        assert_eq!(resumed.resumed_from, 1, "{resumed:?}");
        alice.hears("one");
        let removed = alice.chat();
        assert_eq!((removed.text.as_str(), removed.removed), ("", true));
        assert_eq!((removed.sender.as_str(), removed.seq), ("Bob", 2));
        assert!(removed.time_unix_ms > 0);
        alice.hears("three");
        alice.send(&ClientEnvelope {
            message: Some(Sent::GetHistory(GetHistory {
                id: 1,
                edge: Some(get_history::Edge::Before(4)),
                limit: 3,
                filter: None,
            })),
        });
        let Message::History(page) = alice.recv() else {
            panic!("not a page");
        };
        let texts: Vec<_> = page
            .chats
            .iter()
            .map(|it| (&*it.text, it.removed))
            .collect();
        assert_eq!(texts, [("one", false), ("", true), ("three", false)]);
        resumed.resume_token
    };
    let token = resumes(&operated.server, 1, registered.resume_token.clone());
    for seq in ["0", "4"] {
        operated.refuses(&["remove", seq]);
    }
    operated.does(&["remove", "2"]);
    operated.does(&["drain"]);
    assert!(operated.server.wait().success());
    let checked = output(command(&["history", &path, "check"]));
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let again = Operated::start_in(operated.folder, &["--data", &path]);
    resumes(&again.server, 2, token);
}

/// CHAT-MOD-8, without a disk.
#[test]
fn a_removed_text_does_not_come_back_from_memory() {
    let operated = Operated::start(&[]);
    let asked = [Capability::Receipts, Capability::Resume];
    let (alice, registered) = Peer::join_with(&operated.server, "Alice", &asked);
    let mut bob = Peer::join(&operated.server, "Bob");
    let mut carol = Peer::join(&operated.server, "Carol");
    for text in ["one", "two", "three"] {
        bob.say(text);
        carol.hears(text);
    }
    drop(alice);
    operated.does(&["remove", "3"]);
    operated.does(&["remove", "1"]);
    bob.say("four");
    carol.hears("four");
    let mut alice = operated.resume("Alice", &asked, registered);
    assert_eq!(alice.registered().resumed_from, 1);
    for (seq, text) in [(1, ""), (2, "two"), (3, ""), (4, "four")] {
        let chat = alice.hears(text);
        assert_eq!((chat.seq, chat.removed), (seq, text.is_empty()));
    }
}
