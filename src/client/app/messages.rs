//! Messages of the program about sessions: one sentence for every end and refusal, with what
//! to do next. Those about lines are in `line_messages`. Pure.

use std::time::Duration;

use super::exit::Exit;
use super::untrusted;
use crate::client::{Address, ConnectError, Ended, Ending, Printable};
use crate::wire::{ErrorCode, LeftReason, ResumeFailure};

/// More lines of a welcome are not shown.
const WELCOME_LINES_MAX: usize = 20;

/// The longest part of a server's detail that is shown, in characters.
pub(super) const DETAIL_CHARS_MAX: usize = 300;

/// The longest part of a refused line that is shown, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// The exit code and the sentence for a failed connect. `has_password`: whether one was
/// given.
pub(super) fn no_session(
    error: &ConnectError,
    address: &Address,
    name: &str,
    has_password: bool,
) -> (Exit, Printable) {
    let at = || Printable::new().untrusted(&address.to_string());
    let line = Printable::new();
    match error {
        ConnectError::Address(error) => (Exit::Usage, line.untrusted(&error.to_string())),
        ConnectError::Lookup(error) => (
            Exit::CannotConnect,
            line.trusted("cannot find the host ")
                .untrusted(address.host())
                .trusted(": ")
                .untrusted(&reason(error))
                .trusted("; check the address"),
        ),
        ConnectError::Connect(error) => (
            Exit::CannotConnect,
            line.trusted("cannot connect to ")
                .append(&at())
                .trusted(": ")
                .untrusted(&reason(error))
                .trusted("; check the address and that the server runs"),
        ),
        ConnectError::Untrusted(untrusted) => {
            (Exit::CannotConnect, untrusted::sentence(untrusted, address))
        }
        ConnectError::Tls(error) => (
            Exit::CannotConnect,
            line.trusted("cannot encrypt the connection to ")
                .append(&at())
                .trusted(": ")
                .untrusted(&reason(error))
                .trusted("; check the port, and that the server listens there for TLS"),
        ),
        ConnectError::SchemeMissing(_) => (Exit::Usage, line.untrusted(&error.to_string())),
        ConnectError::Silent => (
            Exit::CannotConnect,
            line.trusted("the server at ")
                .append(&at())
                .trusted(" does not answer; check that it is a chat server, or try again later"),
        ),
        ConnectError::Closed if address.scheme().is_encrypted() => (
            Exit::CannotConnect,
            line.trusted("the server at ").append(&at()).trusted(
                " closed the connection without an answer; check that it is a chat server",
            ),
        ),
        ConnectError::Closed => (
            Exit::CannotConnect,
            line.trusted("the server at ").append(&at()).trusted(
                " closed the connection without an answer; check that it is a chat server, and \
                 write chats:// if it is encrypted",
            ),
        ),
        ConnectError::Lost(error) => (
            Exit::CannotConnect,
            line.trusted("the connection to ")
                .append(&at())
                .trusted(" broke before the server answered: ")
                .untrusted(&reason(error))
                .trusted("; try again"),
        ),
        ConnectError::NotChat => (
            Exit::CannotConnect,
            line.trusted("the server at ")
                .append(&at())
                .trusted(" is not a chat server, it speaks another protocol; check the address"),
        ),
        ConnectError::ServerClosed { detail, .. } => (
            Exit::CannotConnect,
            with_detail(line.trusted("the server is closing"), detail).trusted("; try again later"),
        ),
        ConnectError::Refused { code, detail, .. } => (
            Exit::Refused,
            refused_name(*code, detail, name, has_password),
        ),
    }
}

/// What a terminal without the full screen is, once somebody has joined in it.
pub(super) fn plain(name: &str, listens: bool) -> Printable {
    let line = Printable::new().trusted("you are ").name(name);
    line.trusted(match listens {
        false => "; each line is sent as it is, Ctrl-D leaves",
        true => "; each line is sent as it is, Ctrl-C leaves",
    })
}

