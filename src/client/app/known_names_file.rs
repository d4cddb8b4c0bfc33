//! Known names on disk: a file of the user's, with a line `host:port name sender_id` for
//! each name whose key is known. The last line about a name counts.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::key_file::data_folder;
use super::known_names::KnownNames;
use super::known_servers;
use crate::client::{Address, SenderId};

/// The file in the client's data folder.
const FILE: &str = "known_names";

/// The most bytes that the file may have: some ten thousand names.
const BYTES_MAX: u64 = 1 << 20;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Where the file is; `None` without a home.
pub(super) fn path() -> Option<PathBuf> {
    data_folder().map(|folder| folder.join(FILE))
}

/// The known names of a server; none if there is no file.
///
/// # Errors
///
/// Why it cannot be read.
pub(super) fn read(server: &Address) -> io::Result<KnownNames> {
    let mut known = KnownNames::default();
    let Some(path) = path() else {
        return Ok(known);
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path);
    let file = match file {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(known),
        file => file?,
    };
    let mut content = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut content)?;
    let server = known_servers::key(server);
    for line in String::from_utf8_lossy(&content).lines() {
        let mut words = line.split(' ');
        if words.next() == Some(&*server)
            && let (Some(name), Some(id)) = (words.next(), words.next())
            && let Some(id) = SenderId::parse(id)
        {
            known.add(name, id);
        }
    }
    Ok(known)
}

/// Adds a name of a server. A full file takes no more.
///
/// # Errors
///
/// Why it cannot be written.
pub(super) fn append(server: &Address, name: &str, id: SenderId) -> io::Result<()> {
    let Some(path) = path() else {
        return Ok(());
    };
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)?;
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(&path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let line = format!("{} {name} {id}\n", known_servers::key(server));
    if metadata.len() + line.len() as u64 > BYTES_MAX {
        return Ok(());
    }
    // One write: the lines of several clients do not mix.
    file.write_all(line.as_bytes())
}
