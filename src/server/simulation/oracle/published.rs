//! Published: what one poll of a connection publishes, and whether its client gave
//! reason for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::{Capability, Chat, ErrorCode, Left, LeftReason, server_envelope::Message};

use super::{
    super::{lines::Judged, pipe::Pipe, sent::Sent},
    Observation, Oracle, PROBED_WITHIN, inbound_window,
};

impl Oracle {
    /// A connection was polled and published these messages.
    pub(in crate::server::simulation) fn polled(
        &mut self,
        by: usize,
        pipe: &Pipe,
        observed: &Observation,
        published: Vec<Message>,
        unix_ms: i64,
    ) {
        self.turn += 1;
        let holder = self.model.holder(&self.records[by].name);
        let mut holder = holder.filter(|&holder| holder != by);
        let had_read_nothing = self.records[by].frames_read == 0;
        self.note_read_frames(by, pipe, observed);
        if !(self.records[by].is_ended || self.model.has_joined(by)) {
            match self.judge(by, unix_ms) {
                Some(Judged::Replaced) => self.records[by].is_outdated = true,
                // CHAT-RES-5: that session is no obstacle.
                Some(Judged::Valid { open, .. }) => {
                    self.records[by].is_outdated = false;
                    holder = holder.filter(|_| holder != open);
                }
                _ => self.records[by].is_outdated = false,
            }
        }
        let is_banned = self.is_banned(&self.records[by].name);
        let record = &mut self.records[by];
        if !record.is_ended && !self.model.has_joined(by) && record.frames_read > 0 {
            // A Register that waits is answered by what holds when the wait is over.
            record.is_name_taken = holder.is_some();
            record.is_banned = is_banned;
        }
        let requests_name = had_read_nothing
            && record.has_valid_register()
            && !(record.is_rejected || record.is_outdated || is_banned || self.is_closing());
        if let Some(holder) = holder.filter(|_| requests_name) {
            self.records[by].awaiting_name_since = Some(Instant::now());
            self.records[holder].name_requests.push(Instant::now());
        }
        for message in published {
            self.published(by, pipe, observed, message, unix_ms);
        }
        let record = &self.records[by];
        let register_deadline = Duration::from_millis(self.limits.register_deadline_ms.into());
        let must_join =
            requests_name && holder.is_none() && record.connected_at.elapsed() < register_deadline;
        assert!(
            !must_join || self.model.has_joined(by),
            "CHAT-NAME-6: {} has not joined",
            record.name
        );
        assert!(
            !(record.must_be_evicted && self.model.is_member(by)),
            "CHAT-LIM-10: {by} takes the most memory and is still a member"
        );
        self.check_throttling(by, pipe, observed);
        self.check_membership(by, pipe, observed);
        let record = &mut self.records[by];
        record.is_ended = observed.is_ended;
        record.must_be_evicted = false;
    }

    /// Notes which frames the server has read.
    fn note_read_frames(&mut self, by: usize, pipe: &Pipe, observed: &Observation) {
        let record = &mut self.records[by];
        let now = Instant::now();
        record.previous_activity = record.last_activity;
        if !observed.is_read_from {
            record.last_not_read = now;
        }
        while let Some(frame) = record.frames.get_mut(record.frames_read)
            && frame.ends_at <= pipe.read_bytes
        {
            frame.read = Some(now);
            frame.read_in = self.turn;
            frame.seq_when_read = self.model.seq();
            record.frames_read += 1;
            record.last_activity = now;
        }
    }

    /// Checks that a member is neither closed nor out of reach.
    fn check_membership(&self, by: usize, pipe: &Pipe, observed: &Observation) {
        if !self.model.is_member(by) {
            return;
        }
        assert!(
            !pipe.is_shut_down && observed.is_alive,
            "CHAT-NAME-5: the connection of {} is closed, and it is still a member",
            self.records[by].name
        );
        let behind_bytes = observed
            .behind_bytes_after
            .saturating_sub(observed.appended_bytes);
        assert!(
            behind_bytes <= self.limits.lag_bytes_max,
            "CHAT-LIM-5: {by} is {behind_bytes} bytes behind and still a member"
        );
    }

