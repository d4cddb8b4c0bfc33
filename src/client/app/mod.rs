//! The program `chat-client`: options, terminal, pipe, messages, exit codes, on top of
//! the library.

mod command;
mod connect;
mod exit;
mod known_servers;
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
mod trust;
mod untrusted;

use std::io::{self, IsTerminal};

pub use exit::Exit;
pub use options::Options;

use self::report::say;
use self::screen::Screen;
use self::signals::Signals;
use super::{Connector, Printable};
use crate::wire::Capability;

/// Runs the program and returns its exit code.
pub async fn run(options: &Options) -> Exit {
    let Ok(mut signals) = Signals::new() else {
        say(&Printable::new().trusted("this system does not let this program catch signals"));
        return Exit::Failed;
    };
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    // A terminal without line editing (TERM=dumb) is used like a pipe.
    let screen = if is_terminal { Screen::open() } else { None };
    let mut capabilities = vec![Capability::Receipts, Capability::Keepalive];
    // Presence costs the server a message for each join and leave, so it is requested
    // only where somebody sees it.
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
