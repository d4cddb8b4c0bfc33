//! Files: uploads and downloads over the connection of a session (CHAT-FILE). They go on
//! where a lost connection has cut them.

use std::collections::HashMap;
use std::fmt;
use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::fs::File as Source;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};

use crate::wire::{Error, ErrorCode, File, FileData, FileState, GetFile, PutFile, client_envelope};

/// How many pieces of an upload may be without an answer, and how many a download asks for
/// at a time: enough for a long link, little enough to hold in memory.
const PIECES_UNANSWERED_MAX: u64 = 8;

/// How many answers may wait for a transfer: those of one window, and a few of the one
/// before.
const ANSWERS_QUEUED_MAX: usize = 4 * PIECES_UNANSWERED_MAX as usize;

/// How long the server may be silent about a transfer, in milliseconds. A connection may
/// be lost and made again meanwhile.
const SILENCE_MS_MAX: u64 = 60_000;

/// How often a transfer begins again where the server says that a piece does not fit.
const RESTARTS_MAX: u32 = 16;

/// How much longer it waits each time, in milliseconds.
const RESTART_MS: u64 = 20;

/// How much of a file is read at once to compute its hash, in bytes.
const HASH_BYTES: usize = 64 * 1024;

type Hash = [u8; 32];

/// A message for a transfer.
#[derive(Debug)]
pub(crate) enum Answer {
    State(FileState),
    Data(FileData),
    Error(Error),
}

/// What a transfer sends.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: client_envelope::Message,
    /// Where the answers go from now on.
    pub(crate) answers: Option<(Hash, mpsc::Sender<Answer>)>,
}

/// The transfers that wait for the server, by file.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    waiting: HashMap<Hash, mpsc::Sender<Answer>>,
}

impl Transfers {
    /// A transfer sends something: where its answers go.
    pub(crate) fn sends(&mut self, outgoing: Outgoing) -> client_envelope::Message {
        if let Some((hash, answers)) = outgoing.answers {
            self.waiting.retain(|_, waiting| !waiting.is_closed());
            self.waiting.insert(hash, answers);
        }
        outgoing.message
    }

    /// Hands an answer to its transfer. One that takes nothing has enough of them.
    pub(crate) fn arrived(&mut self, sha256: &[u8], answer: Answer) {
        let waiting = Hash::try_from(sha256).ok();
        if let Some(waiting) = waiting.and_then(|hash| self.waiting.get(&hash)) {
            let _ = waiting.try_send(answer);
        }
    }

    /// The connection is lost: every transfer begins again where it was.
    pub(crate) fn lost(&mut self) {
        self.waiting.clear();
    }
}

/// What a transfer has with its session.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    /// The longest piece, in bytes.
    pub(crate) piece_bytes: u64,
    /// One download at a time: a GetFile takes the place of the one before.
    pub(crate) turn: Arc<Mutex<()>>,
}

/// Why a file was not sent or fetched.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// The server has not granted files, or was not asked to.
    NotGranted,
    /// The file cannot be read or written.
    Io(std::io::Error),
    /// It is empty, or no file.
    Empty,
    /// Its name is not one that a chat may give (CHAT-FILE-8).
    Name,
    /// It changed while it was read.
    Changed,
    /// What came is not the file (CHAT-FILE-20).
    Mismatch,
    /// The server refused it.
    Refused {
        /// Why; [`ErrorCode::Unspecified`] for a code that this library does not know.
        code: ErrorCode,
        /// The server's sentence about it; can be empty, and is not safe to print as it
        /// is.
        detail: String,
    },
    /// The server said nothing about it for too long.
    Silent,
    /// The session is over.
    Ended,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => write!(f, "the server takes no files"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Empty => write!(f, "it is empty, or no file"),
            Self::Name => write!(f, "its name cannot be sent, rename it"),
            Self::Changed => write!(f, "it changed while it was read, try again"),
            Self::Mismatch => write!(f, "what came is another file than was announced"),
            Self::Refused { code, detail } => {
                write!(
                    f,
                    "the server refused it ({}): {detail:?}",
                    code.as_str_name()
                )
            }
            Self::Silent => write!(f, "the server says nothing about it, try again later"),
            Self::Ended => write!(f, "the session is over"),
        }
    }
}