/// The sentence for a refused registration.
fn refused_name(code: ErrorCode, detail: &str, name: &str, has_password: bool) -> Printable {
    let the_name = Printable::new().trusted("the name ").append(&quote(name));
    match code {
        ErrorCode::NameInUse => the_name.trusted(" is taken on this server, choose another"),
        ErrorCode::NameReserved => the_name.trusted(" is reserved, choose another"),
        ErrorCode::NameInvalid if name.is_empty() => {
            Printable::new().trusted("the name is empty, choose one")
        }
        ErrorCode::NameInvalid => the_name.trusted(
            " is not allowed, choose one of 1 to 32 characters from A-Z, a-z, 0-9, '.', '_' \
             and '-' that begins with a letter or a digit",
        ),
        // CHAT-ADM-9. The password is not shown (CHAT-ADM-8).
        ErrorCode::PasswordWrong if has_password => Printable::new()
            .trusted("the password is wrong, ask the server's operator for the right one"),
        ErrorCode::PasswordWrong => Printable::new().trusted(
            "the server asks for a password: put it into a file that only you can read and \
             say --password-file FILE, or set CHAT_PASSWORD",
        ),
        ErrorCode::NameNotAllowed => the_name
            .trusted(" is not on this server's list, choose one that is or ask its operator"),
        // CHAT-ID-15
        ErrorCode::NameOwned => the_name.trusted(
            " belongs to somebody else on this server, choose another; if it is yours, say --key \
             FILE with the key that you had",
        ),
        ErrorCode::ProofWrong => Printable::new().trusted(
            "the server does not take the proof of your key, say --no-key to go on without it",
        ),
        ErrorCode::ServerFull => Printable::new().trusted("the server is full, try again later"),
        ErrorCode::RegisterTimeout => {
            Printable::new().trusted("the registration took too long, try again")
        }
        _ => ended_by(code, detail, "the server refused the registration"),
    }
}

/// The sentence for an error that ended the session, or that no user causes. `what`
/// happened is said where nothing better is known.
fn ended_by(code: ErrorCode, detail: &str, what: &'static str) -> Printable {
    let line = Printable::new();
    match code {
        ErrorCode::IdleTimeout => {
            line.trusted("the server heard nothing from this client for too long, connect again")
        }
        ErrorCode::NameReclaimed => line.trusted(
            "another client took this name while the server could not reach this one, \
             choose another or try again",
        ),
        // CHAT-RES-5
        ErrorCode::Replaced => line.trusted(
            "this session goes on in another client, which has resumed it or has the same key",
        ),
        // CHAT-MOD-1, CHAT-MOD-2. A detail has the operator's reason.
        ErrorCode::Kicked if detail.is_empty() => {
            line.trusted("the server's operator has thrown this client out")
        }
        ErrorCode::Banned if detail.is_empty() => {
            line.trusted("the server's operator has banned this name or this network")
        }
        ErrorCode::StorageFull => line.trusted(
            "the server has no space to keep messages, tell its operator and try again later",
        ),
        ErrorCode::ClusterUnreachable => line.trusted(
            "this server is cut off the other servers of the room, connect to another one or \
             try again later",
        ),
        ErrorCode::Overloaded => line.trusted(
            "the server's queues are full, mostly with what this client has not read, and it \
             ended the session, connect again",
        ),
        ErrorCode::SlowConsumer => line
            .trusted("this client read too slowly and the server ended the session, connect again"),
        ErrorCode::ServerFull => line.trusted("the server is full, try again later"),
        ErrorCode::TooManyConnections => line.trusted(
            "this network has too many connections to the server, close one or try again later",
        ),
        ErrorCode::ConnectingTooFast => line.trusted(
            "this network made too many new connections to the server, wait a minute and try again",
        ),
        ErrorCode::MalformedFrame
        | ErrorCode::FrameTooLong
        | ErrorCode::NotRegistered
        | ErrorCode::AlreadyRegistered
        | ErrorCode::UnknownMessage
        | ErrorCode::RequestInvalid
        | ErrorCode::TooManyErrors
        | ErrorCode::NotGranted => with_detail(
            line.trusted("the server did not understand this client"),
            detail,
        )
        .trusted("; check that both are of the same version"),
        // CHAT-GROW-5: for an unknown code the server's detail is all there is.
        _ if detail.is_empty() => line.trusted(what).trusted(" and did not say why"),
        _ => line
            .trusted(what)
            .trusted(": ")
            .untrusted(&cut(detail, DETAIL_CHARS_MAX)),
    }
}

