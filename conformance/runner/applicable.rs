//! Applicability: whether a case can be played against a target. The target may grant
//! too few capabilities or announce limits that leave nothing to prove, or the case
//! may ask too much of this machine.

use crate::{
    capacity::Need,
    connection_caps::ConnectionCaps,
    control_command::ControlCommand,
    plan::{Plan, Target},
    probe::Facts,
    server_under_test::{DATA, Source},
    timing::{ANSWERED_WITHIN, Timing, announced},
    transcript::{Action, Case, Keys, Payload, expr::Limits, print},
    verdict::millis,
};

/// The longest text or envelope that the suite sends: each case holds it several
/// times, and sends it byte by byte.
const SENT_BYTES_MAX: u64 = 1 << 20;

/// How many members a case may need: the usual bound on open files is 1,024, for the
/// suite and for the server.
const CROWD_MAX: u64 = 900;

/// The beginning of the reason that names a capability.
pub const NOT_GRANTED: &str = "the server does not grant";

/// Why the case does not apply to this target; None when it does.
pub fn why_not(case: &Case, plan: &Plan, target: &Target, facts: &Facts) -> Option<String> {
    let is_server = matches!(target, Target::Server(_));
    let is_address = matches!(target, Target::Server(Source::Address(_)));
    if is_server && let Some(missing) = case.needs.iter().find(|c| !facts.granted.contains(c)) {
        return Some(format!("{NOT_GRANTED} {missing}"));
    }
    if is_server && let Some(granted) = case.lacks.iter().find(|c| facts.granted.contains(c)) {
        return Some(format!("the server grants {granted}"));
    }
    if let Some(reason) = case.when.iter().find_map(|it| it.why_not(&facts.limits)) {
        return Some(reason);
    }
    if is_server && let Some(reason) = plan.admission.why_not(case) {
        return Some(reason);
    }
    if is_server && case.needs_data && !target.keeps_data() {
        return Some(format!(
            "it needs a server that keeps the room: put {DATA} into --cmd, where the server takes its folder"
        ));
    }
    if is_server && case.is_operating() && plan.control.is_none() {
        return Some(ControlCommand::MISSING.to_owned());
    }
    if is_server && case.keys > facts.keys {
        return Some(
            match case.keys {
                Keys::Owning => "the first proof of a key gives no name an owner on this server",
                _ => "the server ignores the keys of its clients",
            }
            .to_owned(),
        );
    }
    if is_server && let Some(reason) = too_much(case, &facts.limits) {
        return Some(reason);
    }
    if is_server
        && !case.is_saturating()
        && let Some(reason) = Need::of(case, &facts.limits).exceeds(plan.caps)
    {
        return Some(reason);
    }
    if case.is_slow() && plan.skip_slow {
        return Some("left out by --skip-slow".to_owned());
    }
    if let Some(reason) = too_far(case, facts, plan.timing) {
        return Some(reason);
    }
    let wait = announced(longest_wait(case, facts));
    if wait > plan.wait_max {
        return Some(format!(
            "it waits {} s, as the server announced; raise --wait-max, or start the server with shorter deadlines",
            wait.as_secs()
        ));
    }
    if (case.is_closing() || case.is_restarting()) && is_address {
        return Some("it ends the server, which must be started with --cmd for that".to_owned());
    }
    if is_address
        && !plan.exclusive
        && let Some(why) = case.why_exclusive()
    {
        return Some(format!(
            "{why}: give --exclusive if the suite alone uses the server, or --cmd"
        ));
    }
    if let Some(saturation) = case.saturation()
        && plan.caps.get(saturation).is_none()
    {
        return Some(ConnectionCaps::unknown(saturation));
    }
    None
}

/// Why the case needs more memory or connections than the suite takes, at the limits
/// that the server announced, which go up to four gigabytes.
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

/// Why the network takes too large a part of a limit within which the suite must answer.
fn too_far(case: &Case, facts: &Facts, timing: Timing) -> Option<String> {
    let timing = timing.over(facts.round_trip);
    let (limit, _) = ANSWERED_WITHIN.into_iter().find(|(limit, _)| {
        let value = announced(facts.limits.get(limit));
        case.depends_on(limit) && !value.is_zero() && timing.is_too_far_for(value)
    })?;
    Some(format!(
        "a round trip of {} ms leaves too little of {limit}; start the server with a longer one",
        millis(facts.round_trip)
    ))
}

/// The longest wait that a step of the case makes on purpose, in milliseconds.
fn longest_wait(case: &Case, facts: &Facts) -> u64 {
    let longest = std::cell::Cell::new(0);
    case.any_step(&|step| {
        let wait = step.action.wait().map_or(0, |e| e.value(&facts.limits));
        longest.set(longest.get().max(wait));
        false
    });
    longest.get()
}
