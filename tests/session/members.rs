//! Paging of members.

use chat::{limits::Limits, wire::Capability};

use super::script::{ALL, Client, Script, show};

/// Twenty members, which take more than one page.
fn members_for_pages() -> (Script, Vec<Client>) {
    let mut script = Script::new(Limits {
        text_bytes_max: 1,
        frame_bytes_max: 257,
        ..Limits::default()
    });
    let mut clients = Vec::new();
    for index in 0..20 {
        let client = script.connect("member");
        script.register(&client, &format!("member-number-{index:02}"), &[]);
        clients.push(client);
    }
    (script, clients)
}

#[test]
fn members_come_in_pages() {
    let (mut script, mut clients) = members_for_pages();
    script.transcript.clear();
    let watcher = script.member("Watcher", &[Capability::Presence]);
    // A member of a later page leaves, and one joins that belongs on an earlier page.
    let gone = clients.pop().expect("there are twenty");
    script.disconnect(gone);
    script.member("aaa", &[]);
    while let Some(page) = script.sessions.more_members(&script.room, &watcher.id) {
        script.note(format!("then\n    <- {}", show(&page)));
    }
    assert_eq!(
        script.sessions.more_members(&script.room, &watcher.id),
        None
    );
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn the_last_page_of_members_is_empty_when_all_on_it_have_left() {
    let (mut script, clients) = members_for_pages();
    let watcher = script.member("first-of-all", &[Capability::Presence]);
    assert!(script.transcript.ends_with("more true\n"));
    clients
        .into_iter()
        .for_each(|client| script.disconnect(client));
    let mut more = || script.sessions.more_members(&script.room, &watcher.id);
    let last = more().map(|page| show(&page));
    assert_eq!(last.as_deref(), Some("members [] more false"));
    assert_eq!(more(), None);
}

#[test]
fn members_that_fill_a_frame_exactly_take_one_page() {
    // Each name takes 12 bytes of a Members, and 16 are reserved for the rest.
    const NAMES: usize = 30;
    let limits = |spare_bytes: usize| Limits {
        frame_bytes_max: (16 + 12 * NAMES - spare_bytes) as u32,
        text_bytes_max: 60,
        ..Limits::default()
    };
    let is_more = |limits| {
        let mut script = Script::new(limits);
        for number in 1..NAMES {
            let name = Box::leak(format!("number{number:04}").into_boxed_str());
            script.member(name, &[]);
        }
        script.member("number0000", &ALL);
        script.transcript.contains("more true")
    };
    assert!(!is_more(limits(0)));
    assert!(is_more(limits(1)));
}
