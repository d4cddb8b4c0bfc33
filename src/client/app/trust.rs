//! Trust: which servers the options trust, and what the user is asked about others.

use std::path::PathBuf;

use super::exit::Exit;
use super::known_servers::{self, Known};
use super::options::Options;
use super::password::{self, Answer, Echo};
use super::report::say;
use super::signals::Signals;
use super::untrusted;
use crate::client::{Address, Distrust, Printable, Trust, Untrusted};

/// What the user types to accept a server.
const YES: &str = "yes";

/// Which servers the options trust.
///
/// # Errors
///
/// A sentence that says which option is wrong.
pub(super) fn of_options(options: &Options) -> Result<Trust, String> {
    let address = &options.address;
    let needs_tls = options.pin.is_some() || options.ca.is_some();
    if needs_tls && !address.scheme().is_encrypted() {
        return Err(format!(
            "--pin and --ca are for encrypted addresses, and {address} is none: write chats://"
        ));
    }
    match (options.pin, address.pin()) {
        (Some(pin), Some(other)) if pin != other => {
            Err("--pin and the address have different pins: leave one of them out".to_owned())
        }
        (Some(pin), _) => Ok(Trust::pinned(pin)),
        _ => options
            .ca
            .as_deref()
            .map_or(Ok(Trust::system()), Trust::ca_file),
    }
}

/// Whether a password for `address` can be read on the way.
pub(super) fn exposes_password(address: &Address) -> bool {
    let host = address.host();
    let is_here = host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    !address.scheme().is_encrypted() && !is_here
}

/// Whether to trust the server at `address`, for which nothing but its certificate speaks:
/// one that the user has accepted before, or accepts now. A script accepts none.
///
/// # Errors
///
/// The exit code if it is not trusted; the reason has been reported.
pub(super) async fn judge(
    untrusted: &Untrusted,
    address: &Address,
    options: &Options,
    is_terminal: bool,
    signals: &mut Signals,
) -> Result<Trust, Exit> {
    let presented = untrusted.presented;
    let refuse = |sentence: Printable| {
        say(&sentence);
        Err(Exit::CannotConnect)
    };
    let may_be_known = options.ca.is_none() && options.pin.is_none() && address.pin().is_none();
    if !(may_be_known
        && matches!(
            untrusted.reason,
            Distrust::SelfSigned | Distrust::UnknownIssuer
        ))
    {
        return refuse(untrusted::sentence(untrusted, address));
    }
    let path = options
        .known_servers
        .clone()
        .or_else(known_servers::default_path);
    let known = path.as_ref().map_or(Ok(Known::No), |path| {
        known_servers::look_up(path, address, presented)
    });
    match known {
        Err(error) => {
            return refuse(
                Printable::new()
                    .trusted("cannot read the known servers in ")
                    .untrusted(&shown(&path))
                    .trusted(": ")
                    .untrusted(&error.to_string()),
            );
        }
        Ok(Known::Yes) => return Ok(Trust::pinned(presented)),
        Ok(Known::Changed { line }) => {
            return refuse(
                Printable::new()
                    .trusted("THE CERTIFICATE OF ")
                    .untrusted(&address.to_string())
                    .trusted(" HAS CHANGED since you accepted it, to ")
                    .untrusted(&presented.to_string())
                    .trusted(
                        ": somebody may be in between; if its operator confirms the new one, \
                         remove line ",
                    )
                    .number(line as u64)
                    .trusted(" of ")
                    .untrusted(&shown(&path)),
            );
        }
        Ok(Known::No) if !is_terminal => return refuse(untrusted::sentence(untrusted, address)),
        Ok(Known::No) => {}
    }
    if !accepts(untrusted, address, signals).await? {
        return refuse(Printable::new().trusted("not connected"));
    }
    let Some(path) = path else {
        return Ok(Trust::pinned(presented));
    };
    if let Err(error) = known_servers::add(&path, address, presented) {
        say(&Printable::new()
            .trusted("cannot remember this server: ")
            .untrusted(&error.to_string()));
    }
    Ok(Trust::pinned(presented))
}

/// Whether the user accepts the server.
async fn accepts(
    untrusted: &Untrusted,
    address: &Address,
    signals: &mut Signals,
) -> Result<bool, Exit> {
    let prompt = Printable::new()
        .trusted("Nothing but its certificate says that this is the server at ")
        .untrusted(&address.to_string())
        .trusted(". The certificate is ")
        .untrusted(&untrusted.presented.to_string())
        .trusted(". Compare it with what the server's operator says, then type yes to join: ");
    match password::ask(prompt.as_str(), Echo::On, signals).await {
        Ok(Answer::Line(line)) => Ok(line.trim_ascii() == YES.as_bytes()),
        Ok(Answer::End) => Ok(false),
        Ok(Answer::Interrupt) => Err(Exit::Done),
        Err(error) => {
            say(&Printable::new()
                .trusted("cannot ask here: ")
                .untrusted(&error.to_string()));
            Ok(false)
        }
    }
}

fn shown(path: &Option<PathBuf>) -> String {
    path.as_ref()
        .map_or_else(String::new, |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_exposed_only_to_the_network() {
        for (text, expected) in [
            ("chat://example.org", true),
            ("chat://192.0.2.1", true),
            ("chat://127.0.0.2", false),
            ("chat://[::1]", false),
            ("chat://LOCALHOST", false),
            ("chats://example.org", false),
        ] {
            let address = text.parse().expect("an address");
            assert_eq!(exposes_password(&address), expected, "{text}");
        }
    }
}
