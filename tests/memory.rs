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

use chat::{
    limits::Limits,
    wire::{
        self, Capability, FileData, GetFile, PutFile, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};
use sha2::{Digest, Sha256};
use support::{Peer, TestServer, envelope, frame, frames, ping, register};

/// Below `connections_max`, so that the honest pair has room.
const ATTACKERS: usize = 9_900;

/// How many threads connect them.
const THREADS: usize = 4;

/// What the program takes itself, built for tests, in bytes.
const PROGRAM_BYTES: u64 = 32 << 20;

/// A piece of a file, in bytes.
const PIECE_BYTES: usize = 16 << 10;

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
    // A room of its own size: the rates are not what is tested.
    memory_holds_in(&["--rate-burst", "1000"], None, capabilities, bytes);
}

/// `file`: what Alice uploads and names, before the others come.
#[track_caller]
fn memory_holds_in(
    options: &[&str],
    file: Option<&[u8]>,
    capabilities: &[Capability],
    bytes: &[u8],
) {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let documented_bytes = Limits::default().memory_bytes_max() + PROGRAM_BYTES;
    let group = Cgroup::new(documented_bytes);
    let server = TestServer::start(options);
    if let Some(group) = &group {
        group.add(server.process_id());
    }
    let asked: &[_] = if file.is_some() {
        &[Capability::Files]
    } else {
        &[]
    };
    let (mut alice, _) = Peer::join_with(&server, "alice", asked);
    let mut bob = Peer::join(&server, "bob");
    if let Some(content) = file {
        upload(&mut alice, content);
        bob.hears("a file");
    }
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

/// Uploads a file and names it.
fn upload(alice: &mut Peer, content: &[u8]) {
    let sha256 = Sha256::digest(content).to_vec();
    let size = content.len() as u64;
    let put = PutFile {
        sha256: sha256.clone(),
        size,
    };
    alice.send(&envelope(Sent::PutFile(put)));
    alice.recv();
    for (number, data) in content.chunks(PIECE_BYTES).enumerate() {
        alice.send(&envelope(Sent::FileData(FileData {
            sha256: sha256.clone(),
            offset: (number * PIECE_BYTES) as u64,
            data: data.to_vec(),
        })));
        let answer = alice.recv();
        assert!(matches!(answer, Message::FileState(_)), "{answer:?}");
    }
    alice.send(&envelope(Sent::Chat(wire::Chat {
        text: "a file".to_owned(),
        files: vec![wire::File {
            sha256,
            size,
            name: "a.bin".to_owned(),
        }],
        ..Default::default()
    })));
}

/// Uploads that are begun and never finished, pieces that never end, and downloads that are
/// never read, all of them by each.
#[test]
#[ignore = "ten thousand connections again: see CONTRIBUTING.md"]
fn files_of_clients_that_never_finish_and_never_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    let content = vec![7; 64 * PIECE_BYTES];
    let whole = Sha256::digest(&content).to_vec();
    let begun = vec![1; 32];
    let piece = |offset: usize| {
        envelope(Sent::FileData(FileData {
            sha256: begun.clone(),
            offset: offset as u64,
            data: vec![1; PIECE_BYTES],
        }))
    };
    let mut bytes = frames(&[
        envelope(Sent::GetFile(GetFile {
            sha256: whole,
            ..GetFile::default()
        })),
        envelope(Sent::PutFile(PutFile {
            sha256: begun.clone(),
            size: 3 * PIECE_BYTES as u64,
        })),
        piece(0),
        piece(PIECE_BYTES),
    ]);
    bytes.pop();
    let data = data.to_str().expect("UTF-8");
    let options = ["--data", data, "--rate-burst", "1000"];
    memory_holds_in(&options, Some(&content), &[Capability::Files], &bytes);
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
