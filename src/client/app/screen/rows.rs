//! Rows: how an entry of the log looks, cut to the width of the screen. Pure.

use std::ops::Range;

use super::find;
use super::log::{Delivery, Entry, Kind};
use super::model::{LATE_MS, Model};
use crate::client::{INDENT_COLUMNS_MIN, Printable, Row, drawn_width as width, wrap_by};

/// What the line of a new day and the unread marker begin with. No text can: texts stand
/// behind a time, a name or an indent.
const RULE: &str = "── ";

/// A message that begins so says what its sender does.
const ACTION: &str = "/me ";

/// What a part of an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Time,
    /// The name of a member, or one's own.
    Name(String),
    OwnName,
    Text,
    /// Text of one's own that is not confirmed.
    Unconfirmed,
    Notice,
    /// The state of a line of one's own.
    State,
    /// The state of a line of one's own that went wrong.
    Problem,
    /// A new day, or the unread marker.
    Rule,
}

/// What a piece of a text is, beside its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// A web address: this one.
    Link(String),
    /// One's own name.
    Mention,
    /// What is searched for.
    Hit,
}

/// An entry on the screen.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub(super) roles: Vec<Role>,
    pub(super) parts: Vec<Printable>,
    /// Marked bytes of parts.
    pub(super) marks: Vec<(usize, Range<usize>, Mark)>,
    pub(super) rows: Vec<Row>,
}

impl Block {
    fn put(&mut self, role: Role, part: Printable) {
        self.roles.push(role);
        self.parts.push(part);
    }

    /// Marks the last part.
    fn mark(&mut self, ranges: Vec<Range<usize>>, mark: impl Fn(&str) -> Mark) {
        let Some(part) = self.parts.last() else {
            return;
        };
        let marks = ranges.into_iter().map(|range| {
            let text = part.as_str().get(range.clone()).unwrap_or_default();
            (self.parts.len() - 1, range, mark(text))
        });
        self.marks.extend(marks);
    }

    /// Puts a line of the program above the entry.
    fn rule(&mut self, words: &str, columns: usize) {
        let index = self.parts.len();
        let line = Printable::new().untrusted(&format!("{RULE}{words} ──"));
        let rows = wrap_by(
            width,
            std::slice::from_ref(&line),
            columns,
            INDENT_COLUMNS_MIN,
        );
        self.put(Role::Rule, line);
        for mut row in rows {
            for (part, _) in &mut row.pieces {
                *part = index;
            }
            self.rows.push(row);
        }
    }
}

