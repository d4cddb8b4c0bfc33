//! Findings: what is wrong in the captures, where, and by which rule.

use std::fmt::Write;
use std::path::PathBuf;

use chat::capture::End;
use serde::Serialize;

/// The most findings that are kept. What is wrong a thousand times has one cause.
const FINDINGS_MAX: usize = 1_000;

/// A line of one of the captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The index of the file.
    pub file: usize,
    /// The line, from 1.
    pub line: usize,
}

/// Something that is wrong.
#[derive(Debug)]
pub struct Finding {
    /// The rule that is broken.
    pub rule: &'static str,
    /// Which end broke it.
    pub by: End,
    /// Where it shows.
    pub at: Place,
    /// One sentence.
    pub sentence: String,
}

/// A session in the captures.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The file.
    pub file: String,
    /// The line of its Registered.
    pub line: usize,
    /// The name.
    pub name: String,
    /// The epoch.
    pub epoch: String,
    /// The first number that it is sent.
    pub from: u64,
    /// The last number that it was told.
    pub to: u64,
    /// How many chats by others it received.
    pub chats: usize,
    /// How many of its own it knows to be accepted.
    pub own: usize,
    /// Whether it resumed an earlier session.
    pub resumed: bool,
    /// How many chats it was told to have missed.
    pub missed: u64,
    /// Whether it chose which chats it receives, at some time.
    pub filtered: bool,
}

/// What an audit found.
#[derive(Debug, Default)]
pub struct Report {
    /// The captures.
    pub files: Vec<PathBuf>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many findings more there were.
    pub dropped: usize,
    /// The sessions, in the order of the captures.
    pub sessions: Vec<Summary>,
    /// How many chats the captures tell of, each counted once.
    pub chats: usize,
    /// How many epochs they are from.
    pub epochs: usize,
    /// What a reader should know about the captures.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds a finding.
    pub fn find(&mut self, rule: &'static str, by: End, at: Place, sentence: String) {
        if self.findings.len() == FINDINGS_MAX {
            self.dropped += 1;
            return;
        }
        self.findings.push(Finding {
            rule,
            by,
            at,
            sentence,
        });
    }

    /// A place as people write it.
    pub fn shown(&self, at: Place) -> String {
        format!("{}:{}", self.file(at.file), at.line)
    }

    /// The name of a file.
    pub fn file(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = |of: fn(&Summary) -> usize| self.sessions.iter().map(of).max().unwrap_or(0);
        let place = |s: &Summary| format!("{}:{}", s.file, s.line);
        let places = width(|s| s.file.len() + 1 + s.line.to_string().len());
        let names = width(|s| s.name.len());
        for session in &self.sessions {
            let epoch: String = session.epoch.chars().take(8).collect();
            let numbers = match session.to {
                to if to < session.from => "no numbers".to_owned(),
                to => format!("{} to {to}", session.from),
            };
            let _ = write!(
                text,
                "{:places$}  {:names$}  epoch {epoch}: {numbers}, {} by others, {} own",
                place(session),
                session.name,
                session.chats,
                session.own
            );
            if session.resumed {
                let _ = write!(text, ", resumed with {} missed", session.missed);
            }
            if session.filtered {
                text.push_str(", filtered");
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        if !self.findings.is_empty() {
            text.push('\n');
        }
        for finding in &self.findings {
            let (at, by) = (self.shown(finding.at), finding.by.as_str());
            let _ = writeln!(text, "{at}: {} ({by}): {}", finding.rule, finding.sentence);
        }
        if self.dropped > 0 {
            let _ = writeln!(text, "and {} more", self.dropped);
        }
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let _ = writeln!(
            text,
            "\n{}, {}, {} in {}: {}",
            counted(self.files.len(), "capture"),
            counted(self.sessions.len(), "session"),
            counted(self.chats, "chat"),
            counted(self.epochs, "epoch"),
            match self.findings.len() + self.dropped {
                0 => "nothing is wrong".to_owned(),
                n => counted(n, "finding"),
            }
        );
        text
    }

    /// For programs (`conformance/schema/audit.schema.json`).
    pub fn json(&self) -> String {
        let files: Vec<String> = (0..self.files.len()).map(|i| self.file(i)).collect();
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|finding| {
                serde_json::json!({
                    "rule": finding.rule,
                    "by": finding.by.as_str(),
                    "file": self.file(finding.at.file),
                    "line": finding.at.line,
                    "sentence": finding.sentence,
                })
            })
            .collect();
        let report = serde_json::json!({
            "files": files,
            "sessions": self.sessions,
            "chats": self.chats,
            "epochs": self.epochs,
            "findings": findings,
            "dropped_findings": self.dropped,
            "notes": self.notes,
        });
        format!("{report:#}\n")
    }
}
