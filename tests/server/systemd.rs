//! The server as a service of systemd: the sockets that it is handed, and what it tells.

use std::{
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    process::Command,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::support::{PATIENCE, Peer, TestServer, command, output, register};

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
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]);
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

#[test]
fn a_socket_that_no_listener_takes_is_a_mistake() {
    let listener = listener();
    let ended = output(handed(&listener, "web", &[]));
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(stderr.contains("\"web\""), "{stderr}");
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
    std::thread::sleep(std::time::Duration::from_millis(200));
    Peer::join(&server, "Alice");
}
