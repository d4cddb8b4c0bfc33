//! Resume: what a client keeps to continue its line (CHAT-RES), which numbers it has, and
//! which chats under its own name are its own. Pure.

use std::collections::BTreeMap;

use crate::wire::{Capability, Chat, Registered, Resume, ResumeFailure};

/// The longest token and the longest epoch that a server may give, in bytes. What is
/// longer would not fit into Register.
const TOKEN_BYTES_MAX: usize = 64;
const EPOCH_BYTES_MAX: usize = 64;

/// How many ranges of numbers may lie behind a hole. A hole is an own chat without its
/// receipt, so a right server causes few; for a wrong one the lowest hole is given up.
const RANGES_MAX: usize = 1_024;

/// How many chats may wait for the receipts that tell whose they are. Only another member
/// that had this name meanwhile and sent the same texts makes more wait.
const HELD_CHATS_MAX: usize = 256;

/// Numbers that a client did not receive and will not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// How a new session continues the one before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Continued {
    /// It goes on behind the numbers that were missed.
    Resumed(Vec<Missed>),
    /// It is a new one. What was missed is known if the epoch is the same.
    Fresh(ResumeFailure, Vec<Missed>),
}

/// The line of one client, from its first Registered on.
#[derive(Debug)]
pub(crate) struct Line {
    name: String,
    epoch: String,
    /// Empty: the line cannot be resumed.
    token: Vec<u8>,
    attempt: u32,
    received: Received,
    /// The chats that were not answered when the session was resumed, by id. One that was
    /// accepted by then comes back as a chat.
    unanswered: BTreeMap<u64, String>,
    /// The last number that was accepted before the session was resumed.
    resumed_seq: u64,
    /// Chats with the name of this client and the text of an unanswered chat.
    held: Vec<Chat>,
    /// A filter keeps chats out: a number that a later chat has passed is none to wait for.
    is_filtered: bool,
}

impl Line {
    pub(crate) fn new(registered: &Registered) -> Self {
        let mut line = Self {
            name: registered.name.clone(),
            epoch: String::new(),
            token: Vec::new(),
            attempt: 0,
            received: Received::default(),
            unanswered: BTreeMap::new(),
            resumed_seq: 0,
            held: Vec::new(),
            is_filtered: false,
        };
        line.begin(registered);
        line
    }

    /// What the next Register says about the line. `None`: it cannot be resumed.
    pub(crate) fn resume(&mut self) -> Option<Resume> {
        if self.token.is_empty() {
            return None;
        }
        // CHAT-RES-18. No client tries that often.
        self.attempt = self.attempt.saturating_add(1);
        Some(Resume {
            token: self.token.clone(),
            epoch: self.epoch.clone(), // CHAT-RES-21: the token's.
            seq: self.received.upto,   // CHAT-RES-20
            attempt: self.attempt,
        })
    }

    /// A new session was opened. `unanswered` are the chats that were sent and not
    /// answered, by id. Chats that were held and can be shown now come into `shown`.
    pub(crate) fn registered(
        &mut self,
        registered: &Registered,
        unanswered: BTreeMap<u64, String>,
        shown: &mut Vec<Chat>,
    ) -> Continued {
        let is_same_epoch = registered.epoch == self.epoch;
        if registered.resumed_from > 0 && is_same_epoch && !self.token.is_empty() {
            self.set_token(registered);
            self.unanswered = unanswered;
            self.resumed_seq = registered.seq;
            self.release(shown);
            return Continued::Resumed(self.received.advance(registered.resumed_from - 1));
        }
        self.unanswered.clear();
        self.release(shown);
        let missed = match is_same_epoch {
            true => self.received.advance(registered.seq),
            false => Vec::new(),
        };
        self.begin(registered);
        Continued::Fresh(registered.resume_failure(), missed)
    }

    /// A chat arrived. Returns it if it is to be shown now: it is neither known nor
    /// perhaps an own one.
    pub(crate) fn chat(&mut self, chat: Chat) -> Option<Chat> {
        let is_new = self.received.add(chat.seq);
        if self.is_filtered {
            self.received.advance(chat.seq); // CHAT-COV-6
        }
        if !is_new && !self.token.is_empty() {
            return None;
        }
        // Its receipt will tell. The name alone does not: somebody else may have had it
        // meanwhile.
        if chat.seq <= self.resumed_seq
            && chat.sender == self.name
            && self.held.len() < HELD_CHATS_MAX
            && self.is_unanswered(&chat.text)
        {
            self.held.push(chat);
            return None;
        }
        Some(chat)
    }

