//! Ban file: a list of names and addresses that are kept out, one a line. `#` begins the
//! reason.
//!
//! ```text
//! mallory                                      # spam
//! 203.0.113.0/24 until 2026-12-24T00:00:00Z    # a flood
//! 2001:db8::7
//! ```

use std::{fmt::Write as _, path::Path};

use jiff::Timestamp;

use crate::{
    files, input_file,
    session::{BANS_MAX, Ban, Bans, Reason, Target},
};

/// The longest file that the server reads, in bytes: a hundred thousand bans with times
/// and short reasons.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The word before the time at which a ban ends.
const UNTIL: &str = "until";

/// The comment in the first line that has the number of changes.
const CHANGES: &str = "# changes:";

/// Reads a list.
///
/// # Errors
///
/// A sentence with the file, the line if the fault is in one, and what is allowed.
pub(super) fn read(path: &Path) -> Result<Bans, String> {
    let shown = path.display();
    let text = input_file::read_text(path, FILE_BYTES_MAX)
        .map_err(|error| format!("cannot read the bans in {shown}: {error}"))?;
    parse(&text).map_err(|(line, sentence)| format!("{shown}:{line}: {sentence}"))
}

/// As [`read`]; nobody is banned if there is no file.
#[cfg(feature = "store")]
pub(super) fn read_if_there(path: &Path) -> Result<Bans, String> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Bans::default()),
        _ => read(path),
    }
}

/// How many changes have led to a list, as its writer was told; 0 if nothing says so.
#[cfg(feature = "store")]
pub(super) fn changes(path: &Path) -> u64 {
    let text = input_file::read_text(path, FILE_BYTES_MAX).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let changes = line.strip_prefix(CHANGES);
    changes.map_or(0, |it| it.trim().parse().unwrap_or(0))
}

/// Writes a list, whole or not at all, and how many changes have led to it.
///
/// # Errors
///
/// A sentence.
pub(super) fn write(path: &Path, bans: &Bans, changes: u64) -> Result<(), String> {
    let mut text = String::new();
    if changes > 0 {
        let _ = writeln!(text, "{CHANGES} {changes}");
    }
    for (target, ban) in bans.iter() {
        let _ = write!(text, "{target}");
        if let Some(until) = ban.until_unix_ms.map(utc) {
            let _ = write!(text, " {UNTIL} {until}");
        }
        if !ban.reason.as_str().is_empty() {
            let _ = write!(text, " # {}", ban.reason.as_str());
        }
        text.push('\n');
    }
    let written = files::write(path, text.as_bytes());
    let written = written.map_err(|error| format!("cannot write {}: {error}", path.display()));
    written.map(|_| ())
}

/// A time as operators read it, in UTC, to the second: `2026-11-30T10:04:34Z`.
pub(super) fn utc(unix_ms: i64) -> String {
    let time = Timestamp::from_second(unix_ms.div_euclid(1_000));
    time.map_or_else(|_| unix_ms.to_string(), |time| time.to_string())
}

/// The bans; or the number of the first line that is none, from 1, and the reason.
fn parse(text: &str) -> Result<Bans, (usize, String)> {
    let mut bans = Bans::default();
    for (index, line) in text.lines().enumerate() {
        let failed = |sentence: &str| (index + 1, sentence.to_owned());
        let (ban, reason) = line.split_once('#').unwrap_or((line, ""));
        let mut words = ban.split_whitespace();
        let Some(target) = words.next() else {
            continue;
        };
        let target = Target::parse(target).ok_or_else(|| {
            failed("write a name, an address or a range, like 203.0.113.0/24 or 2001:db8::/32")
        })?;
        let until_unix_ms = match (words.next(), words.next(), words.next()) {
            (None, ..) => None,
            (Some(UNTIL), Some(time), None) => {
                let time: Timestamp = time
                    .parse()
                    .map_err(|_| failed("the time is none, write it like 2026-12-24T00:00:00Z"))?;
                Some(time.as_millisecond())
            }
            _ => {
                let sentence =
                    "behind the name or address stands `until TIME`, `# REASON` or nothing";
                return Err(failed(sentence));
            }
        };
        let reason = Reason::parse(reason).map_err(|sentence| failed(&sentence))?;
        let ban = Ban {
            until_unix_ms,
            reason,
        };
        if !bans.insert(target, ban) {
            return Err(failed(&format!("the file has more than {BANS_MAX} bans")));
        }
    }
    Ok(bans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_written_as_it_is_read() {
        let text = "alice # spam\n\
                    Bob until 2026-12-24T00:00:00Z\n\
                    203.0.113.0/24 until 2026-12-24T00:00:00Z # a flood # of words\n\
                    2001:db8::/64\n";
        let bans = parse(text).expect("a list");
        assert_eq!(bans.len(), 4);
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("bans");
        #[cfg(feature = "store")]
        assert_eq!(read_if_there(&path), Ok(Bans::default()));
        for count in [0, 17] {
            write(&path, &bans, count).expect("a file");
            assert_eq!(read(&path).as_ref(), Ok(&bans));
            #[cfg(feature = "store")]
            assert_eq!(changes(&path), count);
        }
    }

    #[test]
    fn comments_and_empty_lines_ban_nobody() {
        assert_eq!(parse("# nobody\n\n   \n"), Ok(Bans::default()));
    }

    #[test]
    fn the_first_line_that_is_no_ban_is_named() {
        for line in [
            "a b",
            "alice until",
            "alice until noon",
            "203.0.113.0/40",
            "server",
        ] {
            let failed = parse(&format!("alice\n{line}\n"));
            assert!(matches!(failed, Err((2, _))), "{line}: {failed:?}");
        }
    }

    #[test]
    fn a_time_is_written_in_utc() {
        assert_eq!(utc(1_796_033_074_567), "2026-11-30T10:04:34Z");
        assert_eq!(utc(i64::MAX), i64::MAX.to_string());
    }
}
