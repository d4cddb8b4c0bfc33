//! Directs: what one member says to another, and what its sender learns of it (CHAT-DM).
//!
//! Nothing is published, so acceptance shows in the Receipt alone, and the recipient when
//! it receives the Direct.

use crate::wire::{Capability, Direct, DirectState, ErrorCode, Receipt, server_envelope::Message};

use super::{super::sent::Sent, ConnectionRecord, Oracle, Quiescence};

/// What became of a Direct that a client sent.
#[derive(Default)]
pub(super) struct Passage {
    /// When it was accepted, by its Receipt or by what its recipient received.
    unix_ms: Option<i64>,
    /// Its sender has received the Receipt.
    is_accepted: bool,
    /// Its recipient, and the number there.
    to: Option<(usize, u64)>,
    /// Its sender has received the DirectState.
    is_settled: bool,
}

impl Passage {
    pub(super) fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    fn note_time(&mut self, unix_ms: i64) {
        let known = *self.unix_ms.get_or_insert(unix_ms);
        assert_eq!(known, unix_ms, "CHAT-DM-4: one time for both");
    }
}

impl Oracle {
    /// A client has received a Direct.
    pub(super) fn received_direct(&mut self, to: usize, direct: &Direct) {
        let record = &mut self.records[to];
        assert!(record.grants(Capability::Direct), "CHAT-GROW-7");
        record.directs += 1;
        assert_eq!(
            (direct.seq, direct.id),
            (record.directs, 0),
            "CHAT-DM-4, CHAT-DM-8"
        );
        let name = record.name.clone();
        let mark = direct.text.split(' ').next().unwrap_or_default();
        let by = mark.split('.').next().and_then(|by| by.parse().ok());
        let by: usize = by.unwrap_or_else(|| panic!("nobody sent {direct:?}"));
        let sender = &mut self.records[by];
        assert_eq!(direct.peer, sender.name, "CHAT-DM-4");
        let mut frames = sender.frames.iter_mut();
        let found = frames.find(|frame| match &frame.sent {
            Sent::Direct {
                text, rejection, ..
            } => *text == direct.text && rejection.is_none(),
            _ => false,
        });
        let frame = found.unwrap_or_else(|| panic!("{by} did not send {direct:?}"));
        if let Sent::Direct { peer, .. } = &frame.sent {
            assert!(peer.eq_ignore_ascii_case(&name), "CHAT-DM-2: {direct:?}");
        }
        assert_eq!(frame.passage.to, None, "CHAT-DM-2: {direct:?} comes twice");
        frame.passage.to = Some((to, direct.seq));
        frame.passage.note_time(direct.time_unix_ms);
        self.coverage.mark("direct");
    }

    /// A client has received the Receipt for its frame `index`, a Direct.
    pub(super) fn accepted_direct(&mut self, by: usize, index: usize, receipt: &Receipt) {
        let passage = &mut self.records[by].frames[index].passage;
        passage.is_accepted = true;
        passage.note_time(receipt.time_unix_ms);
    }

    /// A client has received a DirectState.
    pub(super) fn received_state(&mut self, by: usize, state: &DirectState) {
        let mut frames = self.records[by].frames.iter();
        let index = frames.position(|frame| match frame.sent {
            Sent::Direct { id, .. } => id == state.id,
            _ => false,
        });
        let index = index.unwrap_or_else(|| panic!("CHAT-DM-9: {by} did not send {state:?}"));
        let frame = &mut self.records[by].frames[index];
        assert!(frame.passage.is_accepted, "CHAT-DM-9: before its Receipt");
        assert!(!frame.passage.is_settled, "CHAT-DM-9: {state:?} twice");
        frame.passage.is_settled = true;
        let (frame, model) = (&self.records[by].frames[index], &self.model);
        let Sent::Direct { peer, .. } = &frame.sent else {
            unreachable!("it was looked for");
        };
        let mut of_name = (0..self.records.len())
            .filter(|&other| self.records[other].name.eq_ignore_ascii_case(peer));
        let is_explained = match (state.delivered, frame.passage.to) {
            (true, Some((to, seq))) => self.records[to].has_acknowledged(seq),
            // An acknowledgement at random may have met it before it was read.
            (true, None) => of_name.any(|to| self.records[to].has_acknowledged(1)),
            (false, Some((to, _))) => model.has_left(to),
            (false, None) => of_name.any(|to| model.has_left(to)),
        };
        assert!(is_explained, "CHAT-DM-9: {state:?} to {by}");
        self.coverage.mark(match state.delivered {
            true => "direct delivered",
            false => "direct not delivered",
        });
    }

    /// Checks that a member that reads has received all Directs and states that are due.
    pub(super) fn check_directs(&self, of: usize, quiescence: &Quiescence) {
        let record = &self.records[of];
        for sender in &self.records {
            for frame in &sender.frames {
                let Sent::Direct { peer, .. } = &frame.sent else {
                    continue;
                };
                let is_due = frame.passage.is_accepted
                    && frame.passage.to.is_none()
                    && peer.eq_ignore_ascii_case(&record.name)
                    && frame.sent_at > record.joined_at;
                assert!(!is_due, "CHAT-DM-2: {of} has not received {:?}", frame.sent);
            }
        }
        for frame in &record.frames {
            let passage = &frame.passage;
            if !passage.is_accepted || passage.is_settled {
                continue;
            }
            let Some((to, seq)) = passage.to else {
                continue;
            };
            let recipient = &self.records[to];
            let is_judged = !quiescence.is_paused && recipient.throttled_since.is_none();
            assert!(
                !(self.model.has_left(to) || is_judged && recipient.has_honestly_acknowledged(seq)),
                "CHAT-DM-9: {of} does not know what became of {:?}",
                frame.sent
            );
        }
    }
}

impl ConnectionRecord {
    /// Whether the server has read a DirectAck that may cover a number.
    fn has_acknowledged(&self, seq: u64) -> bool {
        let mut frames = self.frames[..self.counted_frames()].iter();
        frames.any(|frame| matches!(frame.sent, Sent::DirectAck(acked) if acked >= seq))
    }

    /// The same of one that the client sent for what it had received.
    fn has_honestly_acknowledged(&self, seq: u64) -> bool {
        let mut frames = self.frames[..self.counted_frames()].iter();
        frames.any(|frame| match frame.sent {
            Sent::DirectAck(acked) => acked >= seq && acked <= frame.directs_before,
            _ => false,
        })
    }

    /// Whether a message can be the answer to a Direct (CHAT-DM-7).
    pub(super) fn is_answer_to_direct(&self, index: usize, message: &Message) -> bool {
        let Sent::Direct { id, rejection, .. } = &self.frames[index].sent else {
            return false;
        };
        match message {
            Message::Error(error) if !self.grants(Capability::Direct) => {
                error.code() == ErrorCode::NotGranted && error.id == 0 && !error.ends_session
            }
            Message::Error(error) if error.code() == ErrorCode::Muted => {
                self.was_muted(index) && error.id == *id && !error.ends_session
            }
            Message::Error(error) => {
                let is_right = match rejection {
                    Some(code) => error.code() == *code,
                    None => {
                        matches!(
                            error.code(),
                            ErrorCode::RateLimited | ErrorCode::NotReachable
                        )
                    }
                };
                is_right && error.id == *id && !error.ends_session
            }
            Message::Receipt(receipt) => {
                self.grants(Capability::Direct)
                    && rejection.is_none()
                    && (receipt.id, receipt.seq) == (*id, 0)
            }
            _ => false,
        }
    }
}
