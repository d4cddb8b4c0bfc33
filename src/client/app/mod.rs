//! The program `chat-client`: options, a terminal or pipes, sentences, exit
//! codes. Everything that needs no more than the library stays out of here.

mod exit;
mod gate;
mod lines;
mod options;
mod password;
mod roster;
mod screen;
mod sentences;
mod signals;
mod terminal;

use std::env;
use std::io::{self, IsTerminal, Write};

pub use exit::Exit;
pub use options::Options;

use self::password::Answer;
use self::screen::Screen;
use self::signals::Signals;
use super::{Connector, Ended, Printable, Session};
use crate::password::source::PASSWORD_VARIABLE;
use crate::password::{Password, PasswordError};
use crate::wire::Capability;

/// Runs the program and says how it ended.
pub async fn run(options: &Options) -> Exit {
    let Ok(mut signals) = Signals::new() else {
        say(&Printable::new().own("this system does not let signals be caught"));
        return Exit::Failed;
    };
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    // A terminal that cannot edit lines (TERM=dumb) is used like a pipe.
    let screen = if is_terminal { Screen::open() } else { None };
    let mut capabilities = vec![Capability::Receipts, Capability::Keepalive];
    // Presence costs every server a message for each coming and going: only
    // where somebody looks.
    if screen.is_some() {
        capabilities.push(Capability::Presence);
    }
    let connector = Connector::new()
        .capabilities(capabilities)
        .timeout(options.timeout());
    let session = match connect(options, connector, is_terminal, &mut signals).await {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    match screen {
        Some(screen) => terminal::run(session, screen, &mut signals).await,
        None => lines::run(session, options.listen, &mut signals).await,
    }
}

/// Connects, with a password where one was given or, in a terminal, where the
/// server asks for one and somebody types it. A password that was refused is not
/// tried again (CHAT-ADM-7).
///
/// # Errors
///
/// How the program ends if there is no session; why was said (CHAT-ADM-9).
async fn connect(
    options: &Options,
    mut connector: Connector,
    is_terminal: bool,
    signals: &mut Signals,
) -> Result<Session, Exit> {
    let found = options.password(env::var_os(PASSWORD_VARIABLE));
    let found = found.map_err(|sentence| {
        say(&Printable::new().peer(&sentence));
        Exit::Usage
    })?;
    let mut has_password = found.is_some();
    let mut asks_left = match found {
        None if is_terminal => password::ASKED_TIMES_MAX,
        _ => 0,
    };
    if let Some(found) = found {
        if let Some(warning) = found.warning {
            say(&Printable::new().peer(&warning));
        }
        connector = connector.password(found.password);
    }
    let name = options.name().unwrap_or_default();
    loop {
        let connected = tokio::select! {
            connected = connector.connect_to(&options.address, name) => connected,
            () = signals.next() => return Err(Exit::Done),
        };
        let error = match connected {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        if error.is_about_password() && asks_left > 0 {
            asks_left -= 1;
            let prompt = match has_password {
                false => "the server asks for a password: ",
                true => "the password is wrong, try again: ",
            };
            if let Some(password) = ask_for_password(prompt, signals).await? {
                connector = connector.password(password);
                has_password = true;
                continue;
            }
        }
        let (exit, sentence) = sentences::no_session(&error, &options.address, name, has_password);
        say(&sentence);
        return Err(exit);
    }
}

/// The password that somebody types; `None` for none, or something that cannot be
/// one, which is said.
async fn ask_for_password(
    prompt: &'static str,
    signals: &mut Signals,
) -> Result<Option<Password>, Exit> {
    match password::ask(prompt, signals).await {
        Ok(Answer::Line(line)) => {
            let text = str::from_utf8(&line).map_err(|_| PasswordError::NotUtf8);
            match text.and_then(Password::parse) {
                Ok(password) => Ok(Some(password)),
                Err(error) => {
                    let line = Printable::new().own("what was typed ");
                    say(&line.peer(&error.to_string()));
                    Ok(None)
                }
            }
        }
        Ok(Answer::End) => Ok(None),
        Ok(Answer::Interrupt) => Err(Exit::Done),
        Err(error) => {
            let line = Printable::new().own("cannot ask for a password here: ");
            say(&line.peer(&error.to_string()));
            Ok(None)
        }
    }
}

/// Says how it ended and what was lost. `refused` and `held` count lines that the
/// server did not take and that the session did not.
fn sum_up(ended: &Ended, refused: usize, held: usize) -> Exit {
    let (exit, sentence) = sentences::end(ended);
    if let Some(sentence) = sentence {
        say(&sentence);
    }
    match sentences::undelivered(refused, ended.unsent + held, ended.unconfirmed) {
        Some(sentence) => {
            say(&sentence);
            // What ended the session says more than what came of it.
            if exit == Exit::Done {
                Exit::Undelivered
            } else {
                exit
            }
        }
        None => exit,
    }
}

/// Says one sentence on the error output; if that is gone there is nobody to
/// hear it.
fn say(sentence: &Printable) {
    let _ = writeln!(io::stderr(), "chat-client: {sentence}");
}
