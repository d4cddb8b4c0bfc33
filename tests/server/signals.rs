//! Signals other than SIGINT and SIGTERM, and the terminal that the server was started
//! in.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use nix::{
    fcntl::OFlag,
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
};

use crate::support::{NOTHING, Peer, TestServer, command, signal};

/// `chat-server` in a new session, with the terminal of its standard input or without
/// one.
fn in_own_session(before: &[&str], options: &[&str], has_terminal: bool) -> Command {
    let server = command(options);
    let mut session = Command::new("setsid");
    session
        .args(has_terminal.then_some("--ctty"))
        .args(before)
        .arg(server.get_program())
        .args(server.get_args());
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => session.env(name, value),
            None => session.env_remove(name),
        };
    }
    session
}

/// Both ends of a terminal, which no other process inherits: a copy of the first would
/// keep the terminal from closing.
fn pty() -> (PtyMaster, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pty");
    grantpt(&master).expect("ours");
    unlockpt(&master).expect("ours");
    let path = ptsname_r(&master).expect("it has a name");
    let slave = File::options().read(true).write(true).open(path);
    (master, slave.expect("it is unlocked"))
}

/// A server in a terminal.
struct InTerminal {
    terminal: PtyMaster,
    child: Child,
    address: String,
}

impl InTerminal {
    fn start(before: &[&str], options: &[&str]) -> Self {
        let (master, slave) = pty();
        let mut child = in_own_session(before, options, true)
            .stdin(slave)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is setsid");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("text");
        let address = line.trim_end().strip_prefix("listening on chat://");
        Self {
            terminal: master,
            address: address.expect("it listens").to_owned(),
            child,
        }
    }

    fn join(&self, name: &str) -> Peer {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        let mut peer = Peer::from_stream(stream);
        peer.register(name, NOTHING);
        peer
    }

    /// Waits until the server has logged `words`.
    fn logs(&mut self, words: &str) {
        let mut log = BufReader::new(self.child.stderr.as_mut().expect("it is piped"));
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let bytes = log.read_line(&mut line).expect("text");
            assert!(bytes > 0, "{words:?} should have been logged");
        }
    }

    /// Closes the terminal, as closing its window does.
    fn close(self) -> Ended {
        drop(self.terminal);
        Ended(self.child)
    }
}

/// A process that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn hooks_for_reloading_and_log_rotation_end_nothing() {
    let server = TestServer::run(in_own_session(&[], &[], false));
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    for name in ["USR1", "USR2", "HUP"] {
        server.signal(name);
    }
    server.wait_for_log("SIGHUP: nothing has changed, serving on");
    alice.say("still here");
    bob.hears("still here");
}

/// CHAT-CLOSE-1: as after SIGTERM.
#[test]
fn a_server_whose_terminal_is_closed_tells_everybody() {
    // As the session leader, and below a shell, which ends first.
    for before in [&[][..], &["sh", "-c", "\"$0\" \"$@\"; exit"]] {
        let server = InTerminal::start(before, &[]);
        let mut alice = server.join("Alice");
        let mut ended = server.close();
        alice.sees_closing();
        drop(alice);
        let status = ended.0.wait().expect("our child");
        if before.is_empty() {
            assert_eq!(status.code(), Some(0));
        }
    }
}

#[test]
fn a_hangup_ends_nothing_while_the_terminal_is_there() {
    let mut server = InTerminal::start(&[], &[]);
    let mut alice = server.join("Alice");
    let mut bob = server.join("Bob");
    signal(server.child.id(), "HUP");
    server.logs("SIGHUP: nothing has changed, serving on");
    alice.say("still here");
    bob.hears("still here");
    let _ended = server.close();
    bob.sees_closing();
}

#[test]
fn no_hangup_and_nohup_outlive_the_terminal() {
    for (before, options) in [(&[][..], &["--no-hangup"][..]), (&["nohup"], &[])] {
        let mut server = InTerminal::start(before, options);
        let mut alice = server.join("Alice");
        let address = server.address.clone();
        let mut log = server.child.stderr.take().expect("it is piped");
        let _ended = server.close();
        let mut heard = String::new();
        while !heard.contains("SIGHUP: nothing has changed, serving on") {
            let mut byte = [0];
            log.read_exact(&mut byte).expect("it logs the hangup");
            heard.push(byte[0].into());
        }
        let stream = TcpStream::connect(&address).expect("it listens");
        let mut bob = Peer::from_stream(stream);
        bob.register("Bob", NOTHING);
        bob.say("still here");
        alice.hears("still here");
    }
}

/// The line about Alice in the log of a server in a terminal, with these variables.
fn log_in_terminal(variables: &[(&str, &str)]) -> String {
    let (master, slave) = pty();
    let mut child = Ended(
        command(&[])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(slave)
            .spawn()
            .expect("it starts"),
    );
    let mut line = String::new();
    let stdout = child.0.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    let address = line.trim_end().trim_start_matches("listening on chat://");
    let mut peer = Peer::from_stream(TcpStream::connect(address).expect("it listens"));
    peer.register("Alice", NOTHING);
    let mut log = BufReader::new(File::from(OwnedFd::from(master)));
    let mut line = String::new();
    while !line.contains("Alice") {
        line.clear();
        log.read_line(&mut line).expect("text");
    }
    line
}

#[test]
fn the_log_has_colours_only_where_they_are_wanted() {
    assert!(log_in_terminal(&[]).contains('\x1b'));
    assert!(log_in_terminal(&[("NO_COLOR", "")]).contains('\x1b'));
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let log = log_in_terminal(&[variable]);
        assert!(!log.contains('\x1b'), "{variable:?}: {log:?}");
    }
}
