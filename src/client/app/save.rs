//! Saving: fetches a file that a message names into a folder. Never over a file that is
//! there, never outside the folder; a download that was broken goes on (CHAT-FILE-19).

use std::fs::{OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::client::{FileError, Sender};
use crate::wire::File;

/// How many names are tried where files of that name are there already.
const NAMES_TRIED_MAX: u32 = 1_000;

/// Where a file goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Into this folder, under the name that its sender gave it, or one like it.
    Folder(PathBuf),
    /// To this path of the user.
    Path(PathBuf),
}

/// Fetches a file, and says where it is. `progress` as for
/// [`Session::fetch`](crate::client::Session::fetch).
pub(super) async fn save(
    sender: &Sender,
    file: &File,
    target: &Target,
    progress: impl FnMut(u64, u64),
) -> Result<PathBuf, FileError> {
    let folder = match target {
        Target::Folder(folder) => folder.clone(),
        Target::Path(path) if path.exists() => {
            return Err(std::io::Error::from(ErrorKind::AlreadyExists).into());
        }
        Target::Path(path) => {
            let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
            parent.unwrap_or(Path::new(".")).to_owned()
        }
    };
    // The hash is the name of what is not whole, so that it is found again.
    let part = folder.join(format!(".{}.part", hex(&file.sha256)));
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&part)?;
    // Two programs that fetch it into one folder would write the same part.
    if let Err(TryLockError::WouldBlock) = opened.try_lock() {
        let reason = "another program fetches it into this folder";
        return Err(std::io::Error::new(ErrorKind::WouldBlock, reason).into());
    }
    let mut have = opened.metadata()?.len();
    if have > file.size {
        opened.set_len(0)?;
        have = 0;
    }
    let mut whole = tokio::fs::File::from_std(opened);
    match sender.fetch(file, &mut whole, have, progress).await {
        Ok(()) => whole.sync_all().await?,
        Err(error) => {
            // Nothing of it can be used.
            if let FileError::Mismatch = error {
                let _ = std::fs::remove_file(&part);
            }
            return Err(error);
        }
    }
    let path = match target {
        Target::Path(path) => take_name(path)?,
        Target::Folder(folder) => free_name(folder, &file.name)?,
    };
    put(&part, &path)?;
    Ok(path)
}

/// Gives a file a name that was taken for it.
fn put(part: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::rename(part, path).inspect_err(|_| {
        // It is empty, and would be taken for the file.
        let _ = std::fs::remove_file(path);
    })
}

/// Takes a path that nothing has. What is there then is empty, and ours.
fn take_name(path: &Path) -> std::io::Result<PathBuf> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(path.to_owned())
}

/// Takes the name in the folder, or `name (2)`, and so on.
fn free_name(folder: &Path, name: &str) -> std::io::Result<PathBuf> {
    let name = plain_name(name);
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (&*name, String::new()),
    };
    for number in 1..=NAMES_TRIED_MAX {
        let tried = match number {
            1 => name.clone(),
            _ => format!("{stem} ({number}){extension}"),
        };
        match take_name(&folder.join(tried)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            taken => return taken,
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// A name that is no path, whatever a server or a member has written.
fn plain_name(name: &str) -> String {
    let is_plain = |it: &char| !(it.is_control() || matches!(it, '/' | '\\' | ':'));
    let plain: String = name.chars().filter(is_plain).take(100).collect();
    let plain = plain.trim_start_matches(['.', ' ', '-']).to_owned();
    match plain.is_empty() {
        true => "file".to_owned(),
        false => plain,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(32)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_a_path() {
        for (name, plain) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "etcpasswd"),
            ("/etc/passwd", "etcpasswd"),
            (".bashrc", "bashrc"),
            ("..", "file"),
            ("-rf", "rf"),
            ("a\nb\0c", "abc"),
            ("", "file"),
            ("C:\\x", "Cx"),
        ] {
            assert_eq!(plain_name(name), plain, "{name:?}");
        }
    }

    #[test]
    fn a_name_is_given_back_where_there_is_nothing_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = free_name(folder.path(), "a.tar").expect("a free name");
        assert!(put(&folder.path().join("none"), &path).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_there_keeps_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let names: Vec<_> = (0..3)
            .map(|_| free_name(folder.path(), "a.tar").expect("a free name"))
            .map(|path| path.file_name().expect("a name").to_owned())
            .collect();
        assert_eq!(names, ["a.tar", "a (2).tar", "a (3).tar"]);
        let path = folder.path().join("a.tar");
        assert!(take_name(&path).is_err());
    }
}
