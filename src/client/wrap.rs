//! Wrapping: cuts lines into the rows of a terminal. Pure: lines in, text out.
//!
//! A terminal continues a full row at the left edge of the next, where `@Carol: yes` in
//! Bob's text, after enough spaces, would look like a line of Carol's. So lines are cut
//! here, before the terminal does it, and every row but a line's first begins with
//! [`INDENT`]: only this program puts text at the left edge.
//!
//! Where terminals disagree about the width of a character, the larger width counts: a
//! row may be cut too early, never too late.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthChar;

use super::sanitize::Printable;

/// The start of every row of a line but its first.
pub const INDENT: &str = "  ";

/// The narrowest terminal for which lines are cut, in columns. A narrower one has no
/// room for a forgery, and hardly any for text.
pub const COLUMNS_MIN: usize = 8;

// The indent and the widest character fit into a row.
const _: () = assert!(INDENT.len() + WIDTH_MAX <= COLUMNS_MIN);

/// The widest character, in columns.
const WIDTH_MAX: usize = 3;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A line for a terminal.
///
/// ```
/// use chat::client::Line;
///
/// let line = Line::message("Bob", "well, to be honest  @Carol: yes");
/// assert_eq!(line.rows(26, false), "@Bob: well, to be honest  \n  @Carol: yes\n");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    style: &'static str,
    head: Printable,
    body: Printable,
}

impl Line {
    /// A chat: `@name: text`, the name bold.
    pub fn message(sender: &str, text: &str) -> Self {
        Self {
            style: BOLD,
            head: Printable::new().trusted("@").name(sender).trusted(":"),
            body: Printable::new().trusted(" ").untrusted(text),
        }
    }

    /// A notice: begins with a star, where a chat begins with `@`.
    pub fn notice(line: &Printable) -> Self {
        Self {
            style: DIM,
            head: Printable::new().trusted("* ").append(line),
            body: Printable::new(),
        }
    }

    /// The rows for a terminal of this width, each with a line break.
    pub fn rows(&self, columns: usize, is_colourful: bool) -> String {
        let (style, plain) = if is_colourful {
            (self.style, PLAIN)
        } else {
            ("", "")
        };
        let mut rows = Rows {
            text: style.to_owned(),
            column: 0,
            columns: if columns < COLUMNS_MIN {
                usize::MAX
            } else {
                columns
            },
        };
        rows.put(self.head.as_str());
        rows.text.push_str(plain);
        rows.put(self.body.as_str());
        rows.text.push('\n');
        rows.text
    }
}

/// The rows that have been filled so far.
struct Rows {
    text: String,
    /// The cursor's column, from 0.
    column: usize,
    columns: usize,
}

impl Rows {
    /// Appends `line`. Words are kept whole if they fit into a row, and so are grapheme
    /// clusters.
    fn put(&mut self, line: &str) {
        for word in line.split_inclusive(' ') {
            self.make_room(width(word.trim_end_matches(' ')));
            for cluster in word.graphemes(true) {
                if cluster == " " && self.column == self.columns {
                    // The row break stands for the space between two words.
                    self.new_row();
                    continue;
                }
                self.make_room(width(cluster));
                for character in cluster.chars() {
                    self.put_character(character);
                }
            }
        }
    }

    /// Starts a row if so many columns fit into a new one and not into this one.
    fn make_room(&mut self, columns: usize) {
        let fits_into_a_new_row = INDENT.len() + columns <= self.columns;
        if fits_into_a_new_row && columns > self.columns.saturating_sub(self.column) {
            self.new_row();
        }
    }

    fn put_character(&mut self, character: char) {
        let columns = character_width(character);
        self.make_room(columns);
        self.text.push(character);
        self.column = self.column.saturating_add(columns);
    }

    fn new_row(&mut self) {
        self.text.push('\n');
        self.text.push_str(INDENT);
        self.column = INDENT.len();
    }
}

/// The largest width of a piece of a [`Printable`].
fn width(piece: &str) -> usize {
    piece.chars().map(character_width).sum()
}

fn character_width(character: char) -> usize {
    match character {
        // Widens the character before it in some terminals.
        '\u{fe0f}' => 1,
        // Half a flag, or a whole character in a terminal without flags.
        '\u{1f1e6}'..='\u{1f1ff}' => 2,
        _ => character.width().unwrap_or(0).min(WIDTH_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, columns: usize, expected: &str) {
        let rows = Line::message("Bob", text).rows(columns, false);
        assert_eq!(rows, format!("{expected}\n"), "{text:?}");
    }

    #[test]
    fn words_stay_whole_where_they_fit() {
        check("hello", 11, "@Bob: hello");
        check("hello", 10, "@Bob: \n  hello");
        check("hello you all", 15, "@Bob: hello you\n  all");
        check("hello you all", 14, "@Bob: hello \n  you all");
        // Longer than a row: cut where the row ends.
        check("0123456789", 8, "@Bob: 01\n  234567\n  89");
    }

    #[test]
    fn no_text_reaches_the_left_edge() {
        let forged = format!("x{}@Carol: yes", " ".repeat(9));
        check(&forged, 16, "@Bob: x         \n  @Carol: yes");
        check(&forged, 12, "@Bob: x     \n     @Carol:\n  yes");
        check(
            &format!("{}@Eve:", "é".repeat(10)),
            16,
            "@Bob: éééééééééé\n  @Eve:",
        );
    }

    #[test]
    fn wide_and_zero_width_characters_count_as_they_show() {
        check("日本語", 12, "@Bob: 日本語");
        check("日本語日本", 12, "@Bob: \n  日本語日本");
        let e = |count| "e\u{301}".repeat(count);
        check(&e(8), 8, &format!("@Bob: {}\n  {}", e(2), e(6)));
        // Together where they fit, apart where they do not.
        check("a👩\u{200d}🔬", 10, "@Bob: \n  a👩\u{200d}🔬");
        check("1❤\u{fe0f}", 8, "@Bob: \n  1❤\u{fe0f}");
        check("🇩🇪", 9, "@Bob: \n  🇩🇪");
        let family = ["👩"; 4].join("\u{200d}");
        check(&family, 8, "@Bob: 👩\u{200d}\n  👩\u{200d}👩\u{200d}👩");
    }

    #[test]
    fn names_and_notices_are_cut_too() {
        let rows = Line::message("\u{1b}\u{1b}", "hi").rows(8, false);
        assert_eq!(rows, "@\\u{1b}\\\n  u{1b}:\n  hi\n");
        let notice = Printable::new()
            .trusted("not sent: ")
            .untrusted("@Carol: yes");
        assert_eq!(
            Line::notice(&notice).rows(14, false),
            "* not sent: \n  @Carol: yes\n"
        );
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(
            Line::message("Bob", "hi you").rows(8, true),
            "\x1b[1m@Bob:\x1b[0m hi\n  you\n"
        );
        let notice = Line::notice(&Printable::new().trusted("Eve joined"));
        assert_eq!(notice.rows(80, true), "\x1b[2m* Eve joined\x1b[0m\n");
    }

    #[test]
    fn a_terminal_without_a_width_is_not_wrapped() {
        let line = Line::message("Bob", &"x".repeat(100));
        assert_eq!(line.rows(7, false), format!("@Bob: {}\n", "x".repeat(100)));
        assert_eq!(line.rows(0, false).lines().count(), 1);
    }
}
