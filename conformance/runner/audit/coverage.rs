//! Coverage: what a session with a filter is told of the chats that it chose (CHAT-FOL,
//! CHAT-COV), and what is missing of them.

use chat::capture::End;
use serde_json::Value;

use super::{
    Audit,
    filter::Filter,
    finding::Place,
    key,
    missing::HOLES_MAX,
    session::{Asked, Session, number},
};

/// Something that told a session how far the chats that it is due have come.
#[derive(Debug)]
struct Told {
    seq: u64,
    by: Teller,
    line: usize,
}

/// What told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teller {
    Chat,
    Covered,
    Following,
}

/// What a session chose to receive.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The filters, each with the number above which it is in force.
    filters: Vec<(u64, Option<Filter>)>,
    /// The Follows without an answer, each with its id.
    asked: Vec<(u64, Asked)>,
    /// The numbers that it was told, in order.
    told: Vec<Told>,
    /// The highest of them.
    highest: u64,
    /// The highest that a Covered has told, and a Following.
    covered: u64,
    followed: u64,
}

impl Choice {
    pub(super) fn new(filter: Option<Filter>) -> Self {
        Self {
            filters: vec![(0, filter)],
            ..Self::default()
        }
    }

    /// Whether it has, or had, a filter.
    pub(super) fn has_chosen(&self) -> bool {
        self.filters.iter().any(|(_, filter)| filter.is_some())
    }

    /// Whether it has a filter now.
    pub(super) fn has_filter(&self) -> bool {
        matches!(self.filters.last(), Some((_, Some(_))))
    }

    /// The filter in force for a number.
    pub(super) fn filter(&self, seq: u64) -> Option<&Filter> {
        let mut filters = self.filters.iter().rev();
        let (_, filter) = filters.find(|(above, _)| *above < seq)?;
        filter.as_ref()
    }

    pub(super) fn asks(&mut self, id: u64, asked: Asked) {
        self.asked.push((id, asked));
    }

    /// The line of the Follow with an id that has no answer.
    pub(super) fn asked(&self, id: u64) -> Option<usize> {
        let asked = self.asked.iter().find(|asked| asked.0 == id);
        asked.map(|(_, asked)| asked.line)
    }

    /// The server refuses a Follow.
    pub(super) fn refused(&mut self, id: u64) {
        if let Some(place) = self.asked.iter().position(|asked| asked.0 == id) {
            self.asked.remove(place);
        }
    }

    pub(super) fn tell(&mut self, by: Teller, seq: u64, line: usize) {
        self.told.push(Told { seq, by, line });
        self.highest = self.highest.max(seq);
        match by {
            Teller::Covered => self.covered = self.covered.max(seq),
            Teller::Following => self.followed = self.followed.max(seq),
            Teller::Chat => {}
        }
    }
}

impl Audit {
    /// A chat comes to a session: behind what the session was told to have all of?
    pub(super) fn check_place(&mut self, session: &Session, at: Place, seq: u64) {
        for (told, rule, what) in [
            (session.choice.covered, "CHAT-COV-1", "Covered"),
            (session.choice.followed, "CHAT-FOL-8", "Following"),
        ] {
            if seq <= told {
                let sentence = format!("the chat {seq} comes after a {what} up to {told}");
                self.report.find(rule, End::Server, at, sentence);
            }
        }
    }

    pub(super) fn covered(&mut self, session: &mut Session, at: Place, body: &Value) {
        let (seq, sent) = (number(&body["seq"]), number(&body["sent"]));
        if !session.choice.has_filter() {
            let sentence = format!("{} has no filter, and receives a Covered", session.name);
            self.report.find("CHAT-COV-5", End::Server, at, sentence);
        }
        let came = session.chats_came;
        if sent != came {
            let sentence = format!("Covered says that {sent} chats were sent, and {came} came");
            self.report.find("CHAT-COV-4", End::Server, at, sentence);
        }
        session.choice.tell(Teller::Covered, seq, at.line);
        self.reached(session, seq);
    }

    pub(super) fn following(&mut self, session: &mut Session, at: Place, body: &Value) {
        let (id, seq) = (number(&body["id"]), number(&body["seq"]));
        let asked = &mut session.choice.asked;
        if asked.first().is_none_or(|asked| asked.0 != id) {
            let sentence = format!("no Follow waits for the Following with the id {id}");
            self.report.find("CHAT-FOL-6", End::Server, at, sentence);
            return;
        }
        let (_, Asked { filter, .. }) = asked.remove(0);
        let told = session.choice.highest;
        if told > seq {
            let sentence = format!("the Following up to {seq} comes after the number {told}");
            self.report.find("CHAT-FOL-8", End::Server, at, sentence);
        }
        // Its own chats that were answered by then were sent before the Follow.
        let own = session.own.keys().next_back().copied();
        if let Some(own) = own.filter(|own| *own > seq) {
            let sentence = format!("the Following up to {seq} answers behind its own chat {own}");
            self.report.find("CHAT-FOL-7", End::Server, at, sentence);
        }
        session.choice.tell(Teller::Following, seq, at.line);
        self.reached(session, seq);
        session.choice.filters.push((seq, filter));
    }

    /// A session with a filter was told a number.
    pub(super) fn reached(&mut self, session: &Session, seq: u64) {
        if session.choice.has_filter()
            && let Some(line) = self.lines.get_mut(&key(&session.name))
        {
            line.advance(seq);
        }
    }

    /// What a session received that its filter keeps out, and what it did not receive.
    pub(super) fn check_choice(&mut self, session: &Session) {
        let choice = &session.choice;
        let mut findings = Vec::new();
        for told in choice.told.iter().filter(|told| told.by == Teller::Chat) {
            let known = self.chats.get(&(session.epoch.clone(), told.seq));
            let filter = choice.filter(told.seq);
            if let (Some(known), Some(filter)) = (known, filter)
                && !filter.passes(known)
            {
                let sentence = format!(
                    "{} receives the chat {} by {}, which its filter keeps out",
                    session.name, told.seq, known.sender
                );
                findings.push(("CHAT-FOL-4", told.line, sentence));
            }
        }
        let mut from = session.from;
        for told in &choice.told {
            let looked_at = from.saturating_add(HOLES_MAX as u64).min(told.seq);
            for seq in from..=looked_at {
                let Some(known) = self.chats.get(&(session.epoch.clone(), seq)) else {
                    continue;
                };
                let is_own = known.sender == session.name && seq > session.registered_seq;
                let passes = choice.filter(seq).is_none_or(|it| it.passes(known));
                if is_own || !passes || session.chats.contains_key(&seq) {
                    continue;
                }
                let there = self.report.shown(known.at);
                let (rule, what) = match told.by {
                    Teller::Covered => ("CHAT-COV-1", format!("is covered up to {}", told.seq)),
                    Teller::Following => ("CHAT-FOL-8", format!("follows from {}", told.seq)),
                    Teller::Chat if session.is_resumed && seq <= session.registered_seq => {
                        ("CHAT-RES-9", format!("receives the chat {}", told.seq))
                    }
                    Teller::Chat => ("CHAT-ORD-4", format!("receives the chat {}", told.seq)),
                };
                let sentence = format!(
                    "{} {what} and lacks the chat {seq} by {} in {there}, which its filter lets pass",
                    session.name, known.sender
                );
                findings.push((rule, told.line, sentence));
            }
            from = from.max(told.seq + 1);
        }
        for (rule, line, sentence) in findings {
            let at = Place { line, ..session.at };
            self.report.find(rule, End::Server, at, sentence);
        }
    }
}
