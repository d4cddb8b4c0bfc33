//! Registers that wait: for the proof of their key, for their name, or for the place of their
//! Join in the order of a cluster.

use std::sync::Arc;

use crate::{
    filter::Filter,
    identity::{Nonce, PublicKey},
    name::Name,
    room::{Claim, Token},
};

use super::granted::Granted;

/// A Register that waits: for the proof of its key, or for a name.
#[derive(Debug, Clone)]
pub(super) struct PendingRegister {
    /// When the connection was accepted; the register deadline counts from there.
    pub(super) since_ms: u64,
    pub(super) name: Name,
    pub(super) granted: Granted,
    /// The line that it continues.
    pub(super) claim: Option<Claim>,
    /// Its key, proved when it waits for the name.
    pub(super) key: Option<PublicKey>,
    pub(super) filter: Option<Arc<Filter>>,
}

/// A Register whose key is not proved yet.
#[derive(Debug)]
pub(super) struct PendingProof {
    pub(super) nonce: Nonce,
    pub(super) register: PendingRegister,
}

/// A Register whose Join was made.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) name: Name,
    pub(super) granted: Granted,
    pub(super) token: Option<Token>,
    pub(super) has_key: bool,
    pub(super) filter: Option<Arc<Filter>>,
    /// The Register, if it has not waited for its name yet: the holder may be one of another
    /// node, of which this one did not know.
    pub(super) unchecked: Option<Box<PendingRegister>>,
}
