//! Wrapping: cuts lines into the rows of a terminal. Pure: lines in, ranges out.
//!
//! A terminal continues a full row at the left edge of the next, where `@Carol: yes` in
//! Bob's text, after enough spaces, would look like a line of Carol's. So lines are cut
//! here, before the terminal does it, and every row but a line's first is indented: only
//! this program puts text at the left edge.
//!
//! Where terminals disagree about the width of a character, the larger width counts: a
//! row may be cut too early, never too late.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthChar;
#[cfg(feature = "cli")]
use unicode_width::UnicodeWidthStr;

use super::sanitize::Printable;

/// The smallest indent of every row of a line but its first, in columns.
pub const INDENT_COLUMNS_MIN: usize = 2;

/// The narrowest terminal for which lines are cut, in columns. A narrower one has no
/// room for a forgery, and hardly any for text.
pub const COLUMNS_MIN: usize = 8;

// The indent and the widest character fit into a row.
const _: () = assert!(COLUMNS_MIN / INDENT_PART + WIDTH_MAX <= COLUMNS_MIN);

/// An indent takes at most one in so many columns.
const INDENT_PART: usize = 3;

/// The widest character, in columns.
const WIDTH_MAX: usize = 3;

/// One row of a wrapped line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// How many columns are blank at the left edge.
    pub indent: usize,
    /// What stands behind the indent: bytes of the parts, each with the part's index.
    pub pieces: Vec<(usize, Range<usize>)>,
}

impl Row {
    /// The row as text, given the parts that were wrapped.
    pub fn text(&self, parts: &[Printable]) -> String {
        let mut text = " ".repeat(self.indent);
        for (part, range) in &self.pieces {
            let part = parts.get(*part).map_or("", Printable::as_str);
            text.push_str(part.get(range.clone()).unwrap_or_default());
        }
        text
    }
}

/// Cuts a line, given in parts, into rows of at most `columns` columns; a terminal
/// narrower than [`COLUMNS_MIN`] is treated as if it were that wide. All rows but the
/// first begin with `indent` blank columns, or with a third of the row if that is less.
/// Words are kept whole where they fit into a row, and so are grapheme clusters.
///
/// ```
/// use chat::client::{Printable, wrap};
///
/// let parts = [Printable::message("Bob", "well, to be honest  @Carol: yes")];
/// let rows = wrap(&parts, 26, 2);
/// let rows: Vec<String> = rows.iter().map(|row| row.text(&parts)).collect();
/// assert_eq!(rows, ["@Bob: well, to be honest  ", "  @Carol: yes"]);
/// ```
pub fn wrap(parts: &[Printable], columns: usize, indent: usize) -> Vec<Row> {
    wrap_by(width, parts, columns, indent)
}

/// The same for a terminal in which `measure` gives the width of a cluster.
pub(super) fn wrap_by(
    measure: fn(&str) -> usize,
    parts: &[Printable],
    columns: usize,
    indent: usize,
) -> Vec<Row> {
    let columns = columns.max(COLUMNS_MIN);
    let indent = indent.clamp(INDENT_COLUMNS_MIN, columns / INDENT_PART);
    let mut rows = Rows {
        measure,
        rows: vec![Row::default()],
        column: 0,
        columns,
        indent,
    };
    for (index, part) in parts.iter().enumerate() {
        rows.put(index, part.as_str());
    }
    rows.rows
}

/// The rows that have been filled so far.
struct Rows {
    measure: fn(&str) -> usize,
    rows: Vec<Row>,
    /// The next free column, from 0.
    column: usize,
    columns: usize,
    indent: usize,
}

impl Rows {
    fn put(&mut self, part: usize, text: &str) {
        let mut at = 0;
        for word in text.split_inclusive(' ') {
            self.make_room((self.measure)(word.trim_end_matches(' ')));
            for cluster in word.graphemes(true) {
                let start = at;
                at += cluster.len();
                if cluster == " " && self.column == self.columns {
                    // The row break stands for the space between two words.
                    self.new_row();
                    continue;
                }
                let columns = (self.measure)(cluster);
                self.make_room(columns);
                if self.column + columns <= self.columns {
                    self.put_piece(part, start..at, columns);
                    continue;
                }
                // Wider than a row.
                let mut from = start;
                for character in cluster.chars() {
                    let to = from + character.len_utf8();
                    let columns = width_max(character);
                    self.make_room(columns);
                    self.put_piece(part, from..to, columns);
                    from = to;
                }
            }
        }
    }

