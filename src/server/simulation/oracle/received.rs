//! Received: what a client receives, and whether it is due to it.

use std::time::Duration;

use crate::wire::{
    Capability, Error, ErrorCode, LeftReason, Registered, ResumeFailure, server_envelope::Message,
};

use super::{
    super::{filter::NaiveFilter, pipe::Pipe, sent::Sent},
    ConnectionRecord, Oracle, closing,
};

/// How long the server must linger at least while its client has not closed.
const LINGER_MIN: Duration = Duration::from_millis(1_000);

/// In how much time the server forgets one non-fatal error, in milliseconds.
const ERROR_FORGOTTEN_MS: u64 = 100;

impl Oracle {
    /// A client has received a message.
    pub(in crate::server::simulation) fn received(
        &mut self,
        by: usize,
        pipe: &Pipe,
        message: Message,
    ) {
        let record = &self.records[by];
        assert_eq!(
            record.final_message, None,
            "CHAT-ERR-1, CHAT-CLOSE-2: {message:?} comes behind the final message"
        );
        assert!(!record.saw_end, "{message:?} comes behind the end");
        if let Message::Error(error) = &message {
            self.coverage.mark(error.code().as_str_name());
        }
        if !record.is_registered {
            let may_be_first = match &message {
                Message::Registered(_) => true,
                Message::Error(error) => error.ends_session,
                Message::ServerClosing(_) => self.is_closing(),
                _ => false,
            };
            assert!(may_be_first, "CHAT-REG-3: {message:?} comes first");
        }
        let is_members = matches!(message, Message::Members(_));
        let record = &mut self.records[by];
        if record.members_due && self.model.knows_no_member(by) {
            assert!(is_members, "CHAT-PRES-1: {message:?} comes before Members");
        }
        match message {
            Message::Chat(_) | Message::Joined(_) | Message::Left(_) => {
                let is_removed = matches!(&message, Message::Chat(chat) if chat.removed);
                self.coverage.mark_if(is_removed, "removed text");
                self.model.receive(by, &message);
            }
            Message::ServerClosing(ref told) => {
                assert!(self.model.is_closing(), "the server does not close");
                assert!(told.retry_after_ms > 0, "CHAT-CLOSE-7");
                if self.model.has_joined(by) {
                    self.model.receive(by, &closing(&told.detail));
                }
                record.final_message = Some(message);
            }
            Message::Members(members) => {
                assert!(record.members_due, "CHAT-PRES-1: no further page is due");
                self.model.receive_members(by, &members.names);
                // The last page may be empty: its members may have left since.
                let has_names = !members.names.is_empty();
                assert!(has_names || !members.more, "CHAT-PRES-1: an empty page");
                record.members_due = members.more;
                self.coverage.mark_if(members.more, "members in pages");
            }
            Message::Covered(covered) => {
                assert!(record.grants(Capability::Follow), "CHAT-GROW-7");
                self.model.receive_covered(by, &covered);
                self.coverage.mark("covered");
            }
            Message::Direct(direct) => self.received_direct(by, &direct),
            Message::DirectState(state) => self.received_state(by, &state),
            Message::Ping(ping) => {
                assert!(record.grants(Capability::Keepalive), "CHAT-GROW-7");
                record.ping_tokens.push(ping.token);
                self.coverage.mark("ping");
            }
            message => self.answered(by, pipe, message),
        }
    }

    /// A client has received a message that answers one of its frames, or an error that
    /// the server decided on itself.
    fn answered(&mut self, by: usize, pipe: &Pipe, message: Message) {
        let record = &mut self.records[by];
        while record.answered_count < record.counted_frames() {
            let index = record.answered_count;
            if record.is_answer(index, &message, &self.limits) {
                record.answered_count += 1;
                self.note_answer(by, index, message);
                return;
            }
            let is_fatal = matches!(&message, Message::Error(error) if error.ends_session);
            if is_fatal && !record.may_go_unanswered(index) {
                // The server answers no frame any more.
                break;
            }
            assert!(
                record.may_go_unanswered(index),
                "CHAT-ORD-8: {message:?} answers {by}'s {:?}",
                record.frames[index].sent
            );
            record.answered_count += 1;
        }
        let Message::Error(error) = &message else {
            panic!("CHAT-ORD-8: {message:?} answers nothing that {by} sent");
        };
        assert!(
            self.is_own_decision(by, pipe, error),
            "{by} gave no reason for {error:?}"
        );
        assert!(error.ends_session && error.id == 0, "CHAT-ERR-2: {error:?}");
        self.records[by].final_message = Some(message);
    }

