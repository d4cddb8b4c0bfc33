//! Sanitizing: makes text of others safe to print. Pure: text in, text out.
//!
//! A name, a text or an error detail from a peer, the server included, may contain
//! anything: escape sequences that repaint the screen, line breaks that forge a line,
//! characters that change the direction of writing, invisible characters. [`Printable`]
//! is the only type that the printers accept, and each of its functions names the
//! origin of what it appends.

use std::fmt;

use unicode_width::UnicodeWidthChar;

use crate::limits::NAME_BYTES_MAX;
use crate::{name, text};

/// How many combining marks one character may carry; real words need up to four.
pub const MARKS_MAX: usize = 8;

/// How many characters of a name are shown. A valid name is never longer.
pub const NAME_CHARS_MAX: usize = NAME_BYTES_MAX;

/// Variation selector 16: emoji presentation.
const EMOJI_LOOK: char = '\u{fe0f}';

/// Combining enclosing keycap.
const KEY_CAP: char = '\u{20e3}';

/// The flags that Unicode writes as a black flag with invisible tags: England, Scotland
/// and Wales. No other tag is printed.
const TAG_FLAGS: [&str; 3] = [
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}",
];

/// One line that is safe to print: no control character, no invisible character, no
/// change of direction, no line break.
///
/// ```
/// use chat::client::Printable;
///
/// let line = Printable::message("Alice", "hi\u{1b}[2J\n@Bob: me too");
/// assert_eq!(line.as_str(), r"@Alice: hi\u{1b}[2J\u{a}@Bob: me too");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printable(String);

impl Printable {
    /// An empty line, to append to.
    pub fn new() -> Self {
        Self::default()
    }

    /// A chat: `@name: text`.
    pub fn message(sender: &str, text: &str) -> Self {
        Self::new()
            .trusted("@")
            .name(sender)
            .trusted(": ")
            .untrusted(text)
    }

    /// Appends text of this program.
    pub fn trusted(self, words: &'static str) -> Self {
        // The source contains nothing unsafe; if it did, it would show.
        self.untrusted(words)
    }

    /// Appends a number.
    pub fn number(mut self, number: impl Into<u64>) -> Self {
        self.0.push_str(&number.into().to_string());
        self
    }

    /// Appends text of anyone else. Unsafe characters become visible escapes like
    /// `\u{1b}`.
    pub fn untrusted(mut self, text: &str) -> Self {
        let mut before = Before::Nothing;
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let flag = TAG_FLAGS.into_iter().find(|flag| {
                let rest = flag.strip_prefix(character);
                rest.is_some_and(|rest| characters.as_str().starts_with(rest))
            });
            if let Some(flag) = flag {
                self.0.push_str(flag);
                // Nothing may combine with the last tag.
                before = Before::Nothing;
                let tags = flag.chars().count() - 1;
                characters.by_ref().take(tags).for_each(drop);
                continue;
            }
            before = match (judge(character), before) {
                (Kind::Unsafe, _) => self.escape(character),
                (Kind::Base, _) => self.keep(
                    character,
                    Before::Base {
                        is_ascii: character.is_ascii(),
                        is_key: matches!(character, '0'..='9' | '#' | '*'),
                        marks: 0,
                    },
                ),
                // A mark needs a base character, and their number is bounded.
                (
                    Kind::Mark,
                    Before::Base {
                        is_ascii, marks, ..
                    },
                ) if marks < MARKS_MAX => self.keep(
                    character,
                    Before::Base {
                        is_ascii,
                        is_key: false,
                        marks: marks + 1,
                    },
                ),
                // A selector changes nothing, and so is invisible, behind a character
                // with a single presentation. In ASCII only keys have two, with a
                // keycap: 1, U+FE0F, U+20E3.
                (
                    Kind::Selector,
                    Before::Base {
                        is_ascii,
                        is_key,
                        marks,
                    },
                ) if marks < MARKS_MAX
                    && (!is_ascii
                        || is_key
                            && character == EMOJI_LOOK
                            && characters.as_str().starts_with(KEY_CAP)) =>
                {
                    self.keep(
                        character,
                        Before::Base {
                            is_ascii,
                            is_key: false,
                            marks: marks + 1,
                        },
                    )
                }
                // Emoji and some scripts join characters, but never ASCII characters
                // and never with two joiners in a row.
                (
                    Kind::Joiner,
                    Before::Base {
                        is_ascii: false, ..
                    },
                ) => self.keep(character, Before::Nothing),
                (Kind::Mark | Kind::Selector | Kind::Joiner, _) => self.escape(character),
            };
        }
        self
    }

    /// Appends a name. Characters that no name may contain (CHAT-NAME-1) become visible
    /// escapes, so that no member can be called `Bob: yes @Alice`; a longer name is
    /// cut.
    pub fn name(mut self, name: &str) -> Self {
        if name.is_empty() {
            return self.trusted("(no name)");
        }
        let mut characters = name.chars();
        for character in characters.by_ref().take(NAME_CHARS_MAX) {
            if name::is_allowed(character) {
                self.0.push(character);
            } else {
                self.escape(character);
            }
        }
        if characters.next().is_some() {
            self.0.push('…');
        }
        self
    }

    /// Appends another safe line.
    pub fn append(mut self, other: &Self) -> Self {
        self.0.push_str(&other.0);
        self
    }

    /// The line, without a line break.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn keep(&mut self, character: char, before: Before) -> Before {
        self.0.push(character);
        before
    }

    fn escape(&mut self, character: char) -> Before {
        self.0.extend(character.escape_unicode());
        // Nothing may combine with the brace at the end of the escape.
        Before::Nothing
    }
}

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The character before the next one.
#[derive(Clone, Copy)]
enum Before {
    /// The start, an escape or a joiner.
    Nothing,
    /// A visible character and its marks; `is_key`: a bare telephone key.
    Base {
        is_ascii: bool,
        is_key: bool,
        marks: usize,
    },
}

