//! History file: typed lines in the user's state folder, which only the user may read.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::libc::O_NOFOLLOW;

use super::history::{LINES_MAX, escape};
use crate::cli;
use crate::files;

/// The most bytes that are read.
const BYTES_MAX: u64 = 4 << 20;

/// The file below the state folder.
const FILE: &str = "chat/history";

/// `$XDG_STATE_HOME/chat/history`, by default below `~/.local/state`.
fn path() -> Option<PathBuf> {
    let state = cli::variable("XDG_STATE_HOME").map(PathBuf::from);
    // The standard says to ignore a relative path.
    let state = state.filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(cli::variable("HOME")?).join(".local/state")));
    Some(state?.join(FILE))
}

/// What the file holds; nothing if there is none.
///
/// # Errors
///
/// Why it cannot be read.
pub(super) fn read() -> io::Result<String> {
    let Some(path) = path() else {
        return Ok(String::new());
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW)
        .open(&path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut content)?;
    let content = String::from_utf8_lossy(&content).into_owned();
    let lines = content.lines().count();
    if lines > 2 * LINES_MAX {
        let kept = content.lines().skip(lines - LINES_MAX);
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        files::write(&path, kept.as_bytes())?;
    }
    Ok(content)
}

/// Appends one line.
///
/// # Errors
///
/// Why it cannot be written.
pub(super) fn append(line: &str) -> io::Result<()> {
    let Some(path) = path() else {
        return Ok(());
    };
    let mut file = files::append_private(&path)?;
    // One write: the lines of several clients do not mix.
    file.write_all(format!("{}\n", escape(line)).as_bytes())
}
