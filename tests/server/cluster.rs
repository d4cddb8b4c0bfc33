//! Several servers over a real NATS server, which the tests start. `.ci/run` installs it.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use chat::client::{Backoff, Connector, Event};
use chat::wire::{
    Capability, ClientEnvelope, ErrorCode, LeftReason, Pong, Register, Registered, Resume,
    client_envelope, server_envelope::Message,
};

use super::{
    files::join_with_key,
    nats_operator::Operator,
    support::{self, PATIENCE, Peer, TestServer},
};

const RESUMES: &[Capability] = &[Capability::Receipts, Capability::Resume];

/// How often a port is tried.
const TRIES_MAX: u32 = 200;

/// A NATS server, killed when this is dropped.
pub struct Nats {
    pub port: u16,
    store: tempfile::TempDir,
    child: Child,
    /// More of its options.
    options: Vec<String>,
}

impl Nats {
    pub fn start() -> Self {
        Self::start_with(Vec::new())
    }

    pub fn start_with(options: Vec<String>) -> Self {
        let store = tempfile::tempdir().expect("there is space");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("there are ports");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let child = Self::run(port, &store, &options);
        let nats = Self {
            port,
            store,
            child,
            options,
        };
        nats.wait();
        nats
    }

    fn run(port: u16, store: &tempfile::TempDir, options: &[String]) -> Child {
        Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .args(["--jetstream", "--store_dir"])
            .arg(store.path())
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is installed: apt-get install nats-server")
    }

    fn wait(&self) {
        for _ in 0..TRIES_MAX {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            thread::sleep(PATIENCE / TRIES_MAX);
        }
        panic!("NATS does not listen");
    }

