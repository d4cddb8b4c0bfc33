//! Connector: what a client asks for, and the way from an address to a session.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::backoff::Backoff;
use super::codec::{ByteStream, Halves};
use super::connect_error::ConnectError;
use super::driver::Opened;
use super::follow::{Filter, Follows};
#[cfg(feature = "keys")]
use super::key::Key;
use super::session::Session;
use super::tap::Tapped;
use crate::address::Address;
use crate::capture::Capture;
#[cfg(feature = "keys")]
use crate::identity::PublicKey;
use crate::password::Password;
#[cfg(feature = "tls")]
use crate::tls::Trust;
use crate::wire::{self, Capability, Resume};

/// How long one connection attempt may take, and then the answer to Register, in
/// milliseconds: long enough for a slow link, short enough for a person.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// How many addresses of one host are tried.
pub const ADDRESSES_MAX: usize = 16;

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
    pub(super) capabilities: Vec<Capability>,
    pub(super) password: Option<Password>,
    #[cfg(feature = "keys")]
    pub(super) key: Option<Key>,
    pub(super) timeout: Duration,
    #[cfg(feature = "tls")]
    pub(super) trust: Trust,
    pub(super) backoff: Option<Backoff>,
    pub(super) capture: Option<Capture>,
    pub(super) filter: Filter,
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
    /// repeated, but for a server that is [back soon](Self::connect_to).
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
            None,
        ))
    }

    /// Connects and registers.
    pub(super) async fn open(
        &self,
        address: &Address,
        name: &str,
        resume: Option<Resume>,
        filter: Option<wire::Filter>,
    ) -> Result<Opened, ConnectError> {
        let halves = Halves::new(self.tapped(self.dial(address).await?));
        self.shake_hands(halves, name, resume, filter).await
    }

    pub(super) fn register_filter(&self) -> Option<wire::Filter> {
        Follows::new(self.filter.clone()).for_register()
    }

    /// The same, with the capture of another connector.
    #[cfg(feature = "cli")]
    pub(crate) fn capturing_as(mut self, other: &Self) -> Self {
        self.capture.clone_from(&other.capture);
        self
    }

    /// The stream, with a tap where there is a capture.
    pub(super) fn tapped(&self, stream: ByteStream) -> ByteStream {
        match &self.capture {
            None => stream,
            Some(capture) => Box::new(Tapped::new(stream, capture)),
        }
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
