//! CPU time and memory of the server's processes, from /proc.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Clock ticks a second, the same on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// `TCP_LISTEN` in /proc/net/tcp, and what an unconnected socket has in /proc/net/udp.
const STATE_LISTEN: &str = "0A";
const STATE_UNCONNECTED: &str = "07";

/// How many processes a server can have: those of a cluster, and the engine beside them.
pub const PROCESSES_MAX: usize = 8;

/// A process on this machine, or several that are measured as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Behind the last one: 0.
    ids: [u32; PROCESSES_MAX],
}

impl Process {
    /// This process.
    pub fn this() -> Self {
        Self::of_ids(&[std::process::id()])
    }

    /// The first [`PROCESSES_MAX`] of these.
    pub fn of_ids(ids: &[u32]) -> Self {
        let mut this = Self {
            ids: [0; PROCESSES_MAX],
        };
        for (to, id) in this.ids.iter_mut().zip(ids) {
            *to = *id;
        }
        this
    }

    fn ids(self) -> impl Iterator<Item = u32> {
        self.ids.into_iter().filter(|&id| id != 0)
    }

    /// The process that listens on this address, if it runs on this machine and may be
    /// inspected.
    pub fn listening_on(address: SocketAddr, is_udp: bool) -> Option<Self> {
        if !address.ip().is_loopback() {
            return None;
        }
        let (tables, state) = match is_udp {
            false => (["/proc/net/tcp", "/proc/net/tcp6"], STATE_LISTEN),
            true => (["/proc/net/udp", "/proc/net/udp6"], STATE_UNCONNECTED),
        };
        let socket = tables
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|table| listening_inode(&table, address, state))?;
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
            .map(|id| Self::of_ids(&[id]))
    }

    /// Its CPU time so far, in seconds.
    pub fn cpu_s(self) -> Option<f64> {
        self.ids().map(Self::cpu_s_of).sum()
    }

    fn cpu_s_of(id: u32) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may contain anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some((user + system) / TICKS_PER_S)
    }

    /// Its resident memory, in bytes.
    pub fn resident_bytes(self) -> Option<u64> {
        self.status_bytes("VmRSS:")
    }

    /// Its peak resident memory, in bytes.
    pub fn peak_bytes(self) -> Option<u64> {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(self, label: &str) -> Option<u64> {
        self.ids().map(|id| Self::status_bytes_of(id, label)).sum()
    }

    fn status_bytes_of(id: u32, label: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(label))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }
}

/// The inode of the socket in this table that listens on `address`, or on all addresses
/// with its port.
fn listening_inode(table: &str, address: SocketAddr, listens: &str) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let (ip, port) = local.rsplit_once(':')?;
        let is_it = state == listens
            && u16::from_str_radix(port, 16) == Ok(address.port())
            && serves(ip_address(ip)?, address.ip());
        is_it.then(|| fields.nth(5).map(str::to_owned))?
    })
}

/// Whether a socket bound to `bound` accepts connections to `ip`. A socket bound to all
/// of IPv6 may also accept IPv4.
fn serves(bound: IpAddr, ip: IpAddr) -> bool {
    match bound {
        IpAddr::V4(bound) if bound.is_unspecified() => ip.is_ipv4(),
        bound => bound.is_unspecified() || bound.to_canonical() == ip,
    }
}

/// Parses an address of these tables: hexadecimal words of 32 bits, each in this
/// machine's byte order.
fn ip_address(digits: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for word in digits.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    if let Ok(bytes) = <[u8; 4]>::try_from(&bytes[..]) {
        return Some(bytes.into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table below is written in little-endian order.
    #[cfg(target_endian = "little")]
    #[test]
    fn one_port_of_two_servers() {
        const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let table = |local: &str, state: &str| {
            format!("{HEAD}   0: {local} 0:0 {state} 0:0 00:0 0 0 0 77 1 0\n")
        };
        let listening = |local: &str| table(local, "0A");
        for (table, address, is_there) in [
            (listening("0100007F:1E8C"), "127.0.0.1:7820", true),
            (listening("0100007F:1E8C"), "127.0.0.1:7821", false),
            (listening("0100007F:1E8C"), "127.0.0.2:7820", false),
            (listening("0100007F:1E8C"), "[::1]:7820", false),
            (listening("00000000:1E8C"), "127.0.0.2:7820", true),
            (listening("00000000:1E8C"), "[::1]:7820", false),
            (table("0100007F:1E8C", "01"), "127.0.0.1:7820", false),
            (
                listening("00000000000000000000000001000000:1E8C"),
                "[::1]:7820",
                true,
            ),
            (
                listening("00000000000000000000000001000000:1E8C"),
                "127.0.0.1:7820",
                false,
            ),
            (
                listening("00000000000000000000000000000000:1E8C"),
                "[::1]:7820",
                true,
            ),
            (
                listening("00000000000000000000000000000000:1E8C"),
                "127.0.0.1:7820",
                true,
            ),
            (
                listening("0000000000000000FFFF00000100007F:1E8C"),
                "127.0.0.1:7820",
                true,
            ),
        ] {
            let inode = listening_inode(&table, address.parse().expect("an address"), STATE_LISTEN);
            assert_eq!(inode.is_some(), is_there, "{address} in {table}");
            assert!(inode.is_none_or(|inode| inode == "77"));
        }
    }
}
