//! Closing: events that arrive while the server closes, at moments that no test over a
//! socket can choose.

use chat::{
    limits::Limits,
    room::Room,
    session::{AccessPolicy, Closing, Effect, Event, Offer, Sessions, Time},
    wire::{self, Capability, ClientEnvelope, client_envelope, server_envelope::Message},
};

use super::script::{ALL, Script};

#[test]
fn a_closing_server_ends_every_session() {
    let mut script = Script::new(Limits::default());
    let newcomer = script.connect("newcomer");
    let alice = script.member("Alice", &[Capability::Receipts]);
    let bob = script.member("Bob", &ALL);
    let lost = script.member("Lost", &[]);
    script.close();
    script.close();
    script.chat(&alice, "too late", 1);
    script.pass_ms(0, &[&newcomer, &alice, &bob]);
    script.disconnect(lost);
    script.connect_rejected();
    insta::assert_snapshot!(script.transcript);
}

const NOW: Time = Time {
    elapsed_ms: 0,
    unix_ms: 0,
    earliest_arrival_ms: 0,
};

/// CHAT-CLOSE-2: the last page is still due to a member that has ServerClosing.
#[test]
fn no_page_of_members_follows_server_closing() {
    let limits = Limits {
        frame_bytes_max: 257,
        text_bytes_max: 1,
        ..Limits::default()
    };
    let mut sessions = Sessions::new(limits, AccessPolicy::default(), Offer::default());
    let mut room = Room::new("epoch".to_owned(), &Limits::default());
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
    let has_more = effects.iter().any(|effect| {
        matches!(effect, Effect::Reply(envelope)
            if matches!(&envelope.message, Some(Message::Members(page)) if page.more))
    });
    assert!(has_more, "{effects:?}");
    sessions.begin_closing(Closing {
        detail: "closing".to_owned(),
        retry_after_ms: 0,
    });
    assert_eq!(sessions.more_members(&room, last), None);
}
