//! Lines: the sessions that continue one another, as a list (CHAT-RES).

use std::collections::BTreeMap;

use crate::{limits::Limits, wire::ResumeFailure};

/// The epoch of a simulated room.
pub(super) const EPOCH: &str = "epoch";

/// How many tokens of a line that were given since the last used one surely are valid
/// (src/room/lines.rs): a client knows at most one of them.
const NEWER_TOKENS_MAX: usize = 3;

/// What a Register says about the line that it continues.
pub(super) type Claim = crate::wire::Resume;

/// What must become of a claim.
pub(super) enum Judged {
    /// The line goes on; its session that is still open.
    Valid {
        line: usize,
        open: Option<usize>,
    },
    Replaced,
    Failed(ResumeFailure),
}

/// A chat that was accepted: its number and its time.
pub(super) type Accepted = (u64, i64);

#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    /// The line of each connection that has one.
    of: BTreeMap<usize, usize>,
    resume_ms: i64,
    absent_max: usize,
    resend_ids_max: usize,
}

#[derive(Default)]
struct Line {
    name: String,
    /// Its connections, in order.
    sessions: Vec<usize>,
    /// The tokens that clients have received, by the connection that received each.
    tokens: BTreeMap<usize, Vec<u8>>,
    /// Where in `sessions` the one stands whose token was used last.
    used: usize,
    attempt: u32,
    began_seq: u64,
    /// When its last session ended, if none is open.
    absent_since: Option<i64>,
    is_over: bool,
    /// The chats that were accepted with an id, oldest first.
    accepted: Vec<(u64, Accepted)>,
}

impl Lines {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            resume_ms: limits.resume_ms.into(),
            absent_max: limits.resumes_max as usize,
            resend_ids_max: limits.resend_ids_max as usize,
            ..Self::default()
        }
    }

    /// What becomes of a claim under a name, when `seq` chats are accepted.
    pub(super) fn judge(&self, claim: &Claim, name: &str, seq: u64, unix_ms: i64) -> Judged {
        if claim.epoch != EPOCH {
            return Judged::Failed(ResumeFailure::OtherEpoch);
        }
        let found = self.lines.iter().position(|line| {
            line.is_valid(&claim.token)
                && line.name.eq_ignore_ascii_case(name)
                && !(line.is_over || self.is_expired(line, unix_ms))
        });
        let Some(index) = found else {
            return Judged::Failed(ResumeFailure::UnknownToken);
        };
        let line = &self.lines[index];
        if claim.attempt <= line.attempt {
            return Judged::Replaced;
        }
        if claim.seq > seq {
            return Judged::Failed(ResumeFailure::FutureSeq);
        }
        Judged::Valid {
            line: index,
            open: match line.absent_since {
                None => line.sessions.last().copied(),
                Some(_) => None,
            },
        }
    }

    /// A connection begins a line.
    pub(super) fn begin(&mut self, by: usize, name: &str, seq: u64) {
        self.of.insert(by, self.lines.len());
        self.lines.push(Line {
            name: name.to_owned(),
            sessions: vec![by],
            began_seq: seq,
            ..Line::default()
        });
    }

    /// A connection continues a line. Returns the first number that it is sent.
    pub(super) fn resume(&mut self, index: usize, by: usize, claim: &Claim) -> u64 {
        self.of.insert(by, index);
        let line = &mut self.lines[index];
        let mut tokens = line.tokens.iter();
        let giver = tokens.find(|(_, token)| **token == claim.token);
        let giver = *giver.expect("its token is valid").0;
        line.used = line.place(giver);
        line.attempt = claim.attempt;
        line.absent_since = None;
        line.sessions.push(by);
        claim.seq.max(line.began_seq) + 1
    }

    /// The session of a connection has ended. `is_over`: with its line.
    pub(super) fn left(&mut self, by: usize, is_over: bool, unix_ms: i64) {
        let Some(&index) = self.of.get(&by) else {
            return;
        };
        let line = &mut self.lines[index];
        if is_over {
            line.is_over = true;
            return;
        }
        line.absent_since = Some(unix_ms);
        loop {
            let absent = self.lines.iter().enumerate().filter(|(_, it)| !it.is_over);
            let absent = absent.filter_map(|(index, it)| Some((it.absent_since?, index)));
            let absent: Vec<_> = absent.collect();
            let Some(&(_, oldest)) = absent.iter().min() else {
                return;
            };
            let is_full = absent.len() > self.absent_max;
            if !(is_full || self.is_expired(&self.lines[oldest], unix_ms)) {
                return;
            }
            self.lines[oldest].is_over = true;
        }
    }

    /// The client of a connection has received its token.
    pub(super) fn received_token(&mut self, by: usize, token: &[u8]) {
        let is_known = self.lines.iter().any(|line| line.has(token));
        assert!(!is_known && (1..=64).contains(&token.len()), "CHAT-RES-2");
        let line = &mut self.lines[self.of[&by]];
        line.tokens.insert(by, token.to_vec());
    }

    /// A chat of a connection was accepted.
    pub(super) fn accepted(&mut self, by: usize, id: u64, accepted: Accepted) {
        assert!(
            self.remembered(by, id).is_none(),
            "CHAT-RES-11: the chat {id} of {by} is accepted twice"
        );
        if let Some(line) = self.of.get(&by) {
            self.lines[*line].accepted.push((id, accepted));
        }
    }

    /// What was accepted from the line of a connection under an id, if the server must
    /// still know it (CHAT-RES-12).
    pub(super) fn remembered(&self, by: usize, id: u64) -> Option<Accepted> {
        let line = &self.lines[*self.of.get(&by)?];
        let last = line.accepted.iter().rev().take(self.resend_ids_max);
        last.filter(|(known, _)| *known == id).map(|it| it.1).next()
    }

    /// All that was accepted from the line of a connection.
    pub(super) fn all_accepted(&self, by: usize) -> BTreeMap<u64, Accepted> {
        let line = self.of.get(&by).map(|line| &self.lines[*line]);
        line.map_or(BTreeMap::new(), |it| it.accepted.iter().copied().collect())
    }

    fn is_expired(&self, line: &Line, unix_ms: i64) -> bool {
        line.absent_since
            .is_some_and(|since| unix_ms.saturating_sub(since) > self.resume_ms)
    }
}

impl Line {
    fn place(&self, session: usize) -> usize {
        let place = self.sessions.iter().position(|it| *it == session);
        place.expect("it is a session of the line")
    }

    fn has(&self, token: &[u8]) -> bool {
        self.tokens.values().any(|it| it == token)
    }

    /// Whether a token was given at or after the last one that was used (CHAT-RES-3).
    fn is_valid(&self, token: &[u8]) -> bool {
        let mut tokens = self.tokens.iter();
        let giver = tokens.find(|(_, it)| *it == token).map(|(by, _)| *by);
        giver.is_some_and(|giver| {
            let place = self.place(giver);
            // Those between the used one and the newest may be forgotten.
            place == self.used
                || place > self.used && place + NEWER_TOKENS_MAX >= self.sessions.len()
        })
    }
}