    /// A client has received the answer to its frame `index`.
    fn note_answer(&mut self, by: usize, index: usize, message: Message) {
        let record = &mut self.records[by];
        match (&record.frames[index].sent, message) {
            (_, Message::Registered(registered)) => {
                assert!(
                    self.model.has_joined(by),
                    "{by} receives Registered and has not joined"
                );
                assert_eq!(registered.seq, self.model.seq_at_join(by), "CHAT-ORD-6");
                record.is_registered = true;
                record.members_due = record.grants(Capability::Presence);
                self.check_resumed(by, &registered);
            }
            (Sent::Direct { .. }, Message::Receipt(receipt)) => {
                self.accepted_direct(by, index, &receipt);
            }
            (&Sent::Chat { id, .. }, Message::Receipt(receipt)) => {
                let is_repeat = record.frames[index].seq.is_none();
                assert!(receipt.seq > 0, "CHAT-RCPT-1: {id}");
                self.coverage.mark_if(is_repeat, "receipt for a resend");
            }
            (Sent::Follow { filter, .. }, Message::Following(following)) => {
                let filter = NaiveFilter::of(&record.name, Some(filter));
                self.coverage.mark("following");
                let is_in_flood = following.seq < self.model.seq();
                self.coverage.mark_if(is_in_flood, "following in a flood");
                self.model.receive_following(by, &following, filter);
            }
            (_, Message::Error(error)) if error.ends_session => {
                record.final_message = Some(Message::Error(error));
            }
            (sent, Message::Error(error)) => {
                if let Sent::Chat { id, .. } = sent {
                    let accepted = record.accepted_before.get(id);
                    let accepted = accepted.and(self.model.lines.remembered(by, *id));
                    assert!(
                        accepted.is_none(),
                        "CHAT-RES-11: {error:?} to what was accepted as {accepted:?}"
                    );
                }
                record.error_count += 1;
                let joined_ms = record.joined_at.elapsed().as_millis() as u64;
                let forgotten = joined_ms / ERROR_FORGOTTEN_MS;
                let is_over_budget = self
                    .limits
                    .errors_max
                    .is_some_and(|most| record.error_count > u64::from(most) + 2 + forgotten);
                assert!(
                    !is_over_budget,
                    "CHAT-ERR-8: {by} has caused {} errors and is still a member",
                    record.error_count
                );
            }
            _ => {}
        }
    }

    /// Checks what a client is told of the line that it continues.
    fn check_resumed(&mut self, by: usize, registered: &Registered) {
        if !registered.resume_token.is_empty() {
            let token = &registered.resume_token;
            self.model.lines.received_token(by, token);
        }
        let told = (registered.resumed_from, registered.resume_failure());
        let due = match self.model.resumed(by) {
            None => (0, ResumeFailure::Unspecified),
            Some(Ok(from)) => (from, ResumeFailure::Unspecified),
            Some(Err(failure)) => (0, failure),
        };
        assert_eq!(told, due, "CHAT-RES-3, CHAT-RES-8, CHAT-RES-10: to {by}");
        let what = match (due, registered.seq) {
            ((0, ResumeFailure::Unspecified), _) => return,
            ((0, failure), _) => failure.as_str_name(),
            ((from, _), seq) if from <= seq => "resumes with chats missed",
            _ => "resumes",
        };
        self.coverage.mark(what);
    }

    /// Whether the server has reason to end the session with `error`, which answers no
    /// frame.
    fn is_own_decision(&mut self, by: usize, pipe: &Pipe, error: &Error) -> bool {
        let record = &self.records[by];
        match error.code() {
            ErrorCode::RegisterTimeout => {
                let deadline = Duration::from_millis(self.limits.register_deadline_ms.into());
                !self.model.has_joined(by) && record.connected_at.elapsed() >= deadline
            }
            code @ (ErrorCode::ServerFull | ErrorCode::TooManyConnections) => {
                record.rejected_with == Some(code)
            }
            code @ ErrorCode::ConnectingTooFast => {
                record.rejected_with == Some(code) && error.retry_after_ms > 0
            }
            ErrorCode::NameReclaimed => self.has_probe_timed_out(record),
            // CHAT-ERR-9
            ErrorCode::TooManyErrors => self
                .limits
                .errors_max
                .is_some_and(|most| record.error_count > most.into()),
            // CHAT-RES-5, CHAT-MOD-1, CHAT-MOD-2
            code @ (ErrorCode::Replaced | ErrorCode::Kicked | ErrorCode::Banned) => {
                record.ended_with == Some(code)
            }
            ErrorCode::Overloaded => record.may_be_evicted,
            ErrorCode::IdleTimeout => record.reason == Some(LeftReason::IdleTimeout),
            ErrorCode::SlowConsumer => {
                self.coverage
                    .mark_if(record.was_out_of_reach, "out of reach is told");
                record.reason == Some(LeftReason::SlowConsumer)
            }
            // CHAT-FRAME-10
            ErrorCode::MalformedFrame => {
                self.coverage.mark("ends inside a frame");
                pipe.eof_is_read && record.is_inside_frame(pipe)
            }
            code => panic!("the oracle knows no reason for {code:?}: {error:?}"),
        }
    }

    /// Whether another client asked for the name, and nothing came from its holder after
    /// a Ping for that (CHAT-NAME-8).
    fn has_probe_timed_out(&self, record: &ConnectionRecord) -> bool {
        let probe_deadline = Duration::from_millis(self.limits.name_check_deadline_ms.into());
        record.reason == Some(LeftReason::IdleTimeout)
            && record.ping_tokens.iter().any(|&token| {
                let pinged = self.start + Duration::from_millis(token);
                let mut requests = record.name_requests.iter();
                requests.any(|&request| request <= pinged)
                    && pinged + probe_deadline <= record.left_at
                    && record.activity_before_end <= pinged
            })
    }

    /// A client has read to the end of its stream.
    pub(in crate::server::simulation) fn reached_end(&mut self, of: usize, pipe: &Pipe) {
        let record = &mut self.records[of];
        record.saw_end = true;
        if self.is_aborted {
            return;
        }
        // A reset must not destroy the last bytes that the server sent.
        let has_lingered = pipe
            .lingered_for
            .is_none_or(|lingered_for| lingered_for >= LINGER_MIN);
        assert!(
            has_lingered || !pipe.lost_last_bytes,
            "the last bytes to {of} are lost"
        );
        if pipe.lost_last_bytes {
            return;
        }
        let is_explained = record.final_message.is_some()
            || pipe.eof_is_read
            || pipe.reset_is_seen
            || matches!(record.ending_frame(), Some(Sent::Leave))
            // The server could not send the final message.
            || pipe.longest_blocked.max(pipe.blocked()) > Duration::ZERO;
        assert!(is_explained, "{of} is closed without a reason");
    }
}
