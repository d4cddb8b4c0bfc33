//! Server under test: one that runs at an address, or a process that the suite starts
//! and ends.

use std::time::Instant;

use chat::tls::Trust;

use crate::{
    capacity::Need,
    connection_caps::ConnectionCaps,
    data_folder::DataFolder,
    process::{Process, words_of},
    stream::Place,
    timing::Timing,
};

/// Stands in a command line for the folder in which the server keeps the room.
pub const DATA: &str = "{data}";

/// The beginning of the line that a server prints first.
const LISTENING: &str = "listening on ";

/// Where a server is, or how it is started.
#[derive(Clone, Debug)]
pub enum Source {
    /// It runs already.
    Address(Place),
    /// It is started with this command line.
    Command(String, Trust),
}

/// A server that runs.
pub struct ServerUnderTest {
    /// Where it listens.
    pub place: Place,
    source: Source,
    timing: Timing,
    /// The process, if the suite started it.
    pub process: Option<Process>,
    /// Where it keeps the room, if its command line says so.
    data: Option<DataFolder>,
    /// How many connections the suite has opened to it since it was started.
    pub connections_opened: usize,
}

impl ServerUnderTest {
    /// Reaches the server, or starts it with an empty room.
    pub fn open(source: &Source, timing: Timing) -> Result<Self, String> {
        let data = match source {
            Source::Command(command, _) if command.contains(DATA) => Some(DataFolder::new()?),
            _ => None,
        };
        Self::open_with(source, timing, data)
    }

    fn open_with(
        source: &Source,
        timing: Timing,
        data: Option<DataFolder>,
    ) -> Result<Self, String> {
        let (command, trust) = match source {
            Source::Address(place) => {
                return Ok(Self {
                    place: place.clone(),
                    source: source.clone(),
                    timing,
                    process: None,
                    data: None,
                    connections_opened: 0,
                });
            }
            Source::Command(command, trust) => (command, trust),
        };
        let mut words = words_of(command)?;
        for word in &mut words {
            *word = filled(word, data.as_ref());
        }
        let mut process = Process::start_words(&words)?;
        let deadline = Instant::now() + timing.start();
        let Some(line) = process.line(deadline) else {
            let how = match process.wait(Instant::now() + timing.death()) {
                Some(status) => format!("it ended with {status}"),
                None => "it printed nothing".to_owned(),
            };
            return Err(format!(
                "{command:?} did not say where it listens (its first line must be \"listening on chat://HOST:PORT\"): {how}{}{PORT_ADVICE}",
                said(&process.error_lines(Instant::now() + timing.error_output()))
            ));
        };
        let Some(address) = line.strip_prefix(LISTENING) else {
            return Err(format!(
                "{command:?} printed {line:?} first, where \"listening on chat://HOST:PORT\" was expected"
            ));
        };
        Ok(Self {
            place: Place::resolve(address, trust)?,
            source: source.clone(),
            timing,
            process: Some(process),
            data,
            connections_opened: 0,
        })
    }

    /// A word of a command line, with the folder of this server in it.
    pub fn fill(&self, word: &str) -> String {
        filled(word, self.data.as_ref())
    }

    /// Ends the server and starts it anew, with an empty room.
    pub fn restart(&mut self) -> Result<(), String> {
        self.end();
        self.data = None;
        *self = Self::open(&self.source, self.timing)?;
        Ok(())
    }

    /// Ends the server and starts it with the room that it kept.
    pub fn come_back(&mut self) -> Result<(), String> {
        self.end();
        let data = self.data.take();
        *self = Self::open_with(&self.source, self.timing, data)?;
        Ok(())
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate();
            process.wait(Instant::now() + self.timing.shutdown());
        }
    }

    /// Whether its caps leave no room for a play, because it may still count connections
    /// of the plays before.
    pub fn is_full(&self, need: Need, caps: ConnectionCaps) -> bool {
        let max = caps.at_once().into_iter().chain(caps.minute).min();
        max.is_some_and(|max| self.connections_opened.saturating_add(need.in_all) > max)
    }

    /// How its process died, if it did.
    pub fn death(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let status = process.ended()?;
        Some(format!(
            "the server's process ended by itself with {status}{}",
            said(&process.error_lines(Instant::now() + self.timing.error_output()))
        ))
    }
}

/// What a first server often lacks.
const PORT_ADVICE: &str = "; print that line as soon as the server listens, flush it, and let it take a free port (port 0), since the suite starts several servers at a time";

fn filled(word: &str, data: Option<&DataFolder>) -> String {
    match data {
        Some(data) => word.replace(DATA, &data.path().to_string_lossy()),
        None => word.to_owned(),
    }
}

fn said(lines: &str) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!("; its error output: {lines}")
    }
}
