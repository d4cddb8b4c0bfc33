//! Link: how sessions begin and end, what they ask for and what was missed between them.
//! Pure.

use super::find;
use super::log::{Delivery, Kind};
use super::model::{Action, Link, Model};
use super::views::Subject;
use crate::address::Address;
use crate::client::app::line_messages;
use crate::client::app::messages;
use crate::client::{Filter, Outgoing, Printable, SenderId};
use crate::wire::{Capability, Chat, Registered, ResumeFailure};

impl Model {
    /// A session has begun, on the same server as the one before or on another. Returns
    /// whether it is another.
    pub(super) fn connected(&mut self, server: &Address, registered: &Registered) -> bool {
        let address = server.to_string();
        let is_same = self.address == address;
        let is_renamed = is_same && self.name != registered.name;
        self.address = address;
        if !is_same {
            self.server = Printable::new().untrusted(&self.address);
            self.seen = None;
            self.topic.clear();
            self.following = Filter::default();
            self.leave_views();
        }
        let missed = self.missed(registered);
        self.registered(registered);
        let filter = self.filter();
        if self.has_follow && !filter.is_everything() {
            self.actions.push(Action::Follow(filter));
        }
        if is_same {
            if is_renamed {
                let line = Printable::new().trusted("you are ").name(&self.name);
                self.notice(line.trusted(" now"));
            }
            match missed {
                Some(0) if is_renamed => {}
                Some(missed) => self.notice(self.missed_sentence(missed, self.unknown > 0)),
                None => self.notice(messages::not_resumed(ResumeFailure::OtherEpoch)),
            }
            self.saw(registered.seq);
        } else {
            for line in messages::welcome(&registered.welcome) {
                self.notice(line);
            }
            self.has_greeted = false;
            if !self.has_presence {
                self.greet();
            }
        }
        !is_same
    }

    /// The session is at this server, one of those that were given.
    pub(super) fn is_at(&mut self, server: Option<&Address>) {
        let Some(server) = server else {
            return;
        };
        let server = Printable::new().untrusted(&server.to_string());
        if self.server != server {
            let line = Printable::new().trusted("this is the server ");
            self.notice(line.append(&server));
            self.server = server;
        }
    }

    /// The server's answer to a Register, the first or a later one.
    pub(super) fn registered(&mut self, registered: &Registered) {
        let has = |capability: Capability| registered.capabilities.contains(&capability.into());
        let limits = registered.limits.unwrap_or_default();
        self.outgoing = Outgoing::new(limits.text_bytes_max as usize);
        self.has_presence = has(Capability::Presence);
        self.has_receipts = has(Capability::Receipts);
        self.has_follow = has(Capability::Follow);
        self.mentions_max = match self.has_follow {
            true => limits.mentions_max as usize,
            false => 0,
        };
        self.filter_entries_max = limits.filter_entries_max as usize;
        self.has_direct = has(Capability::Direct);
        self.members.clear();
        self.round_trip_ms = None;
        self.link = Link::Up;
        self.name.clone_from(&registered.name);
        // Where a session is resumed, messages that were missed still come.
        if self.missed(registered).is_none() {
            self.log.forget_numbers();
            self.seen = Some((registered.epoch.clone(), registered.seq));
        }
    }

    /// How many messages were missed; `None` if the server counts anew.
    pub(super) fn missed(&self, registered: &Registered) -> Option<u64> {
        match &self.seen {
            Some((epoch, seq)) if *epoch == registered.epoch => registered.seq.checked_sub(*seq),
            _ => None,
        }
    }

    /// What was said before the session, oldest first.
    pub(super) fn past(&mut self, chats: impl IntoIterator<Item = Chat>) {
        for mut chat in chats {
            if chat.removed {
                line_messages::REMOVED.clone_into(&mut chat.text);
            }
            let is_mention = !find::mentions(&chat.text, &self.name).is_empty();
            let id = SenderId::from_bytes(&chat.sender_id);
            let subject = Subject::of_topic(&chat.topic);
            let message = Kind::Message {
                key: self.known.mark(&chat.sender, id),
                sender: chat.sender,
                topic: chat.topic,
                text: chat.text,
                is_mention,
            };
            self.view_of(subject);
            let at = self.at_unix_ms(chat.time_unix_ms);
            self.log.push(at, Some(chat.seq), message);
        }
    }

    /// The session has ended: what it had taken and not confirmed is unknown.
    pub(super) fn disconnected(&mut self, link: Link, sentence: Printable) {
        self.link = link;
        self.members.clear();
        self.forget_sent();
        self.notice(sentence);
    }

    /// The connection is lost: the server tells nothing more about its directs.
    pub(super) fn forget_accepted(&mut self) {
        for entry in std::mem::take(&mut self.accepted).into_values() {
            self.log.settle(entry, Delivery::Unsettled, None);
        }
    }

    /// The session is over: what it has not confirmed is unknown.
    pub(super) fn forget_sent(&mut self) {
        self.forget_accepted();
        for (entry, _) in std::mem::take(&mut self.sent).into_values() {
            self.unknown += 1;
            self.log.settle(entry, Delivery::Unknown, None);
        }
    }

    pub(super) fn greet(&mut self) {
        self.has_greeted = true;
        let line = Printable::new()
            .trusted("you are ")
            .name(&self.name)
            .trusted(", ");
        self.notice(
            line.append(&self.who())
                .trusted("; /help shows the commands"),
        );
    }

    /// What the server is asked for: what is followed, and who is ignored.
    pub(super) fn filter(&self) -> Filter {
        let room = self.filter_entries_max;
        let followed = self.following.topics.len() + self.following.senders.len();
        let ignored = self.ignored.iter().take(room.saturating_sub(followed));
        Filter {
            ignore: ignored.cloned().collect(),
            ..self.following.clone()
        }
    }

    /// "connected again; you missed 3 messages", with a filter "up to 3". A line whose fate
    /// is unknown may be one of them.
    pub(super) fn missed_sentence(&self, missed: u64, has_unknown: bool) -> Printable {
        let line = Printable::new().trusted("connected again; ");
        let line = match missed {
            0 => line.trusted("you missed nothing"),
            _ => messages::missed(line, missed, !self.filter().is_everything()),
        };
        match missed > 0 && has_unknown {
            true => line.trusted(", or your unknown lines are among them"),
            false => line,
        }
    }
}
