//! Reopen: opens sessions, and connects again for one that was lost, to each server of the
//! room in turn.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::backoff::Failure;
use super::codec::Halves;
use super::connect::Connector;
use super::connect_error::ConnectError;
use super::driver::{Opened, Reopen};
use super::session::Session;
use crate::address::Address;
use crate::wire::{self, Resume};

/// The longest wait of a first connect for a server that restarts, in milliseconds: a
/// person waits so long, and each of the server's clients has a wait of its own.
const RESTART_MS_MAX: u32 = 10_000;

/// Where a session can be, and how to get there again.
#[derive(Debug)]
struct Target {
    connector: Connector,
    /// The servers of its room.
    addresses: Vec<Address>,
    /// The one to try next: first the one behind that of the session, since that one has
    /// just failed.
    next: AtomicUsize,
    /// The one of the connection that was opened last.
    last: AtomicUsize,
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
                let next = next % self.addresses.len();
                let Some(address) = self.addresses.get(next) else {
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
                let opened = shaken.await.map_err(ConnectError::into_failure)?;
                self.last.store(next, Ordering::Relaxed);
                return Ok(opened);
            }
            Err(failure.into_failure())
        })
    }

    fn address(&self) -> Option<Address> {
        let last = self.last.load(Ordering::Relaxed);
        self.addresses.get(last).cloned()
    }
}

impl Connector {
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

    /// Connects to a parsed address; the name in it is ignored. If the server closes at
    /// that moment and says that it is back soon, the client comes back once.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says which step failed.
    pub async fn connect_to(&self, address: &Address, name: &str) -> Result<Session, ConnectError> {
        let connected = self.connect_to_any(address, name).await;
        connected.map_err(|(_, error)| error)
    }

    /// As [`connect_to`](Self::connect_to). An error comes with the address of the server
    /// that it is about.
    pub(super) async fn connect_to_any(
        &self,
        address: &Address,
        name: &str,
    ) -> Result<Session, (Address, ConnectError)> {
        let addresses: Vec<_> = address.all().cloned().collect();
        let count = addresses.len();
        let mut opened = self.open_first(address, name).await;
        if let Err((_, ConnectError::ServerClosed { retry_after_ms, .. })) = &opened
            && (1..=RESTART_MS_MAX).contains(retry_after_ms)
        {
            // CHAT-CLOSE-8
            sleep(Duration::from_millis((*retry_after_ms).into())).await;
            opened = self.open_first(address, name).await;
        }
        let ((halves, registered), next) = opened?;
        let opened_at = addresses.get(next).cloned();
        let again = self.backoff.clone().map(|backoff| {
            let target: Box<dyn Reopen> = Box::new(Target {
                connector: self.clone(),
                addresses,
                next: AtomicUsize::new((next + 1) % count.max(1)),
                last: AtomicUsize::new(next),
                name: name.to_owned(),
            });
            (target, backoff)
        });
        Ok(Session::start(
            halves,
            registered,
            again,
            self.filter.clone(),
            opened_at,
        ))
    }

    /// Opens a connection to the first of the servers that can be had. Says which it is, or
    /// which one the error is about.
    async fn open_first(
        &self,
        servers: &Address,
        name: &str,
    ) -> Result<(Opened, usize), (Address, ConnectError)> {
        let mut failure = (servers.clone(), ConnectError::Closed);
        for (index, address) in servers.all().enumerate() {
            let filter = self.register_filter();
            match self.open(address, name, None, filter).await {
                Ok(opened) => return Ok((opened, index)),
                // What another server of the room may do better.
                Err(error) if error.is_of_server() => failure = (address.clone(), error),
                Err(error) => return Err((address.clone(), error)),
            }
        }
        Err(failure)
    }
}
