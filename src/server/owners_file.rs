//! Owner list: the file of the names that keys own by the operator's word (CHAT-ID-10),
//! `NAME KEY` a line. `#` begins a comment.

use std::{collections::BTreeMap, path::Path};

use super::names_file::{BOM, FILE_BYTES_MAX, HAS_BOM, entries};
use crate::{identity::PublicKey, input_file, name::Name};

/// What is wrong with a line.
const NOT_AN_ENTRY: &str = "write NAME KEY: a name of 1 to 32 characters, and the 64 digits that `chat-client --show-key` prints";

/// Reads the owners.
///
/// # Errors
///
/// A sentence with the file, the line if the fault is in one, and what is allowed.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Name, PublicKey>, String> {
    let text = input_file::read_text(path, FILE_BYTES_MAX)
        .map_err(|error| format!("cannot read the list of owners {}: {error}", path.display()))?;
    parse(&text).map_err(|(line, sentence)| format!("{}:{line}: {sentence}", path.display()))
}

/// The owners; or the number of the first line that is no entry, from 1, and the reason.
fn parse(text: &str) -> Result<BTreeMap<Name, PublicKey>, (usize, &'static str)> {
    if text.starts_with(BOM) {
        return Err((1, HAS_BOM));
    }
    let mut owners = BTreeMap::new();
    for (line, entry) in entries(text) {
        let mut words = entry.split_ascii_whitespace();
        let (Some(name), Some(key), None) = (words.next(), words.next(), words.next()) else {
            return Err((line, NOT_AN_ENTRY));
        };
        let name = Name::parse(name).map_err(|_| (line, NOT_AN_ENTRY))?;
        let key = PublicKey::parse(key).ok_or((line, NOT_AN_ENTRY))?;
        if owners.insert(name, key).is_some_and(|other| other != key) {
            return Err((line, "this name has another key in a line above"));
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &str) -> String {
        digit.repeat(64)
    }

    #[test]
    fn an_owner_list_has_a_name_and_a_key_a_line() {
        let (one, two) = (key("1"), key("aB"[..1].to_uppercase().as_str()));
        let text = format!("# us\nAlice {one}\n\n bob\t{two} # in front\r\naLICE {one}\n");
        let owners = parse(&text).expect("a good list");
        let found: Vec<_> = owners
            .iter()
            .map(|(name, key)| format!("{name} {key}"))
            .collect();
        assert_eq!(found, [format!("Alice {one}"), format!("bob {}", key("a"))]);
        assert_eq!(parse("#\n \n"), Ok(BTreeMap::new()));
    }

    #[test]
    fn an_owner_list_reports_the_line_that_is_wrong() {
        let key = key("1");
        for (text, line) in [
            ("Alice", 1),
            ("\nAlice 11", 2),
            (&format!("all {key}"), 1),
            (&format!("x y {key}"), 1),
            (&format!("Alice {key} {key}"), 1),
            (&format!("Alice {key}\nalice {}", key.replace('1', "2")), 2),
            (&format!("\u{feff}Alice {key}"), 1),
        ] {
            assert_eq!(parse(text).map_err(|(line, _)| line), Err(line), "{text}");
        }
    }
}