impl std::error::Error for FileError {}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// How a transfer goes on after an answer.
enum Next {
    /// It has got on.
    On,
    /// It begins again with a message that says where it is.
    Again,
}

impl Transfer {
    /// Waits a little longer each time: what a lost connection has left at the server may
    /// still be on its way to the disk.
    async fn wait(&self, restarts: u32) -> Result<(), FileError> {
        if restarts > RESTARTS_MAX {
            return Err(FileError::Silent);
        }
        sleep(Duration::from_millis(RESTART_MS) * restarts).await;
        Ok(())
    }

    async fn send(&self, outgoing: Outgoing) -> Result<(), FileError> {
        let sent = self.outgoing.send(outgoing).await;
        sent.map_err(|_| FileError::Ended)
    }

    /// Uploads a file, and returns what a chat names it by. `progress` is told how much the
    /// server has.
    pub(crate) async fn attach(
        &self,
        path: &Path,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<File, FileError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| is_file_name(name));
        let name = name.ok_or(FileError::Name)?.to_owned();
        let mut source = Source::open(path).await?;
        let metadata = source.metadata().await?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(FileError::Empty);
        }
        let (hash, size) = hash_of(&mut source).await?;
        progress(0, size);
        let mut restarts = 0;
        while let Next::Again = self.put(&mut source, hash, size, &mut progress).await? {
            restarts += 1;
            self.wait(restarts).await?;
        }
        Ok(File {
            sha256: hash.to_vec(),
            size,
            name,
        })
    }

    /// Uploads what the server does not have yet.
    async fn put(
        &self,
        source: &mut Source,
        hash: Hash,
        size: u64,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<Next, FileError> {
        let (answers, mut answered) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let sha256 = hash.to_vec();
        let message = client_envelope::Message::PutFile(PutFile { sha256, size });
        self.send(Outgoing {
            message,
            answers: Some((hash, answers)),
        })
        .await?;
        let Some(have) = state(&mut answered).await? else {
            return Ok(Next::Again);
        };
        progress(have, size);
        let (mut have, mut sent) = (have, have);
        source.seek(SeekFrom::Start(have)).await?;
        while have < size {
            let window = PIECES_UNANSWERED_MAX.saturating_mul(self.piece_bytes);
            if sent < size && sent - have < window {
                let bytes = self.piece_bytes.min(size - sent);
                let data = read_piece(source, bytes).await?;
                let piece = FileData {
                    sha256: hash.to_vec(),
                    offset: sent,
                    data,
                };
                sent += bytes;
                self.send(Outgoing {
                    message: client_envelope::Message::FileData(piece),
                    answers: None,
                })
                .await?;
                continue;
            }
            match state(&mut answered).await? {
                Some(now) if now > have && now <= size => have = now,
                _ => return Ok(Next::Again),
            }
            progress(have, size);
        }
        Ok(Next::On)
    }

    /// Fetches what `target` lacks of a file: it has the first `have` bytes already.
    /// Checks the hash of all.
    pub(crate) async fn fetch<T: AsyncRead + AsyncWrite + AsyncSeek + Unpin>(
        &self,
        file: &File,
        target: &mut T,
        have: u64,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), FileError> {
        let hash = Hash::try_from(file.sha256.as_slice()).map_err(|_| FileError::Mismatch)?;
        let size = file.size;
        let mut have = have.min(size);
        let mut hasher = Sha256::new();
        target.seek(SeekFrom::Start(0)).await?;
        hash_more(target, have, &mut hasher).await?;
        let mut restarts = 0;
        while have < size {
            let before = have;
            progress(have, size);
            let got = self.get(hash, size, &mut have, target, &mut hasher, &mut progress);
            if let Next::Again = got.await?
                && have == before
            {
                restarts += 1;
                self.wait(restarts).await?;
            }
        }
        target.flush().await?;
        match hasher.finalize()[..] == hash {
            true => Ok(()),
            false => Err(FileError::Mismatch), // CHAT-FILE-20
        }
    }

    /// Fetches one window.
    async fn get<T: AsyncWrite + Unpin>(
        &self,
        hash: Hash,
        size: u64,
        have: &mut u64,
        target: &mut T,
        hasher: &mut Sha256,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<Next, FileError> {
        let _turn = self.turn.lock().await;
        let (answers, mut answered) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let length = PIECES_UNANSWERED_MAX
            .saturating_mul(self.piece_bytes)
            .min(size - *have);
        let end = *have + length;
        self.send(Outgoing {
            message: client_envelope::Message::GetFile(GetFile {
                sha256: hash.to_vec(),
                offset: *have,
                length,
            }),
            answers: Some((hash, answers)),
        })
        .await?;
        while *have < end {
            match answer(&mut answered).await? {
                Some(Answer::Data(piece)) if piece.offset == *have && !piece.data.is_empty() => {
                    let bytes = piece.data.len() as u64;
                    if bytes > end - *have {
                        return Err(FileError::Mismatch);
                    }
                    target.write_all(&piece.data).await?;
                    hasher.update(&piece.data);
                    *have += bytes;
                    progress(*have, size);
                }
                Some(Answer::Error(error)) => return Err(refused(error)),
                // Of an earlier window.
                Some(Answer::Data(_) | Answer::State(_)) => {}
                None => return Ok(Next::Again),
            }
        }
        Ok(Next::On)
    }
}

/// The next answer; `None` if the connection was lost.
async fn answer(answered: &mut mpsc::Receiver<Answer>) -> Result<Option<Answer>, FileError> {
    let wait = Duration::from_millis(SILENCE_MS_MAX);
    timeout(wait, answered.recv())
        .await
        .map_err(|_| FileError::Silent)
}

/// How much the server has; `None` to ask again.
async fn state(answered: &mut mpsc::Receiver<Answer>) -> Result<Option<u64>, FileError> {
    loop {
        match answer(answered).await? {
            Some(Answer::State(state)) => return Ok(Some(state.have)),
            Some(Answer::Error(error)) if error.code() == ErrorCode::FileMismatch => {
                return Ok(None);
            }
            Some(Answer::Error(error)) => return Err(refused(error)),
            Some(Answer::Data(_)) => {}
            None => return Ok(None),
        }
    }
}

fn refused(error: Error) -> FileError {
    FileError::Refused {
        code: error.code(),
        detail: error.detail,
    }
}

/// The hash and the size of a file.
async fn hash_of(source: &mut Source) -> Result<(Hash, u64), FileError> {
    let mut hasher = Sha256::new();
    let size = hash_more(source, u64::MAX, &mut hasher).await?;
    Ok((hasher.finalize().into(), size))
}

/// Reads at most so many bytes and adds them to a hash. Returns how many there were.
async fn hash_more<R: AsyncRead + Unpin>(
    source: &mut R,
    bytes: u64,
    hasher: &mut Sha256,
) -> Result<u64, FileError> {
    let mut rest = source.take(bytes);
    let mut buffer = vec![0; HASH_BYTES];
    let mut count = 0;
    loop {
        match rest.read(&mut buffer).await? {
            0 => return Ok(count),
            read => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                count += read as u64;
            }
        }
    }
}

async fn read_piece(source: &mut Source, bytes: u64) -> Result<Vec<u8>, FileError> {
    // A piece is small.
    let mut data = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    source
        .read_exact(&mut data)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => FileError::Changed,
            _ => FileError::Io(error),
        })?;
    Ok(data)
}

/// CHAT-FILE-8
fn is_file_name(name: &str) -> bool {
    let is_forbidden = |it: char| crate::text::is_forbidden(it) || matches!(it, '/' | '\\' | ':');
    (1..=128).contains(&name.len()) && !name.starts_with('.') && !name.chars().any(is_forbidden)
}
