//! Session: one session of a capture, message by message.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::Value;

use super::{coverage::Choice, filter::Filter, finding::Place};

/// A Chat, or a Direct, without an answer.
#[derive(Debug)]
pub struct Pending {
    /// Its id.
    pub id: u64,
    /// Its text.
    pub text: String,
    /// The topic of the Chat.
    pub topic: String,
    /// The names of the members that the Chat mentions.
    pub mentions: Vec<String>,
    /// Whether it is a Direct, which has no number (CHAT-DM-3).
    pub is_direct: bool,
    /// Whether it names files.
    pub names_files: bool,
    /// Whether it is of a capability that the session does not have (CHAT-GROW-6).
    pub is_not_granted: bool,
    /// Whether the server has refused it for that, without its id.
    pub is_refused: bool,
    /// Its line in the capture.
    pub line: usize,
}

/// A GetHistory, or a Follow, without an answer.
#[derive(Debug)]
pub struct Asked {
    /// Its filter.
    pub filter: Option<Filter>,
    /// Its line in the capture.
    pub line: usize,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Where its Registered is.
    pub at: Place,
    /// The name.
    pub name: String,
    /// The epoch.
    pub epoch: String,
    /// Registered.seq.
    pub registered_seq: u64,
    /// The first number that it is sent.
    pub from: u64,
    /// Whether it resumed an earlier one.
    pub is_resumed: bool,
    /// How many chats the server said that it no longer has.
    pub missed: u64,
    /// Whether it may choose its chats.
    pub has_follow: bool,
    /// Whether it may send Directs.
    pub has_direct: bool,
    /// Whether its chats may name files.
    pub has_files: bool,
    /// What it has chosen.
    pub(super) choice: Choice,
    /// How many chats came, each time counted.
    pub chats_came: u64,
    /// Whether it has receipts.
    pub has_receipts: bool,
    /// Whether it can be resumed.
    pub has_resume: bool,
    /// Limits.resend_ids_max.
    pub resend_ids_max: u64,
    /// The last number in the stream of chats.
    pub last: u64,
    /// The chats that it received, by number, and the line of each.
    pub chats: BTreeMap<u64, usize>,
    /// Its own chats, by number: the id of each.
    pub own: BTreeMap<u64, u64>,
    /// What it sent and has no answer to, in order.
    pub pending: VecDeque<Pending>,
    /// The pages that it asked for, by id.
    pub pages: HashMap<String, Asked>,
    /// Whether it was told already that too much is unanswered.
    pub is_told_of_window: bool,
}

impl Session {
    /// The session that a Registered opens. `resume_seq` and `filter` are what its Register
    /// asked for.
    pub fn new(
        at: Place,
        registered: &Value,
        resume_seq: Option<u64>,
        filter: Option<&Value>,
    ) -> Self {
        let registered_seq = number(&registered["seq"]);
        let resumed_from = number(&registered["resumedFrom"]);
        let granted = |name: &str| {
            let all = registered["capabilities"].as_array();
            all.is_some_and(|all| all.iter().any(|it| it == name))
        };
        let from = match resumed_from {
            0 => registered_seq + 1,
            from => from,
        };
        let missed = match resumed_from {
            0 => 0,
            from => from.saturating_sub(1 + resume_seq.unwrap_or(0)),
        };
        let limits = &registered["limits"];
        let name = text(&registered["name"]);
        let has_follow = granted("CAPABILITY_FOLLOW");
        // CHAT-FOL-11
        let filter = filter.filter(|_| has_follow);
        let filter = filter.and_then(|filter| Filter::of(&name, filter));
        Self {
            at,
            name,
            epoch: text(&registered["epoch"]),
            registered_seq,
            from,
            is_resumed: resumed_from > 0,
            missed,
            has_follow,
            has_direct: granted("CAPABILITY_DIRECT"),
            has_files: granted("CAPABILITY_FILES"),
            choice: Choice::new(filter),
            chats_came: 0,
            has_receipts: granted("CAPABILITY_RECEIPTS"),
            has_resume: granted("CAPABILITY_RESUME"),
            resend_ids_max: limits["resendIdsMax"].as_u64().unwrap_or(0),
            last: 0,
            chats: BTreeMap::new(),
            own: BTreeMap::new(),
            pending: VecDeque::new(),
            pages: HashMap::new(),
            is_told_of_window: false,
        }
    }

    /// The last number that it was told.
    pub fn to(&self) -> u64 {
        let last = |map: Option<u64>| map.unwrap_or(0);
        let chats = last(self.chats.keys().next_back().copied());
        let own = last(self.own.keys().next_back().copied());
        chats.max(own)
    }

    /// The numbers that it should have and has not, up to the last one that it has.
    pub fn holes(&self) -> impl Iterator<Item = u64> {
        let own = self.own.keys().filter(|&&seq| seq >= self.from);
        let chats = self.chats.keys().filter(|&&seq| seq >= self.from);
        let mut all: Vec<u64> = chats.chain(own).copied().collect();
        all.sort_unstable();
        all.insert(0, self.from.saturating_sub(1));
        let pairs: Vec<(u64, u64)> = all.windows(2).map(|pair| (pair[0], pair[1])).collect();
        pairs.into_iter().flat_map(|(one, next)| one + 1..next)
    }

    /// Takes an answer: to what, and how many before it have none. `None`: it sent nothing
    /// with that id.
    pub fn answer(&mut self, id: u64) -> Option<(Pending, usize)> {
        let place = self.pending.iter().position(|sent| sent.id == id)?;
        let before = self.pending.drain(..place);
        let skipped = before.filter(|sent| !sent.is_refused).count();
        self.pending.pop_front().map(|sent| (sent, skipped))
    }
}

/// A number of 64 bits, which proto3 JSON writes as a text; absent: 0.
pub fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    text.parse().unwrap_or(0)
}

/// A text; absent: empty.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
