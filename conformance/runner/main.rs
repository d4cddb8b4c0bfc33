//! Conformance runner: `chat-conformance` tells of any server or client which numbered
//! rules of `proto/chat.proto` it keeps. It shares the schema's generated types with the
//! reference implementation, and no code that interprets the protocol.

mod admission;
mod answer_time;
mod applicable;
mod audit;
mod blame;
mod capacity;
mod cli;
mod conn;
mod connection_caps;
mod control_command;
#[cfg(test)]
mod corpus;
mod coverage;
mod cut;
mod data_folder;
mod exit;
mod explain;
mod export;
mod framing;
mod halves;
mod interrupt;
mod jobs;
mod keys;
mod ladder;
mod learn;
mod lint;
mod mark;
mod messages;
mod output;
mod pattern;
mod plan;
mod play;
mod probe;
mod problem;
mod process;
mod progress;
#[cfg(feature = "quic")]
mod quic;
mod record;
mod register;
mod report;
mod rules;
mod run;
mod server_stream;
mod server_under_test;
mod stream;
mod suite;
mod text_file;
mod timing;
mod trace;
mod transcript;
mod verdict;

use std::{
    io::Write,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use chat::capture::Capture;
use clap::Parser;

use admission::Admission;
use cli::{Cli, Command, RunArgs, ServerArgs, Shown};
use control_command::ControlCommand;
use cut::Cut;
use exit::{Exit, Failed};
use interrupt::Interrupted;
use jobs::Jobs;
use learn::Unreachable;
use output::Output;
use plan::{Plan, Target};
use process::EndAll;
use progress::Progress;
use report::Report;
use run::Run;
use server_under_test::Source;
use stream::Place;
use suite::{KnownFailures, Suite};
use timing::Timing;
use transcript::Side;

fn main() -> ExitCode {
    let _end_all = EndAll;
    match main_with(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(failed) => {
            // A terminal that is gone hears nothing of it.
            let _ = writeln!(std::io::stderr(), "chat-conformance: {}", failed.sentence);
            failed.exit.into()
        }
    }
}

fn main_with(cli: Cli) -> Result<Exit, Failed> {
    // Not where no case is asked for: they are many.
    let suite = || Suite::load(cli.transcripts.as_deref()).map_err(exit::usage);
    match cli.command {
        Command::Server(args) => {
            let suite = suite()?;
            let trust = args.trust.trust().map_err(exit::usage)?;
            let (source, name) = match (&args.address, &args.cmd) {
                (Some(address), _) => {
                    let place = Place::resolve(address, &trust).map_err(exit::usage)?;
                    (Source::Address(place), address)
                }
                (None, Some(cmd)) => (Source::Command(cmd.clone(), trust), cmd),
                (None, None) => return Err(exit::usage("say an address, or --cmd")),
            };
            judge(
                &suite,
                &Target::Server(source),
                name,
                &args.run,
                Some(&args),
            )
        }
        Command::Client(args) => {
            let suite = suite()?;
            if !args.cmd.contains("{address}") && !args.cmd.contains("{port}") {
                return Err(exit::usage(
                    "the client's command must hold {address} (or {host} and {port}), where the suite's address is filled in",
                ));
            }
            let target = Target::Client(args.cmd.clone());
            judge(&suite, &target, &args.cmd, &args.run, None)
        }
        Command::Record(args) => {
            let trust = args.trust.trust().map_err(exit::usage)?;
            let place = Place::resolve(&args.address, &trust).map_err(exit::usage)?;
            let capture = args.capture.as_deref().map(begin_capture).transpose();
            let capture = capture.map_err(exit::usage)?;
            interrupt::catch().map_err(exit::fault)?;
            let recorded =
                record::record(args.listen, &place, capture.as_ref()).map_err(exit::incomplete)?;
            let failure = capture.and_then(|capture| capture.failure());
            match args.out {
                Some(path) => {
                    chat::files::write_or_print(&path, &recorded.draft).map_err(exit::usage)?;
                }
                None => print(&recorded.draft)?,
            }
            match (recorded.interrupted, failure) {
                (Some(interrupted), _) => Err(exit::incomplete(interrupted.sentence())),
                (None, Some(reason)) => {
                    let sentence = format!("the capture is not complete: {reason}");
                    Err(exit::incomplete(sentence))
                }
                (None, None) => Ok(Exit::Conforms),
            }
        }
        Command::Audit(args) => {
            let report = audit::audit(args.files).map_err(exit::usage)?;
            let is_stdout = args
                .json
                .as_ref()
                .is_some_and(|path| path.as_os_str() == "-");
            if let Some(path) = &args.json {
                chat::files::write_or_print(path, &report.json()).map_err(exit::usage)?;
            }
            let output = match is_stdout {
                true => Output::Stderr,
                false => Output::Stdout,
            };
            output.print(&report.text())?;
            match (report.findings.is_empty(), report.sessions.is_empty()) {
                (false, _) => Ok(Exit::Violates),
                (true, true) => Err(exit::incomplete("the captures hold no session")),
                (true, false) => Ok(Exit::Conforms),
            }
        }
        Command::List(args) => {
            print(&list(&suite()?, &args).map_err(exit::usage)?)?;
            Ok(Exit::Conforms)
        }
        Command::Explain { what } => {
            let rules = rules::parse(chat::wire::SCHEMA);
            print(&explain::explain(&what, &suite()?, &rules).map_err(exit::usage)?)?;
            Ok(Exit::Conforms)
        }
        Command::Coverage => {
            let coverage = coverage::coverage(&suite()?, &rules::parse(chat::wire::SCHEMA));
            tell(coverage.lines, &coverage.wrong)
        }
        Command::Lint => tell(
            Vec::new(),
            &lint::lint(&suite()?, &rules::parse(chat::wire::SCHEMA)),
        ),
        Command::Export => {
            let lines = export::export(&suite()?, &rules::parse(chat::wire::SCHEMA))
                .map_err(exit::fault)?;
            tell(lines, &[])
        }
    }
}

/// Begins a capture at the end of the file.
fn begin_capture(path: &Path) -> Result<Capture, String> {
    let file = chat::files::append_private(path)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let by = concat!("chat-conformance ", env!("CARGO_PKG_VERSION"));
    Ok(Capture::new(file, by))
}

/// Prints lines to stdout and complaints to stderr. With complaints, the exit code is
/// that of a violation.
fn tell(lines: Vec<String>, wrong: &[String]) -> Result<Exit, Failed> {
    print(&lines.iter().map(|l| format!("{l}\n")).collect::<String>())?;
    for sentence in wrong {
        eprintln!("{sentence}");
    }
    Ok(if wrong.is_empty() {
        Exit::Conforms
    } else {
        Exit::Violates
    })
}

fn print(text: &str) -> Result<(), Failed> {
    Output::Stdout.print(text)
}

/// The cases, or the rules, one a line.
fn list(suite: &Suite, args: &cli::ListArgs) -> Result<String, String> {
    let rules = rules::parse(chat::wire::SCHEMA);
    let mut lines = Vec::new();
    if args.all_rules {
        for rule in &rules {
            lines.push(if args.json {
                serde_json::to_string(rule).map_err(|e| e.to_string())?
            } else {
                format!("{:<14} {:<6} {}", rule.id, rule.level, rule.sentence)
            });
        }
    } else {
        let server = args.selection.apply(suite, &rules, Side::Server);
        let client = args.selection.apply(suite, &rules, Side::Client);
        let cases = match (server, client) {
            (Err(sentence), Err(_)) => return Err(sentence),
            (server, client) => [server.unwrap_or_default(), client.unwrap_or_default()].concat(),
        };
        for case in cases {
            lines.push(if args.json {
                serde_json::json!({
                    "case": case.id, "title": case.title, "rules": case.rules, "needs": case.needs,
                    "slow": case.is_slow(), "closing": case.is_closing(),
                })
                .to_string()
            } else {
                format!("{:<44} {}", case.id, case.title)
            });
        }
    }
    Ok(lines.iter().map(|l| format!("{l}\n")).collect())
}

/// Where the same room is served too.
fn also(args: &ServerArgs) -> Result<Vec<Place>, String> {
    let trust = args.trust.trust()?;
    let addresses = args.also.iter();
    addresses
        .map(|address| Place::resolve(address, &trust))
        .collect()
}

/// Runs the selected cases and writes the reports.
fn judge(
    suite: &Suite,
    target: &Target,
    name: &str,
    args: &RunArgs,
    server: Option<&ServerArgs>,
) -> Result<Exit, Failed> {
    let output = Output::beside(args)?;
    let rules = rules::parse(chat::wire::SCHEMA);
    let side = target.side();
    let cases = args
        .selection
        .apply(suite, &rules, side)
        .map_err(exit::usage)?;
    let admission = match server {
        Some(server) => Admission::read(server.password_file.as_deref(), server.allow.as_deref())
            .map_err(exit::usage)?,
        None => Admission::default(),
    };
    let also = server
        .map_or_else(|| Ok(Vec::new()), also)
        .map_err(exit::usage)?;
    let control = server.and_then(|server| server.control_cmd.as_deref());
    let control = control.map(ControlCommand::parse).transpose();
    let control = control.map_err(exit::usage)?;
    let is_exclusive = server.is_some_and(|server| server.exclusive);
    let known = match &args.known_failures {
        Some(path) => {
            let text = text_file::read(path).map_err(exit::usage)?;
            KnownFailures::parse(&path.display().to_string(), &text, suite).map_err(exit::usage)?
        }
        None => KnownFailures::default(),
    };
    let rung = |case| suite.ladder.place(case).0;
    let plan = Arc::new(Plan {
        rungs: args.ladder.then(|| cases.iter().map(rung).collect()),
        cases,
        rules: rules.clone(),
        cuts: cuts(&args.cuts)?,
        // A list has few names, and a name has one session at a time.
        jobs: if is_exclusive || !admission.names.is_empty() {
            Jobs::Exactly(1)
        } else {
            args.jobs
                .map_or(Jobs::ByRoundTrip, |jobs| Jobs::Exactly(jobs.into()))
        },
        exclusive: is_exclusive,
        timing: Timing::new(args.timeout_scale),
        strict: args.strict,
        skip_slow: args.skip_slow,
        wait_max: Duration::from_secs(args.wait_max),
        also,
        caps: server.map(ServerArgs::connection_caps).unwrap_or_default(),
        admission,
        control,
        known,
    });
    interrupt::catch().map_err(exit::fault)?;
    let began = Instant::now();
    let progress = Progress::new(plan.cases.len(), args.shown(), output);
    let ran = run::run(&plan, target, |i, outcome| progress.tell(i, outcome));
    // Reports are written without a target as well, since a CI system looks for them.
    let (run, reason) = match ran {
        Ok(run) => {
            let reason = run.interrupted.map(Interrupted::sentence);
            (run, reason)
        }
        Err(Unreachable(sentence)) => (Run::none(&plan, &sentence), Some(sentence)),
    };
    let elapsed_ms = verdict::millis(began.elapsed());
    let report = Report::new(&plan, suite, side, name, run, elapsed_ms);
    // Before more is printed: the reader of the output may have stopped reading it.
    let written = write_reports(&report, suite, args);
    progress.end();
    if args.shown() != Shown::Nothing {
        for outcome in &report.cases {
            for failure in outcome.failures() {
                output.print(&format!(
                    "\n{}",
                    report::text::failure(outcome, failure, &rules)
                ))?;
            }
        }
    }
    written?;
    let was_begun = report.counts.not_run < report.counts.selected;
    if was_begun || reason.is_none() {
        let end = match args.ladder {
            true => report::ladder::text(&report, suite),
            false => report::text::summary(&report),
        };
        output.print(&format!("\n{end}"))?;
    }
    match reason {
        Some(sentence) => Err(exit::incomplete(sentence)),
        None => Ok(report.exit()),
    }
}

fn write_reports(report: &Report, suite: &Suite, args: &RunArgs) -> Result<(), Failed> {
    type Form<'a> = &'a dyn Fn(&Report) -> String;
    let html = |report: &Report| report::html::html(report, suite);
    let forms: [(&Option<std::path::PathBuf>, Form); 4] = [
        (&args.json, &Report::json),
        (&args.junit, &report::junit::junit),
        (&args.markdown, &report::markdown::markdown),
        (&args.html, &html),
    ];
    for (path, form) in forms {
        if let Some(path) = path {
            report.write(path, form).map_err(exit::usage)?;
        }
    }
    Ok(())
}

fn cuts(names: &[String]) -> Result<Vec<Cut>, Failed> {
    names
        .iter()
        .map(|name| {
            Cut::ALL
                .into_iter()
                .find(|c| c.name() == name)
                .ok_or_else(|| {
                    exit::usage(format!(
                        "{name:?} is no cut; there are whole, bytes, prefix and merged"
                    ))
                })
        })
        .collect()
}
