//! Addresses of servers: `chat://name@host:port`, of which all but the host may be left
//! out; an IPv6 address is in brackets. `chats://host:port#sha256=HEX` is encrypted,
//! and so is `chatq://`; the pin says which certificate the server has.

use std::fmt;
use std::str::FromStr;

use crate::pin::{Pin, PinError};

/// The scheme of an address, which may be left out.
const SCHEME: &str = "chat://";

/// Which transport carries the frames, as an address says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `chat`: TCP, not encrypted.
    Chat,
    /// `chats`: TLS over TCP.
    Chats,
    /// `chatq`: QUIC.
    Chatq,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::Chat, Self::Chats, Self::Chatq];

    /// As an address begins, before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Chats => "chats",
            Self::Chatq => "chatq",
        }
    }

    /// Whether nobody between client and server can read what they say.
    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Chat => false,
            Self::Chats | Self::Chatq => true,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
    }
}

/// The port of an address that names none.
pub const DEFAULT_PORT: u16 = 7227;

/// The address of a server, and the member's name if the address has one.
///
/// Parsed with [`str::parse`]; the host is not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    name: Option<String>,
    host: String,
    port: u16,
    pin: Option<Pin>,
    /// Further servers of the same room.
    others: Vec<Address>,
}

/// How many addresses of one room [`Address::parse_list`] takes.
pub const SERVERS_MAX: usize = 16;

impl Address {
    /// Which transport carries the frames; TCP where the address has no scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The certificate that the server must have, if the address names it.
    pub fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// The name before the `@`, if there is one. The server decides whether it is
    /// valid.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The host: a name or an IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: 1 to 65,535, or 0 for any free one in [`Address::parse_listen`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Parses the addresses of several servers of one room, with commas between them
    /// (CHAT-CLUS): `chat://alice@a:7000,b:7000`. It is the first one for all purposes,
    /// but a client tries the others in turn where that fails ([`Address::all`]).
    ///
    /// # Errors
    ///
    /// [`AddressError`] says what is wrong.
    pub fn parse_list(text: &str) -> Result<Self, AddressError> {
        let (first, others) = match text.split_once(',') {
            Some((first, others)) => (first, Some(others)),
            None => (text, None),
        };
        let mut first: Self = first.parse()?;
        for other in others.into_iter().flat_map(|others| others.split(',')) {
            if first.others.len() + 1 >= SERVERS_MAX {
                return Err(AddressError::Many);
            }
            first.others.push(match other.contains("://") {
                true => other.parse()?,
                false => format!("{}://{other}", first.scheme.as_str()).parse()?,
            });
        }
        Ok(first)
    }

    /// The addresses of all servers of the room that it names, this one first.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// Parses the address that a server listens on: without a name; port 0 is a free one,
    /// and `:PORT` alone is every address of the machine, with an empty host.
    ///
    /// # Errors
    ///
    /// [`AddressError`] says what is wrong.
    pub fn parse_listen(text: &str) -> Result<Self, AddressError> {
        if text.starts_with(':') && !text.starts_with("::") {
            let every = Self::parse(&format!("every{text}"), 0)?;
            return Ok(Self {
                host: String::new(),
                ..every
            });
        }
        let address = Self::parse(text, 0)?;
        match (&address.name, address.scheme, address.pin) {
            (Some(_), ..) => Err(AddressError::Name),
            (None, Scheme::Chat, None) => Ok(address),
            (None, scheme, _) => Err(AddressError::Scheme(scheme.as_str().to_owned())),
        }
    }

    fn parse(text: &str, port_min: u16) -> Result<Self, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => match Scheme::parse(scheme) {
                Some(scheme) => (scheme, rest),
                None => return Err(AddressError::Scheme(scheme.to_owned())),
            },
            None => (Scheme::Chat, text),
        };
        let (rest, pin) = match rest.split_once('#') {
            Some(_) if !scheme.is_encrypted() => return Err(AddressError::PinUnencrypted),
            Some((rest, pin)) => (rest, Some(pin.parse().map_err(AddressError::Pin)?)),
            None => (rest, None),
        };
        // Shells and browsers append a slash.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (name, rest) = match rest.rsplit_once('@') {
            Some(("", _)) => return Err(AddressError::NameEmpty),
            Some((name, rest)) => (Some(name.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = split_port(rest)?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port
                .parse()
                .ok()
                // `parse` accepts a sign; a port has none.
                .filter(|&number| number >= port_min && !port.starts_with('+'))
                .ok_or_else(|| AddressError::Port(port.to_owned()))?,
        };
        Ok(Self {
            scheme,
            name,
            host: host.to_owned(),
            port,
            pin,
            others: Vec::new(),
        })
    }
}