    pub fn restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is our child");
        self.child = Self::run(self.port, &self.store, &self.options);
        self.wait();
    }

    pub fn signal(&self, name: &str) {
        support::signal(self.child.id(), name);
    }

    /// A node, once it serves.
    pub fn node(&self, name: &str, options: &[&str]) -> TestServer {
        let address = format!("nats://127.0.0.1:{}", self.port);
        Self::node_at(&address, name, options)
    }

    /// The same, over another way to it.
    pub fn node_at(address: &str, name: &str, options: &[&str]) -> TestServer {
        Self::node_in(address, name, options, &[])
    }

    /// The same, with variables in its environment.
    pub fn node_in(
        address: &str,
        name: &str,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> TestServer {
        let all = [&["--cluster", address, "--node", name], options].concat();
        let mut command = support::command(&all);
        command.envs(variables.iter().copied());
        let node = TestServer::run(command);
        node.wait_for_log("in the cluster");
        node
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Goes on at a node with the session that was told this.
pub fn resume(
    node: &TestServer,
    capabilities: &[Capability],
    before: &Registered,
    seq: u64,
) -> (Peer, Registered) {
    let mut peer = Peer::connect(node);
    peer.send(&ClientEnvelope {
        message: Some(client_envelope::Message::Register(Register {
            name: before.name.clone(),
            capabilities: capabilities.iter().map(|&it| it.into()).collect(),
            resume: Some(Resume {
                token: before.resume_token.clone(),
                epoch: before.epoch.clone(),
                seq,
                attempt: 1,
            }),
            ..Default::default()
        })),
    });
    let registered = peer.registered();
    (peer, registered)
}

fn receipt(peer: &mut Peer) -> u64 {
    match peer.recv_or_end() {
        Some(Message::Receipt(receipt)) => receipt.seq,
        message => panic!("no receipt but {message:?}"),
    }
}

fn chat(peer: &mut Peer) -> (u64, String) {
    match peer.recv_or_end() {
        Some(Message::Chat(chat)) => (chat.seq, chat.text),
        message => panic!("no chat but {message:?}"),
    }
}

pub fn expect_cut_off(peer: &mut Peer) {
    loop {
        match peer.recv_or_end() {
            Some(Message::Error(error)) => {
                assert_eq!(error.code(), ErrorCode::ClusterUnreachable);
                assert!(error.retry_after_ms > 0);
                return;
            }
            // Those that a node takes part with before it notices.
            Some(Message::Chat(_) | Message::Receipt(_)) => {}
            message => panic!("no error but {message:?}"),
        }
    }
}

#[test]
fn two_nodes_serve_one_room_and_a_session_goes_on_at_the_other() {
    let nats = Nats::start();
    let first = nats.node("first", &[]);
    let second = nats.node("second", &[]);
    let (mut alice, registered) = Peer::join_with(&first, "alice", RESUMES);
    let (mut bob, _) = Peer::join_with(&second, "bob", &[Capability::Presence]);
    assert!(matches!(bob.recv_or_end(), Some(Message::Members(it)) if it.names.len() == 2));
    alice.say("hello");
    assert_eq!(receipt(&mut alice), 1);
    assert_eq!(chat(&mut bob), (1, "hello".to_owned()));
    // Killed, as nothing else is: nobody says that its members leave.
    first.signal("KILL");
    bob.say("while you are away");
    let (mut alice, again) = resume(&second, RESUMES, &registered, 1);
    assert_eq!((again.resumed_from, &again.epoch), (2, &registered.epoch));
    assert_eq!(chat(&mut alice), (2, "while you are away".to_owned()));
    alice.say("back");
    assert_eq!(receipt(&mut alice), 3);
}

#[test]
fn the_members_of_a_killed_node_leave() {
    let nats = Nats::start();
    let first = nats.node("first", &[]);
    let second = nats.node("second", &[]);
    let _alice = Peer::join(&first, "alice");
    let (mut bob, _) = Peer::join_with(&second, "bob", &[Capability::Presence]);
    assert!(matches!(bob.recv_or_end(), Some(Message::Members(it)) if it.names.len() == 2));
    let killed = Instant::now();
    first.signal("KILL");
    match bob.recv_or_end() {
        Some(Message::Left(left)) => {
            assert_eq!(left.name, "alice");
            assert_eq!(left.reason(), LeftReason::ConnectionLost);
        }
        message => panic!("not left but {message:?}"),
    }
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
    // In order, a node says so itself.
    let third = nats.node("third", &[]);
    let _carol = Peer::join(&third, "carol");
    assert!(matches!(bob.recv_or_end(), Some(Message::Joined(_))));
    third.signal("TERM");
    assert!(matches!(bob.recv_or_end(), Some(Message::Left(it)) if it.name == "carol"));
}

/// What NATS had acknowledged may be lost, so the numbers begin again.
#[test]
fn another_run_of_nats_is_another_epoch() {
    let mut nats = Nats::start();
    let node = nats.node("first", &[]);
    let (mut alice, before) = Peer::join_with(&node, "alice", RESUMES);
    alice.say("hello");
    assert_eq!(receipt(&mut alice), 1);
    nats.restart();
    expect_cut_off(&mut alice);
    let (_alice, after) = join_again(&node, "alice");
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(after.seq, 0);
}

/// A NATS that keeps what it has acknowledged goes on where it was.
#[test]
fn a_durable_nats_keeps_the_epoch() {
    let mut nats = Nats::start();
    let node = nats.node("first", &["--cluster-durable"]);
    let (mut alice, before) = Peer::join_with(&node, "alice", RESUMES);
    alice.say("hello");
    assert_eq!(receipt(&mut alice), 1);
    nats.restart();
    alice.say("after the restart");
    assert_eq!(receipt(&mut alice), 2);
    let (_bob, after) = join_again(&node, "bob");
    assert_eq!((after.epoch, after.seq), (before.epoch, 2));
}

/// CHAT-CLUS-1, and everything is as it was afterwards.
#[test]
fn a_node_that_hears_nothing_from_nats_ends_its_sessions_and_comes_back() {
    let nats = Nats::start();
    let node = nats.node("first", &[]);
    let (mut alice, before) = Peer::join_with(&node, "alice", RESUMES);
    alice.say("hello");
    assert_eq!(receipt(&mut alice), 1);
    let stopped = Instant::now();
    nats.signal("STOP");
    alice.say("into the void");
    expect_cut_off(&mut alice);
    let lasted = stopped.elapsed();
    assert!(lasted < Duration::from_secs(9), "{lasted:?}");
    let mut newcomer = Peer::connect(&node);
    newcomer.send(&support::register("newcomer", &[]));
    expect_cut_off(&mut newcomer);
    nats.signal("CONT");
    let (_bob, after) = join_again(&node, "bob");
    assert_eq!(after.epoch, before.epoch);
    let (_alice, again) = resume(&node, RESUMES, &before, 1);
    assert!(again.resumed_from > 0, "{again:?}");
}

/// A node that stands still is declared gone, and takes part again by itself.
#[test]
fn a_node_that_stood_still_takes_part_again() {
    let nats = Nats::start();
    let first = nats.node("first", &[]);
    let second = nats.node("second", &[]);
    let (mut alice, _) = Peer::join_with(&first, "alice", RESUMES);
    let (mut bob, _) = Peer::join_with(&second, "bob", &[Capability::Presence]);
    assert!(matches!(bob.recv_or_end(), Some(Message::Members(_))));
    first.signal("STOP");
    assert!(matches!(bob.recv_or_end(), Some(Message::Left(it)) if it.name == "alice"));
    first.signal("CONT");
    expect_cut_off(&mut alice);
    let (mut alice, _) = join_again(&first, "alice");
    assert!(matches!(bob.recv_or_end(), Some(Message::Joined(_))));
    alice.say("here again");
    assert_eq!(chat(&mut bob).1, "here again");
}

/// The library goes to the next server when its own is gone: nothing is missed, and nothing
/// is said twice.
#[test]
fn a_client_with_several_addresses_goes_on_at_another_server() {
    let nats = Nats::start();
    let first = nats.node("first", &[]);
    let second = nats.node("second", &[]);
    let (mut bob, _) = Peer::join_with(&second, "bob", &[]);
    let backoff = Backoff {
        first: Duration::from_millis(200),
        ..Backoff::default()
    };
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    runtime.block_on(async {
        let addresses = format!("{},{}", first.address, second.address);
        let connector = Connector::new().reconnecting(backoff);
        let mut alice = connector
            .connect(&addresses, "alice")
            .await
            .expect("it is let in");
        alice.send("one").await.expect("it is open");
        assert_eq!(bob.hears("one").seq, 1);
        first.signal("KILL");
        bob.say("while alice is away");
        let killed = Instant::now();
        alice.send("two").await.expect("it goes on");
        let mut heard = Vec::new();
        while heard.len() < 2 {
            match alice.next().await {
                Some(Event::Message { text, .. }) => heard.push(text),
                Some(Event::Resumed { .. }) => heard.push("resumed".to_owned()),
                Some(Event::Ended(ended)) => panic!("ended: {ended:?}"),
                Some(_) => {}
                None => panic!("no more events"),
            }
        }
        heard.sort_unstable();
        assert_eq!(heard, ["resumed", "while alice is away"]);
        assert!(
            killed.elapsed() < Duration::from_secs(8),
            "{:?}",
            killed.elapsed()
        );
        assert_eq!(bob.hears("two").seq, 3);
    });
}

/// The numbers of the first and the last record that NATS keeps of the room `main`.
async fn kept_records(nats: &Nats) -> (u64, u64) {
    let address = format!("127.0.0.1:{}", nats.port);
    let client = async_nats::connect(address).await.expect("it listens");
    let context = async_nats::jetstream::new(client);
    let mut stream = context.get_stream("CHAT_main").await.expect("it is there");
    let state = &stream.info().await.expect("it answers").state;
    (state.first_sequence, state.last_sequence)
}

/// NATS does not keep the records for ever. A node that comes later starts from a
/// checkpoint, and a session goes on there.
#[test]
fn a_newcomer_starts_from_a_checkpoint() {
    let nats = Nats::start();
    let options = ["--cluster-checkpoint", "8KiB", "--rate-limit", "off"];
    let first = nats.node("first", &options);
    let (mut alice, before) = Peer::join_with(&first, "alice", RESUMES);
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    let mut said = 0;
    // Twice, so that checkpoints are dropped too.
    for _ in 0..2 {
        let (start, _) = runtime.block_on(kept_records(&nats));
        while runtime.block_on(kept_records(&nats)).0 == start {
            assert!(said < 10_000, "NATS keeps everything");
            for _ in 0..20 {
                said += 1;
                alice.say(&"a".repeat(100));
                assert_eq!(receipt(&mut alice), said);
            }
        }
    }
    let second = nats.node("second", &options);
    second.wait_for_log("goes on from a checkpoint");
    first.signal("KILL");
    let (mut alice, again) = resume(&second, RESUMES, &before, said);
    assert_eq!(
        (again.resumed_from, &again.epoch),
        (said + 1, &before.epoch)
    );
    alice.say("here");
    assert_eq!(receipt(&mut alice), said + 1);
}

/// The suite, with the first person of each case at one node and the others at another:
/// where a member is connected makes no difference.
#[test]
fn the_suite_passes_over_two_nodes() {
    let nats = Nats::start();
    let control = tempfile::tempdir().expect("there is space");
    let socket = control.path().join("control");
    let socket = socket.to_str().expect("a path in UTF-8");
    let check = ["--name-check-deadline-ms", "1000"];
    let first = nats.node("first", &[&check[..], &["--control", socket]].concat());
    let second = nats.node("second", &check);
    let operator = format!(
        "{} ctl --control {socket}",
        env!("CARGO_BIN_EXE_chat-server")
    );
    let ran = Command::new(env!("CARGO_BIN_EXE_chat-conformance"))
        .args(["server", &first.address.to_string()])
        .args(["--also", &second.address.to_string()])
        .args(["--exclusive", "--cuts", "whole", "--timeout-scale", "4"])
        .arg("--skip-slow")
        .args(["--control-cmd", &operator])
        .args([
            "--area", "presence", "--area", "chatting", "--area", "direct",
        ])
        .args([
            "--area",
            "moderation",
            "--area",
            "receipts",
            "--area",
            "names",
        ])
        .output()
        .expect("it is built");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(matches!(ran.status.code(), Some(0 | 3)), "{told}");
    assert!(told.contains("presence/joined"), "{told}");
    assert!(told.contains("direct/resent"), "{told}");
    assert!(told.contains("names/holder-is-gone"), "{told}");
}

/// `chat-bench` checks each delivery to members of both nodes.
#[test]
fn a_burst_reaches_the_members_of_both_nodes() {
    let nats = Nats::start();
    let first = nats.node("first", &["--rate-limit", "off"]);
    let second = nats.node("second", &["--rate-limit", "off"]);
    let pids = format!("{},{}", first.process_id(), second.process_id());
    let ran = Command::new(env!("CARGO_BIN_EXE_chat-bench"))
        .args(["burst", &first.address.to_string()])
        .args(["--also", &second.address.to_string()])
        .args(["--server-pid", &pids, "--json"])
        .args(["--members", "12", "--senders", "2"])
        .args(["--messages", "5000", "--seconds", "20"])
        .output()
        .expect("it is built");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{ran:?}");
    assert!(told.contains("\"deliveries\":55000"), "{told}");
    assert!(told.contains("\"server_cpu_s_per_million\":"), "{told}");
}

/// A NATS with a password: a node without it is not let in, and says so.
#[test]
fn a_nats_with_a_password_takes_the_nodes_that_have_it() {
    let options = ["--user", "nodes", "--pass", "secret"];
    let nats = Nats::start_with(options.map(str::to_owned).to_vec());
    let stranger = format!("nats://127.0.0.1:{}", nats.port);
    let stranger = TestServer::start(&["--cluster", &stranger, "--node", "stranger"]);
    stranger.wait_for_log("cannot reach NATS");
    let address = format!("nats://nodes:secret@127.0.0.1:{}", nats.port);
    let node = Nats::node_at(&address, "first", &[]);
    let (mut alice, _) = Peer::join_with(&node, "alice", RESUMES);
    alice.say("hello");
    assert_eq!(receipt(&mut alice), 1);
}

/// A NATS that asks for credentials: a node without them is not let in.
#[test]
fn a_nats_with_credentials_takes_the_nodes_that_have_them() {
    let folder = tempfile::tempdir().expect("there is space");
    let operator = Operator::within(folder.path());
    let nats = Nats::start_with(vec!["--config".to_owned(), operator.config]);
    let address = format!("nats://127.0.0.1:{}", nats.port);
    let stranger = TestServer::start(&["--cluster", &address, "--node", "stranger"]);
    stranger.wait_for_log("cannot reach NATS");
    let node = nats.node("first", &["--cluster-credentials", &operator.credentials]);
    let (mut alice, _) = Peer::join_with(&node, "alice", RESUMES);
    alice.say("hello");
    assert_eq!(receipt(&mut alice), 1);
}

/// CHAT-NAME-7: the holder of the name is at another node, or was at one that is dead.
#[test]
fn a_name_is_checked_at_the_node_of_its_holder() {
    let nats = Nats::start();
    let options = ["--name-check-deadline-ms", "500"];
    let first = nats.node("first", &options);
    let second = nats.node("second", &options);
    let keepalive = &[Capability::Keepalive];
    let (mut silent, _) = Peer::join_with(&first, "alice", keepalive);
    let (mut alice, _) = Peer::join_with(&second, "alice", keepalive);
    assert!(matches!(silent.recv(), Message::Ping(_)));
    silent.is_ended(ErrorCode::NameReclaimed);
    // It answers, so it keeps its name.
    let mut newcomer = Peer::connect(&first);
    newcomer.send(&support::register("alice", &[]));
    let Message::Ping(ping) = alice.recv() else {
        panic!("no Ping");
    };
    alice.send(&ClientEnvelope {
        message: Some(client_envelope::Message::Pong(Pong { token: ping.token })),
    });
    newcomer.is_ended(ErrorCode::NameInUse);
    // It is not checked again so soon.
    thread::sleep(Duration::from_millis(600));
    second.signal("KILL");
    let killed = Instant::now();
    let (_alice, _) = Peer::join_with(&first, "alice", keepalive);
    let lasted = killed.elapsed();
    assert!(lasted < Duration::from_secs(9), "{lasted:?}");
}

/// CHAT-ID-8, CHAT-ID-9: the owner of a name is at home at every node, and need not wait for a
/// dead one to be declared gone.
#[test]
fn a_name_belongs_to_its_key_at_every_node() {
    let nats = Nats::start();
    let options = ["--names", "owned"];
    let first = nats.node("first", &options);
    let second = nats.node("second", &options);
    let mut alice = join_with_key(&first, "alice", 1);
    for node in [&first, &second] {
        let mut stranger = Peer::connect(node);
        stranger.send(&support::register("alice", &[]));
        stranger.is_ended(ErrorCode::NameOwned);
    }
    let _again = join_with_key(&second, "alice", 1);
    alice.is_ended(ErrorCode::Replaced);
    second.signal("KILL");
    let killed = Instant::now();
    let mut alice = join_with_key(&first, "alice", 1);
    let lasted = killed.elapsed();
    assert!(lasted < Duration::from_secs(3), "{lasted:?}");
    let mut stranger = Peer::connect(&first);
    stranger.send(&support::register("alice", &[]));
    stranger.is_ended(ErrorCode::NameOwned);
    alice.say("at home");
}

/// The way to NATS is encrypted, and the certificate that a file names is trusted.
#[test]
fn a_node_reaches_nats_over_tls() {
    let folder = tempfile::tempdir().expect("there is space");
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    // A chat server makes a certificate for localhost.
    let tls = ["--tls-listen", "127.0.0.1:0", "--tls-self-signed"];
    let path = folder.path().to_str().expect("a path in UTF-8");
    drop(TestServer::start(&[&tls[..], &[path]].concat()));
    let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    let options = ["--tls", "--tlscert", &path(&cert), "--tlskey", &path(&key)];
    let nats = Nats::start_with(options.map(str::to_owned).to_vec());
    let address = format!("tls://localhost:{}", nats.port);
    let stranger = TestServer::start(&["--cluster", &address, "--node", "stranger"]);
    stranger.wait_for_log("cannot reach NATS");
    let node = Nats::node_at(&address, "first", &["--cluster-ca", &path(&cert)]);
    let (mut alice, _) = Peer::join_with(&node, "alice", RESUMES);
    alice.say("hello");
    assert_eq!(receipt(&mut alice), 1);
}

/// The operator of one node reaches members of the other, and is shown them.
#[test]
fn an_operator_reaches_the_whole_room() {
    let nats = Nats::start();
    let folder = tempfile::tempdir().expect("there is space");
    let socket = folder.path().join("control");
    let socket = socket.to_str().expect("a path in UTF-8");
    let _first = nats.node("first", &["--control", socket]);
    let second = nats.node("second", &[]);
    let (mut bob, _) = Peer::join_with(&second, "bob", RESUMES);
    let ctl = |words: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_chat-server"))
            .args(["ctl", "--control", socket])
            .args(words)
            .output()
            .expect("it is built");
        let told = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{words:?}: {ran:?}");
        told
    };
    let listed = ctl(&["list"]);
    assert!(
        listed.contains("bob") && listed.contains("another server"),
        "{listed}"
    );
    ctl(&["say", "a word to all"]);
    assert_eq!(chat(&mut bob).1, "a word to all");
    ctl(&["ban", "bob", "enough"]);
    match bob.recv_or_end() {
        Some(Message::Error(error)) => assert_eq!(error.code(), ErrorCode::Banned),
        message => panic!("no error but {message:?}"),
    }
    let mut bob = Peer::connect(&second);
    bob.send(&support::register("bob", RESUMES));
    assert!(
        matches!(bob.recv_or_end(), Some(Message::Error(it)) if it.code() == ErrorCode::Banned)
    );
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    for (options, sentence) in [
        (
            &["--cluster", "nats://127.0.0.1:2"][..],
            "--cluster-durable",
        ),
        (&["--node", "a b"], "letters"),
    ] {
        let mut all = vec!["--cluster", "nats://127.0.0.1:1"];
        all.extend(options);
        let output = support::output(support::command(&all));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(sentence), "{told}");
    }
}

/// Joins as soon as the node lets clients in again.
fn join_again(node: &TestServer, name: &str) -> (Peer, Registered) {
    for _ in 0..TRIES_MAX {
        let mut peer = Peer::connect(node);
        peer.send(&support::register(name, RESUMES));
        match peer.recv_or_end() {
            Some(Message::Registered(registered)) => return (peer, registered),
            _ => thread::sleep(PATIENCE / TRIES_MAX),
        }
    }
    panic!("the node does not come back");
}
