//! Send queue: chats and directs to send, those in flight, and those to send again. Pure: the time
//! is an argument, and nothing is sent here.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::follow::NewChat;
use super::pacer::Pacer;
use crate::wire::File;

/// How many chats may be in flight where receipts are granted: enough to fill a long
/// link, few enough to remember the texts.
pub(crate) const IN_FLIGHT_CHATS_MAX: usize = 256;

/// How often one chat is sent again after RATE_LIMITED before it is given up.
pub(crate) const RETRIES_MAX: u32 = 100;

/// The longest pause that RATE_LIMITED can cause, in milliseconds.
pub(crate) const RETRY_AFTER_MS_MAX: u32 = 60_000;

/// What the user wants to send: a chat, or a direct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) id: u64,
    /// Of a direct only the text.
    pub(crate) chat: NewChat,
    /// The recipient of a direct.
    pub(crate) peer: Option<String>,
    /// The files that it names.
    pub(crate) files: Vec<File>,
}

/// A chat or direct to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) id: u64,
    pub(crate) chat: NewChat,
    /// The recipient of a direct.
    pub(crate) peer: Option<String>,
    /// The files that it names.
    pub(crate) files: Vec<File>,
    /// How often the server answered RATE_LIMITED.
    pub(crate) retries: u32,
    /// It was sent and not answered, so it may have been accepted.
    is_uncertain: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this chat now.
    Send(Draft),
    /// Ask again at this time: the announced rate allows no chat before.
    Wait(Instant),
    /// Ask again at this time: the server answered RATE_LIMITED.
    Paused(Instant),
    /// Nothing to send.
    Idle,
}

/// The chats of one session that are not settled yet.
///
/// Call [`SendQueue::push`] while [`SendQueue::has_room`], then [`SendQueue::step`]
/// until it returns no [`Step::Send`], and the other functions as answers arrive.
#[derive(Debug)]
pub(crate) struct SendQueue {
    pacer: Pacer,
    receipts: bool,
    in_flight_max: usize,
    /// To be sent, by id: a chat to be sent again has a lower id than new ones, and so
    /// goes first.
    pending: BTreeMap<u64, Draft>,
    /// Sent and not answered yet; without receipts the last few, in case one is
    /// refused.
    in_flight: VecDeque<Draft>,
    /// When a chat was last sent for the first time, accepted or refused for good. A
    /// retry is no progress.
    progressed_at: Instant,
    /// The last direct that has arrived, if it is not acknowledged yet.
    ack_due: Option<u64>,
}

impl SendQueue {
    /// The chats of a line of which the server remembers this many ids; 0: of a session
    /// that cannot be resumed.
    pub(crate) fn new(pacer: Pacer, receipts: bool, resend_ids_max: u32, now: Instant) -> Self {
        Self {
            pacer,
            receipts,
            in_flight_max: in_flight_max(resend_ids_max),
            pending: BTreeMap::new(),
            in_flight: VecDeque::new(),
            progressed_at: now,
            ack_due: None,
        }
    }

