//! Transfer: files that go up and down, each in a task of its own.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::Client;
use super::views::Subject;
use crate::client::Printable;
use crate::client::app::line_messages::file_error;
use crate::client::app::save::{Target, save};
use crate::wire::File;

/// What a transfer tells.
pub(super) enum Told {
    Progress(String, u64, u64),
    Attached(Result<File, Printable>, String, Subject),
    Saved(Result<PathBuf, Printable>),
}

impl Client {
    /// Uploads a file in a task of its own.
    pub(super) fn attach(&mut self, path: PathBuf, text: String, target: Subject) {
        let Some(sender) = self.sender.clone() else {
            return self.no_transfer();
        };
        let (number, told) = self.transfer();
        tokio::spawn(async move {
            let name = path.display().to_string();
            let name = format!("sending {name}");
            let attached = sender.attach(&path, |done, total| {
                // The next one says more.
                let _ = told.try_send((number, Told::Progress(name.clone(), done, total)));
            });
            let attached = attached.await.map_err(|error| file_error(&error));
            let _ = told
                .send((number, Told::Attached(attached, text, target)))
                .await;
        });
    }

    /// Fetches a file in a task of its own.
    pub(super) fn save(&mut self, file: File, path: Option<PathBuf>) {
        let Some(sender) = self.sender.clone() else {
            return self.no_transfer();
        };
        let (number, told) = self.transfer();
        let target = path.map_or_else(|| Target::Folder(PathBuf::from(".")), Target::Path);
        tokio::spawn(async move {
            let name = format!("fetching {}", file.name);
            let saved = save(&sender, &file, &target, |done, total| {
                let _ = told.try_send((number, Told::Progress(name.clone(), done, total)));
            });
            let saved = saved.await.map_err(|error| file_error(&error));
            let _ = told.send((number, Told::Saved(saved))).await;
        });
    }

    pub(super) fn transfer(&mut self) -> (u64, mpsc::Sender<(u64, Told)>) {
        self.last_transfer += 1;
        (self.last_transfer, self.tell.clone())
    }

    pub(super) fn no_transfer(&mut self) {
        let line = Printable::new().trusted("there is no connection");
        self.model.notice(line);
    }

    /// A transfer has something to tell.
    pub(super) fn told(&mut self, number: u64, told: Told) {
        self.is_dirty = true;
        let line = match told {
            Told::Progress(name, done, total) => {
                self.model.transfers.insert(number, (name, done, total));
                return;
            }
            Told::Attached(Ok(file), text, target) => {
                self.model.transfers.remove(&number);
                return self.model.attached(file, &text, target);
            }
            Told::Saved(Ok(path)) => {
                let line = Printable::new().trusted("saved ");
                line.untrusted(&path.display().to_string())
            }
            Told::Attached(Err(error), ..) => {
                let line = Printable::new().trusted("the file was not sent: ");
                line.append(&error)
            }
            Told::Saved(Err(error)) => {
                let line = Printable::new().trusted("the file was not saved: ");
                line.append(&error).trusted("; /save goes on with it")
            }
        };
        self.model.transfers.remove(&number);
        self.model.notice(line);
    }
}
