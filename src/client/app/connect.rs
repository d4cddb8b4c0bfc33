//! Connecting: from the command line to a session, with a server that the options or the
//! user trust, and a password from an option, the environment or the user.

use super::exit::Exit;
use super::key_file::{self, KeyError};
use super::messages;
use super::options::Options;
use super::password::{self, Answer, Echo};
use super::report::say;
use super::signals::Signals;
use super::trust;
use crate::client::{ConnectError, Connector, Printable, Session};
use crate::password::source::Found;
use crate::password::{Password, PasswordError};

/// Connects, with the password that was found. If the server asks for one and none was
/// given, asks the user in a
/// terminal. A refused password is not sent again (CHAT-ADM-7). The connector that is
/// returned knows the password, for later sessions.
///
/// # Errors
///
/// The exit code if there is no session; the reason has been reported (CHAT-ADM-9).
pub(super) async fn connect(
    options: &Options,
    found: Option<Found>,
    mut connector: Connector,
    is_terminal: bool,
    signals: &mut Signals,
) -> Result<(Session, Connector), Exit> {
    let trust = trust::of_options(options).map_err(|sentence| wrong_usage(&sentence))?;
    connector = with_key(connector.trust(trust), options)?;
    let mut has_password = found.is_some();
    let mut asks_left = match found {
        None if is_terminal => password::ASKED_TIMES_MAX,
        _ => 0,
    };
    let exposes_password = options.address.all().any(trust::exposes_password);
    let warn_of_readers = || {
        if exposes_password {
            say(&Printable::new().trusted(
                "others on the network can read the password on its way; use a chats:// address \
                 if the server has one",
            ));
        }
    };
    if let Some(found) = found {
        warn_of_readers();
        if let Some(warning) = found.warning {
            say(&Printable::new().untrusted(&warning));
        }
        connector = connector.password(found.password);
    }
    let name = options.name().unwrap_or_default();
    loop {
        let connected = tokio::select! {
            connected = connector.connect_to_any(&options.address, name) => connected,
            () = signals.next() => return Err(Exit::Done),
        };
        let (address, error) = match connected {
            Ok(session) => return Ok((session, connector)),
            Err((address, ConnectError::Untrusted(untrusted))) => {
                let trust =
                    trust::judge(&untrusted, &address, options, is_terminal, signals).await?;
                connector = connector.trust(trust);
                continue;
            }
            Err(failed) => failed,
        };
        if error.is_about_password() && asks_left > 0 {
            asks_left -= 1;
            let prompt = match has_password {
                false => "the server asks for a password: ",
                true => "the password is wrong, try again: ",
            };
            if !has_password {
                warn_of_readers();
            }
            if let Some(password) = ask_for_password(prompt, signals).await? {
                connector = connector.password(password);
                has_password = true;
                continue;
            }
        }
        let (exit, sentence) = messages::no_session(&error, &address, name, has_password);
        let servers = options.address.all().count();
        say(&match servers > 1 && error.is_of_server() {
            true => sentence
                .trusted("; none of the ")
                .number(servers as u64)
                .trusted(" addresses works"),
            false => sentence,
        });
        return Err(exit);
    }
}

/// Has the connector register with the user's key, unless an option says otherwise.
///
/// # Errors
///
/// There is a key that cannot be used; the reason has been reported. Without it the
/// client would come as somebody else.
fn with_key(connector: Connector, options: &Options) -> Result<Connector, Exit> {
    if options.no_key {
        return Ok(connector);
    }
    match key_file::load(options.key.as_deref()) {
        Ok(Some(key)) => Ok(connector.key(key)),
        Ok(None) => Ok(connector),
        Err(KeyError::NotMade(sentence)) if options.key.is_none() => {
            let line = Printable::new().untrusted(&sentence);
            say(&line.trusted("; going on without one (--no-key says nothing about it)"));
            Ok(connector)
        }
        Err(KeyError::NotMade(sentence) | KeyError::Unusable(sentence)) => {
            Err(wrong_usage(&sentence))
        }
    }
}

/// Reports a wrong option.
pub(super) fn wrong_usage(sentence: &str) -> Exit {
    say(&Printable::new().untrusted(sentence));
    Exit::Usage
}

/// The password that the user types; `None` for none, or for an invalid one, which is
/// reported.
pub(super) async fn ask_for_password(
    prompt: &'static str,
    signals: &mut Signals,
) -> Result<Option<Password>, Exit> {
    match password::ask(prompt, Echo::Off, signals).await {
        Ok(Answer::Line(line)) => {
            let text = str::from_utf8(&line).map_err(|_| PasswordError::NotUtf8);
            match text.and_then(Password::parse) {
                Ok(password) => Ok(Some(password)),
                Err(error) => {
                    let line = Printable::new().trusted("what was typed ");
                    say(&line.untrusted(&error.to_string()));
                    Ok(None)
                }
            }
        }
        Ok(Answer::End) => Ok(None),
        Ok(Answer::Interrupt) => Err(Exit::Done),
        Err(error) => {
            let line = Printable::new().trusted("cannot ask for a password here: ");
            say(&line.untrusted(&error.to_string()));
            Ok(None)
        }
    }
}
