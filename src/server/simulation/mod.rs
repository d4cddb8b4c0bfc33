//! Deterministic simulation: the server's real hub, sessions, room, log and connections
//! run over in-memory pipes, on a simulated clock. A seed decides everything that
//! happens, so every run can be repeated.
//!
//! ```text
//!   schedule ── the next event ──▶ world
//!                                    │ connect, send, read, fault, tick
//!      clients ◀── pipe ──▶ Connection ──▶ Hub
//!         │ received                        │ published
//!         └────────────▶ oracle ◀───────────┘
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `schedule` | turns a seed into events, with `config` for the server and `inputs` for the clients |
//! | `world` | carries them out: `polling` runs connections, `clock` lets time pass, `memory` checks bounds |
//! | `link`, `pipe`, `sent` | one connection from both ends, its transport, and what its client sends |
//! | `oracle` | checks every step against the rules, with `model` as the simplest room that can be right |
//! | `filter`, `lines` | what of that room a member wants, and which sessions continue one another |
//! | `coverage`, `trace` | what was reached; what happened, for a person |
//!
//! One future drives everything, on a runtime of one thread whose clock stands still: it
//! polls the connections itself, one at a time, and advances the clock.
//!
//! `SIMULATION_SEEDS` is the number of seeds to run and `SIMULATION_FROM` the first of
//! them, so that a long run need not repeat the last one. `SIMULATION_SEED` runs one
//! seed and prints its trace.
//!
//! To add a limit with its error code: give the limit a small value in
//! `schedule::config`, say in `oracle` what causes the error (`is_own_decision` for an
//! error that answers no frame, `possible_reasons` for one that ends a session), and
//! take the code off [`NOT_REACHED`].
//!
//! Crashes have a smaller simulation, `tests/recovery`.

mod coverage;
pub(super) mod filter;
mod lines;
mod link;
mod model;
mod oracle;
mod pipe;
mod schedule;
mod sent;
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
use pipe::{FNV_START, hash};
use trace::Trace;

/// How many seeds the tests run by default.
const SEEDS: u64 = 2_000;

/// How many seeds are run twice, to compare their traces.
const SEEDS_TWICE: u64 = 60;

/// How many seeds run at the same time.
const THREADS: usize = 2;

/// Error codes that no schedule reaches, with the reason.
const NOT_REACHED: [ErrorCode; 10] = [
    // Never sent.
    ErrorCode::Unspecified,
    // Nothing is stored.
    ErrorCode::FileUnknown,
    ErrorCode::FileTooLong,
    ErrorCode::FilesFull,
    ErrorCode::FileMismatch,
    ErrorCode::FileNameInvalid,
    ErrorCode::StorageFull,
    // Nobody has a key.
    ErrorCode::NameOwned,
    ErrorCode::ProofWrong,
    // There is one server.
    ErrorCode::ClusterUnreachable,
];

/// More than the schema has error codes; it leaves some numbers free.
const CODES_MAX: i32 = 256;
/// One of so many seeds at least must reach each case, so that a schedule that loses one
/// shows.
const ONE_SEED_OF: u64 = 100;

/// Cases that are rarer: the log and the queues grow so far only where everything fails to
/// hold them down, and the last one takes an operator and a resume.
const RARE: [&str; 6] = [
    "ERROR_CODE_OVERLOADED",
    "memory full",
    "out of reach",
    "out of reach is told",
    "members in pages",
    "removed text",
];

/// What seeds must reach, besides every error code and every reason of Left.
const REACHED: [&str; 40] = [
    "stalls",
    "reads again",
    "half-closes",
    "half-closes early",
    "ends inside a frame",
    "closes",
    "resets",
    "clock jumps",
    "wall clock jumps",
    "closes under way",
    "aborted",
    "ping",
    "members in pages",
    "replies full",
    "backlog",
    "segment boundary",
    "read pause",
    "paced reads",
    "out of reach",
    "out of reach is told",
    "throttled",
    "name probe",
    "joins after a name probe",
    "memory full",
    "direct",
    "direct delivered",
    "direct not delivered",
    "covered",
    "following",
    "following in a flood",
    "kept out by a filter",
    "receipt for a resend",
    "removed text",
    "operator speaks",
    "topics alternate",
    "resumes",
    "resumes with chats missed",
    "RESUME_FAILURE_UNKNOWN_TOKEN",
    "RESUME_FAILURE_OTHER_EPOCH",
    "RESUME_FAILURE_FUTURE_SEQ",
];

fn run(seed: u64, trace: Trace) -> Coverage {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be had");
    runtime.block_on(unconstrained(schedule::run(seed, trace)))
}

/// Runs a seed; `None` if the oracle found a fault.
fn try_run(seed: u64, trace: Trace) -> Option<Coverage> {
    catch_unwind(AssertUnwindSafe(|| run(seed, trace))).ok()
}

/// The number in an environment variable, if it is set.
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")),
    )
}

/// Runs all seeds once for all tests. Returns what they reached, or a seed that failed.
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
                        let mut result = result.lock().expect("no thread panics with it");
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
        result.into_inner().expect("no thread panics with it")
    })
}

/// Runs one seed and prints its trace.
fn replay(seed: u64) {
    let trace = Trace::on();
    let is_right = try_run(seed, trace.clone()).is_some();
    eprintln!("{}", trace.text());
    assert!(
        is_right,
        "seed {seed} fails, as shown above; replay it with\n    \
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
        panic!("seed {seed} failed, but not when it was run again");
    }
}

#[test]
fn the_schedules_reach_every_error_code_and_every_case_often() {
    if variable("SIMULATION_SEED").is_some() {
        return;
    }
    let Ok(coverage) = sweep() else {
        return; // every_schedule_keeps_every_promise reports it.
    };
    eprintln!("{coverage}");
    let codes = (0..CODES_MAX).filter_map(|number| ErrorCode::try_from(number).ok());
    let codes = codes.filter(|code| !NOT_REACHED.contains(code));
    let reasons = (1..).map_while(|number| LeftReason::try_from(number).ok());
    let seeds = variable("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let least = (seeds / ONE_SEED_OF).max(1);
    let rare: Vec<_> = codes
        .map(|code| code.as_str_name())
        .chain(reasons.map(|reason| reason.as_str_name()))
        .chain(REACHED)
        .map(|what| (what, coverage.count(what)))
        .filter(|(what, count)| *count < if RARE.contains(what) { 1 } else { least })
        .collect();
    assert!(
        rare.is_empty(),
        "less than {least} of {seeds} seeds reach each of {rare:?}"
    );
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
