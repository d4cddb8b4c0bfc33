//! Connector: looks up an address, connects, registers, and names every way in which
//! that can fail.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::FramedRead;

use super::backoff::{Backoff, Failure, Retry};
use super::codec::{ByteStream, Codec, CodecError, Halves, REGISTERING_BODY_BYTES_MAX};
use super::driver::{Opened, Reopen};
use super::event::Ending;
use super::eyeballs;
use super::follow::{Filter, Follows};
#[cfg(feature = "keys")]
use super::key::Key;
use super::session::Session;
use super::tap::Tapped;
use crate::address::{Address, AddressError, Scheme};
use crate::capture::Capture;
#[cfg(feature = "keys")]
use crate::identity::PublicKey;
use crate::password::Password;
#[cfg(feature = "quic")]
use crate::quic::{self, QuicError, QuicStream};
#[cfg(feature = "tls")]
use crate::tls::{Trust, Untrusted};
use crate::wire::{
    self, Capability, Challenge, ClientEnvelope, ErrorCode, Proof, Register, Registered, Resume,
    client_envelope, server_envelope,
};

/// How long one connection attempt may take, and then the answer to Register, in
/// milliseconds: long enough for a slow link, short enough for a person.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// How many addresses of one host are tried.
pub const ADDRESSES_MAX: usize = 16;

/// What the envelope of a piece of a file takes beyond its bytes, at most
/// (CHAT-FRAME-12).
const PIECE_OVERHEAD_BYTES: u32 = 256;

/// Opens sessions: which capabilities to ask for, which password to send, how long to
/// wait.
///
/// ```no_run
/// # async fn example() -> Result<(), chat::client::ConnectError> {
/// use chat::{client::Connector, wire::Capability};
///
/// let session = Connector::new()
///     .capabilities([Capability::Presence, Capability::Keepalive])
///     .timeout(std::time::Duration::from_secs(3))
///     .connect("chat://example.org:5000", "bot")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Connector {
    capabilities: Vec<Capability>,
    password: Option<Password>,
    #[cfg(feature = "keys")]
    key: Option<Key>,
    timeout: Duration,
    #[cfg(feature = "tls")]
    trust: Trust,
    backoff: Option<Backoff>,
    capture: Option<Capture>,
    filter: Filter,
}

impl Default for Connector {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector {
    /// Asks for receipts and keepalive, and waits [`CONNECT_TIMEOUT_MS`].
    pub fn new() -> Self {
        Self {
            capabilities: vec![Capability::Receipts, Capability::Keepalive],
            password: None,
            #[cfg(feature = "keys")]
            key: None,
            timeout: Duration::from_millis(CONNECT_TIMEOUT_MS),
            #[cfg(feature = "tls")]
            trust: Trust::system(),
            backoff: None,
            capture: None,
            filter: Filter::default(),
        }
    }

    /// Asks for exactly these capabilities; the server may grant fewer.
    #[must_use]
    pub fn capabilities(mut self, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        self.capabilities = capabilities.into_iter().collect();
        self
    }

    /// Asks for this capability too.
    #[must_use]
    pub fn and(mut self, capability: Capability) -> Self {
        if !self.capabilities.contains(&capability) {
            self.capabilities.push(capability);
        }
        self
    }

    /// Registers with this password. Without encryption (`chats://`), it crosses the
    /// network as it is, to whichever server the address names.
    #[must_use]
    pub fn password(mut self, password: Password) -> Self {
        self.password = Some(password);
        self
    }

    /// Registers with this key, and proves it where the server asks for that (CHAT-ID):
    /// then nobody else can have a name that it owns, and others see
    /// [`sender_id`](super::Event::Message::sender_id). A server that knows no keys
    /// ignores it.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use chat::client::{Connector, Key};
    ///
    /// let text = std::fs::read_to_string("/var/lib/bot/key")?;
    /// let key = Key::parse(&text).ok_or("this is no key")?;
    /// let session = Connector::new()
    ///     .key(key)
    ///     .connect("chats://example.org", "bot")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "keys")]
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// The public half of the key that it registers with.
    #[cfg(feature = "keys")]
    pub fn public_key(&self) -> Option<PublicKey> {
        self.key.as_ref().map(Key::public)
    }

    /// Trusts these servers where the address is encrypted and has no pin; by default
    /// those that the system trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// How long to wait for each address of the host, for the handshake of an encrypted
    /// connection, and again for the answer to Register.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Receives only these chats, from the first one on: asks for
    /// [`Capability::Follow`]. [`Session::follow`] changes it later.
    #[must_use]
    pub fn following(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self.and(Capability::Follow)
    }

