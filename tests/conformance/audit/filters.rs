//! Captures of sessions with filters (CHAT-FOL, CHAT-COV).

use chat::wire::{Covered, Filter, Follow, Following};

use super::*;

/// A Register with these topics, and this sender ignored.
fn chooses(name: &str, filter: Filter) -> Event {
    Event::Sent(Sent::Register(Register {
        name: name.to_owned(),
        filter: Some(filter),
        ..Register::default()
    }))
}

fn lets_in(name: &str, seq: u64) -> Event {
    let Event::Came(Came::Registered(mut registered)) = registered(name, seq, 0) else {
        unreachable!("it is a Registered");
    };
    registered.capabilities.push(Capability::Follow.into());
    Event::Came(Came::Registered(registered))
}

fn topics(topics: &[&str]) -> Filter {
    Filter {
        topics: topics.iter().map(|&it| it.to_owned()).collect(),
        ..Filter::default()
    }
}

fn labelled(seq: u64) -> Chat {
    let (topic, mentions) = match seq {
        1 | 4 => ("build", None),
        3 | 6 => ("Ops", None),
        5 => ("ops", Some("CARL".to_owned())),
        _ => ("", None),
    };
    Chat {
        topic: topic.to_owned(),
        mentions: mentions.into_iter().collect(),
        ..relayed("Bob", seq)
    }
}

fn about(seq: u64) -> Event {
    Event::Came(Came::Chat(labelled(seq)))
}

fn covered(seq: u64, sent: u64) -> Event {
    Event::Came(Came::Covered(Covered { seq, sent }))
}

fn follow(id: u64, filter: Filter) -> Event {
    let filter = Some(filter);
    Event::Sent(Sent::Follow(Follow { id, filter }))
}

fn following(id: u64, seq: u64) -> Event {
    Event::Came(Came::Following(Following { id, seq }))
}

fn page(filter: Option<Filter>, numbers: &[u64]) -> [Event; 2] {
    let ask = GetHistory {
        id: 5,
        edge: Some(Edge::Before(9)),
        limit: 8,
        filter,
    };
    let came = History {
        id: 5,
        from: 1,
        to: 8,
        chats: numbers.iter().map(|&seq| labelled(seq)).collect(),
    };
    [
        Event::Sent(Sent::GetHistory(ask)),
        Event::Came(Came::History(came)),
    ]
}

/// Bob says 1 to 6 and 8, and has what he says from a page.
fn bob() -> Events {
    let mut events = vec![register("Bob", None), lets_in("Bob", 0)];
    for seq in (1..=6).chain([8]) {
        let sent = Chat {
            id: seq,
            sender: String::new(),
            seq: 0,
            time_unix_ms: 0,
            ..labelled(seq)
        };
        events.extend([Event::Sent(Sent::Chat(sent)), receipt(seq)]);
    }
    let place = events.iter().position(|it| *it == receipt(6));
    events.insert(place.expect("it is there") + 1, chat("Carl", 7));
    events.push(Closed);
    events.into_iter().map(|event| (0, event)).collect()
}

/// Carl follows #build, then #ops, and says 7.
fn carl() -> Events {
    let events = [
        chooses("Carl", topics(&["BUILD"])),
        lets_in("Carl", 0),
        about(1),
        covered(3, 1),
        about(4),
        about(5),
        follow(9, topics(&["ops"])),
        following(9, 5),
        about(6),
        says(7),
        receipt(7),
        covered(8, 4),
    ];
    let pages = page(Some(topics(&["build"])), &[1, 4, 5]);
    let events = events.into_iter().chain(pages).chain([Closed]);
    events.map(|event| (0, event)).collect()
}

#[test]
fn a_session_that_has_what_it_chose_is_right() {
    let (ran, report) = audit(&bob(), &carl());
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    assert_eq!(report["sessions"][1]["filtered"], true, "{report}");
    // Without its filter it would lack much.
    assert_eq!(report["sessions"][0]["filtered"], false, "{report}");
    let mut carl = carl();
    let filter = chooses("Carl", topics(&["BUILD"]));
    replace(&mut carl, 0, &filter, register("Carl", None));
    let (ran, _) = audit(&bob(), &carl);
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
}

