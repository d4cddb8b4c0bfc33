//! Log: lines on standard error, with a bound.
//!
//! They are written by a thread: a terminal that is being scrolled or a pipe that is not
//! read must not block the room. What does not fit into the queue is dropped.

mod bound;
mod line;

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use chat::{cli, server::options::LogFormat};
use jiff::Timestamp;
use tokio::task::AbortHandle;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::LevelFilter,
    layer::{Context, SubscriberExt},
    reload::{self, Handle},
    util::SubscriberInitExt,
};

use bound::{Bound, Class, Sums};
use line::{Format, Line};

/// How many log lines may wait to be written: the joins and leaves of a full room.
const LOG_LINES_QUEUED_MAX: usize = 20_000;

/// How often sums are looked for, in milliseconds.
const SUMS_INTERVAL_MS: u64 = 1_000;

/// The log of this process. Dropping it writes what is left.
pub struct Log {
    writer: Writer,
    level: Level,
    summing: AbortHandle,
    _thread: WorkerGuard,
}

/// Which events are logged, to be changed.
#[derive(Clone)]
pub struct Level(Handle<EnvFilter, Registry>);

impl Level {
    /// Logs more or less from now on. RUST_LOG overrides it here too.
    pub fn set(&self, verbose: u8) {
        // It fails only without a subscriber.
        let _ = self.0.reload(filter(verbose));
    }
}

/// Writes events as lines.
#[derive(Clone)]
struct Writer {
    format: Format,
    start: Instant,
    state: Arc<Mutex<(Bound, NonBlocking)>>,
}

impl Log {
    /// Begins to log, for the whole process.
    pub fn start(verbose: u8, format: LogFormat) -> Self {
        let (lines, thread) = NonBlockingBuilder::default()
            .buffered_lines_limit(LOG_LINES_QUEUED_MAX)
            .lossy(true)
            .finish(std::io::stderr());
        let writer = Writer {
            format: match format {
                LogFormat::Json => Format::Json,
                LogFormat::Text => Format::Text {
                    has_colours: std::io::stderr().is_terminal() && cli::is_colourful(),
                },
            },
            start: Instant::now(),
            state: Arc::new(Mutex::new((Bound::default(), lines))),
        };
        let (filter, handle) = reload::Layer::new(filter(verbose));
        tracing_subscriber::registry()
            .with(filter)
            .with(writer.clone())
            .init();
        let summing = tokio::spawn(sum_always(writer.clone())).abort_handle();
        Self {
            writer,
            level: Level(handle),
            summing,
            _thread: thread,
        }
    }

    /// What changes which events are logged.
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.summing.abort();
        self.writer.sum(true);
    }
}

/// Which events are logged: by `-v`, or as RUST_LOG says.
fn filter(verbose: u8) -> EnvFilter {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env_lossy();
    // What the client of NATS tells, the server tells in its own words.
    match ("async_nats=warn".parse(), std::env::var_os("RUST_LOG")) {
        (Ok(directive), None) if verbose < 2 => filter.add_directive(directive),
        _ => filter,
    }
}

async fn sum_always(writer: Writer) {
    let mut interval = tokio::time::interval(Duration::from_millis(SUMS_INTERVAL_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        writer.sum(false);
    }
}

impl<S: Subscriber> Layer<S> for Writer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::new(event);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (bound, lines) = &mut *state;
        // Who asks for more than INFO gets all of it.
        let is_admitted =
            line.level > tracing::Level::INFO || bound.admits(self.now_ms(), class(&line), &line);
        if is_admitted {
            write(lines, &line, self.format);
        }
    }
}

impl Writer {
    /// Logs the sums that are due, or all.
    fn sum(&self, all: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (bound, lines) = &mut *state;
        let Sums { repeated, left_out } = bound.sums(self.now_ms(), all);
        for (line, count) in repeated {
            write(lines, &line.with("repeated", count), self.format);
        }
        for (message, count) in left_out {
            let sentence = format!("too many lines: left out those that say {message:?}");
            let line = Line::of(tracing::Level::WARN, &sentence).with("lines", count);
            write(lines, &line, self.format);
        }
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

fn class(line: &Line) -> Class {
    match line.message.as_str() {
        _ if line.level <= tracing::Level::WARN => Class::Warning,
        "refused" => Class::Refused,
        _ => Class::Other,
    }
}

fn write(lines: &mut NonBlocking, line: &Line, format: Format) {
    // A clock that jiff cannot show is as good as none.
    let time = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let line = line.write(format, &format!("{time:.6}"));
    // Nobody may read it.
    let _ = lines.write_all(line.as_bytes());
}
