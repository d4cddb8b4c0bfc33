//! Outgoing text: turns any bytes that were typed or piped into chats that every server
//! accepts (CHAT-CHAT-6, CHAT-CHAT-7). Pure and bounded: a line of any length needs
//! memory for one chat only.

use std::{mem, str};

use unicode_segmentation::UnicodeSegmentation;

use super::codec::BODY_BYTES_CEILING;
use crate::text::is_forbidden;

/// What a tab becomes.
const TAB: &str = "    ";

/// Splits a stream of bytes into the texts of chats.
///
/// A line is one chat. Empty lines are skipped; a carriage return at the end of a line
/// is dropped; a tab becomes four spaces; other control characters and the line and
/// paragraph separators become visible escapes like `\u{1b}`; bytes that are not UTF-8
/// become U+FFFD; a line that is too long becomes several chats, split between grapheme
/// clusters.
///
/// ```
/// use chat::client::Outgoing;
///
/// let mut outgoing = Outgoing::new(4_096);
/// let mut texts = Vec::new();
/// outgoing.push(b"one\r\n\ntw", |text| texts.push(text));
/// outgoing.push(b"o\x07", |text| texts.push(text));
/// outgoing.finish(|text| texts.push(text));
/// assert_eq!(texts, ["one", "two\\u{7}"]);
/// ```
#[derive(Debug)]
pub struct Outgoing {
    text_bytes_max: usize,
    /// The part of the current line that is not in a chat yet.
    text: String,
    /// The bytes of an incomplete character, at most three.
    partial: Vec<u8>,
    /// The last character was a carriage return, which counts only if the line goes on.
    carriage_return: bool,
}

impl Outgoing {
    /// Texts of at most `text_bytes_max` bytes, [`Limits::text_bytes_max`] of the
    /// session; 0 counts as 1. Whatever a server announces, no text is longer than
    /// [`Session::send`](super::Session::send) accepts, 1 MiB.
    ///
    /// [`Limits::text_bytes_max`]: crate::wire::Limits::text_bytes_max
    pub fn new(text_bytes_max: usize) -> Self {
        Self {
            text_bytes_max: text_bytes_max.clamp(1, BODY_BYTES_CEILING as usize),
            text: String::new(),
            partial: Vec::new(),
            carriage_return: false,
        }
    }

