//! Screen: the full-screen client. The loop that moves events of the session, of the
//! terminal and of the clock into the [`Model`], and carries out its actions.
//!
//! | module | what it holds |
//! |---|---|
//! | `model` | the state and what events do to it (pure) |
//! | `sequence` | keys that came in pieces (pure) |
//! | `keys` | what keys, pastes and the mouse do to it (pure) |
//! | `run` | what commands do to it (pure) |
//! | `view`, `rows`, `draw` | scrolling, the look of an entry, the cells (pure) |
//! | `log`, `composer`, `history` | messages, the draft, typed lines (pure) |
//! | `command`, `settings`, `find`, `colour` | what their names say (pure) |
//! | `terminal` | raw mode, the alternate screen, bells, the clipboard |
//! | `frames`, `notify` | cells as bytes; which notices the terminal knows |
//! | `history_file` | typed lines on disk |

mod colour;
mod command;
mod composer;
mod draw;
mod find;
mod frames;
mod history;
mod history_file;
mod keys;
mod log;
mod model;
mod notify;
mod rows;
mod run;
mod sequence;
mod settings;
mod terminal;
mod view;

use std::env;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossterm::event::{Event as Input, EventStream, KeyEventKind};
use futures_util::StreamExt;
use jiff::tz::TimeZone;
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use self::colour::Colours;
use self::history::History;
use self::model::{Action, Link, Model, Now, Unsent};
use self::notify::Notify;
use self::sequence::{Sequences, Whole};
use self::settings::Settings;
use self::terminal::Screen;
use super::connect::{ask_for_password, connect};
use super::exit::Exit;
use super::hang_up;
use super::known_names;
use super::known_names_file;
use super::messages;
use super::options::Options;
use super::password::{Echo, ask};
use super::past;
use super::report::{say, sum_up};
use super::save::{Target, save};
use super::signals::{JobSignal, JobSignals, Signals};
use super::time_format::parse_time;
use crate::address::Address;
use crate::cli;
use crate::client::{
    ConnectError, Connector, Ended, Ending, Event, Printable, SendError, Sender, Session,
};
use crate::wire::{Capability, File};

/// The shortest time between two frames, in milliseconds: short enough to look
/// immediate, long enough to draw a flood of messages together.
const FRAME_MS: u64 = 20;

/// How many messages from before are shown, where the server keeps them, and how long
/// they may take, in milliseconds.
const PAST_CHATS: u32 = 200;
const PAST_MS_MAX: u64 = 3_000;

/// How much transfers may have told that was not heard.
const TOLD_QUEUED_MAX: usize = 64;

/// What a transfer tells.
enum Told {
    Progress(String, u64, u64),
    Attached(Result<File, String>, String),
    Saved(Result<PathBuf, String>),
}

/// A connect under way.
type Connecting = Pin<Box<dyn Future<Output = Result<Session, ConnectError>>>>;

/// Whether the terminal can show the full screen.
pub(super) fn is_possible() -> bool {
    cli::variable("TERM").is_some_and(|term| term != "dumb")
}

/// Runs the client until the user leaves or, without reconnecting, the session ends.
pub(super) async fn run(
    options: &Options,
    connector: Connector,
    session: Session,
    signals: &mut Signals,
) -> Exit {
    let (screen, jobs, hung_up) = match (
        Screen::enter(options.mouse),
        JobSignals::new(),
        hang_up::watch_input(),
    ) {
        (Ok(screen), Ok(jobs), Ok(hung_up)) => (screen, jobs, hung_up),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            say(&Printable::new()
                .trusted("cannot use this terminal: ")
                .untrusted(&error.to_string()));
            session.leave().await;
            return Exit::Failed;
        }
    };
    let started_at = Instant::now();
    let (tell, hear) = mpsc::channel(TOLD_QUEUED_MAX);
    let mut client = Client {
        model: Model::new(
            settings(options),
            TimeZone::system(),
            History::default(),
            now(started_at),
        ),
        screen,
        sequences: Sequences::default(),
        started_at,
        is_dirty: true,
        drawn_at: started_at,
        notify: Notify::of(|name| env::var(name).ok()),
        options: options.clone(),
        connector,
        address: options.address.clone(),
        name: options.name().unwrap_or_default().to_owned(),
        session: None,
        sender: None,
        connecting: None,
        tell,
        hear,
        last_transfer: 0,
        target: None,
    };
    client.read_history();
    client.connected(session).await;
    let ended = client.talk(signals, jobs, hung_up).await;
    client.close(&ended).await
}

