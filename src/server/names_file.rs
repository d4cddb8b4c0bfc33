//! Name list: the file of the names that may register, one name a line. `#` begins a
//! comment.

use std::{collections::BTreeSet, path::Path};

use crate::{
    input_file,
    name::{Name, NameError},
};

/// The longest file that the server reads, in bytes: room for a hundred thousand of the
/// longest names.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;

/// What some editors put before a text.
pub(super) const BOM: char = '\u{feff}';

/// What to do about it.
pub(super) const HAS_BOM: &str = "the file begins with a byte order mark (U+FEFF), which belongs to no name; save it as UTF-8 without BOM";

/// Reads the names.
///
/// # Errors
///
/// A sentence with the file, the line if the fault is in one, and what is allowed. A file
/// without a name is an error too, since nobody could register.
pub(super) fn read(path: &Path) -> Result<BTreeSet<Name>, String> {
    let text = input_file::read_text(path, FILE_BYTES_MAX)
        .map_err(|error| format!("cannot read the list of names {}: {error}", path.display()))?;
    let names = parse(&text)
        .map_err(|(line, sentence)| format!("{}:{line}: {sentence}", path.display()))?;
    if names.is_empty() {
        return Err(format!(
            "the list {} has no name, so nobody could join; write one name a line",
            path.display()
        ));
    }
    Ok(names)
}

/// The lines that hold more than a comment, with their numbers from 1.
pub(super) fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| {
        let entry = line.split('#').next().unwrap_or_default().trim();
        (!entry.is_empty()).then_some((index + 1, entry))
    })
}

/// The names; or the number of the first line that is no name, from 1, and the reason.
fn parse(text: &str) -> Result<BTreeSet<Name>, (usize, &'static str)> {
    if text.starts_with(BOM) {
        return Err((1, HAS_BOM));
    }
    let mut names = BTreeSet::new();
    for (line, name) in entries(text) {
        let name = Name::parse(name).map_err(|error| {
            let sentence = match error {
                NameError::Invalid => {
                    "this is no name: write one of 1 to 32 ASCII letters, digits, '.', '_' or '-' that begins with a letter or digit"
                }
                NameError::Reserved => "nobody may have this name, take it out",
            };
            (line, sentence)
        })?;
        names.insert(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, usize> {
        match parse(text) {
            Ok(names) => Ok(names.iter().map(Name::to_string).collect()),
            Err((line, _)) => Err(line),
        }
    }

    #[test]
    fn a_name_list_has_one_name_a_line_and_comments() {
        let text = "# the class\nBob\n\n  alice  # sits in front\r\nBOB\n";
        assert_eq!(names(text), Ok(vec!["alice".to_owned(), "Bob".to_owned()]));
        assert_eq!(names("#\n \n"), Ok(Vec::new()));
    }

    #[test]
    fn a_name_list_reports_the_line_that_is_no_name() {
        assert_eq!(names("alice\n\nalice bob\n"), Err(3));
        assert_eq!(names("Server"), Err(1));
        assert_eq!(names("é"), Err(1));
        assert_eq!(names("\u{feff}alice"), Err(1));
        assert_eq!(names("\u{feff}# the class\nalice"), Err(1));
    }
}
