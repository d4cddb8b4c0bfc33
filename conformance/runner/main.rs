//! `chat-conformance`: says of any server or client which numbered rules of
//! `proto/chat.proto` it keeps. It shares the schema's generated types with the
//! reference implementation and nothing else: its framing is its own.

mod admission;
mod cli;
mod conn;
#[cfg(test)]
mod corpus;
mod coverage;
mod cut;
mod exit;
mod explain;
mod export;
mod framing;
mod judge;
mod lint;
mod mark;
mod messages;
mod pattern;
mod play;
mod problem;
mod process;
mod record;
mod report;
mod rules;
mod run;
mod suite;
mod target;
mod trace;
mod transcript;
mod verdict;

use std::{
    fs,
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;

use admission::Admission;
use cli::{Cli, Command, RunArgs};
use cut::Cut;
use exit::{Exit, Failed};
use play::Doors;
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
            let admission = Admission::read(args.password_file.as_deref(), args.allow.as_deref())
                .map_err(exit::usage)?;
            let more = More {
                doors: Doors {
                    server: args.connections_max.map(usize::from),
                    address: args.connections_per_address_max.map(usize::from),
                    minute: args.connections_per_minute_max.map(usize::from),
                },
                exclusive: args.exclusive,
                admission,
            };
            judge(
                &suite,
                Side::Server,
                &Under::Server(source),
                &name,
                &args.run,
                more,
            )
        }
        Command::Client(args) => {
            if !args.cmd.contains("{address}") && !args.cmd.contains("{port}") {
                return Err(exit::usage(
                    "the client's command must hold {address} (or {host} and {port}), where the suite's address is filled in",
                ));
            }
            let under = Under::Client(args.cmd.clone());
            judge(
                &suite,
                Side::Client,
                &under,
                &args.cmd,
                &args.run,
                More::default(),
            )
        }
        Command::Record(args) => {
            let server = target::resolve(&args.address).map_err(exit::usage)?;
            let draft = record::record(args.listen, &server).map_err(exit::incomplete)?;
            match args.out {
                Some(path) => {
                    chat::files::write_or_print(&path, &draft).map_err(exit::usage)?;
                }
                None => print(&draft)?,
            }
            Ok(Exit::Conforms)
        }
        Command::List(args) => {
            print(&list(&suite, &args).map_err(exit::usage)?)?;
            Ok(Exit::Conforms)
        }
        Command::Explain { what } => {
            let rules = rules::parse(chat::wire::SCHEMA);
            print(&explain::explain(&what, &suite, &rules).map_err(exit::usage)?)?;
            Ok(Exit::Conforms)
        }
        Command::Coverage => {
            let coverage = coverage::coverage(&suite, &rules::parse(chat::wire::SCHEMA));
            tell(coverage.lines, &coverage.wrong)
        }
        Command::Lint => tell(
            Vec::new(),
            &lint::lint(&suite, &rules::parse(chat::wire::SCHEMA)),
        ),
        Command::Export => {
            let lines =
                export::export(&suite, &rules::parse(chat::wire::SCHEMA)).map_err(exit::fault)?;
            tell(lines, &[])
        }
    }
}

/// Prints lines, and what is wrong to stderr: then the exit code is that of a violation.
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

/// Writes to stdout; whoever has stopped reading it has read enough.
fn print(text: &str) -> Result<(), Failed> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(exit::usage(format!(
            "standard output cannot be written: {e}"
        ))),
        _ => Ok(()),
    }
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

/// What is to be known of a server that the suite cannot see.
#[derive(Default)]
struct More {
    doors: Doors,
    exclusive: bool,
    admission: Admission,
}

/// Runs the selected cases and writes the reports.
fn judge(
    suite: &Suite,
    side: Side,
    under: &Under,
    name: &str,
    args: &RunArgs,
    more: More,
) -> Result<Exit, Failed> {
    let rules = rules::parse(chat::wire::SCHEMA);
    let cases = args
        .selection
        .apply(suite, &rules, side)
        .map_err(exit::usage)?;
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
        // Those whom a list lets in are few, and each is one person at a time.
        jobs: if more.exclusive || !more.admission.names.is_empty() {
            1
        } else {
            args.jobs.into()
        },
        exclusive: more.exclusive,
        scale: args.timeout_scale,
        strict: args.strict,
        skip_slow: args.skip_slow,
        wait_max: std::time::Duration::from_secs(args.wait_max),
        doors: more.doors,
        admission: more.admission,
        known,
    };
    let began = Instant::now();
    let mut progress = Progress::new(plan.cases.len(), args.quiet);
    let ran = run::run(&plan, under, |i, outcome| progress.tell(i, outcome));
    progress.done();
    // Reports are written even when there is no target: a CI that looks for one finds it.
    let (outcomes, facts, no_run) = match ran {
        Ok((outcomes, facts)) => (outcomes, facts, None),
        Err(NoRun(sentence)) => (
            run::none(&plan, &sentence),
            play::Facts::assumed(),
            Some(sentence),
        ),
    };
    let elapsed_ms = verdict::millis(began.elapsed());
    let report = Report::new(&plan, suite, side, name, outcomes, &facts, elapsed_ms);
    // Before anything else is said: whoever reads it may close it.
    let written = write_reports(&report, args);
    for outcome in &report.cases {
        if let Some(failure) = &outcome.failure {
            print(&format!(
                "\n{}",
                report::text::failure(outcome, failure, &rules)
            ))?;
        }
    }
    written?;
    if let Some(sentence) = no_run {
        return Err(exit::incomplete(sentence));
    }
    print(&format!("\n{}", report::text::summary(&report)))?;
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

/// One line a case, and in a terminal a line that says how far the run is.
struct Progress {
    cases: usize,
    quiet: bool,
    terminal: bool,
}

impl Progress {
    fn new(cases: usize, quiet: bool) -> Self {
        Self {
            cases,
            quiet,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, i: usize, outcome: &verdict::Outcome) {
        self.clear();
        if !self.quiet || outcome.verdict.is_violation() {
            // Whoever read it may have closed it; the reports are still due.
            let _ = writeln!(std::io::stdout(), "{}", report::text::line(outcome));
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