/// Formats the address without name and pin, so that it can be parsed again.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressError {
    /// It has another scheme.
    Scheme(String),
    /// The name before the `@` is empty.
    NameEmpty,
    /// The host is empty.
    HostEmpty,
    /// The host contains a character that no host has.
    HostCharacter(char),
    /// An IPv6 address without brackets, or brackets that do not match.
    Brackets,
    /// The port is not a number from 1 to 65535.
    Port(String),
    /// It has a name, where a server listens.
    Name,
    /// There are more than [`SERVERS_MAX`] of them.
    Many,
    /// What follows the `#` is no pin.
    Pin(PinError),
    /// It has a pin, and its scheme has no certificates.
    PinUnencrypted,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => write!(
                f,
                "it begins with {scheme}://, an address begins with {SCHEME}, or with chats:// \
                 or chatq:// where it is encrypted"
            ),
            Self::Many => write!(f, "there are more than {SERVERS_MAX} addresses"),
            Self::NameEmpty => write!(f, "there is no name before the @"),
            Self::HostEmpty => write!(f, "there is no host, write {SCHEME}host:port"),
            Self::HostCharacter(character) => write!(
                f,
                "the host has the character {character:?}, write {SCHEME}host:port and nothing after it"
            ),
            Self::Brackets => write!(
                f,
                "an IPv6 address stands in brackets, for example {SCHEME}[::1]:5000"
            ),
            Self::Port(port) => {
                write!(f, "the port {port:?} is not a number from 1 to 65535")
            }
            Self::Name => write!(f, "a server listens under no name, leave out the name@"),
            Self::Pin(error) => write!(f, "what follows the # is no pin: {error}"),
            Self::PinUnencrypted => write!(
                f,
                "it has a pin, which only an encrypted address has: write chats://host:port#..."
            ),
        }
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text, 1)
    }
}

