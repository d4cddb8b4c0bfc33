//! Cells: text in the cells of a screen. Pure.

use ratatui_core::buffer::Buffer;
use ratatui_core::style::Style;
use unicode_segmentation::UnicodeSegmentation;

use crate::client::drawn_width as width;

/// The place of a cell.
pub(super) fn cell(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Puts text into cells, as far as the row goes. Returns the column behind it.
pub(super) fn put(buffer: &mut Buffer, x: usize, y: usize, text: &str, style: Style) -> usize {
    if y >= usize::from(buffer.area.height) {
        return x;
    }
    let room = usize::from(buffer.area.width).saturating_sub(x);
    let (end, _) = buffer.set_stringn(cell(x), cell(y), text, room, style);
    usize::from(end)
}

/// The start of a text, with a mark where something is missing.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut shown = String::new();
    for cluster in text.graphemes(true) {
        if width(&shown) + width(cluster) + 1 > columns {
            break;
        }
        shown.push_str(cluster);
    }
    shown.push('…');
    shown
}
