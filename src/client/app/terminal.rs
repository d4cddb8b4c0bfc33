//! Terminal mode: a prompt, chats and notices above it, commands.

use std::collections::VecDeque;

use super::exit::Exit;
use super::member_list::MemberList;
use super::report::{say, sum_up};
use super::screen::{ActiveScreen, Input, Screen};
use super::signals::Signals;
use super::{command, messages};
use crate::cli;
use crate::client::{Ended, Event, Line, Outgoing, Printable, SendError, Session};
use crate::wire::Capability;

/// How many typed or pasted lines may wait to be sent.
const LINES_WAITING_MAX: usize = 10_000;

/// How many lines may wait to be printed. No events are taken while one waits, so these
/// are answers to commands.
const PRINTS_WAITING_MAX: usize = 1_000;

/// Runs the session until the user leaves or the server ends it.
pub(super) async fn run(mut session: Session, screen: Screen, signals: &mut Signals) -> Exit {
    let screen = match screen.start(cli::is_colourful()) {
        Ok(screen) => screen,
        Err(error) => {
            say(&Printable::new()
                .trusted("cannot use this terminal: ")
                .untrusted(&error.to_string()));
            session.leave().await;
            return Exit::Failed;
        }
    };
    let mut view = ChatView::new(&session, screen);
    if !view.has_presence {
        view.greet();
    }
    let sender = session.sender();
    let printer = view.screen.printer();
    let ended = loop {
        let next_line = view.waiting.front().cloned();
        tokio::select! {
            event = session.next(), if view.to_print.is_empty() => match event {
                Some(Event::Ended(ended)) => break ended,
                Some(event) => view.event(event),
                None => return Exit::Failed,
            },
            () = printer.ready(), if !view.to_print.is_empty() => {
                let to_print = &mut view.to_print;
                while let Some(line) = to_print.pop_front() {
                    if let Err(line) = printer.try_print(line) {
                        to_print.push_front(line);
                        break;
                    }
                }
            }
            input = view.screen.input(), if !view.is_leaving => match input {
                Input::Lines(lines) => view.lines(&lines),
                Input::End => view.leave(),
                Input::Interrupt => {
                    view.leave_now();
                    sender.leave_now();
                }
            },
            // Dropped without sending if another branch is first.
            sent = sender.send(next_line.unwrap_or_default()),
                if !view.waiting.is_empty() && !view.is_over =>
            {
                match sent {
                    Ok(_) => {
                        view.waiting.pop_front();
                    }
                    // The waiting lines are counted at the end.
                    Err(SendError::Ended) => view.is_over = true,
                    Err(error) => view.cannot_send(&error),
                }
            }
            () = signals.next() => {
                view.leave_now();
                sender.leave_now();
            }
        }
        if view.is_leaving && view.waiting.is_empty() {
            sender.leave();
        }
    };
    view.close(&ended).await
}

/// The session as the terminal shows it.
struct ChatView {
    screen: ActiveScreen,
    name: String,
    outgoing: Outgoing,
    members: MemberList,
    has_presence: bool,
    has_greeted: bool,
    is_leaving: bool,
    /// The session takes no more lines.
    is_over: bool,
    /// Lines that the session has not taken yet.
    waiting: VecDeque<String>,
    /// Lines that the server refused.
    refused: usize,
    /// Lines that were given up.
    given_up: usize,
    /// Lines that the terminal has not taken yet. Input never waits for them: they wait
    /// for the prompt, which may wait for the input to be taken.
    to_print: VecDeque<Line>,
}

impl ChatView {
    fn new(session: &Session, screen: ActiveScreen) -> Self {
        Self {
            screen,
            name: session.registered().name.clone(),
            outgoing: Outgoing::new(session.limits().text_bytes_max as usize),
            members: MemberList::default(),
            has_presence: session.has(Capability::Presence),
            has_greeted: false,
            is_leaving: false,
            is_over: false,
            waiting: VecDeque::new(),
            refused: 0,
            given_up: 0,
            to_print: VecDeque::new(),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Message { sender, text, .. } => self.message(&sender, &text),
            Event::Members { names, more } => {
                for name in names {
                    self.members.add(name);
                }
                if !more && !self.has_greeted {
                    self.greet();
                }
            }
            Event::Joined { name } => {
                self.notice(Printable::new().name(&name).trusted(" joined"));
                self.members.add(name);
            }
            Event::Left { name, reason } => {
                self.notice(messages::left(&name, reason));
                self.members.remove(&name);
            }
            Event::Refused {
                id,
                text,
                code,
                detail,
                ..
            } => {
                self.refused += usize::from(id != 0);
                self.notice(messages::not_sent(text.as_deref(), code, &detail));
            }
            Event::Receipt { .. } | Event::Ended(_) => {}
        }
    }

    fn greet(&mut self) {
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

    fn who(&self) -> Printable {
        if self.has_presence {
            self.members.here(&self.name)
        } else {
            Printable::new().trusted("this server does not tell who is here")
        }
    }

    /// Handles typed or pasted input.
    fn lines(&mut self, lines: &str) {
        // Several lines are a paste, whose lines are text and never commands.
        let Some(line) = command::only_line(lines) else {
            for line in lines.split('\n') {
                self.queue(line);
            }
            return;
        };
        // A second slash makes the first one part of the text.
        match lines.strip_prefix('/') {
            Some(text) if text.starts_with('/') => self.queue(text),
            Some(_) => self.run(line),
            None => self.queue(lines),
        }
    }

    fn run(&mut self, typed: &str) {
        match typed {
            "/help" => {
                for line in command::HELP {
                    self.notice(Printable::new().trusted(line));
                }
            }
            "/who" => self.notice(self.who()),
            command::QUIT => self.leave(),
            _ => {
                let line = Printable::new()
                    .trusted("unknown command ")
                    .untrusted(typed);
                self.notice(line.trusted("; /help shows the commands, // sends a slash"));
            }
        }
    }

    fn queue(&mut self, line: &str) {
        let mut fits = true;
        let waiting = &mut self.waiting;
        let mut put = |text| {
            fits = waiting.len() < LINES_WAITING_MAX;
            if fits {
                waiting.push_back(text);
            }
        };
        self.outgoing.push(line.as_bytes(), &mut put);
        self.outgoing.finish(&mut put);
        if !fits {
            self.given_up += 1;
            self.notice(Printable::new().trusted("not sent: too many lines are waiting"));
        }
    }

    /// Gives up the next line.
    fn cannot_send(&mut self, error: &SendError) {
        self.waiting.pop_front();
        self.given_up += 1;
        let line = Printable::new()
            .trusted("not sent: ")
            .untrusted(&error.to_string());
        self.notice(line);
    }

    /// Leaves when every waiting line is sent.
    fn leave(&mut self) {
        self.is_leaving = true;
        self.screen.release();
        if !self.waiting.is_empty() {
            let line = Printable::new()
                .number(self.waiting.len() as u64)
                .trusted(" lines are still to be sent; Ctrl-C leaves without them");
            self.notice(line);
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

    fn message(&mut self, sender: &str, text: &str) {
        self.print(Line::message(sender, text));
    }

    fn print(&mut self, line: Line) {
        if self.to_print.len() < PRINTS_WAITING_MAX {
            self.to_print.push_back(line);
        }
    }

    fn notice(&mut self, line: Printable) {
        self.print(Line::notice(&line));
    }

    /// Restores the terminal and reports how the session ended.
    async fn close(mut self, ended: &Ended) -> Exit {
        self.give_up_waiting();
        self.screen.stop(self.to_print).await;
        sum_up(ended, self.refused, self.given_up, false)
    }
}
