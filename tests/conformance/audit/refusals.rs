//! Captures in which the server refuses what a client sends (CHAT-ERR-4): an Error is taken
//! for the answer to what it refuses, and to nothing else.

use chat::wire::{Capability, File, Filter, Follow, Following, GetFile};

use super::*;

const CHAT: u64 = 9;

/// Registered, with these capabilities too.
fn granted(capabilities: &[Capability]) -> Event {
    let Event::Came(Came::Registered(mut registered)) = registered("Dora", 0, 0) else {
        unreachable!("it is a Registered");
    };
    let capabilities = capabilities.iter().map(|&it| i32::from(it));
    registered.capabilities.extend(capabilities);
    Event::Came(Came::Registered(registered))
}

/// A chat that names a file.
fn names_a_file(id: u64) -> Event {
    Event::Sent(Sent::Chat(Chat {
        text: format!("text {id}"),
        id,
        files: vec![File::default()],
        ..Chat::default()
    }))
}

/// A refusal of a PutFile, a FileData or a GetFile.
fn file_refused(code: ErrorCode) -> Event {
    Event::Came(Came::Error(Error {
        code: code.into(),
        sha256: vec![7; 32],
        ..Error::default()
    }))
}

/// What Dora's captures with these events are found to be.
fn audit_dora(capabilities: &[Capability], events: &[Event]) -> (Ran, Value) {
    let begin = [register("Dora", None), granted(capabilities)];
    let events = begin.iter().chain(events).cloned();
    let events: Events = events.map(|event| (0, event)).collect();
    audit(&events, &Events::new())
}

fn assert_right(capabilities: &[Capability], events: &[Event]) {
    let (ran, _) = audit_dora(capabilities, events);
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
}

#[test]
fn a_chat_is_refused_because_of_its_files() {
    for code in [
        ErrorCode::FileUnknown,
        ErrorCode::FileNameInvalid,
        ErrorCode::RequestInvalid,
    ] {
        let answer = refused(CHAT, code);
        let events = [names_a_file(CHAT), says(1), answer.clone(), receipt(1)];
        assert_right(&[Capability::Files], &events);
        let events = [names_a_file(CHAT), says(1), receipt(1), answer];
        let found = audit_dora(&[Capability::Files], &events);
        assert_found(found, "CHAT-RCPT-2", "comes before those to 1 earlier");
    }
}

/// A client may give a chat and a Follow or a GetHistory the same id.
#[test]
fn a_request_with_the_id_of_a_chat_waits_for_an_answer_of_its_own() {
    let follow = Event::Sent(Sent::Follow(Follow {
        id: CHAT,
        filter: Some(Filter {
            without_topic: true,
            ..Filter::default()
        }),
    }));
    let following = Event::Came(Came::Following(Following { id: CHAT, seq: 1 }));
    let refusal = refused(CHAT, ErrorCode::RequestInvalid);
    let capabilities = [Capability::Files, Capability::Follow];
    // The chat is refused, and the Follow is not.
    let mut events = [
        names_a_file(CHAT),
        follow.clone(),
        says(1),
        refusal.clone(),
        receipt(1),
        following,
    ];
    assert_right(&capabilities, &events);
    // The other way round.
    events = [
        follow.clone(),
        names_a_file(1),
        refusal.clone(),
        receipt(1),
        follow.clone(),
        refusal.clone(),
    ];
    assert_right(&capabilities, &events);
    // Both are.
    let events = [follow, names_a_file(CHAT), refusal.clone(), refusal.clone()];
    assert_right(
        &capabilities,
        &[&events[..], &[says(1), receipt(1)]].concat(),
    );
    // A page of the past is refused, and no chat.
    let ask = Event::Sent(Sent::GetHistory(GetHistory {
        id: CHAT,
        edge: None,
        limit: 0,
        filter: None,
    }));
    let events = [ask, names_a_file(CHAT), refusal.clone(), refusal];
    assert_right(
        &capabilities,
        &[&events[..], &[says(1), receipt(1)]].concat(),
    );
}

/// The error of a download is the answer to no chat.
#[test]
fn a_file_is_refused_while_a_chat_waits() {
    let fetch = Event::Sent(Sent::GetFile(GetFile {
        sha256: vec![7; 32],
        ..GetFile::default()
    }));
    let mut without_id = Receipt {
        id: 0,
        seq: 1,
        time_unix_ms: 1_001,
    };
    for code in [ErrorCode::FileUnknown, ErrorCode::RequestInvalid] {
        let events = [
            names_a_file(0),
            fetch.clone(),
            file_refused(code),
            Event::Came(Came::Receipt(without_id)),
        ];
        assert_right(&[Capability::Files], &events);
    }
    without_id.seq = 2;
    let events = [
        names_a_file(0),
        Event::Came(Came::Receipt(without_id)),
        Event::Came(Came::Receipt(without_id)),
    ];
    let found = audit_dora(&[Capability::Files], &events);
    assert_found(found, "CHAT-RCPT-2", "no chat of this session waits");
}

/// CHAT-GROW-6: the error has no id, and answers the message all the same.
#[test]
fn what_was_not_granted_is_refused_without_its_id() {
    for code in [ErrorCode::NotGranted, ErrorCode::UnknownMessage] {
        for sent in [names_a_file(CHAT), direct(CHAT)] {
            let refusal = refused(0, code);
            let answered = [sent.clone(), says(1), refusal, receipt(1)];
            assert_right(&[], &answered);
            // A session that resumes does not send it again (CHAT-RES-16).
            let again = [
                (0, Closed),
                (1, register("Dora", resume(1, 1))),
                (1, registered("Dora", 1, 2)),
                (1, says(2)),
                (1, receipt(2)),
            ];
            let begin = [register("Dora", None), granted(&[])];
            let first = begin.into_iter().chain(answered).map(|event| (0, event));
            let (ran, _) = audit(&first.chain(again).collect(), &Events::new());
            assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
            let found = audit_dora(&[], &[sent, says(1), receipt(1)]);
            assert_found(found, "CHAT-RCPT-2", "comes before those to 1 earlier");
        }
    }
}
