//! `chat-conformance`: says of any server or client which numbered rules of
//! `proto/chat.proto` it keeps. It shares the schema's generated types with the
//! reference implementation and nothing else: its framing is its own.

mod cli;
mod conn;
mod exit;
mod framing;
mod messages;
mod pattern;
mod play;
mod process;
mod report;
mod rules;
mod run;
mod suite;
mod target;
mod transcript;
mod verdict;

use std::{
    fs,
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;

use cli::{Cli, Command, RunArgs};
use conn::Cut;
use exit::{Exit, Failed};
use report::Report;
use run::{NoRun, Plan, Under};
use suite::{KnownFailures, Suite};
use target::Source;
use transcript::Side;

fn main() -> ExitCode {
    match main_with(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(failed) => {
            eprintln!("chat-conformance: {}", failed.sentence);
            failed.exit.into()
        }
    }
}

fn main_with(cli: Cli) -> Result<Exit, Failed> {
    let suite = Suite::load(cli.transcripts.as_deref()).map_err(exit::usage)?;
    match cli.command {
        Command::Server(args) => {
            let source = match (&args.address, &args.cmd) {
                (Some(address), _) => {
                    Source::Address(target::resolve(address).map_err(exit::usage)?)
                }
                (None, Some(cmd)) => Source::Command(cmd.clone()),
                (None, None) => return Err(exit::usage("say an address, or --cmd")),
            };
            let name = args.address.or(args.cmd).unwrap_or_default();
            let max = args.connections_max.map(usize::from);
            judge(&suite, Side::Server, &Under::Server(source), &name, &args.run, max)
        }
        Command::Client(args) => {
            if !args.cmd.contains("{address}") && !args.cmd.contains("{port}") {
                return Err(exit::usage(
                    "the client's command must hold {address} (or {host} and {port}), where the suite's address is filled in",
                ));
            }
            let under = Under::Client(args.cmd.clone());
            judge(&suite, Side::Client, &under, &args.cmd, &args.run, None)
        }
        _ => todo!(),
    }
}

/// Runs the selected cases and writes the reports.
fn judge(
    suite: &Suite,
    side: Side,
    under: &Under,
    name: &str,
    args: &RunArgs,
    connections_max: Option<usize>,
) -> Result<Exit, Failed> {
    let rules = rules::parse(chat::wire::SCHEMA);
    let cases = args.selection.apply(suite, &rules, side).map_err(exit::usage)?;
    let known = match &args.known_failures {
        Some(path) => {
            let text = fs::read_to_string(path)
                .map_err(|e| exit::usage(format!("{} cannot be read: {e}", path.display())))?;
            KnownFailures::parse(&path.display().to_string(), &text, suite).map_err(exit::usage)?
        }
        None => KnownFailures::default(),
    };
    let plan = Plan {
        cases,
        rules: &rules,
        cuts: cuts(&args.cuts)?,
        jobs: args.jobs.into(),
        scale: args.timeout_scale,
        strict: args.strict,
        skip_slow: args.skip_slow,
        wait_max: std::time::Duration::from_secs(args.wait_max),
        connections_max,
        known,
    };
    let began = Instant::now();
    let mut progress = Progress::new(plan.cases.len(), args.quiet);
    let ran = run::run(&plan, under, |i, outcome| progress.tell(i, outcome));
    progress.done();
    let (outcomes, facts) = ran.map_err(|no_run| match no_run {
        NoRun::Usage(sentence) => exit::usage(sentence),
        NoRun::Incomplete(sentence) => exit::incomplete(sentence),
    })?;
    let elapsed_ms = verdict::millis(began.elapsed());
    let report = Report::new(&plan, suite, side, name, outcomes, &facts, elapsed_ms);
    for outcome in &report.cases {
        if let Some(failure) = &outcome.failure {
            print!("\n{}", report::text::failure(outcome, failure, &rules));
        }
    }
    print!("\n{}", report::text::summary(&report));
    write_reports(&report, args)?;
    Ok(report.exit())
}

fn write_reports(report: &Report, args: &RunArgs) -> Result<(), Failed> {
    type Form = fn(&Report) -> String;
    let forms: [(&Option<std::path::PathBuf>, Form); 4] = [
        (&args.json, Report::json),
        (&args.junit, report::junit::junit),
        (&args.markdown, report::markdown::markdown),
        (&args.html, report::html::html),
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
            Cut::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| {
                exit::usage(format!("{name:?} is no cut; there are whole, bytes, prefix and merged"))
            })
        })
        .collect()
}

/// One line a case, and in a terminal a line that says how far the run is.
struct Progress {
    cases: usize,
    quiet: bool,
    terminal: bool,
}

impl Progress {
    fn new(cases: usize, quiet: bool) -> Self {
        Self { cases, quiet, terminal: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, i: usize, outcome: &verdict::Outcome) {
        self.clear();
        if !self.quiet || outcome.verdict.is_violation() {
            println!("{}", report::text::line(outcome));
        }
        if self.terminal {
            eprint!("{} of {} cases", i + 1, self.cases);
            let _ = std::io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn done(&self) {
        self.clear();
    }
}
