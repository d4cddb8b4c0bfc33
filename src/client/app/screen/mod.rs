//! Screen: the full-screen client. The loop that moves events of the session, of the
//! terminal and of the clock into the [`Model`], and carries out its actions.
//!
//! | module | what it holds |
//! |---|---|
//! | `model` | the state (pure) |
//! | `link`, `events` | what the begin, the events and the end of a session do to it (pure) |
//! | `sequence` | keys that came in pieces (pure) |
//! | `keys`, `search`, `run` | what keys, pastes, the mouse and commands do to it (pure) |
//! | `outbox`, `attention` | lines on their way; what nobody has read, and bells (pure) |
//! | `views`, `choose` | the room, topics and directs, each a view (pure) |
//! | `scroll`, `rows`, `draw`, `view_list`, `cells` | scrolling, the look of an entry, the cells (pure) |
//! | `log`, `composer`, `history` | messages, the draft, typed lines (pure) |
//! | `command`, `settings`, `find`, `colour` | what their names say (pure) |
//! | `actions`, `switch`, `transfer` | actions: the short ones, other sessions, files |
//! | `terminal` | raw mode, the alternate screen, bells, the clipboard |
//! | `frames`, `notify` | cells as bytes; which notices the terminal knows |
//! | `history_file` | typed lines on disk |

mod actions;
mod attention;
mod cells;
mod choose;
mod colour;
mod command;
mod composer;
mod draw;
mod events;
mod find;
mod frames;
mod history;
mod history_file;
mod keys;
mod link;
mod log;
mod model;
mod notify;
mod outbox;
mod rows;
mod run;
mod scroll;
mod search;
mod sequence;
mod settings;
mod switch;
mod terminal;
mod transfer;
mod view_list;
mod views;

use std::env;
use std::future::pending;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossterm::event::{Event as Input, EventStream, KeyEventKind};
use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt, StreamExt};
use jiff::tz::TimeZone;
use nix::sys::signal::{Signal, raise};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::colour::Colours;
use self::history::History;
use self::model::{Model, Now, Unsent};
use self::notify::Notify;
use self::sequence::{Sequences, Whole};
use self::settings::Settings;
use self::switch::{Connecting, until_connected};
use self::terminal::Screen;
use self::transfer::Told;
use super::exit::Exit;
use super::hang_up;
use super::options::Options;
use super::report::{say, sum_up};
use super::signals::{JobSignal, JobSignals, Signals};
use super::time_format::parse_time;
use crate::address::Address;
use crate::cli;
use crate::client::{Connector, Ended, Ending, Event, Printable, SendError, Sender, Session};

/// The shortest time between two frames, in milliseconds: short enough to look
/// immediate, long enough to draw a flood of messages together.
const FRAME_MS: u64 = 20;

/// How much transfers may have told that was not heard.
const TOLD_QUEUED_MAX: usize = 64;

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
        inputs: select_all([EventStream::new()]),
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
    /// The terminal's stream; empty while somebody else reads the terminal. It is asked only
    /// when it has something: each question makes the thread yield several times, which on a
    /// busy machine takes longer than all the rest.
    inputs: SelectAll<EventStream>,
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
        let mut has_input = true;
        let mut is_hung_up = false;
        loop {
            self.model.now = now(self.started_at);
            self.is_dirty |= self.model.tick();
            for action in std::mem::take(&mut self.model.actions) {
                self.act(action, signals).await;
            }
            // While an action asked the user something.
            if signals.is_over() && !self.model.is_leaving {
                self.model.leave_now();
                continue;
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
                        Some(event) => {
                            if let Event::Resumed { .. } | Event::NotResumed { .. } = event {
                                let address = self.session.as_ref().and_then(Session::address);
                                self.model.is_at(address.as_ref());
                            }
                            self.model.event(event);
                        }
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
                input = self.inputs.next(), if has_input => has_input = self.taken(input),
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
                job = jobs.next() => {
                    if let JobSignal::Stop = job {
                        self.screen.suspend().await;
                        // The shell sees a stop. This thread goes on when the shell lets it,
                        // and something else than the signal may come first: nothing is
                        // drawn, and no key is read, on a terminal that is not its own.
                        let _ = raise(Signal::SIGSTOP);
                    }
                    let _ = match job {
                        JobSignal::Stop | JobSignal::Continue => self.screen.resume(),
                        JobSignal::Resize => self.screen.redraw(),
                    };
                    self.is_dirty = true;
                }
                () = sleep_until(tick_at.unwrap_or(draw_at)), if tick_at.is_some() => {
                    // The rest of a sequence may have come, however late this task is.
                    match has_input.then(|| self.inputs.next().now_or_never()).flatten() {
                        Some(input) => has_input = self.taken(input),
                        None => self.expire(),
                    }
                }
                () = frame(screen, draw_at), if self.is_dirty => {
                    self.is_dirty = false;
                    self.drawn_at = Instant::now();
                    let _ = self.screen.draw(&mut self.model);
                }
            }
        }
    }

    /// Takes what the terminal's stream gives. Returns whether it gives more.
    fn taken(&mut self, input: Option<io::Result<Input>>) -> bool {
        self.model.now = now(self.started_at);
        // What cannot be understood is no error: without input, the terminal is gone.
        let Some(Ok(input)) = input else {
            self.model.leave_now();
            return false;
        };
        self.input(input);
        true
    }

    /// Takes keys that do not become longer any more.
    fn expire(&mut self) {
        self.model.now = now(self.started_at);
        for whole in self.sequences.expire(self.model.now.ms) {
            self.whole(whole);
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

async fn next_event(session: &mut Option<Session>) -> Option<Event> {
    match session {
        Some(session) => session.next().await,
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
                chat,
                to: Some(to),
                files,
                ..
            }),
        ) => sender.direct_files(to, &chat.text, files.clone()).await,
        _ => pending().await,
    }
}

/// Waits until the next frame may be drawn.
async fn frame(screen: &Screen, draw_at: Instant) {
    sleep_until(draw_at).await;
    screen.ready().await;
}
