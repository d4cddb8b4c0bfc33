//! A node whose disk is full or fails, by the library of faults of `tests/store`, which is
//! preloaded into the server: its members go on at the other node, and miss nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use chat::wire::{LeftReason, server_envelope::Message};
use nix::errno::Errno;
use tempfile::TempDir;

use super::{
    cluster::{Nats, expect_cut_off},
    cluster_data::{self, folder, past, text},
    cluster_faults::Crowd,
    metrics,
    support::{self, Peer, TestServer},
};

/// The disk of a node, of which a call fails while it is armed.
struct Disk {
    data: TempDir,
    beside: TempDir,
}

impl Disk {
    fn new() -> Self {
        let disk = Self {
            data: folder(),
            beside: folder(),
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/faults.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .args([&disk.path("faults.so"), &source])
            .arg("-ldl")
            .status()
            .expect("there is a C compiler");
        assert!(compiled.success());
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.beside.path().join(name)
    }

    fn arm(&self) {
        fs::write(self.path("armed"), "").expect("ours");
    }

    fn disarm(&self) {
        fs::remove_file(self.path("armed")).expect("ours");
    }

    /// The node `first` on this disk: `call` on the log of its database fails with `error`.
    fn node(&self, nats: &Nats, call: &str, error: Errno, options: &[&str]) -> TestServer {
        let text_of = |name| self.path(name).display().to_string();
        let variables = [
            ("LD_PRELOAD", text_of("faults.so")),
            ("FAULT_CALL", call.to_owned()),
            ("FAULT_FILE", "room.sqlite-wal".to_owned()),
            ("FAULT_ERRNO", (error as i32).to_string()),
            ("FAULT_ARMED", text_of("armed")),
            ("FAULT_COUNT", text_of("count")),
        ];
        let variables = variables.each_ref().map(|(name, it)| (*name, it.as_str()));
        let own = ["--data", text(&self.data), "--rate-limit", "off"];
        let address = format!("nats://127.0.0.1:{}", nats.port);
        Nats::node_in(&address, "first", &[&own, options].concat(), &variables)
    }
}

/// Two nodes and a crowd on them, the first one on a bad disk.
fn crowd(first: &TestServer, second: &TestServer) -> Crowd {
    let addresses = [first.address.to_string(), second.address.to_string()];
    Crowd::talk(&addresses.each_ref().map(String::as_str))
}

/// CHAT-CLUS-1 and not CHAT-HIST-9: the others have space.
#[test]
fn clients_of_a_node_whose_disk_is_full_go_on_at_another() {
    let nats = Nats::start();
    let (disk, other) = (Disk::new(), folder());
    let options = ["--metrics", "127.0.0.1:0"];
    let mut first = disk.node(&nats, "write", Errno::ENOSPC, &options);
    let page = metrics::address(&mut first);
    let second = cluster_data::node(&nats, "second", &other, &[]);
    let mut member = Peer::join(&first, "alice");
    let crowd = crowd(&first, &second);
    disk.arm();
    first.wait_for_log("clients are sent to other servers of the cluster");
    first.wait_for_log("cut off the cluster: the disk of this node is full");
    expect_cut_off(&mut member);
    let mut newcomer = Peer::connect(&first);
    newcomer.send(&support::register("newcomer", &[]));
    expect_cut_off(&mut newcomer);
    for (name, value) in [
        ("chat_store_full", 1.0),
        ("chat_cluster_reachable", 0.0),
        ("chat_cluster_cut_off_total", 1.0),
    ] {
        metrics::becomes(&page, name, value);
    }
    crowd.goes_on();
    disk.disarm();
    first.wait_for_log("the disk has space again");
    metrics::becomes(&page, "chat_cluster_reachable", 1.0);
    metrics::becomes(&page, "chat_store_full", 0.0);
    crowd.agrees();
    let (registered, chats) = past(&first);
    assert_eq!(chats.len() as u64, registered.seq, "nothing is missing");
    assert_eq!(past(&second).1, chats);
}

/// The server ends, and what its disk lacks comes from NATS when it is there again.
#[test]
fn a_node_whose_disk_fails_ends_and_comes_back_whole() {
    for (call, sync) in [("write", "off"), ("sync", "always"), ("sync", "interval")] {
        let nats = Nats::start();
        let (disk, other) = (Disk::new(), folder());
        let mut first = disk.node(&nats, call, Errno::EIO, &["--sync", sync]);
        let second = cluster_data::node(&nats, "second", &other, &[]);
        let presence = [chat::wire::Capability::Presence];
        let (mut witness, _) = Peer::join_with(&second, "witness", &presence);
        let mut member = Peer::join(&first, "alice");
        let crowd = crowd(&first, &second);
        disk.arm();
        let status = first.wait();
        assert!(!status.success(), "{status}");
        let log = first.log();
        assert!(
            log.contains("room.sqlite") || log.contains("I/O error"),
            "{log}"
        );
        let closing = member.rest().into_iter().find_map(|message| match message {
            Message::ServerClosing(closing) => Some(closing.detail),
            _ => None,
        });
        let closing = closing.expect("it is told");
        assert!(
            closing.contains("cannot keep messages any more"),
            "{closing}"
        );
        // The others see its members leave at once.
        loop {
            match witness.recv() {
                Message::Left(left) if left.name == "alice" => {
                    assert_eq!(left.reason(), LeftReason::ConnectionLost);
                    break;
                }
                _ => {}
            }
        }
        crowd.goes_on();
        disk.disarm();
        let listen = first.address.to_string();
        let first = disk.node(
            &nats,
            call,
            Errno::EIO,
            &["--sync", sync, "--listen", &listen],
        );
        crowd.agrees();
        let (registered, chats) = past(&first);
        assert_eq!(chats.len() as u64, registered.seq, "nothing is missing");
        assert_eq!(past(&second).1, chats);
    }
}