    /// Whether another chat may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.is_empty() && (!self.receipts || self.in_flight.len() < self.in_flight_max)
    }

    /// A session that continues a line has opened: what was not answered is to be sent
    /// again (CHAT-RES-16, CHAT-DM-14).
    pub(crate) fn resumed(&mut self, pacer: Pacer, resend_ids_max: u32, now: Instant) {
        self.pacer = pacer;
        self.in_flight_max = in_flight_max(resend_ids_max);
        self.progressed_at = now;
        self.ack_due = None;
        for chat in self.in_flight.drain(..) {
            self.pending.insert(chat.id, chat);
        }
    }

    /// A new session has opened: returns what was not answered, which is not to be sent
    /// again (CHAT-RES-17, CHAT-DM-14). What was not sent yet will be.
    pub(crate) fn restarted(
        &mut self,
        pacer: Pacer,
        receipts: bool,
        resend_ids_max: u32,
        now: Instant,
    ) -> BTreeMap<u64, String> {
        let unanswered = self.unanswered();
        self.pending.retain(|_, chat| !chat.is_uncertain);
        let pending = std::mem::take(&mut self.pending);
        *self = Self {
            pending,
            ..Self::new(pacer, receipts, resend_ids_max, now)
        };
        unanswered
    }

    /// The chats and directs that were sent and not answered, by id; none without receipts.
    fn unanswered(&self) -> BTreeMap<u64, String> {
        let unanswered = self.unanswered_drafts();
        unanswered
            .map(|chat| (chat.id, chat.chat.text.clone()))
            .collect()
    }

    /// The chats among them: one that was accepted comes back where the line is resumed.
    pub(crate) fn unanswered_chats(&self) -> BTreeMap<u64, String> {
        let chats = self.unanswered_drafts().filter(|it| it.peer.is_none());
        chats
            .map(|chat| (chat.id, chat.chat.text.clone()))
            .collect()
    }

    fn unanswered_drafts(&self) -> impl Iterator<Item = &Draft> {
        let in_flight = self.in_flight.iter().filter(|_| self.receipts);
        let uncertain = self.pending.values().filter(|chat| chat.is_uncertain);
        in_flight.chain(uncertain)
    }

    /// Adds a chat or direct. Ids increase.
    pub(crate) fn push(&mut self, unsent: Unsent) {
        let Unsent {
            id,
            chat,
            peer,
            files,
        } = unsent;
        self.pending.insert(
            id,
            Draft {
                id,
                chat,
                peer,
                files,
                retries: 0,
                is_uncertain: false,
            },
        );
    }

    /// A direct has arrived and is to be acknowledged (CHAT-DM-13).
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        self.ack_due = Some(seq);
    }

    /// The number for the next acknowledgement, if one is due.
    pub(crate) fn take_ack(&mut self) -> Option<u64> {
        self.ack_due.take()
    }

    /// The next step. A chat that it returns counts as sent.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        // More than the bound only after a resume by a server that remembers fewer ids.
        let is_full = self.receipts && self.in_flight.len() >= self.in_flight_max;
        let Some(first) = self.pending.first_entry().filter(|_| !is_full) else {
            return Step::Idle;
        };
        if let Err(later) = self.pacer.take(now) {
            return match self.pacer.is_paused(now) {
                true => Step::Paused(later),
                false => Step::Wait(later),
            };
        }
        let mut chat = first.remove();
        if chat.retries == 0 && !chat.is_uncertain {
            self.progressed_at = now;
        }
        chat.is_uncertain = true;
        if self.in_flight.len() >= self.in_flight_max {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back(chat.clone());
        Step::Send(chat)
    }

    /// The chat was accepted.
    pub(crate) fn receipt(&mut self, id: u64, now: Instant) {
        self.progressed_at = now;
        self.answer(id);
    }

    /// The chat was refused for good. Returns its text, if it is still known.
    pub(crate) fn refused(&mut self, id: u64, now: Instant) -> Option<String> {
        self.progressed_at = now;
        self.answer(id).map(|draft| draft.chat.text)
    }

    /// The chat was refused for its rate: it is sent again after `retry_after_ms`
    /// milliseconds, before all later ones.
    ///
    /// # Errors
    ///
    /// Its text, if known, when it was refused too often or is unknown.
    pub(crate) fn rate_limited(
        &mut self,
        id: u64,
        retry_after_ms: u32,
        now: Instant,
    ) -> Result<(), Option<String>> {
        let Some(mut chat) = self.answer(id) else {
            return Err(None);
        };
        chat.retries += 1;
        chat.is_uncertain = false;
        if chat.retries > RETRIES_MAX {
            return Err(Some(chat.chat.text));
        }
        let pause_ms = retry_after_ms.clamp(1, RETRY_AFTER_MS_MAX);
        self.pacer
            .pause(Duration::from_millis(pause_ms.into()), now);
        self.pending.insert(chat.id, chat);
        Ok(())
    }

    /// How many chats are waiting to be sent.
    pub(crate) fn unsent(&self) -> usize {
        let pending = self.pending.values();
        pending.filter(|chat| !chat.is_uncertain).count()
    }

    /// How many chats were sent and have no receipt yet.
    pub(crate) fn unconfirmed(&self) -> usize {
        let in_flight = if self.receipts {
            self.in_flight.len()
        } else {
            0
        };
        in_flight + (self.pending.len() - self.unsent())
    }

    /// When a chat was last sent for the first time, accepted or refused for good.
    pub(crate) fn progressed_at(&self) -> Instant {
        self.progressed_at
    }

    fn answer(&mut self, id: u64) -> Option<Draft> {
        // Answers arrive in the order of the chats (CHAT-RCPT-2), so it is usually the
        // first.
        let index = self.in_flight.iter().position(|chat| chat.id == id)?;
        self.in_flight.remove(index)
    }
}

