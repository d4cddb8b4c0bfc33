//! Quiescence: what must have happened once no connection has anything to do until time
//! passes or bytes arrive. A client that reads has received everything that is due, and
//! every session that must end has ended.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    server::slow_consumer::TICK_MS,
    wire::{Capability, LeftReason},
};

use super::{
    super::pipe::Pipe, ConnectionRecord, Oracle, PROBED_WITHIN, Quiescence, inbound_window,
};

impl Oracle {
    /// Checks one connection. `is_reading`: its client has read everything there is.
    pub(in crate::server::simulation) fn check_quiescent(
        &self,
        of: usize,
        pipe: &Pipe,
        is_reading: bool,
        is_alive: bool,
        quiescence: &Quiescence,
    ) {
        let is_over = self.records[of].is_rejected
            || self.model.has_left(of)
            || self.is_closing()
            || !is_alive;
        if !is_over {
            self.check_deadlines(of, pipe, is_reading, quiescence);
        }
        self.check_inbound_rate(of, pipe, quiescence);
        if !is_reading || pipe.lost_last_bytes || pipe.is_reset {
            return;
        }
        if self.model.is_member(of) {
            self.check_member_received(of, pipe, quiescence);
        }
        if self.model.has_left(of) && !self.is_aborted {
            self.check_end_received(of, pipe);
        }
    }

    /// Checks that a connection has ended if a deadline has passed.
    fn check_deadlines(&self, of: usize, pipe: &Pipe, is_reading: bool, quiescence: &Quiescence) {
        let record = &self.records[of];
        let limits = &self.limits;
        let since_tick = |since: Instant| quiescence.last_tick.saturating_duration_since(since);
        if !self.model.has_joined(of) && pipe.arrived_bytes == 0 {
            let deadline = Duration::from_millis(limits.register_deadline_ms.into());
            // Before it registers, the server sends it nothing but its end.
            let is_ended = pipe.is_shut_down || pipe.written_bytes > 0;
            assert!(
                is_ended || since_tick(record.connected_at) < deadline,
                "CHAT-REG-5: {of} has not registered"
            );
        }
        if self.model.is_member(of) {
            assert!(
                !pipe.eof_is_read && !pipe.reset_is_seen,
                "CHAT-LEAVE-5: {of} is gone and still a member"
            );
            // Twice the deadline: the client may have taken something during the first.
            // Each is noticed at the end of a step of the clock.
            let deadline = 2 * Duration::from_millis(limits.write_deadline_ms.into());
            let late = Duration::from_millis(2 * TICK_MS + 2);
            let blocked = pipe.blocked().min(quiescence.last_jump.elapsed());
            assert!(
                blocked < deadline + late,
                "CHAT-LIM-5: {of} takes nothing and is still a member"
            );
            // The server pings first, and that is a tick earlier at least.
            let idle_deadline =
                Duration::from_millis(u64::from(limits.idle_deadline_ms) + 2 * TICK_MS);
            let was_paused = quiescence
                .last_paused
                .is_some_and(|paused| since_tick(paused) < idle_deadline);
            if record.grants(Capability::Keepalive) && is_reading && !was_paused {
                let last_activity = record.last_activity.max(record.last_not_read);
                // The time to answer a Ping begins when it has arrived.
                let since = last_activity.max(quiescence.last_jump).max(pipe.caught_up);
                assert!(
                    since_tick(since) < idle_deadline,
                    "CHAT-KEEP-4: {of} is silent and still a member"
                );
            }
        }
        if let Some(since) = record.awaiting_name_since.filter(|_| !record.is_ended)
            && !self.model.has_joined(of)
        {
            let decided_at = self.name_decided_at(record, since);
            assert!(
                decided_at.is_none_or(|decided_at| quiescence.last_tick <= decided_at),
                "CHAT-NAME-7: {of} still waits for its name"
            );
        }
    }

    /// Checks that a throttled member is read from again in time (CHAT-LIM-9).
    fn check_inbound_rate(&self, of: usize, pipe: &Pipe, quiescence: &Quiescence) {
        let record = &self.records[of];
        let throttled_since = record.throttled_since;
        let is_judged = self.model.is_member(of) && !record.may_await_following();
        let Some(since) = throttled_since.filter(|_| is_judged) else {
            return;
        };
        let throttled = quiescence.last_tick.saturating_duration_since(since);
        // The bucket empties in as much time as the rate allows for the bytes in it.
        let cost = record.inbound_cost(pipe, &self.limits) + Duration::from_millis(2 * TICK_MS);
        assert!(
            throttled + inbound_window(&self.limits) <= cost,
            "CHAT-LIM-9: {of} is throttled for too long"
        );
    }

