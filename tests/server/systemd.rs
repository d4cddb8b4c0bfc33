//! The server as a service of systemd: the sockets that it is handed, and what it tells.

use std::{
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use chat::client::{ConnectError, Session};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::{runtime::Builder, time::timeout};

use crate::support::{PATIENCE, Peer, TestServer, command, output, register};

/// How often the server is restarted, and after how long each time, in milliseconds.
const RESTARTS: usize = 3;
const RESTART_EVERY_MS: u64 = 200;

/// How often a client comes meanwhile, in milliseconds, and how many do at most.
const COME_EVERY_MS: u64 = 10;
const CLIENTS_MAX: usize = 1_000;

/// A listener that programs inherit, as systemd has them.
fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    fcntl(listener.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).expect("it is ours");
    listener
}

/// The server with a socket of this name, and these options.
fn handed(listener: &TcpListener, name: &str, options: &[&str]) -> Command {
    let server = command(&[]);
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name} exec \"$@\" 3<&{}",
        listener.as_raw_fd()
    );
    // Not every sh takes descriptors above 9.
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]);
    command.arg(server.get_program()).args(options);
    for (name, value) in server.get_envs().filter(|(_, value)| value.is_none()) {
        assert_eq!(value, None);
        command.env_remove(name);
    }
    command
}

#[test]
fn a_server_takes_the_socket_that_it_is_handed() {
    let listener = listener();
    let address = listener.local_addr().expect("it listens");
    // As systemd names it without FileDescriptorName.
    let server = TestServer::run(handed(&listener, "chat-server.socket", &[]));
    assert_eq!(server.address, address);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.say("hello");
    bob.hears("hello");
}

/// A restart with the socket open: whoever comes meanwhile waits, and is let in.
#[test]
fn a_restart_refuses_nobody() {
    let listener = listener();
    let mut server = TestServer::run(handed(&listener, "chat", &[]));
    let mut alice = Peer::join(&server, "Alice");
    server.signal("TERM");
    alice.sees_closing();
    assert!(server.wait().success());
    let mut early = Peer::connect(&server);
    early.send(&register("Alice", &[]));
    let again = TestServer::run(handed(&listener, "chat", &[]));
    assert_eq!(again.address, server.address);
    early.registered();
}

/// Clients of the library that come all the time, through several restarts.
#[test]
fn restarts_refuse_nobody_who_comes_all_the_time() {
    let listener = listener();
    let mut server = TestServer::run(handed(&listener, "chat", &[]));
    let address = format!("chat://{}", server.address);
    let is_over = AtomicBool::new(false);
    let joined = thread::scope(|scope| {
        let coming = scope.spawn(|| {
            let mut clients = Vec::new();
            while !is_over.load(Ordering::Relaxed) && clients.len() < CLIENTS_MAX {
                let (address, name) = (&address, format!("client-{}", clients.len()));
                clients.push(scope.spawn(move || join_and_leave(address, &name)));
                thread::sleep(Duration::from_millis(COME_EVERY_MS));
            }
            clients
                .into_iter()
                .map(|client| client.join().expect("told"))
        });
        for _ in 0..RESTARTS {
            thread::sleep(Duration::from_millis(RESTART_EVERY_MS));
            server.signal("TERM");
            assert!(server.wait().success());
            server = TestServer::run(handed(&listener, "chat", &[]));
        }
        is_over.store(true, Ordering::Relaxed);
        let joined: Vec<_> = coming.join().expect("told").collect();
        joined
    });
    assert!(joined.len() >= RESTARTS, "{joined:?}");
    let refused: Vec<_> = joined.iter().filter_map(|it| it.as_ref().err()).collect();
    assert!(refused.is_empty(), "of {}: {refused:?}", joined.len());
}

/// A client that comes while the server restarts is let in, or told to come back, and does.
fn join_and_leave(address: &str, name: &str) -> Result<(), ConnectError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("an event loop").block_on(async {
        let joining = timeout(PATIENCE, Session::connect(address, name));
        let session = joining.await.expect("an answer in time")?;
        session.leave().await;
        Ok(())
    })
}

/// One that is misspelled too: it would be served without encryption.
#[test]
fn a_socket_that_no_listener_takes_is_a_mistake() {
    for name in ["web", "tsl"] {
        let listener = listener();
        let ended = output(handed(&listener, name, &[]));
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let told = format!("named {name:?}");
        assert!(stderr.contains(&told), "{stderr}");
        assert!(stderr.contains("chat, tls, web, quic"), "{stderr}");
    }
}

fn notifications(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a place for a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket
}

/// The next that it tells, by its first line.
fn told(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4_096];
    let length = socket.recv(&mut bytes).expect("it tells something");
    let told = String::from_utf8(bytes[..length].to_vec()).expect("UTF-8");
    told.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn systemd_is_told_of_the_beginning_the_life_and_the_end() {
    let folder = tempfile::tempdir().expect("a place for files");
    let path = folder.path().join("notify");
    let socket = notifications(&path);
    let mut command = command(&[]);
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "100000");
    let mut server = TestServer::run(command);
    assert_eq!(told(&socket), "READY=1");
    for _ in 0..3 {
        assert_eq!(told(&socket), "WATCHDOG=1");
    }
    server.signal("TERM");
    assert!(server.wait().success());
    let last = std::iter::repeat_with(|| told(&socket));
    assert!(last.take(100).any(|told| told == "STOPPING=1"));
}

#[test]
fn a_service_manager_that_does_not_read_holds_up_nothing() {
    let folder = tempfile::tempdir().expect("a place for files");
    let path = folder.path().join("notify");
    let _full = notifications(&path);
    let mut command = command(&[]);
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "200");
    let server = TestServer::run(command);
    thread::sleep(Duration::from_millis(200));
    Peer::join(&server, "Alice");
}
