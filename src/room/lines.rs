//! Lines: the sessions of one client that continue one another (CHAT-RES), with their
//! tokens and with the ids of the chats that were accepted from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::MemberId;
use crate::{limits::Limits, name::Name, wire::ResumeFailure};

/// What a client resumes its line with: random bytes that only it and the server know.
pub type Token = [u8; TOKEN_BYTES];

/// The length of a token, in bytes: too many to guess.
pub const TOKEN_BYTES: usize = 16;

/// How many tokens of a line are valid at a time: the last one that was used, and the
/// newest of those that were given since (CHAT-RES-3). A client knows at most one of the
/// latter, so those in between can be forgotten.
pub const TOKENS_MAX: usize = 4;

/// What a store keeps as the end of a session that has not ended: later than any time.
pub const SEEN_NOW: i64 = i64::MAX;

/// Identifies a line; no two lines of an epoch have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineId(pub u64);

/// A chat or a Direct that was accepted from a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The id that the client gave it, not 0.
    pub id: u64,
    /// Its number; 0 for a Direct.
    pub seq: u64,
    /// When it was received, in milliseconds since 1970-01-01T00:00:00Z.
    pub time_unix_ms: i64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name (CHAT-RES-7).
    pub name: Name,
    /// The valid tokens, at most [`TOKENS_MAX`], oldest first.
    pub tokens: VecDeque<Token>,
    /// The highest attempt with which it was resumed (CHAT-RES-6).
    pub attempt: u32,
    /// The number of the last chat that was accepted before it began (CHAT-RES-8).
    pub began_seq: u64,
    /// When its last session ended, in milliseconds since 1970-01-01T00:00:00Z; for one
    /// that is open: when it began, and `SEEN_NOW` for the store.
    pub seen_unix_ms: i64,
    /// The last chats that were accepted from it with an id, oldest first (CHAT-RES-12).
    pub sent: VecDeque<Sent>,
    /// The member that its open session is.
    pub(super) member: Option<MemberId>,
}

impl Line {
    /// A line of an earlier run of the server, without a session.
    pub fn restored(
        name: Name,
        tokens: VecDeque<Token>,
        attempt: u32,
        began_seq: u64,
        seen_unix_ms: i64,
        sent: VecDeque<Sent>,
    ) -> Self {
        Self {
            name,
            tokens,
            attempt,
            began_seq,
            seen_unix_ms,
            sent,
            member: None,
        }
    }

    /// The line as a store keeps it, but for the chats that were accepted from it.
    pub(super) fn to_keep(&self) -> Self {
        Self {
            name: self.name.clone(),
            tokens: self.tokens.clone(),
            sent: VecDeque::new(),
            // If the server crashes, the session lasts until then, however long ago it
            // began.
            seen_unix_ms: self.member.map_or(self.seen_unix_ms, |_| SEEN_NOW),
            ..*self
        }
    }
}

/// What a Register says about the line that it continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The token, whatever its length.
    pub token: Vec<u8>,
    /// The epoch of the session that gave it.
    pub epoch: String,
    /// The number up to which the client has every chat.
    pub seq: u64,
    /// How often the client has tried.
    pub attempt: u32,
}

/// What becomes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimResult {
    /// The line can be resumed. The member that its earlier session is, if that is open.
    Valid {
        /// The line.
        line: LineId,
        /// Its open session.
        member: Option<MemberId>,
    },
    /// A later attempt has resumed it already (CHAT-RES-6).
    Replaced,
    /// It cannot be resumed (CHAT-RES-10).
    Failed(ResumeFailure),
}

/// The lines of a room.
#[derive(Debug)]
pub(super) struct Lines {
    lines: BTreeMap<LineId, Line>,
    tokens: BTreeMap<Token, LineId>,
    /// Those without an open session, by when the last one ended.
    absent: BTreeSet<(i64, LineId)>,
    next_id: u64,
    resume_ms: i64,
    absent_max: usize,
    sent_max: usize,
}

