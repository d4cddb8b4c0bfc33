//! Reopen: connects again for a session that was lost, to each server of its room in turn.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::backoff::Failure;
use super::codec::Halves;
use super::connect::Connector;
use super::connect_error::ConnectError;
use super::driver::{Opened, Reopen};
use crate::address::Address;
use crate::wire::{self, Resume};

/// Where a session can be, and how to get there again.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) connector: Connector,
    /// The servers of its room.
    pub(super) addresses: Vec<Address>,
    /// The one to try next: first the one behind that of the session, since that one has
    /// just failed.
    pub(super) next: AtomicUsize,
    /// The one of the connection that was opened last.
    pub(super) last: AtomicUsize,
    pub(super) name: String,
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
