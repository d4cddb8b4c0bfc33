//! The workload `files`: a member uploads a file and fetches it again, while two users
//! chat at a steady pace. It reports how fast the file goes, whether the pair loses a
//! message, and how much longer a message takes.
//!
//! Pieces are sent without waiting for the answer to the one before: the server takes
//! them one by one, and the system holds back what it does not take.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr},
    thread,
    time::Instant,
};

use chat::wire::{self, Capability, client_envelope::Message as Sent, server_envelope::Message};
use sha2::{Digest, Sha256};

use crate::{
    failure::Failure,
    hostile::{Pace, Run, User, chat, chat_until, join_pair},
    latency::Histogram,
    load::Spent,
    process::Process,
    progress::Progress,
    session::{Session, framed},
};

/// The member that has the file.
const NAME: &str = "filer";

/// After how many bytes the file begins again: a prime number, so that pieces differ.
const PATTERN_BYTES: usize = 65_521;

/// The longest piece, in bytes: more than any server allows.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Options of the workload.
pub struct Files {
    /// The size of the file.
    pub bytes: u64,
    /// How the pair chats: undisturbed for that long, and then until the file is there.
    pub pace: Pace,
}

/// Results of the workload.
pub struct Outcome {
    /// Messages of the pair, all of them delivered.
    pub messages: u64,
    pub quiet: Run,
    pub upload: Transfer,
    pub download: Transfer,
    pub peak_bytes: Option<u64>,
}

/// One way of the file.
pub struct Transfer {
    pub elapsed_s: f64,
    pub server_cpu_s: Option<f64>,
    /// The latency of the pair's messages meanwhile.
    pub latency: Histogram,
    /// How late this program sent them.
    pub late: Histogram,
}

/// Runs the workload. Fails if the pair loses a message, or the file is another.
pub fn run(
    files: &Files,
    address: SocketAddr,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let start = Instant::now();
    // Before the hash of a long file is computed: the server may refuse it.
    let mut member = Member::join(address, files.bytes)?;
    let content = Content::new(files.bytes)?;
    let (mut pair, _) = join_pair(address, &files.pace)?;
    let quiet = chat(&mut pair, &files.pace, start, server, progress)?;
    let mut transfer = |way: fn(&mut Member, &Content) -> Result<(), Failure>| {
        thread::scope(|scope| {
            let spent = Spent::begin(server);
            let way = scope.spawn(|| {
                let begun = Instant::now();
                way(&mut member, &content).map(|()| begun.elapsed())
            });
            let is_over = || way.is_finished();
            let pace = &files.pace;
            let (latency, late) = chat_until(is_over, &mut pair, pace, start, server, progress)?;
            let elapsed = way.join().expect("it does not panic")?;
            Ok::<_, Failure>(Transfer {
                elapsed_s: elapsed.as_secs_f64(),
                server_cpu_s: spent.end().0,
                latency,
                late,
            })
        })
    };
    let upload = transfer(Member::upload)?;
    let download = transfer(Member::download)?;
    Ok(Outcome {
        messages: pair.iter().map(User::sent).sum(),
        quiet,
        upload,
        download,
        peak_bytes: server.and_then(Process::peak_bytes),
    })
}

/// A file that no server has, without having it in memory.
struct Content {
    bytes: u64,
    sha256: Vec<u8>,
    /// The pattern, and so much of it again that any piece is in one place.
    pattern: Vec<u8>,
}

impl Content {
    fn new(bytes: u64) -> Result<Self, Failure> {
        let mut pattern = vec![0; PATTERN_BYTES];
        getrandom::fill(&mut pattern)
            .map_err(|error| Failure::unusable(format!("no random bytes: {error}")))?;
        while pattern.len() < PATTERN_BYTES + PIECE_BYTES_MAX {
            pattern.extend_from_within(..PATTERN_BYTES);
        }
        let mut content = Self {
            bytes,
            sha256: Vec::new(),
            pattern,
        };
        let mut hasher = Sha256::new();
        for (offset, length) in content.pieces(PIECE_BYTES_MAX) {
            hasher.update(content.at(offset, length));
        }
        content.sha256 = hasher.finalize().to_vec();
        Ok(content)
    }