    /// Checks that the server has reason not to read from a connection, and notes since
    /// when it does not (CHAT-LIM-6).
    fn check_throttling(&mut self, by: usize, pipe: &Pipe, observed: &Observation) {
        let record = &mut self.records[by];
        if !observed.is_throttled || observed.is_ended {
            record.throttled_since = None;
            return;
        }
        // If it has judged more bytes, it went on in between.
        let judged_bytes = pipe.read_bytes - observed.read_buffer_bytes as u64;
        let since = record
            .throttled_since
            .filter(|_| judged_bytes == record.judged_bytes);
        record.throttled_since = Some(since.unwrap_or_else(Instant::now));
        record.judged_bytes = judged_bytes;
        if record.may_await_following() {
            return;
        }
        if !self.model.has_joined(by) {
            assert!(
                record.awaiting_name_since.is_some(),
                "CHAT-LIM-6: {by} is not read from and waits for no name"
            );
            self.coverage.mark("name probe");
            return;
        }
        assert!(
            record.inbound_cost(pipe, &self.limits) > inbound_window(&self.limits),
            "CHAT-LIM-6: {by} is throttled and does not send too much"
        );
        self.coverage.mark("throttled");
    }

    fn published(
        &mut self,
        by: usize,
        pipe: &Pipe,
        observed: &Observation,
        message: Message,
        unix_ms: i64,
    ) {
        if let Message::Left(left) = &message
            && !self.model.is_member(by)
        {
            return self.replaced(by, left.clone(), unix_ms);
        }
        let reasons = self.possible_reasons(by, pipe, observed);
        let is_banned = self.is_banned(&self.records[by].name);
        let record = &mut self.records[by];
        match &message {
            Message::Joined(joined) => {
                let has_registered = record.has_valid_register();
                assert!(has_registered, "{} joins without a Register", joined.name);
                assert!(!is_banned, "CHAT-MOD-3: {} joins", joined.name);
                record.joined_at = Instant::now();
                let has_waited = record.awaiting_name_since.is_some();
                self.coverage
                    .mark_if(has_waited, "joins after a name probe");
            }
            Message::Left(left) => {
                assert!(
                    reasons.contains(&left.reason()),
                    "CHAT-PRES-5: {left:?}, but the reason can be {reasons:?}"
                );
                self.coverage.mark(left.reason().as_str_name());
                let is_out_of_reach = observed.behind_bytes > self.limits.lag_bytes_max;
                self.coverage.mark_if(is_out_of_reach, "out of reach");
                record.was_out_of_reach = is_out_of_reach;
                record.left_at = Instant::now();
                record.activity_before_end = record.last_activity_before_end(pipe);
                record.reason = Some(left.reason());
                let name = record.name.to_ascii_lowercase();
                self.freed_at.insert(name, Instant::now());
                let is_over = left.reason() == LeftReason::Leave;
                self.model.lines.left(by, is_over, unix_ms);
            }
            Message::Chat(chat) => {
                assert_eq!(chat.time_unix_ms, unix_ms, "CHAT-CHAT-5");
                assert_eq!(chat.id, 0, "CHAT-CHAT-9");
                let is_muted = matches!(record.mutes.last(), Some((_, None)));
                assert!(!is_muted, "CHAT-MOD-4: {chat:?}");
                // An earlier frame than one that was answered cannot be accepted now.
                let first = record.next_chat.max(record.answered_count);
                let found = (first..record.counted_frames()).find(|&index| {
                    let sent = &record.frames[index].sent;
                    matches!(sent, Sent::Chat { text, rejection: None, .. } if *text == chat.text)
                });
                let Some(index) = found else {
                    panic!(
                        "CHAT-ORD-3: {} did not send this next: {chat:?}",
                        record.name
                    );
                };
                record.frames[index].seq = Some(chat.seq);
                record.frames[index].unix_ms = unix_ms;
                record.next_chat = index + 1;
                record.accepted_at.push(Instant::now());
                let is_labelled = record.grants(Capability::Follow);
                let Sent::Chat {
                    id,
                    topic,
                    mentions,
                    ..
                } = &record.frames[index].sent
                else {
                    unreachable!("a chat was looked for");
                };
                let labels = (chat.topic.as_str(), chat.mentions.as_slice());
                let sent = match is_labelled {
                    true => (topic.as_str(), mentions.as_slice()),
                    false => ("", [].as_slice()),
                };
                assert_eq!(labels, sent, "CHAT-FOL-2");
                let id = *id;
                self.model.lines.accepted(by, id, (chat.seq, unix_ms));
                self.note_accepted(chat);
            }
            _ => {}
        }
        let has_joined = matches!(message, Message::Joined(_));
        self.model.publish(by, message);
        if has_joined && self.records[by].grants(Capability::Resume) {
            let claim = self.records[by].claim().cloned();
            self.model.join_line(by, claim.as_ref(), unix_ms);
            self.records[by].accepted_before = self.model.lines.all_accepted(by);
        }
    }

