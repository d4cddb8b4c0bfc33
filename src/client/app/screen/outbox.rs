//! Outbox: lines of the user on their way to the session. Pure.

use super::log::{Delivery, Kind};
use super::model::{LATE_MS, Model, Unsent, View};
use crate::client::Printable;
use crate::client::app::line_messages::file_text;
use crate::client::app::topics;
use crate::wire::File;

/// How many lines may wait to be sent.
const LINES_WAITING_MAX: usize = 10_000;

impl Model {
    /// Queues one line for the session: one text, or more if it is too long.
    pub(super) fn queue(&mut self, line: &str) {
        self.queue_for(None, line, Vec::new());
    }

    /// A file was uploaded: queues the line that names it.
    pub(super) fn attached(&mut self, file: File, text: &str) {
        let said = file_text(&file);
        let text = match text.is_empty() {
            true => said,
            false => format!("{text} {said}"),
        };
        self.queue_for(None, &text, vec![file]);
    }

    /// Queues one line for one member alone.
    pub(super) fn queue_direct(&mut self, name: String, line: &str) {
        match self.has_direct {
            true => self.queue_for(Some(name), line, Vec::new()),
            false => self
                .notice(Printable::new().trusted("not sent: this server takes no direct messages")),
        }
    }

    pub(super) fn queue_for(&mut self, to: Option<String>, line: &str, mut files: Vec<File>) {
        let (topic, line) = match topics::split(line) {
            _ if to.is_some() || !self.has_follow => (String::new(), line),
            Some((topic, line)) => (topic.to_owned(), line),
            None if line.starts_with("##") => {
                (self.topic.clone(), line.get(1..).unwrap_or_default())
            }
            None => (self.topic.clone(), line),
        };
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
        // Whoever writes has read.
        self.marker = None;
        self.view = View::Bottom;
        self.is_seen();
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