/// Splits `host:port` or `[host]:port`, where the port may be missing.
fn split_port(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    let (host, port, character_allowed): (_, _, fn(char) -> bool) =
        if let Some(inside) = text.strip_prefix('[') {
            let (host, after) = inside.split_once(']').ok_or(AddressError::Brackets)?;
            let port = match after.strip_prefix(':') {
                None if !after.is_empty() => return Err(AddressError::Brackets),
                port => port,
            };
            // A scope such as %eth0 may follow a link-local address.
            (host, port, |c| {
                c.is_ascii_alphanumeric() || ":.%-_".contains(c)
            })
        } else {
            let (host, port) = match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            // Only an IPv6 address is missing its brackets.
            let digits = host.split_once('%').map_or(host, |(digits, _)| digits);
            let is_ipv6 = digits.contains(':')
                && digits
                    .chars()
                    .all(|c| c.is_ascii_hexdigit() || ":.".contains(c));
            if is_ipv6 {
                return Err(AddressError::Brackets);
            }
            (host, port, |c| c.is_alphanumeric() || ".-_".contains(c))
        };
    if host.is_empty() {
        return Err(AddressError::HostEmpty);
    }
    match host.chars().find(|&c| !character_allowed(c)) {
        Some(character) => Err(AddressError::HostCharacter(character)),
        None => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses, and writes the parts or the error as one line.
    fn check(text: &str, expected: &str) {
        let got = match text.parse::<Address>() {
            Ok(address) => format!(
                "{} {} {}",
                address.name().unwrap_or("-"),
                address.host(),
                address.port()
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn several_servers_of_one_room() {
        let list = |text: &str| match Address::parse_list(text) {
            Ok(address) => address.all().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(list("bob@a:1"), ["chat://a:1"]);
        // The others have the scheme of the first one, unless they say another.
        assert_eq!(
            list("chats://bob@a,b:2,chat://c:3"),
            ["chats://a:7227", "chats://b:2", "chat://c:3"]
        );
        assert_eq!(list("a,,b").len(), 1, "an empty one is refused");
        assert_eq!(list(&["a"; SERVERS_MAX].join(",")).len(), SERVERS_MAX);
        assert_eq!(
            list(&["a"; SERVERS_MAX + 1].join(",")),
            ["there are more than 16 addresses"]
        );
        assert!("a,b".parse::<Address>().is_err(), "one address is one");
    }

    #[test]
    fn addresses_people_write() {
        check("chat://127.0.0.1:5000", "- 127.0.0.1 5000");
        check("127.0.0.1:5000", "- 127.0.0.1 5000");
        check("chat://Alice@example.org:5000", "Alice example.org 5000");
        check("Alice@example.org:5000", "Alice example.org 5000");
        check("CHAT://host:1", "- host 1");
        check("chat://host:65535/", "- host 65535");
        check("chat://[::1]:5000", "- ::1 5000");
        check("chat://Bob@[fe80::1%eth0]:5000", "Bob fe80::1%eth0 5000");
        check("localhost", "- localhost 7227");
        check("chat://Bob@example.org/", "Bob example.org 7227");
        check("[::1]", "- ::1 7227");
    }

    #[test]
    fn mistakes_are_told() {
        check(
            "http://host:80",
            "it begins with http://, an address begins with chat://, or with chats:// or \
             chatq:// where it is encrypted",
        );
        check("chat://@host:1", "there is no name before the @");
        check("chat://:5000", "there is no host, write chat://host:port");
        check("", "there is no host, write chat://host:port");
        let brackets = "an IPv6 address stands in brackets, for example chat://[::1]:5000";
        check("::1:5000", brackets);
        check("[::1:5000", brackets);
        check("[::1]5000", brackets);
        check("chat://2001:db8::5:5000", brackets);
        check("fe80::1%eth0:5000", brackets);
        let colon = "the host has the character ':', write chat://host:port and nothing after it";
        check("chat:127.0.0.1:5000", colon);
        check("chat://chat://host:5000", colon);
        check("localhost:5000:6000", colon);
        for port in ["0", "65536", "-1", "+1", "http", "", "5000 "] {
            check(
                &format!("host:{port}"),
                &format!("the port {port:?} is not a number from 1 to 65535"),
            );
        }
        check(
            "chat://host/room:5000",
            "the host has the character '/', write chat://host:port and nothing after it",
        );
    }

    #[test]
    fn an_encrypted_address_may_have_a_pin() {
        let digits = "0a".repeat(32);
        let parse = |text: &str| format!("{text}#sha256={digits}").parse::<Address>();
        for text in ["chats://Bob@host:1", "CHATS://Bob@host:1/"] {
            let address = parse(text).expect("an address");
            assert_eq!(address.scheme(), Scheme::Chats);
            assert_eq!((address.host(), address.port()), ("host", 1));
            assert_eq!(address.pin(), Some(Pin::new([10; 32])));
        }
        assert_eq!(parse("host:1"), Err(AddressError::PinUnencrypted));
        assert_eq!(parse("chat://host:1"), Err(AddressError::PinUnencrypted));
        assert_eq!(
            "chats://host#sha256=1".parse::<Address>(),
            Err(AddressError::Pin(PinError))
        );
    }

    #[test]
    fn addresses_to_listen_on() {
        let check = |text: &str, expected: Result<(&str, u16), AddressError>| {
            let address = Address::parse_listen(text);
            let parsed = address.as_ref().map(|it| (it.host(), it.port()));
            assert_eq!(parsed, expected.as_ref().copied(), "{text:?}");
        };
        check("0.0.0.0", Ok(("0.0.0.0", 7227)));
        check("127.0.0.1:0", Ok(("127.0.0.1", 0)));
        check("[::]:4000", Ok(("::", 4_000)));
        check("[fe80::1%eth0]", Ok(("fe80::1%eth0", 7227)));
        check(":4000", Ok(("", 4_000)));
        check(":0", Ok(("", 0)));
        check(":", Err(AddressError::Port(String::new())));
        check("::1", Err(AddressError::Brackets));
        check("Bob@host", Err(AddressError::Name));
        check("host:65536", Err(AddressError::Port("65536".to_owned())));
        check(
            "chats://host:1",
            Err(AddressError::Scheme("chats".to_owned())),
        );
        assert!("host:0".parse::<Address>().is_err());
    }

    #[test]
    fn a_formatted_address_parses_again() {
        for text in [
            "chat://host:1",
            "chat://[::1]:5000",
            "chats://host:1",
            "chats://[::1]:5000",
            "chatq://host:1",
        ] {
            let address: Address = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
        }
    }
}
