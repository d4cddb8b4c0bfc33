//! The program `chat-client`: options, full screen, pipe, messages, exit codes, on top of
//! the library.

mod config;
mod connect;
mod exit;
mod feeder;
mod hang_up;
mod json;
mod json_input;
mod key_file;
mod known_names;
mod known_names_file;
mod known_servers;
mod line_messages;
mod member_list;
mod messages;
mod options;
mod password;
mod past;
mod pipe;
mod report;
mod save;
mod save_queue;
mod screen;
mod signals;
mod terminal_mode;
mod time_format;
mod topics;
mod trust;
mod untrusted;

use std::io::{self, IsTerminal};
use std::path::Path;

pub use exit::Exit;
pub use options::Options;

use self::report::say;
use self::signals::Signals;
use super::{Backoff, Connector, Printable};
use crate::capture::Capture;
use crate::files;
use crate::wire::Capability;

/// Runs the program and returns its exit code.
pub async fn run(options: &Options) -> Exit {
    let Ok(mut signals) = Signals::new() else {
        say(&Printable::new().trusted("this system does not let this program catch signals"));
        return Exit::Failed;
    };
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    // A terminal that cannot show a screen (TERM=dumb) is used like a pipe.
    let is_full_screen = is_terminal && !options.is_for_scripts() && screen::is_possible();
    let has_presence = is_full_screen || options.events || options.who;
    let reconnects = match is_full_screen {
        true => !options.no_reconnect,
        false => options.reconnect,
    };
    let mut connector = connector(options, has_presence, reconnects);
    let capture = match options.capture.as_deref().map(begin_capture).transpose() {
        Ok(capture) => capture,
        Err(sentence) => return connect::wrong_usage(&sentence),
    };
    if let Some(capture) = &capture {
        connector = connector.capture(capture.clone());
    }
    if is_full_screen || options.last.is_some() {
        connector = connector.and(Capability::History);
    }
    if is_full_screen || options.json || options.has_topics() {
        connector = connector.and(Capability::Follow);
    }
    if !is_full_screen && !options.follow.is_empty() {
        connector = connector.following(options.filter());
    }
    let password = match options.password() {
        Ok(password) => password,
        Err(sentence) => return connect::wrong_usage(&sentence),
    };
    let connected = connect::connect(options, password, connector, is_terminal, &mut signals).await;
    let (session, connector) = match connected {
        Ok(connected) => connected,
        Err(exit) => return exit,
    };
    let exit = match is_full_screen {
        true => screen::run(options, connector, session, &mut signals).await,
        false => pipe::run(session, options, &mut signals).await,
    };
    match capture.and_then(|capture| capture.failure()) {
        None => exit,
        Some(reason) => {
            let sentence = Printable::new().trusted("the capture is not complete: ");
            say(&sentence.untrusted(&reason));
            // How the session ended says more.
            match exit {
                Exit::Done => Exit::Failed,
                exit => exit,
            }
        }
    }
}

/// Begins a capture at the end of the file.
fn begin_capture(path: &Path) -> Result<Capture, String> {
    let file = files::append_private(path)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let by = concat!("chat-client ", env!("CARGO_PKG_VERSION"));
    Ok(Capture::new(file, by))
}

/// How to connect with these options. Presence costs the server a message for each join
/// and leave, so it is requested only where somebody sees it.
fn connector(options: &Options, has_presence: bool, reconnects: bool) -> Connector {
    let mut capabilities = vec![
        Capability::Receipts,
        Capability::Keepalive,
        Capability::Direct,
        Capability::Files,
    ];
    if has_presence {
        capabilities.push(Capability::Presence);
    }
    let connector = Connector::new()
        .capabilities(capabilities)
        .timeout(options.timeout());
    match reconnects {
        true => connector.reconnecting(Backoff::default()),
        false => connector,
    }
}
