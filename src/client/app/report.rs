//! Reports on the error output: how the session ended, and what was lost.

use std::io::{self, Write};

use super::exit::Exit;
use super::messages;
use crate::client::{Ended, Printable};

/// Says how it ended and what was lost. `refused` and `held` count lines that the
/// server did not take and that the session did not; `has_unread`: there are more that
/// nobody has read.
pub(super) fn sum_up(ended: &Ended, refused: usize, held: usize, has_unread: bool) -> Exit {
    let (exit, sentence) = messages::end(ended);
    if let Some(sentence) = sentence {
        say(&sentence);
    }
    let unsent = ended.unsent + held;
    match messages::undelivered(refused, unsent, ended.unconfirmed, has_unread) {
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
pub(super) fn say(sentence: &Printable) {
    let _ = writeln!(io::stderr(), "chat-client: {sentence}");
}
