//! Tests of the room: commands that no session makes, and a journal that is replayed.

use super::*;
use crate::{limits::Limits, text::Text, wire::LeftReason};

const TIME_UNIX_MS: i64 = 1_700_000_000_000;

fn name(name: &str) -> Name {
    Name::parse(name).expect("a name")
}

fn join(member: u32, joins_as: &str) -> Command {
    Command::Join {
        member: MemberId(member),
        name: name(joins_as),
        time_unix_ms: TIME_UNIX_MS,
        resume: None,
        key: None,
    }
}

fn chat(member: u32, text: &str) -> Command {
    Command::Chat {
        member: MemberId(member),
        text: Text::parse(text.to_owned(), 64).expect("a text"),
        topic: String::new(),
        mentions: Vec::new(),
        files: Vec::new(),
        id: 0,
        time_unix_ms: TIME_UNIX_MS,
    }
}

fn leave(member: u32) -> Command {
    Command::Leave {
        member: MemberId(member),
        reason: LeftReason::Leave,
        time_unix_ms: TIME_UNIX_MS,
    }
}

#[test]
fn the_first_join_in_the_order_takes_the_name() {
    let mut room = Room::new("epoch".to_owned(), &Limits::default());
    assert!(matches!(room.apply(join(3, "Alice")), Event::Joined { .. }));
    assert_eq!(room.apply(join(1, "aLICE")), Event::NameTaken);
    assert_eq!(room.holder(&name("alice")), Some(MemberId(3)));
    assert_eq!(room.member_count(), 1);
    assert!(matches!(room.apply(leave(3)), Event::Left { .. }));
    assert!(matches!(room.apply(join(1, "aLICE")), Event::Joined { .. }));
}

#[test]
fn a_member_joins_once() {
    let mut room = Room::new("epoch".to_owned(), &Limits::default());
    room.apply(join(0, "Alice"));
    assert_eq!(room.apply(join(0, "Bob")), Event::NameTaken);
    assert_eq!(room.name(MemberId(0)), Some(&name("Alice")));
    assert_eq!(room.holder(&name("Bob")), None);
}

#[test]
fn commands_of_unknown_members_change_nothing() {
    let mut room = Room::new("epoch".to_owned(), &Limits::default());
    room.apply(join(0, "Alice"));
    for command in [chat(1, "x"), leave(1), chat(7_000, "x"), leave(7_000)] {
        assert_eq!(room.apply(command), Event::Ignored);
    }
    assert_eq!((room.seq(), room.member_count()), (0, 1));
}

#[test]
fn numbers_continue_after_the_room_was_empty() {
    let mut room = Room::new("epoch".to_owned(), &Limits::default());
    for round in 1..=3 {
        room.apply(join(0, "Alice"));
        let event = room.apply(chat(0, "x"));
        assert!(matches!(event, Event::Accepted { seq, .. } if seq == round));
        let event = room.apply(leave(0));
        assert!(matches!(event, Event::Left { chats: 1, .. }));
    }
}

#[test]
fn the_same_commands_have_the_same_events_in_every_room() {
    let commands = [
        join(0, "Alice"),
        join(1, "bob"),
        chat(0, "hello"),
        join(2, "ALICE"),
        leave(0),
        chat(0, "too late"),
        join(2, "ALICE"),
        chat(2, "hello again"),
    ];
    let run = |commands: &[Command]| {
        let mut room = Room::new("epoch".to_owned(), &Limits::default());
        let apply = |command: &Command| room.apply(command.clone());
        let events: Vec<_> = commands.iter().map(apply).collect();
        (events, room.journal().to_vec())
    };
    let (events, journal) = run(&commands);
    assert_eq!(journal, commands);
    assert_eq!(run(&journal).0, events);
}

fn join_line(member: u32, token: u8, claim: Option<Claim>, time_unix_ms: i64) -> Command {
    Command::Join {
        member: MemberId(member),
        name: name(&format!("member{member}")),
        time_unix_ms,
        resume: Some(Box::new(JoinLine {
            token: [token; TOKEN_BYTES],
            claim,
        })),
        key: None,
    }
}

fn claim(token: u8, attempt: u32) -> Claim {
    Claim {
        token: vec![token; TOKEN_BYTES],
        epoch: "epoch".to_owned(),
        seq: 0,
        attempt,
    }
}

