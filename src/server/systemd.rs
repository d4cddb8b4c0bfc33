//! Service manager: the sockets that systemd has opened for the server, and what it is
//! told of the server's life (sd_listen_fds(3), sd_notify(3)).

#[cfg(feature = "quic")]
use std::net::UdpSocket;
use std::{
    env,
    ffi::OsStr,
    io,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use clap::ValueEnum;
use listenfd::ListenFd;

use super::transport::Kind;

/// Where systemd listens for what services tell it.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// After how many microseconds without a word systemd takes the service for hung.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";

/// Whom the watchdog watches, if not just anybody.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The names of the sockets, with colons between them.
const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";

/// What a socket is for, by its `FileDescriptorName=`; `None` if no listener has that name.
/// Without that line it has the name of its unit, and is for plain TCP.
fn kind_of(name: &str) -> Option<Kind> {
    match name.is_empty() || name.ends_with(".socket") {
        true => Some(Kind::Chat),
        false => Kind::from_str(name, false).ok(),
    }
}

/// The sockets that were handed to this process.
pub struct Handed {
    sockets: ListenFd,
    /// The name of each that was not taken.
    names: Vec<Option<String>>,
}

/// None.
impl Default for Handed {
    fn default() -> Self {
        Self {
            sockets: ListenFd::empty(),
            names: Vec::new(),
        }
    }
}

impl Handed {
    /// Takes them, once: they are not handed on to other programs.
    pub fn take() -> Self {
        let names = env::var(LISTEN_FDNAMES).unwrap_or_default();
        let sockets = ListenFd::from_env();
        let mut names = names.split(':');
        let names = (0..sockets.len()).map(|_| Some(names.next().unwrap_or_default().to_owned()));
        Self {
            names: names.collect(),
            sockets,
        }
    }

    /// The socket of one kind over TCP, if there is one.
    ///
    /// # Errors
    ///
    /// It does not listen for TCP.
    pub(super) fn tcp(&mut self, kind: Kind) -> io::Result<Option<TcpListener>> {
        let Some(index) = self.index(kind) else {
            return Ok(None);
        };
        let listener = self.sockets.take_tcp_listener(index)?;
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        Ok(listener)
    }

    /// The socket of one kind over UDP, if there is one.
    ///
    /// # Errors
    ///
    /// It is no socket of UDP.
    #[cfg(feature = "quic")]
    pub(super) fn udp(&mut self, kind: Kind) -> io::Result<Option<UdpSocket>> {
        match self.index(kind) {
            Some(index) => self.sockets.take_udp_socket(index),
            None => Ok(None),
        }
    }

    /// A sentence about one that nothing has taken.
    pub(super) fn left_over(&self) -> Option<String> {
        let name = self.names.iter().flatten().next()?;
        let known = Kind::value_variants().iter();
        let known = known.filter_map(ValueEnum::to_possible_value);
        let known: Vec<_> = known.map(|it| it.get_name().to_owned()).collect();
        Some(format!(
            "systemd has handed over a socket named {name:?} that no listener takes; say the \
             option of that listener, give the socket another name (FileDescriptorName= one of \
             {}), or take it away",
            known.join(", ")
        ))
    }

    /// Where the next of a kind is, which is taken.
    fn index(&mut self, kind: Kind) -> Option<usize> {
        let is_it = |name: &Option<String>| name.as_deref().and_then(kind_of) == Some(kind);
        let index = self.names.iter().position(is_it)?;
        self.names.get_mut(index)?.take();
        Some(index)
    }
}

/// Tells systemd how the service is.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
}

impl Notifier {
    /// The one of this process; `None` if it is no service of the type `notify`.
    pub fn from_env() -> Option<Self> {
        let path = env::var_os(NOTIFY_SOCKET)?;
        let socket = UnixDatagram::unbound().ok()?;
        // A manager that does not read must not hold up the server.
        socket.set_nonblocking(true).ok()?;
        let address = address(&path).ok()?;
        socket.connect_addr(&address).ok()?;
        Some(Self { socket })
    }

    /// It listens.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=listening");
    }

    /// It closes.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=telling everybody that the server closes");
    }

    /// It is alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// What is not heard is no reason to end.
    fn tell(&self, state: &str) {
        let _ = self.socket.send(state.as_bytes());
    }
}

/// A path, or behind `@` a name without a file.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(path),
    }
}

/// How often systemd wants to hear that the server is alive: twice in the time after which
/// it would end it. `None` if it does not want to.
pub fn watchdog_interval() -> Option<Duration> {
    let pid = env::var(WATCHDOG_PID).ok();
    if pid.is_some_and(|pid| pid != std::process::id().to_string()) {
        return None;
    }
    let us: u64 = env::var(WATCHDOG_USEC).ok()?.parse().ok()?;
    (us > 1).then(|| Duration::from_micros(us / 2))
}
