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

/// The kinds of sockets.
const KINDS: [Kind; 4] = [Kind::Chat, Kind::Tls, Kind::Web, Kind::Quic];

impl Kind {
    /// As `FileDescriptorName=` says it.
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Tls => "tls",
            Self::Web => "web",
            Self::Quic => "quic",
        }
    }

    /// A socket with another name, such as the one that systemd gives without that line,
    /// is for plain TCP.
    fn of(name: &str) -> Self {
        let mut all = KINDS.into_iter();
        all.find(|kind| kind.name() == name).unwrap_or(Self::Chat)
    }
}

/// The sockets that were handed to this process.
pub struct Handed {
    sockets: ListenFd,
    /// What each is for that was not taken.
    kinds: Vec<Option<Kind>>,
}

/// None.
impl Default for Handed {
    fn default() -> Self {
        Self {
            sockets: ListenFd::empty(),
            kinds: Vec::new(),
        }
    }
}

impl Handed {
    /// Takes them, once: they are not handed on to other programs.
    pub fn take() -> Self {
        let names = env::var(LISTEN_FDNAMES).unwrap_or_default();
        let sockets = ListenFd::from_env();
        let mut names = names.split(':');
        let kinds = (0..sockets.len()).map(|_| Some(Kind::of(names.next().unwrap_or_default())));
        Self {
            kinds: kinds.collect(),
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

    /// What one of those is for that nothing has taken.
    pub(super) fn left_over(&self) -> Option<&'static str> {
        let left = self.kinds.iter().flatten().next()?;
        Some(left.name())
    }

    /// Where the next of a kind is, which is taken.
    fn index(&mut self, kind: Kind) -> Option<usize> {
        let index = self.kinds.iter().position(|it| *it == Some(kind))?;
        self.kinds.get_mut(index)?.take();
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
