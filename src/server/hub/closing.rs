//! How a server ends: everybody is told, then every connection is closed.

use std::sync::atomic::Ordering;

use tracing::{error, info};

use crate::session::Closing;

use super::{Hub, State};

impl Hub {
    /// Whether connections must end at once.
    pub(in crate::server) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Acquire)
    }

    /// Tells everybody that the server closes (CHAT-CLOSE-1). Connections that come
    /// later are told so too.
    pub(in crate::server) fn begin_closing(&self, closing: Closing) {
        let mut state = self.lock();
        let State { sessions, room, .. } = &mut *state;
        sessions.begin_closing(closing);
        info!(
            members = room.member_count(),
            messages = room.seq(),
            "closing"
        );
        drop(state);
        self.registry.notify_all();
    }

    /// The server cannot go on: tells everybody `told`, without what was not committed.
    #[cfg_attr(
        not(any(feature = "store", feature = "cluster")),
        expect(dead_code, reason = "for the store and the cluster")
    )]
    pub(in crate::server) fn fail(&self, told: &str, reason: String) {
        error!("{reason}");
        self.lock().sessions.begin_failing(told.to_owned());
        let _ = self.failure.set(reason);
        self.failed.notify_one();
        self.registry.notify_all();
    }

    /// Why the server cannot go on, if it cannot.
    pub(in crate::server) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits until the server cannot go on.
    pub(in crate::server) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// When clients are to come back after the server has closed, in milliseconds.
    pub(in crate::server) fn back_in_ms(&self) -> u32 {
        self.back_in_ms.load(Ordering::Relaxed)
    }

    /// Waits until the operator asks the server to close.
    pub(in crate::server) async fn close_requested(&self) {
        self.close_requested.notified().await;
    }

    /// Ends all connections at once, whatever they still have to send.
    pub(in crate::server) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
        self.registry.wake_all();
    }
}