    /// Connects again when a session is lost, and resumes it (CHAT-RES) where the server
    /// does that: asks for receipts and resume. The events say what becomes of it:
    /// [`Reconnecting`](super::Event::Reconnecting), then
    /// [`Resumed`](super::Event::Resumed) or
    /// [`NotResumed`](super::Event::NotResumed). The session still ends when the client
    /// leaves, the user has to act first (another password, another name), another
    /// session has continued it, or `backoff` gives up. The first connect is not
    /// repeated.
    #[must_use]
    pub fn reconnecting(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Writes what its connections carry into this capture.
    #[must_use]
    pub fn capture(mut self, capture: Capture) -> Self {
        self.capture = Some(capture);
        self
    }

    /// Connects to `address` and registers as `name`. Several servers of one room have
    /// commas between them ([`Address::parse_list`]): they are tried in turn, and a session
    /// that is [`reconnecting`](Self::reconnecting) goes on at another one.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says which step failed.
    pub async fn connect(&self, address: &str, name: &str) -> Result<Session, ConnectError> {
        let address = Address::parse_list(address).map_err(ConnectError::Address)?;
        self.connect_to(&address, name).await
    }

    /// Connects to a parsed address; the name in it is ignored.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says which step failed.
    pub async fn connect_to(&self, address: &Address, name: &str) -> Result<Session, ConnectError> {
        let filter = self.register_filter();
        let addresses: Vec<_> = address.all().cloned().collect();
        let count = addresses.len();
        let mut opened = self.open(address, name, None, filter.clone()).await;
        let mut next = 0;
        for (index, other) in addresses.iter().enumerate().skip(1) {
            match &opened {
                // What another server of the room may do better.
                Err(error) if error.is_of_server() => {
                    opened = self.open(other, name, None, filter.clone()).await;
                    next = index;
                }
                _ => break,
            }
        }
        let (halves, registered) = opened?;
        let again = self.backoff.clone().map(|backoff| {
            let target: Box<dyn Reopen> = Box::new(Target {
                connector: self.clone(),
                addresses,
                next: AtomicUsize::new((next + 1) % count.max(1)),
                name: name.to_owned(),
            });
            (target, backoff)
        });
        Ok(Session::start(
            halves,
            registered,
            again,
            self.filter.clone(),
        ))
    }

    /// Registers on a connected byte stream. Its session is not continued on another
    /// ([`reconnecting`](Self::reconnecting)).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what arrived in place of Registered.
    pub async fn register<S>(&self, stream: S, name: &str) -> Result<Session, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let halves = Halves::new(self.tapped(Box::new(stream)));
        let filter = self.register_filter();
        let (halves, registered) = self.shake_hands(halves, name, None, filter).await?;
        Ok(Session::start(
            halves,
            registered,
            None,
            self.filter.clone(),
        ))
    }

    /// Connects and registers.
    async fn open(
        &self,
        address: &Address,
        name: &str,
        resume: Option<Resume>,
        filter: Option<wire::Filter>,
    ) -> Result<Opened, ConnectError> {
        let halves = Halves::new(self.tapped(self.dial(address).await?));
        self.shake_hands(halves, name, resume, filter).await
    }

    fn register_filter(&self) -> Option<wire::Filter> {
        Follows::new(self.filter.clone()).for_register()
    }

    /// The same, with the capture of another connector.
    #[cfg(feature = "cli")]
    pub(crate) fn capturing_as(mut self, other: &Self) -> Self {
        self.capture.clone_from(&other.capture);
        self
    }

    /// The stream, with a tap where there is a capture.
    fn tapped(&self, stream: ByteStream) -> ByteStream {
        match &self.capture {
            None => stream,
            Some(capture) => Box::new(Tapped::new(stream, capture)),
        }
    }

    /// Opens what carries the bytes: the connection, with its encryption.
    async fn dial(&self, address: &Address) -> Result<ByteStream, ConnectError> {
        match address.scheme() {
            Scheme::Chat => Ok(Box::new(self.dial_tcp(address).await?)),
            #[cfg(feature = "tls")]
            Scheme::Chats => {
                let stream = self.dial_tcp(address).await?;
                let shaken = super::tls::shake_hands(&self.trust, address, stream);
                let stream = timeout(self.timeout, shaken).await;
                Ok(Box::new(stream.map_err(|_| ConnectError::Silent)??))
            }
            #[cfg(feature = "quic")]
            Scheme::Chatq => Ok(Box::new(self.dial_quic(address).await?)),
            #[cfg(not(feature = "quic"))]
            scheme => Err(ConnectError::SchemeMissing(scheme)),
        }
    }

