//! What the rules say to events that come while the server closes, at moments
//! that no test over a socket can choose.

use chat::{
    limits::Limits,
    room::Room,
    session::{AccessPolicy, Effect, Event, Sessions, Time},
    wire::{self, Capability, ClientEnvelope, client_envelope, server_envelope::Message},
};

const NOW: Time = Time {
    elapsed_ms: 0,
    unix_ms: 0,
    earliest_arrival_ms: 0,
};

/// CHAT-CLOSE-2: a member that has been told may still be owed names.
#[test]
fn no_members_follow_server_closing() {
    let limits = Limits {
        frame_bytes_max: 257,
        text_bytes_max: 1,
        ..Limits::default()
    };
    let mut sessions = Sessions::new(limits, AccessPolicy::default());
    let mut room = Room::new("epoch".to_owned());
    let mut effects = Vec::new();
    let ids: Vec<_> = (0..20)
        .map(|index| {
            let id = sessions.connect(NOW).expect("there is room");
            let register = client_envelope::Message::Register(wire::Register {
                name: format!("a-name-of-thirty-two-bytes-{index:05}"),
                capabilities: vec![Capability::Presence.into()],
                ..Default::default()
            });
            let event = Event::Message(ClientEnvelope {
                message: Some(register),
            });
            effects.clear();
            sessions.handle(&mut room, NOW, &id, event, &mut effects);
            id
        })
        .collect();
    let last = ids.last().expect("there are some");
    let is_owed_names = effects.iter().any(|effect| {
        matches!(effect, Effect::Reply(envelope)
            if matches!(&envelope.message, Some(Message::Members(page)) if page.more))
    });
    assert!(is_owed_names, "{effects:?}");
    sessions.begin_closing("closing".to_owned(), &mut effects);
    assert_eq!(sessions.more_members(&room, last), None);
}
