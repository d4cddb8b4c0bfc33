//! What the system says about a process: its CPU time and its memory.

use std::{fs, net::SocketAddr};

/// How often the system counts CPU time, in a second. The same on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// `TCP_LISTEN` in /proc/net/tcp.
const STATE_LISTEN: &str = "0A";

/// A process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// This one.
    pub fn this() -> Self {
        Self(std::process::id())
    }

    pub fn of_id(id: u32) -> Self {
        Self(id)
    }

    /// The one that listens on this address, if it is here and may be looked at.
    pub fn listening_on(address: SocketAddr) -> Option<Self> {
        if !address.ip().is_loopback() {
            return None;
        }
        let socket = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|table| listening_inode(&table, address.port()))?;
        let link = format!("socket:[{socket}]");
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|id| {
                let descriptors = fs::read_dir(format!("/proc/{id}/fd"));
                descriptors.into_iter().flatten().flatten().any(|entry| {
                    fs::read_link(entry.path()).is_ok_and(|path| path.as_os_str() == link.as_str())
                })
            })
            .map(Self)
    }

    /// The CPU time it has used, in seconds.
    pub fn cpu_s(self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name in parentheses may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some((user + system) / TICKS_PER_S)
    }

    /// The memory it has resident, in bytes.
    pub fn resident_bytes(self) -> Option<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most memory that it has had resident since its start, in bytes.
    pub fn peak_bytes(self) -> Option<u64> {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(self, label: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(label))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }
}

fn listening_inode(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let (_, local_port) = local.rsplit_once(':')?;
        let is_it = state == STATE_LISTEN && u16::from_str_radix(local_port, 16) == Ok(port);
        is_it.then(|| fields.nth(5).map(str::to_owned))?
    })
}