    /// The addresses of the host, as many as are tried.
    async fn look_up(
        &self,
        address: &Address,
    ) -> Result<impl Iterator<Item = SocketAddr> + use<>, ConnectError> {
        let host = (address.host(), address.port());
        let found = timeout(self.timeout, lookup_host(host))
            .await
            .map_err(|_| ConnectError::Lookup(io::ErrorKind::TimedOut.into()))?
            .map_err(ConnectError::Lookup)?;
        let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        Ok(found.into_iter())
    }

    /// Opens a TCP connection to the first address of the host that accepts one.
    async fn dial_tcp(&self, address: &Address) -> Result<TcpStream, ConnectError> {
        let limit = self.timeout;
        let connected = eyeballs::first(self.look_up(address).await?, |address| async move {
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        });
        let stream = connected.await.map_err(ConnectError::Connect)?;
        // A chat is one small frame, which should not wait for another.
        stream.set_nodelay(true).map_err(ConnectError::Connect)?;
        Ok(stream)
    }

    /// Opens a QUIC connection to the first address of the host that accepts one. The pin
    /// of the address says more than the caller's trust.
    #[cfg(feature = "quic")]
    async fn dial_quic(&self, address: &Address) -> Result<QuicStream, ConnectError> {
        let pinned = address.pin().map(Trust::pinned);
        let trust = pinned.as_ref().unwrap_or(&self.trust);
        let mut failure = io::ErrorKind::NotFound.into();
        for socket_address in self.look_up(address).await? {
            let connecting = quic::connect(trust, address.host(), socket_address);
            match timeout(self.timeout, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(QuicError::Untrusted(untrusted))) => {
                    return Err(ConnectError::Untrusted(untrusted));
                }
                Ok(Err(QuicError::Failed(error))) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(ConnectError::Connect(failure))
    }

    /// Sends Register and waits for the answer.
    async fn shake_hands(
        &self,
        mut halves: Halves<ByteStream>,
        name: &str,
        resume: Option<Resume>,
        filter: Option<wire::Filter>,
    ) -> Result<Opened, ConnectError> {
        let mut capabilities = self.capabilities.clone();
        if self.backoff.is_some() {
            // CHAT-RES-1
            for needed in [Capability::Receipts, Capability::Resume] {
                if !capabilities.contains(&needed) {
                    capabilities.push(needed);
                }
            }
        }
        let register = ClientEnvelope {
            // CHAT-REG-1
            message: Some(client_envelope::Message::Register(Register {
                name: name.to_owned(),
                capabilities: capabilities.iter().map(|&c| c.into()).collect(),
                // CHAT-ADM-6
                password: self
                    .password
                    .as_ref()
                    .map_or_else(String::new, |password| password.reveal().to_owned()),
                resume,
                key: self.key_bytes(),
                filter,
            })),
        };
        // The server would refuse the frame, and could not say that the name is the
        // reason.
        if prost::Message::encoded_len(&register) > REGISTERING_BODY_BYTES_MAX as usize {
            return Err(ConnectError::Refused {
                code: ErrorCode::NameInvalid,
                detail: String::new(),
                retry_after_ms: 0,
            });
        }
        let deadline = Instant::now() + self.timeout;
        // A full server sends its error and closes without reading. The error can be
        // read even if the write fails.
        let written = timeout_at(deadline, halves.writer.send(register)).await;
        if written.is_err() {
            return Err(ConnectError::Silent);
        }
        let registered = timeout_at(deadline, self.answer(&mut halves, name))
            .await
            .map_err(|_| ConnectError::Silent)??;
        let limits = registered.limits.unwrap_or_default();
        let has_files = registered.capabilities.contains(&Capability::Files.into());
        let piece_bytes_max = limits
            .file_chunk_bytes_max
            .saturating_add(PIECE_OVERHEAD_BYTES);
        let frame_bytes_max = match has_files {
            true => limits.frame_bytes_max.max(piece_bytes_max), // CHAT-FRAME-12
            false => limits.frame_bytes_max,
        };
        halves.reader.decoder_mut().registered(frame_bytes_max);
        Ok((halves, registered))
    }
}

/// Where a session can be, and how to get there again.
#[derive(Debug)]
struct Target {
    connector: Connector,
    /// The servers of its room.
    addresses: Vec<Address>,
    /// The one to try next: first the one behind that of the session, since that one has
    /// just failed.
    next: AtomicUsize,
    name: String,
}

impl Reopen for Target {
    fn open(
        &self,
        resume: Option<Resume>,
        filter: Option<wire::Filter>,
    ) -> Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send + '_>> {
        Box::pin(async move {
            let mut failure = ConnectError::Closed;
            for _ in &self.addresses {
                let next = self.next.fetch_add(1, Ordering::Relaxed);
                let Some(address) = self.addresses.get(next % self.addresses.len()) else {
                    break;
                };
                let dialed = match self.connector.dial(address).await {
                    Ok(dialed) => dialed,
                    Err(error) if error.is_of_server() => {
                        failure = error;
                        continue;
                    }
                    Err(error) => return Err(error.into_failure()),
                };
                // A Register may count though its answer is lost, so the next one must be
                // of another attempt (CHAT-RES-6).
                let halves = Halves::new(self.connector.tapped(dialed));
                let connector = &self.connector;
                let shaken = connector.shake_hands(halves, &self.name, resume, filter);
                return shaken.await.map_err(ConnectError::into_failure);
            }
            Err(failure.into_failure())
        })
    }
}

impl Session {
    /// Connects to `address` and registers as `name`, asking for receipts and
    /// keepalive. [`Connector`] can ask for something else.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says which step failed.
    pub async fn connect(address: &str, name: &str) -> Result<Self, ConnectError> {
        Connector::new().connect(address, name).await
    }
}

impl Connector {
    /// Waits for the answer to Register, with or without a Challenge before it
    /// (CHAT-ID-14), and sends nothing but the proof until it arrives (CHAT-REG-10).
    async fn answer(
        &self,
        halves: &mut Halves<ByteStream>,
        name: &str,
    ) -> Result<Registered, ConnectError> {
        let mut has_proved = false;
        loop {
            match next_answer(&mut halves.reader).await? {
                Answer::Registered(registered) => return Ok(*registered),
                // One is all that a server may ask for (CHAT-ID-2).
                Answer::Challenge(_) if has_proved => {}
                Answer::Challenge(challenge) => {
                    let Some(proof) = self.prove(&challenge, name) else {
                        continue;
                    };
                    has_proved = true;
                    let message = Some(client_envelope::Message::Proof(proof));
                    // The server's reason can be read even if the write fails.
                    let _ = halves.writer.send(ClientEnvelope { message }).await;
                }
            }
        }
    }

