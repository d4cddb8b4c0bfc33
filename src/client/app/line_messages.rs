//! Messages of the program about lines: what becomes of them, and of the files that they
//! name. Pure.

use super::messages::{DETAIL_CHARS_MAX, cut, quote, with_detail};
use crate::client::{FileError, Printable};
use crate::wire::{ErrorCode, File};

/// In place of a text that was removed (CHAT-MOD-9).
pub(super) const REMOVED: &str = "(removed by the server's operator)";

/// The sentence for a line whose fate is unknown, which it quotes (CHAT-RES-17).
pub(super) fn unknown(text: &str) -> Printable {
    let line = Printable::new().trusted("perhaps not sent: ");
    line.append(&quote(text))
        .trusted(" - the server had not confirmed it, and it is not sent again")
}

/// "report.pdf (12 KB)": what a chat says of a file that it names (CHAT-FILE-21).
pub(super) fn file_text(file: &File) -> String {
    format!("{} ({})", file.name, file_size(file.size))
}

/// "12 KB": the size of a file, for people.
pub(super) fn file_size(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];
    match units.into_iter().find(|&(_, unit)| bytes >= unit) {
        Some((name, unit)) => format!("{} {name}", bytes.div_ceil(unit)),
        None => format!("{bytes} B"),
    }
}

/// "@Alice (direct): hello": a line to this client alone. No name has a blank, so it is
/// taken for no other line.
pub(super) fn direct(sender: &str, text: &str) -> Printable {
    let line = Printable::new().trusted("@").name(sender);
    line.trusted(" (direct): ").untrusted(text)
}

/// The sentence for a refused line, which it quotes.
pub(super) fn not_sent(text: Option<&str>, code: ErrorCode, detail: &str) -> Printable {
    let line = match text {
        Some(text) => Printable::new()
            .trusted("not sent: ")
            .append(&quote(text))
            .trusted(" - "),
        None => Printable::new().trusted("refused: "),
    };
    line.append(&refusal(code, detail))
}

/// Why the server refused something.
pub(super) fn refusal(code: ErrorCode, detail: &str) -> Printable {
    let line = Printable::new();
    match code {
        ErrorCode::TextInvalid => {
            line.trusted("the server does not take this text, write it in another way")
        }
        ErrorCode::TextTooLong => line.trusted("it is too long for the server, write less"),
        ErrorCode::RateLimited => line.trusted("the server takes no more for now, try again later"),
        // CHAT-MOD-4. A detail has the operator's reason.
        ErrorCode::Muted if detail.is_empty() => {
            line.trusted("the server's operator has muted this name")
        }
        ErrorCode::NotReachable => {
            line.trusted("nobody of this name takes direct messages here now")
        }
        ErrorCode::FileUnknown => {
            line.trusted("the server no longer has the file that it names, send the file again")
        }
        _ => file_refusal(code, detail),
    }
}

/// Why the server did not take a file, or does not give it.
fn file_refusal(code: ErrorCode, detail: &str) -> Printable {
    let line = Printable::new();
    match code {
        ErrorCode::FileUnknown => line.trusted(
            "the server does not have it any more, or not for you: ask its sender to send it again",
        ),
        ErrorCode::NotReachable => line.trusted(
            "another server of the room has it and cannot be reached now, try again later",
        ),
        ErrorCode::FileTooLong => {
            with_detail(line.trusted("it is too long for the server"), detail)
                .trusted(", split it or make it smaller")
        }
        ErrorCode::FilesFull => line.trusted(
            "the server has no space for it, or none for more files of yours, try again later",
        ),
        ErrorCode::FileMismatch => {
            line.trusted("it changed while it was sent, or was damaged on its way, try again")
        }
        ErrorCode::FileNameInvalid => line.trusted(
            "the server does not take the name of the file, rename it: at most 128 bytes, no '/', \
             '\\' or ':', and no '.' at its begin",
        ),
        _ if detail.is_empty() => line.trusted("the server did not say why"),
        _ => line.untrusted(&cut(detail, DETAIL_CHARS_MAX)),
    }
}

/// Why a file was not sent or fetched.
pub(super) fn file_error(error: &FileError) -> Printable {
    match error {
        FileError::Refused { code, detail } => file_refusal(*code, detail),
        error => Printable::new().untrusted(&error.to_string()),
    }
}

/// The sentence for lines that may not have arrived; `has_unread`: whether the input
/// has lines that were not read.
pub(super) fn undelivered(
    refused: usize,
    unsent: usize,
    unconfirmed: usize,
    has_unread: bool,
) -> Option<Printable> {
    let counted = [
        (refused, " refused"),
        (unsent, " not sent"),
        (unconfirmed, " sent but not confirmed"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| Printable::new().number(count as u64).trusted(words));
    let unread = has_unread.then(|| Printable::new().trusted("those that were not read yet"));
    counted
        .chain(unread)
        .reduce(|line, part| line.trusted(", ").append(&part))
        .map(|parts| {
            let line = Printable::new().trusted("lines that may not have arrived: ");
            line.append(&parts)
        })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::messages::tests::table;
    use super::*;

    #[test]
    fn refused_lines() {
        assert_snapshot!(table(|code| not_sent(
            Some("hello\u{202e}"),
            code,
            "said\nso"
        )));
    }

    #[test]
    fn refused_files() {
        let all = table(|code| {
            let detail = "said\nso".to_owned();
            file_error(&FileError::Refused { code, detail })
        });
        let of_files: Vec<_> = all.lines().filter(|it| it.starts_with("FILE")).collect();
        assert_eq!(of_files.len(), 5);
        assert_snapshot!(of_files.join("\n"));
    }

    #[test]
    fn lines_that_may_be_lost() {
        assert_eq!(undelivered(0, 0, 0, false), None);
        assert_eq!(
            undelivered(1, 0, 3, false).expect("a line").as_str(),
            "lines that may not have arrived: 1 refused, 3 sent but not confirmed"
        );
        assert_eq!(
            undelivered(0, 2, 0, true).expect("a line").as_str(),
            "lines that may not have arrived: 2 not sent, those that were not read yet"
        );
    }

    #[test]
    fn long_details_are_cut() {
        let line = not_sent(None, ErrorCode::Unspecified, &"é".repeat(1_000));
        assert_eq!(
            line.as_str(),
            format!("refused: {}…", "é".repeat(DETAIL_CHARS_MAX))
        );
    }
}
