//! Pin: the SHA-256 fingerprint of a server's certificate, which names the one server
//! that a client accepts. Written `sha256=HEX`, in an address behind `#`.

use std::{fmt, str::FromStr};

/// How many bytes a SHA-256 fingerprint has.
const BYTES: usize = 32;

/// What a pin begins with.
const PREFIX: &str = "sha256=";

/// The SHA-256 fingerprint of a certificate.
///
/// Parsed with [`str::parse`]: `sha256=` and 64 hexadecimal digits, between which colons
/// may stand as `openssl x509 -fingerprint -sha256` prints them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; BYTES]);

impl Pin {
    /// The pin of this fingerprint.
    pub const fn new(sha256: [u8; BYTES]) -> Self {
        Self(sha256)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinError;

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a pin is {PREFIX} and the {} hexadecimal digits of a certificate's fingerprint",
            2 * BYTES
        )
    }
}

impl std::error::Error for PinError {}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digits = text.strip_prefix(PREFIX).ok_or(PinError)?;
        let mut digits = digits
            .chars()
            .filter(|&c| c != ':')
            .map(|c| c.to_digit(16).ok_or(PinError));
        let mut bytes = [0; BYTES];
        for byte in &mut bytes {
            let mut digit = || digits.next().unwrap_or(Err(PinError));
            // Two hexadecimal digits fit into a byte.
            *byte = (digit()? * 16 + digit()?) as u8;
        }
        match digits.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(PinError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_written_as_openssl_prints_it_or_without_colons() {
        let colons = format!("sha256=AB:{}01", "00:".repeat(30));
        let plain = format!("sha256=ab{}01", "00".repeat(30));
        let pin: Pin = colons.parse().expect("a pin");
        assert_eq!(plain.parse(), Ok(pin));
        assert_eq!(pin.to_string(), plain);
    }

    #[test]
    fn anything_else_is_no_pin() {
        for text in [
            String::new(),
            "sha256=".to_owned(),
            "00".repeat(32),
            format!("sha1={}", "00".repeat(32)),
            format!("sha256={}", "00".repeat(31)),
            format!("sha256={}0", "00".repeat(32)),
            format!("sha256={}g0", "00".repeat(31)),
        ] {
            assert_eq!(text.parse::<Pin>(), Err(PinError), "{text:?}");
        }
    }
}