    /// The public key in Register; empty if there is none.
    #[cfg(feature = "keys")]
    fn key_bytes(&self) -> Vec<u8> {
        let key = self.key.as_ref();
        key.map_or_else(Vec::new, |key| key.public().as_bytes().to_vec())
    }

    /// None.
    #[cfg(not(feature = "keys"))]
    fn key_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Answers a Challenge (CHAT-ID-13).
    #[cfg(feature = "keys")]
    fn prove(&self, challenge: &Challenge, name: &str) -> Option<Proof> {
        self.key.as_ref()?.prove(challenge, name)
    }

    /// Without a key nothing was to be proved.
    #[cfg(not(feature = "keys"))]
    fn prove(&self, _: &Challenge, _: &str) -> Option<Proof> {
        None
    }
}

/// What a server answers to a Register that it does not refuse.
enum Answer {
    Registered(Box<Registered>),
    Challenge(Challenge),
}

/// Waits for the next answer.
async fn next_answer<R>(reader: &mut FramedRead<R, Codec>) -> Result<Answer, ConnectError>
where
    R: AsyncRead + Unpin,
{
    use server_envelope::Message;
    loop {
        let envelope = match reader.next().await {
            None => return Err(ConnectError::Closed),
            Some(Err(CodecError::Io(error))) => return Err(ConnectError::Lost(error)),
            Some(Err(CodecError::Frame(_) | CodecError::Body)) => {
                return Err(ConnectError::NotChat);
            }
            Some(Ok(envelope)) => envelope,
        };
        match envelope.message {
            Some(Message::Registered(registered)) => {
                return Ok(Answer::Registered(Box::new(registered)));
            }
            Some(Message::Challenge(challenge)) => return Ok(Answer::Challenge(challenge)),
            Some(Message::Error(error)) if error.ends_session => {
                return Err(ConnectError::Refused {
                    code: error.code(),
                    detail: error.detail,
                    retry_after_ms: error.retry_after_ms,
                });
            }
            Some(Message::ServerClosing(closing)) => {
                return Err(ConnectError::ServerClosed {
                    detail: closing.detail,
                    retry_after_ms: closing.retry_after_ms,
                });
            }
            // CHAT-GROW-2, and messages without a meaning before Registered.
            _ => {}
        }
    }
}

/// Why there is no session.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be parsed.
    Address(AddressError),
    /// The host lookup failed.
    Lookup(io::Error),
    /// No address of the host accepted the connection; the last error.
    Connect(io::Error),
    /// The server's certificate is not trusted.
    #[cfg(feature = "tls")]
    Untrusted(Untrusted),
    /// The handshake of an encrypted connection failed otherwise: the server does not
    /// speak TLS, or refuses.
    #[cfg(feature = "tls")]
    Tls(io::Error),
    /// The library was built without the feature of this scheme.
    SchemeMissing(Scheme),
    /// The server did not answer in time.
    Silent,
    /// The connection was closed without an answer.
    Closed,
    /// The connection broke before there was an answer.
    Lost(io::Error),
    /// The server speaks another protocol.
    NotChat,
    /// The server is shutting down.
    ServerClosed {
        /// The server's sentence about it; can be empty, and is not safe to
        /// print as it is.
        detail: String,
        /// When it asks its clients to come back, in milliseconds; 0: it does not say.
        retry_after_ms: u32,
    },
    /// The server refused the registration.
    Refused {
        /// Why; [`ErrorCode::Unspecified`] for a code that this library does not
        /// know (CHAT-GROW-5).
        code: ErrorCode,
        /// The server's sentence about it; can be empty, and is not safe to
        /// print as it is.
        detail: String,
        /// How long to wait before connecting again, in milliseconds; 0 if waiting does
        /// not help.
        retry_after_ms: u32,
    },
}