    /// Where the pieces begin and how long they are.
    fn pieces(&self, length: usize) -> impl Iterator<Item = (u64, usize)> + use<> {
        let bytes = self.bytes;
        (0..bytes).step_by(length).map(move |offset| {
            let left = usize::try_from(bytes - offset).unwrap_or(length);
            (offset, left.min(length))
        })
    }

    fn at(&self, offset: u64, length: usize) -> &[u8] {
        // Less than PATTERN_BYTES.
        let begin = (offset % PATTERN_BYTES as u64) as usize;
        &self.pattern[begin..begin + length]
    }
}

/// The member with the file.
struct Member {
    session: Session,
    piece_bytes: usize,
}

impl Member {
    fn join(address: SocketAddr, bytes: u64) -> Result<Self, Failure> {
        let (session, registered) = Session::join(
            address,
            wire::Register {
                name: NAME.to_owned(),
                capabilities: vec![Capability::Files.into()],
                ..Default::default()
            },
        )?;
        let has_files = registered.capabilities().any(|it| it == Capability::Files);
        let limits = registered.limits.unwrap_or_default();
        let piece_bytes = (limits.file_chunk_bytes_max as usize).min(PIECE_BYTES_MAX);
        if !has_files || piece_bytes == 0 {
            return Err(Failure::unusable(
                "the server takes no files: start it with `--data DIR`",
            ));
        }
        if limits.file_bytes_max < bytes {
            return Err(Failure::unusable(format!(
                "the server takes files of {} bytes at the most: start it with `--file-bytes-max \
                 {bytes}`, or lower --bytes",
                limits.file_bytes_max
            )));
        }
        Ok(Self {
            session,
            piece_bytes,
        })
    }

    fn upload(&mut self, content: &Content) -> Result<(), Failure> {
        let put = wire::PutFile {
            sha256: content.sha256.clone(),
            size: content.bytes,
        };
        self.session.send(Sent::PutFile(put))?;
        self.expect_state(content, 0)?;
        let piece_bytes = self.piece_bytes;
        let mut writing = self.session.stream.try_clone()?;
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for (offset, length) in content.pieces(piece_bytes) {
                    let data = wire::FileData {
                        sha256: content.sha256.clone(),
                        offset,
                        data: content.at(offset, length).to_vec(),
                    };
                    writing.write_all(&framed(Sent::FileData(data)))?;
                }
                Ok::<_, std::io::Error>(())
            });
            for (offset, length) in content.pieces(piece_bytes) {
                let answered = self.expect_state(content, offset + length as u64);
                if answered.is_err() {
                    // The writer does not wait any longer.
                    let _ = self.session.stream.shutdown(Shutdown::Both);
                    return answered;
                }
            }
            let written = writer.join().expect("it does not panic");
            Ok(written?)
        })
    }

    fn download(&mut self, content: &Content) -> Result<(), Failure> {
        self.session.send(Sent::GetFile(wire::GetFile {
            sha256: content.sha256.clone(),
            offset: 0,
            length: 0,
        }))?;
        let mut received = 0;
        while received < content.bytes {
            let Message::FileData(data) = self.session.receive()? else {
                continue;
            };
            let length = data.data.len();
            let is_next = data.offset == received
                && (1..=self.piece_bytes).contains(&length)
                && data.data == content.at(received, length);
            if !is_next {
                return Err(Failure::lost(format!(
                    "the piece of the file that comes at {received} is another: \
                     {length} bytes, said to come at {}",
                    data.offset
                )));
            }
            received += length as u64;
        }
        Ok(())
    }

    /// Waits until the server says that it has so many bytes of the file.
    fn expect_state(&mut self, content: &Content, have: u64) -> Result<(), Failure> {
        loop {
            if let Message::FileState(state) = self.session.receive()? {
                if state.sha256 == content.sha256 && state.have == have {
                    return Ok(());
                }
                return Err(Failure::lost(format!(
                    "the server has {} bytes of the file rather than {have}",
                    state.have
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_are_the_same_file() {
        let content = Content::new(300_000).expect("random bytes");
        for length in [1_000, 16_384, PATTERN_BYTES, PIECE_BYTES_MAX] {
            let mut hasher = Sha256::new();
            let mut end = 0;
            for (offset, length) in content.pieces(length) {
                assert_eq!(offset, end);
                hasher.update(content.at(offset, length));
                end += length as u64;
            }
            assert_eq!(end, content.bytes);
            assert_eq!(hasher.finalize()[..], content.sha256);
        }
    }
}
