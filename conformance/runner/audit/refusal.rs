//! Refusals: what an Error refuses (CHAT-ERR-4): a Chat or a Direct, a Follow, a
//! GetHistory, or none of these.

use std::sync::LazyLock;

use super::{
    Audit,
    finding::Place,
    key,
    session::{Pending, Session, number, text},
};
use crate::{problem::Received, rules};

/// The codes of the errors that have an id, read from the rule itself.
static CODES: LazyLock<Codes> = LazyLock::new(|| {
    let rules = rules::parse(chat::wire::SCHEMA);
    let rule = rules.iter().find(|rule| rule.id == "CHAT-ERR-4");
    Codes::of(rule.map_or("", |rule| &rule.sentence))
});

/// The two lists of CHAT-ERR-4.
#[derive(Debug)]
struct Codes {
    /// Those that refuse a Chat or a Direct.
    of_chats: Vec<String>,
    /// Those that refuse a GetHistory or a Follow.
    of_requests: Vec<String>,
}

impl Codes {
    /// The lists are in parentheses.
    fn of(rule: &str) -> Self {
        let mut lists = rule.split('(').skip(1).map(|rest| {
            let list = rest.split(')').next().unwrap_or_default();
            list.split(", ").map(str::to_owned).collect()
        });
        Self {
            of_chats: lists.next().unwrap_or_default(),
            of_requests: lists.next().unwrap_or_default(),
        }
    }
}

/// What an Error refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Chat,
    Follow,
    GetHistory,
}

impl Audit {
    pub(super) fn error(&mut self, session: &mut Session, at: Place, message: &Received) {
        let id = number(&message.body["id"]);
        match refused(session, message) {
            Some(Refused::Chat) if session.has_receipts => {
                self.answer(session, at, id, None);
            }
            Some(Refused::Chat) => {
                session.answer(id);
            }
            Some(Refused::Follow) => session.choice.refused(id),
            Some(Refused::GetHistory) => {
                session.pages.remove(&text(&message.body["id"]));
            }
            None if matches!(message.code(), Some("NOT_GRANTED" | "UNKNOWN_MESSAGE")) => {
                self.not_granted(session);
            }
            None => {}
        }
    }

    /// The server takes no messages of some capability, and does not say which message it
    /// refuses: at the earliest, the first that may be such a one.
    fn not_granted(&mut self, session: &mut Session) {
        let mut pending = session.pending.iter_mut();
        let Some(sent) = pending.find(|it| it.is_not_granted && !it.is_refused) else {
            return;
        };
        sent.is_refused = true;
        let id = sent.id;
        if session.has_resume && id != 0 {
            let line = self.lines.entry(key(&session.name)).or_default();
            line.answered(id, None);
        }
    }
}

fn refused(session: &Session, message: &Received) -> Option<Refused> {
    let (id, code) = (&message.body["id"], message.code()?);
    // It refuses a PutFile, a FileData or a GetFile.
    if !text(&message.body["sha256"]).is_empty() {
        return None;
    }
    let is_of_chats = CODES.of_chats.iter().any(|it| it == code);
    if !CODES.of_requests.iter().any(|it| it == code) {
        return is_of_chats.then_some(Refused::Chat);
    }
    // A Chat and a request may have the same id: the first that was sent is answered first.
    let is_refused = |sent: &&Pending| sent.id == number(id) && sent.names_files; // CHAT-FILE-9
    let chat = session.pending.iter().find(is_refused);
    let chat = chat.filter(|_| is_of_chats).map(|sent| sent.line);
    let page = session.pages.get(&text(id)).map(|page| page.line);
    [
        (chat, Refused::Chat),
        (session.choice.asked(number(id)), Refused::Follow),
        (page, Refused::GetHistory),
    ]
    .into_iter()
    .filter_map(|(line, what)| Some((line?, what)))
    .min_by_key(|(line, _)| *line)
    .map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    use chat::wire::ErrorCode;

    use super::*;

    #[test]
    fn the_rule_lists_codes_of_the_schema() {
        let Codes {
            of_chats,
            of_requests,
        } = &*CODES;
        for code in of_chats.iter().chain(of_requests) {
            let known = ErrorCode::from_str_name(&format!("ERROR_CODE_{code}"));
            assert!(known.is_some(), "{code}");
        }
        for code in ["TEXT_INVALID", "FILE_UNKNOWN", "REQUEST_INVALID"] {
            assert!(of_chats.iter().any(|it| it == code), "{code}");
        }
        assert_eq!(of_requests, &["REQUEST_INVALID"]);
    }
}