fn settings(options: &Options) -> Settings {
    let variable = |name| env::var(name).unwrap_or_default();
    Settings {
        has_bell: options.bell,
        notifies: options.notify,
        keeps_history: options.history,
        has_mouse: options.mouse,
        // It was checked with the command line.
        time: parse_time(&options.time).unwrap_or_default(),
        colours: Colours::of(
            cli::is_colourful(),
            &variable("TERM"),
            &variable("COLORTERM"),
        ),
    }
}

fn now(started_at: Instant) -> Now {
    let ms = started_at.elapsed().as_millis();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = unix.unwrap_or_default().as_millis();
    Now {
        ms: u64::try_from(ms).unwrap_or(u64::MAX),
        unix_ms: i64::try_from(unix_ms).unwrap_or(i64::MAX),
    }
}

struct Client {
    model: Model,
    screen: Screen,
    sequences: Sequences,
    started_at: Instant,
    /// Whether the screen shows less than the model has.
    is_dirty: bool,
    drawn_at: Instant,
    notify: Notify,
    /// As the program was started.
    options: Options,
    connector: Connector,
    /// The server and the name of the session, or of the last one.
    address: Address,
    name: String,
    session: Option<Session>,
    sender: Option<Sender>,
    connecting: Option<Connecting>,
    /// What transfers tell, and how many there were.
    tell: mpsc::Sender<(u64, Told)>,
    hear: mpsc::Receiver<(u64, Told)>,
    last_transfer: u64,
    /// What the user asked to connect to.
    target: Option<(Address, String)>,
}