/// The exit code of a session's end, and its sentence if there is one.
pub(super) fn end(ended: &Ended) -> (Exit, Option<Printable>) {
    let line = Printable::new();
    match &ended.ending {
        Ending::Left => (Exit::Done, None),
        Ending::ServerClosed { detail, .. } => (
            Exit::Done,
            Some(with_detail(line.trusted("the server closed"), detail)),
        ),
        Ending::Error { code, detail } => (
            Exit::Ended,
            Some(ended_by(*code, detail, "the server ended the session")),
        ),
        Ending::Lost { reason } => (
            Exit::Lost,
            Some(
                line.trusted("the connection is lost: ")
                    .untrusted(&cut(reason, DETAIL_CHARS_MAX))
                    .trusted("; connect again"),
            ),
        ),
    }
}

/// The sentence for a lost session that is continued after a wait.
pub(super) fn reconnecting(reason: &Ending, after: Duration) -> Printable {
    let line = Printable::new();
    let line = match reason {
        Ending::Left => line.trusted("this client left"),
        Ending::ServerClosed { detail, .. } => {
            with_detail(line.trusted("the server closed"), detail)
        }
        Ending::Lost { reason } => line
            .trusted("the connection is lost: ")
            .untrusted(&cut(reason, DETAIL_CHARS_MAX)),
        Ending::Error { code, detail } => match code {
            ErrorCode::IdleTimeout => {
                line.trusted("the server heard nothing from this client for too long")
            }
            ErrorCode::SlowConsumer => {
                line.trusted("this client read too slowly and the server ended the session")
            }
            ErrorCode::Overloaded => {
                line.trusted("the server's queues are full and it ended the session")
            }
            ErrorCode::NameInUse => line.trusted("the server still has a session with this name"),
            ErrorCode::ServerFull => line.trusted("the server is full"),
            ErrorCode::TooManyConnections => {
                line.trusted("this network has too many connections to the server")
            }
            ErrorCode::ConnectingTooFast => {
                line.trusted("this network made too many new connections to the server")
            }
            ErrorCode::MalformedFrame => line.trusted("the connection broke inside a message"),
            ErrorCode::RegisterTimeout => line.trusted("the registration took too long"),
            _ => ended_by(*code, detail, "the server ended the session"),
        },
    };
    line.trusted("; connecting again within ")
        .number(after.as_secs() + 1)
        .trusted(" s")
}

/// The sentence for a session that continues.
pub(super) fn resumed(missed: u64, is_filtered: bool) -> Printable {
    let line = Printable::new().trusted("connected again, ");
    let line = match missed {
        0 => return line.trusted("nothing is missed"),
        // CHAT-COV-6: perhaps none of them was meant for this client.
        _ if is_filtered => line.trusted("up to "),
        _ => line,
    };
    match missed {
        1 => line.trusted("1 message is missed, which the server no longer has"),
        _ => line
            .number(missed)
            .trusted(" messages are missed, which the server no longer has"),
    }
}

/// "you missed 3 messages", or "you missed up to 3 messages" under a filter.
pub(super) fn missed(line: Printable, missed: u64, is_filtered: bool) -> Printable {
    let line = match is_filtered {
        true => line.trusted("you missed up to "),
        false => line.trusted("you missed "),
    };
    match missed {
        1 => line.trusted("1 message"),
        _ => line.number(missed).trusted(" messages"),
    }
}

