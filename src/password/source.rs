//! Sources of a password: a file or the environment, never the command line, which
//! everybody on the machine can read.

use std::{ffi::OsString, path::Path};

use super::{PASSWORD_BYTES_MAX, Password, PasswordError};
use crate::input_file;

/// The environment variable that holds a password.
pub const PASSWORD_VARIABLE: &str = "CHAT_PASSWORD";

/// The part of a file that is read, in bytes: the longest password, a line break, and
/// one more byte to detect a longer one.
const FILE_BYTES_READ_MAX: u64 = PASSWORD_BYTES_MAX as u64 + 3;

/// A password, and a warning about its file.
#[derive(Debug)]
pub struct Found {
    /// The password.
    pub password: Password,
    /// A sentence for the operator, if others can read the file.
    pub warning: Option<String>,
}

/// Reads the password from `file`, or takes it from `variable`, the value of
/// [`PASSWORD_VARIABLE`]; `None` without either. One line break at the end of the file
/// is not part of it.
///
/// # Errors
///
/// A sentence that says what is wrong and shows nothing of the password: both are
/// given, the file cannot be read, or its content is not a password.
pub fn find(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<Found>, String> {
    match (file, variable) {
        (None, None) => Ok(None),
        (Some(path), None) => read(path).map(Some),
        (None, Some(value)) => {
            let wrong = |error| format!("the password in {PASSWORD_VARIABLE} {error}");
            let text = value
                .to_str()
                .ok_or(PasswordError::NotUtf8)
                .map_err(wrong)?;
            Ok(Some(Found {
                password: Password::parse(text).map_err(wrong)?,
                warning: None,
            }))
        }
        (Some(path), Some(_)) => Err(format!(
            "the password is given twice, by {PASSWORD_VARIABLE} and by the file {}; keep one of them",
            path.display()
        )),
    }
}

fn read(path: &Path) -> Result<Found, String> {
    let (bytes, metadata) = input_file::read_start(path, FILE_BYTES_READ_MAX)
        .map_err(|error| format!("cannot read the password file {}: {error}", path.display()))?;
    let password = parse(&bytes)
        .map_err(|error| format!("the password in the file {} {error}", path.display()))?;
    let warning = input_file::exposure(path, &metadata, "the password file");
    Ok(Found { password, warning })
}

fn parse(bytes: &[u8]) -> Result<Password, PasswordError> {
    // Some editors put it there unseen; no prompt and no other client would.
    if bytes.starts_with("\u{feff}".as_bytes()) {
        return Err(PasswordError::ByteOrderMark);
    }
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = match line.len() < bytes.len() {
        true => line.strip_suffix(b"\r").unwrap_or(line),
        false => line,
    };
    if line.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::TooLong);
    }
    let text = std::str::from_utf8(line).map_err(|_| PasswordError::NotUtf8)?;
    Password::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_dropped() {
        let read = |bytes: &[u8]| parse(bytes).map(|password| password.reveal().to_owned());
        for bytes in [&b"open sesame"[..], b"open sesame\n", b"open sesame\r\n"] {
            assert_eq!(read(bytes).as_deref(), Ok("open sesame"));
        }
        assert_eq!(read(b" x \n").as_deref(), Ok(" x "));
        assert_eq!(read(b"x\n\n"), Err(PasswordError::Control));
        assert_eq!(read(b"x\r"), Err(PasswordError::Control));
        assert_eq!(read(b"x\ny\n"), Err(PasswordError::Control));
        assert_eq!(read(b"\n"), Err(PasswordError::Empty));
        assert_eq!(read(b""), Err(PasswordError::Empty));
        let marked = "\u{feff}open sesame\n".as_bytes();
        assert_eq!(read(marked), Err(PasswordError::ByteOrderMark));
        assert_eq!(read(b"\xff"), Err(PasswordError::NotUtf8));
        let longest = [&[b'x'; 256][..], b"\r\n"].concat();
        assert!(read(&longest).is_ok());
        assert_eq!(read(&[b'x'; 257]), Err(PasswordError::TooLong));
    }

    #[test]
    fn the_environment_alone() {
        let find = |value: &str| {
            find(None, Some(value.into()))
                .map(|found| found.expect("one was given").password.reveal().to_owned())
        };
        assert_eq!(find("open sesame").as_deref(), Ok("open sesame"));
        assert_eq!(
            find("").as_deref(),
            Err(&"the password in CHAT_PASSWORD is empty".to_owned())
        );
        assert!(super::find(None, None).is_ok_and(|found| found.is_none()));
    }
}
