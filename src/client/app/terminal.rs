//! In a terminal: a prompt, what others say above it, notices, commands.

use std::collections::VecDeque;
use std::env;

use super::exit::Exit;
use super::roster::Roster;
use super::screen::{Input, Running, Screen};
use super::signals::Signals;
use super::{say, sentences};
use crate::client::{Ended, Event, Outgoing, Printable, Session};
use crate::wire::Capability;

/// The command that leaves; the editor ends with it.
pub(super) const QUIT: &str = "/quit";

/// How many typed or pasted lines may wait to be sent.
const LINES_WAITING_MAX: usize = 10_000;

const HELP: [&str; 4] = [
    "/who shows who is here",
    "/quit leaves, and so do Ctrl-D and Ctrl-C",
    "//word sends a line that begins with /word",
    "everything else is sent to all who are here",
];

/// Runs the session until somebody leaves or the server ends it.
pub(super) async fn run(mut session: Session, screen: Screen, signals: &mut Signals) -> Exit {
    let running = match screen.start() {
        Ok(running) => running,
        Err(error) => {
            say(&Printable::new()
                .own("cannot use this terminal: ")
                .peer(&error.to_string()));
            session.leave().await;
            return Exit::Failed;
        }
    };
    let mut room = Room::new(&session, running);
    if !room.has_presence {
        room.greet().await;
    }
    let sender = session.sender();
    let ended = loop {
        let next_line = room.waiting.front().cloned();
        tokio::select! {
            event = session.next() => match event {
                Some(Event::Ended(ended)) => break ended,
                Some(event) => room.event(event).await,
                None => return Exit::Failed,
            },
            input = room.running.input(), if !room.is_leaving => match input {
                Input::Lines(lines) => room.lines(&lines).await,
                Input::End => room.leave().await,
                Input::Interrupt => {
                    room.leave_now();
                    sender.leave_now();
                }
            },
            // Dropped without sending anything if something else comes first.
            _ = sender.send(next_line.unwrap_or_default()), if !room.waiting.is_empty() => {
                room.waiting.pop_front();
            }
            () = signals.next() => {
                room.leave_now();
                sender.leave_now();
            }
        }
        if room.is_leaving && room.waiting.is_empty() {
            sender.leave();
        }
    };
    room.close(&ended).await
}

/// What the terminal knows about the session.
struct Room {
    running: Running,
    name: String,
    outgoing: Outgoing,
    roster: Roster,
    has_presence: bool,
    has_greeted: bool,
    is_colourful: bool,
    is_leaving: bool,
    /// Lines that the session has not taken yet.
    waiting: VecDeque<String>,
    /// Lines that will not be sent any more.
    given_up: usize,
}

impl Room {
    fn new(session: &Session, running: Running) -> Self {
        Self {
            running,
            name: session.registered().name.clone(),
            outgoing: Outgoing::new(session.limits().text_bytes_max as usize),
            roster: Roster::default(),
            has_presence: session.has(Capability::Presence),
            has_greeted: false,
            is_colourful: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            is_leaving: false,
            waiting: VecDeque::new(),
            given_up: 0,
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Message { sender, text, .. } => self.message(&sender, &text).await,
            Event::Members { names, more } => {
                for name in names {
                    self.roster.add(name);
                }
                if !more && !self.has_greeted {
                    self.greet().await;
                }
            }
            Event::Joined { name } => {
                self.notice(Printable::new().name(&name).own(" joined"))
                    .await;
                self.roster.add(name);
            }
            Event::Left { name, reason } => {
                self.notice(sentences::left(&name, reason)).await;
                self.roster.remove(&name);
            }
            Event::Refused {
                text, code, detail, ..
            } => {
                self.notice(sentences::not_sent(text.as_deref(), code, &detail))
                    .await;
            }
            Event::Receipt { .. } | Event::Ended(_) => {}
        }
    }

    async fn greet(&mut self) {
        self.has_greeted = true;
        let line = Printable::new().own("you are ").name(&self.name).own(", ");
        self.notice(line.then(&self.who()).own("; /help shows the commands"))
            .await;
    }

    fn who(&self) -> Printable {
        if self.has_presence {
            self.roster.here(&self.name)
        } else {
            Printable::new().own("this server does not tell who is here")
        }
    }

    /// Takes what was typed or pasted.
    async fn lines(&mut self, lines: &str) {
        for line in lines.split('\n') {
            // A second slash makes the first one part of the text.
            match line.strip_prefix('/') {
                Some(text) if text.starts_with('/') => self.queue(text).await,
                Some(_) => self.command(line.trim_end()).await,
                None => self.queue(line).await,
            }
        }
    }

    async fn command(&mut self, command: &str) {
        match command {
            "/help" => {
                for line in HELP {
                    self.notice(Printable::new().own(line)).await;
                }
            }
            "/who" => self.notice(self.who()).await,
            QUIT => self.leave().await,
            _ => {
                let line = Printable::new().own("there is no command ").peer(command);
                self.notice(line.own("; /help shows those that there are, // sends a slash"))
                    .await;
            }
        }
    }

    async fn queue(&mut self, line: &str) {
        let mut has_room = true;
        let waiting = &mut self.waiting;
        let mut put = |text| {
            has_room = waiting.len() < LINES_WAITING_MAX;
            if has_room {
                waiting.push_back(text);
            }
        };
        self.outgoing.push(line.as_bytes(), &mut put);
        self.outgoing.finish(&mut put);
        if !has_room {
            self.given_up += 1;
            self.notice(Printable::new().own("not sent: too many lines are waiting"))
                .await;
        }
    }

    /// Leaves when everything that waits is sent.
    async fn leave(&mut self) {
        self.is_leaving = true;
        self.running.release();
        if !self.waiting.is_empty() {
            let line = Printable::new()
                .number(self.waiting.len() as u64)
                .own(" lines are still to be sent; Ctrl-C leaves without them");
            self.notice(line).await;
        }
    }

    fn leave_now(&mut self) {
        self.is_leaving = true;
        self.give_up_waiting();
    }

    fn give_up_waiting(&mut self) {
        self.given_up += self.waiting.len();
        self.waiting.clear();
    }

    async fn message(&self, sender: &str, text: &str) {
        let head = Printable::new().own("@").name(sender).own(":");
        let text = Printable::new().own(" ").peer(text);
        let line = if self.is_colourful {
            format!("\x1b[1m{head}\x1b[0m{text}\n")
        } else {
            format!("{head}{text}\n")
        };
        self.running.print(line).await;
    }

    /// What nobody said: begins with a star, where a message begins with `@`.
    async fn notice(&self, line: Printable) {
        let line = if self.is_colourful {
            format!("\x1b[2m* {line}\x1b[0m\n")
        } else {
            format!("* {line}\n")
        };
        self.running.print(line).await;
    }

    /// Gives the terminal back and says how it ended.
    async fn close(mut self, ended: &Ended) -> Exit {
        self.give_up_waiting();
        self.running.stop().await;
        let (exit, sentence) = sentences::end(ended);
        if let Some(sentence) = sentence {
            say(&sentence);
        }
        // Refused lines were told one by one.
        let unsent = ended.unsent + self.given_up;
        if let Some(sentence) = sentences::undelivered(0, unsent, ended.unconfirmed) {
            say(&sentence);
        }
        exit
    }
}
