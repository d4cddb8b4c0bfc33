//! Known servers: a file of the servers whose self-signed certificates the user has
//! accepted, as ssh keeps known hosts. A line is `host:port sha256=HEX`.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::{
    cli,
    client::{Address, Pin},
    files,
};

/// The file in the folder of configurations.
const FILE: &str = "chat/known_servers";

/// Where earlier versions kept it. It is used where it is there and [`FILE`] is not.
const OLD_FILE: &str = "chat-client/known_servers";

/// What the file says of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It has this certificate.
    Yes,
    /// It had another one.
    Changed {
        /// The line of the file that says so, from 1 on.
        line: usize,
    },
    /// Nothing.
    No,
}

/// The file that is used where no option names one; `None` without a home.
pub(super) fn default_path() -> Option<PathBuf> {
    Some(path_in(&cli::config_folder()?))
}

fn path_in(configurations: &Path) -> PathBuf {
    let [path, old] = [FILE, OLD_FILE].map(|file| configurations.join(file));
    match !path.exists() && old.exists() {
        true => old,
        false => path,
    }
}

/// What the file at `path` says of the server at `address` that presents `pin`. The last
/// line about a server counts.
pub(super) fn look_up(path: &Path, address: &Address, pin: Pin) -> io::Result<Known> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Known::No),
        read => read?,
    };
    let key = key(address);
    let lines = text.lines().enumerate();
    let found = lines.filter_map(|(index, line)| match line.split_once(' ') {
        Some((server, pin)) if server == key => Some((index + 1, pin.trim())),
        _ => None,
    });
    Ok(match found.last() {
        None => Known::No,
        Some((_, known)) if known.parse() == Ok(pin) => Known::Yes,
        Some((line, _)) => Known::Changed { line },
    })
}

/// Adds the server at `address` with the certificate that it presents.
pub(super) fn add(path: &Path, address: &Address, pin: Pin) -> io::Result<()> {
    let mut file = files::append_private(path)?;
    // In one write: another client may add a line too.
    file.write_all(format!("{} {pin}\n", key(address)).as_bytes())
}

/// How the file names a server.
pub(super) fn key(address: &Address) -> String {
    let host = address.host().to_lowercase();
    match host.contains(':') {
        true => format!("[{host}]:{}", address.port()),
        false => format!("{host}:{}", address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_an_earlier_version_is_used_while_there_is_no_other() {
        let folder = tempfile::tempdir().expect("a place for files");
        let [path, old] = [FILE, OLD_FILE].map(|file| folder.path().join(file));
        assert_eq!(path_in(folder.path()), path);
        let address: Address = "chats://host:1".parse().expect("an address");
        add(&old, &address, Pin::new([1; 32])).expect("ours");
        assert_eq!(path_in(folder.path()), old);
        add(&path, &address, Pin::new([1; 32])).expect("ours");
        assert_eq!(path_in(folder.path()), path);
    }

    #[test]
    fn a_server_is_known_by_host_and_port_once_it_is_added() {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("new").join("known");
        let address = |text: &str| text.parse::<Address>().expect("an address");
        let [server, lower, other] =
            ["chats://Host:1", "chats://host:1", "chats://host:2"].map(address);
        let [first, second] = [[1; 32], [2; 32]].map(Pin::new);
        let look_up = |address, pin| look_up(&path, address, pin).expect("it can be read");
        assert_eq!(look_up(&server, first), Known::No);
        add(&path, &other, second).expect("ours");
        assert_eq!(look_up(&server, first), Known::No);
        add(&path, &server, first).expect("ours");
        assert_eq!(look_up(&server, first), Known::Yes);
        assert_eq!(look_up(&lower, first), Known::Yes);
        assert_eq!(look_up(&server, second), Known::Changed { line: 2 });
        add(&path, &server, second).expect("ours");
        assert_eq!(look_up(&server, second), Known::Yes);
        let v6 = address("chats://[::1]:3");
        add(&path, &v6, first).expect("ours");
        assert_eq!(look_up(&v6, first), Known::Yes);
    }
}
