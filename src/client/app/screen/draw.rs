//! Drawing: the model as cells of a screen. Pure.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Position;
use ratatui_core::style::{Color, Modifier, Style};
use unicode_segmentation::UnicodeSegmentation;

use super::cells::{cell, cut, put};
use super::colour::Colours;
use super::model::{Ask, Link, Model};
use super::rows::{Block, Mark, Role};
use super::view_list;
use super::views::{Scroll, Subject};
use crate::client::{Printable, drawn_width as width};

/// What stands before the draft, behind the name of what it is for.
const PROMPT: &str = "> ";

/// That name takes at most one in so many columns.
const PROMPT_PART: usize = 3;

/// The composer takes at most one in so many rows.
const COMPOSER_PART: usize = 3;

/// A screen that has been drawn, beside its cells.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    pub(super) cursor: Position,
    /// Web addresses on the screen. A cell of the link N has the underline colour
    /// [`link_colour`] of N, since cells have no other place for it.
    pub(super) links: Vec<String>,
}

/// The underline colour that stands for a link, which is never shown.
pub(super) fn link_colour(text: &str) -> Color {
    // Links with different addresses must differ, so that a changed one is drawn anew.
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let [_, red, green, blue] = hash.to_be_bytes();
    Color::Rgb(red, green, blue)
}

/// Draws everything.
pub(super) fn draw(model: &mut Model, buffer: &mut Buffer) -> Drawn {
    let area = buffer.area;
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    let (draft, cursor) = draft_rows(model, columns);
    let draft_rows_max = (rows / COMPOSER_PART).max(1);
    // The rows around the cursor are shown.
    let shown = draft.len().min(draft_rows_max);
    let from = (cursor.0 + 1)
        .saturating_sub(shown)
        .min(draft.len() - shown);
    let log_rows = rows.saturating_sub(shown + 1);
    let list_columns = view_list::columns(model, columns);
    model.size = (columns - list_columns, log_rows);
    let mut drawn = Drawn::default();
    draw_log(model, buffer, list_columns, &mut drawn);
    view_list::draw(model, buffer, list_columns);
    if rows > shown {
        draw_status(model, buffer, log_rows, columns);
    }
    let top = rows - shown.min(rows);
    for (index, row) in draft.iter().skip(from).take(shown).enumerate() {
        put(buffer, 0, top + index, row, Style::default());
    }
    let x = cursor.1.min(columns.saturating_sub(1));
    drawn.cursor = Position::new(cell(x), cell(top + cursor.0 - from));
    drawn
}

fn draw_log(model: &Model, buffer: &mut Buffer, left: usize, drawn: &mut Drawn) {
    let mut y = 0;
    for (block, range) in model.visible() {
        for row in block.rows.get(range).unwrap_or_default() {
            let mut x = left + row.indent;
            for (part, bytes) in &row.pieces {
                let text = block.parts.get(*part).map_or("", Printable::as_str);
                let piece = text.get(bytes.clone()).unwrap_or_default();
                let mut at = bytes.start;
                for cluster in piece.graphemes(true) {
                    let style = style(model, &block, *part, at, drawn);
                    x = put(buffer, x, y, cluster, style);
                    at += cluster.len();
                }
            }
            y += 1;
        }
    }
}

/// The style of the byte `at` of a part.
fn style(model: &Model, block: &Block, part: usize, at: usize, drawn: &mut Drawn) -> Style {
    let colours = model.settings.colours;
    let plain = Style::default();
    let dim = plain.add_modifier(Modifier::DIM);
    let bold = plain.add_modifier(Modifier::BOLD);
    let mut style = match block.roles.get(part) {
        Some(Role::Name(name)) => bold.fg(colours.of_name(name)),
        Some(Role::OwnName) => bold,
        Some(Role::Problem) => bold.fg(colours.of_problems()),
        Some(Role::Text) | None => plain,
        Some(Role::Time | Role::Notice | Role::State | Role::Unconfirmed | Role::Rule) => dim,
    };
    for (marked, bytes, mark) in &block.marks {
        if *marked != part || !bytes.contains(&at) {
            continue;
        }
        style = match mark {
            Mark::Link(url) => {
                if !drawn.links.contains(url) {
                    drawn.links.push(url.clone());
                }
                style
                    .add_modifier(Modifier::UNDERLINED)
                    .underline_color(link_colour(url))
            }
            Mark::Mention => mention(style, colours),
            Mark::Hit => style.add_modifier(Modifier::REVERSED),
        };
    }
    style
}