/// How a character combines with its neighbours.
#[derive(Clone, Copy)]
enum Kind {
    /// A visible character.
    Base,
    /// A combining mark.
    Mark,
    /// A variation selector: U+FE00 to U+FE0F.
    Selector,
    /// A joiner or non-joiner: U+200C and U+200D.
    Joiner,
    /// Must not reach a terminal.
    Unsafe,
}

fn judge(character: char) -> Kind {
    match character {
        '\u{200c}' | '\u{200d}' => Kind::Joiner,
        '\u{fe00}'..='\u{fe0f}' => Kind::Selector,
        _ if is_unsafe(character) => Kind::Unsafe,
        // A skin tone modifies the emoji before it, but is visible in any case.
        _ => match character.width() {
            None => Kind::Unsafe,
            Some(0) => Kind::Mark,
            Some(_) => Kind::Base,
        },
    }
}

/// Characters of no script: controls, changes of direction, invisible characters
/// (Unicode's Default_Ignorable_Code_Point, less those that [`judge`] keeps, and others
/// that show nothing), line breaks, noncharacters.
fn is_unsafe(character: char) -> bool {
    text::is_forbidden(character)
        || matches!(
            character,
            '\u{ad}' // soft hyphen
            | '\u{34f}' // combining grapheme joiner
            | '\u{61c}' // Arabic letter mark
            | '\u{115f}'..='\u{1160}' // Hangul fillers
            | '\u{17b4}'..='\u{17b5}' // Khmer inherent vowels
            | '\u{180b}'..='\u{180f}' // Mongolian selectors
            | '\u{200b}' // zero width space
            | '\u{200e}'..='\u{200f}' // direction marks
            | '\u{202a}'..='\u{202e}' // directions
            | '\u{2060}'..='\u{206f}' // invisible operators, isolates
            | '\u{2800}' // braille without a dot
            | '\u{3164}' // Hangul filler
            | '\u{feff}' // byte order mark
            | '\u{ffa0}' // halfwidth Hangul filler
            | '\u{fff0}'..='\u{fffb}' // specials
            | '\u{13430}'..='\u{1345f}' // Egyptian format controls and modifiers
            | '\u{16fe4}' // Khitan filler
            | '\u{1bca0}'..='\u{1bca3}' // shorthand controls
            | '\u{1d173}'..='\u{1d17a}' // musical controls
            | '\u{e0000}'..='\u{e0fff}' // tags, more selectors
        )
        // The last two code points of each plane are noncharacters.
        || u32::from(character) & 0xfffe == 0xfffe
        || matches!(character, '\u{fdd0}'..='\u{fdef}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(
            Printable::new().untrusted(text).as_str(),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn normal_text_is_unchanged() {
        for text in [
            "plain, with punctuation: @Bob (yes) \\n",
            "Grüße, naïve café — „ok“ 日本語 한국어 العربية עברית हिन्दी",
            "e\u{301} o\u{308}\u{304}",
            "👍🏽 👩\u{200d}🔬 ❤\u{fe0f} 1\u{fe0f}\u{20e3} 🇩🇪 🏳\u{fe0f}\u{200d}🌈",
            "می\u{200c}خواهم",
            TAG_FLAGS[1],
        ] {
            check(text, text);
        }
    }

    #[test]
    fn control_characters_become_visible() {
        check("\x1b[2J", r"\u{1b}[2J");
        check("a\r\nb\tc\x07\x08", r"a\u{d}\u{a}b\u{9}c\u{7}\u{8}");
        check("\u{7f}\u{9b}2J\u{85}", r"\u{7f}\u{9b}2J\u{85}");
        check("\u{2028}\u{2029}", r"\u{2028}\u{2029}");
    }

    #[test]
    fn direction_characters_become_visible() {
        for character in "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars() {
            check(
                &format!("a{character}b"),
                &format!("a{}b", character.escape_unicode()),
            );
        }
    }

    #[test]
    fn invisible_characters_become_visible() {
        check("Al\u{200b}ice\u{feff}", r"Al\u{200b}ice\u{feff}");
        check("Al\u{200d}ice \u{200d}", r"Al\u{200d}ice \u{200d}");
        check("é\u{200d}\u{200d}", "é\u{200d}\\u{200d}");
        check(
            "x\u{e0041}\u{e007f}\u{e0100}",
            r"x\u{e0041}\u{e007f}\u{e0100}",
        );
        // A tag outside the three flags, or behind one.
        check(
            "\u{1f3f4}\u{e0067}\u{e007f}",
            "\u{1f3f4}\\u{e0067}\\u{e007f}",
        );
        check(
            &format!("{}\u{e0061}\u{200d}", TAG_FLAGS[0]),
            &format!("{}\\u{{e0061}}\\u{{200d}}", TAG_FLAGS[0]),
        );
        check("\u{301}", r"\u{301}");
        check("\u{fffe}\u{10ffff}", r"\u{fffe}\u{10ffff}");
    }

    #[test]
    fn variation_selectors_need_two_presentations() {
        check("Al\u{fe00}ice\u{fe0f}", r"Al\u{fe00}ice\u{fe0f}");
        check("\u{fe0f}", r"\u{fe0f}");
        check("❤\u{fe0f}e\u{fe0e}", "❤\u{fe0f}e\\u{fe0e}");
        // Telephone keys are the only ASCII characters with two presentations.
        check("#\u{fe0f}\u{20e3}", "#\u{fe0f}\u{20e3}");
        check("#\u{fe0e}\u{20e3}", "#\\u{fe0e}\\u{20e3}");
        check("a\u{fe0f}\u{20e3}", "a\\u{fe0f}\\u{20e3}");
        check("1\u{301}\u{fe0f}\u{20e3}", "1\u{301}\\u{fe0f}\\u{20e3}");
    }

    #[test]
    fn blank_characters_become_visible() {
        for character in "\u{2800}\u{13430}\u{1343f}\u{13440}\u{1345f}\u{16fe4}".chars() {
            check(
                &format!("日{character}b"),
                &format!("日{}b", character.escape_unicode()),
            );
        }
        check("\u{2801}\u{28ff}\u{1342f}", "\u{2801}\u{28ff}\u{1342f}");
    }

    #[test]
    fn combining_marks_are_bounded() {
        let tower = format!("a{}", "\u{301}".repeat(20));
        let expected = format!(
            "a{}{}",
            "\u{301}".repeat(MARKS_MAX),
            r"\u{301}".repeat(20 - MARKS_MAX)
        );
        check(&tower, &expected);
        let tower = tower.replace('a', "é").replace('\u{301}', "\u{fe0f}");
        let expected = expected.replace('a', "é").replace('\u{301}', "\u{fe0f}");
        check(&tower, &expected.replace("301", "fe0f"));
    }

    #[test]
    fn a_name_cannot_forge_another() {
        for (name, expected) in [
            ("Alice_1.x-", "@Alice_1.x-: hi"),
            ("Bob: yes @Al", r"@Bob\u{3a}\u{20}yes\u{20}\u{40}Al: hi"),
            ("é\n", r"@\u{e9}\u{a}: hi"),
            ("", "@(no name): hi"),
        ] {
            assert_eq!(Printable::message(name, "hi").as_str(), expected);
        }
        assert_eq!(
            Printable::new().name(&"x".repeat(33)).as_str(),
            format!("{}…", "x".repeat(32))
        );
    }

    /// Written independently of the code above: characters that must never be printed.
    fn is_dangerous(character: char) -> bool {
        matches!(u32::from(character),
            0..=0x1f | 0x7f..=0x9f | 0x61c | 0x200b | 0x200e | 0x200f
            | 0x2028..=0x202e | 0x2060..=0x206f | 0x2800 | 0x13430..=0x1345f | 0x16fe4 | 0xfeff | 0xe0000..=0xe0fff)
    }

    fn any_text() -> impl Strategy<Value = String> {
        // Half of the characters are from the dangerous ranges.
        let nasty = prop_oneof![
            0u32..0xa0,
            0x2000u32..0x2070,
            0x300u32..0x310,
            0xfe00u32..0xfe10,
            0x20e0u32..0x20e5,
            0x27feu32..0x2802,
            0x13420u32..0x13460,
            0xe0000u32..0xe0080
        ]
        .prop_map(|number| char::from_u32(number).unwrap_or('x'));
        proptest::collection::vec(prop_oneof![nasty, any::<char>()], 0..60)
            .prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn nothing_dangerous_comes_out(sender in any_text(), text in any_text()) {
            let line = Printable::message(&sender, &text);
            prop_assert!(!line.as_str().chars().any(is_dangerous), "{line:?}");
            prop_assert_eq!(line.as_str().lines().count(), 1);
            // The first ": " ends the real name, whatever the name contains.
            let (head, _) = line.as_str().split_once(": ").expect("a head");
            prop_assert!(!head[1..].contains(['@', ':', ' ']) || sender.is_empty());
        }

        /// Sanitizing is idempotent.
        #[test]
        fn sanitizing_twice_changes_nothing(text in any_text()) {
            let once = Printable::new().untrusted(&text);
            prop_assert_eq!(Printable::new().untrusted(once.as_str()), once);
        }
    }
}
