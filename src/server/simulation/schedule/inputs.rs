//! Inputs: what the simulated clients send, valid or not.

use fastrand::Rng;

use crate::wire::{self, Capability, ErrorCode};

use super::{
    super::{
        lines::EPOCH,
        sent::{Sent, capabilities},
    },
    Schedule, Theme,
};

/// Names that several clients ask for; some differ only in case.
pub(super) const CONTESTED_NAMES: [&str; 6] = ["ann", "Ann", "ANN", "bob", "Bob", "carl"];

/// Topics; some differ only in case.
const TOPICS: [&str; 4] = ["build", "Build", "ops", "a-topic-as-long-as-a-name-may-be"];

/// Many more than two for each of the pieces that can wait for a reader (src/log/due.rs),
/// and how long each is: a pipe takes the first ones.
const ALTERNATING_CHATS: usize = 3_400;
const ALTERNATING_BYTES: usize = 60;

/// How many messages of one client have ids of their own, as bits.
const ID_BITS: u32 = 16;

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
        let mut capabilities = capabilities(rng);
        if self.has_directs && rng.u8(0..8) > 0 {
            capabilities.extend([2, 7]);
        }
        if self.has_resumes && rng.u8(0..8) > 0 {
            capabilities.extend([2, 4]);
        }
        if self.has_filters && rng.u8(0..4) > 0 {
            capabilities.push(Capability::Follow.into());
        }
        let (filter, filter_rejection) = self.register_filter(&capabilities);
        Sent::Register {
            name,
            password,
            capabilities,
            filter,
            resume: None,
            // CHAT-ADM-2: the server checks the password first.
            rejection: is_wrong
                .then_some(ErrorCode::PasswordWrong)
                .or(rejection)
                .or(filter_rejection),
        }
    }

    /// A filter for a Register, sometimes, and the error with which the server rejects it.
    pub(super) fn register_filter(
        &mut self,
        capabilities: &[i32],
    ) -> (Option<wire::Filter>, Option<ErrorCode>) {
        if !(self.has_filters && self.rng.bool()) {
            return (None, None);
        }
        let (filter, rejection) = self.filter();
        let is_granted = capabilities.contains(&Capability::Follow.into());
        (Some(filter), rejection.filter(|_| is_granted))
    }

    /// A filter, mostly valid, and the error with which the server rejects it.
    fn filter(&mut self) -> (wire::Filter, Option<ErrorCode>) {
        let mut filter = wire::Filter::default();
        let rng = &mut self.rng;
        for _ in 0..rng.usize(0..3) {
            match rng.u8(0..6) {
                0..3 => filter
                    .topics
                    .push(rng.choice(TOPICS).unwrap_or("a").to_owned()),
                3 | 4 => filter.senders.push(any_name(rng)),
                _ => filter.ignore.push(any_name(rng)),
            }
        }
        filter.without_topic = rng.u8(0..4) == 0;
        match rng.u8(0..24) {
            0 => filter.topics.push("no topic".to_owned()),
            1 => filter.ignore = vec!["x".to_owned(); self.limits.filter_entries_max as usize + 1],
            // None.
            2 | 3 => return (wire::Filter::default(), None),
            _ => return (filter, None),
        }
        (filter, Some(ErrorCode::RequestInvalid))
    }

    /// A Follow of the client `by`.
    fn follow(&mut self, by: usize) -> Sent {
        let (filter, rejection) = self.filter();
        Sent::Follow {
            id: self.next_id(by).1,
            filter,
            rejection: rejection.filter(|_| self.world.oracle.grants(by, Capability::Follow)),
        }
    }

    /// The next number of a client, and an id that no other message of any client has.
    fn next_id(&mut self, by: usize) -> (u64, u64) {
        let link = &mut self.world.links[by];
        link.chats += 1;
        (link.chats, ((by as u64) << ID_BITS) + link.chats)
    }

    /// A Register that continues the sessions of a client, mostly rightly.
    pub(super) fn resume(&mut self, index: usize) -> Sent {
        let kept = &mut self.world.kept[index];
        let rng = &mut self.rng;
        if rng.u8(0..10) > 0 {
            kept.attempt += 1;
        }
        let mut name = kept.name.clone();
        let mut resume = wire::Resume {
            token: kept.token.clone(),
            epoch: EPOCH.to_owned(),
            seq: kept.seq,
            attempt: kept.attempt,
        };
        match rng.u8(0..24) {
            0 => resume.epoch.push('x'),
            1..3 => resume.seq += rng.u64(1..9),
            3..8 => resume.seq = rng.u64(0..=kept.seq),
            8 => resume.token = vec![1; 16],
            9 | 10 => resume.token.clone_from(&kept.earlier_token),
            11 => name = any_name(rng),
            12 => name = name.to_ascii_uppercase(),
            _ => {}
        }
        let capabilities = kept.capabilities.clone();
        let is_listed_name = CONTESTED_NAMES.contains(&name.as_str());
        let is_reserved = name.eq_ignore_ascii_case("server");
        let (filter, filter_rejection) = self.register_filter(&capabilities);
        let rejection = (self.has_name_list && !is_listed_name && !self.is_listed(&name))
            .then_some(ErrorCode::NameNotAllowed);
        assert!(!is_reserved, "nobody has registered it");
        Sent::Register {
            name,
            password: PASSWORD.to_owned(),
            capabilities,
            filter,
            resume: Some(resume),
            rejection: rejection.or(filter_rejection),
        }
    }

    fn is_listed(&self, name: &str) -> bool {
        CONTESTED_NAMES
            .iter()
            .any(|it| it.eq_ignore_ascii_case(name))
    }

    /// The topic and the mentions of a chat of the client `by`, and the error with which
    /// the server rejects them.
    fn labels(&mut self, by: usize) -> (String, Vec<String>, Option<ErrorCode>) {
        if !self.has_filters {
            return (String::new(), Vec::new(), None);
        }
        let rng = &mut self.rng;
        let mut topic = match rng.bool() {
            true => rng.choice(TOPICS).unwrap_or("a").to_owned(),
            false => String::new(),
        };
        let mut mentions: Vec<_> = (0..rng.usize(0..2)).map(|_| any_name(rng)).collect();
        let is_wrong = match rng.u8(0..32) {
            0 => {
                topic = "no topic".to_owned();
                true
            }
            1 => {
                mentions = vec!["x".to_owned(); self.limits.mentions() as usize + 1];
                true
            }
            _ => mentions.len() > self.limits.mentions() as usize,
        };
        let is_judged = self.world.oracle.grants(by, Capability::Follow);
        let rejection = (is_wrong && is_judged).then_some(ErrorCode::TopicInvalid);
        (topic, mentions, rejection)
    }

    /// The Register of a client that follows every other chat of [`Schedule::alternate`].
    pub(super) fn follower(&mut self) -> Sent {
        let filter = wire::Filter {
            topics: vec![TOPICS[0].to_owned()],
            ..wire::Filter::default()
        };
        Sent::Register {
            name: CONTESTED_NAMES[0].to_owned(),
            password: PASSWORD.to_owned(),
            capabilities: vec![Capability::Follow.into()],
            filter: Some(filter),
            resume: None,
            rejection: None,
        }
    }

    /// A Chat of the client `by`, mostly valid.
    pub(super) fn chat(&mut self, by: usize) -> Sent {
        let is_first = self.world.oracle.has_sent_nothing(by);
        let (number, id) = self.next_id(by);
        let (topic, mentions, label_rejection) = self.labels(by);
        let rng = &mut self.rng;
        // The server must reject a first frame since it is no Register, not for its
        // length.
        let bytes_max = self
            .limits
            .text_bytes_max
            .min(if is_first { 900 } else { u32::MAX }) as usize;
        let mark = format!("{by}.{number} ");
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
            topic,
            mentions,
            rejection: rejection.or(label_rejection),
        }
    }

    /// A Direct of the client `by`, to somebody who may be here.
    fn direct(&mut self, by: usize) -> Sent {
        let Sent::Chat {
            id,
            text,
            rejection,
            ..
        } = self.chat(by)
        else {
            unreachable!("a chat was asked for");
        };
        // It has no topic.
        let rejection = rejection.filter(|code| *code != ErrorCode::TopicInvalid);
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
        if self.has_filters && self.rng.u8(0..8) == 0 {
            return self.follow(by);
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

    /// A client sends more chats than wait for a member with a filter piece by piece (the
    /// log scans for what is beyond), of which a filter lets every other one pass.
    pub(super) fn alternate(&mut self, by: usize) {
        self.world.oracle.coverage.mark("topics alternate");
        for count in 0..ALTERNATING_CHATS {
            let (number, id) = self.next_id(by);
            let chat = Sent::Chat {
                id,
                text: format!("{by}.{number} {}", "x".repeat(ALTERNATING_BYTES)),
                topic: TOPICS[count % 2 * 2].to_owned(),
                mentions: Vec::new(),
                rejection: None,
            };
            self.world.send(by, &chat);
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

/// A name that members may have.
fn any_name(rng: &mut Rng) -> String {
    match rng.u8(0..4) {
        0 => format!("n{}", rng.u8(0..20)),
        _ => rng.choice(CONTESTED_NAMES).unwrap_or("ann").to_owned(),
    }
}
