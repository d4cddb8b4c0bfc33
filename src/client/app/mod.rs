//! The program `chat-client`: options, a terminal or pipes, messages, exit
//! codes. Everything that needs no more than the library stays out of here.

mod command;
mod connect;
mod exit;
mod member_list;
mod messages;
mod options;
mod password;
mod pipe;
mod report;
mod screen;
mod signals;
mod terminal;
mod terminal_mode;

use std::io::{self, IsTerminal};

pub use exit::Exit;
pub use options::Options;

use self::report::say;
use self::screen::Screen;
use self::signals::Signals;
use super::{Connector, Printable};
use crate::wire::Capability;

/// Runs the program and says how it ended.
pub async fn run(options: &Options) -> Exit {
    let Ok(mut signals) = Signals::new() else {
        say(&Printable::new().trusted("this system does not let signals be caught"));
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
    let session = match connect::connect(options, connector, is_terminal, &mut signals).await {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    match screen {
        Some(screen) => terminal::run(session, screen, &mut signals).await,
        None => pipe::run(session, options.listen, &mut signals).await,
    }
}
