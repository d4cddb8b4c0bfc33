//! Inputs: what the simulated clients send, valid or not.

use crate::wire::ErrorCode;

use super::{
    super::sent::{Sent, capabilities},
    Schedule, Theme,
};

/// Names that several clients ask for; some differ only in case.
pub(super) const CONTESTED_NAMES: [&str; 6] = ["ann", "Ann", "ANN", "bob", "Bob", "carl"];

/// The password of a server with a password.
pub(super) const PASSWORD: &str = "open sesame";

impl Schedule {
    /// A Register, mostly for a contested name.
    pub(super) fn register(&mut self) -> Sent {
        let rng = &mut self.rng;
        let long = self.theme == Theme::Crowd && rng.u8(0..4) > 0;
        let kind = if long { 0 } else { rng.u8(0..12) };
        let (name, rejection) = match kind {
            0 => (
                format!("a-name-as-long-as-a-name-can-{:03}", rng.u16(0..1_000)),
                None,
            ),
            1 => ("not a name".to_owned(), Some(ErrorCode::NameInvalid)),
            2 => ("Server".to_owned(), Some(ErrorCode::NameReserved)),
            3..7 => (format!("n{}", rng.u8(0..20)), None),
            _ => (
                rng.choice(CONTESTED_NAMES).unwrap_or("ann").to_owned(),
                None,
            ),
        };
        let is_listed_name = CONTESTED_NAMES.contains(&name.as_str());
        let rejection = rejection
            .or((self.has_name_list && !is_listed_name).then_some(ErrorCode::NameNotAllowed));
        let password = match rng.u8(0..8) {
            0 => String::new(),
            1 => "open sesame\0".to_owned(),
            _ => PASSWORD.to_owned(),
        };
        let is_wrong = self.has_password && password != PASSWORD;
        Sent::Register {
            name,
            password,
            capabilities: {
                let mut capabilities = capabilities(rng);
                if self.has_directs && rng.u8(0..8) > 0 {
                    capabilities.extend([2, 7]);
                }
                capabilities
            },
            // CHAT-ADM-2: the server checks the password first.
            rejection: is_wrong.then_some(ErrorCode::PasswordWrong).or(rejection),
        }
    }

    /// A Chat of the client `by`, mostly valid.
    pub(super) fn chat(&mut self, by: usize) -> Sent {
        let is_first = self.world.oracle.has_sent_nothing(by);
        let link = &mut self.world.links[by];
        link.chats += 1;
        let id = link.chats;
        let rng = &mut self.rng;
        // The server must reject a first frame since it is no Register, not for its
        // length.
        let bytes_max = self
            .limits
            .text_bytes_max
            .min(if is_first { 900 } else { u32::MAX }) as usize;
        let mark = format!("{by}.{id} ");
        let (text, rejection) = match rng.u8(0..24) {
            0 => (String::new(), Some(ErrorCode::TextInvalid)),
            1 => (format!("{mark}\u{85}"), Some(ErrorCode::TextInvalid)),
            2 if bytes_max < 1_000 => ("x".repeat(bytes_max + 1), Some(ErrorCode::TextTooLong)),
            _ => {
                let is_long = self.theme == Theme::Bulk || rng.u8(0..4) == 0;
                let least = if is_long {
                    bytes_max * 9 / 10
                } else {
                    mark.len()
                };
                let bytes = rng.usize(least.max(mark.len())..=bytes_max.max(least).max(mark.len()));
                let filling = rng.choice(["x", "é", "\u{202e}", "🦀"]).unwrap_or("x");
                let rest = filling.repeat((bytes - mark.len()) / filling.len());
                (mark + &rest, None)
            }
        };
        Sent::Chat {
            id,
            text,
            rejection,
        }
    }

    /// A Direct of the client `by`, to somebody who may be here.
    fn direct(&mut self, by: usize) -> Sent {
        let Sent::Chat {
            id,
            text,
            rejection,
        } = self.chat(by)
        else {
            unreachable!("a chat was asked for");
        };
        let peer = match self.rng.u8(0..4) {
            0 => self.rng.choice(CONTESTED_NAMES).unwrap_or("ann").to_owned(),
            _ => {
                let names = self.world.oracle.names();
                self.rng
                    .choice(names)
                    .unwrap_or_default()
                    .to_ascii_uppercase()
            }
        };
        Sent::Direct {
            peer,
            id,
            text,
            rejection,
        }
    }

    /// Any frame of the client `by`, mostly a Chat.
    pub(super) fn any_input(&mut self, by: usize) -> Sent {
        let frame_bytes_max = u64::from(self.limits.frame_bytes_max);
        let is_first = self.world.oracle.has_sent_nothing(by);
        if self.has_directs && self.rng.u8(0..3) == 0 {
            return match self.rng.u8(0..10) {
                // Mostly of nothing.
                0 => Sent::DirectAck(self.rng.u64(0..4)),
                _ => self.direct(by),
            };
        }
        let rng = &mut self.rng;
        match rng.u8(0..40) {
            0..2 => self.register(),
            2..5 => Sent::Ping(rng.u64(..)),
            5..7 => Sent::Pong(rng.u64(..)),
            7..10 => {
                // A message and fields that the schema does not have.
                let bodies = [vec![], vec![0xfa, 0x3e, 0x01, b'x'], vec![0x80, 0x7d, 0x05]];
                Sent::Unknown(rng.choice(bodies).unwrap_or_default())
            }
            10 => Sent::Leave,
            11 => match rng.u8(0..4) {
                0 => Sent::BadEnvelope,
                1 => Sent::EndlessLength,
                2 => Sent::LengthTooLong(1 << 62),
                _ => Sent::LengthTooLong(1 + if is_first { 1_024 } else { frame_bytes_max }),
            },
            _ => self.chat(by),
        }
    }

    /// A client sends one frame or several.
    pub(super) fn send(&mut self) {
        let Some(by) = self.any_usable() else {
            return;
        };
        if self.world.oracle.has_sent_nothing(by) && self.rng.u8(0..4) > 0 {
            let register = self.register();
            return self.world.send(by, &register);
        }
        if self.theme == Theme::Chatter && self.rng.u8(0..4) == 0 {
            // Each of these provokes a reply many times its size.
            for _ in 0..self.rng.usize(200..1_500) {
                self.world.send(by, &Sent::Unknown(Vec::new()));
            }
            return;
        }
        let count = match self.rng.u8(0..8) {
            0 if self.theme == Theme::Bulk => 8,
            0 => self.rng.usize(5..30),
            1..4 => self.rng.usize(2..5),
            _ => 1,
        };
        for _ in 0..count {
            let sent = self.any_input(by);
            self.world.send(by, &sent);
        }
    }
}