    /// Checks that a member has received everything that is due to it.
    fn check_member_received(&self, of: usize, pipe: &Pipe, quiescence: &Quiescence) {
        let record = &self.records[of];
        if let Some(message) = self.model.next_for(of) {
            panic!("CHAT-CHAT-1: {of} has not received {message:?}");
        }
        assert!(
            record.is_registered && !record.members_due,
            "CHAT-REG-3, CHAT-PRES-1: {of} has not received Registered and all members"
        );
        if record.grants(Capability::Presence) {
            self.model.check_known_members(of);
        }
        self.check_directs(of, quiescence);
        self.check_coverage(of, pipe, quiescence);
        if !quiescence.is_paused && record.throttled_since.is_none() {
            assert_eq!(pipe.arrived_bytes, 0, "{of} is not read from");
            for index in record.answered_count..record.counted_frames() {
                let sent = &record.frames[index].sent;
                assert!(
                    record.may_go_unanswered(index),
                    "CHAT-ORD-8: {of} has received no answer to {sent:?}"
                );
            }
        }
    }

    /// Checks that a member with a filter knows in time up to where it has everything
    /// (CHAT-COV-2).
    fn check_coverage(&self, of: usize, pipe: &Pipe, quiescence: &Quiescence) {
        let Some(seq) = self.model.first_uncovered(of) else {
            return;
        };
        let accepted_at = self.accepted_at[seq as usize - 1];
        let since = accepted_at.max(quiescence.last_jump).max(pipe.caught_up);
        let interval_ms = u64::from(self.limits.covered_interval_ms) + 2 * TICK_MS;
        assert!(
            quiescence.last_tick.saturating_duration_since(since)
                < Duration::from_millis(interval_ms),
            "CHAT-COV-2: {of} does not know that {seq} is passed"
        );
    }

    /// Checks that a client that has left received why, and everything before that.
    fn check_end_received(&self, of: usize, pipe: &Pipe) {
        let record = &self.records[of];
        let write_deadline = Duration::from_millis(self.limits.write_deadline_ms.into());
        let was_too_slow = pipe.longest_blocked.max(pipe.blocked()) >= write_deadline;
        // The server closes a leaving member that takes too much memory without a word.
        let is_evicted = record.may_be_evicted && record.final_message.is_none();
        if was_too_slow || is_evicted || pipe.reset_is_seen {
            return;
        }
        // A stream that ends inside a frame is an error (CHAT-FRAME-10), and nothing may
        // follow the error. One that ends between two frames is a Leave (CHAT-LEAVE-5).
        let left_in_order = match record.reason {
            // CHAT-RES-5: nothing that is due is left out in order, but for the reason.
            _ if record.ended_with.is_some() => false,
            None | Some(LeftReason::Leave) => true,
            Some(LeftReason::ConnectionLost) => !record.is_inside_frame(pipe),
            _ => false,
        };
        if left_in_order && let Some(message) = self.model.next_for(of) {
            panic!("CHAT-LEAVE-2, CHAT-CLOSE-6: {of} has not received {message:?}");
        }
        let needs_no_reason = left_in_order && record.reason.is_some();
        assert!(
            needs_no_reason || record.final_message.is_some(),
            "{of} has not received why its session ended"
        );
        assert!(record.saw_end, "{of} is not closed");
    }

    /// When it was clear how the server must answer a Register that waits for a name
    /// since `since`; `None` while it is not.
    fn name_decided_at(&self, waiting: &ConnectionRecord, since: Instant) -> Option<Instant> {
        let Some(holder) = self.model.holder(&waiting.name) else {
            let name = waiting.name.to_ascii_lowercase();
            return self.freed_at.get(&name).copied();
        };
        let holder = &self.records[holder];
        if !holder.grants(Capability::Keepalive) || holder.joined_at > since {
            return Some(holder.joined_at.max(since));
        }
        // The probe of a holder that the server did not read from takes longer.
        let has_answered =
            holder.last_activity > since + PROBED_WITHIN && holder.last_not_read < since;
        has_answered.then_some(holder.last_activity)
    }
}
