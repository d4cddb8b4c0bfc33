//! Tests of a replica.

use super::*;
use crate::{
    cluster::{
        direct::Key,
        operate::Operate,
        record::{CarriedBans, Join},
    },
    session::Target,
};

/// A room in which every Join succeeds; keeps the senders of Directs, the names that
/// operators have unbanned, and how many changes of bans it was told of.
#[derive(Default)]
struct Anyone(Vec<Option<MemberId>>, Vec<String>, u64);

impl Rooms for Anyone {
    fn apply(&mut self, command: Command, _: Option<usize>) -> Outcome {
        match command {
            Command::Join { .. } => Outcome::Joined { replaced: None },
            Command::Leave { .. } => Outcome::Left,
            _ => Outcome::Other,
        }
    }

    fn operate(&mut self, operation: Operation, _: i64, _: Option<u64>) -> Vec<MemberId> {
        if let Operation::Unban { target } = operation {
            self.1.push(target.to_string());
        }
        Vec::new()
    }

    fn name_asked(&mut self, _: Name, _: bool) {}

    fn bans_changed(&mut self, changes: u64) {
        self.2 = changes;
    }

    fn name_answered(&mut self, _: &Name) {}

    fn direct_asked(&mut self, _: u64) {}

    fn direct_placed(&mut self, place: DirectPlace) {
        self.0.push(place.sender);
    }

    fn direct_given_up(&mut self, _: DirectKey, _: bool) {}

    fn direct_settled(&mut self, _: u64, _: bool) {}

    fn node_ended(&mut self, _: &str, _: bool) {}
}

fn record(node: &str, batch_no: u64, items: Vec<Item>) -> Record {
    Record {
        life: "life".to_owned(),
        node: node.to_owned(),
        incarnation: 1,
        batch_no,
        time_unix_ms: 0,
        items,
    }
}

fn join(session: u32) -> Item {
    Kind::Join(Join {
        session,
        name: "alice".to_owned(),
        ..Join::default()
    })
    .into()
}

fn leave(session: u32) -> Item {
    Kind::Leave(crate::cluster::record::Leave {
        session,
        ..Default::default()
    })
    .into()
}

fn answer(session: u32, join_no: u64) -> Item {
    Kind::DirectAnswer(DirectAnswer {
        origin: Origin {
            key: Key {
                node: "a".to_owned(),
                incarnation: 1,
                ..Key::default()
            },
            session,
            join_no,
            ..Origin::default()
        },
        is_accepted: true,
        ..DirectAnswer::default()
    })
    .into()
}

#[test]
fn a_record_counts_only_behind_the_one_before_it() {
    let mut replica = Replica::new("life");
    let mut counts = |batch_no| {
        let applied = replica.apply(record("a", batch_no, Vec::new()), &mut Anyone::default());
        applied != Applied::Ignored
    };
    assert!(!counts(2), "the first is missing");
    assert!(counts(1));
    assert!(!counts(1), "it comes twice");
    assert!(!counts(3), "the second is missing");
    assert!(counts(2) && counts(3));
    let other = Record {
        life: "another".to_owned(),
        ..record("a", 4, Vec::new())
    };
    let applied = replica.apply(other, &mut Anyone::default());
    assert_eq!(applied, Applied::Ignored);
}

/// The index of a session is used again by another one.
#[test]
fn a_direct_has_the_sender_that_sent_it() {
    let mut replica = Replica::new("life");
    let mut room = Anyone::default();
    let session = 3;
    for (batch_no, items) in [
        (1, vec![]),
        (2, vec![join(session)]),
        (3, vec![leave(session), join(session)]),
    ] {
        replica.apply(record("a", batch_no, items), &mut room);
    }
    let answers = vec![answer(session, 1), answer(session, 2)];
    replica.apply(record("b", 1, answers), &mut room);
    assert_eq!(room.0[0], None, "it has left");
    assert!(room.0[1].is_some());
}

/// Of several nodes that bring bans into a new epoch, those count that know more than the
/// ones before them.
#[test]
fn bans_of_an_earlier_epoch_come_from_the_nodes_that_know_most() {
    let mut replica = Replica::new("life");
    let mut room = Anyone::default();
    let unban = |name: &str| Operation::Unban {
        target: Target::parse(name).expect("a target"),
    };
    let mut batch_no = 0;
    let mut carry = |changes, names: &[&str]| {
        let operations = names.iter().map(|name| unban(name)).collect();
        let parts = CarriedBans::parts(changes, operations).into_iter();
        let items = parts.map(|part| Kind::CarriedBans(part).into()).collect();
        batch_no += 1;
        replica.apply(record("a", batch_no, items), &mut room);
        (std::mem::take(&mut room.1), room.2, replica.ban_changes())
    };
    assert_eq!(carry(3, &["bob", "eve"]), (names(&["bob", "eve"]), 3, 3));
    assert_eq!(carry(3, &["bob", "eve"]), (names(&[]), 3, 3));
    assert_eq!(carry(2, &["carol"]), (names(&[]), 3, 3), "it was away");
    assert_eq!(carry(7, &["dave"]), (names(&["dave"]), 7, 7));
    // In many parts.
    let many: Vec<_> = (0..1_234).map(|number| format!("n{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(carry(8, &many), (names(&many), 8, 8));
    // One more, by an operator of this epoch.
    let operate = Operate::of(unban("bob"), 0);
    let applied = record("b", 1, vec![Kind::Operate(operate).into()]);
    replica.apply(applied, &mut room);
    assert_eq!((room.2, replica.ban_changes()), (9, 9));
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
