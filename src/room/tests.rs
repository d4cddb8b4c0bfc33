//! Tests of the room: commands that no session makes, and a journal that is replayed.

use super::*;
use crate::{text::Text, wire::LeftReason};

fn name(name: &str) -> Name {
    Name::parse(name).expect("a name")
}

fn join(member: u32, joins_as: &str) -> Command {
    Command::Join {
        member: MemberId(member),
        name: name(joins_as),
    }
}

fn chat(member: u32, text: &str) -> Command {
    Command::Chat {
        member: MemberId(member),
        text: Text::parse(text.to_owned(), 64).expect("a text"),
        time_unix_ms: 1_700_000_000_000,
    }
}

fn leave(member: u32) -> Command {
    Command::Leave {
        member: MemberId(member),
        reason: LeftReason::Leave,
    }
}

#[test]
fn the_first_join_in_the_order_takes_the_name() {
    let mut room = Room::new("epoch".to_owned());
    assert!(matches!(room.apply(join(3, "Alice")), Event::Joined(_)));
    assert_eq!(room.apply(join(1, "aLICE")), Event::NameTaken);
    assert_eq!(room.holder(&name("alice")), Some(MemberId(3)));
    assert_eq!(room.member_count(), 1);
    assert!(matches!(room.apply(leave(3)), Event::Left { .. }));
    assert!(matches!(room.apply(join(1, "aLICE")), Event::Joined(_)));
}

#[test]
fn a_member_joins_once() {
    let mut room = Room::new("epoch".to_owned());
    room.apply(join(0, "Alice"));
    assert_eq!(room.apply(join(0, "Bob")), Event::NameTaken);
    assert_eq!(room.name(MemberId(0)), Some(&name("Alice")));
    assert_eq!(room.holder(&name("Bob")), None);
}

#[test]
fn commands_of_unknown_members_change_nothing() {
    let mut room = Room::new("epoch".to_owned());
    room.apply(join(0, "Alice"));
    for command in [chat(1, "x"), leave(1), chat(7_000, "x"), leave(7_000)] {
        assert_eq!(room.apply(command), Event::Ignored);
    }
    assert_eq!((room.seq(), room.member_count()), (0, 1));
}

#[test]
fn numbers_continue_after_the_room_was_empty() {
    let mut room = Room::new("epoch".to_owned());
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
        let mut room = Room::new("epoch".to_owned());
        let apply = |command: &Command| room.apply(command.clone());
        let events: Vec<_> = commands.iter().map(apply).collect();
        (events, room.journal().to_vec())
    };
    let (events, journal) = run(&commands);
    assert_eq!(journal, commands);
    assert_eq!(run(&journal).0, events);
}