/// The sentence for a session that another one follows.
pub(super) fn not_resumed(reason: ResumeFailure) -> Printable {
    let why = match reason {
        ResumeFailure::UnknownToken => "the server no longer knows the session before",
        ResumeFailure::OtherEpoch => "the server has begun anew",
        ResumeFailure::FutureSeq => "the server has lost messages",
        ResumeFailure::Unspecified => "the server does not resume sessions",
    };
    Printable::new()
        .trusted("connected again, but ")
        .trusted(why)
        .trusted(": what was said meanwhile is missed")
}

/// What the operator of the server says to everybody who comes, a sentence for each line
/// (CHAT-REG-15).
pub(super) fn welcome(text: &str) -> impl Iterator<Item = Printable> + '_ {
    let lines = text.lines().take(WELCOME_LINES_MAX);
    lines.map(|line| {
        Printable::new()
            .trusted("the server says: ")
            .untrusted(line)
    })
}

/// "Alice left (connection lost)".
pub(super) fn left(name: &str, reason: LeftReason) -> Printable {
    let line = Printable::new().name(name);
    line.trusted(match reason {
        // CHAT-GROW-8
        LeftReason::Leave | LeftReason::Unspecified => " left",
        LeftReason::ConnectionLost => " left (connection lost)",
        LeftReason::IdleTimeout => " left (silent for too long)",
        LeftReason::SlowConsumer => " left (read too slowly)",
        LeftReason::ProtocolError => " left (broke the protocol)",
        LeftReason::Kicked => " left (thrown out by the operator)",
        LeftReason::Banned => " left (banned by the operator)",
    })
}

pub(super) fn with_detail(line: Printable, detail: &str) -> Printable {
    if detail.is_empty() {
        line
    } else {
        line.trusted(" (")
            .untrusted(&cut(detail, DETAIL_CHARS_MAX))
            .trusted(")")
    }
}

/// The start of a text of the user.
pub(super) fn quote(text: &str) -> Printable {
    Printable::new().untrusted(&cut(text, QUOTE_CHARS_MAX))
}

pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The system's error without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::client::backoff::Retry;
    use insta::assert_snapshot;

    /// Every error code, and the one for unknown ones.
    pub(in super::super) fn codes() -> impl Iterator<Item = ErrorCode> {
        // The numbers may have gaps.
        (0..100).filter_map(|number| ErrorCode::try_from(number).ok())
    }

    pub(in super::super) fn table(say: impl Fn(ErrorCode) -> Printable) -> String {
        codes()
            .map(|code| {
                let name = code.as_str_name().trim_start_matches("ERROR_CODE_");
                format!("{name}: {}\n", say(code))
            })
            .collect()
    }

    #[test]
    fn refused_registrations() {
        assert_snapshot!(table(|code| refused_name(code, "said\nso", "Alice", true)));
    }

    #[test]
    fn a_password_that_was_not_given() {
        assert_eq!(
            refused_name(ErrorCode::PasswordWrong, "said\nso", "Alice", false).as_str(),
            "the server asks for a password: put it into a file that only you can read and \
             say --password-file FILE, or set CHAT_PASSWORD"
        );
    }

    #[test]
    fn ended_sessions() {
        assert_snapshot!(table(|code| ended_by(code, "", "the server ended it")));
    }

    #[test]
    fn lost_for_now() {
        let after = Duration::from_millis(700);
        let ended = |code| Ending::Error {
            code,
            detail: String::new(),
        };
        let tried_again = codes().filter(|&code| Retry::after_code(code) != Retry::Never);
        let sentences: Vec<String> = tried_again
            .map(|code| reconnecting(&ended(code), after).as_str().to_owned())
            .collect();
        assert_snapshot!(sentences.join("\n"));
        let reason = "a\u{1b}b".to_owned();
        assert_eq!(
            reconnecting(&Ending::Lost { reason }, after).as_str(),
            "the connection is lost: a\\u{1b}b; connecting again within 1 s"
        );
    }
}
