//! Reload: what a configuration says anew, while the server runs.

use std::sync::Arc;

use crate::{
    limits::Limits,
    session::{AccessPolicy, Bans, Welcome},
};

use super::{Server, hub::Hub};

/// What a server can change while it runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// Limits, of which those count that are live ([`Limits::with_live`]).
    pub limits: Limits,
    /// Who may register.
    pub access: AccessPolicy,
    /// Who is kept out, by the file of `--deny`.
    pub denied: Bans,
    /// What is said to everybody who comes.
    pub welcome: Welcome,
}

/// Changes a server while it runs.
#[derive(Clone)]
pub struct Reloader(Arc<Hub>);

impl Server {
    /// What changes this server while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::clone(&self.hub))
    }
}

impl Reloader {
    /// Checks what is to be changed.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn check(&self, live: &Live) -> Result<(), String> {
        self.0.check_limits(&live.limits)
    }

    /// Changes it. Sessions that no longer fit are ended, and their clients told why.
    /// Returns what has changed, in words.
    pub fn apply(&self, live: Live) -> Vec<String> {
        self.0.reload(live)
    }
}
