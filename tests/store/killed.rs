//! Kill -9, again and again, at any moment: what was told is there.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use chat::store::{NewEpochReason, Store, SyncMode};

use crate::{
    child::{Child, IDS_MAX, KEPT_MAX, Start, id_of, options_of},
    support::*,
};

/// Opens what a killed child left: all that it told, whole, and a number that goes on.
#[track_caller]
fn examine(dir: &Path, told: u64) -> u64 {
    examine_after(dir, told, None)
}

/// The same, after an end that begins a new epoch for this reason.
#[track_caller]
pub fn examine_after(dir: &Path, told: u64, reason: Option<NewEpochReason>) -> u64 {
    let (store, kept) = Store::open(&options_of(dir)).expect("it opens");
    assert!(kept.last_seq >= told, "{} after {told}", kept.last_seq);
    let page = all(&store.reader().expect("a reader"));
    if kept.last_seq > 0 {
        assert_eq!(kept.new_epoch, reason);
        assert_eq!((page.from, page.to), (kept.oldest_seq, kept.last_seq));
        let expected: Vec<_> = (page.from..=page.to).map(chat).collect();
        assert_eq!(page.chats, expected);
        if reason.is_some() {
            assert_eq!(kept.lines, []);
            return kept.last_seq;
        }
        let ids: Vec<_> = kept.lines[0]
            .sent
            .iter()
            .map(|sent| (sent.seq, sent.id))
            .collect();
        let first = kept.last_seq.saturating_sub(IDS_MAX.into()) + 1;
        let expected: Vec<_> = (first..=kept.last_seq)
            .map(|seq| (seq, id_of(seq)))
            .collect();
        assert_eq!(ids, expected);
    }
    kept.last_seq
}

fn kill_again_and_again(times: u32, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = folder();
    let mut last_seq = 0;
    let mut is_new = true;
    let start = Instant::now();
    for _ in 0..times {
        let sync = [SyncMode::Always, SyncMode::Interval, SyncMode::Off];
        let mut child = Child::start(&Start {
            dir: folder.path(),
            sync: sync[random.usize(0..3)],
            batch: random.u64(1..40),
            pause_ms: 0,
            variables: &[],
            user: None,
        });
        // At a start, or after some commits, in whatever it does then.
        let mut told = last_seq;
        if random.u8(0..4) > 0 {
            for _ in 0..random.u32(1..60) {
                told = child.wait_for("committed");
            }
        }
        thread::sleep(Duration::from_micros(random.u64(0..20_000)));
        told = child.kill().unwrap_or(told);
        if is_new && !database(folder.path()).exists() {
            continue;
        }
        is_new = false;
        last_seq = examine(folder.path(), told);
    }
    assert!(last_seq > 0, "it was never killed while it committed");
    println!("{times} kills, {last_seq} chats, {:?}", start.elapsed());
}

#[test]
fn nothing_told_is_lost_by_kill_9() {
    kill_again_and_again(5, 1);
}

#[test]
#[ignore = "takes a minute"]
fn nothing_told_is_lost_by_500_kills() {
    kill_again_and_again(500, 2);
}

#[test]
fn a_start_that_is_killed_leaves_a_database_or_none() {
    let mut has_begun = 0;
    for delay_us in (0..40_000).step_by(4_000) {
        let folder = folder();
        let child = Child::start(&Start {
            dir: folder.path(),
            sync: SyncMode::Always,
            batch: 1,
            pause_ms: 0,
            variables: &[],
            user: None,
        });
        thread::sleep(Duration::from_micros(delay_us));
        let told = child.kill();
        has_begun += u32::from(database(folder.path()).exists());
        let (_store, kept) = open(&options_of(folder.path()));
        if kept.new_epoch != Some(NewEpochReason::New) {
            assert!(kept.last_seq >= told.unwrap_or(0));
        } else {
            assert_eq!((kept.last_seq, told), (0, None));
        }
    }
    println!("{has_begun} of 10 had begun");
}

const _: () = assert!(KEPT_MAX > IDS_MAX as u64);