/// The rows of an entry; `before` is the entry above it.
pub(super) fn block(model: &Model, entry: &Entry, before: Option<&Entry>) -> Block {
    let columns = model.size.0;
    let mut block = Block::default();
    if before.is_some_and(|before| before.at.date() < entry.at.date()) {
        block.rule(&entry.at.strftime("%a %-d %b %Y").to_string(), columns);
    }
    let view = model.views.current();
    if view.marker == Some(entry.id) {
        block.rule("unread below", columns);
    }
    let first = block.parts.len();
    let time = Printable::new().untrusted(&model.settings.time(entry.at));
    let indent = width(time.as_str()) + INDENT_COLUMNS_MIN;
    block.put(Role::Time, time);
    match &entry.kind {
        Kind::Message {
            sender,
            key,
            topic,
            text,
            is_mention,
        } => {
            let mut name = Printable::new().name(sender);
            if let Some(mark) = key.show() {
                name = name.append(&mark);
            }
            let name = match view.is_room() {
                true => labelled(name, topic),
                false => name,
            };
            said(
                &mut block,
                Role::Name(sender.clone()),
                name,
                text,
                Role::Text,
            );
            if *is_mention {
                let mentions = find::mentions(last(&block), &model.name);
                block.mark(mentions, |_| Mark::Mention);
            }
            find_marks(&mut block, model);
        }
        Kind::Direct { sender, text } => {
            let name = Printable::new().name(sender);
            let name = match view.is_room() {
                true => name.trusted(" to you alone"),
                false => name,
            };
            said(
                &mut block,
                Role::Name(sender.clone()),
                name,
                text,
                Role::Text,
            );
            find_marks(&mut block, model);
        }
        Kind::Own {
            name,
            to,
            topic,
            text,
            delivery,
            typed_ms,
        } => {
            let mut name = Printable::new().name(name);
            if view.is_room() {
                name = labelled(name, topic);
                if let Some(to) = to {
                    name = name.trusted(" to ").name(to).trusted(" alone");
                }
            }
            let role = match delivery {
                Delivery::Sent | Delivery::Delivered | Delivery::Unconfirmable => Role::Text,
                _ => Role::Unconfirmed,
            };
            said(&mut block, Role::OwnName, name, text, role);
            find_marks(&mut block, model);
            let is_late = model.now.ms.saturating_sub(*typed_ms) >= LATE_MS;
            if let Some((role, state)) = state(delivery, is_late) {
                let state = Printable::new().trusted(" (").append(&state).trusted(")");
                block.put(role, state);
            }
        }
        Kind::Notice(line, _) => {
            let line = Printable::new().trusted("* ").append(line);
            block.put(Role::Notice, line);
        }
        Kind::Presence(folded) => {
            let line = Printable::new().trusted("* ").append(&folded.sentence());
            block.put(Role::Notice, line);
        }
    }
    let parts = block.parts.get(first..).unwrap_or_default();
    for mut row in wrap_by(width, parts, columns, indent) {
        for (part, _) in &mut row.pieces {
            *part += first;
        }
        block.rows.push(row);
    }
    block
}

/// "Bob #topic", or "Bob" without one.
fn labelled(name: Printable, topic: &str) -> Printable {
    match topic {
        "" => name,
        topic => name.trusted(" #").untrusted(topic),
    }
}

/// "Bob: hello", or "Bob waves" for a message that begins with `/me`.
fn said(block: &mut Block, name_role: Role, name: Printable, text: &str, role: Role) {
    match text.strip_prefix(ACTION) {
        Some(action) => {
            block.put(name_role, name);
            block.put(role, Printable::new().trusted(" ").untrusted(action));
        }
        None => {
            block.put(name_role, name.trusted(":"));
            block.put(role, Printable::new().trusted(" ").untrusted(text));
        }
    }
}

fn last(block: &Block) -> &str {
    block.parts.last().map_or("", Printable::as_str)
}

/// Marks web addresses and what is searched for.
fn find_marks(block: &mut Block, model: &Model) {
    let urls = find::urls(last(block));
    block.mark(urls, |url| Mark::Link(url.to_owned()));
    if let Some(search) = &model.search {
        let hits = find::hits(last(block), &search.wanted);
        block.mark(hits, |_| Mark::Hit);
    }
}

/// What is said behind a line of one's own. A line that is not confirmed never looks
/// like one that is.
fn state(delivery: &Delivery, is_late: bool) -> Option<(Role, Printable)> {
    let line = Printable::new();
    Some(match delivery {
        Delivery::Sent => return None,
        Delivery::Accepted => (Role::State, line.trusted("not yet delivered")),
        Delivery::Delivered => (Role::State, line.trusted("delivered")),
        Delivery::Undelivered => (
            Role::Problem,
            line.trusted("perhaps not delivered: the other has left"),
        ),
        Delivery::Unsettled => (
            Role::State,
            line.trusted("sent; the connection was lost before the server said more"),
        ),
        Delivery::Waiting if is_late => (Role::Problem, line.trusted("waiting, not sent")),
        Delivery::Sending if is_late => (Role::Problem, line.trusted("not confirmed")),
        Delivery::Waiting | Delivery::Sending => (Role::State, line.trusted("…")),
        Delivery::Unconfirmable => (Role::State, line.trusted("sent, unconfirmed")),
        Delivery::NotSent(reason) => (Role::Problem, line.trusted("not sent: ").append(reason)),
        Delivery::Unknown => (
            Role::Problem,
            line.trusted("unknown: the connection was lost before it was confirmed"),
        ),
    })
}