    /// What must become of the line that a connection wants to continue, once its Register
    /// was read.
    fn judge(&self, by: usize, unix_ms: i64) -> Option<Judged> {
        let record = &self.records[by];
        let claim = record.claim().filter(|_| record.frames_read > 0)?;
        let seq = self.model.seq();
        Some(self.model.lines.judge(claim, &record.name, seq, unix_ms))
    }

    /// A chat was accepted: notes when, and what filters make of it.
    pub(super) fn note_accepted(&mut self, chat: &Chat) {
        self.accepted_at.push(Instant::now());
        let is_kept_out = (0..self.records.len()).any(|of| self.model.is_kept_out(of, chat));
        self.coverage.mark_if(is_kept_out, "kept out by a filter");
    }

    /// A connection that registers has ended the session of another (CHAT-RES-5).
    fn replaced(&mut self, by: usize, left: Left, unix_ms: i64) {
        let of = self.model.holder(&left.name);
        let of = of.unwrap_or_else(|| panic!("nobody is there for {left:?}"));
        let open = match self.judge(by, unix_ms) {
            Some(Judged::Valid { open, .. }) => open,
            _ => None,
        };
        assert_eq!(open, Some(of), "CHAT-RES-5, CHAT-NAME-8: {by} ends {of}");
        assert_eq!(left.reason(), LeftReason::ConnectionLost, "CHAT-PRES-5");
        self.end_by_other(of, ErrorCode::Replaced, left, unix_ms);
    }

    /// Another connection, or the operator, has ended a session.
    pub(super) fn end_by_other(&mut self, of: usize, code: ErrorCode, left: Left, unix_ms: i64) {
        let record = &mut self.records[of];
        record.ended_with = Some(code);
        record.left_at = Instant::now();
        record.activity_before_end = record.last_activity;
        record.reason = Some(left.reason());
        self.coverage.mark(left.reason().as_str_name());
        let name = record.name.to_ascii_lowercase();
        self.freed_at.insert(name, Instant::now());
        let is_over = code != ErrorCode::Replaced;
        self.model.lines.left(of, is_over, unix_ms);
        self.model.publish(of, Message::Left(left));
    }

    /// The reasons for which a session can end now.
    fn possible_reasons(&self, of: usize, pipe: &Pipe, observed: &Observation) -> Vec<LeftReason> {
        let record = &self.records[of];
        let limits = &self.limits;
        let mut reasons = Vec::new();
        match record.ending_frame() {
            Some(Sent::Leave) => reasons.push(LeftReason::Leave),
            Some(_) => reasons.push(LeftReason::ProtocolError),
            None => {}
        }
        if pipe.eof_is_read || pipe.reset_is_seen {
            reasons.push(LeftReason::ConnectionLost);
        }
        if pipe.blocked() >= Duration::from_millis(limits.write_deadline_ms.into())
            || observed.behind_bytes > limits.lag_bytes_max
            || record.may_be_evicted
        {
            reasons.push(LeftReason::SlowConsumer);
        }
        if limits
            .errors_max
            .is_some_and(|most| record.rejectable_count() > most as usize)
        {
            reasons.push(LeftReason::ProtocolError);
        }
        let last_activity = record.last_activity_before_end(pipe);
        let idle_deadline = Duration::from_millis(limits.idle_deadline_ms.into());
        // CHAT-NAME-8: another client asked for the name, and the probe had no answer.
        let probe_deadline = Duration::from_millis(limits.name_check_deadline_ms.into());
        let has_probe_timed_out = record.name_requests.iter().any(|&request| {
            last_activity <= request + PROBED_WITHIN
                && request.elapsed() >= probe_deadline
                && last_activity.elapsed() >= probe_deadline
        });
        let is_idle = last_activity.elapsed() >= idle_deadline;
        if record.grants(Capability::Keepalive) && (is_idle || has_probe_timed_out) {
            reasons.push(LeftReason::IdleTimeout);
        }
        reasons
    }
}