/// One's own name in a message: also seen without colours.
fn mention(style: Style, colours: Colours) -> Style {
    let style = style.add_modifier(Modifier::BOLD | Modifier::REVERSED);
    match colours {
        Colours::None => style,
        _ => style.fg(colours.of_problems()),
    }
}

/// How many transfers the status line shows, and how wide the bar of each is.
const BARS_MAX: usize = 2;
const BAR_CELLS: usize = 10;

/// The status line: on the right what may need an answer, on the left the rest.
fn draw_status(model: &Model, buffer: &mut Buffer, y: usize, columns: usize) {
    let bar = Style::default().add_modifier(Modifier::REVERSED);
    put(buffer, 0, y, &" ".repeat(columns), bar);
    let state = format!(" {} ", state(model, columns).trim());
    let state_columns = width(&state).min(columns);
    let left = format!(" {}", facts(model));
    let room = columns - state_columns;
    let mut shown = String::new();
    for cluster in left.graphemes(true) {
        if width(&shown) + width(cluster) > room {
            shown.pop();
            shown.push('…');
            break;
        }
        shown.push_str(cluster);
    }
    put(buffer, 0, y, &shown, bar);
    let is_urgent = model.ask.is_some() || model.link != Link::Up || model.views.mentions() > 0;
    let style = match is_urgent {
        true => bar.add_modifier(Modifier::BOLD),
        false => bar,
    };
    put(buffer, columns - state_columns, y, &state, style);
}

/// "Alice · 3 here · 12 ms · localhost:7227".
fn facts(model: &Model) -> String {
    let mut facts = Vec::new();
    if model.views.len() > 1 {
        let view = model.views.current();
        let number = model.views.current_index() + 1;
        let label = Printable::new().untrusted(&view.subject.label());
        facts.push(format!("{number} {label}"));
    }
    facts.push(Printable::new().name(&model.name).to_string());
    if model.link == Link::Up {
        if model.has_presence {
            facts.push(format!("{} here", model.members.len()));
        }
        if let Some(round_trip_ms) = model.round_trip_ms {
            facts.push(format!("{round_trip_ms} ms"));
        }
    }
    let server = model.server.as_str();
    facts.push(server.strip_prefix("chat://").unwrap_or(server).to_owned());
    facts.join(" · ")
}

fn state(model: &Model, columns: usize) -> String {
    if let Some(ask) = model.ask {
        return match ask {
            Ask::Send(lines) => format!("send {lines} lines? Enter sends, Esc does not"),
            Ask::Leave { .. } => "Ctrl-C again leaves".to_owned(),
        };
    }
    if model.is_leaving {
        return match model.outbox.len() {
            0 => "leaving".to_owned(),
            waiting => format!("leaving, {waiting} lines to send; Ctrl-C drops them"),
        };
    }
    if let Some(search) = &model.search {
        let wanted = Printable::new().untrusted(&search.wanted);
        let count = search.found.len();
        let at = count - search.at.min(count);
        return format!("search: {wanted} ({at}/{count}) Enter older, Esc ends");
    }
    let mut states = Vec::new();
    match model.link {
        Link::Up => {}
        Link::Connecting => states.push("connecting".to_owned()),
        Link::Waiting { until_ms } if until_ms <= model.now.ms => {
            states.push("connecting".to_owned());
        }
        Link::Waiting { until_ms } => {
            let seconds = until_ms.saturating_sub(model.now.ms).div_ceil(1_000);
            states.push(format!("reconnecting in {seconds} s"));
        }
        Link::Down => states.push("not connected: /connect or /quit".to_owned()),
    }
    for (name, done, total) in model.transfers.values().take(BARS_MAX) {
        states.push(bar(name, *done, *total));
    }
    let mentions = model.views.mentions();
    if mentions > 0 {
        states.push(format!("{mentions} for you"));
    }
    match (model.views.unread_here(), model.views.current().scroll) {
        (0, Scroll::Bottom) => {}
        (0, Scroll::At { .. }) => states.push("scrolled up".to_owned()),
        (unread, Scroll::Bottom) => states.push(format!("{unread} unread")),
        (unread, Scroll::At { .. }) => states.push(format!("{unread} unread below")),
    }
    if view_list::columns(model, columns) == 0 {
        states.extend(view_list::active(model, columns));
    }
    states.join(" · ")
}

