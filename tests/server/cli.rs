//! Command line, environment, and shortages of the system.

use std::{
    fs,
    net::{Ipv6Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chat::{
    limits::Limits,
    server::options::Options,
    wire::{Capability, ErrorCode},
};
use clap::CommandFactory;

use crate::support::{NOTHING, Peer, TestServer, command, leave, output};

/// Wrong options: exit code 2, nothing on standard output, and a sentence that contains
/// `words`.
#[test]
fn wrong_options_are_refused_with_what_is_allowed() {
    let refused: &[(&[&str], &str)] = &[
        (&["--connections-max", "0"], "from 1 to 1000000"),
        (&["--connections-per-address-max", "0"], "from 1 to 1000000"),
        (
            &["--connections-per-minute-max", "60001"],
            "from 1 to 60000",
        ),
        (&["--connections-per-minute-max", "few"], "or off"),
        (&["--frame-bytes-max", "256"], "from 257B to 64KiB"),
        (&["--frame-bytes-max", "65KiB"], "from 257B to 64KiB"),
        (&["--text-bytes-max", "0"], "from 1B to 7936B"),
        (&["--text-bytes-max", "7937"], "from 1B to 7936B"),
        (&["--rate-limit", "0"], "1 to 1000"),
        (&["--rate-limit", "1001"], "1 to 1000"),
        (&["--rate-limit", "fast"], "or off"),
        (&["--rate-burst", "0"], "from 1 to 1000000"),
        (&["--register-deadline-ms", "0"], "from 1ms to 1d"),
        (&["--errors-max", "0"], "from 1 to 1000000000"),
        (&["--name-check-deadline-ms", "0"], "from 1ms to 1d"),
        (&["--idle-deadline-ms", "25h"], "from 2ms to 1d"),
        (
            &["--keepalive-interval-ms", "90s"],
            "less than --idle-deadline-ms",
        ),
        (&["--write-deadline-ms", "0s"], "from 1ms to 1d"),
        (&["--frames-per-second-max", "19"], "from 20 to"),
        (&["--bytes-per-second-max", "163839"], "from 160KiB to"),
        (&["--lag-bytes-max", "2097151"], "from 2MiB to"),
        (
            &["--queue-bytes-max", "67108863"],
            "at least --lag-bytes-max",
        ),
        (&["--write-deadline-ms", "-1"], "unexpected argument"),
        (&["--write-deadline-ms", "10KiB"], "like 10s"),
        (&["--lag-bytes-max", "lots"], "like 64MiB"),
        (&["--listen", "::1"], "brackets"),
        (&["--listen", "Bob@127.0.0.1:0"], "leave out the name@"),
        (&["--listen", "127.0.0.1:65536"], "HOST:PORT"),
        (&["--no-such-option"], "unexpected argument"),
        (&["an-argument"], "unrecognized subcommand"),
        (
            &["--verbose", "history", "folder", "check"],
            "cannot be used with",
        ),
    ];
    for (options, words) in refused {
        let output = output(command(options));
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Lines may be wrapped anywhere.
        let unwrapped = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{options:?}: {stderr}");
        assert!(unwrapped.contains(words), "{options:?}: {stderr}");
        assert_eq!(output.stdout, b"", "{options:?}");
    }
}

#[test]
fn a_port_in_use_is_said_in_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = output(command(&["--listen", &address]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot listen on"), "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn it_listens_on_ipv6_and_on_names() {
    let server = TestServer::start(&["--listen", "[::1]:0"]);
    assert_eq!(server.address.ip(), Ipv6Addr::LOCALHOST);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.say("six");
    bob.hears("six");
    let server = TestServer::start(&["--listen", "localhost:0"]);
    assert!(server.address.ip().is_loopback());
    Peer::join(&server, "Alice");
}

#[test]
fn the_environment_configures_it_and_options_override_it() {
    let mut command = command(&["--text-bytes-max", "100"]);
    command
        .env("CHAT_LISTEN", "[::1]:0")
        .env("CHAT_TEXT_BYTES_MAX", "50")
        .env("CHAT_RATE_LIMIT", "off")
        .env("CHAT_FRAMES_PER_SECOND_MAX", "9")
        .env("CHAT_NAME_CHECK_DEADLINE_MS", "77")
        .env("CHAT_LAG_BYTES_MAX", "3MiB");
    let server = TestServer::run(command);
    assert!(server.address.is_ipv6());
    let limits = Peer::join_with(&server, "Alice", NOTHING).1.limits;
    let limits = limits.expect("CHAT-LIM-1");
    assert_eq!(limits.text_bytes_max, 100);
    assert_eq!(limits.chat_interval_ms, 0);
    assert_eq!(limits.frames_per_second_max, 9);
    assert_eq!(limits.bytes_per_second_max, 0);
    assert_eq!(limits.name_check_deadline_ms, 77);
    assert_eq!(limits.lag_bytes_max, 3 << 20);

    let mut command = crate::support::command(&[]);
    command.env("CHAT_WRITE_DEADLINE_MS", "0");
    let output = output(command);
    assert_eq!(output.status.code(), Some(2));
}

/// The environment variables of the options.
fn variables() -> Vec<String> {
    Options::command()
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let mut command = command(&[]);
    for name in variables() {
        command.env(name, "");
    }
    let server = TestServer::run(command);
    let limits = Peer::join_with(&server, "Alice", NOTHING).1.limits;
    // It keeps nothing on disk.
    let granted = |it| ![Capability::History, Capability::Files].contains(&it);
    let announced = Limits::default().announced_with(granted);
    assert_eq!(limits, Some(announced));
    server.wait_for_log("CHAT_LISTEN is empty and counts as not set");

    // A server that was meant to be closed does not start open.
    let mut command = crate::support::command(&[]);
    command.env("CHAT_PASSWORD", "");
    let output = output(command);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("CHAT_PASSWORD is empty"), "{stderr}");
}

#[test]
fn a_wrong_value_is_told_with_its_variable() {
    let names = variables();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let mut command = command(&[]);
        command.env(&name, "/nowhere/at/all");
        let output = output(command);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{name}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(&name), "{name}: {stderr}");
    }
    // Valid by itself, invalid beside the other limits.
    let mut command = command(&[]);
    command.env("CHAT_KEEPALIVE_INTERVAL_MS", "90000");
    let both = output(command);
    let stderr = String::from_utf8_lossy(&both.stderr);
    assert!(stderr.contains("CHAT_KEEPALIVE_INTERVAL_MS"), "{stderr}");
    // The option overrides the variable, so only the option is wrong.
    let mut command = crate::support::command(&["--rate-burst", "many"]);
    command.env("CHAT_RATE_BURST", "5");
    let stderr = String::from_utf8_lossy(&output(command).stderr).into_owned();
    assert!(!stderr.contains("CHAT_RATE_BURST"), "{stderr}");
}

#[test]
fn a_switch_in_the_environment_takes_the_usual_words() {
    let mut command = command(&[]);
    command.env("CHAT_LIMIT_LOOPBACK", "maybe");
    assert_eq!(output(command).status.code(), Some(2));
    for (value, is_limited) in [
        ("", false),
        ("0", false),
        ("no", false),
        ("False", false),
        ("1", true),
        ("YES", true),
        ("true", true),
    ] {
        let mut command = crate::support::command(&["--connections-per-address-max", "1"]);
        command.env("CHAT_LIMIT_LOOPBACK", value);
        let server = TestServer::run(command);
        let _alice = Peer::join(&server, "Alice");
        let mut bob = Peer::connect(&server);
        if is_limited {
            bob.is_ended(ErrorCode::TooManyConnections);
        } else {
            bob.register("Bob", NOTHING);
        }
    }
}

/// The line is pasted into the shell that started the server; a script that prints its
/// arguments takes the client's place.
#[test]
fn the_line_that_says_how_to_join_can_be_pasted() {
    let folder = tempfile::tempdir().expect("a folder");
    let beside = folder.path().join("it's a folder");
    fs::create_dir(&beside).expect("ours");
    let server = beside.join("chat-server");
    let client = beside.join("chat-client");
    let script = "cp \"$0\" \"$1\" && echo 'echo joined \"$@\"' >\"$2\" && chmod +x \"$2\"";
    // Copied by another process: a file that is open for writing cannot be run, and
    // children of other tests would inherit it for a moment.
    let made = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_chat-server")])
        .args([&server, &client])
        .status();
    assert!(made.expect("there is a shell").success());
    for started_in in [beside.as_path(), folder.path(), "/".as_ref()] {
        let terminal = nix::pty::openpty(None, None).expect("a pty");
        let command = command(&[]);
        let Killed(child) = &mut Killed(
            Command::new(&server)
                .env_clear()
                .envs(
                    command
                        .get_envs()
                        .filter_map(|(name, value)| Some((name, value?))),
                )
                .current_dir(started_in)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(terminal.slave)
                .spawn()
                .expect("it starts"),
        );
        let mut line = String::new();
        let mut shown = std::io::BufReader::new(fs::File::from(terminal.master));
        while !line.starts_with("join with: ") {
            line.clear();
            std::io::BufRead::read_line(&mut shown, &mut line).expect("text");
        }
        let pasted = line.trim_end().trim_start_matches("join with: ");
        let output = Command::new("sh")
            .args(["-c", pasted])
            .current_dir(started_in)
            .output()
            .expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.starts_with("joined chat://127.0.0.1:"),
            "{pasted}: {output:?}"
        );
        assert!(said.ends_with(" YOUR_NAME\n"), "{pasted}: {said}");
        let _ = child.kill();
    }
}

