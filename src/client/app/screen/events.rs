//! Events of the session: what they do to the [`Model`]. Pure.

use super::find;
use super::log::{Delivery, Kind, ViewId};
use super::model::{Action, Link, Model};
use super::views::Subject;
use crate::client::app::known_names::{self, KeyMark, Verdict};
use crate::client::app::line_messages::{self, file_size};
use crate::client::app::messages;
use crate::client::{Event, Printable, SenderId};
use crate::wire::File;

/// How many directs may be without their state: more than a server keeps for a sender.
const DIRECTS_ACCEPTED_MAX: usize = 1_024;

/// How many files that messages have named are remembered.
const FILES_MAX: usize = 1_000;

/// How many names may have a key that is not the known one, to be trusted.
const NAMES_CHANGED_MAX: usize = 1_000;

impl Model {
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Message {
                seq,
                sender,
                text,
                time_unix_ms,
                sender_id,
                topic,
                files,
                ..
            } => {
                self.judge(&sender, sender_id);
                let key = self.known.mark(&sender, sender_id);
                if let Some(view) = self.message(seq, (sender, key, topic), text, time_unix_ms) {
                    self.announce(view, files);
                }
            }
            Event::Removed {
                seq,
                sender,
                time_unix_ms,
            } => {
                let text = line_messages::REMOVED.to_owned();
                let sender = (sender, KeyMark::None, String::new());
                self.message(seq, sender, text, time_unix_ms);
            }
            Event::Direct {
                sender,
                text,
                time_unix_ms,
                files,
                ..
            } => {
                if let Some(view) = self.direct(sender, text, time_unix_ms) {
                    self.announce(view, files);
                }
            }
            Event::DirectState { id, is_delivered } => {
                if let Some(entry) = self.accepted.remove(&id) {
                    let delivery = match is_delivered {
                        true => Delivery::Delivered,
                        false => Delivery::Undelivered,
                    };
                    self.log.settle(entry, delivery, None);
                }
            }
            Event::Members { names, more } => {
                for name in names {
                    self.members.add(name);
                }
                if !more && !self.has_greeted {
                    self.greet();
                }
            }
            Event::Joined { name } => {
                let sentence = Printable::new().name(&name).trusted(" joined");
                self.log.presence(self.at(), sentence, true);
                self.members.add(name);
            }
            Event::Left { name, reason } => {
                let sentence = messages::left(&name, reason);
                self.log.presence(self.at(), sentence, false);
                self.members.remove(&name);
            }
            Event::Receipt { id, seq } => {
                self.saw(seq);
                if let Some((entry, sent_ms)) = self.sent.remove(&id) {
                    self.round_trip_ms = Some(self.now.ms.saturating_sub(sent_ms));
                    if seq > 0 {
                        self.log.settle(entry, Delivery::Sent, Some(seq));
                    } else {
                        self.accepted.insert(id, entry);
                        self.log.settle(entry, Delivery::Accepted, None);
                        if self.accepted.len() > DIRECTS_ACCEPTED_MAX {
                            self.accepted.pop_first();
                        }
                    }
                }
            }
            Event::Refused {
                id, code, detail, ..
            } => {
                self.refused += usize::from(id != 0);
                let reason = line_messages::refusal(code, &detail);
                match self.sent.remove(&id) {
                    Some((entry, _)) => {
                        self.log.settle(entry, Delivery::NotSent(reason), None);
                    }
                    None => self.notice(Printable::new().trusted("refused: ").append(&reason)),
                }
            }
            Event::Reconnecting { after, reason } => {
                let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                let until_ms = self.now.ms.saturating_add(after_ms);
                self.forget_accepted();
                if self.link == Link::Up {
                    self.members.clear();
                    self.notice(messages::reconnecting(&reason, after));
                }
                self.link = Link::Waiting { until_ms };
            }
            Event::Resumed {
                missed,
                is_filtered,
                registered,
            } => {
                self.registered(&registered);
                self.notice(messages::resumed(missed, is_filtered));
            }
            Event::NotResumed { reason, registered } => {
                let missed = self.missed(&registered);
                self.registered(&registered);
                self.notice(match missed {
                    Some(missed) => self.missed_sentence(missed, !self.sent.is_empty()),
                    None => messages::not_resumed(reason),
                });
                // What was missed does not come any more.
                self.saw(registered.seq);
            }
            // Counted by the next event.
            Event::Gap { .. } => {}
            Event::Following { seq, .. } | Event::Covered { seq, .. } => self.saw(seq),
            Event::Unknown { id, .. } => {
                self.unknown += 1;
                if let Some((entry, _)) = self.sent.remove(&id) {
                    self.log.settle(entry, Delivery::Unknown, None);
                }
            }
            Event::Ended(_) => {}
        }
    }

    /// A message. Returns its view, unless its sender is ignored.
    pub(super) fn message(
        &mut self,
        seq: u64,
        (sender, key, topic): (String, KeyMark, String),
        text: String,
        time_unix_ms: i64,
    ) -> Option<ViewId> {
        self.saw(seq);
        if self.ignored.contains(&sender.to_ascii_lowercase()) {
            return None;
        }
        let view = self.view_of(Subject::of_topic(&topic));
        let is_mention = !find::mentions(&text, &self.name).is_empty();
        if is_mention {
            self.alert(&sender, &text);
        }
        let at = match time_unix_ms {
            ..=0 => self.at(),
            unix_ms => self.at_unix_ms(unix_ms),
        };
        let message = Kind::Message {
            key,
            sender,
            topic,
            text,
            is_mention,
        };
        let id = self.log.push(at, Some(seq), message);
        self.count_unread(view, id, is_mention);
        Some(view)
    }

    /// A line to this member alone. Returns its view, unless its sender is ignored.
    pub(super) fn direct(
        &mut self,
        sender: String,
        text: String,
        time_unix_ms: i64,
    ) -> Option<ViewId> {
        if self.ignored.contains(&sender.to_ascii_lowercase()) {
            return None;
        }
        let view = self.view_of(Subject::Direct(sender.clone()));
        self.alert(&sender, &text);
        let at = match time_unix_ms {
            ..=0 => self.at(),
            unix_ms => self.at_unix_ms(unix_ms),
        };
        let id = self.log.push(at, None, Kind::Direct { sender, text });
        self.count_unread(view, id, true);
        Some(view)
    }

    /// A message names files, which can be saved by their numbers: nothing is fetched before
    /// the user says so (CHAT-FILE-18).
    pub(super) fn announce(&mut self, view: ViewId, files: Vec<File>) {
        for file in files {
            if self.files.len() >= FILES_MAX {
                self.files.pop_front();
                self.first_file += 1;
            }
            let number = self.first_file + self.files.len() as u64;
            let line = Printable::new()
                .trusted("file ")
                .number(number)
                .trusted(": ");
            let line = line.untrusted(&file.name).trusted(", ");
            let line = line.untrusted(&file_size(file.size)).trusted("; /save ");
            self.notice_in(view, line.number(number).trusted(" fetches it"));
            self.files.push_back(file);
        }
    }

    /// The file with a number.
    pub(super) fn file(&self, number: u64) -> Option<&File> {
        let index = number.checked_sub(self.first_file)?;
        self.files.get(usize::try_from(index).ok()?)
    }

    /// Tells when the key of a name has changed, and remembers the first (CHAT-ID-17).
    pub(super) fn judge(&mut self, name: &str, id: Option<SenderId>) {
        match self.known.judge(name, id) {
            Verdict::Nothing => {}
            Verdict::Remember(id) => {
                let action = Action::KeepName(name.to_owned(), id);
                self.actions.push(action);
            }
            Verdict::Tell(before) => {
                let how = match id {
                    Some(_) => Printable::new().trusted("/trust ").name(name),
                    None => Printable::new().trusted("it has lost it"),
                };
                self.notice(known_names::changed(name, before, id, &how));
            }
        }
        if let (KeyMark::Changed(id), true) = (
            self.known.mark(name, id),
            self.changed.len() < NAMES_CHANGED_MAX,
        ) {
            self.changed.insert(name.to_ascii_lowercase(), id);
        }
    }

    /// The user says that the key that a name has now is the right one.
    pub(super) fn trust(&mut self, name: &str) {
        let line = Printable::new();
        let Some(id) = self.changed.remove(&name.to_ascii_lowercase()) else {
            let line = line.trusted("the key of ").name(name);
            return self.notice(line.trusted(" has not changed"));
        };
        self.known.add(name, id);
        self.actions.push(Action::KeepName(name.to_owned(), id));
        self.notice(
            line.trusted("from now on ")
                .name(name)
                .trusted(" has the key ")
                .untrusted(&id.to_string()),
        );
    }

    pub(super) fn saw(&mut self, seq: u64) {
        if let Some((_, seen)) = &mut self.seen {
            *seen = (*seen).max(seq);
        }
    }
}
