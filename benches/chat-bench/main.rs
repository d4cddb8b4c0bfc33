//! `chat-bench`: measures how fast a chat server is and checks that it loses nothing.
//!
//! ```text
//!  options ─▶ load, joining ─▶ pool: all connections, one thread ─▶ the server
//!                                │ what came
//!                                ▼
//!              dialect: bytes into units ─▶ tally, order: is it what is due?
//!                                                        │
//!  report, plot ◀── figures ◀── process, latency ◀───────┘
//! ```
//!
//! The workloads `hostile`, `files` and `resume` go another way: a pair of users with a
//! blocking socket each, and `attack`, the attackers, or a member with a file, or many that
//! come back.

mod attack;
mod bound;
mod client_pool;
mod dialect;
mod digest;
mod failure;
mod files;
mod follow;
mod hostile;
mod joining;
mod latency;
mod link;
mod load;
mod member;
mod options;
mod order;
mod output;
mod plot;
mod process;
mod progress;
#[cfg(feature = "quic")]
mod quic;
mod report;
mod resume;
mod session;
mod socket;
mod stream;
mod tally;
mod text;
mod websocket;

use std::{process::ExitCode, time::Duration};

use chat::files::write_or_print;
use clap::{CommandFactory, Parser, error::ErrorKind};

use dialect::Protocol;
use failure::Failure;
use files::Files;
use follow::Follow;
use hostile::{Hostile, Pace};
use load::Load;
use options::{Attackers, Command, Flow, Options, Talk, Target};
use process::Process;
use progress::Progress;
use report::Report;
use resume::Resume;

/// How many comparisons `slow` makes; it reports the median.
const SLOW_ROUNDS: usize = 3;

fn main() -> ExitCode {
    // One socket a member.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let ran = run(Options::parse().command);
    #[cfg(feature = "quic")]
    quic::end();
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&format!("chat-bench: {failure}\n"));
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Burst { target, talk, flow } => {
            let load = Load {
                in_flight_max: flow.in_flight.into(),
                ..load(&target, &talk)
            };
            let title = title("burst", &talk, &flow);
            run_load(&target, &load, title, |_, _| {})
        }
        Command::Paced { target, talk, rate } => {
            let load = Load {
                rate: Some(rate.into()),
                ..load(&target, &talk)
            };
            let title = format!("paced: {} members, {rate} messages/s", talk.members);
            run_load(&target, &load, title, |_, _| {})
        }
        Command::Churn {
            target,
            talk,
            rate,
            visitors,
        } => {
            if talk.senders > 1 {
                usage("churn needs a single sender: say --senders 1");
            }
            let load = Load {
                rate: Some(rate.into()),
                visiting: visitors as usize,
                ..load(&target, &talk)
            };
            let title = format!(
                "churn: {} members, {rate} messages/s, {visitors} that come and go",
                talk.members
            );
            run_load(&target, &load, title, |report, outcome| {
                report.add("visits", "visits", outcome.visits as f64, "");
                let per_s = outcome.visits as f64 / outcome.elapsed_s;
                report.add("visits_per_s", "visits", per_s, "/s");
            })
        }
        Command::Slow {
            target,
            talk,
            flow,
            stalled_percent,
        } => slow(&target, &talk, &flow, stalled_percent),
        Command::Follow {
            target,
            talk,
            flow,
            topics,
            follows,
        } => follow(&target, &talk, &flow, topics, follows),
        Command::Files {
            target,
            bytes,
            rate,
            seconds,
        } => {
            let pace = Pace { rate, seconds };
            transfer(&target, &Files { bytes, pace })
        }
        Command::Resume {
            target,
            members,
            missed,
            rate,
            seconds,
        } => {
            let pace = Pace { rate, seconds };
            let members = members as usize;
            resume_all(
                &target,
                &Resume {
                    members,
                    missed,
                    pace,
                },
            )
        }
        Command::Idle { target, members } => join(&target, members, true),
        Command::Join { target, members } => join(&target, members, false),
        Command::Hostile {
            target,
            rate,
            seconds,
            attackers,
            memory_bytes_max,
        } => {
            let load = Hostile {
                pace: Pace { rate, seconds },
                attackers,
            };
            hostile(&target, &load, memory_bytes_max)
        }
        Command::Bound { writes, listen } => bound::serve(listen, writes),
    }
}