/// `chat-server` with `options` in a shell, after `limit`.
fn limited(limit: &str, options: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("{limit} && exec \"$0\" {options}");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_chat-server")]);
    shell
}

/// The room's log is kept in a file if the system allows.
#[test]
fn it_serves_under_a_file_size_limit() {
    let mut server = TestServer::run(limited("ulimit -f 1", ""));
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.say("all is well");
    bob.hears("all is well");
    server.signal("TERM");
    bob.sees_closing();
    drop((alice, bob));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn it_starts_where_few_descriptors_are_asked_for_and_more_allowed() {
    let server = TestServer::run(limited("ulimit -Sn 5", ""));
    Peer::join(&server, "Alice");
}

#[test]
fn too_few_descriptors_are_said_in_a_sentence() {
    // With fewer, the system's loader cannot open the shared libraries.
    for descriptors in 5..12 {
        let limit = format!("ulimit -n {descriptors}");
        let output = output(limited(&limit, "--listen 192.0.2.1:1"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {stderr}");
        assert!(stderr.starts_with("chat-server: "), "{limit}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{limit}: {stderr}");
    }
}

/// A caller that cannot be told why still gets the exit code.
#[test]
fn an_error_that_cannot_be_written_keeps_its_exit_code() {
    for to in ["/dev/full", "&-"] {
        let options = format!("--port-file /nowhere/at/all/port 2>{to}");
        let output = output(limited(":", &options));
        assert_eq!(output.status.code(), Some(1), "{to}: {output:?}");
    }
}

/// Without a free file descriptor, members notice nothing and newcomers wait.
#[test]
fn it_outlives_a_lack_of_file_descriptors() {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "ulimit -n 32 && exec \"$0\"",
        env!("CARGO_BIN_EXE_chat-server"),
    ]);
    let server = TestServer::run(shell);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    // The system accepts connections before the server does.
    let many: Vec<_> = (0..40).map(|_| Peer::connect(&server)).collect();
    server.wait_for_log("cannot accept connections for now");
    alice.say("all is well");
    bob.hears("all is well");
    bob.send(&leave());
    bob.is_closed();
    drop(bob);
    alice.say("to myself");
    drop(many);
    let mut bob = Peer::join(&server, "Bob");
    alice.say("again");
    bob.hears("again");
    server.wait_for_log("accepting again");
}

/// Starting with `2>&1 | head -1` closes both outputs.
#[test]
fn it_serves_on_when_nobody_reads_its_log() {
    let Killed(child) = &mut Killed(
        command(&[])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts"),
    );
    drop(child.stderr.take());
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("text");
    drop(stdout);
    let address = line.trim_end().trim_start_matches("listening on chat://");
    let connect = || {
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        Peer::from_stream(stream)
    };
    let mut peers = [connect(), connect()];
    for (peer, name) in peers.iter_mut().zip(["Alice", "Bob"]) {
        peer.register(name, NOTHING);
    }
    let [alice, bob] = &mut peers;
    alice.say("hello");
    bob.hears("hello");
    alice.send(&leave());
    alice.is_closed();
    let mut stranger = connect();
    stranger.say("hello");
    stranger.is_ended(ErrorCode::NotRegistered);
    crate::support::signal(child.id(), "TERM");
    bob.sees_closing();
    drop(peers);
    assert_eq!(child.wait().expect("our child").code(), Some(0));
}

/// A log into a pipe that is not read fills the pipe; the rest is dropped and does not
/// block the room.
#[test]
fn it_serves_on_when_its_log_is_stuck() {
    let Killed(child) = &mut Killed(
        command(&["-v"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts"),
    );
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("text");
    let address = line.trim_end().trim_start_matches("listening on chat://");
    let connect = || {
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        Peer::from_stream(stream)
    };
    // About 150 bytes of log each, into a pipe of 64 KiB.
    for _ in 0..1_000 {
        let mut peer = connect();
        peer.register("Alice", NOTHING);
        peer.send(&leave());
        peer.is_closed();
    }
    crate::support::signal(child.id(), "TERM");
    let start = Instant::now();
    assert_eq!(child.wait().expect("our child").code(), Some(0));
    // CHAT-CLOSE-3
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A process that ends with its test, also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