    /// Starts a row if so many columns fit into a new one and not into this one.
    fn make_room(&mut self, columns: usize) {
        let fits_into_a_new_row = self.indent + columns <= self.columns;
        if fits_into_a_new_row && columns > self.columns.saturating_sub(self.column) {
            self.new_row();
        }
    }

    fn put_piece(&mut self, part: usize, bytes: Range<usize>, columns: usize) {
        self.column += columns;
        let Some(row) = self.rows.last_mut() else {
            return;
        };
        match row.pieces.last_mut() {
            Some((last, range)) if *last == part && range.end == bytes.start => {
                range.end = bytes.end;
            }
            _ => row.pieces.push((part, bytes)),
        }
    }

    fn new_row(&mut self) {
        self.rows.push(Row {
            indent: self.indent,
            pieces: Vec::new(),
        });
        self.column = self.indent;
    }
}

/// The largest width of a piece of a [`Printable`] on any terminal, in columns.
pub fn width(piece: &str) -> usize {
    piece.chars().map(width_max).sum()
}

/// The width of a piece in the full screen, in columns: a cluster is as wide as in a
/// terminal that joins its characters. Others draw parts of it beside, over which the rest
/// of the row is drawn.
#[cfg(feature = "cli")]
pub(super) fn drawn_width(piece: &str) -> usize {
    piece.graphemes(true).map(UnicodeWidthStr::width).sum()
}

fn width_max(character: char) -> usize {
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

    fn rows(parts: &[Printable], columns: usize) -> Vec<String> {
        let rows = wrap(parts, columns, 2);
        rows.iter().map(|row| row.text(parts)).collect()
    }

    #[track_caller]
    fn check(text: &str, columns: usize, expected: &str) {
        let parts = [
            Printable::new().trusted("@Bob:"),
            Printable::new().trusted(" ").untrusted(text),
        ];
        assert_eq!(rows(&parts, columns).join("\n"), expected, "{text:?}");
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
    fn the_indent_leaves_room_for_text() {
        let parts = [Printable::new().trusted("0123456789abcdefghij")];
        let wrapped = |columns, indent| {
            let rows = wrap(&parts, columns, indent);
            rows.iter().map(|row| row.text(&parts)).collect::<Vec<_>>()
        };
        assert_eq!(wrapped(12, 4), ["0123456789ab", "    cdefghij"]);
        assert_eq!(wrapped(12, 100), ["0123456789ab", "    cdefghij"]);
        assert_eq!(wrapped(15, 0), ["0123456789abcde", "  fghij"]);
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

    #[cfg(feature = "cli")]
    #[test]
    fn the_full_screen_takes_what_is_joined_for_one_character() {
        let family = ["👩"; 4].join("\u{200d}");
        for (cluster, columns) in [
            (&*family, 2),
            ("👩\u{200d}🔬", 2),
            ("👍🏽", 2),
            ("❤\u{fe0f}", 2),
            ("🇩🇪", 2),
            ("e\u{301}", 1),
            ("日本", 4),
        ] {
            assert_eq!(drawn_width(cluster), columns, "{cluster}");
        }
        let parts = [Printable::message("Bob", &format!("{family}{family} x"))];
        let rows = wrap_by(drawn_width, &parts, 10, 2);
        let rows: Vec<_> = rows.iter().map(|row| row.text(&parts)).collect();
        assert_eq!(rows, [format!("@Bob: {family}{family}"), "  x".to_owned()]);
    }

    #[test]
    fn names_and_notices_are_cut_too() {
        let parts = [Printable::message("\u{1b}\u{1b}", "hi")];
        assert_eq!(rows(&parts, 8), ["@\\u{1b}\\", "  u{1b}:", "  hi"]);
        let notice = Printable::new()
            .trusted("* not sent: ")
            .untrusted("@Carol: yes");
        assert_eq!(rows(&[notice], 14), ["* not sent: ", "  @Carol: yes"]);
    }

    #[test]
    fn a_terminal_without_a_width_has_the_smallest() {
        let parts = [Printable::new().trusted("0123456789")];
        assert_eq!(rows(&parts, 0), ["01234567", "  89"]);
    }
}
