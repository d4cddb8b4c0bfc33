//! `chat-server`: options in, a running server out.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use chat::server::{Server, options::Options};
use clap::{CommandFactory, Parser, error::ErrorKind};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// What a program is told that was ended by a second signal: as if the signal
/// had ended it.
const EXIT_CODE_INTERRUPTED: i32 = 130;

/// How many lines of the log may wait for standard error; those beyond it are
/// dropped, and counted.
const LOG_LINES_WAITING_MAX: usize = 10_000;

/// How long the end waits for the log to be written, in milliseconds.
const LOG_FLUSH_MS: u64 = 500;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(options: &Options) -> Result<()> {
    let limits = options.limits().unwrap_or_else(|sentence| {
        // Like any other wrong usage: the sentence, exit code 2.
        Options::command()
            .error(ErrorKind::ValueValidation, sentence)
            .exit()
    });
    let _log = start_log(options.verbose)?;
    // As many connections as the system allows; what is lacking shows when accepting.
    let _ = rlimit::increase_nofile_limit(u64::MAX);

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::bind(&options.listen, limits)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = server.local_addr()?;
    let _port_file = match &options.port_file {
        Some(path) => Some(PortFile::write(path, address.port())?),
        None => None,
    };
    announce(address);

    server
        .run(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tokio::spawn(async move {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                std::process::exit(EXIT_CODE_INTERRUPTED);
            });
        })
        .await;
    Ok(())
}

/// Says where the server listens: on standard output for programs, and how to
/// join on standard error for people.
fn announce(address: SocketAddr) {
    let mut stdout = std::io::stdout().lock();
    // Whoever closed standard output does not want to know.
    let _ = writeln!(stdout, "listening on chat://{address}").and_then(|()| stdout.flush());
    if std::io::stderr().is_terminal() {
        eprintln!("join with: {} chat://{address} YOUR_NAME", client_command());
    }
}

/// How to start the client: by its path where it lies beside this program, as
/// after a build, so that the line can be pasted as it stands.
fn client_command() -> String {
    let beside = || -> Option<PathBuf> {
        let path = std::env::current_exe().ok()?.with_file_name("chat-client");
        let folder = std::env::current_dir().ok()?;
        path.exists()
            .then(|| path.strip_prefix(folder).unwrap_or(&path).to_owned())
    };
    beside().map_or_else(
        || "chat-client".to_owned(),
        |path| path.display().to_string(),
    )
}

fn start_log(verbose: u8) -> Result<LogEnd> {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let log = Log::start().context("cannot start a thread for the log")?;
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would say so on standard error, and panic if that is what is closed.
        .log_internal_errors(false)
        .with_env_filter(
            EnvFilter::builder()
                .with_default_directive(level.into())
                .from_env_lossy(),
        )
        .init();
    Ok(LogEnd(log))
}

/// What goes to the thread that writes the log.
enum LogItem {
    Line(Vec<u8>),
    /// Tell when everything before is written.
    Flush(SyncSender<()>),
}

/// Writes the log from a thread of its own. Standard error can stand still, as a
/// terminal does after Ctrl-S and a pipe that nobody empties: neither the room nor
/// a signal may wait for that.
#[derive(Clone)]
struct Log {
    items: SyncSender<LogItem>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    fn start() -> std::io::Result<Self> {
        let (items, waiting) = sync_channel(LOG_LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        thread::Builder::new().name("log".to_owned()).spawn({
            let dropped = Arc::clone(&dropped);
            move || write_log(&waiting, &dropped)
        })?;
        Ok(Self { items, dropped })
    }
}

/// What formats a line of the log writes it at one stroke.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.items.try_send(LogItem::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_log(items: &Receiver<LogItem>, dropped: &AtomicU64) {
    let mut stderr = std::io::stderr();
    for item in items {
        // Whoever closed standard error does not want to know.
        match item {
            LogItem::Line(line) => {
                let _ = stderr.write_all(&line);
            }
            LogItem::Flush(done) => {
                let _ = done.try_send(());
            }
        }
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(
                stderr,
                "{dropped} lines of the log are missing: standard error stood still"
            );
        }
    }
}

/// Waits for the last lines of the log when it is dropped, but not for ever.
struct LogEnd(Log);

impl Drop for LogEnd {
    fn drop(&mut self) {
        let (done, is_done) = sync_channel(1);
        if self.0.items.try_send(LogItem::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(Duration::from_millis(LOG_FLUSH_MS));
        }
    }
}

/// A file that holds the port for as long as the server listens.
struct PortFile(PathBuf);

impl PortFile {
    /// Writes beside `path` and renames, so that a script that waits for the file
    /// never reads half of it.
    fn write(path: &Path, port: u16) -> Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        std::fs::write(&beside, format!("{port}\n"))
            .and_then(|()| std::fs::rename(&beside, path))
            .with_context(|| format!("cannot write the port to {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