fn load(target: &Target, talk: &Talk) -> Load {
    if talk.senders >= talk.members {
        usage("at least one member must only read: more --members or fewer --senders");
    }
    if talk.senders > 1 && !target.dialect.has_one_order() {
        usage("this protocol promises no order between senders: say --senders 1");
    }
    Load {
        members: talk.members as usize,
        senders: talk.senders as usize,
        text_bytes: talk.text_bytes as usize,
        duration: Duration::from_secs(talk.seconds.into()),
        messages_max: talk.messages.into(),
        rate: None,
        in_flight_max: u64::MAX,
        stalling: 0,
        visiting: 0,
    }
}

fn title(workload: &str, talk: &Talk, flow: &Flow) -> String {
    format!(
        "{workload}: {} members, {} sending {} bytes, {} in flight",
        talk.members, talk.senders, talk.text_bytes, flow.in_flight
    )
}

fn run_load(
    target: &Target,
    load: &Load,
    title: String,
    more: impl FnOnce(&mut Report, &load::Outcome),
) -> Result<(), Failure> {
    let mut progress = Progress::new();
    let link = target.link()?;
    let outcome = load::run(load, &link, target.dialect, server(target), &mut progress);
    progress.end();
    let outcome = outcome?;
    let mut report = Report::new(title);
    report.add_load(&outcome);
    more(&mut report, &outcome);
    tell(target, &report, "deliveries", &progress)
}

