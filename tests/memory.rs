//! The documented memory holds against small inputs with large answers: the server runs
//! with exactly that much, where the machine allows to bound it, and an honest pair
//! loses nothing.

mod support;

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use chat::{limits::Limits, wire::Capability};
use support::{Peer, TestServer, frame, frames, ping, register};

/// Below `connections_max`, so that the honest pair has room.
const ATTACKERS: usize = 9_900;

/// How many threads connect them.
const THREADS: usize = 4;

/// What the program takes itself, built for tests, in bytes.
const PROGRAM_BYTES: u64 = 32 << 20;

/// How many lines the honest pair says to each other.
const LINES: usize = 200;

/// A memory cgroup of version 1 or 2, removed when this is dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// A group that may use `bytes`; `None` where the machine does not allow that.
    fn new(bytes: u64) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path_of = |controller: &str| {
            let line = own.lines().find(|line| line.contains(controller));
            line.and_then(|line| line.rsplit(':').next())
                .map(|path| path.trim_start_matches('/').to_owned())
        };
        let candidates = [
            (
                path_of(":memory:")?,
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
            ),
            (path_of("0::")?, "/sys/fs/cgroup", "memory.max"),
        ];
        candidates.into_iter().find_map(|(path, root, limit)| {
            let name = format!("chat-test-{}-{number}", process::id());
            let folder = PathBuf::from(root).join(path).join(name);
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    fn add(&self, process_id: u32) {
        fs::write(self.0.join("cgroup.procs"), process_id.to_string()).expect("it may be moved");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its process has ended by now, or the group stays.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Registers, then sends `attack`, and never reads.
fn attack(server: &TestServer, capabilities: &[Capability], attack: &[u8]) -> Vec<TcpStream> {
    thread::scope(|scope| {
        let connecting: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let indices = (thread..ATTACKERS).step_by(THREADS);
                    indices
                        .map(|index| {
                            let name = format!("a-name-of-thirty-two-bytes-{index:05}");
                            let mut stream =
                                TcpStream::connect(server.address).expect("it accepts");
                            let mut bytes = frames(&[register(&name, capabilities)]);
                            bytes.extend_from_slice(attack);
                            stream.set_nonblocking(true).expect("it can be");
                            // What does not fit into the system's buffers stays away.
                            let _ = stream.write(&bytes);
                            stream
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        connecting
            .into_iter()
            .flat_map(|thread| thread.join().expect("it connects"))
            .collect()
    })
}

#[track_caller]
fn memory_holds(capabilities: &[Capability], bytes: &[u8]) {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let documented_bytes = Limits::default().memory_bytes_max() + PROGRAM_BYTES;
    let group = Cgroup::new(documented_bytes);
    // A room of its own size: the rates are not what is tested.
    let server = TestServer::start(&["--rate-burst", "1000"]);
    if let Some(group) = &group {
        group.add(server.process_id());
    }
    let mut alice = Peer::join(&server, "alice");
    let mut bob = Peer::join(&server, "bob");
    let attackers = attack(&server, capabilities, bytes);
    for line in 0..LINES {
        alice.say(&format!("line {line}"));
        bob.hears(&format!("line {line}"));
        bob.say(&format!("answer {line}"));
        alice.hears(&format!("answer {line}"));
    }
    let peak_bytes = server.peak_bytes();
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{} MiB of {} at the most, in a group: {}",
        mib(peak_bytes),
        mib(documented_bytes),
        group.is_some()
    );
    assert!(
        peak_bytes <= documented_bytes,
        "{} MiB are more than the documented {}",
        mib(peak_bytes),
        mib(documented_bytes)
    );
    drop(attackers);
    drop(server);
}

/// Each is answered with an error.
#[test]
fn empty_frames_of_clients_that_never_read() {
    memory_holds(&[], &frame(&[]).repeat(2_900));
}

/// Each is answered with a Pong, and costs no error.
#[test]
#[ignore = "ten thousand connections again: see CONTRIBUTING.md"]
fn pings_of_clients_that_never_read() {
    memory_holds(
        &[Capability::Keepalive],
        &frames(&[ping(u64::MAX)]).repeat(2_900),
    );
}

/// The beginning of a frame is kept until its end arrives.
#[test]
#[ignore = "ten thousand connections again: see CONTRIBUTING.md"]
fn frames_that_never_end() {
    let body_bytes = Limits::default().frame_bytes_max as usize;
    let mut bytes = frame(&vec![0; body_bytes]);
    bytes.pop();
    memory_holds(&[], &bytes);
}

/// A newcomer is told the names of all, in pages.
#[test]
#[ignore = "ten thousand connections again: see CONTRIBUTING.md"]
fn members_for_clients_that_never_read() {
    memory_holds(&[Capability::Presence], &[]);
}
