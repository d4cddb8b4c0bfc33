//! A simulation of the server: the engine, the log, the room and the connections
//! as they are, over streams in memory, in a time of their own. A seed decides all
//! that happens, so a run can be had again.
//!
//! ```text
//!   schedule ── who is next, what happens ──▶ world
//!                                              │ connects, sends, reads, faults
//!        peers ◀── stream ──▶ Connection ──▶ Room
//!          │ received                          │ published
//!          └──────────────▶ oracle ◀───────────┘
//! ```
//!
//! One future drives everything on a runtime of one thread with its clock stopped:
//! it moves the connections itself, one at a time, and the clock.
//!
//! `SIMULATION_SEEDS` says how many seeds to run, `SIMULATION_FROM` which is the first
//! of them, so that a night's run need not repeat the last one's; `SIMULATION_SEED`
//! shows one.
//!
//! To add a limit with its error code: give it a small value in `schedule::limits`,
//! say in `oracle` what its cause is (`answered` for what the server decides by
//! itself, `causes` for what ends a session), and take it off [`NOT_REACHED`].

mod coverage;
mod model;
mod oracle;
mod schedule;
mod sent;
mod stream;
mod trace;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use tokio::{runtime, task::coop::unconstrained};

use crate::wire::{ErrorCode, LeftReason};
use coverage::Coverage;
use stream::{FNV_START, hash};
use trace::Trace;

/// How many seeds the tests run.
const SEEDS: u64 = 2_000;

/// How many seeds are run twice.
const SEEDS_TWICE: u64 = 60;

/// How many seeds are run at the same time.
const THREADS: usize = 2;

/// Codes that no schedule can reach, with the reason.
const NOT_REACHED: [ErrorCode; 1] = [
    // Never sent.
    ErrorCode::Unspecified,
];

/// What the seeds together must have reached, besides all codes and reasons.
const REACHED: [&str; 24] = [
    "stalls",
    "reads again",
    "half-closes",
    "is cut short",
    "ends inside a frame",
    "closes",
    "resets",
    "clock jumps",
    "wall clock jumps",
    "closes under way",
    "ended at once",
    "ping",
    "members in pages",
    "replies full",
    "backlog",
    "segment boundary",
    "room paused",
    "room paced",
    "lag",
    "told of its lag",
    "held up",
    "name check",
    "name had after a wait",
    "memory full",
];

fn run(seed: u64, trace: Trace) -> Coverage {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be had");
    runtime.block_on(unconstrained(schedule::run(seed, trace)))
}

/// Runs a seed; whether all was as it should be.
fn try_run(seed: u64, trace: Trace) -> Option<Coverage> {
    catch_unwind(AssertUnwindSafe(|| run(seed, trace))).ok()
}

/// What the variable says, if it says anything.
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")),
    )
}

/// Runs all seeds; what they have reached, or the first one that failed.
fn sweep() -> &'static Result<Coverage, u64> {
    static SWEEP: OnceLock<Result<Coverage, u64>> = OnceLock::new();
    SWEEP.get_or_init(|| {
        let first = variable("SIMULATION_FROM").unwrap_or(0);
        let end = first.saturating_add(variable("SIMULATION_SEEDS").unwrap_or(SEEDS));
        let next = AtomicU64::new(first);
        let is_over = AtomicBool::new(false);
        let result = Mutex::new(Ok(Coverage::default()));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        let run = try_run(seed, Trace::default());
                        let mut result = result.lock().expect("nobody panics with it");
                        match (&mut *result, run) {
                            (Ok(all), Some(coverage)) => all.add(&coverage),
                            (Ok(_), None) => {
                                *result = Err(seed);
                                is_over.store(true, Ordering::Relaxed);
                            }
                            (Err(failed), None) => *failed = seed.min(*failed),
                            (Err(_), Some(_)) => {}
                        }
                        if (seed - first) % 10_000 == 9_999 {
                            eprintln!("{} seeds", seed + 1 - first);
                        }
                    }
                });
            }
        });
        result.into_inner().expect("nobody panics with it")
    })
}

/// Runs a seed again, to show what happens in it.
fn replay(seed: u64) {
    let trace = Trace::on();
    let is_right = try_run(seed, trace.clone()).is_some();
    eprintln!("{}", trace.text());
    assert!(
        is_right,
        "seed {seed} fails, as told above; replay it with\n    \
         SIMULATION_SEED={seed} cargo test --locked --lib simulation -- --nocapture"
    );
}

#[test]
fn every_schedule_keeps_every_promise() {
    if let Some(seed) = variable("SIMULATION_SEED") {
        return replay(seed);
    }
    if let Err(seed) = sweep() {
        replay(*seed);
        panic!("seed {seed} fails, and not when it is run again");
    }
}

#[test]
fn the_schedules_reach_every_corner() {
    if variable("SIMULATION_SEED").is_some() {
        return;
    }
    let Ok(coverage) = sweep() else {
        return; // The other test says so.
    };
    eprintln!("{coverage}");
    let codes = (0..).map_while(|number| ErrorCode::try_from(number).ok());
    let codes = codes.filter(|code| !NOT_REACHED.contains(code));
    let reasons = (1..).map_while(|number| LeftReason::try_from(number).ok());
    let missing: Vec<_> = codes
        .map(|code| code.as_str_name())
        .chain(reasons.map(|reason| reason.as_str_name()))
        .chain(REACHED)
        .filter(|what| !coverage.has(what))
        .collect();
    assert!(missing.is_empty(), "no schedule has reached {missing:?}");
}

#[test]
fn the_same_seed_is_the_same_run_byte_for_byte() {
    let traces = || {
        thread::spawn(|| {
            (0..SEEDS_TWICE).fold(FNV_START, |start, seed| {
                let trace = Trace::on();
                try_run(seed, trace.clone());
                let text = trace.text();
                assert!(text.lines().count() > 5, "something happens in seed {seed}");
                hash(start, text.as_bytes())
            })
        })
    };
    let (one, other) = (traces(), traces());
    assert_eq!(one.join().expect("it ends"), other.join().expect("it ends"));
    let other_seed = Trace::on();
    try_run(SEEDS_TWICE, other_seed.clone());
    let first_seed = Trace::on();
    try_run(0, first_seed.clone());
    assert_ne!(other_seed.text(), first_seed.text());
}
