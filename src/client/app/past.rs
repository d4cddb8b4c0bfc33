//! The past: what was said before the client came, where the server keeps it.

use std::collections::VecDeque;

use super::line_messages;
use super::report::say;
use crate::client::{Filter, HistoryError, Printable, Session};
use crate::wire::{Chat, get_history::Edge};

/// How many chats are fetched at the most.
pub(super) const CHATS_MAX: u32 = 10_000;

/// The last chats before the session that pass `filter`, oldest first: up to `count`, fewer
/// if fewer are kept. Says why if there are none to be had.
pub(super) async fn last(session: &mut Session, count: u32, filter: &Filter) -> VecDeque<Chat> {
    let mut chats = VecDeque::new();
    match fetch(session, count.min(CHATS_MAX) as usize, filter, &mut chats).await {
        Ok(()) => {}
        Err(HistoryError::NotGranted) => {
            say(&Printable::new().trusted("this server does not show what was said before"));
        }
        Err(HistoryError::Refused { code, detail }) => {
            let line = Printable::new().trusted("cannot show what was said before: ");
            say(&line.append(&line_messages::refusal(code, &detail)));
        }
        Err(error) => {
            let line = Printable::new().trusted("cannot show all that was said before: ");
            say(&line.untrusted(&error.to_string()));
        }
    }
    chats
}

/// As [`last`], and says nothing.
pub(super) async fn last_quietly(session: &mut Session, count: u32) -> VecDeque<Chat> {
    let mut chats = VecDeque::new();
    // What came before an error is shown.
    let everything = Filter::default();
    let _ = fetch(
        session,
        count.min(CHATS_MAX) as usize,
        &everything,
        &mut chats,
    )
    .await;
    chats
}

async fn fetch(
    session: &mut Session,
    count: usize,
    filter: &Filter,
    chats: &mut VecDeque<Chat>,
) -> Result<(), HistoryError> {
    // What comes behind it comes as events (CHAT-HIST-3).
    let mut before = session.registered().seq.saturating_add(1);
    while chats.len() < count {
        let wanted = u32::try_from(count - chats.len()).unwrap_or(u32::MAX);
        let page = session
            .filtered_history(Edge::Before(before), wanted, filter)
            .await?;
        // CHAT-HIST-5: nothing lies there; and a server that goes nowhere is not followed.
        if page.from == 0 || page.from >= before {
            break;
        }
        before = page.from;
        let room = count - chats.len();
        for chat in page.chats.into_iter().rev().take(room) {
            chats.push_front(chat);
        }
    }
    Ok(())
}
