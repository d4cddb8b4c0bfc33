//! Hang-up: waits in threads until a stream has nobody at its other end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use tokio::sync::oneshot;

/// Waits in a thread until the input has no writer any more: everything to be read
/// exists already, though it may not have been read. A terminal has none when it is
/// closed.
pub(super) fn watch_input() -> io::Result<oneshot::Receiver<nix::Result<()>>> {
    in_thread("input-end", || {
        let input = io::stdin();
        let mode = SFlag::from_bits_truncate(fstat(&input)?.st_mode);
        // A file is complete.
        if mode & SFlag::S_IFMT == SFlag::S_IFREG {
            return Ok(());
        }
        wait_for_hang_up(input.as_fd())
    })
}

/// Waits in a thread until the output has no reader any more: otherwise a closed output
/// (`| head -1`) shows only at the next write.
pub(super) fn watch_output() -> io::Result<oneshot::Receiver<nix::Result<()>>> {
    // A file has no reader.
    in_thread("output-end", || wait_for_hang_up(io::stdout().as_fd()))
}

fn wait_for_hang_up(stream: BorrowedFd<'_>) -> nix::Result<()> {
    // No event is requested, so only a hang-up is reported.
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            told => return told.map(|_| ()),
        }
    }
}

/// Runs `work` in a detached thread and sends its result.
pub(super) fn in_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (over, is_over) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ = over.send(work());
        })?;
    Ok(is_over)
}
