//! Check: what keeps a server from starting beside the files that it reads, for
//! `chat-server --check`: addresses that nothing knows, and places that something else has.

use std::net::ToSocketAddrs;
#[cfg(feature = "store")]
use std::path::Path;

use super::{control, options::Options};
use crate::address::Address;

impl Options {
    /// Checks the addresses and places of the server. Whether another server has them is
    /// none of it: it may be the one that the operator wants to restart.
    pub(super) fn check_places(&self) -> Result<(), String> {
        let listens = self.listen().into_iter().chain(self.metrics.as_deref());
        for listen in listens.chain(self.reach.all_listens()) {
            check_listen(listen)?;
        }
        if let Some(path) = &self.control {
            let checked = control::check_path(path);
            checked.map_err(|error| {
                format!("cannot have the control socket {}: {error}", path.display())
            })?;
        }
        #[cfg(feature = "store")]
        if let Some(data) = self.data() {
            check_folder(&data.dir)?;
        }
        Ok(())
    }
}

/// Whether an address has a host that the system finds.
fn check_listen(listen: &str) -> Result<(), String> {
    let address = Address::parse_listen(listen).map_err(|error| error.to_string())?;
    // Every address of the machine.
    if address.host().is_empty() {
        return Ok(());
    }
    let found = (address.host(), address.port()).to_socket_addrs();
    found
        .map(drop)
        .map_err(|error| format!("cannot listen on {listen}: {error}"))
}

/// Whether a folder is there, or may be made.
#[cfg(feature = "store")]
fn check_folder(folder: &Path) -> Result<(), String> {
    match folder.metadata() {
        Ok(found) if !found.is_dir() => Err(format!("{} is no folder", folder.display())),
        _ => Ok(()),
    }
}