#[test]
fn a_session_that_has_not_what_it_chose_is_told_by_its_rule() {
    type Break = fn(&mut Events);
    let ways: &[(&str, &str, Break)] = &[
        (
            "CHAT-COV-1",
            "Carl is covered up to 3 and lacks the chat 1 by Bob",
            |carl| {
                remove(carl, 0, &about(1));
                replace(carl, 0, &covered(3, 1), covered(3, 0));
                replace(carl, 0, &covered(8, 4), covered(8, 3));
            },
        ),
        (
            "CHAT-COV-1",
            "the chat 4 comes after a Covered up to 4",
            |carl| replace(carl, 0, &covered(3, 1), covered(4, 1)),
        ),
        (
            "CHAT-COV-4",
            "Covered says that 2 chats were sent, and 1 came",
            |carl| replace(carl, 0, &covered(3, 1), covered(3, 2)),
        ),
        (
            "CHAT-COV-5",
            "Carl has no filter, and receives a Covered",
            |carl| {
                let none = follow(9, Filter::default());
                replace(carl, 0, &follow(9, topics(&["ops"])), none);
            },
        ),
        (
            "CHAT-FOL-4",
            "Carl receives the chat 2 by Bob, which its filter keeps out",
            |carl| {
                insert_behind(carl, 0, &about(1), about(2));
                replace(carl, 0, &covered(3, 1), covered(3, 2));
                replace(carl, 0, &covered(8, 4), covered(8, 5));
            },
        ),
        (
            "CHAT-ORD-4",
            "Carl receives the chat 5 and lacks the chat 4 by Bob",
            |carl| {
                remove(carl, 0, &about(4));
                replace(carl, 0, &covered(8, 4), covered(8, 3));
            },
        ),
        (
            "CHAT-FOL-8",
            "Carl follows from 5 and lacks the chat 5 by Bob",
            |carl| {
                remove(carl, 0, &about(5));
                replace(carl, 0, &covered(8, 4), covered(8, 3));
            },
        ),
        (
            "CHAT-FOL-8",
            "the Following up to 5 comes after the number 6",
            |carl| {
                let place = at(carl, 0, &following(9, 5));
                carl.swap(place, place + 1);
            },
        ),
        (
            "CHAT-FOL-8",
            "the chat 6 comes after a Following up to 6",
            |carl| replace(carl, 0, &following(9, 5), following(9, 6)),
        ),
        (
            "CHAT-FOL-6",
            "no Follow waits for the Following with the id 8",
            |carl| replace(carl, 0, &following(9, 5), following(8, 5)),
        ),
        (
            "CHAT-FOL-7",
            "the Following up to 5 answers behind its own chat 7",
            |carl| {
                let follow = follow(9, topics(&["ops"]));
                for event in [&says(7), &receipt(7)] {
                    remove(carl, 0, event);
                }
                let place = at(carl, 0, &follow);
                carl.splice(place..place, [(0, says(7)), (0, receipt(7))]);
            },
        ),
        (
            "CHAT-FOL-10",
            "a page has the chat 2, which its filter keeps out",
            |carl| edit_page(carl, |chats| chats.insert(1, labelled(2))),
        ),
        (
            "CHAT-HIST-2",
            "a page from 1 to 8 lacks the chat 4",
            |carl| edit_page(carl, |chats| drop(chats.remove(1))),
        ),
        (
            "CHAT-RES-20",
            "it has everything up to 8, and says 9",
            |carl| carl.extend([(1, register("Carl", resume(9, 1)))]),
        ),
    ];
    for (rule, sentence, break_it) in ways {
        let mut carl = carl();
        break_it(&mut carl);
        assert_found(audit(&bob(), &carl), rule, sentence);
    }
}

/// A page without a filter is whole, whatever its member follows.
#[test]
fn a_page_does_not_know_what_a_session_follows() {
    let mut carl = carl();
    let place = at(&carl, 0, &covered(8, 4));
    let pages = page(None, &[1, 2, 3, 4, 5, 6, 8]).map(|event| (0, event));
    carl.splice(place + 1..place + 3, pages);
    let (ran, _) = audit(&bob(), &carl);
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    edit_page(&mut carl, |chats| chats.insert(6, relayed("Carl", 7)));
    let (ran, _) = audit(&bob(), &carl);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
}

/// What comes with a resume passes the filter of its Register, own chats too.
#[test]
fn a_resumed_session_has_what_it_chose() {
    let mut carl = carl();
    let Event::Sent(Sent::Register(mut register)) = register("Carl", resume(5, 1)) else {
        unreachable!("it is a Register");
    };
    register.filter = Some(Filter {
        senders: vec!["carl".to_owned()],
        ..topics(&["ops"])
    });
    let Event::Came(Came::Registered(mut registered)) = lets_in("Carl", 8) else {
        unreachable!("it is a Registered");
    };
    registered.resumed_from = 6;
    let second = [
        Event::Sent(Sent::Register(register)),
        Event::Came(Came::Registered(registered)),
        about(6),
        chat("Carl", 7),
        covered(8, 2),
        Closed,
    ];
    carl.extend(second.map(|event| (1, event)));
    let (ran, _) = audit(&bob(), &carl);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    remove(&mut carl, 1, &chat("Carl", 7));
    replace(&mut carl, 1, &covered(8, 2), covered(8, 1));
    let (ran, report) = audit(&bob(), &carl);
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    assert_eq!(report["findings"][0]["rule"], "CHAT-COV-1", "{report}");
}
