//! Polling: runs the server's connections, one at a time, and checks what each did.

use std::{
    pin::Pin,
    rc::Rc,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use prost::Message as _;
use tokio::time::Instant;

use crate::{
    server::reply_buffer::{REPLIES_PAUSE_BYTES, buffered_bytes_max},
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::{
    super::{
        oracle::{Observation, Quiescence},
        pipe::{ANNOUNCED_BYTES_MAX, hash},
    },
    SEGMENT_BYTES, World, first_frame, wall_ms,
};

/// How many polls may pass until no connection is woken any more: more than the longest
/// schedule needs.
const POLLS_UNTIL_QUIESCENT_MAX: usize = 200_000;

/// How much the server reads at once, in bytes (src/server/read_budget.rs).
const READ_BYTES: usize = 64 * 1024;

impl World {
    /// Polls one connection and checks what it did.
    fn poll(&mut self, index: usize) {
        let link = &mut self.links[index];
        let Some(connection) = &mut link.connection else {
            return;
        };
        link.wake_flag.0.store(false, Ordering::Relaxed);
        let log_end_before = self.hub.channel.committed_end();
        let position = connection.position();
        let was_read_from = connection.may_read();
        let was_paused = self.hub.channel.is_paused();
        let cx = &mut Context::from_waker(&link.waker);
        let is_over = Pin::new(&mut *connection).poll(cx) == Poll::Ready(());
        let (read_buffer_bytes, reply_bytes) = connection.memory_bytes();
        let position_after = connection.position();
        let is_read_from = was_read_from && connection.may_read();
        let (is_throttled, is_ended) = connection.is_throttled_or_ended();
        let is_woken = link.is_woken();
        if is_over {
            link.connection = None;
        }
        let pipe = Rc::clone(&link.pipe);
        let pipe = pipe.borrow();
        self.trace.line(format_args!(
            "        {index} is polled: has read {}, written {} ({:016x}), buffers {read_buffer_bytes} and {reply_bytes}{}",
            pipe.read_bytes,
            pipe.written_bytes,
            pipe.written_hash,
            if is_over { ", is gone" } else { "" }
        ));
        let published = self.published();
        let end = self.hub.channel.committed_end();
        let observed = Observation {
            is_alive: !is_over,
            is_read_from,
            is_throttled,
            read_buffer_bytes,
            is_ended,
            behind_bytes: position.map_or(0, |position| end.saturating_sub(position)),
            behind_bytes_after: position_after.map_or(0, |position| end.saturating_sub(position)),
            appended_bytes: end - log_end_before,
        };
        self.oracle
            .polled(index, &pipe, &observed, published, wall_ms());
        self.oracle.check_names(&self.hub.names());
        self.log_growth_bytes += end - log_end_before;
        assert!(
            !is_ended || read_buffer_bytes == 0 || is_woken,
            "an ended session keeps {read_buffer_bytes} bytes in its read buffer"
        );
        self.check_bounds(read_buffer_bytes, reply_bytes);
        if self.hub.channel.is_paused() && !was_paused {
            // CHAT-LIM-6. The connection that was just polled may have been the slow one,
            // and gone since.
            let positions = self.positions().chain(position);
            let most = positions.map(|it| end.saturating_sub(it)).max();
            let paced_by_bytes = self.hub.channel.paced_by_bytes();
            let behind_bytes = paced_by_bytes.unwrap_or(self.limits.lag_bytes_max / 4);
            assert!(
                most >= Some(behind_bytes),
                "CHAT-LIM-6: no consumer is slow"
            );
        }
        let coverage = &mut self.oracle.coverage;
        coverage.mark_if(reply_bytes >= REPLIES_PAUSE_BYTES, "replies full");
        let frame_bytes_max = self.limits.frame_bytes_max as usize;
        coverage.mark_if(read_buffer_bytes > 2 * frame_bytes_max, "backlog");
        coverage.mark_if(
            end / SEGMENT_BYTES > log_end_before / SEGMENT_BYTES,
            "segment boundary",
        );
        if self.hub.channel.is_paused() {
            self.last_paused = Some(Instant::now());
            coverage.mark("read pause");
            let is_paced = self.hub.channel.paced_by_bytes().is_some();
            coverage.mark_if(is_paced, "paced reads");
        }
    }

    /// Checks that buffers and log stay within the bounds that the limits add up to.
    fn check_bounds(&self, read_buffer_bytes: usize, reply_bytes: usize) {
        let frame_bytes_max = self.limits.frame_bytes_max as usize;
        assert!(
            read_buffer_bytes <= READ_BYTES + frame_bytes_max.max(1_024) + 10,
            "a read buffer of {read_buffer_bytes} bytes"
        );
        assert!(
            reply_bytes <= buffered_bytes_max(self.limits.frame_bytes_max, ANNOUNCED_BYTES_MAX),
            "replies of {reply_bytes} bytes"
        );
        let retained = self.hub.channel.retained_bytes();
        let retained_max = self.limits.lag_bytes_max + self.log_growth_bytes + 3 * SEGMENT_BYTES;
        assert!(retained <= retained_max, "a log of {retained} bytes");
    }

    /// Everything that was published since the last call.
    pub(super) fn published(&mut self) -> Vec<Message> {
        let mut published = Vec::new();
        loop {
            let mut ahead = self.publications.unsent().bytes;
            let bytes = ahead.len();
            if bytes == 0 {
                return published;
            }
            while let Some((body, used)) = first_frame(ahead) {
                let envelope = ServerEnvelope::decode(body).expect("the log holds envelopes");
                let message = envelope.message.expect("with messages");
                self.trace
                    .line(format_args!("        published: {message:.100?}"));
                if !matches!(message, Message::ServerClosing(_)) {
                    self.published_hash = hash(self.published_hash, body);
                }
                published.push(message);
                ahead = &ahead[used..];
            }
            assert!(ahead.is_empty(), "the log holds whole frames");
            self.publications.advance(bytes);
        }
    }

    /// Polls one woken connection, if there is one.
    pub(in crate::server::simulation) fn poll_one(&mut self) {
        let woken: Vec<_> = self.woken();
        if let Some(index) = self.rng.choice(woken) {
            self.poll(index);
        }
    }

    fn woken(&self) -> Vec<usize> {
        (0..self.links.len())
            .filter(|&index| self.links[index].is_woken())
            .collect()
    }

    /// Polls every woken connection once, in any order. Returns how many there were.
    pub(in crate::server::simulation) fn poll_woken(&mut self) -> usize {
        let mut woken = self.woken();
        self.rng.shuffle(&mut woken);
        for &index in &woken {
            self.poll(index);
        }
        // Every connection that was out of reach was closed when it was polled.
        self.log_growth_bytes = self.log_growth_bytes.min(self.limits.lag_bytes_max);
        woken.len()
    }

    /// Runs the server until no connection is woken, and checks that everything was done.
    pub(in crate::server::simulation) fn settle(&mut self) {
        let mut polls = 0;
        loop {
            polls += self.poll_woken();
            assert!(
                polls < POLLS_UNTIL_QUIESCENT_MAX,
                "connections wake each other without end"
            );
            for index in 0..self.links.len() {
                let link = &self.links[index];
                if link.behavior.is_reading && !self.is_done(index) {
                    self.read(index, usize::MAX);
                }
            }
            if self.woken().is_empty() {
                break;
            }
        }
        self.log_growth_bytes = 0;
        self.check_memory();
        assert!(!self.is_aborted || self.accepted() == 0, "CHAT-CLOSE-3");
        let quiescence = Quiescence {
            is_paused: self.hub.channel.is_paused(),
            last_paused: self.last_paused,
            last_tick: self.last_tick,
            last_jump: self.last_jump,
        };
        for (index, link) in self.links.iter().enumerate() {
            if link.is_alive() || !self.is_done(index) {
                let is_reading = link.behavior.is_reading && link.is_usable();
                self.oracle.check_quiescent(
                    index,
                    &link.pipe.borrow(),
                    is_reading,
                    link.is_alive(),
                    &quiescence,
                );
            }
        }
    }
}