fn lose(member: u32, time_unix_ms: i64) -> Command {
    Command::Leave {
        member: MemberId(member),
        reason: LeftReason::ConnectionLost,
        time_unix_ms,
    }
}

/// CHAT-RES-4
#[test]
fn a_line_without_a_session_lasts_for_the_time_that_is_announced() {
    let limits = Limits {
        resume_ms: 1_000,
        ..Limits::default()
    };
    let lost_at = TIME_UNIX_MS + 5_000;
    for (after_ms, can_resume) in [(1_000, true), (1_001, false)] {
        let mut room = Room::new("epoch".to_owned(), &limits);
        room.apply(join_line(0, 1, None, TIME_UNIX_MS));
        room.apply(lose(0, lost_at));
        let judged = room.judge(&claim(1, 1), &name("member0"), lost_at + after_ms);
        assert_eq!(matches!(judged, ClaimResult::Valid { .. }), can_resume);
        // The next one to lose its session makes the room forget the line.
        room.apply(join_line(1, 2, None, lost_at));
        room.apply(lose(1, lost_at + after_ms));
        let judged = room.judge(&claim(1, 1), &name("member0"), lost_at);
        assert_eq!(matches!(judged, ClaimResult::Valid { .. }), can_resume);
    }
}

#[test]
fn the_line_that_was_lost_first_is_forgotten_first() {
    let limits = Limits {
        resumes_max: 2,
        ..Limits::default()
    };
    let mut room = Room::new("epoch".to_owned(), &limits);
    for member in 0..4_u8 {
        room.apply(join_line(member.into(), member, None, TIME_UNIX_MS));
    }
    for member in [2, 0, 1] {
        room.apply(lose(member, TIME_UNIX_MS + 10 - i64::from(member)));
    }
    let can_resume = |token: u8| {
        let judged = room.judge(
            &claim(token, 1),
            &name(&format!("member{token}")),
            TIME_UNIX_MS,
        );
        matches!(judged, ClaimResult::Valid { .. })
    };
    // Member 2 was lost at the earliest time, member 3 is there.
    assert_eq!([0, 1, 2, 3].map(can_resume), [true, true, false, true]);
}

/// CHAT-RES-12: neither fewer ids than announced nor more memory.
#[test]
fn the_last_ids_of_a_line_are_remembered() {
    let limits = Limits {
        resend_ids_max: 3,
        ..Limits::default()
    };
    let mut room = Room::new("epoch".to_owned(), &limits);
    room.apply(join_line(0, 1, None, TIME_UNIX_MS));
    let chat_with = |id| match chat(0, "x") {
        Command::Chat {
            member,
            text,
            time_unix_ms,
            ..
        } => Command::Chat {
            member,
            text,
            topic: String::new(),
            mentions: Vec::new(),
            files: Vec::new(),
            id,
            time_unix_ms,
        },
        command => command,
    };
    for id in [9, 0, 8, 7, 0, 6] {
        assert!(matches!(room.apply(chat_with(id)), Event::Accepted { .. }));
    }
    for (id, seq) in [(8, 3), (7, 4), (6, 6)] {
        let event = room.apply(chat_with(id));
        assert!(matches!(event, Event::Repeated(sent) if (sent.id, sent.seq) == (id, seq)));
    }
    assert_eq!(room.seq(), 6);
    assert!(matches!(
        room.apply(chat_with(9)),
        Event::Accepted { seq: 7, .. }
    ));
}