fn slow(target: &Target, talk: &Talk, flow: &Flow, percent: u32) -> Result<(), Failure> {
    let all = talk.members as usize;
    let stalling = all * percent as usize / 100;
    if stalling == 0 {
        usage("no member would stall: more --members or --stalled-percent");
    }
    let mut without = Load {
        in_flight_max: flow.in_flight.into(),
        ..load(target, talk)
    };
    without.members = all - stalling;
    if without.members <= without.senders {
        usage("at least one member must read");
    }
    let with = Load {
        stalling,
        ..without.clone()
    };
    let mut progress = Progress::new();
    let link = target.link()?;
    let mut run = |load: &Load| {
        let server = server(target);
        let outcome = load::run(load, &link, target.dialect, server, &mut progress);
        progress.end();
        outcome
    };
    let per_s = |outcome: &load::Outcome| outcome.deliveries as f64 / outcome.elapsed_s;
    // In turn, since a machine's speed varies.
    let mut rounds = Vec::new();
    for _ in 0..SLOW_ROUNDS {
        let alone = per_s(&run(&without)?);
        let outcome = run(&with)?;
        rounds.push((per_s(&outcome) / alone, alone, outcome));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (share, alone, outcome) = rounds.swap_remove(SLOW_ROUNDS / 2);
    let mut report = Report::new(format!(
        "{}, {stalling} that never read",
        title("slow", talk, flow)
    ));
    report.add_load(&outcome);
    report.add(
        "alone_deliveries_per_s",
        "deliveries without members that never read",
        alone,
        "/s",
    );
    report.add("alone_share", "  share of that with them", share, "");
    tell(target, &report, "deliveries", &progress)
}

fn follow(
    target: &Target,
    talk: &Talk,
    flow: &Flow,
    topics: u16,
    follows: u16,
) -> Result<(), Failure> {
    if talk.senders > 1 {
        usage("follow needs a single sender: say --senders 1");
    }
    if follows > topics {
        usage("a member cannot follow more topics than there are");
    }
    if !target.dialect.has_topics() {
        usage("this protocol has no topics: follow works with chat, nats and redis");
    }
    let follow = Follow {
        load: Load {
            in_flight_max: flow.in_flight.into(),
            ..load(target, talk)
        },
        topics,
        follows,
    };
    let mut progress = Progress::new();
    let link = target.link()?;
    let outcome = follow::run(
        &follow,
        &link,
        target.dialect,
        server(target),
        &mut progress,
    );
    progress.end();
    let mut report = Report::new(format!(
        "{}, each following {follows} of {topics} topics",
        title("follow", talk, flow)
    ));
    report.add_follow(&outcome?);
    tell(target, &report, "deliveries", &progress)
}

fn join(target: &Target, members: u32, is_idle: bool) -> Result<(), Failure> {
    let mut progress = Progress::new();
    let members = members as usize;
    let outcome = joining::run(
        members,
        is_idle,
        &target.link()?,
        target.dialect,
        server(target),
        &mut progress,
    );
    progress.end();
    let workload = if is_idle { "idle" } else { "join" };
    let mut report = Report::new(format!("{workload}: {members} members"));
    report.add_joining(members, &outcome?);
    tell(target, &report, "registrations", &progress)
}

fn transfer(target: &Target, load: &Files) -> Result<(), Failure> {
    check_plain(target, "files");
    let mut progress = Progress::new();
    let outcome = files::run(load, target.address.address, server(target), &mut progress);
    progress.end();
    let mut report = Report::new(format!(
        "files: {} bytes up and down; 2 users, {} messages/s each",
        load.bytes, load.pace.rate
    ));
    report.add_files(load.bytes, &outcome?);
    tell(target, &report, "messages of the pair", &progress)
}

fn resume_all(target: &Target, load: &Resume) -> Result<(), Failure> {
    check_plain(target, "resume");
    let mut progress = Progress::new();
    let outcome = resume::run(load, target.address.address, server(target), &mut progress);
    progress.end();
    let mut report = Report::new(format!(
        "resume: {} members come back and have missed {} messages each; 2 users, {} messages/s \
         each",
        load.members, load.missed, load.pace.rate
    ));
    report.add_resume(&outcome?);
    tell(target, &report, "messages that were missed", &progress)
}

/// Some workloads speak in a way of their own.
fn check_plain(target: &Target, workload: &str) {
    if target.dialect != Protocol::Chat {
        usage(&format!("{workload} works with --dialect chat only"));
    }
    if !target.address.is_plain() {
        usage(&format!("{workload} works over chat:// only"));
    }
}

fn hostile(target: &Target, load: &Hostile, memory_bytes_max: u64) -> Result<(), Failure> {
    check_plain(target, "hostile");
    let mut progress = Progress::new();
    let outcome = hostile::run(load, target.address.address, server(target), &mut progress);
    progress.end();
    let Attackers {
        flood_times,
        silent,
        deaf,
        lengths,
    } = load.attackers;
    let mut report = Report::new(format!(
        "hostile: 2 users, {} messages/s each; a flood of {flood_times} times the rate, \
         {silent} connections that never register, {deaf} members that never read, {lengths} lengths of 2^63",
        load.pace.rate
    ));
    report.add_hostile(&outcome?, memory_bytes_max);
    tell(target, &report, "messages of the pair", &progress)
}

fn server(target: &Target) -> Option<Process> {
    let named = (!target.server_pid.is_empty()).then(|| Process::of_ids(&target.server_pid));
    named.or_else(|| Process::listening_on(target.address.address, target.address.carrier.is_quic))
}

fn tell(target: &Target, report: &Report, what: &str, progress: &Progress) -> Result<(), Failure> {
    if let Some(path) = &target.svg {
        let svg = plot::svg(report.title(), what, &progress.samples);
        write_or_print(path, &svg).map_err(Failure::unusable)?;
    }
    let text = if target.json {
        report.json()
    } else {
        report.table()
    };
    output::print(&text)
}

/// Ends the program as for any other wrong usage.
fn usage(sentence: &str) -> ! {
    Options::command()
        .error(ErrorKind::ValueValidation, sentence)
        .exit()
}
