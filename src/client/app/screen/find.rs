//! Finding in texts: web addresses, one's own name, and what is searched for. Pure.

use std::ops::Range;
use std::slice::SliceIndex;

/// The longest web address that becomes a link, in bytes: terminals take no longer ones.
const URL_BYTES_MAX: usize = 2_000;

/// A part of a text; empty if its ends are no ends of characters.
pub(super) fn part(text: &str, bytes: impl SliceIndex<str, Output = str>) -> &str {
    text.get(bytes).unwrap_or_default()
}

/// The web addresses in a text. They end at a blank, and without the punctuation that
/// ends a sentence.
pub(super) fn urls(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = ["https://", "http://"]
        .iter()
        .filter_map(|scheme| part(text, from..).find(scheme))
        .min()
    {
        let start = from + start;
        let rest = part(text, start..);
        let end = rest
            .find(|character: char| {
                character.is_whitespace() || matches!(character, '<' | '>' | '"' | '`')
            })
            .unwrap_or(rest.len());
        let mut url = part(rest, ..end).trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*']);
        // A bracket belongs to the address if it was opened there.
        for (open, close) in [('(', ')'), ('[', ']')] {
            while url.ends_with(close) && url.matches(close).count() > url.matches(open).count() {
                url = part(url, ..url.len() - 1);
            }
        }
        let has_host = url
            .split_once("//")
            .is_some_and(|(_, host)| !host.is_empty());
        if has_host && url.len() <= URL_BYTES_MAX && url.is_ascii() {
            found.push(start..start + url.len());
        }
        from = start + end;
    }
    found
}

/// Where `name` stands in a text, in any case, and not as part of a longer name.
pub(super) fn mentions(text: &str, name: &str) -> Vec<Range<usize>> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    let mut found = hits(text, name);
    found.retain(|range| {
        let before = part(text, ..range.start).chars().next_back();
        let mut after = part(text, range.end..).chars();
        let next = after.next();
        // A full stop may end a sentence or be part of a name.
        let is_longer = next.is_some_and(is_part)
            || next == Some('.') && after.next().is_some_and(is_part)
            || before.is_some_and(|before| is_part(before) || before.is_alphanumeric())
            || before == Some('.') && range.start > 1;
        !is_longer
    });
    found
}

/// Where `wanted` stands in a text, in any case.
pub(super) fn hits(text: &str, wanted: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if wanted.is_empty() {
        return found;
    }
    let mut from = 0;
    for (start, _) in text.char_indices() {
        if start >= from
            && let Some(length) = prefix(part(text, start..), wanted)
        {
            from = start + length;
            found.push(start..from);
        }
    }
    found
}

/// How many bytes of the text's start are `wanted` in any case.
fn prefix(text: &str, wanted: &str) -> Option<usize> {
    let mut characters = text.char_indices();
    for wanted in wanted.chars() {
        let (_, character) = characters.next()?;
        if character != wanted && !character.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    Some(characters.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_addresses_end_where_people_mean_them_to() {
        for (text, expected) in [
            (
                "see https://a.example/x?y=1#z.",
                vec!["https://a.example/x?y=1#z"],
            ),
            (
                "(http://a.example/b_(c)) and https://d/,",
                vec!["http://a.example/b_(c)", "https://d/"],
            ),
            ("https:// http://", vec![]),
            ("https://é.example", vec![]),
            ("<https://a/b>", vec!["https://a/b"]),
        ] {
            let found: Vec<&str> = urls(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert!(urls(&format!("https://{}", "x".repeat(3_000))).is_empty());
    }

    #[test]
    fn a_name_is_mentioned_as_a_whole_word() {
        for (text, is_mentioned) in [
            ("al", true),
            ("AL: hi", true),
            ("thanks, @Al.", true),
            ("(al)", true),
            ("also", false),
            ("al-2 and al_x and al.b", false),
            ("café al", true),
            ("éal", false),
            ("x.al", false),
        ] {
            assert_eq!(!mentions(text, "Al").is_empty(), is_mentioned, "{text}");
        }
    }

    #[test]
    fn hits_ignore_case_and_do_not_overlap() {
        assert_eq!(hits("aAaa", "aa"), [0..2, 2..4]);
        assert_eq!(hits("GRÜSSE grüße", "grü"), [0..4, 8..12]);
        assert!(hits("x", "").is_empty());
        assert!(hits("x", "xy").is_empty());
    }
}
