//! The control socket as a file: a Unix socket that only the server's user can open, and
//! that takes the place of one whose server is dead.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::SocketAddr,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// Who opens the socket controls the server.
const SOCKET_MODE: u32 = 0o600;

/// The folder in which the socket is made, so that nobody opens it before it has its mode.
const FOLDER_MODE: u32 = 0o700;

/// The socket's name in it.
const BESIDE_NAME: &str = "s";

/// How long a server may take to accept before it counts as alive, in milliseconds.
const PROBE_MS_MAX: u64 = 1_000;

/// A socket file, removed when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

/// Listens at `path`.
///
/// # Errors
///
/// A server that runs listens there, something else than a socket stands there, or the
/// system refuses.
pub(super) async fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    check_place(path).await?;
    let folder = beside(path, getrandom::u64().map_err(io::Error::other)?);
    DirBuilder::new().mode(FOLDER_MODE).create(&folder)?;
    let made = make(&folder.join(BESIDE_NAME), path);
    let _ = fs::remove_dir(&folder);
    made
}

/// The folder in which the socket of `path` is made.
fn beside(path: &Path, random: u64) -> PathBuf {
    path.with_file_name(format!(".chat-{random:016x}"))
}

/// Whether the socket of a server may be at `path`, whether or not one is there.
///
/// # Errors
///
/// The path is too long, or something else than a socket stands there.
pub(super) fn check(path: &Path) -> io::Result<()> {
    // One that is too long could be made, and nobody could open it.
    for path in [path, &beside(path, 0).join(BESIDE_NAME)] {
        SocketAddr::from_pathname(path).map_err(|_| {
            let sentence = "the path is too long for a socket; choose a shorter one";
            io::Error::new(ErrorKind::InvalidInput, sentence)
        })?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let sentence = "something else than a socket stands there, and it is not replaced";
            Err(io::Error::new(ErrorKind::AlreadyExists, sentence))
        }
        _ => Ok(()),
    }
}

/// Makes the socket at `beside` and moves it to `path`, which replaces one that is there.
fn make(beside: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = UnixListener::bind(beside)?;
    let moved = fs::set_permissions(beside, Permissions::from_mode(SOCKET_MODE))
        .and_then(|()| fs::symlink_metadata(beside))
        .and_then(|metadata| {
            fs::rename(beside, path)?;
            Ok(metadata)
        });
    match moved {
        Ok(metadata) => Ok((
            listener,
            SocketFile {
                path: path.to_owned(),
                device_and_inode: (metadata.dev(), metadata.ino()),
            },
        )),
        Err(error) => {
            let _ = fs::remove_file(beside);
            Err(error)
        }
    }
}

/// Whether a socket may be put at `path`: nothing is there, or the socket of a server that
/// is dead.
async fn check_place(path: &Path) -> io::Result<()> {
    check(path)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let probe = timeout(
        Duration::from_millis(PROBE_MS_MAX),
        UnixStream::connect(path),
    );
    match probe.await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "a server that runs listens there; stop it, or choose another path",
        )),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.device_and_inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("control");
        let (listener, file) = listen(&path).await.expect("nothing is there");
        let mode = fs::metadata(&path).expect("it is there").mode() & 0o777;
        assert_eq!(mode, SOCKET_MODE);
        let refused = listen(&path).await.expect_err("a server listens");
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        // As a server that was killed leaves it.
        drop(listener);
        let (_second, second_file) = listen(&path).await.expect("its server is dead");
        drop(file);
        assert!(path.exists(), "it is that of the second");
        drop(second_file);
        let left = fs::read_dir(folder.path()).expect("it is there").count();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn a_path_that_nobody_could_open_is_refused() {
        let folder = tempfile::tempdir().expect("a place for files");
        // The second is short enough for a socket, which could not be made beside it.
        let deep = Path::new("/").join("d".repeat(90)).join("c");
        for path in [folder.path().join("x".repeat(120)), deep] {
            let refused = listen(&path).await.expect_err("it is too long");
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        }
        let left = fs::read_dir(folder.path()).expect("it is there").count();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn only_a_socket_is_replaced() {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("control");
        fs::write(&path, "precious").expect("ours");
        let refused = listen(&path).await.expect_err("a file is there");
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("it is there"), b"precious");
    }
}
