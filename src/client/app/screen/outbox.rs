//! Outbox: lines of the user on their way to the session. Pure.

use super::log::{Delivery, Kind};
use super::model::{LATE_MS, Model, Unsent};
use super::views::{Scroll, Subject};
use crate::client::Printable;
use crate::client::app::line_messages::file_text;
use crate::client::app::topics;
use crate::wire::File;

/// How many lines may wait to be sent.
const LINES_WAITING_MAX: usize = 10_000;

impl Model {
    /// Queues a typed line for those who see what the view shows.
    pub(super) fn queue(&mut self, line: &str) {
        self.queue_typed(self.target(), line);
    }

    /// Queues a typed line for those who see this.
    pub(super) fn queue_typed(&mut self, target: Subject, line: &str) {
        if self.may_send(&target) {
            self.queue_for(target, line, Vec::new());
            // Whoever writes has read.
            let view = self.views.current_mut();
            view.marker = None;
            view.scroll = Scroll::Bottom;
            self.is_seen();
        }
    }

    /// Whether the server takes what is meant for this; if not, that is told.
    pub(super) fn may_send(&mut self, target: &Subject) -> bool {
        let is_taken = !matches!(target, Subject::Direct(_)) || self.has_direct;
        if !is_taken {
            self.notice(Printable::new().trusted("not sent: this server takes no direct messages"));
        }
        is_taken
    }

    /// A file was uploaded: queues the line that names it.
    pub(super) fn attached(&mut self, file: File, text: &str, target: Subject) {
        let said = file_text(&file);
        let text = match text.is_empty() {
            true => said,
            false => format!("{text} {said}"),
        };
        self.queue_for(target, &text, vec![file]);
    }

    /// Queues one line for the session: one text, or more if it is too long.
    fn queue_for(&mut self, target: Subject, line: &str, mut files: Vec<File>) {
        let (to, topic) = match target {
            Subject::Direct(name) => (Some(name), String::new()),
            Subject::Topic(topic) => (None, topic),
            Subject::Room => (None, String::new()),
        };
        let (topic, line) = match topics::split(line) {
            _ if to.is_some() || !self.has_follow => (String::new(), line),
            Some((topic, line)) => (topic.to_owned(), line),
            None if line.starts_with("##") => (topic, line.get(1..).unwrap_or_default()),
            None => (topic, line),
        };
        // What one says has its view, too.
        let _ = self.view_of(match &to {
            Some(name) => Subject::Direct(name.clone()),
            None => Subject::of_topic(&topic),
        });
        let mentions_max = if to.is_some() { 0 } else { self.mentions_max };
        let mut texts = Vec::new();
        self.outgoing.push(line.as_bytes(), |text| texts.push(text));
        self.outgoing.finish(|text| texts.push(text));
        for text in texts {
            if self.outbox.len() >= LINES_WAITING_MAX {
                self.given_up += 1;
                self.notice(Printable::new().trusted("not sent: too many lines are waiting"));
                return;
            }
            let own = Kind::Own {
                name: self.name.clone(),
                to: to.clone(),
                topic: topic.clone(),
                text: text.clone(),
                delivery: Delivery::Waiting,
                typed_ms: self.now.ms,
            };
            let id = self.log.push(self.at(), None, own);
            self.outbox.push_back(Unsent {
                entry: id,
                chat: topics::chat(text, &topic, mentions_max),
                to: to.clone(),
                files: std::mem::take(&mut files),
            });
            self.late_at_ms.push_back(self.now.ms + LATE_MS);
        }
    }

    /// The session has taken the first waiting line under this id.
    pub(super) fn taken(&mut self, id: u64) {
        let Some(Unsent { entry, .. }) = self.outbox.pop_front() else {
            return;
        };
        if self.has_receipts {
            self.sent.insert(id, (entry, self.now.ms));
            self.log.settle(entry, Delivery::Sending, None);
        } else {
            self.log.settle(entry, Delivery::Unconfirmable, None);
        }
    }

    /// The session does not take the first waiting line.
    pub(super) fn not_taken(&mut self, reason: &str) {
        if let Some(Unsent { entry, .. }) = self.outbox.pop_front() {
            self.given_up += 1;
            let reason = Printable::new().untrusted(reason);
            self.log.settle(entry, Delivery::NotSent(reason), None);
        }
    }

    /// Gives up the lines that wait.
    pub(super) fn give_up(&mut self) {
        for Unsent { entry, .. } in std::mem::take(&mut self.outbox) {
            self.given_up += 1;
            let reason = Printable::new().trusted("you left");
            self.log.settle(entry, Delivery::NotSent(reason), None);
        }
    }
}