/// "fetching a.pdf [####------] 42%"
fn bar(name: &str, done: u64, total: u64) -> String {
    // In parts of a thousand, so that no size is too large.
    let parts = done.saturating_mul(1_000) / total.max(1);
    let cells = usize::try_from(parts).unwrap_or(1_000).min(1_000) * BAR_CELLS / 1_000;
    let name = Printable::new().untrusted(name);
    format!(
        "{name} [{}{}] {}%",
        "#".repeat(cells),
        "-".repeat(BAR_CELLS - cells),
        parts / 10
    )
}

/// "> ", "#build> " or "@Bob> ".
fn prompt(model: &Model, columns: usize) -> String {
    let name = match model.target() {
        Subject::Room => String::new(),
        target => target.label(),
    };
    let name = Printable::new().untrusted(&name);
    cut(name.as_str(), columns / PROMPT_PART) + PROMPT
}

/// The rows of the draft, and the cursor's row and column among them.
fn draft_rows(model: &Model, columns: usize) -> (Vec<String>, (usize, usize)) {
    let text = model.composer.text();
    let cursor_at = model.composer.cursor();
    let indent = " ".repeat(width(PROMPT));
    let prompt = prompt(model, columns);
    let mut column = width(&prompt);
    let mut rows = vec![prompt];
    let mut cursor = None;
    let mut at = 0;
    for cluster in text.graphemes(true) {
        if at == cursor_at {
            cursor = Some((rows.len() - 1, column));
        }
        at += cluster.len();
        // What may not be shown as it is becomes visible.
        let shown = match cluster {
            "\n" => Printable::new(),
            _ => Printable::new().untrusted(cluster),
        };
        let shown_columns = width(shown.as_str());
        // The cursor needs a column behind the last character.
        let is_full = column + shown_columns >= columns;
        if cluster == "\n" || is_full && column > indent.len() {
            rows.push(indent.clone());
            column = indent.len();
            if is_full && cluster != "\n" && at - cluster.len() == cursor_at {
                cursor = Some((rows.len() - 1, column));
            }
        }
        if let Some(row) = rows.last_mut() {
            row.push_str(shown.as_str());
        }
        column += shown_columns;
    }
    let cursor = cursor.unwrap_or((rows.len() - 1, column));
    (rows, cursor)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use ratatui_core::layout::Rect;

    use super::*;
    use crate::client::Event;
    use crate::client::app::screen::history::History;
    use crate::client::app::screen::model::{Action, Now};
    use crate::client::app::screen::settings::Settings;
    use crate::wire::{Capability, Limits, Registered};

    /// 2026-05-04 23:58 UTC.
    const EVENING_MS: i64 = 1_777_939_080_000;
    const MINUTE_MS: i64 = 60_000;

    fn model(now: Now) -> Model {
        let settings = Settings {
            has_bell: true,
            notifies: true,
            keeps_history: false,
            has_mouse: false,
            time: Some("%H:%M".to_owned()),
            colours: Colours::Full,
        };
        let mut model = Model::new(settings, TimeZone::UTC, History::default(), now);
        let registered = Registered {
            name: "Alice".to_owned(),
            epoch: "e".to_owned(),
            capabilities: vec![Capability::Receipts.into(), Capability::Presence.into()],
            limits: Some(Limits {
                text_bytes_max: 100,
                ..Limits::default()
            }),
            ..Registered::default()
        };
        let address = "localhost".parse().expect("an address");
        model.connected(&address, &registered);
        model
    }

    fn at(ms: u64) -> Now {
        Now {
            ms,
            unix_ms: EVENING_MS + i64::try_from(ms).expect("a short time"),
        }
    }

    fn said(model: &mut Model, seq: u64, text: &str, minutes: i64) {
        model.event(Event::Message {
            seq,
            sender: "Bob".to_owned(),
            text: text.to_owned(),
            time_unix_ms: EVENING_MS + minutes * MINUTE_MS,
            topic: String::new(),
            mentions: Vec::new(),
            sender_id: None,
            files: Vec::new(),
        });
    }

    fn drawn(model: &mut Model, columns: u16, rows: u16) -> (Buffer, String) {
        let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
        draw(model, &mut buffer);
        let row = |y| {
            let cells = (0..columns).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        let text = (0..rows).map(row).collect();
        (buffer, text)
    }

    #[test]
    fn times_days_and_the_unread_marker() {
        let mut model = model(at(0));
        said(&mut model, 1, "before midnight", 0);
        said(
            &mut model,
            2,
            "after midnight, and long enough for another row",
            3,
        );
        model.focus(false);
        said(&mut model, 3, "hi alice, see https://a.example", 4);
        let (buffer, text) = drawn(&mut model, 44, 12);
        insta::assert_snapshot!(text, @r"
        23:58 Bob: before midnight
        ── Tue 5 May 2026 ──
        00:01 Bob: after midnight, and long enough
                for another row
        ── unread below ──
        00:02 Bob: hi alice, see https://a.example




         Alice · 0 here · loc… 1 for you · 1 unread
        >
        ");
        assert_eq!(model.actions.len(), 2, "{:?}", model.actions);
        assert!(matches!(
            model.actions[..],
            [Action::Bell, Action::Notify(_)]
        ));
        let style = |x, y| buffer[(x, y)].style();
        assert!(style(0, 0).add_modifier.contains(Modifier::DIM));
        assert_eq!(style(6, 0).fg, Some(Colours::Full.of_name("bob")));
        // The mention, and the address.
        assert!(style(14, 5).add_modifier.contains(Modifier::REVERSED));
        assert!(style(25, 5).add_modifier.contains(Modifier::UNDERLINED));
        assert_eq!(
            style(25, 5).underline_color,
            Some(link_colour("https://a.example"))
        );
    }

    #[test]
    fn a_line_is_late_after_two_seconds() {
        let mut model = model(at(0));
        model.queue("hello");
        model.taken(1);
        for (ms, shown) in [
            (1_999, "Alice: hello (…)"),
            (2_000, "Alice: hello (not confirmed)"),
        ] {
            assert_eq!(model.next_tick_ms(), Some(2_000));
            model.now = at(ms);
            assert!(drawn(&mut model, 60, 6).1.contains(shown), "{ms}");
        }
        assert!(model.tick() && model.next_tick_ms().is_none());
        model.event(Event::Receipt { id: 1, seq: 1 });
        let (_, text) = drawn(&mut model, 60, 6);
        assert!(
            text.contains("Alice: hello\n") && text.contains("2000 ms"),
            "{text}"
        );
    }

    #[test]
    fn no_size_panics() {
        let mut model = model(at(0));
        for number in 0..50 {
            said(
                &mut model,
                number,
                &"日本 e\u{301} https://a.example/ ".repeat(10),
                0,
            );
        }
        model.paste("one\ntwo\n日本 \u{202e}");
        for columns in (1..40).step_by(3) {
            for rows in (1..20).step_by(2) {
                drawn(&mut model, columns, rows);
                model.scroll_up(7);
                drawn(&mut model, columns, rows);
                model.scroll_down(3);
            }
        }
    }
}
