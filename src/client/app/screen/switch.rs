//! Switch: from one session to the next, on the same server or on another.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use crossterm::event::EventStream;
use tokio::time::timeout;

use super::Client;
use super::model::Link;
use crate::address::Address;
use crate::client::app;
use crate::client::app::connect::{ask_for_password, connect};
use crate::client::app::exit::Exit;
use crate::client::app::known_names;
use crate::client::app::known_names_file;
use crate::client::app::messages;
use crate::client::app::options::Options;
use crate::client::app::password::{Echo, ask};
use crate::client::app::past;
use crate::client::app::report::say;
use crate::client::app::signals::Signals;
use crate::client::{ConnectError, Ended, Ending, Printable, Session};
use crate::wire::Capability;

/// How many messages from before are shown, where the server keeps them, and how long
/// they may take, in milliseconds.
const PAST_CHATS: u32 = 200;
const PAST_MS_MAX: u64 = 3_000;

/// A connect under way.
pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<Session, ConnectError>>>>;

impl Client {
    /// Connects to another server, which may raise questions about passwords and
    /// certificates: they need the terminal for themselves. What this server was given
    /// is not for that one.
    pub(super) async fn connect_elsewhere(
        &mut self,
        address: Address,
        name: String,
        signals: &mut Signals,
    ) {
        self.lend_terminal().await;
        let is_encrypted = address.scheme().is_encrypted();
        let options = Options {
            address,
            name: Some(name.clone()),
            password_file: None,
            pin: None,
            ca: self.options.ca.clone().filter(|_| is_encrypted),
            ..self.options.clone()
        };
        let connector = app::connector(&options, true, !options.no_reconnect);
        let connector = connector
            .and(Capability::History)
            .and(Capability::Follow)
            .capturing_as(&self.connector);
        let line = Printable::new().trusted("connecting to ");
        let line = line.untrusted(&options.address.to_string());
        say(&line.trusted(", Ctrl-C goes back"));
        let connected = connect(&options, None, connector, true, signals).await;
        // After Ctrl-C there is nothing to read.
        if matches!(connected, Err(exit) if exit != Exit::Done) {
            let _ = ask("Enter goes back: ", Echo::On, signals).await;
        }
        self.take_terminal();
        if let Ok((session, connector)) = connected {
            self.connector = connector;
            self.target = Some((options.address, name));
            self.connected(session).await;
        }
    }

    /// Gives the terminal to questions, which read it themselves.
    async fn lend_terminal(&mut self) {
        // Its thread would take answers.
        self.inputs.clear();
        self.screen.suspend().await;
    }

    fn take_terminal(&mut self) {
        let _ = self.screen.resume();
        self.inputs.push(EventStream::new());
    }

    /// Starts to connect under this name, to the same server.
    pub(super) fn connect(&mut self, address: Address, name: String) {
        if self.session.is_some() && name == self.name && self.model.link != Link::Down {
            let line = match self.model.link {
                Link::Up => "you are connected already",
                _ => "it is tried again already",
            };
            return self.model.notice(Printable::new().trusted(line));
        }
        if self.session.is_none() {
            self.model.link = Link::Connecting;
        }
        let connector = self.connector.clone();
        self.target = Some((address.clone(), name.clone()));
        self.connecting = Some(Box::pin(async move {
            connector.connect_to(&address, &name).await
        }));
    }

    /// A session has begun; one that is still there is left.
    pub(super) async fn connected(&mut self, mut session: Session) {
        if let Some(before) = self.session.take() {
            self.model.forget_sent();
            // Leaves by itself.
            drop(before);
        }
        if let Some((address, name)) = self.target.take() {
            (self.address, self.name) = (address, name);
        }
        let is_other = self.model.connected(&self.address, session.registered());
        self.model.is_at(session.address().as_ref());
        if is_other {
            match known_names_file::read(&self.address) {
                Ok(known) => self.model.known = known,
                Err(error) => self.model.notice(known_names::not_kept(&error)),
            }
        }
        if is_other && session.has(Capability::History) {
            // Events that come meanwhile are kept.
            let wait = Duration::from_millis(PAST_MS_MAX);
            let past = timeout(wait, past::last_quietly(&mut session, PAST_CHATS)).await;
            self.model.past(past.unwrap_or_default());
        }
        self.sender = Some(session.sender());
        self.session = Some(session);
    }

    /// A connect that the user asked for has failed.
    pub(super) async fn not_connected(&mut self, error: &ConnectError, signals: &mut Signals) {
        let Some((address, name)) = self.target.take() else {
            return;
        };
        if error.is_about_password() {
            // The question needs the terminal for itself.
            self.lend_terminal().await;
            let prompt = "the server asks for a password: ";
            let answer = ask_for_password(prompt, signals).await;
            self.take_terminal();
            if let Ok(Some(password)) = answer {
                self.connector = self.connector.clone().password(password);
                return self.connect(address, name);
            }
        }
        let (_, sentence) = messages::no_session(error, &address, &name, true);
        self.model.notice(sentence);
        if self.session.is_none() {
            self.model.link = Link::Down;
        }
    }

    /// The session has ended. Returns its end if that is the program's.
    pub(super) fn ended(&mut self, ended: Ended) -> Option<Ended> {
        self.session = None;
        self.sender = None;
        let is_over = self.model.is_leaving || self.options.no_reconnect;
        if is_over || ended.ending == Ending::Left {
            return Some(ended);
        }
        let (_, sentence) = messages::end(&ended);
        self.model
            .disconnected(Link::Down, sentence.unwrap_or_default());
        None
    }
}

/// Whether two addresses mean the same server, so that it may have the same password.
pub(super) fn is_same_server(one: &Address, other: &Address) -> bool {
    let parts = |address: &Address| {
        let host = address.host().to_ascii_lowercase();
        (address.scheme(), host, address.port(), address.pin())
    };
    parts(one) == parts(other)
}

/// Waits for the session, if one is being opened.
pub(super) async fn until_connected(
    connecting: &mut Option<Connecting>,
) -> Result<Session, ConnectError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => pending().await,
    }
}
