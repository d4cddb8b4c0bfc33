//! Input files: the one way in which the programs read a small file that an option names.
//!
//! The file may be a pipe, such as a shell's `<(command)` or one that another program
//! fills. A pipe that nobody writes to does not hold up the program for ever.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    libc::O_NONBLOCK,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// How long a pipe may take to be written, in milliseconds.
const PIPE_MS_MAX: u64 = 5_000;

/// Reads a text of at most `bytes_max`.
///
/// # Errors
///
/// When it is longer or no UTF-8, and as [`read_start`].
#[cfg(feature = "cli")]
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let (bytes, _) = read_start(path, bytes_max + 1)?;
    if bytes.len() as u64 > bytes_max {
        let sentence = format!("it is longer than {bytes_max} bytes");
        return Err(io::Error::other(sentence));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads the first `bytes_max` of a file, or all of it if it is shorter.
///
/// # Errors
///
/// When the system refuses, or nobody writes to a pipe.
pub(crate) fn read_start(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let deadline = Instant::now() + Duration::from_millis(PIPE_MS_MAX);
    let mut file = OpenOptions::new()
        .read(true)
        // A pipe opens without a writer.
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < bytes_max {
        let left = bytes_max - bytes.len() as u64;
        match (&mut file).take(left).read_to_end(&mut bytes) {
            // Before the first byte a pipe without a writer looks as if it had ended.
            Ok(_) if bytes.is_empty() && metadata.file_type().is_fifo() => {
                if wait(&file, deadline)?.contains(PollFlags::POLLHUP) {
                    break;
                }
            }
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(&file, deadline)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((bytes, metadata))
}

/// A sentence for the operator if every user of the machine can read a file that nobody
/// else should; `what` it is. A pipe, such as a shell's `<(command)`, has no other reader.
pub(crate) fn exposure(path: &Path, metadata: &Metadata, what: &str) -> Option<String> {
    const OTHERS_READ: u32 = 0o004;
    let is_exposed = metadata.is_file() && metadata.permissions().mode() & OTHERS_READ != 0;
    let path = path.display();
    is_exposed
        .then(|| format!("everybody on this machine can read {what} {path}; chmod 600 {path}"))
}

/// Waits until something can be read, or the last writer has closed.
fn wait(file: &File, deadline: Instant) -> io::Result<PollFlags> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
    match poll(&mut polled, timeout) {
        Err(nix::errno::Errno::EINTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
        Ok(0) => {
            let sentence = format!("it is a pipe that nobody wrote to for {PIPE_MS_MAX} ms");
            Err(io::Error::new(ErrorKind::TimedOut, sentence))
        }
        Ok(_) => {
            let [polled] = &polled;
            let flags = polled.revents().unwrap_or(PollFlags::empty());
            // Also while data is left.
            Ok(match flags.contains(PollFlags::POLLIN) {
                true => PollFlags::POLLIN,
                false => flags,
            })
        }
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use std::{io::Write, thread};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn pipe(folder: &tempfile::TempDir) -> std::path::PathBuf {
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).expect("ours");
        path
    }

    #[test]
    fn a_pipe_without_a_writer_is_an_error() {
        let folder = tempfile::tempdir().expect("a place for files");
        let error = read_text(&pipe(&folder), 100).expect_err("nobody writes");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("nobody wrote"), "{error}");
    }

    #[test]
    fn a_pipe_is_read_to_its_end_however_late_it_is_written() {
        for text in ["", "a word", "\n"] {
            let folder = tempfile::tempdir().expect("a place for files");
            let path = pipe(&folder);
            let writer = thread::spawn({
                let path = path.clone();
                move || {
                    thread::sleep(Duration::from_millis(100));
                    let mut file = OpenOptions::new().write(true).open(path).expect("a reader");
                    for byte in text.bytes() {
                        thread::sleep(Duration::from_millis(20));
                        file.write_all(&[byte]).expect("a reader");
                    }
                }
            });
            assert_eq!(read_text(&path, 100).expect("a text"), text);
            writer.join().expect("it wrote");
        }
    }

    #[test]
    fn a_file_has_a_bound() {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").expect("ours");
        assert_eq!(read_text(&path, 5).expect("short enough"), "12345");
        let error = read_text(&path, 4).expect_err("too long");
        assert!(error.to_string().contains("longer than 4 bytes"), "{error}");
        assert_eq!(read_start(&path, 2).expect("its start").0, b"12");
        std::fs::write(&path, b"\xff").expect("ours");
        assert!(read_text(&path, 5).is_err());
    }
}
