//! Link: the server's connection, the in-memory pipe, and the client at its other end.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use crate::server::connection::Connection;

use super::pipe::{Pipe, ServerEnd};

/// One connection, from both ends.
pub(super) struct Link {
    /// The server's connection; `None` once it is gone.
    pub(super) connection: Option<Connection<ServerEnd>>,
    pub(super) wake_flag: Arc<WakeFlag>,
    pub(super) waker: Waker,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    pub(super) behavior: Behavior,
    /// Bytes of a frame that the client has not read to its end.
    pub(super) unparsed: Vec<u8>,
    /// The server rejected the connection when it was accepted.
    pub(super) is_rejected: bool,
    /// The address that it counts for; `None` if its address is not limited.
    pub(super) address_key: Option<u8>,
    /// How many chats the client has sent.
    pub(super) chats: u64,
    /// Where its client keeps what it needs to come back, among all of them.
    pub(super) kept: Option<usize>,
    /// The client has closed the connection.
    pub(super) has_closed: bool,
}

/// What a client keeps to come back with.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) capabilities: Vec<i32>,
    pub(super) token: Vec<u8>,
    pub(super) earlier_token: Vec<u8>,
    /// The number up to which it has everything.
    pub(super) seq: u64,
    pub(super) attempt: u32,
    /// Its last connection that was registered.
    pub(super) link: usize,
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub(super) struct Behavior {
    /// It reads everything at once.
    pub(super) is_reading: bool,
    /// Everything that it sends arrives at once.
    pub(super) delivers_at_once: bool,
    /// It answers pings and Directs.
    pub(super) answers_pings: bool,
    /// It closes the connection after the server has.
    pub(super) closes_after_server: bool,
}

/// The waker of a connection: sets a flag that the world looks at.
pub(super) struct WakeFlag(pub(super) AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Link {
    /// Whether the server has the connection.
    pub(super) fn is_alive(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether the client can still do something.
    pub(super) fn is_usable(&self) -> bool {
        let pipe = self.pipe.borrow();
        !(pipe.is_reset || pipe.is_client_closed || self.has_closed)
    }

    /// Whether the server's connection must be polled.
    pub(super) fn is_woken(&self) -> bool {
        self.is_alive() && self.wake_flag.0.load(Ordering::Relaxed)
    }
}
