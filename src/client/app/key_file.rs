//! Key file: the client's secret key in the user's data folder, which only the user may
//! read. Made on first use.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::cli;
use crate::client::Key;

/// The folder of the client below the data folder.
const FOLDER: &str = "chat-client";

/// The file in it.
const FILE: &str = "key";

/// More than a key file has, in bytes.
const BYTES_MAX: u64 = 1_024;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The bits of a mode that let others read or write.
const OTHERS_BITS: u32 = 0o077;

/// Why there is no key.
#[derive(Debug)]
pub(super) enum KeyError {
    /// None could be made: the client can do without.
    NotMade(String),
    /// There is one, and it cannot be used: the client must not go on as another.
    Unusable(String),
}

/// Where the client keeps what belongs to the user: `$XDG_DATA_HOME/chat-client`, by
/// default below `~/.local/share`; `None` without a home.
pub(super) fn data_folder() -> Option<PathBuf> {
    let data = cli::variable("XDG_DATA_HOME").map(PathBuf::from);
    // The standard says to ignore a relative path.
    let data = data.filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(cli::variable("HOME")?).join(".local/share"));
    Some(data.or_else(home)?.join(FOLDER))
}

/// The key in the file at `path`, or in the default place; a new one if there is no file.
/// `None` without a home.
///
/// # Errors
///
/// A sentence that says what to do.
pub(super) fn load(path: Option<&Path>) -> Result<Option<Key>, KeyError> {
    let default = || data_folder().map(|folder| folder.join(FILE));
    let Some(path) = path.map(Path::to_owned).or_else(default) else {
        return Ok(None);
    };
    let read = |path: &Path| {
        read(path).map_err(|sentence| {
            KeyError::Unusable(format!("cannot use the key {}: {sentence}", path.display()))
        })
    };
    if let Some(key) = read(&path)? {
        return Ok(Some(key));
    }
    match make(&path) {
        Ok(key) => Ok(Some(key)),
        // Another client has made one at the same time.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(&path),
        Err(error) => Err(KeyError::NotMade(format!(
            "cannot make the key {}: {error}",
            path.display()
        ))),
    }
}

/// Reads a key; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Key>, String> {
    let file = OpenOptions::new()
        .read(true)
        // A pipe must not make the client wait.
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) if is_link(path) => return Err("it is a symbolic link".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if metadata.permissions().mode() & OTHERS_BITS != 0 {
        return Err("others may read it: make it your own with chmod 600".to_owned());
    }
    let mut text = String::new();
    file.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let key = Key::parse(&text);
    key.map(Some)
        .ok_or_else(|| "it holds no key; move it away, and a new one is made".to_owned())
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Makes a key and its file, whole or not at all, where there is none.
fn make(path: &Path) -> io::Result<Key> {
    let key = Key::generate().ok_or_else(|| io::Error::other("the system has no randomness"))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)?;
    }
    let random = getrandom::u64().map_err(io::Error::other)?;
    let beside = path.with_file_name(format!(".chat-{random:016x}.tmp"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .custom_flags(O_NOFOLLOW)
        .open(&beside)?;
    let written = file
        .write_all(key.to_text().as_bytes())
        .and_then(|()| file.sync_all())
        // Never over a file or a link that is there.
        .and_then(|()| fs::hard_link(&beside, path));
    let _ = fs::remove_file(&beside);
    written?;
    // A key that is lost with the machine's power takes its names along.
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn unusable(path: &Path) -> String {
        match load(Some(path)) {
            Err(KeyError::Unusable(sentence)) => sentence,
            other => panic!("usable: {other:?}"),
        }
    }

    #[test]
    fn a_key_is_made_once_for_its_user_alone() {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("new/folder/key");
        let made = load(Some(&path)).expect("made").expect("a key");
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode(&path), FILE_MODE);
        assert_eq!(mode(&folder.path().join("new")), FOLDER_MODE);
        let again = load(Some(&path)).expect("read").expect("a key");
        assert_eq!(again.public(), made.public());
        let beside = fs::read_dir(path.parent().expect("a folder")).expect("ours");
        assert_eq!(beside.count(), 1, "no other file is left");
    }

    #[test]
    fn a_key_that_is_not_ones_own_is_refused() {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("key");
        load(Some(&path)).expect("made");
        let link = folder.path().join("link");
        symlink(&path, &link).expect("ours");
        assert!(unusable(&link).contains("symbolic link"));
        // Not even one that leads nowhere is followed.
        let dangling = folder.path().join("dangling");
        symlink(folder.path().join("nowhere"), &dangling).expect("ours");
        assert!(unusable(&dangling).contains("symbolic link"));
        assert!(!folder.path().join("nowhere").exists());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(unusable(&path).contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::write(&path, "chat-secret-key 12").expect("ours");
        assert!(unusable(&path).contains("holds no key"));
        assert!(unusable(folder.path()).contains("no regular file"));
    }

    #[test]
    fn a_key_that_cannot_be_made_is_none() {
        let folder = tempfile::tempdir().expect("a place for files");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("ours");
        let refused = load(Some(&file.join("key")));
        // A file stands where the folder would.
        assert!(refused.is_err(), "{refused:?}");
    }
}
