//! Output files: the one way in which the programs of this project write a file that an
//! option names.
//!
//! A name on the command line may be that of a device, a pipe or a planted link. None
//! of them is written, followed or replaced: only a regular file is. A file that is
//! written is complete from the moment it has its name; one that is appended to, such as
//! what a client remembers for its user, is for the user alone.

use std::{
    fs::{self, DirBuilder, File, FileType, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

/// Stands for the standard output where a file is named.
const STANDARD_OUTPUT: &str = "-";

/// A new file's mode, before the process's mask takes bits away.
const MODE: u32 = 0o666;

/// The mode of a file, and of a folder for it, that is for its user alone.
const PRIVATE_MODE: u32 = 0o600;
const PRIVATE_FOLDER_MODE: u32 = 0o700;

/// The bits of a mode that let others than its owner at a file.
const OTHERS_BITS: u32 = 0o077;

/// The bits of a mode that say who may read, write and run a file.
const PERMISSION_BITS: u32 = 0o777;

/// A regular file that this process has written.
#[derive(Debug)]
pub struct WrittenFile {
    path: PathBuf,
    /// Kept open, so that no other file gets its inode number.
    file: File,
}

/// Writes `content` to `path`, all or nothing: into a new file in the same folder,
/// under a name that nobody can guess, which then takes the place of `path`. A
/// regular file that stands there is replaced, not written into, and its
/// permissions are kept.
///
/// # Errors
///
/// A device, pipe, socket, symbolic link or folder stands at `path`: the error is a
/// sentence. Or the system refuses. Either way what was there is as it was, and no
/// other file is left behind.
pub fn write(path: &Path, content: &[u8]) -> io::Result<WrittenFile> {
    let replaced = regular_file(path)?;
    let random = getrandom::u64().map_err(io::Error::other)?;
    let beside = path.with_file_name(format!(".chat-{random:016x}.tmp"));
    let file = OpenOptions::new()
        .write(true)
        // O_EXCL: a file or link that stands there already is an error.
        .create_new(true)
        .mode(MODE)
        .custom_flags(O_NOFOLLOW)
        .open(&beside)?;
    let written = fill(&file, content, replaced.as_ref()).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    Ok(WrittenFile {
        path: path.to_owned(),
        file,
    })
}

/// Opens the file at `path` to append to it, for its user alone: makes it, and its
/// folders, where they are missing, and takes it from everybody else where they may read
/// it. One write of a line keeps it apart from those of other programs.
///
/// # Errors
///
/// Something else than a regular file stands at `path`, or the system refuses.
pub fn append_private(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER_MODE)
            .create(folder)?;
    }
    regular_file(path)?;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(PRIVATE_MODE)
        // What takes its place meanwhile is neither followed nor waited for.
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(refused(metadata.file_type()));
    }
    let mut permissions = metadata.permissions();
    if permissions.mode() & OTHERS_BITS != 0 {
        permissions.set_mode(PRIVATE_MODE);
        file.set_permissions(permissions)?;
    }
    Ok(file)
}

/// Checks the file of an option, as the command line gives it: [`write_or_print`] may
/// write it. A wrong name is reported before the work of the report, not after it.
///
/// # Errors
///
/// A sentence, as [`write_or_print`] has it.
pub fn writable(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str() != STANDARD_OUTPUT {
        regular_file(&path).map_err(|error| sentence(&path, &error))?;
    }
    Ok(path)
}

/// Writes a report that an option asks for: to the standard output where `path` is
/// `-`, and otherwise as [`write()`] does. So `/dev/stdout`, a symbolic link, is
/// refused like any other: which of the files behind such names may be replaced,
/// nobody can tell from the name.
///
/// # Errors
///
/// A sentence for people, which names `path`. A standard output that nobody reads
/// any more is no error.
pub fn write_or_print(path: &Path, content: &str) -> Result<(), String> {
    if path.as_os_str() == STANDARD_OUTPUT {
        let mut output = io::stdout().lock();
        let printed = output
            .write_all(content.as_bytes())
            .and_then(|()| output.flush());
        return match printed {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(format!("cannot write the standard output: {error}"))
            }
            _ => Ok(()),
        };
    }
    match write(path, content.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => Err(sentence(path, &error)),
    }
}

fn sentence(path: &Path, error: &io::Error) -> String {
    format!(
        "cannot write {}: {error} (`{STANDARD_OUTPUT}` is the standard output)",
        path.display()
    )
}

