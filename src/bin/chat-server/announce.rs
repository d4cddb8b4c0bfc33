//! Announces where the server listens: on standard output for programs, and how to join
//! on standard error for people.

use std::{
    fmt,
    io::{IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use chat::{address::Scheme, pin::Pin};

/// How others reach the server.
#[derive(Clone, Copy)]
pub enum Way {
    /// By a client's address.
    Client(Scheme),
    /// With a browser.
    Browser { is_encrypted: bool },
}

impl Way {
    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Client(scheme) => scheme.is_encrypted(),
            Self::Browser { is_encrypted } => is_encrypted,
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Client(scheme) => scheme.as_str(),
            Self::Browser { is_encrypted: true } => "https",
            Self::Browser {
                is_encrypted: false,
            } => "http",
        }
    }
}

/// One of the ways in which the server listens.
pub struct Listening {
    pub way: Way,
    pub address: SocketAddr,
    /// Of a self-signed certificate.
    pub pin: Option<Pin>,
}

/// Formats the address that clients or browsers take.
impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.way.scheme(), self.address)?;
        match self.pin {
            Some(pin) => write!(f, "#{pin}"),
            None => Ok(()),
        }
    }
}

/// Announces all of them, a line each, and then where `metrics` are.
pub fn announce(listening: &[Listening], metrics: Option<SocketAddr>) {
    let mut stdout = std::io::stdout().lock();
    for it in listening {
        // A caller that closed standard output does not need it.
        let _ = writeln!(stdout, "listening on {it}").and_then(|()| stdout.flush());
    }
    if let Some(address) = metrics {
        let _ =
            writeln!(stdout, "metrics on http://{address}/metrics").and_then(|()| stdout.flush());
    }
    if std::io::stderr().is_terminal() {
        let client = client_command();
        for it in listening {
            let it = Listening {
                address: reachable(it.address),
                ..*it
            };
            let _ = match it.way {
                Way::Client(_) => {
                    writeln!(std::io::stderr(), "join with: {client} {it} YOUR_NAME")
                }
                Way::Browser { .. } => writeln!(std::io::stderr(), "or open {it} in a browser"),
            };
        }
    }
}

/// An address that others can connect to: for a server that listens on every address of
/// this machine, the one by which it reaches others.
fn reachable(address: SocketAddr) -> SocketAddr {
    // Of networks for documentation. No packet is sent to a UDP socket's peer before
    // something is written.
    let ipv4: (IpAddr, IpAddr) = (
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::new(192, 0, 2, 1).into(),
    );
    let ipv6: (IpAddr, IpAddr) = (
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    );
    let route = |(any, elsewhere): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((elsewhere, 1)).ok()?;
        socket.local_addr().ok()
    };
    let local = match address {
        SocketAddr::V4(_) => route(ipv4),
        // It takes connections over IPv4 too, which more networks have.
        SocketAddr::V6(_) => route(ipv4).or_else(|| route(ipv6)),
    };
    match local {
        Some(local) if address.ip().is_unspecified() => SocketAddr::new(local.ip(), address.port()),
        _ => address,
    }
}

/// The command that starts the client: by its path if it is beside this program, as
/// after a build, so that the line can be pasted into a shell.
fn client_command() -> String {
    let beside = || -> Option<String> {
        let path = std::env::current_exe().ok()?.with_file_name("chat-client");
        let folder = std::env::current_dir().ok()?;
        if !path.exists() {
            return None;
        }
        let command = match path.strip_prefix(folder) {
            // A shell looks up a word without a slash on its path.
            Ok(name) if name.components().count() == 1 => Path::new(".").join(name),
            Ok(below) => below.to_owned(),
            Err(_) => path,
        };
        let quoted = shlex::try_quote(command.to_str()?).ok()?;
        Some(quoted.into_owned())
    };
    beside().unwrap_or_else(|| "chat-client".to_owned())
}