impl Lines {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            lines: BTreeMap::new(),
            tokens: BTreeMap::new(),
            absent: BTreeSet::new(),
            next_id: 1,
            resume_ms: limits.resume_ms.into(),
            absent_max: limits.resumes_max as usize,
            sent_max: limits.resend_ids_max as usize,
        }
    }

    /// Adds a line of an earlier run of the server. It has no open session.
    pub(super) fn restore(&mut self, id: LineId, line: Line) {
        self.next_id = self.next_id.max(id.0.saturating_add(1));
        for &token in &line.tokens {
            self.tokens.insert(token, id);
        }
        self.absent.insert((line.seen_unix_ms, id));
        let line = Line {
            member: None,
            ..line
        };
        self.lines.insert(id, line);
    }

    /// All lines, and the id of the next one that begins.
    pub(super) fn all(&self) -> (impl Iterator<Item = (LineId, &Line)>, u64) {
        let lines = self.lines.iter().map(|(&id, line)| (id, line));
        (lines, self.next_id)
    }

    /// The id of the next line that begins.
    pub(super) fn set_next(&mut self, next_id: u64) {
        self.next_id = self.next_id.max(next_id);
    }

    /// A line that was restored has an open session.
    pub(super) fn reopen(&mut self, id: LineId, member: MemberId) {
        if let Some(line) = self.lines.get_mut(&id) {
            self.absent.remove(&(line.seen_unix_ms, id));
            line.member = Some(member);
        }
    }

    pub(super) fn get(&self, id: LineId) -> Option<&Line> {
        self.lines.get(&id)
    }

    /// The line of a token, if it can still be resumed under this name.
    pub(super) fn find(
        &self,
        claim: &Claim,
        name: &Name,
        now_unix_ms: i64,
    ) -> Option<(LineId, &Line)> {
        let token = Token::try_from(claim.token.as_slice()).ok()?;
        let id = *self.tokens.get(&token)?;
        let line = self.lines.get(&id)?;
        let is_fresh = line.member.is_some() || !self.is_expired(line, now_unix_ms);
        (line.name == *name && is_fresh).then_some((id, line))
    }

    /// Begins a line with its first session.
    pub(super) fn begin(&mut self, member: MemberId, line: Line) -> LineId {
        let id = LineId(self.next_id);
        self.next_id += 1;
        for &token in &line.tokens {
            self.tokens.insert(token, id);
        }
        let line = Line {
            member: Some(member),
            ..line
        };
        self.lines.insert(id, line);
        id
    }

    /// A session continues a line: the tokens before the one that it used are void, and it
    /// has a new one (CHAT-RES-3).
    pub(super) fn resume(&mut self, id: LineId, member: MemberId, claim: &Claim, token: Token) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        self.absent.remove(&(line.seen_unix_ms, id));
        line.member = Some(member);
        line.attempt = claim.attempt;
        while let Some(&oldest) = line.tokens.front()
            && oldest[..] != claim.token[..]
        {
            line.tokens.pop_front();
            self.tokens.remove(&oldest);
        }
        if line.tokens.len() >= TOKENS_MAX
            && let Some(between) = line.tokens.remove(1)
        {
            self.tokens.remove(&between);
        }
        line.tokens.push_back(token);
        self.tokens.insert(token, id);
    }

    /// The session of a line has ended without a Leave. Returns the lines that ended to
    /// make room.
    pub(super) fn suspend(&mut self, id: LineId, now_unix_ms: i64) -> Vec<LineId> {
        if let Some(line) = self.lines.get_mut(&id) {
            line.member = None;
            line.seen_unix_ms = now_unix_ms;
            self.absent.insert((now_unix_ms, id));
        }
        let mut ended = Vec::new();
        while let Some(&(_, oldest)) = self.absent.first()
            && (self.absent.len() > self.absent_max
                || self
                    .lines
                    .get(&oldest)
                    .is_none_or(|line| self.is_expired(line, now_unix_ms)))
        {
            self.end(oldest);
            ended.push(oldest);
        }
        ended
    }

    /// Ends a line (CHAT-RES-4).
    pub(super) fn end(&mut self, id: LineId) {
        let Some(line) = self.lines.remove(&id) else {
            return;
        };
        self.absent.remove(&(line.seen_unix_ms, id));
        for token in &line.tokens {
            self.tokens.remove(token);
        }
    }

    /// What was accepted from a line under an id (CHAT-RES-11).
    pub(super) fn sent(&self, id: LineId, chat_id: u64) -> Option<&Sent> {
        let sent = &self.lines.get(&id)?.sent;
        // What comes again is among the last ones.
        sent.iter().rev().find(|sent| sent.id == chat_id)
    }

    /// A chat with an id was accepted from a line (CHAT-RES-12).
    pub(super) fn note_sent(&mut self, id: LineId, sent: Sent) {
        if let Some(line) = self.lines.get_mut(&id) {
            if line.sent.len() >= self.sent_max {
                line.sent.pop_front();
            }
            line.sent.push_back(sent);
        }
    }

    fn is_expired(&self, line: &Line, now_unix_ms: i64) -> bool {
        now_unix_ms.saturating_sub(line.seen_unix_ms) > self.resume_ms
    }
}