impl Client {
    /// Runs until the user leaves or the session ends for good.
    async fn talk(
        &mut self,
        signals: &mut Signals,
        mut jobs: JobSignals,
        mut hung_up: tokio::sync::oneshot::Receiver<nix::Result<()>>,
    ) -> Ended {
        let mut inputs = EventStream::new();
        let mut has_input = true;
        let mut is_hung_up = false;
        loop {
            self.model.now = now(self.started_at);
            self.is_dirty |= self.model.tick();
            for whole in self.sequences.expire(self.model.now.ms) {
                self.whole(whole);
            }
            for action in std::mem::take(&mut self.model.actions) {
                self.act(action, signals).await;
            }
            if self.model.is_leaving {
                match &self.sender {
                    Some(sender) if self.model.outbox.is_empty() => sender.leave(),
                    Some(_) => {}
                    None => return left(),
                }
            }
            let next_line = self.model.outbox.front().cloned();
            let sender = self.sender.clone();
            let draw_at = self.drawn_at + Duration::from_millis(FRAME_MS);
            let tick_at = [self.model.next_tick_ms(), self.sequences.expires_ms()];
            let tick_at = tick_at.into_iter().flatten().min();
            let tick_at = tick_at.map(|ms| self.started_at + Duration::from_millis(ms));
            let screen = &self.screen;
            tokio::select! {
                event = next_event(&mut self.session) => {
                    self.model.now = now(self.started_at);
                    self.is_dirty = true;
                    match event {
                        Some(Event::Ended(ended)) => {
                            if let Some(ended) = self.ended(ended) {
                                return ended;
                            }
                        }
                        Some(event) => self.model.event(event),
                        None => self.session = None,
                    }
                }
                Some((number, told)) = self.hear.recv() => {
                    self.model.now = now(self.started_at);
                    self.told(number, told);
                }
                connected = until_connected(&mut self.connecting) => {
                    self.connecting = None;
                    self.model.now = now(self.started_at);
                    self.is_dirty = true;
                    match connected {
                        Ok(session) => self.connected(session).await,
                        Err(error) => self.not_connected(&error, signals).await,
                    }
                }
                input = inputs.next(), if has_input => match input {
                    Some(Ok(input)) => {
                        self.model.now = now(self.started_at);
                        self.input(input);
                    }
                    // What cannot be understood is no error: the terminal is gone.
                    _ => {
                        has_input = false;
                        self.model.leave_now();
                    }
                },
                sent = send(&sender, next_line.as_ref()), if next_line.is_some() && sender.is_some() => {
                    self.model.now = now(self.started_at);
                    self.is_dirty = true;
                    match sent {
                        Ok(id) => self.model.taken(id),
                        // The event that ends the session follows.
                        Err(SendError::Ended) => self.sender = None,
                        Err(error) => self.model.not_taken(&error.to_string()),
                    }
                }
                () = signals.next() => self.model.leave_now(),
                told = &mut hung_up, if !is_hung_up => {
                    is_hung_up = true;
                    if let Ok(Ok(())) = told {
                        self.model.leave_now();
                    }
                }
                job = jobs.next() => match job {
                    JobSignal::Stop => {
                        self.screen.suspend().await;
                        // The shell sees a stop; going on is told by the next signal.
                        let _ = raise(Signal::SIGSTOP);
                    }
                    JobSignal::Continue => {
                        let _ = self.screen.resume();
                        self.is_dirty = true;
                    }
                    JobSignal::Resize => {
                        let _ = self.screen.redraw();
                        self.is_dirty = true;
                    }
                },
                () = sleep_until(tick_at.unwrap_or(draw_at)), if tick_at.is_some() => {}
                () = frame(screen, draw_at), if self.is_dirty => {
                    self.is_dirty = false;
                    self.drawn_at = Instant::now();
                    let _ = self.screen.draw(&mut self.model);
                }
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.is_dirty = true;
        match input {
            Input::Key(key) if key.kind == KeyEventKind::Release => {}
            Input::Key(key) => {
                for whole in self.sequences.take(key, self.model.now.ms) {
                    self.whole(whole);
                }
            }
            Input::Paste(text) => self.model.paste(&text),
            Input::Mouse(event) => self.model.mouse(event),
            Input::FocusGained => self.model.focus(true),
            Input::FocusLost => self.model.focus(false),
            // Told by a signal.
            Input::Resize(..) => {}
        }
    }

    fn whole(&mut self, whole: Whole) {
        self.is_dirty = true;
        match whole {
            Whole::Key(key) => self.model.key(key),
            Whole::Paste(text) => self.model.paste(&text),
            Whole::Focus(has_focus) => self.model.focus(has_focus),
        }
    }

    async fn act(&mut self, action: Action, signals: &mut Signals) {
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
            Action::Attach(path, text) => self.attach(path, text),
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

    /// Uploads a file in a task of its own.
    fn attach(&mut self, path: PathBuf, text: String) {
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
            let attached = attached.await.map_err(|error| error.to_string());
            let _ = told.send((number, Told::Attached(attached, text))).await;
        });
    }

    /// Fetches a file in a task of its own.
    fn save(&mut self, file: File, path: Option<PathBuf>) {
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
            let saved = saved.await.map_err(|error| error.to_string());
            let _ = told.send((number, Told::Saved(saved))).await;
        });
    }

    fn transfer(&mut self) -> (u64, mpsc::Sender<(u64, Told)>) {
        self.last_transfer += 1;
        (self.last_transfer, self.tell.clone())
    }

    fn no_transfer(&mut self) {
        let line = Printable::new().trusted("there is no connection");
        self.model.notice(line);
    }

    /// A transfer has something to tell.
    fn told(&mut self, number: u64, told: Told) {
        self.is_dirty = true;
        let line = match told {
            Told::Progress(name, done, total) => {
                self.model.transfers.insert(number, (name, done, total));
                return;
            }
            Told::Attached(Ok(file), text) => {
                self.model.transfers.remove(&number);
                return self.model.attached(file, &text);
            }
            Told::Saved(Ok(path)) => {
                let line = Printable::new().trusted("saved ");
                line.untrusted(&path.display().to_string())
            }
            Told::Attached(Err(error), _) => {
                let line = Printable::new().trusted("the file was not sent: ");
                line.untrusted(&error)
            }
            Told::Saved(Err(error)) => {
                let line = Printable::new().trusted("the file was not saved: ");
                line.untrusted(&error).trusted("; /save goes on with it")
            }
        };
        self.model.transfers.remove(&number);
        self.model.notice(line);
    }

    /// Connects to another server, which may raise questions about passwords and
    /// certificates: they need the terminal for themselves. What this server was given
    /// is not for that one.
    async fn connect_elsewhere(&mut self, address: Address, name: String, signals: &mut Signals) {
        self.screen.suspend().await;
        let is_encrypted = address.scheme().is_encrypted();
        let options = Options {
            address,
            name: Some(name.clone()),
            password_file: None,
            pin: None,
            ca: self.options.ca.clone().filter(|_| is_encrypted),
            ..self.options.clone()
        };
        let connector = super::connector(&options, true, !options.no_reconnect);
        let connector = connector
            .and(Capability::History)
            .and(Capability::Follow)
            .capturing_as(&self.connector);
        let connected = connect(&options, None, connector, true, signals).await;
        if connected.is_err() {
            let _ = ask("Enter goes back: ", Echo::On, signals).await;
        }
        let _ = self.screen.resume();
        if let Ok((session, connector)) = connected {
            self.connector = connector;
            self.target = Some((options.address, name));
            self.connected(session).await;
        }
    }

    fn read_history(&mut self) {
        if self.model.settings.keeps_history {
            match history_file::read() {
                Ok(content) => self.model.history = History::parse(&content),
                Err(error) => self.no_history(&error),
            }
        }
    }

    fn no_history(&mut self, error: &io::Error) {
        self.model.settings.keeps_history = false;
        self.model.notice(
            Printable::new()
                .trusted("what you type is not kept, its file cannot be used: ")
                .untrusted(&error.to_string()),
        );
    }

    /// Starts to connect under this name, to the same server.
    fn connect(&mut self, address: Address, name: String) {
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
    async fn connected(&mut self, mut session: Session) {
        if let Some(before) = self.session.take() {
            self.model.forget_sent();
            // Leaves by itself.
            drop(before);
        }
        if let Some((address, name)) = self.target.take() {
            (self.address, self.name) = (address, name);
        }
        let is_other = self.model.connected(&self.address, session.registered());
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
    async fn not_connected(&mut self, error: &ConnectError, signals: &mut Signals) {
        let Some((address, name)) = self.target.take() else {
            return;
        };
        if error.is_about_password() {
            // The question needs the terminal for itself.
            self.screen.suspend().await;
            let prompt = "the server asks for a password: ";
            let answer = ask_for_password(prompt, signals).await;
            let _ = self.screen.resume();
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
    fn ended(&mut self, ended: Ended) -> Option<Ended> {
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

    /// Restores the terminal and reports how the session ended.
    async fn close(mut self, ended: &Ended) -> Exit {
        self.model.give_up();
        self.screen.suspend().await;
        let ended = Ended {
            unconfirmed: ended.unconfirmed + self.model.unknown,
            ..ended.clone()
        };
        sum_up(&ended, self.model.refused, self.model.given_up, false)
    }
}

/// The end of a client that leaves without a session.
fn left() -> Ended {
    Ended {
        ending: Ending::Left,
        unsent: 0,
        unconfirmed: 0,
    }
}

/// Whether two addresses mean the same server, so that it may have the same password.
fn is_same_server(one: &Address, other: &Address) -> bool {
    let parts = |address: &Address| {
        let host = address.host().to_ascii_lowercase();
        (address.scheme(), host, address.port(), address.pin())
    };
    parts(one) == parts(other)
}

async fn next_event(session: &mut Option<Session>) -> Option<Event> {
    match session {
        Some(session) => session.next().await,
        None => pending().await,
    }
}

async fn until_connected(connecting: &mut Option<Connecting>) -> Result<Session, ConnectError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => pending().await,
    }
}

/// Sends the line. Dropped without sending if another branch is first.
async fn send(sender: &Option<Sender>, line: Option<&Unsent>) -> Result<u64, SendError> {
    match (sender, line) {
        (
            Some(sender),
            Some(Unsent {
                chat,
                to: None,
                files,
                ..
            }),
        ) => sender.send_files(chat.clone(), files.clone()).await,
        (
            Some(sender),
            Some(Unsent {
                chat, to: Some(to), ..
            }),
        ) => sender.direct(to, &chat.text).await,
        _ => pending().await,
    }
}

/// Waits until the next frame may be drawn.
async fn frame(screen: &Screen, draw_at: Instant) {
    sleep_until(draw_at).await;
    screen.ready().await;
}
