//! Actions: carries out what the model asks for.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Client;
use super::history::History;
use super::history_file;
use super::model::Action;
use super::switch::is_same_server;
use crate::client::app::known_names;
use crate::client::app::known_names_file;
use crate::client::app::signals::Signals;
use crate::client::{Printable, SendError};

impl Client {
    pub(super) async fn act(&mut self, action: Action, signals: &mut Signals) {
        self.is_dirty = true;
        match action {
            // Done by the loop, when everything is sent.
            Action::Leave => {}
            Action::LeaveNow => {
                if let Some(sender) = &self.sender {
                    sender.leave_now();
                }
            }
            // To the whole job, as the terminal does it.
            Action::Suspend => drop(kill(Pid::from_raw(0), Signal::SIGTSTP)),
            Action::Redraw => drop(self.screen.redraw()),
            Action::Bell => self.screen.bell(),
            Action::Notify(line) => self.screen.notify(self.notify, &line),
            Action::Copy(text) => self.screen.copy(&text),
            Action::Follow(filter) => {
                if let Some(sender) = self.sender.clone()
                    && let Err(error) = sender.follow(filter).await
                    && error != SendError::Ended
                {
                    let line = Printable::new().untrusted(&error.to_string());
                    self.model.notice(line);
                }
            }
            Action::Mouse(has_mouse) => self.screen.set_mouse(has_mouse),
            Action::Remember(line) => {
                if let Err(error) = history_file::append(&line) {
                    self.no_history(&error);
                }
            }
            Action::KeepName(name, id) => {
                if let Err(error) = known_names_file::append(&self.address, &name, id) {
                    self.model.notice(known_names::not_kept(&error));
                }
            }
            Action::ShowKey => {
                let line = Printable::new();
                self.model.notice(match self.connector.public_key() {
                    Some(key) => line
                        .trusted("your public key is ")
                        .untrusted(&key.to_string())
                        .trusted("; others see ·")
                        .untrusted(&key.sender_id().short()),
                    None => line.trusted("you have no key"),
                });
            }
            Action::Attach(path, text, target) => self.attach(path, text, target),
            Action::Save(file, path) => self.save(file, path),
            Action::Connect(address, name) => {
                let address = address.unwrap_or_else(|| self.address.clone());
                let name = name.or_else(|| address.name().map(str::to_owned));
                let name = name.unwrap_or_else(|| self.name.clone());
                if is_same_server(&address, &self.address) {
                    self.connect(address, name);
                } else {
                    self.connect_elsewhere(address, name, signals).await;
                }
            }
        }
    }

    pub(super) fn read_history(&mut self) {
        if self.model.settings.keeps_history {
            match history_file::read() {
                Ok(content) => self.model.history = History::parse(&content),
                Err(error) => self.no_history(&error),
            }
        }
    }

    pub(super) fn no_history(&mut self, error: &io::Error) {
        self.model.settings.keeps_history = false;
        self.model.notice(
            Printable::new()
                .trusted("what you type is not kept, its file cannot be used: ")
                .untrusted(&error.to_string()),
        );
    }
}
