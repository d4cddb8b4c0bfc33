//! Welcome: what the operator of the server says to everybody who comes (CHAT-REG-14).

use crate::text;

/// The longest welcome, in bytes: with everything else, Registered stays within its 1,024
/// (CHAT-FRAME-12).
pub const WELCOME_BYTES_MAX: usize = 512;

/// A welcome that the schema allows; it may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Welcome(String);

impl Welcome {
    /// Takes some lines of text, without the line breaks at their end.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let text = lines.join("\n");
        if text.len() > WELCOME_BYTES_MAX {
            return Err(format!(
                "the welcome has {} bytes, {WELCOME_BYTES_MAX} are allowed",
                text.len()
            ));
        }
        match text.chars().find(|&c| c != '\n' && text::is_forbidden(c)) {
            Some(c) => Err(format!(
                "the welcome holds U+{:04X}, a control character",
                u32::from(c)
            )),
            None => Ok(Self(text)),
        }
    }

    /// The lines, with U+000A between them.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{
        limits::{Limits, NAME_BYTES_MAX},
        room::TOKEN_BYTES,
        wire::{self, Capability, ServerEnvelope, server_envelope},
    };

    #[test]
    fn a_welcome_is_lines_of_plain_text() {
        let parsed = Welcome::parse("hello\r\nbe kind é\n\n").expect("two lines");
        assert_eq!(parsed.as_str(), "hello\nbe kind é");
        assert_eq!(Welcome::parse("").expect("none"), Welcome::default());
        for text in ["\u{1b}[2J", "tab\there", "a\u{2028}b", &"x".repeat(513)] {
            assert!(Welcome::parse(text).is_err(), "{text:?}");
        }
    }

    /// CHAT-FRAME-12: with all that Registered can hold.
    #[test]
    fn the_longest_welcome_leaves_registered_within_its_bound() {
        let mut limits = Limits::default().announced();
        // The varints of the largest values.
        for limit in [
            &mut limits.frame_bytes_max,
            &mut limits.text_bytes_max,
            &mut limits.chat_burst,
            &mut limits.chat_interval_ms,
            &mut limits.register_deadline_ms,
            &mut limits.keepalive_interval_ms,
            &mut limits.idle_deadline_ms,
            &mut limits.write_deadline_ms,
            &mut limits.frames_per_second_max,
            &mut limits.bytes_per_second_max,
            &mut limits.name_check_deadline_ms,
            &mut limits.errors_max,
            &mut limits.resume_ms,
            &mut limits.resend_ids_max,
            &mut limits.history_page_max,
        ] {
            *limit = u32::MAX;
        }
        limits.lag_bytes_max = u64::MAX;
        let known = (1..100).filter(|&number| Capability::try_from(number).is_ok());
        let registered = wire::Registered {
            name: "x".repeat(NAME_BYTES_MAX),
            epoch: "x".repeat(64),
            seq: u64::MAX,
            capabilities: known.collect(),
            limits: Some(limits),
            resume_token: vec![0; TOKEN_BYTES],
            resumed_from: u64::MAX,
            oldest_seq: u64::MAX,
            resume_failure: 3,
            welcome: "x".repeat(WELCOME_BYTES_MAX),
        };
        let envelope = ServerEnvelope {
            message: Some(server_envelope::Message::Registered(registered)),
        };
        assert!(
            envelope.encoded_len() <= 1_024,
            "{}",
            envelope.encoded_len()
        );
    }
}
