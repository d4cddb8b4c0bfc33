//! Operations in records: what an operator does at one node, for all of them.

use prost::Message;

use crate::{
    name::Name,
    session::{Ban, Operation, Reason, Target},
    text::Text,
};

const KICK: u32 = 1;
const BAN: u32 = 2;
const UNBAN: u32 = 3;
const MUTE: u32 = 4;
const UNMUTE: u32 = 5;
const SAY: u32 = 6;
const REMOVE: u32 = 7;

/// An [`Operation`]. Which fields it has depends on `action`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Operate {
    #[prost(uint32, tag = "1")]
    action: u32,
    /// Names, addresses and ranges.
    #[prost(string, repeated, tag = "2")]
    targets: Vec<String>,
    #[prost(string, tag = "3")]
    with_address_of: String,
    #[prost(int64, optional, tag = "4")]
    until_unix_ms: Option<i64>,
    /// The reason, or what is said.
    #[prost(string, tag = "5")]
    text: String,
    #[prost(uint64, tag = "6")]
    seq: u64,
    /// Which of the operations of its node it is, if an operator waits for it; else 0.
    #[prost(uint64, tag = "7")]
    pub(crate) ticket: u64,
}

impl Operate {
    pub(crate) fn of(operation: Operation, ticket: u64) -> Self {
        let this = |action| Self {
            action,
            ticket,
            ..Self::default()
        };
        let with_ban = |action, targets: Vec<String>, ban: Ban| Self {
            targets,
            until_unix_ms: ban.until_unix_ms,
            text: ban.reason.as_str().to_owned(),
            ..this(action)
        };
        match operation {
            Operation::Kick { name, reason } => Self {
                targets: vec![name.to_string()],
                text: reason.as_str().to_owned(),
                ..this(KICK)
            },
            Operation::Ban {
                targets,
                with_address_of,
                ban,
            } => {
                let targets = targets.iter().map(ToString::to_string).collect();
                Self {
                    with_address_of: with_address_of.map_or_else(String::new, |it| it.to_string()),
                    ..with_ban(BAN, targets, ban)
                }
            }
            Operation::Unban { target } => Self {
                targets: vec![target.to_string()],
                ..this(UNBAN)
            },
            Operation::Mute { name, mute } => with_ban(MUTE, vec![name.to_string()], mute),
            Operation::Unmute { name } => Self {
                targets: vec![name.to_string()],
                ..this(UNMUTE)
            },
            Operation::Say { text } => Self {
                text: text.into_string(),
                ..this(SAY)
            },
            Operation::Remove { seq } => Self {
                seq,
                ..this(REMOVE)
            },
        }
    }

    /// The operation. `None` if it is none, or one that no node makes.
    pub(crate) fn operation(self) -> Option<Operation> {
        let ban = || {
            Some(Ban {
                until_unix_ms: self.until_unix_ms,
                reason: Reason::parse(&self.text).ok()?,
            })
        };
        let name = || Name::parse(self.targets.first()?).ok();
        let target = |text: &String| Target::parse(text);
        Some(match self.action {
            KICK => Operation::Kick {
                name: name()?,
                reason: ban()?.reason,
            },
            BAN => Operation::Ban {
                targets: self.targets.iter().map(target).collect::<Option<_>>()?,
                with_address_of: Name::parse(&self.with_address_of).ok(),
                ban: ban()?,
            },
            UNBAN => Operation::Unban {
                target: self.targets.first().and_then(target)?,
            },
            MUTE => Operation::Mute {
                name: name()?,
                mute: ban()?,
            },
            UNMUTE => Operation::Unmute { name: name()? },
            SAY => Operation::Say {
                text: Text::parse(self.text, u32::MAX).ok()?,
            },
            REMOVE => Operation::Remove { seq: self.seq },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_as_they_are_written() {
        let name = || Name::parse("Alice").expect("a name");
        let ban = |until_unix_ms| Ban {
            until_unix_ms,
            reason: Reason::parse("spam").expect("a reason"),
        };
        let target = |text| Target::parse(text).expect("a target");
        for operation in [
            Operation::Kick {
                name: name(),
                reason: Reason::default(),
            },
            Operation::Ban {
                targets: vec![
                    target("bob"),
                    target("203.0.113.0/24"),
                    target("2001:db8::1/128"),
                ],
                with_address_of: Some(name()),
                ban: ban(Some(17)),
            },
            Operation::Unban {
                target: target("203.0.113.7"),
            },
            Operation::Mute {
                name: name(),
                mute: ban(None),
            },
            Operation::Unmute { name: name() },
            Operation::Say {
                text: Text::parse("hello".to_owned(), 100).expect("a text"),
            },
            Operation::Remove { seq: 7 },
        ] {
            let bytes = Operate::of(operation.clone(), 1).encode_to_vec();
            let read = Operate::decode(&bytes[..]).expect("it was written");
            assert_eq!(read.operation(), Some(operation));
        }
        assert_eq!(Operate::default().operation(), None);
    }
}