impl ConnectError {
    /// Whether the server asks for a password, or for another than the one given
    /// ([`Connector::password`]). Retrying with the same is pointless (CHAT-ADM-7).
    pub fn is_about_password(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: ErrorCode::PasswordWrong,
                ..
            }
        )
    }
}

impl ConnectError {
    /// Whether another server of the same room may do better.
    fn is_of_server(&self) -> bool {
        match self {
            Self::Refused { code, .. } => Retry::after_code(*code) == Retry::Worthwhile,
            Self::Lookup(_)
            | Self::Connect(_)
            | Self::Silent
            | Self::Closed
            | Self::Lost(_)
            | Self::ServerClosed { .. } => true,
            _ => false,
        }
    }

    /// What it means for a session that is to be continued.
    fn into_failure(self) -> Failure {
        let failure = |ending, retry| Failure {
            ending,
            retry,
            retry_after_ms: 0,
        };
        match self {
            Self::Refused {
                code,
                detail,
                retry_after_ms,
            } => Failure {
                ending: Ending::Error { code, detail },
                retry: Retry::after_code(code),
                retry_after_ms,
            },
            Self::ServerClosed {
                detail,
                retry_after_ms,
            } => Failure {
                ending: Ending::ServerClosed {
                    detail,
                    retry_after_ms,
                },
                retry: Retry::Worthwhile,
                retry_after_ms,
            },
            error => {
                let retry = match error {
                    Self::Address(_) | Self::SchemeMissing(_) => Retry::Never,
                    // Who the server is, only the user can judge.
                    #[cfg(feature = "tls")]
                    Self::Untrusted(_) => Retry::Never,
                    // What stands before a server that starts may answer for it.
                    Self::NotChat => Retry::Doubtful,
                    _ => Retry::Worthwhile,
                };
                let reason = error.to_string();
                failure(Ending::Lost { reason }, retry)
            }
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => write!(f, "this is not an address: {error}"),
            Self::Lookup(error) => write!(f, "cannot look up the host: {error}"),
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            #[cfg(feature = "tls")]
            Self::Untrusted(error) => write!(f, "the server is not trusted: {error}"),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "cannot encrypt the connection: {error}"),
            Self::SchemeMissing(scheme) => write!(
                f,
                "this program was built without the feature for {}://",
                scheme.as_str()
            ),
            Self::Silent => write!(f, "the server did not answer in time"),
            Self::Closed => write!(f, "the connection was closed without an answer"),
            Self::Lost(error) => write!(f, "the connection broke: {error}"),
            Self::NotChat => write!(f, "the server speaks another protocol"),
            Self::ServerClosed { detail, .. } => write!(f, "the server is closing: {detail:?}"),
            Self::Refused { code, detail, .. } => {
                write!(f, "the server refused ({}): {detail:?}", code.as_str_name())
            }
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(error) => Some(error),
            Self::Lookup(error) | Self::Connect(error) | Self::Lost(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::Untrusted(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::Tls(error) => Some(error),
            _ => None,
        }
    }
}
