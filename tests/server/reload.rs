//! SIGHUP: what changes while the server runs, for whom, and that a fault changes nothing.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use chat::wire::ErrorCode;
use nix::{libc::O_NONBLOCK, sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;

use crate::support::{NOTHING, Peer, TestServer, register_with_password};

/// A server with its configuration in a folder.
struct Configured {
    folder: TempDir,
    server: TestServer,
}

impl Configured {
    /// Files by their names, `chat.toml` among them, in which `$DIR` is the folder.
    fn start(files: &[(&str, &str)], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a place for files");
        for (name, text) in files {
            write(folder.path(), name, text);
        }
        let config = folder.path().join("chat.toml");
        let config = config.to_str().expect("a path");
        let server = TestServer::start(&[&["--config", config], options].concat());
        Self { folder, server }
    }

    fn write(&self, name: &str, text: &str) {
        write(self.folder.path(), name, text);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("it is there")
    }

    /// Has it read again, and waits until it says these words about it.
    fn reload(&self, words: &str) {
        self.server.signal("HUP");
        self.server.wait_for_log(words);
    }

    fn join(&self, name: &str, password: &str) -> Peer {
        let mut peer = self.try_join(name, password);
        peer.registered();
        peer
    }

    fn try_join(&self, name: &str, password: &str) -> Peer {
        let mut peer = Peer::connect(&self.server);
        peer.send(&register_with_password(name, password));
        peer
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path: PathBuf = folder.join(name);
    // A sign that the base64 of a certificate has not.
    let text = text.replace("$DIR", folder.to_str().expect("a path"));
    fs::write(&path, text).expect("ours");
    // A password is for its owner.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, mode).expect("ours");
}

/// A session keeps the limits that it was told of (CHAT-LIM-2); connections are counted at
/// once.
#[test]
fn limits_change_for_those_who_come_then() {
    let it = Configured::start(
        &[("chat.toml", "rate-burst = 3\nrate-limit = \"1/h\"")],
        &["--limit-loopback"],
    );
    let mut alice = Peer::join(&it.server, "Alice");
    it.write(
        "chat.toml",
        "rate-burst = 5\nrate-limit = \"1/min\"\nconnections-per-address-max = 2",
    );
    it.reload("SIGHUP: connections-per-address-max from 64 to 2; rate-limit from 1/h to 1/min; rate-burst from 3 to 5");
    let (mut bob, registered) = Peer::join_with(&it.server, "Bob", NOTHING);
    let limits = registered.limits.expect("CHAT-LIM-1");
    assert_eq!((limits.chat_burst, limits.chat_interval_ms), (5, 60_000));
    Peer::connect(&it.server).is_ended(ErrorCode::TooManyConnections);
    for _ in 0..3 {
        alice.say("within the burst");
        bob.hears("within the burst");
    }
    alice.say("beyond it");
    assert!(alice.is_refused(ErrorCode::RateLimited).retry_after_ms > 60_000);
    for _ in 0..5 {
        bob.say("within the burst");
        alice.hears("within the burst");
    }
    bob.say("beyond it");
    assert!(bob.is_refused(ErrorCode::RateLimited).retry_after_ms <= 60_000);
}

#[test]
fn another_password_ends_all_sessions() {
    let it = Configured::start(
        &[
            ("chat.toml", "password-file = \"$DIR/password\""),
            ("password", "old\n"),
        ],
        &[],
    );
    let mut alice = it.join("Alice", "old");
    // The same one does nothing.
    it.write("password", "old");
    it.reload("SIGHUP: nothing has changed, serving on");
    alice.say("still here");
    it.write("password", "new\n");
    it.reload("SIGHUP: another password; 1 sessions ended");
    let error = alice.is_ended(ErrorCode::Kicked);
    assert!(error.detail.contains("password"), "{error:?}");
    it.try_join("Alice", "old")
        .is_ended(ErrorCode::PasswordWrong);
    let mut alice = it.join("Alice", "new");
    it.write("chat.toml", "");
    it.reload("SIGHUP: no password any more");
    let mut bob = it.join("Bob", "");
    alice.say("hello");
    bob.hears("hello");
    let log = it.server.log();
    assert!(!log.contains("old") && !log.contains("new\""), "{log}");
}

#[test]
fn a_name_that_is_not_allowed_any_more_ends_its_session_alone() {
    let it = Configured::start(
        &[
            ("chat.toml", "allow = \"$DIR/names\""),
            ("names", "Alice\nBob\n"),
        ],
        &[],
    );
    let mut alice = it.join("Alice", "");
    let mut bob = it.join("bob", "");
    it.write("names", "alice\nCarol\nDave\n");
    it.reload("SIGHUP: 3 names are allowed; 1 sessions ended");
    let error = bob.is_ended(ErrorCode::Kicked);
    assert!(error.detail.contains("bob"), "{error:?}");
    it.try_join("Bob", "").is_ended(ErrorCode::NameNotAllowed);
    let mut carol = it.join("Carol", "");
    alice.say("hello");
    carol.hears("hello");
    it.write("chat.toml", "");
    it.reload("SIGHUP: all names are allowed");
    it.join("Eve", "");
}

/// Each fault, beside changes that are right.
#[test]
fn a_fault_anywhere_changes_nothing() {
    let right = "password-file = \"$DIR/password\"\nallow = \"$DIR/names\"\ndeny = \"$DIR/deny\"\n\
                 owners = \"$DIR/owners\"\nwelcome = \"$DIR/welcome\"\ntls-listen = \"127.0.0.1:0\"\n\
                 tls-self-signed = \"$DIR/tls\"\nrate-burst = 7\n";
    let it = Configured::start(
        &[
            ("chat.toml", right),
            ("password", "old"),
            ("names", "Alice\nBob\n"),
            ("deny", ""),
            ("owners", ""),
            ("welcome", ""),
        ],
        &[],
    );
    let kept = ["tls/cert.pem", "tls/key.pem"].map(|file| (file, it.read(file)));
    let mut alice = it.join("Alice", "old");
    let mut bob = it.join("Bob", "old");
    let changed = right.replace('7', "8");
    for (name, wrong, words) in [
        (
            "chat.toml",
            format!("{changed}rate-lmit = 1\n"),
            "did you mean rate-limit?",
        ),
        (
            "chat.toml",
            format!("{changed}rate-limit = \"fast\"\n"),
            "invalid value 'fast'",
        ),
        (
            "chat.toml",
            format!("{changed}keepalive-interval-ms = \"2h\"\n"),
            "less than --idle-deadline-ms",
        ),
        ("chat.toml", "[".to_owned(), "line 1: "),
        (
            "names",
            "Bob and Carol\n".to_owned(),
            "names:1: this is no name",
        ),
        ("names", String::new(), "has no name, so nobody could join"),
        ("password", String::new(), "is empty"),
        ("deny", "a b c\n".to_owned(), "deny:1: behind the name"),
        (
            "owners",
            "Alice 00\n".to_owned(),
            "owners:1: write NAME KEY",
        ),
        ("welcome", "x".repeat(513), "513 bytes, 512 are allowed"),
        ("tls/key.pem", "no key".to_owned(), "cannot read the key"),
        ("tls/cert.pem", String::new(), "has no certificate"),
    ] {
        it.write("chat.toml", &changed);
        it.write("names", "Carol\n");
        it.write("password", "new");
        it.write("deny", "Alice\n");
        it.write("owners", "");
        it.write("welcome", "hello");
        it.write(name, &wrong);
        it.server.signal("HUP");
        it.server.wait_for_log(words);
        for (file, text) in &kept {
            it.write(file, text);
        }
    }
    let log = it.server.log();
    let told = log
        .lines()
        .filter(|line| line.contains(" WARN SIGHUP: nothing has changed: "));
    assert_eq!(told.count(), 12, "{log}");
    assert!(!log.contains("rate-burst from"), "{log}");
    alice.say("undisturbed");
    bob.hears("undisturbed");
    drop(bob);
    it.server.wait_for_log("left name=Bob");
    it.try_join("Carol", "old")
        .is_ended(ErrorCode::NameNotAllowed);
    it.join("Bob", "old");
}

#[test]
fn the_log_level_changes_and_what_needs_a_restart_is_told() {
    let it = Configured::start(&[("chat.toml", "verbose = 0")], &[]);
    Peer::join(&it.server, "Alice");
    it.server.wait_for_log("left name=Alice");
    assert!(!it.server.log().contains("connected"));
    it.write(
        "chat.toml",
        "verbose = 1\nlisten = \":1\"\nlag-bytes-max = \"3MiB\"",
    );
    it.reload("SIGHUP: verbose from 0 to 1; only a restart changes listen, ");
    Peer::join(&it.server, "Bob");
    it.server.wait_for_log("DEBUG connected");
    let log = it.server.log();
    let told = log
        .lines()
        .find(|line| line.contains("only a restart"))
        .expect("it was told");
    assert!(told.contains("lag-bytes-max"), "{told}");
    assert!(!told.contains("verbose,"), "{told}");
}

/// Another path is read at once too.
#[test]
fn a_file_that_has_moved_needs_no_restart() {
    let it = Configured::start(&[("chat.toml", "")], &[]);
    for (key, text, words) in [
        ("password-file", "open sesame", "another password"),
        ("allow", "Alice", "1 names are allowed"),
        ("deny", "Bob", "1 names and addresses are denied"),
        ("welcome", "hello", "greeted in other words"),
    ] {
        it.write("list", text);
        it.write("chat.toml", &format!("{key} = \"$DIR/list\"\n"));
        it.reload(words);
    }
    it.write("owners", "");
    it.write("chat.toml", "owners = \"$DIR/owners\"\nnames = \"owned\"\n");
    it.reload("names are owned by the first key");
    it.write("chat.toml", "verbose = 1");
    it.reload("verbose from 0 to 1");
    let log = it.server.log();
    assert!(!log.contains("only a restart"), "{log}");
}

/// A pipe is waited for, and nobody waits for the server meanwhile.
#[test]
fn a_pipe_that_nobody_writes_to_holds_up_nobody() {
    let mut it = Configured::start(
        &[("chat.toml", "allow = \"$DIR/names\""), ("names", "Alice")],
        &[],
    );
    let names = it.folder.path().join("names");
    fs::remove_file(&names).expect("ours");
    mkfifo(&names, Mode::S_IRWXU).expect("ours");
    it.server.signal("HUP");
    let open = || {
        thread::sleep(Duration::from_millis(10));
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(&names)
            .ok()
    };
    // Once the server has opened it.
    let writer = std::iter::repeat_with(open).take(1_000).flatten().next();
    assert!(writer.is_some());
    let mut alice = it.join("Alice", "");
    it.server.signal("TERM");
    alice.sees_closing();
    assert!(it.server.wait().success());
}
