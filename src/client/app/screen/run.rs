//! Run: carries out the commands of the user. Pure.

use std::path::PathBuf;

use super::command::Command;
use super::find::{self, part};
use super::log::Kind;
use super::model::{Action, IGNORED_MAX, Model, Search};
use super::views::Subject;
use crate::client::app::topics::{self, Followed};
use crate::client::{Filter, Printable};

impl Model {
    /// Does what a command says.
    pub(super) fn run(&mut self, command: Command) {
        match command {
            Command::Attach(path, text) => self.attach(path, &text),
            Command::Save(number, path) => match self.file(number).cloned() {
                Some(file) => self.actions.push(Action::Save(file, path)),
                None => self.notice(Printable::new().trusted("there is no file with this number")),
            },
            Command::Clear => {
                let view = self.views.current();
                self.log.clear(|entry| view.shows(entry));
                self.go_to_bottom();
            }
            Command::Connect(address, name) => self.actions.push(Action::Connect(address, name)),
            Command::Help => self.help(),
            Command::Ignore(name) => self.ignore(name),
            Command::Key => self.actions.push(Action::ShowKey),
            Command::Me(text) => self.queue(&format!("/me {text}")),
            Command::Msg(name, text) => self.queue_typed(Subject::Direct(name), &text),
            Command::Nick(name) => self.actions.push(Action::Connect(None, Some(name))),
            Command::Quit => self.leave(),
            Command::Search(wanted) => {
                self.search = Some(Search {
                    wanted,
                    ..Search::default()
                });
                self.look();
            }
            Command::Set(None) => {
                let list = self.settings.list();
                self.notice(Printable::new().untrusted(&list));
            }
            Command::Set(Some((key, value))) => {
                let had_mouse = self.settings.has_mouse;
                match self.settings.set(&key, &value) {
                    Ok(()) => {
                        let list = self.settings.list();
                        self.notice(Printable::new().untrusted(&list));
                    }
                    Err(sentence) => self.notice(Printable::new().untrusted(&sentence)),
                }
                if had_mouse != self.settings.has_mouse {
                    self.actions.push(Action::Mouse(self.settings.has_mouse));
                }
            }
            Command::Trust(name) => self.trust(&name),
            Command::Url(number) => self.copy_url(number),
            Command::View(None) => self.list_views(),
            Command::View(Some(which)) => self.choose_view(&which),
            Command::Close => self.close_view(),
            Command::Who => self.notice(self.who()),
            Command::Topic(topic) => self.set_topic(topic),
            Command::Following => self.notice(topics::shown(&self.following)),
            Command::Follow(more) => {
                let mut following = self.following.clone();
                for followed in &more {
                    topics::add(&mut following, followed.clone());
                }
                if self.follow(following) {
                    for followed in more {
                        if let Followed::Topic(topic) = followed {
                            self.view_of(Subject::Topic(topic));
                        }
                    }
                }
            }
            Command::Unfollow(less) if less.is_empty() => {
                self.follow(Filter::default());
            }
            Command::Unfollow(less) => {
                let mut following = self.following.clone();
                for followed in &less {
                    topics::remove(&mut following, followed);
                }
                self.follow(following);
            }
        }
    }

    pub(super) fn set_topic(&mut self, topic: Option<String>) {
        if !self.has_follow {
            return self.notice(Printable::new().trusted("this server has no topics"));
        }
        // Where a view says what lines are about, another topic is another view.
        if !self.views.current().is_room() {
            let subject = Subject::of_topic(&topic.unwrap_or_default());
            return self.go_to(subject);
        }
        self.topic = topic.unwrap_or_default();
        let line = match self.topic.as_str() {
            "" => Printable::new().trusted("your lines have no topic"),
            topic => Printable::new()
                .trusted("your lines have the topic #")
                .untrusted(topic)
                .trusted("; /topic alone ends that"),
        };
        self.notice(line);
    }

    /// Returns whether that is possible.
    pub(super) fn follow(&mut self, following: Filter) -> bool {
        if !self.has_follow {
            self.notice(Printable::new().trusted("this server has no topics"));
            return false;
        }
        if following.topics.len() + following.senders.len() > self.filter_entries_max {
            let line = Printable::new().trusted("this server lets you follow no more than ");
            self.notice(line.number(self.filter_entries_max as u64));
            return false;
        }
        self.following = following;
        self.actions.push(Action::Follow(self.filter()));
        self.notice(topics::shown(&self.following));
        true
    }

    /// Sends a file to those who see what the view shows, or to the member whose name comes
    /// first in the text.
    fn attach(&mut self, path: PathBuf, text: &str) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (target, text) = match topics::followed(word) {
            Ok(Followed::Sender(name)) => (Subject::Direct(name), rest),
            _ => (self.target(), text),
        };
        if self.may_send(&target) {
            self.actions
                .push(Action::Attach(path, text.to_owned(), target));
        }
    }

    pub(super) fn ignore(&mut self, name: Option<String>) {
        let line = match name {
            None if self.ignored.is_empty() => Printable::new().trusted("you ignore nobody"),
            None => {
                let mut line = Printable::new().trusted("you ignore");
                for name in &self.ignored {
                    line = line.trusted(" ").name(name);
                }
                line
            }
            Some(name) => {
                let key = name.to_ascii_lowercase();
                let line = Printable::new();
                if self.ignored.remove(&key) {
                    line.trusted("you hear ").name(&name).trusted(" again")
                } else if self.ignored.len() < IGNORED_MAX {
                    self.ignored.insert(key);
                    line.trusted("you ignore ")
                        .name(&name)
                        .trusted(" from now on; the same again ends it")
                } else {
                    line.trusted("you ignore too many already")
                }
            }
        };
        self.notice(line);
        // What is ignored need not come at all.
        if self.has_follow {
            self.actions.push(Action::Follow(self.filter()));
        }
    }

    /// Copies the web address that is so many from below.
    pub(super) fn copy_url(&mut self, number: usize) {
        let texts = self.entries().rev().filter_map(|entry| match &entry.kind {
            Kind::Message { text, .. } | Kind::Direct { text, .. } | Kind::Own { text, .. } => {
                Some(text)
            }
            _ => None,
        });
        let urls = texts.flat_map(|text| {
            let text = Printable::new().untrusted(text);
            let urls = find::urls(text.as_str()).into_iter().rev();
            urls.map(move |range| part(text.as_str(), range).to_owned())
                .collect::<Vec<_>>()
        });
        let found = { urls }.nth(number - 1);
        match found {
            Some(url) => {
                let line = Printable::new().trusted("copied: ").untrusted(&url);
                self.notice(line);
                self.actions.push(Action::Copy(url));
            }
            None => self.notice(Printable::new().trusted("there is no such web address here")),
        }
    }
}
