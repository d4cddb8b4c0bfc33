//! A whole run: cases handed to workers, each with a server of its own where the
//! suite starts it, and the outcomes in the order of the cases.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    admission::Admission,
    cut::Cut,
    mark::{self, Mark},
    play::{self, ClientUnderTest, Doors, Facts, NoServer, Played, Setting, Stop, Subject},
    rules::{Level, Rule},
    suite::KnownFailures,
    target::{Source, Target},
    transcript::{Action, Case, Payload, expr::Limits, print},
    verdict::{Failure, Kind, Outcome, Verdict, millis},
};

/// How many cases may fail for a silent or absent target, none having passed,
/// until the rest is given up.
const GIVE_UP_CASES: usize = 8;

/// How many cases in a row may find nobody at the address until the rest is given up.
const GONE_CASES: usize = 3;

/// The longest text or envelope that the suite sends: each case holds it several
/// times, and sends it byte by byte.
const SENT_BYTES_MAX: u64 = 1 << 20;

/// How many members a case may need: the usual bound on open files is 1,024, for the
/// suite and for the server.
const CROWD_MAX: u64 = 900;

/// How many outcomes may wait to be told.
const OUTCOMES_WAITING_MAX: usize = 64;

/// What is to be run, and how.
pub struct Plan<'a> {
    /// The cases.
    pub cases: Vec<Case>,
    /// The schema's rules.
    pub rules: &'a [Rule],
    /// The cuts to play each case in.
    pub cuts: Vec<Cut>,
    /// How many cases at a time.
    pub jobs: usize,
    /// All deadlines are multiplied with this.
    pub scale: f64,
    /// Whether a SHOULD that is not followed fails.
    pub strict: bool,
    /// Whether cases that wait for deadlines are left out.
    pub skip_slow: bool,
    /// The longest a case may wait on purpose.
    pub wait_max: Duration,
    /// Whether nobody else uses the server.
    pub exclusive: bool,
    /// How many connections the server takes.
    pub doors: Doors,
    /// What it asks newcomers for.
    pub admission: Admission,
    /// The failures that are known.
    pub known: KnownFailures,
}

/// A target for all cases.
pub enum Under {
    /// A server.
    Server(Source),
    /// A client's command line.
    Client(String),
}

/// Why there was no run: the target cannot be reached, or is something else.
pub struct NoRun(pub String);

/// The outcomes of a run that did not take place.
pub fn none(plan: &Plan<'_>, reason: &str) -> Vec<Outcome> {
    let not_run = || Verdict::NotRun {
        reason: reason.to_owned(),
        incomplete: true,
    };
    plan.cases
        .iter()
        .map(|case| Outcome::new(case, not_run()))
        .collect()
}

/// What the workers share.
struct Shared<'a> {
    plan: &'a Plan<'a>,
    under: &'a Under,
    facts: Facts,
    queue: Mutex<VecDeque<usize>>,
    run_name: String,
    counter: AtomicU64,
    passed: AtomicBool,
    mute: AtomicUsize,
    gone: AtomicUsize,
}

/// Runs the plan; `each` sees every outcome as soon as all before it are there.
pub fn run(
    plan: &Plan<'_>,
    under: &Under,
    mut each: impl FnMut(usize, &Outcome),
) -> Result<(Vec<Outcome>, Facts), NoRun> {
    let run_name = mark::run_name();
    let probe = Mark::new(&run_name, 0).name("probe");
    let facts = match under {
        Under::Server(source) => {
            let mut target = Target::open(source, plan.scale).map_err(NoRun)?;
            match play::probe(&target, &probe, &plan.admission, plan.scale) {
                Ok(facts) => facts,
                Err(NoServer::Unreachable(why)) => {
                    let why = target.death().unwrap_or(why);
                    return Err(NoRun(format!("the server cannot be reached: {why}")));
                }
                Err(NoServer::OtherProtocol(greeting)) => {
                    return Err(NoRun(format!(
                        "the server does not speak chat.v1: it answered {greeting:?}"
                    )));
                }
            }
        }
        Under::Client(command) => {
            play::try_client(command).map_err(NoRun)?;
            Facts::assumed()
        }
    };
    // What waits longest begins first; the outcomes keep the order of the cases.
    let mut order: Vec<usize> = (0..plan.cases.len()).collect();
    order.sort_by_key(|i| (!plan.cases[*i].is_slow(), *i));
    let shared = Shared {
        plan,
        under,
        facts,
        queue: Mutex::new(order.into()),
        run_name,
        counter: AtomicU64::new(1),
        passed: AtomicBool::new(false),
        mute: AtomicUsize::new(0),
        gone: AtomicUsize::new(0),
    };
    let mut outcomes: Vec<Option<Outcome>> = vec![None; plan.cases.len()];
    let mut told = 0;
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(OUTCOMES_WAITING_MAX);
        for _ in 0..plan.jobs.clamp(1, plan.cases.len().max(1)) {
            let (sender, shared) = (sender.clone(), &shared);
            scope.spawn(move || worker(shared, &sender));
        }
        drop(sender);
        for (i, outcome) in receiver {
            outcomes[i] = Some(outcome);
            while let Some(Some(outcome)) = outcomes.get(told) {
                each(told, outcome);
                told += 1;
            }
        }
    });
    Ok((outcomes.into_iter().flatten().collect(), shared.facts))
}