/// The regular file that stands at `path`, if anything does.
fn regular_file(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(metadata) => Err(refused(metadata.file_type())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl WrittenFile {
    /// Removes the file, unless another one stands in its place by now.
    pub fn remove(&self) {
        if self.is_in_place().unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let (here, written) = (fs::symlink_metadata(&self.path)?, self.file.metadata()?);
        Ok((here.dev(), here.ino()) == (written.dev(), written.ino()))
    }
}

fn fill(mut file: &File, content: &[u8], replaced: Option<&Metadata>) -> io::Result<()> {
    if let Some(replaced) = replaced {
        let mode = replaced.permissions().mode() & PERMISSION_BITS;
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    file.write_all(content)
}

/// Why nothing is written to a file of this type.
fn refused(found: FileType) -> io::Error {
    let what = if found.is_symlink() {
        "a symbolic link"
    } else if found.is_dir() {
        "a folder"
    } else if found.is_fifo() {
        "a pipe"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("it is {what}, and only a regular file is written or replaced"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{
        pty::openpty,
        sys::stat::Mode,
        unistd::{mkfifo, ttyname},
    };
    use std::os::unix::{fs::symlink, net::UnixListener};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a place for files")
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).expect("it is there").count()
    }

    /// What else than a regular file a name can lead to, as it is before and after.
    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = folder();
        let [target, link, dangling, fifo, socket, directory] =
            ["target", "link", "dangling", "fifo", "socket", "directory"]
                .map(|name| folder.path().join(name));
        fs::write(&target, "untouched").expect("ours");
        symlink(&target, &link).expect("ours");
        symlink("nowhere", &dangling).expect("ours");
        mkfifo(&fifo, Mode::S_IRWXU).expect("ours");
        let _listener = UnixListener::bind(&socket).expect("ours");
        fs::create_dir(&directory).expect("ours");
        let terminal = openpty(None, None).expect("a pty");
        let device = ttyname(&terminal.slave).expect("a device");
        let before = entries(folder.path());
        for (path, words) in [
            (&*link, "it is a symbolic link"),
            (&*dangling, "it is a symbolic link"),
            (&*fifo, "it is a pipe"),
            (&*socket, "it is a socket"),
            (&*directory, "it is a folder"),
            // Where no file can be made, also where this rule is broken.
            (&*device, "it is a device"),
            (Path::new("/dev/fd/1"), "it is a symbolic link"),
        ] {
            let kind = || fs::symlink_metadata(path).map(|is| (is.file_type(), is.ino()));
            let found = kind().expect("it is there");
            let error = write(path, b"new").expect_err("it must be refused");
            assert!(error.to_string().contains(words), "{path:?}: {error}");
            assert_eq!(kind().expect("it is still there"), found, "{path:?}");
        }
        assert_eq!(fs::read_to_string(&target).expect("text"), "untouched");
        assert_eq!(entries(folder.path()), before);
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_permissions() {
        let folder = folder();
        let path = folder.path().join("report");
        fs::write(&path, "old").expect("ours");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
        let old = File::open(&path).expect("it was just written");
        write(&path, b"new").expect("a regular file");
        assert_eq!(fs::read_to_string(&path).expect("text"), "new");
        assert_eq!(io::read_to_string(old).expect("text"), "old");
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & PERMISSION_BITS, 0o600);
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn a_private_file_is_appended_to_and_closed_to_others() {
        let folder = folder();
        let path = folder.path().join("a").join("b").join("known");
        let append = |text: &str| append_private(&path)?.write_all(text.as_bytes());
        append("one\n").expect("a new file");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & PERMISSION_BITS;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("a folder")), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o664)).expect("ours");
        append("two\n").expect("a regular file");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_to_string(&path).expect("text"), "one\ntwo\n");
        let [link, fifo] = ["link", "fifo"].map(|name| folder.path().join(name));
        symlink(&path, &link).expect("ours");
        mkfifo(&fifo, Mode::S_IRWXU).expect("ours");
        for (path, words) in [(&link, "a symbolic link"), (&fifo, "a pipe")] {
            let error = append_private(path).expect_err("it must be refused");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).expect("text"), "one\ntwo\n");
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = folder();
        let path = folder.path().join("name");
        let too_long = folder.path().join("x".repeat(1_000));
        assert!(write(&too_long, b"new").is_err());
        let missing = path.join("below");
        assert!(write(&missing, b"new").is_err());
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn only_the_file_that_was_written_is_removed() {
        let folder = folder();
        let path = folder.path().join("port");
        let first = write(&path, b"1\n").expect("a new file");
        // Of the same content, and of the first one's inode if that were free.
        let second = write(&path, b"1\n").expect("a regular file");
        let third = write(&path, b"1\n").expect("a regular file");
        first.remove();
        second.remove();
        assert!(path.exists());
        third.remove();
        assert!(!path.exists());
        // A link to the file is not the file.
        let elsewhere = folder.path().join("elsewhere");
        let fourth = write(&path, b"1\n").expect("a new file");
        fs::rename(&path, &elsewhere).expect("ours");
        symlink(&elsewhere, &path).expect("ours");
        fourth.remove();
        assert!(path.exists() && elsewhere.exists());
    }

    #[test]
    fn an_error_says_how_to_print_instead() {
        let sentence = "cannot write /dev/fd/1: it is a symbolic link, and only a regular file \
                        is written or replaced (`-` is the standard output)";
        let path = Path::new("/dev/fd/1");
        assert_eq!(write_or_print(path, "text"), Err(sentence.to_owned()));
        assert_eq!(writable(path.to_owned()), Err(sentence.to_owned()));
        for path in ["-", "a/new/one"].map(PathBuf::from) {
            assert_eq!(writable(path.clone()), Ok(path));
        }
    }
}