    /// Whether a filter keeps chats out from now on.
    pub(crate) fn set_filtered(&mut self, is_filtered: bool) {
        self.is_filtered = is_filtered;
    }

    /// Whether a filter keeps chats out.
    pub(crate) fn is_filtered(&self) -> bool {
        self.is_filtered
    }

    /// Everything up to a number has arrived that the filter lets pass (CHAT-COV-6).
    pub(crate) fn covered(&mut self, seq: u64) {
        self.received.advance(seq);
    }

    /// An own chat was accepted. Chats that were held and are not own ones come into
    /// `shown`.
    pub(crate) fn receipt(&mut self, id: u64, seq: u64, shown: &mut Vec<Chat>) {
        self.received.add(seq);
        self.held.retain(|chat| chat.seq != seq);
        self.refused(id, shown);
    }

    /// An own chat was refused, so no chat that came before was it.
    pub(crate) fn refused(&mut self, id: u64, shown: &mut Vec<Chat>) {
        if self.unanswered.remove(&id).is_some() {
            self.release(shown);
        }
    }

    /// Moves the held chats that cannot be own ones any more.
    fn release(&mut self, shown: &mut Vec<Chat>) {
        for chat in std::mem::take(&mut self.held) {
            match self.is_unanswered(&chat.text) {
                true => self.held.push(chat),
                false => shown.push(chat),
            }
        }
    }

    fn is_unanswered(&self, text: &str) -> bool {
        self.unanswered.values().any(|own| own == text)
    }

    /// A new line begins.
    fn begin(&mut self, registered: &Registered) {
        self.epoch.clone_from(&registered.epoch);
        self.set_token(registered);
        self.attempt = 0;
        self.received = Received {
            upto: registered.seq,
            beyond: BTreeMap::new(),
            has_receipts: registered
                .capabilities
                .contains(&Capability::Receipts.into()),
        };
        self.resumed_seq = 0;
    }

    fn set_token(&mut self, registered: &Registered) {
        self.token.clear();
        let is_usable = registered.resume_token.len() <= TOKEN_BYTES_MAX
            && registered.epoch.len() <= EPOCH_BYTES_MAX;
        if is_usable {
            self.token.clone_from(&registered.resume_token);
        }
    }
}

/// The numbers that a client has.
#[derive(Debug, Default)]
struct Received {
    /// It has all up to this one.
    upto: u64,
    /// Those behind a hole, as ranges from first to last. The hole is an own chat whose
    /// receipt is still to come, or a chat that a receipt has overtaken.
    beyond: BTreeMap<u64, u64>,
    /// Whether own chats are told at all. Without receipts their numbers look like holes.
    has_receipts: bool,
}

impl Received {
    /// Adds a number. Returns whether it is new.
    fn add(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        if !self.has_receipts {
            self.upto = seq;
            return true;
        }
        let before = self.beyond.range(..seq).next_back();
        let mut range = (seq, seq);
        if let Some((&from, &to)) = before
            && to + 1 == seq
        {
            range.0 = from;
        }
        if let Some(to) = seq.checked_add(1).and_then(|it| self.beyond.remove(&it)) {
            range.1 = to;
        }
        self.beyond.insert(range.0, range.1);
        self.absorb();
        if self.beyond.len() > RANGES_MAX
            && let Some((_, to)) = self.beyond.pop_first()
        {
            self.upto = to;
            self.absorb();
        }
        true
    }

    fn contains(&self, seq: u64) -> bool {
        let before = self.beyond.range(..=seq).next_back();
        seq <= self.upto || before.is_some_and(|(_, &to)| seq <= to)
    }

    /// Counts everything up to a number as received, and returns what was not.
    fn advance(&mut self, upto: u64) -> Vec<Missed> {
        let mut missed = Vec::new();
        while self.upto < upto {
            let next = self.beyond.first_key_value().map(|(&from, _)| from);
            let hole_to = next.map_or(upto, |from| upto.min(from - 1));
            missed.push(Missed {
                from: self.upto + 1,
                to: hole_to,
            });
            self.upto = hole_to;
            self.absorb();
        }
        missed
    }

    /// Takes in the ranges that follow without a hole.
    fn absorb(&mut self) {
        while let Some(first) = self.beyond.first_entry()
            && *first.key() <= self.upto.saturating_add(1)
        {
            self.upto = self.upto.max(first.remove());
        }
    }
}

#[cfg(test)]
mod tests;
