//! Clock: time passes or jumps, and the server ticks and closes.

use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use crate::{
    room::Room,
    server::{CLOSING_GRACE_MS, slow_consumer::TICK_MS},
    session::Closing,
};

use super::{
    super::{
        lines::EPOCH,
        oracle::closing,
        pipe::{FNV_START, hash},
    },
    WALL_MS, World,
};

impl World {
    /// Time passes while the server runs.
    pub(in crate::server::simulation) async fn pass(&mut self, ms: u64) {
        self.note(format_args!("{ms} ms pass"));
        let mut left_ms = ms;
        while left_ms > 0 {
            let step_ms = left_ms.min(TICK_MS);
            left_ms -= step_ms;
            self.jump(step_ms).await;
            self.settle();
        }
    }

    /// Time passes while the server does not run, as when the machine is suspended.
    pub(in crate::server::simulation) async fn jump(&mut self, ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
        WALL_MS.set(WALL_MS.get() + ms as i64);
        if ms > TICK_MS {
            self.note(format_args!("the clock jumps by {ms} ms"));
            self.last_jump = Instant::now();
        }
        if self.last_tick.elapsed() >= Duration::from_millis(TICK_MS) {
            self.tick();
        }
        // As the server does it (src/server/mod.rs).
        let grace = Duration::from_millis(CLOSING_GRACE_MS);
        let is_over = self
            .closing
            .is_some_and(|closing| closing.elapsed() >= grace);
        if is_over && !self.is_aborted {
            self.abort();
        }
    }

    fn tick(&mut self) {
        self.expect_evictions();
        self.hub.tick();
        self.last_tick = Instant::now();
        let resume_below_bytes = self.limits.lag_bytes_max / 2 / 4 * 3;
        let is_long = self.hub.channel.retained_bytes() >= resume_below_bytes;
        let is_paced = self.hub.channel.paced_by_bytes().is_some();
        assert!(
            is_long || is_paced || !self.hub.channel.is_paused(),
            "CHAT-LIM-6: reads are paused for no slow consumer"
        );
        assert!(self.published().is_empty(), "a tick publishes nothing");
        self.oracle.check_names(&self.hub.names());
    }

    fn abort(&mut self) {
        let alive = self.alive();
        self.note(format_args!("the server aborts {alive} connections"));
        self.oracle.coverage.mark_if(alive > 0, "aborted");
        self.hub.abort();
        self.oracle.abort();
        self.is_aborted = true;
    }

    /// The operator sets the wall clock.
    pub(in crate::server::simulation) fn set_wall_clock(&mut self, unix_ms: i64) {
        self.note(format_args!("the wall clock shows {unix_ms}"));
        WALL_MS.set(unix_ms);
    }

    /// What the wall clock shows.
    pub(in crate::server::simulation) fn wall_unix_ms(&self) -> i64 {
        WALL_MS.get()
    }

    /// The server begins to close.
    pub(in crate::server::simulation) fn begin_closing(&mut self) {
        if self.closing.is_some() {
            return;
        }
        self.note(format_args!("the server closes"));
        self.check_replay();
        self.hub.begin_closing(Closing {
            detail: "the end".to_owned(),
            retry_after_ms: 1,
        });
        assert!(self.published().is_empty(), "CHAT-CLOSE-2");
        self.oracle.begin_closing(closing("the end"));
        self.closing = Some(Instant::now());
    }

    /// Applies the room's commands to a second room, which must publish the same bytes.
    fn check_replay(&mut self) {
        assert!(
            self.published().is_empty(),
            "all publications were checked before"
        );
        let mut room = Room::new(EPOCH.to_owned(), self.hub.limits());
        let mut replayed_hash = FNV_START;
        for command in self.hub.journal() {
            for published in room.apply(command).publications() {
                replayed_hash = hash(replayed_hash, &published.envelope.encode_to_vec());
            }
        }
        assert_eq!(
            replayed_hash, self.published_hash,
            "the room is deterministic"
        );
    }
}
