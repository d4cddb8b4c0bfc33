//! Traces, most of them found by exploring models of the rules.

use super::*;

const RESUMED: ResumeFailure = ResumeFailure::Unspecified;

fn registered(epoch: &str, seq: u64, resumed_from: u64, token: &[u8]) -> Registered {
    Registered {
        name: "alice".to_owned(),
        epoch: epoch.to_owned(),
        seq,
        capabilities: vec![Capability::Receipts.into(), Capability::Resume.into()],
        resume_token: token.to_vec(),
        resumed_from,
        ..Registered::default()
    }
}

fn chat_by(sender: &str, seq: u64, text: &str) -> Chat {
    Chat {
        text: text.to_owned(),
        sender: sender.to_owned(),
        seq,
        ..Chat::default()
    }
}

fn chat(seq: u64) -> Chat {
    chat_by("bob", seq, "hello")
}

/// A line that has everything up to a number.
fn line(seq: u64) -> Line {
    Line::new(&registered("e", seq, 0, b"t1"))
}

impl Line {
    fn sees(&mut self, chat: Chat) -> bool {
        let seq = chat.seq;
        let shown = self.chat(chat);
        assert!(shown.as_ref().is_none_or(|shown| shown.seq == seq));
        shown.is_some()
    }

    /// A receipt; returns the numbers of the chats that it releases.
    fn receives(&mut self, id: u64, seq: u64) -> Vec<u64> {
        let mut shown = Vec::new();
        self.receipt(id, seq, &mut shown);
        shown.iter().map(|chat| chat.seq).collect()
    }

    fn resumes(&mut self, registered: &Registered, unanswered: &[(u64, &str)]) -> Continued {
        let unanswered = unanswered.iter();
        let unanswered = unanswered.map(|&(id, text)| (id, text.to_owned()));
        self.registered(registered, unanswered.collect(), &mut Vec::new())
    }

    fn seq(&mut self) -> u64 {
        self.resume().expect("a token").seq
    }
}

fn missed(from: u64, to: u64) -> Vec<Missed> {
    vec![Missed { from, to }]
}

#[test]
fn a_number_beyond_a_hole_does_not_count() {
    let mut line = line(3);
    assert!(line.sees(chat(4)));
    // Receipts overtake chats: 5 and 6 are still on their way.
    line.receives(1, 7);
    assert_eq!(line.seq(), 4);
    assert!(line.sees(chat(5)));
    assert_eq!(line.seq(), 5);
    assert!(line.sees(chat(6)));
    assert_eq!(line.seq(), 7);
    // The receipt for 8 is late.
    assert!(line.sees(chat(9)));
    assert_eq!(line.seq(), 7);
    line.receives(2, 8);
    assert_eq!(line.seq(), 9);
}

#[test]
fn numbers_join_in_any_order() {
    // All orders of 1 to 5.
    for order in 0..120 {
        let mut rest: Vec<u64> = (1..=5).collect();
        let (mut line, mut code) = (line(0), order);
        for places in (1..=5).rev() {
            let seq = rest.remove(code % places);
            code /= places;
            assert!(line.sees(chat(seq)));
            assert!(!line.sees(chat(seq)), "{seq} twice");
            assert!(rest.iter().all(|&seq| !line.received.contains(seq)));
            let first = rest.first().copied().unwrap_or(6);
            assert_eq!(line.seq(), first - 1);
        }
        assert!(line.received.beyond.is_empty());
    }
}

#[test]
fn each_register_raises_the_attempt_until_another_line_begins() {
    let mut line = line(0);
    assert_eq!(line.resume().expect("a token").attempt, 1);
    // Registered was lost: the token stays.
    let again = line.resume().expect("a token");
    assert_eq!((again.attempt, &*again.token), (2, &b"t1"[..]));
    let continued = line.resumes(&registered("e", 0, 1, b"t2"), &[]);
    assert_eq!(continued, Continued::Resumed(vec![]));
    let again = line.resume().expect("a token");
    assert_eq!((again.attempt, &*again.token), (3, &b"t2"[..]));
    line.resumes(&registered("f", 9, 0, b"t3"), &[]);
    let fresh = line.resume().expect("a token");
    assert_eq!((fresh.attempt, fresh.seq, &*fresh.epoch), (1, 9, "f"));
}

