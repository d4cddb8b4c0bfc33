//! What is missing: numbers that a session lacks, and chats that a page lacks.

use chat::capture::End;

use super::{
    Audit, Page,
    finding::{Finding, Place, Report, Summary},
    session::Session,
};

/// The most holes of one session that are looked at one by one.
pub(super) const HOLES_MAX: usize = 10_000;

impl Audit {
    /// Everything is read: what is missing shows only now.
    pub(super) fn end(mut self) -> Report {
        self.sessions.sort_by_key(|it| (it.at.file, it.at.line));
        for session in std::mem::take(&mut self.sessions) {
            self.holes(&session);
            self.report.sessions.push(Summary {
                file: self.report.file(session.at.file),
                line: session.at.line,
                from: session.from,
                to: session.to(),
                chats: session.chats.len(),
                own: session.own.len(),
                resumed: session.is_resumed,
                missed: session.missed,
                filtered: session.choice.has_chosen(),
                name: session.name,
                epoch: session.epoch,
            });
        }
        for page in std::mem::take(&mut self.pages) {
            self.page_holes(&page);
        }
        let mut epochs: Vec<&String> = self.report.sessions.iter().map(|it| &it.epoch).collect();
        epochs.sort();
        epochs.dedup();
        self.report.epochs = epochs.len();
        self.report.chats = self.chats.len();
        let order = |finding: &Finding| (finding.at.file, finding.at.line);
        self.report.findings.sort_by_key(order);
        self.report
    }

    /// A number that a session lacks is a chat of its own that was not answered, or one
    /// that it should have received.
    fn holes(&mut self, session: &Session) {
        if session.choice.has_chosen() {
            return self.check_choice(session);
        }
        let mut unexplained = Vec::new();
        for seq in session.holes().take(HOLES_MAX) {
            let known = self.chats.get(&(session.epoch.clone(), seq));
            let may_be_own = seq > session.registered_seq;
            match known {
                Some(known) if known.sender != session.name || !may_be_own => {
                    let (by, there) = (known.sender.clone(), self.report.shown(known.at));
                    let sentence =
                        format!("{} lacks the chat {seq} by {by} in {there}", session.name);
                    self.missing(session, seq, sentence);
                }
                _ if !may_be_own => {
                    let sentence = format!("{} lacks the chat {seq}", session.name);
                    self.missing(session, seq, sentence);
                }
                _ => unexplained.push(seq),
            }
        }
        let chats = session.pending.iter().filter(|sent| !sent.is_direct);
        let own = chats.count();
        if let Some(&first) = unexplained.get(own) {
            let sentence = format!(
                "{} lacks {} chats, {first} among them, and {own} of its own are not answered",
                session.name,
                unexplained.len(),
            );
            self.missing(session, first, sentence);
        }
    }

    fn missing(&mut self, session: &Session, seq: u64, sentence: String) {
        let rule = match session.is_resumed && seq <= session.registered_seq {
            true => "CHAT-RES-9",
            false => "CHAT-ORD-4",
        };
        // It shows where the next number comes.
        let next = session.chats.range(seq..).next();
        let at = next.map_or(session.at, |(_, &line)| Place { line, ..session.at });
        self.report.find(rule, End::Server, at, sentence);
    }

    fn page_holes(&mut self, page: &Page) {
        for &seq in &page.numbers {
            let known = self.chats.get(&(page.epoch.clone(), seq));
            if let (Some(known), Some(filter)) = (known, &page.filter)
                && !filter.passes(known)
            {
                let sentence = format!("a page has the chat {seq}, which its filter keeps out");
                self.report
                    .find("CHAT-FOL-10", End::Server, page.at, sentence);
            }
        }
        let last = page.to.min(page.from.saturating_add(HOLES_MAX as u64));
        for seq in page.from..=last {
            let known = self.chats.get(&(page.epoch.clone(), seq));
            if let Some(known) = known
                && page.filter.as_ref().is_none_or(|it| it.passes(known))
                && page.numbers.binary_search(&seq).is_err()
            {
                let there = self.report.shown(known.at);
                let sentence = format!(
                    "a page from {} to {} lacks the chat {seq} in {there}",
                    page.from, page.to
                );
                self.report
                    .find("CHAT-HIST-2", End::Server, page.at, sentence);
            }
        }
    }
}
