//! Scheduler: hands the cases of a run to worker threads, each with a server of its own
//! where the suite starts it, and collects the outcomes in the order of the cases.

use std::{
    collections::VecDeque,
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use crate::{
    answer_time::AnswerTime,
    applicable,
    capacity::{Capacity, Need},
    cut::Cut,
    interrupt::{self, Interrupted},
    learn::{Learned, Unreachable, learn},
    mark::{self, Mark},
    plan::{Plan, Target},
    play::{self, ClientUnderTest, Played, RunContext, Stop, Subject},
    probe::Facts,
    rules::{Level, heaviest},
    server_under_test::{ServerUnderTest, Source},
    transcript::Case,
    verdict::{Failure, Kind, Outcome, Verdict, millis},
};

/// After how many cases that failed for a silent or absent target, when none has
/// passed, the remaining cases are not run.
const GIVE_UP_CASES: usize = 8;

/// After how many cases in a row that cannot reach the address the remaining cases are
/// not run.
const GONE_CASES: usize = 3;

/// How often a case is played at the most when the suite itself is too slow for it.
const ATTEMPTS_MAX: usize = 3;

/// After how many cases for which a server never had room the remaining cases do not wait
/// for it.
const NO_ROOM_CASES: usize = 3;

/// How many outcomes may wait to be told.
const OUTCOMES_WAITING_MAX: usize = 64;

/// The result of a run.
pub struct Run {
    /// The outcome of each case.
    pub outcomes: Vec<Outcome>,
    /// The limits and capabilities of the target.
    pub facts: Facts,
    /// The signal that ended it before its time.
    pub interrupted: Option<Interrupted>,
}

impl Run {
    /// A run in which nothing was judged.
    pub fn none(plan: &Plan, reason: &str) -> Self {
        Self {
            outcomes: plan.cases.iter().map(|c| not_judged(c, reason)).collect(),
            facts: Facts::assumed(),
            interrupted: None,
        }
    }
}

fn not_judged(case: &Case, reason: &str) -> Outcome {
    let reason = reason.to_owned();
    let incomplete = true;
    Outcome::new(case, Verdict::NotRun { reason, incomplete })
}

/// The state that the workers share.
struct Shared {
    plan: Arc<Plan>,
    target: Target,
    facts: Facts,
    /// How long the target takes for its answers.
    answer_time: AnswerTime,
    /// The room for connections at an address.
    capacity: Capacity,
    queue: Mutex<VecDeque<usize>>,
    run_name: String,
    counter: AtomicU64,
    passed: AtomicBool,
    mute: AtomicUsize,
    gone: AtomicUsize,
    /// For how many cases in a row the server had no room, however long they waited.
    no_room: AtomicUsize,
}

/// Runs the plan; `each` sees every outcome as soon as all before it are there. A
/// signal ends the run at once: threads that still wait for something are left to
/// themselves, and end with the process.
pub fn run(
    plan: &Arc<Plan>,
    target: &Target,
    mut each: impl FnMut(usize, &Outcome),
) -> Result<Run, Unreachable> {
    let run_name = mark::run_name();
    let Learned { facts, mut server } = match learn(plan, target, &run_name) {
        Ok(learned) => learned?,
        Err(interrupted) => {
            return Ok(Run {
                interrupted: Some(interrupted),
                ..Run::none(plan, &interrupted.sentence())
            });
        }
    };
    // Slow cases begin first; the outcomes keep the order of the cases.
    let mut order: Vec<usize> = (0..plan.cases.len()).collect();
    // A case that saturates the server leaves no room for those after it.
    order.sort_by_key(|i| {
        let case = &plan.cases[*i];
        let rung = plan.rungs.as_ref().map(|rungs| rungs[*i]);
        (case.is_saturating(), rung, !case.is_slow(), *i)
    });
    let shared = Arc::new(Shared {
        plan: Arc::clone(plan),
        target: target.clone(),
        facts,
        answer_time: AnswerTime::default(),
        capacity: Capacity::new(plan.caps, 1),
        queue: Mutex::new(order.into()),
        run_name,
        counter: AtomicU64::new(1),
        passed: AtomicBool::new(false),
        mute: AtomicUsize::new(0),
        gone: AtomicUsize::new(0),
        no_room: AtomicUsize::new(0),
    });
    let (sender, receiver) = mpsc::sync_channel(OUTCOMES_WAITING_MAX);
    let jobs = plan.jobs.over(shared.facts.round_trip, plan.caps);
    let workers: Vec<_> = (0..jobs.min(plan.cases.len().max(1)))
        .map(|i| {
            let (sender, shared) = (sender.clone(), Arc::clone(&shared));
            // It runs, and starting another takes longer than many a case.
            let server = server.take();
            thread::spawn(move || worker(&shared, i, server, &sender))
        })
        .collect();
    drop(sender);
    let mut outcomes: Vec<Option<Outcome>> = vec![None; plan.cases.len()];
    let mut told = 0;
    let interrupted = loop {
        match interrupt::receive(&receiver) {
            Ok(Some((i, outcome))) => outcomes[i] = Some(outcome),
            Ok(None) => break None,
            Err(interrupted) => break Some(interrupted),
        }
        while let Some(Some(outcome)) = outcomes.get(told) {
            each(told, outcome);
            told += 1;
        }
    };
    let outcomes = match interrupted {
        None => {
            for worker in workers {
                if let Err(panicked) = worker.join() {
                    panic::resume_unwind(panicked);
                }
            }
            outcomes.into_iter().flatten().collect()
        }
        Some(interrupted) => {
            for (i, outcome) in outcomes.iter().enumerate().skip(told) {
                if let Some(outcome) = outcome {
                    each(i, outcome);
                }
            }
            let or_not = |(outcome, case): (Option<Outcome>, &Case)| {
                outcome.unwrap_or_else(|| not_judged(case, &interrupted.sentence()))
            };
            outcomes.into_iter().zip(&plan.cases).map(or_not).collect()
        }
    };
    Ok(Run {
        outcomes,
        facts: shared.facts.clone(),
        interrupted,
    })
}

fn worker(
    shared: &Shared,
    number: usize,
    mut server: Option<ServerUnderTest>,
    outcomes: &mpsc::SyncSender<(usize, Outcome)>,
) {
    loop {
        if shared.capacity.was_exceeded() && number >= shared.plan.jobs.without_room() {
            return;
        }
        let next = shared
            .queue
            .lock()
            .ok()
            .and_then(|mut queue| queue.pop_front());
        let Some(i) = next else { return };
        let outcome = judge(shared, &shared.plan.cases[i], &mut server);
        if outcomes.send((i, outcome)).is_err() {
            return;
        }
    }
}

/// Plays a case in all cuts.
fn judge(shared: &Shared, case: &Case, server: &mut Option<ServerUnderTest>) -> Outcome {
    let plan = &*shared.plan;
    let began = Instant::now();
    let mut outcome = Outcome::new(case, Verdict::Passed);
    if let Some(reason) = given_up(shared) {
        return not_judged(case, &reason);
    }
    if let Some(reason) = applicable::why_not(case, plan, &shared.target, &shared.facts) {
        let incomplete = false;
        outcome.verdict = Verdict::NotRun { reason, incomplete };
        return outcome;
    }
    // A deadline or a load does not depend on how the bytes are cut.
    let once = case.is_slow() || case.is_heavy() || case.is_closing() || case.is_restarting();
    let cuts = if once {
        &plan.cuts[..1]
    } else {
        &plan.cuts[..]
    };
    for cut in cuts {
        outcome.cuts.push(cut.name().to_owned());
        let played = match play_in_time(shared, case, *cut, server) {
            Ok(played) => played,
            Err(reason) => {
                shared.gone.fetch_add(1, Ordering::Relaxed);
                outcome.verdict = Verdict::NotRun {
                    reason,
                    incomplete: true,
                };
                return outcome;
            }
        };
        outcome.observed = played.observed;
        outcome.is_whole &= played.is_whole;
        let is_new =
            |warning: &Failure, seen: &[Failure]| seen.iter().all(|s| s.line != warning.line);
        for warning in played.warnings {
            if is_new(&warning, &outcome.warnings) {
                outcome.warnings.push(warning);
            }
        }
        match played.stop {
            None => {}
            Some(Stop::NotRun(reason)) => {
                outcome.verdict = Verdict::NotRun {
                    reason,
                    incomplete: false,
                };
                break;
            }
            Some(Stop::Incomplete(reason) | Stop::Late(reason) | Stop::NoRoom(reason)) => {
                outcome.verdict = Verdict::NotRun {
                    reason,
                    incomplete: true,
                };
                break;
            }
            Some(Stop::Failed(mut failure)) => {
                if outcome.cuts.len() > 1 && is_about_cuts(shared, case, server) {
                    failure.rules = vec!["CHAT-FRAME-7".to_owned()];
                }
                outcome.failure = Some(*failure);
                break;
            }
        }
    }
    weigh(plan, &mut outcome);
    outcome.elapsed_ms = millis(began.elapsed());
    note_health(shared, &outcome);
    if let Some(reason) = plan.known.reason(&case.id).map(str::to_owned) {
        outcome.verdict = match outcome.verdict {
            Verdict::Failed | Verdict::Warned => Verdict::KnownFailure { reason },
            Verdict::Passed => Verdict::UnexpectedPass { reason },
            other => other,
        };
    }
    outcome
}

/// Why no case is played any more, if that is so.
fn given_up(shared: &Shared) -> Option<String> {
    if shared.gone.load(Ordering::Relaxed) >= GONE_CASES {
        return Some("given up: the target is gone".to_owned());
    }
    let is_mute = shared.mute.load(Ordering::Relaxed) >= GIVE_UP_CASES;
    if is_mute && !shared.passed.load(Ordering::Relaxed) {
        return Some(format!(
            "given up: the first {GIVE_UP_CASES} cases got no answer"
        ));
    }
    None
}

/// Plays a case again as long as the suite or the machine may be too slow for it, or the
/// server has no room for it yet.
fn play_in_time(
    shared: &Shared,
    case: &Case,
    cut: Cut,
    server: &mut Option<ServerUnderTest>,
) -> Result<Played, String> {
    let timing = shared.plan.timing;
    let (mut late, mut no_room) = (0, 0);
    loop {
        let pause = match shared.no_room.load(Ordering::Relaxed) {
            0..NO_ROOM_CASES => timing.no_room(no_room),
            _ => None,
        };
        let played = play_once(shared, case, cut, server, pause.is_some())?;
        if matches!(played.stop, Some(Stop::NoRoom(_))) {
            shared.capacity.note_exceeded();
        }
        match (&played.stop, pause) {
            (Some(Stop::NoRoom(_)), Some(pause)) => {
                no_room += 1;
                thread::sleep(pause);
            }
            (Some(stop), _) if stop.may_be_the_machine() && late + 1 < ATTEMPTS_MAX => {
                late += 1;
                thread::sleep(timing.again());
            }
            _ => {
                if no_room > 0 && pause.is_none() {
                    shared.no_room.fetch_add(1, Ordering::Relaxed);
                } else if no_room > 0 {
                    shared.no_room.store(0, Ordering::Relaxed);
                }
                return Ok(played);
            }
        }
    }
}

fn play_once(
    shared: &Shared,
    case: &Case,
    cut: Cut,
    server: &mut Option<ServerUnderTest>,
    is_patient: bool,
) -> Result<Played, String> {
    let plan = &*shared.plan;
    let lately = shared.answer_time.lately().unwrap_or_default();
    let n = shared.counter.fetch_add(1, Ordering::Relaxed);
    let mut context = RunContext {
        case,
        cut,
        timing: plan.timing.over(shared.facts.round_trip.max(lately)),
        mark: Mark::new(&shared.run_name, n),
        shared: false,
        is_patient,
        also: &plan.also,
        caps: plan.caps,
        admission: &plan.admission,
        control: plan.control.as_ref(),
        answer_time: &shared.answer_time,
        facts: &shared.facts,
        rules: &plan.rules,
    };
    let source = match &shared.target {
        Target::Client(command) => {
            let client = ClientUnderTest::new(command)?;
            return Ok(play::play(&context, Subject::Client(client)));
        }
        Target::Server(source) => source,
    };
    let is_address = matches!(source, Source::Address(_));
    context.shared = is_address && !plan.exclusive;
    let need = Need::of(case, &shared.facts.limits);
    let _reservation = match is_address {
        true => match shared.capacity.reserve(need, case.is_saturating()) {
            Ok(reservation) => Some(reservation),
            Err(reason) => return Ok(Played::incomplete(reason)),
        },
        false => None,
    };
    if case.is_saturating() || server.as_ref().is_some_and(|s| s.is_full(need, plan.caps)) {
        // A connection that has closed may still count.
        *server = None;
    }
    if server.as_mut().is_some_and(|t| t.death().is_some()) {
        *server = None;
    }
    let open = match server {
        Some(server) => server,
        None => server.insert(ServerUnderTest::open(source, plan.timing)?),
    };
    open.connections_opened += need.in_all;
    let played = play::play(&context, Subject::Server(open));
    if matches!(source, Source::Command(..))
        && (played.stop.is_some() || case.is_closing() || case.is_saturating() || case.is_heavy())
    {
        *server = None;
    }
    Ok(played)
}

/// Whether a case that failed in another cut still passes whole: then the server treats
/// the same bytes in another way. No rule says so of clients.
fn is_about_cuts(shared: &Shared, case: &Case, server: &mut Option<ServerUnderTest>) -> bool {
    matches!(shared.target, Target::Server(_))
        && play_in_time(shared, case, shared.plan.cuts[0], server).is_ok_and(|p| p.stop.is_none())
}

/// Sets the verdict that the heaviest of the broken rules asks for. What failed on the
/// way of a case that broke no MUST is its failure.
fn weigh(plan: &Plan, outcome: &mut Outcome) {
    if matches!(outcome.verdict, Verdict::NotRun { .. }) {
        return;
    }
    if outcome.failure.is_none() && !outcome.warnings.is_empty() {
        outcome.failure = Some(outcome.warnings.remove(0));
    }
    let level = |failure: &Failure| match failure.kind.is_certain() {
        true => None,
        false => heaviest(&plan.rules, &failure.rules),
    };
    let levels = outcome.failures().map(|f| level(f).unwrap_or(Level::Must));
    outcome.verdict = match levels.max() {
        None => Verdict::Passed,
        Some(Level::May) => Verdict::Declined,
        Some(Level::Should) if !plan.strict => Verdict::Warned,
        Some(_) => Verdict::Failed,
    };
}

/// Counts failures of a dead or silent target, so that a run against it ends soon.
fn note_health(shared: &Shared, outcome: &Outcome) {
    let Some(failure) = &outcome.failure else {
        shared.gone.store(0, Ordering::Relaxed);
        if matches!(outcome.verdict, Verdict::Passed) {
            shared.passed.store(true, Ordering::Relaxed);
        }
        return;
    };
    if matches!(failure.kind, Kind::Hang | Kind::Closed | Kind::Crash) {
        shared.mute.fetch_add(1, Ordering::Relaxed);
    }
    let address = matches!(shared.target, Target::Server(Source::Address(_)));
    if address && failure.kind == Kind::Crash {
        shared.gone.fetch_add(1, Ordering::Relaxed);
    } else {
        shared.gone.store(0, Ordering::Relaxed);
    }
}