#[test]
fn a_session_without_a_token_is_not_resumed() {
    assert_eq!(Line::new(&registered("e", 3, 0, b"")).resume(), None);
    // Register would not hold these.
    assert_eq!(Line::new(&registered("e", 3, 0, &[7; 65])).resume(), None);
    let epoch = "e".repeat(65);
    assert_eq!(Line::new(&registered(&epoch, 3, 0, b"t")).resume(), None);
}

#[test]
fn what_is_no_longer_kept_is_counted_once() {
    let mut line = line(10);
    line.receives(1, 13);
    assert_eq!(line.seq(), 10);
    let continued = line.resumes(&registered("e", 20, 16, b"t2"), &[]);
    let holes = [(11, 12), (14, 15)].map(|(from, to)| Missed { from, to });
    assert_eq!(continued, Continued::Resumed(holes.to_vec()));
    assert!(line.sees(chat(16)));
    assert_eq!(line.seq(), 16);
}

#[test]
fn another_epoch_begins_again_and_the_same_one_counts() {
    let mut line = line(10);
    let continued = line.resumes(&registered("e", 12, 0, b"t2"), &[]);
    assert_eq!(continued, Continued::Fresh(RESUMED, missed(11, 12)));
    let mut other = registered("f", 2, 0, b"t3");
    other.set_resume_failure(ResumeFailure::OtherEpoch);
    let continued = line.resumes(&other, &[]);
    let expected = Continued::Fresh(ResumeFailure::OtherEpoch, vec![]);
    assert_eq!(continued, expected);
    // The numbers of another epoch are others.
    assert!(line.sees(chat(3)));
    // A server that says that it resumes a line of another epoch does not.
    let continued = line.resumes(&registered("g", 5, 4, b"t4"), &[]);
    assert_eq!(continued, Continued::Fresh(RESUMED, vec![]));
}

#[test]
fn a_chat_comes_once_though_the_server_sends_it_again() {
    let mut line = line(0);
    assert!(line.sees(chat(1)));
    line.receives(1, 3);
    assert_eq!(line.seq(), 1);
    line.resumes(&registered("e", 4, 2, b"t2"), &[]);
    assert!(line.sees(chat(2)));
    // Its receipt had come.
    assert!(!line.sees(chat_by("alice", 3, "own")));
    assert!(line.sees(chat(4)));
    assert!(!line.sees(chat(4)));
    assert_eq!(line.seq(), 4);
}

#[test]
fn an_own_chat_that_comes_back_waits_for_its_receipt() {
    let mut line = line(0);
    let unanswered = [(7, "hi"), (8, "hi"), (9, "ho")];
    line.resumes(&registered("e", 4, 1, b"t2"), &unanswered);
    // 1 and 2 are own ones; somebody else had the name for 3, and 4 was never sent by it.
    for seq in 1..=3 {
        assert!(!line.sees(chat_by("alice", seq, "hi")));
    }
    assert!(line.sees(chat_by("alice", 4, "other")));
    assert!(line.sees(chat_by("bob", 5, "hi")));
    assert_eq!(line.seq(), 5);
    assert!(line.receives(7, 1).is_empty());
    assert_eq!(line.receives(8, 2), [3]);
    assert!(line.receives(9, 6).is_empty());
    // What is live is never an own chat.
    assert!(line.sees(chat_by("alice", 7, "hi")));
}

#[test]
fn a_receipt_that_overtakes_its_chat_drops_it() {
    let mut line = line(0);
    line.resumes(&registered("e", 2, 1, b"t2"), &[(7, "hi")]);
    assert!(line.receives(7, 1).is_empty());
    assert!(!line.sees(chat_by("alice", 1, "hi")));
    assert!(line.sees(chat_by("alice", 2, "hi")));
}

