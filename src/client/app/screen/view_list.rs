//! List of views: a column beside the messages where the screen is wide enough, else the
//! ones with news in the status line. Pure.

use ratatui_core::buffer::Buffer;
use ratatui_core::style::{Modifier, Style};

use super::cells::{cut, put};
use super::model::Model;
use super::views::View;
use crate::client::{Printable, drawn_width as width};

/// How wide a screen must be for the column, and how wide the column is with the line
/// behind it.
const SCREEN_COLUMNS_MIN: usize = 100;
const LIST_COLUMNS: usize = 21;

/// What stands between the column and the messages.
const LINE: &str = "│";

/// The status line names a view in at most so many columns, and all of them in at most one
/// in so many of its columns.
const NAME_COLUMNS_MAX: usize = 12;
const ACTIVE_PART: usize = 3;

/// How many columns the list takes: none where the screen is narrow or has one view.
pub(super) fn columns(model: &Model, screen_columns: usize) -> usize {
    match model.views.len() > 1 && screen_columns >= SCREEN_COLUMNS_MIN {
        true => LIST_COLUMNS,
        false => 0,
    }
}

/// Draws the column.
pub(super) fn draw(model: &Model, buffer: &mut Buffer, columns: usize) {
    let Some(room) = columns.checked_sub(width(LINE)) else {
        return;
    };
    let rows = model.size.1;
    let current = model.views.current_index();
    // The view that is shown is on the list, too.
    let first = (current + 1).saturating_sub(rows);
    let mut views = model.views.iter().enumerate().skip(first);
    let colours = model.settings.colours;
    for y in 0..rows {
        put(
            buffer,
            room,
            y,
            LINE,
            Style::default().add_modifier(Modifier::DIM),
        );
        let Some((index, view)) = views.next() else {
            continue;
        };
        let mut style = match view.unread {
            0 => Style::default(),
            _ => Style::default().add_modifier(Modifier::BOLD),
        };
        if view.mentions > 0 {
            style = style.fg(colours.of_problems());
        }
        if index == current {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let news = news(view);
        let name = format!("{:>2} {}", index + 1, label(view));
        let name = cut(&name, room.saturating_sub(width(&news)));
        let blanks = room.saturating_sub(width(&name) + width(&news));
        let line = format!("{name}{}{news}", " ".repeat(blanks));
        put(buffer, 0, y, &line, style);
    }
}

/// The views with news that are not shown, those with mentions first, as far as there is
/// room: "3:@Bob 1! 2:#build 5 +2".
pub(super) fn active(model: &Model, columns: usize) -> Option<String> {
    let current = model.views.current_index();
    let views = || model.views.iter().enumerate();
    let active = || views().filter(|(index, view)| *index != current && view.unread > 0);
    let mentioned = active().filter(|(_, view)| view.mentions > 0);
    let others = active().filter(|(_, view)| view.mentions == 0);
    let mut shown = String::new();
    let mut left_out = 0;
    for (index, view) in mentioned.chain(others) {
        let name = cut(&label(view), NAME_COLUMNS_MAX);
        let item = format!("{}:{name}{}", index + 1, news(view));
        if left_out > 0 || width(&shown) + width(&item) > columns / ACTIVE_PART {
            left_out += 1;
            continue;
        }
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(&item);
    }
    if left_out > 0 {
        shown = format!("{shown} +{left_out}").trim_start().to_owned();
    }
    (!shown.is_empty()).then_some(shown)
}

fn label(view: &View) -> String {
    let label = Printable::new().untrusted(&view.subject.label());
    label.to_string()
}

/// " 3", or " 3!" with a mention.
fn news(view: &View) -> String {
    match (view.unread, view.mentions) {
        (0, _) => String::new(),
        (unread, 0) => format!(" {unread}"),
        (unread, _) => format!(" {unread}!"),
    }
}
