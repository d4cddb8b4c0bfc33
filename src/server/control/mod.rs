//! Control socket: a Unix socket through which the operator looks at a running server and
//! acts on it, and the command line for it.
//!
//! | module | what it is |
//! |---|---|
//! | `ctl` | the client: `chat-server ctl` |
//! | `protocol` | requests and answers, as lines of JSON |
//! | `commands` | carries out a request |
//! | `socket` | the socket as a file |

mod commands;
pub mod ctl;
mod protocol;
mod socket;

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use self::{
    protocol::{Answer, Code, LINE_BYTES_MAX, Request},
    socket::SocketFile,
};
use super::{hub::Hub, kept_bans::KeptBans};

/// Where the socket of the packaged service is.
pub const DEFAULT_PATH: &str = "/run/chat-server/control";

/// How many operators may be connected at the same time; more wait.
const CONNECTIONS_MAX: usize = 16;

/// How long an operator may say nothing or read nothing, in milliseconds.
const IDLE_MS_MAX: u64 = 60_000;

/// How long to wait after the system refused to accept, in milliseconds.
const BACK_OFF_MS: u64 = 1_000;

/// Reads again what the server has read, as on SIGHUP. Returns what it did, or why it
/// changed nothing, in a sentence.
pub type Reload = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// Whether a control socket may be at `path`, as far as the path and what stands there tell.
///
/// # Errors
///
/// It may not.
pub(super) fn check_path(path: &Path) -> io::Result<()> {
    socket::check(path)
}

/// What a request may need.
struct Control {
    hub: Arc<Hub>,
    reload: Reload,
    /// Where bans and mutes are kept, if they are; held while they are changed, so that
    /// the last change is what is written last.
    kept: Arc<Mutex<Option<KeptBans>>>,
}

/// A control socket that is served. Dropping it ends that and removes the socket.
pub(super) struct Serving {
    _accepting: AbortOnDropHandle<()>,
    _file: SocketFile,
}

/// Serves the control socket at `path`. Bans are kept in `kept`.
///
/// # Errors
///
/// It cannot be had: another server has it, or something else stands there.
pub(super) async fn serve(
    path: &Path,
    hub: Arc<Hub>,
    reload: Reload,
    kept: Arc<Mutex<Option<KeptBans>>>,
) -> io::Result<Serving> {
    let (listener, file) = socket::listen(path).await?;
    let control = Arc::new(Control { hub, reload, kept });
    Ok(Serving {
        _accepting: AbortOnDropHandle::new(tokio::spawn(accept(listener, control))),
        _file: file,
    })
}

async fn accept(listener: UnixListener, control: Arc<Control>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &control).await {
                        debug!(%error, "a control connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "the control socket cannot accept for now");
                sleep(Duration::from_millis(BACK_OFF_MS)).await;
            }
        }
    }
}

/// Answers each request of one operator, until it says nothing more.
async fn converse(stream: UnixStream, control: &Control) -> io::Result<()> {
    let idle = Duration::from_millis(IDLE_MS_MAX);
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stream).take(LINE_BYTES_MAX as u64 + 1);
        let read = timeout(idle, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let is_too_long = read > LINE_BYTES_MAX;
        let answer = match is_too_long {
            true => Answer::refused(Code::Invalid, "the request is too long"),
            false => match serde_json::from_slice::<Request>(&line) {
                Ok(request) => commands::carry_out(request, control).await,
                Err(error) => Answer::refused(Code::Invalid, format!("no request: {error}")),
            },
        };
        let mut answer = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        answer.push(b'\n');
        timeout(idle, stream.write_all(&answer)).await??;
        if is_too_long {
            return Ok(());
        }
    }
}