/// A room that was restored from its changes goes on like the one that made them.
#[test]
fn changes_restore_the_room() {
    let limits = Limits::default();
    let mut room = Room::restored("epoch".to_owned(), &limits, (1, 0), [], []);
    room.apply(join_line(0, 1, None, TIME_UNIX_MS));
    room.apply(join_line(1, 2, None, TIME_UNIX_MS));
    room.apply(chat(0, "hello"));
    room.apply(lose(0, TIME_UNIX_MS));
    room.apply(leave(1));
    room.apply(join_with_key(5, "carol", 1, Ownership::FirstProof));
    let mut lines = Vec::new();
    let mut owners = Vec::new();
    let mut seq = 0;
    for change in room.take_changes() {
        match change {
            Change::Removed(_) => {}
            Change::Chat { chat, .. } => seq = chat.seq,
            Change::Line(id, line) => {
                lines.retain(|(known, _)| *known != id);
                lines.push((id, *line));
            }
            Change::LineEnded(id) => lines.retain(|(known, _)| *known != id),
            Change::Owned(name, owner) => {
                owners.retain(|(known, _)| *known != name);
                owners.push((name, owner));
            }
            Change::Disowned(name) => owners.retain(|(known, _)| *known != name),
            Change::Began { .. } | Change::Placed(_) => panic!("there is no cluster"),
        }
    }
    assert_eq!((lines.len(), seq), (1, 1));
    let mut restored = Room::restored("epoch".to_owned(), &limits, (1, seq), lines, owners);
    let event = restored.apply(join_line(0, 3, Some(claim(1, 1)), TIME_UNIX_MS));
    let claimed = Some(Claimed::Resumed { from_seq: 1 });
    assert!(matches!(event, Event::Joined { claimed: it, .. } if it == claimed));
    assert!(matches!(
        restored.apply(chat(0, "again")),
        Event::Accepted { seq: 2, .. }
    ));
    assert_eq!(restored.apply(join(7, "carol")), Event::NameOwned);
    let event = restored.apply(join_with_key(7, "carol", 1, Ownership::Known));
    assert!(matches!(event, Event::Joined { .. }));
}

fn join_with_key(member: u32, joins_as: &str, key: u8, ownership: Ownership) -> Command {
    let Command::Join {
        member,
        name,
        time_unix_ms,
        resume,
        ..
    } = join(member, joins_as)
    else {
        panic!("no Join");
    };
    let key = PublicKey::from_bytes(&[key; 32]).expect("32 bytes");
    Command::Join {
        member,
        name,
        time_unix_ms,
        resume,
        key: Some(Box::new(JoinKey { key, ownership })),
    }
}

/// CHAT-ID-8, CHAT-ID-10
#[test]
fn the_first_key_that_is_proved_owns_the_name() {
    let limits = Limits::default();
    let mut room = Room::new("epoch".to_owned(), &limits);
    let carol = || name("carol");
    // Where names are open, a proof owns nothing.
    room.apply(join_with_key(0, "Carol", 1, Ownership::Known));
    room.apply(leave(0));
    assert_eq!(room.owner(&carol(), TIME_UNIX_MS), None);
    room.apply(join_with_key(0, "Carol", 1, Ownership::FirstProof));
    room.apply(leave(0));
    assert_eq!(
        room.owner(&carol(), TIME_UNIX_MS),
        PublicKey::from_bytes(&[1; 32])
    );
    assert_eq!(room.apply(join(1, "CAROL")), Event::NameOwned);
    let other = join_with_key(1, "carol", 2, Ownership::FirstProof);
    assert_eq!(room.apply(other), Event::NameOwned);
    // The operator's word stands above it, and leaves it as it is.
    let event = room.apply(join_with_key(1, "carol", 2, Ownership::Operator));
    assert!(matches!(event, Event::Joined { .. }));
    room.apply(leave(1));
    assert_eq!(
        room.owner(&carol(), TIME_UNIX_MS),
        PublicKey::from_bytes(&[1; 32])
    );
    let late = TIME_UNIX_MS + limits.name_expiry_ms as i64 + 1;
    assert_eq!(room.owner(&carol(), late), None);
}

/// CHAT-ID-12
#[test]
fn a_chat_tells_the_key_of_its_sender_and_no_other() {
    let mut room = Room::new("epoch".to_owned(), &Limits::default());
    room.apply(join_with_key(0, "Alice", 1, Ownership::Known));
    room.apply(join(1, "Bob"));
    let sender_id = |event: Event| match event.publications().last().map(|it| it.envelope.clone()) {
        Some(crate::wire::ServerEnvelope {
            message: Some(Message::Chat(chat)),
        }) => chat.sender_id,
        other => panic!("no chat: {other:?}"),
    };
    let key = PublicKey::from_bytes(&[1; 32]).expect("32 bytes");
    let alice = sender_id(room.apply(chat(0, "x")));
    assert_eq!(alice, key.sender_id().as_bytes());
    assert!(sender_id(room.apply(chat(1, "x"))).is_empty());
    assert_eq!(room.sender_id(MemberId(0)), Some(key.sender_id()));
    assert_eq!(room.sender_id(MemberId(1)), None);
}