    /// Takes more bytes and passes on the chats that they complete.
    pub fn push(&mut self, bytes: &[u8], mut send: impl FnMut(String)) {
        let mut joined = mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        let mut rest = &joined[..];
        loop {
            match str::from_utf8(rest) {
                Ok(valid) => return self.push_str(valid, &mut send),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.push_str(str::from_utf8(valid).unwrap_or_default(), &mut send);
                    let Some(bad_bytes) = error.error_len() else {
                        // The rest of this character may follow.
                        self.partial = after.to_vec();
                        return;
                    };
                    self.push_char(char::REPLACEMENT_CHARACTER, &mut send);
                    rest = after.get(bad_bytes..).unwrap_or_default();
                }
            }
        }
    }

    /// Ends the input: the rest is a line, with or without a line break.
    pub fn finish(&mut self, mut send: impl FnMut(String)) {
        if !mem::take(&mut self.partial).is_empty() {
            self.push_char(char::REPLACEMENT_CHARACTER, &mut send);
        }
        self.end_line(&mut send);
    }

    fn push_str(&mut self, text: &str, send: &mut impl FnMut(String)) {
        for character in text.chars() {
            self.push_char(character, send);
        }
    }

    fn push_char(&mut self, character: char, send: &mut impl FnMut(String)) {
        if character == '\n' {
            return self.end_line(send);
        }
        if mem::take(&mut self.carriage_return) {
            self.append("\\u{d}", send);
        }
        match character {
            '\r' => self.carriage_return = true,
            '\t' => self.append(TAB, send),
            _ if is_forbidden(character) => {
                let escape = String::from_iter(character.escape_unicode());
                self.append(&escape, send);
            }
            _ => self.append(character.encode_utf8(&mut [0; 4]), send),
        }
    }

    /// Appends one unit to the line. If it does not fit, first sends the text before
    /// it.
    fn append(&mut self, unit: &str, send: &mut impl FnMut(String)) {
        if self.text.len() + unit.len() > self.text_bytes_max {
            let keep_from = self.cut_for(unit);
            let next = self.text.split_off(keep_from);
            if !self.text.is_empty() {
                send(mem::take(&mut self.text));
            }
            self.text = next;
        }
        if self.text.len() + unit.len() <= self.text_bytes_max {
            self.text.push_str(unit);
        } else if unit.chars().count() > 1 {
            // An escape longer than a chat is sent character by character.
            for character in unit.chars() {
                self.append(character.encode_utf8(&mut [0; 4]), send);
            }
        } else {
            // No chat can hold this character; every chat can hold '?'.
            self.append("?", send);
        }
    }

    /// Where to split the full text before `unit`: at its end, or before its last
    /// grapheme cluster if `unit` belongs to it.
    fn cut_for(&self, unit: &str) -> usize {
        let last = self.text.graphemes(true).next_back().unwrap_or_default();
        let joined = format!("{last}{unit}");
        let belongs = joined.graphemes(true).next().map(str::len) > Some(last.len());
        let cut = self.text.len() - last.len();
        // A grapheme cluster that is longer than a chat is split anywhere.
        if belongs && cut > 0 && joined.len() <= self.text_bytes_max {
            cut
        } else {
            self.text.len()
        }
    }

    fn end_line(&mut self, send: &mut impl FnMut(String)) {
        self.carriage_return = false;
        if !self.text.is_empty() {
            send(mem::take(&mut self.text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(input: &[u8], text_bytes_max: usize) -> Vec<String> {
        let mut got = Vec::new();
        let mut outgoing = Outgoing::new(text_bytes_max);
        outgoing.push(input, |text| got.push(text));
        outgoing.finish(|text| got.push(text));
        got
    }

    fn check(input: &[u8], expected: &[&str]) {
        assert_eq!(texts(input, 12), expected, "{input:?}");
    }

    #[test]
    fn lines_become_chats() {
        check(b"one\ntwo\n", &["one", "two"]);
        check(b"no end", &["no end"]);
        check(b"\n\r\n\n", &[]);
        check(b"dos\r\nmac\rx\n", &["dos", "mac\\u{d}x"]);
        check(b"end\r", &["end"]);
        check(b"a\r\r\n", &["a\\u{d}"]);
        check(b" \n", &[" "]);
    }

    #[test]
    fn forbidden_characters_become_visible() {
        check(b"a\tb\n", &["a    b"]);
        check(b"\x1b[1m\n", &["\\u{1b}[1m"]);
        check("\u{2028}\n".as_bytes(), &["\\u{2028}"]);
        check("\u{85}\x7f\n".as_bytes(), &["\\u{85}\\u{7f}"]);
        check(b"a\xffb\xc3\n", &["a\u{fffd}b\u{fffd}"]);
        check(b"\xe2\x82", &["\u{fffd}"]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        check(b"0123456789abcdef\n", &["0123456789ab", "cdef"]);
        check("0123456789aé\n".as_bytes(), &["0123456789a", "é"]);
        // The accent stays with its letter, the family together.
        check(
            "0123456789ae\u{301}\n".as_bytes(),
            &["0123456789a", "e\u{301}"],
        );
        check(
            "0123456👩\u{200d}🔬\n".as_bytes(),
            &["0123456", "👩\u{200d}🔬"],
        );
        // An exact fit is not cut.
        check(b"0123456789ab\n", &["0123456789ab"]);
    }

    #[test]
    fn the_smallest_limit_still_sends_something() {
        assert_eq!(
            texts("é\x1b".as_bytes(), 1),
            ["?", "\\", "u", "{", "1", "b", "}"]
        );
        assert_eq!(texts(b"ab", 0), ["a", "b"]);
    }

    proptest! {
        /// Whatever comes in, and however it is cut into pieces: each chat is
        /// one that the rules allow, and the pieces change nothing.
        #[test]
        fn every_chat_is_allowed(
            input in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'a')], 0..200),
            cut in 0usize..200,
            text_bytes_max in 1usize..40,
        ) {
            let whole = texts(&input, text_bytes_max);
            for text in &whole {
                prop_assert!(!text.is_empty() && text.len() <= text_bytes_max);
                prop_assert!(!text.chars().any(is_forbidden));
            }
            let (first, second) = input.split_at(cut.min(input.len()));
            let mut outgoing = Outgoing::new(text_bytes_max);
            let mut pieces = Vec::new();
            outgoing.push(first, |text| pieces.push(text));
            outgoing.push(second, |text| pieces.push(text));
            outgoing.finish(|text| pieces.push(text));
            prop_assert_eq!(whole, pieces);
        }

        /// Printable text comes out as it went in.
        #[test]
        fn nothing_printable_is_lost(text in "[a-zé€😀 ]{1,300}", text_bytes_max in 4usize..40) {
            prop_assert_eq!(texts(text.as_bytes(), text_bytes_max).concat(), text);
        }
    }
}