fn worker(shared: &Shared<'_>, outcomes: &mpsc::SyncSender<(usize, Outcome)>) {
    let mut target = None;
    loop {
        let next = shared
            .queue
            .lock()
            .ok()
            .and_then(|mut queue| queue.pop_front());
        let Some(i) = next else { return };
        let outcome = judge(shared, &shared.plan.cases[i], &mut target);
        if outcomes.send((i, outcome)).is_err() {
            return;
        }
    }
}

/// Plays a case in all cuts and says what became of it.
fn judge(shared: &Shared<'_>, case: &Case, target: &mut Option<Target>) -> Outcome {
    let plan = shared.plan;
    let began = Instant::now();
    let mut outcome = Outcome::new(case, Verdict::Passed);
    if let Some(verdict) = not_to_be_run(shared, case) {
        outcome.verdict = verdict;
        return outcome;
    }
    // What a case waits out does not depend on how its bytes were cut.
    let once = case.is_slow() || case.is_heavy() || case.is_closing() || case.is_restarting();
    let cuts = if once {
        &plan.cuts[..1]
    } else {
        &plan.cuts[..]
    };
    for cut in cuts {
        outcome.cuts.push(cut.name().to_owned());
        let played = match play_once(shared, case, *cut, target) {
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
        match played.stop {
            None => {}
            Some(Stop::NotRun(reason)) => {
                outcome.verdict = Verdict::NotRun {
                    reason,
                    incomplete: false,
                };
                break;
            }
            Some(Stop::Failed(mut failure)) => {
                if outcome.cuts.len() > 1 {
                    // It passed in another cut: the cut itself makes the difference.
                    failure.rules.insert(0, "CHAT-FRAME-7".to_owned());
                    failure.rules.dedup();
                }
                outcome.verdict = weigh(plan, &failure);
                outcome.failure = Some(*failure);
                break;
            }
        }
    }
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

fn not_to_be_run(shared: &Shared<'_>, case: &Case) -> Option<Verdict> {
    let not_run = |reason: String, incomplete| Some(Verdict::NotRun { reason, incomplete });
    let (plan, facts) = (shared.plan, &shared.facts);
    let is_server = matches!(shared.under, Under::Server(_));
    if shared.gone.load(Ordering::Relaxed) >= GONE_CASES {
        return not_run("given up: the target is gone".to_owned(), true);
    }
    if !shared.passed.load(Ordering::Relaxed)
        && shared.mute.load(Ordering::Relaxed) >= GIVE_UP_CASES
    {
        return not_run(
            format!("given up: the first {GIVE_UP_CASES} cases got no answer"),
            true,
        );
    }
    if is_server && let Some(missing) = case.needs.iter().find(|c| !facts.granted.contains(c)) {
        return not_run(format!("the server does not grant {missing}"), false);
    }
    if let Some(reason) = case.when.iter().find_map(|it| it.why_not(&facts.limits)) {
        return not_run(reason, false);
    }
    if is_server && let Some(reason) = plan.admission.why_not(case) {
        return not_run(reason, false);
    }
    if is_server && let Some(reason) = too_much(case, &facts.limits) {
        return not_run(reason, false);
    }
    if case.is_slow() && plan.skip_slow {
        return not_run("left out by --skip-slow".to_owned(), false);
    }
    let wait = Duration::from_millis(longest_wait(case, facts));
    if wait > plan.wait_max {
        return not_run(
            format!(
                "it waits {} s, as the server announced; raise --wait-max, or start the server with shorter deadlines",
                wait.as_secs()
            ),
            false,
        );
    }
    if (case.is_closing() || case.is_restarting())
        && matches!(shared.under, Under::Server(Source::Address(_)))
    {
        return not_run(
            "it ends the server, which must be started with --cmd for that".to_owned(),
            false,
        );
    }
    let is_shared = matches!(shared.under, Under::Server(Source::Address(_))) && !plan.exclusive;
    if case.is_flooding() && is_shared {
        let reason = "it floods the room; say --exclusive if nobody else is there, or use --cmd";
        return not_run(reason.to_owned(), false);
    }
    if let Some(filling) = case.filling()
        && plan.doors.get(filling).is_none()
    {
        return not_run(Doors::unknown(filling), false);
    }
    None
}

/// Why a case would take more than this machine should be asked for, at the limits
/// that the server announced: they go up to four gigabytes.
fn too_much(case: &Case, limits: &Limits) -> Option<String> {
    let crowded = case
        .any_step(&|step| matches!(&step.action, Action::Crowd(n) if n.value(limits) > CROWD_MAX));
    if crowded {
        return Some(format!(
            "it needs more than {CROWD_MAX} members; announce a smaller frame_bytes_max"
        ));
    }
    ["text_bytes_max", "frame_bytes_max"]
        .into_iter()
        .find(|limit| {
            limits.get(limit) > SENT_BYTES_MAX
                && case.any_step(&|step| match &step.action {
                    // A length alone costs nothing, whatever it says.
                    Action::Send {
                        payload: Payload::Length { .. },
                        ..
                    } => false,
                    action => matches!(action, Action::Send { .. })
                        && print::action(action).contains(limit),
                })
        })
        .map(|limit| {
            format!(
                "the server announces a {limit} of {}, and the suite sends no more than {SENT_BYTES_MAX} bytes",
                limits.get(limit)
            )
        })
}

/// The longest wait that a step of the case makes on purpose, in milliseconds.
fn longest_wait(case: &Case, facts: &Facts) -> u64 {
    let longest = std::cell::Cell::new(0);
    case.any_step(&|step| {
        let expr = match &step.action {
            Action::Silence(expr) => Some(expr),
            Action::Receive { after, .. } | Action::Closed { after, .. } => after.as_ref(),
            _ => None,
        };
        let wait = expr.map_or(0, |e| e.value(&facts.limits));
        longest.set(longest.get().max(wait));
        false
    });
    longest.get()
}

fn play_once(
    shared: &Shared<'_>,
    case: &Case,
    cut: Cut,
    target: &mut Option<Target>,
) -> Result<Played, String> {
    let plan = shared.plan;
    let n = shared.counter.fetch_add(1, Ordering::Relaxed);
    let mut setting = Setting {
        case,
        cut,
        scale: plan.scale,
        mark: Mark::new(&shared.run_name, n),
        shared: false,
        doors: plan.doors,
        admission: &plan.admission,
        facts: &shared.facts,
    };
    let source = match shared.under {
        Under::Client(command) => {
            let client = ClientUnderTest::new(command)?;
            return Ok(play::play(&setting, Subject::Client(client)));
        }
        Under::Server(source) => source,
    };
    setting.shared = matches!(source, Source::Address(_)) && !plan.exclusive;
    if case.is_filling() {
        // Who left a moment ago may still count as a connection.
        *target = None;
    }
    if target.as_mut().is_some_and(|t| t.death().is_some()) {
        *target = None;
    }
    let open = match target {
        Some(target) => target,
        None => target.insert(Target::open(source, plan.scale)?),
    };
    let played = play::play(&setting, Subject::Server(open));
    if matches!(source, Source::Command(_))
        && (played.stop.is_some() || case.is_closing() || case.is_filling() || case.is_heavy())
    {
        *target = None;
    }
    Ok(played)
}

/// A failure weighs as much as the heaviest rule that it breaks.
fn weigh(plan: &Plan<'_>, failure: &Failure) -> Verdict {
    if matches!(failure.kind, Kind::Crash | Kind::Malformed | Kind::Fault) {
        return Verdict::Failed;
    }
    let level = |id: &String| plan.rules.iter().find(|r| r.id == *id).map(|r| r.level);
    match failure.rules.iter().filter_map(level).max() {
        Some(Level::May) => Verdict::Declined,
        Some(Level::Should) if !plan.strict => Verdict::Warned,
        _ => Verdict::Failed,
    }
}

/// Keeps an eye on targets that are dead or dumb, so that a run on them ends soon.
fn note_health(shared: &Shared<'_>, outcome: &Outcome) {
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
    let address = matches!(shared.under, Under::Server(Source::Address(_)));
    if address && failure.kind == Kind::Crash {
        shared.gone.fetch_add(1, Ordering::Relaxed);
    } else {
        shared.gone.store(0, Ordering::Relaxed);
    }
}
