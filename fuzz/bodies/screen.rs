//! What peers wrote, on a terminal: nothing of theirs moves the cursor out of its
//! own line, sets a title, rings a bell or begins a row.

use chat::client::{COLUMNS_MIN, INDENT_COLUMNS_MIN, Printable, wrap};
use unicode_width::UnicodeWidthChar;
use vt100::{Callbacks, Parser, Screen};

/// How long a name or a text may be, in bytes; escapes make ten times as much of it.
const PART_BYTES_MAX: usize = 400;

/// How many lines are shown one below the other.
const LINES_MAX: usize = 6;

/// The first byte is the terminal's width; the rest are names and texts in turn,
/// each with its length before it.
pub fn run(data: &[u8]) {
    let Some((&width, mut rest)) = data.split_first() else {
        return;
    };
    let columns = COLUMNS_MIN + usize::from(width) % 120;
    let mut lines = Vec::new();
    while lines.len() < LINES_MAX && !rest.is_empty() {
        let (name, text) = (part(&mut rest), part(&mut rest));
        // What a peer wrote also stands in notices.
        let notice = Printable::new()
            .name(&name)
            .trusted(" left: ")
            .untrusted(&text);
        lines.push(Printable::new().trusted("* ").append(&notice));
        let message = Printable::message(&name, &text);
        // As pipes get it: one line.
        assert_eq!(message.as_str().lines().count(), 1);
        assert!(!message.as_str().contains(char::is_control));
        lines.push(message);
    }

    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let parts = std::slice::from_ref(line);
            let rows = wrap(parts, columns, INDENT_COLUMNS_MIN);
            let rows = rows.iter().map(|row| row.text(parts) + "\n");
            rows.collect()
        })
        .collect();
    let on_screen = show(&shown.concat(), columns);
    let mut rows = on_screen.iter();
    for (whole, shown) in lines.iter().map(Printable::as_str).zip(&shown) {
        let count = shown.matches('\n').count();
        let own: Vec<&String> = rows.by_ref().take(count).collect();
        let mut seen = String::new();
        for (index, row) in own.into_iter().enumerate() {
            if index == 0 {
                // "@" and a name that is allowed or made visible, or "* ".
                assert!(row.starts_with(&whole[..1]), "{row:?} begins {whole:?}");
                seen.push_str(row);
            } else {
                let rest = row.strip_prefix(&*" ".repeat(INDENT_COLUMNS_MIN));
                let rest = rest.or_else(|| row.trim().is_empty().then_some(""));
                seen.push_str(rest.unwrap_or_else(|| panic!("{row:?} at the edge")));
            }
        }
        assert_eq!(visible(&seen), visible(whole), "all is shown");
    }
    assert!(rows.next().is_none());
}

fn part(rest: &mut &[u8]) -> String {
    let Some((&length, after)) = rest.split_first() else {
        return String::new();
    };
    let length = (usize::from(length) * 2)
        .min(after.len())
        .min(PART_BYTES_MAX);
    let (part, after) = after.split_at(length);
    *rest = after;
    // The emulator does not show the character that stands for what is no text.
    String::from_utf8_lossy(part).replace('\u{fffd}', "?")
}

/// What takes room. The emulator keeps no more than a few marks on a character.
fn visible(text: &str) -> String {
    let takes_room = |character: &char| character.width().is_some_and(|width| width > 0);
    text.chars()
        .filter(|character| *character != ' ' && takes_room(character))
        .collect()
}

/// The rows of a terminal that is as high as it must be; the last one, where the
/// cursor ends, left out.
fn show(text: &str, columns: usize) -> Vec<String> {
    let count = text.matches('\n').count();
    let size = |size: usize| u16::try_from(size).ok().and_then(std::num::NonZeroU16::new);
    let (Some(rows), Some(width)) = (size(count + 2), size(columns)) else {
        panic!("{count} rows of {columns}");
    };
    let mut parser = Parser::new_with_callbacks(rows, width, 0, Silence);
    // As a terminal's driver does it.
    parser.process(text.replace('\n', "\r\n").as_bytes());
    let screen = parser.screen();
    assert_eq!(screen.cursor_position(), (count as u16, 0), "the cursor");
    let is_itself = !screen.alternate_screen() && !screen.hide_cursor();
    assert!(is_itself, "the screen");
    screen.rows(0, width.get()).take(count).collect()
}

/// Everything that a terminal could be asked for beyond showing text and colours.
struct Silence;

impl Callbacks for Silence {
    fn audible_bell(&mut self, _: &mut Screen) {
        panic!("a bell");
    }
    fn visual_bell(&mut self, _: &mut Screen) {
        panic!("a bell");
    }
    fn resize(&mut self, _: &mut Screen, _: (u16, u16)) {
        panic!("another size");
    }
    fn set_window_icon_name(&mut self, _: &mut Screen, _: &[u8]) {
        panic!("a title");
    }
    fn set_window_title(&mut self, _: &mut Screen, _: &[u8]) {
        panic!("a title");
    }
    fn copy_to_clipboard(&mut self, _: &mut Screen, _: &[u8], _: &[u8]) {
        panic!("the clipboard");
    }
    fn paste_from_clipboard(&mut self, _: &mut Screen, _: &[u8]) {
        panic!("the clipboard");
    }
    fn unhandled_char(&mut self, _: &mut Screen, character: char) {
        panic!("a character that is none: {character:?}");
    }
    fn unhandled_control(&mut self, _: &mut Screen, byte: u8) {
        panic!("a control character: {byte:#x}");
    }
    fn unhandled_escape(&mut self, _: &mut Screen, _: Option<u8>, _: Option<u8>, byte: u8) {
        panic!("an escape: {byte:#x}");
    }
    fn unhandled_csi(
        &mut self,
        _: &mut Screen,
        _: Option<u8>,
        _: Option<u8>,
        _: &[&[u16]],
        last: char,
    ) {
        panic!("a sequence: {last:?}");
    }
    fn unhandled_osc(&mut self, _: &mut Screen, _: &[&[u8]]) {
        panic!("a command");
    }
}