#[test]
fn a_refusal_tells_that_the_chat_was_somebody_elses() {
    let mut line = line(0);
    line.resumes(&registered("e", 1, 1, b"t2"), &[(7, "hi")]);
    assert!(!line.sees(chat_by("alice", 1, "hi")));
    let mut shown = Vec::new();
    line.refused(7, &mut shown);
    assert_eq!(shown.len(), 1);
}

#[test]
fn a_held_chat_survives_the_next_cut() {
    let mut line = line(0);
    line.resumes(&registered("e", 1, 1, b"t2"), &[(7, "hi")]);
    assert!(!line.sees(chat_by("alice", 1, "hi")));
    assert_eq!(line.seq(), 1);
    // Cut again, and the receipt comes in the third session.
    let mut shown = Vec::new();
    let unanswered = BTreeMap::from([(7, "hi".to_owned())]);
    line.registered(&registered("e", 1, 2, b"t3"), unanswered, &mut shown);
    assert!(shown.is_empty());
    assert!(line.receives(7, 1).is_empty());
    // Not resumed: nothing will tell, so it is shown.
    line.resumes(&registered("e", 2, 2, b"t4"), &[(8, "ho")]);
    assert!(!line.sees(chat_by("alice", 2, "ho")));
    line.registered(&registered("f", 0, 0, b"t5"), BTreeMap::new(), &mut shown);
    assert_eq!(shown.len(), 1);
}

#[test]
fn nothing_that_a_server_sends_takes_much_memory() {
    let mut line = line(0);
    for seq in 1..10_000 {
        assert!(line.sees(chat(2 * seq)));
        assert!(line.received.beyond.len() <= RANGES_MAX);
    }
    assert!(line.sees(chat(u64::MAX)));
    assert!(line.seq() > 10_000);
    line.resumes(&registered("e", u64::MAX, u64::MAX, b"t2"), &[(1, "x")]);
    assert_eq!(line.seq(), u64::MAX);
    let mut line = self::line(0);
    line.resumes(&registered("e", u64::MAX, 1, b"t2"), &[(1, "x")]);
    let held = (1..1_000).filter(|&seq| !line.sees(chat_by("alice", seq, "x")));
    assert_eq!(held.count(), HELD_CHATS_MAX);
}

/// Without receipts the numbers of own chats are holes, and no reason to wait.
#[test]
fn without_receipts_the_highest_number_counts() {
    let mut line = Line::new(&Registered {
        epoch: "e".to_owned(),
        ..Registered::default()
    });
    assert!(line.sees(chat(1)));
    assert!(line.sees(chat(3)));
    assert_eq!(line.received.upto, 3);
    // Nor is anything dropped where there is no resume.
    assert!(line.sees(chat(3)));
}

/// CHAT-COV-6: what a filter keeps out is neither waited for nor missed.
#[test]
fn numbers_that_a_filter_keeps_out_are_passed_over() {
    let mut line = line(10);
    assert!(line.sees(chat(12)));
    assert_eq!(line.seq(), 10);
    line.covered(14);
    line.set_filtered(true);
    assert_eq!(line.seq(), 14);
    assert!(line.sees(chat(20)));
    assert_eq!(line.seq(), 20);
    // An own chat that a receipt tells of later, and one that is ahead.
    assert_eq!(line.receives(1, 18), [] as [u64; 0]);
    assert_eq!(line.receives(2, 25), [] as [u64; 0]);
    assert_eq!(line.seq(), 20);
    line.covered(24);
    assert_eq!(line.seq(), 25);
    let missed = vec![Missed { from: 26, to: 29 }];
    let continued = line.resumes(&registered("e", 40, 30, b"t2"), &[]);
    assert_eq!(continued, Continued::Resumed(missed));
    assert!(!line.sees(chat(20)));
}