/// CHAT-RES-15, where there is a line.
fn in_flight_max(resend_ids_max: u32) -> usize {
    match resend_ids_max {
        0 => IN_FLIGHT_CHATS_MAX,
        ids => (ids as usize / 2).clamp(1, IN_FLIGHT_CHATS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(receipts: bool) -> (SendQueue, Instant) {
        let now = Instant::now();
        // The rate is high enough not to matter; only a pause does.
        let pacer = Pacer::new(2_000, 1, now);
        (SendQueue::new(pacer, receipts, 0, now), now)
    }

    /// Sends everything that may be sent and returns the ids.
    fn sent(queue: &mut SendQueue, now: Instant) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Step::Send(chat) = queue.step(now) {
            ids.push(chat.id);
        }
        ids
    }

    fn push_all(queue: &mut SendQueue, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            queue.push(Unsent {
                id,
                chat: format!("text {id}").into(),
                peer: None,
                files: Vec::new(),
            });
        }
    }

    #[test]
    fn sends_in_order_and_forgets_what_is_answered() {
        let (mut queue, now) = queue(true);
        push_all(&mut queue, 1..=3);
        assert_eq!(sent(&mut queue, now), [1, 2, 3]);
        assert_eq!(queue.unconfirmed(), 3);
        queue.receipt(1, now);
        assert_eq!(queue.refused(2, now), Some("text 2".to_owned()));
        assert_eq!(queue.refused(2, now), None);
        assert_eq!(queue.unconfirmed(), 1);
    }

    #[test]
    fn rate_limited_goes_again_before_later_ones() {
        let (mut queue, now) = queue(true);
        push_all(&mut queue, 1..=2);
        assert_eq!(sent(&mut queue, now), [1, 2]);
        assert_eq!(queue.rate_limited(2, 50, now), Ok(()));
        assert_eq!(queue.rate_limited(1, 50, now), Ok(()));
        push_all(&mut queue, [3]);
        let later = now + Duration::from_millis(50);
        assert_eq!(queue.step(now), Step::Paused(later));
        let much_later = now + Duration::from_secs(1);
        assert_eq!(sent(&mut queue, much_later), [1, 2, 3]);
    }

    #[test]
    fn a_chat_refused_without_end_is_given_up() {
        let (mut queue, mut now) = queue(true);
        push_all(&mut queue, [1]);
        for _ in 0..RETRIES_MAX {
            assert_eq!(sent(&mut queue, now), [1]);
            assert_eq!(queue.rate_limited(1, u32::MAX, now), Ok(()));
            now += Duration::from_millis(RETRY_AFTER_MS_MAX.into());
        }
        assert_eq!(sent(&mut queue, now), [1]);
        assert_eq!(
            queue.rate_limited(1, 1, now),
            Err(Some("text 1".to_owned()))
        );
        assert_eq!(queue.rate_limited(77, 1, now), Err(None));
    }

    #[test]
    fn the_memory_is_bounded() {
        for receipts in [false, true] {
            let (mut queue, now) = queue(receipts);
            let mut pushed = 0;
            while queue.has_room() && pushed < 2 * IN_FLIGHT_CHATS_MAX {
                pushed += 1;
                push_all(&mut queue, [pushed as u64]);
                sent(&mut queue, now + Duration::from_secs(pushed as u64));
            }
            // With receipts the queue waits for them, without them it forgets the
            // oldest.
            assert_eq!(pushed == IN_FLIGHT_CHATS_MAX, receipts);
            assert_eq!(queue.in_flight.len(), IN_FLIGHT_CHATS_MAX);
            assert_eq!(queue.unconfirmed() > 0, receipts);
        }
    }

    #[test]
    fn a_resumed_line_sends_again_in_the_first_order_before_anything_new() {
        let (mut queue, now) = queue(true);
        push_all(&mut queue, 1..=4);
        assert_eq!(sent(&mut queue, now), [1, 2, 3, 4]);
        queue.receipt(2, now);
        assert_eq!(queue.rate_limited(1, 60_000, now), Ok(()));
        push_all(&mut queue, [5]);
        assert_eq!((queue.unsent(), queue.unconfirmed()), (2, 2));
        // Three cuts, the second one before everything was sent again.
        queue.resumed(Pacer::new(4, 60_000, now), 64, now);
        assert_eq!(sent(&mut queue, now), [1, 3]);
        queue.resumed(Pacer::new(2, 60_000, now), 64, now);
        assert_eq!(sent(&mut queue, now), [1]);
        let unanswered: Vec<u64> = queue.unanswered().into_keys().collect();
        assert_eq!(unanswered, [1, 3, 4]);
        assert!(!queue.has_room());
        queue.resumed(Pacer::new(0, 0, now), 64, now);
        assert_eq!(sent(&mut queue, now), [1, 3, 4, 5]);
    }

    #[test]
    fn a_new_session_sends_only_what_cannot_have_been_accepted() {
        let (mut queue, now) = queue(true);
        push_all(&mut queue, 1..=3);
        assert_eq!(sent(&mut queue, now), [1, 2, 3]);
        assert_eq!(queue.rate_limited(2, 60_000, now), Ok(()));
        push_all(&mut queue, [4]);
        // Resumed, and cut before anything was sent again.
        queue.resumed(Pacer::new(0, 0, now), 64, now);
        let unknown = queue.restarted(Pacer::new(0, 0, now), true, 64, now);
        assert_eq!(unknown.into_keys().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(sent(&mut queue, now), [2, 4]);
    }

    #[test]
    fn no_more_are_unanswered_than_the_server_remembers_twice() {
        for (resend_ids_max, in_flight) in [(64, 32), (5, 2), (1, 1), (10_000, 256)] {
            let now = Instant::now();
            let mut queue = SendQueue::new(Pacer::new(0, 0, now), true, resend_ids_max, now);
            for id in 1..=in_flight {
                assert!(queue.has_room());
                push_all(&mut queue, [id]);
                assert_eq!(sent(&mut queue, now), [id]);
            }
            assert!(!queue.has_room());
            // A refusal makes no room: its chat is sent again.
            assert_eq!(queue.rate_limited(1, 1, now), Ok(()));
            assert!(!queue.has_room());
            // A server that remembers fewer is given fewer at a time.
            queue.resumed(Pacer::new(0, 0, now), 2, now);
            assert_eq!(sent(&mut queue, now), [1]);
            queue.receipt(1, now);
            assert_eq!(sent(&mut queue, now).len(), usize::from(in_flight > 1));
        }
    }
}
