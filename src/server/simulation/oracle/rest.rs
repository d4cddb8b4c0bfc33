//! What must have happened when nobody has anything to do until time passes or
//! something comes: whoever reads has all that is due, and what must end has ended.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    server::slow_consumer::TICK_MS,
    wire::{Capability, LeftReason},
};

use super::{super::stream::Wire, ASKED_WITHIN, Oracle, Rest, View, flood_window};

impl Oracle {
    /// Checks one connection when nobody has anything to do until time passes or
    /// something comes. `is_reading`: its peer has read all there is.
    pub(in crate::server::simulation) fn at_rest(
        &self,
        of: usize,
        wire: &Wire,
        is_reading: bool,
        is_alive: bool,
        rest: &Rest,
    ) {
        let view = &self.views[of];
        let limits = &self.limits;
        let since_tick = |since: Instant| rest.ticked.saturating_duration_since(since);
        let write_deadline = Duration::from_millis(limits.write_deadline_ms.into());
        let is_member = self.model.is_member(of);
        let is_over =
            view.is_turned_away || self.model.has_gone(of) || self.is_closing() || !is_alive;

        // What must end has ended.
        if !is_over && !self.model.has_come(of) && wire.arrived_bytes == 0 {
            let deadline = Duration::from_millis(limits.register_deadline_ms.into());
            // Before it registers, it is told nothing but its end.
            let is_told = wire.is_shut_down || wire.written_bytes > 0;
            assert!(
                is_told || since_tick(view.connected) < deadline,
                "CHAT-REG-5: {of}"
            );
        }
        if !is_over && is_member {
            assert!(
                !wire.end_is_read && !wire.break_is_seen,
                "CHAT-LEAVE-5: {of}"
            );
            // Twice: something may have been taken while the first one ran. Each is
            // noticed at the end of a step.
            let late = Duration::from_millis(2 * TICK_MS + 2);
            let blocked = wire.blocked().min(rest.slept.elapsed());
            assert!(blocked < 2 * write_deadline + late, "CHAT-LIM-5: {of}");
            // A Ping comes first, and that is a tick earlier at the least.
            let idle = Duration::from_millis(u64::from(limits.idle_deadline_ms) + 2 * TICK_MS);
            let was_paused = rest.paused.is_some_and(|paused| since_tick(paused) < idle);
            if view.grants(Capability::Keepalive) && is_reading && !was_paused {
                assert!(
                    since_tick(view.heard.max(view.unread).max(rest.slept)) < idle,
                    "CHAT-KEEP-4: {of}"
                );
            }
        }
        if let Some(since) = view.waits.filter(|_| !is_over && !view.is_ended)
            && !self.model.has_come(of)
        {
            let answered = self.name_is_answered(view, since);
            assert!(
                answered.is_none_or(|answered| rest.ticked <= answered),
                "CHAT-NAME-7: {of} waits for nothing"
            );
        }
        if let Some(since) = view.held_up.filter(|_| is_member) {
            // What is more than may come at once is forgotten in as much time.
            let flood = view.flood(wire, limits) + Duration::from_millis(2 * TICK_MS);
            assert!(
                since_tick(since) + flood_window(limits) <= flood,
                "CHAT-LIM-9: {of} is held up for good"
            );
        }
        if !is_reading || wire.is_cut_off || wire.is_reset {
            return;
        }

        // What a member should get, it has got.
        if is_member {
            if let Some(message) = self.model.next_for(of) {
                panic!("CHAT-CHAT-1: {of} has not got {message:?}");
            }
            assert!(
                view.is_registered && !view.members_are_due,
                "{of} is still to be told"
            );
            if view.grants(Capability::Presence) {
                self.model.check_knowledge(of);
            }
            if !rest.is_paused && view.held_up.is_none() {
                assert_eq!(wire.arrived_bytes, 0, "{of} is not read from");
                for index in view.answered..view.frames_that_count() {
                    let sent = &view.frames[index].sent;
                    assert!(view.may_be_silent(index), "{of} has no answer to {sent:?}");
                }
            }
        }
        // Who was read to all along has heard how it ended, and all before that.
        let was_read_to = wire.blocked_longest.max(wire.blocked()) < write_deadline;
        // Who has left and goes on to take memory is closed without a word.
        let is_cut_short = view.may_be_evicted && view.last_word.is_none();
        let is_told = self.model.has_gone(of) && was_read_to && !self.is_at_end && !is_cut_short;
        if is_told && !wire.break_is_seen {
            // A stream that ended inside a frame is an error (CHAT-FRAME-10), behind
            // which nothing is sent; one that ended between two is a Leave
            // (CHAT-LEAVE-5).
            let left_in_order = match view.reason {
                None | Some(LeftReason::Leave) => true,
                Some(LeftReason::ConnectionLost) => !view.is_inside_frame(wire),
                _ => false,
            };
            if left_in_order && let Some(message) = self.model.next_for(of) {
                panic!("CHAT-LEAVE-2, CHAT-CLOSE-6: {of} has not got {message:?}");
            }
            let is_silent = left_in_order && view.reason.is_some();
            assert!(
                is_silent || view.last_word.is_some(),
                "{of} was not told why"
            );
            assert!(view.has_end, "{of} is not closed");
        }
    }

    /// Since when it is clear what a Register that has waited `since` then is to be
    /// told, if it is.
    fn name_is_answered(&self, newcomer: &View, since: Instant) -> Option<Instant> {
        let Some(owner) = self.model.owner(&newcomer.name) else {
            let name = newcomer.name.to_ascii_lowercase();
            return self.freed.get(&name).copied();
        };
        let owner = &self.views[owner];
        if !owner.grants(Capability::Keepalive) || owner.joined_at > since {
            return Some(owner.joined_at.max(since));
        }
        // Who is not read from for a while is judged later.
        let is_heard = owner.heard > since + ASKED_WITHIN && owner.unread < since;
        is_heard.then_some(owner.heard)
    }
}
