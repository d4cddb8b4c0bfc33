//! Reports on the error output: how the session ended, and what was lost.

use std::io::{self, Write};

use super::exit::Exit;
use super::line_messages;
use super::messages;
use crate::client::{Ended, Printable};

/// Reports how the session ended and what was lost, and returns the exit code.
/// `refused` counts lines that the server refused, `held` those that the session never
/// took; `has_unread`: whether the input has more.
pub(super) fn sum_up(ended: &Ended, refused: usize, held: usize, has_unread: bool) -> Exit {
    let (exit, sentence) = messages::end(ended);
    if let Some(sentence) = sentence {
        say(&sentence);
    }
    let unsent = ended.unsent + held;
    match line_messages::undelivered(refused, unsent, ended.unconfirmed, has_unread) {
        Some(sentence) => {
            say(&sentence);
            // The end of the session says more than its results.
            if exit == Exit::Done {
                Exit::Undelivered
            } else {
                exit
            }
        }
        None => exit,
    }
}

/// Writes one sentence to the error output. If that is closed, there is no reader to
/// tell.
pub(super) fn say(sentence: &Printable) {
    let _ = writeln!(io::stderr(), "chat-client: {sentence}");
}
