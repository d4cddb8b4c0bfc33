//! The operator: throws members out, bans and mutes names, removes texts and speaks.

use crate::{
    name::Name,
    session::{Ban, Operated, Operation, Reason, Target},
    text::Text,
    wire::ErrorCode,
};

use super::{World, wall_ms};

impl World {
    /// The operator throws a member out.
    pub(in crate::server::simulation) fn kick(&mut self, name: &str) {
        self.note(format_args!("the operator throws {name} out"));
        let (parsed, reason) = words(name);
        let kick = Operation::Kick {
            name: parsed,
            reason,
        };
        self.hub.perform_here(kick);
        self.expelled(name, ErrorCode::Kicked);
    }

    /// The operator bans a name.
    pub(in crate::server::simulation) fn ban(&mut self, name: &str) {
        self.note(format_args!("the operator bans {name}"));
        let (parsed, reason) = words(name);
        let ban = Ban {
            until_unix_ms: None,
            reason,
        };
        self.hub.perform_here(Operation::Ban {
            targets: vec![Target::Name(parsed)],
            with_address_of: None,
            ban,
        });
        self.expelled(name, ErrorCode::Banned);
    }

    fn expelled(&mut self, name: &str, code: ErrorCode) {
        let published = self.published();
        self.oracle.expelled(name, code, published, wall_ms());
        self.oracle.check_names(&self.hub.names());
    }

    /// The operator lifts a ban.
    pub(in crate::server::simulation) fn unban(&mut self, name: &str) {
        self.note(format_args!("the operator lets {name} in again"));
        let target = Target::Name(words(name).0);
        self.hub.perform_here(Operation::Unban { target });
        self.oracle.unbanned(name);
    }

    /// The operator mutes a name, or lifts that.
    pub(in crate::server::simulation) fn mute(&mut self, name: &str, is_muted: bool) {
        self.note(format_args!("the operator mutes {name}: {is_muted}"));
        let (parsed, reason) = words(name);
        let mute = Ban {
            until_unix_ms: None,
            reason,
        };
        self.hub.perform_here(match is_muted {
            true => Operation::Mute { name: parsed, mute },
            false => Operation::Unmute { name: parsed },
        });
        self.oracle.muted(name, is_muted);
    }

    /// The operator removes the text of a chat.
    pub(in crate::server::simulation) fn remove(&mut self, seq: u64) {
        self.note(format_args!("the operator removes the text of {seq}"));
        self.hub.remove_here(seq).expect("the chat is kept");
        self.removals += 1;
        self.oracle.removed(seq);
        assert!(self.published().is_empty(), "it is told to nobody");
    }

    /// The operator speaks.
    pub(in crate::server::simulation) fn say(&mut self, text: &str) {
        self.note(format_args!("the operator says {text}"));
        let words = Text::parse(text.to_owned(), 100).expect("a text");
        let said = self.hub.perform_here(Operation::Say { text: words });
        let published = self.published();
        assert_eq!(said, Operated::Said(self.oracle.seq() + 1), "CHAT-MOD-7");
        self.oracle.said(text, published, wall_ms());
    }
}

fn words(name: &str) -> (Name, Reason) {
    let name = Name::parse(name).expect("a name");
    (name, Reason::parse("no reason").expect("a reason"))
}
