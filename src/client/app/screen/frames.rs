//! Frames as bytes for a terminal that is written to later.

use std::io::{self, Write};

use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::Color;
use ratatui_crossterm::CrosstermBackend;

use super::draw::link_colour;

/// Frames as bytes: cells, and links around those that belong to one (OSC 8).
pub(super) struct Frames {
    pub(super) bytes: Vec<u8>,
    pub(super) size: Size,
    pub(super) links: Vec<String>,
}

impl Frames {
    pub(super) fn new(size: Size) -> Self {
        Self {
            bytes: Vec::new(),
            size,
            links: Vec::new(),
        }
    }

    fn inner(&mut self) -> CrosstermBackend<&mut Vec<u8>> {
        CrosstermBackend::new(&mut self.bytes)
    }
}

impl Backend for Frames {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut run: Vec<(u16, u16, Cell)> = Vec::new();
        let mut colour = Color::Reset;
        for (x, y, cell) in content {
            if cell.underline_color != colour {
                self.draw_run(colour, &mut run)?;
                colour = cell.underline_color;
            }
            let mut cell = cell.clone();
            cell.underline_color = Color::Reset;
            run.push((x, y, cell));
        }
        self.draw_run(colour, &mut run)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner().hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner().show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // Asking the terminal would mix its answer with what is typed.
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.inner().set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner().clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.inner().clear_region(clear_type)
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize {
            columns_rows: self.size,
            pixels: Size::ZERO,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Frames {
    /// Draws cells of one link, or of none.
    fn draw_run(&mut self, colour: Color, run: &mut Vec<(u16, u16, Cell)>) -> io::Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        let url = self.links.iter().find(|url| link_colour(url) == colour);
        let url = url.filter(|_| colour != Color::Reset).cloned();
        if let (Some(url), Color::Rgb(red, green, blue)) = (&url, colour) {
            // The id joins the pieces of an address that is cut.
            let id = format!("{red:02x}{green:02x}{blue:02x}");
            write!(self.bytes, "\x1b]8;id={id};{url}\x1b\\")?;
        }
        let cells = run.iter().map(|(x, y, cell)| (*x, *y, cell));
        self.inner().draw(cells)?;
        if url.is_some() {
            self.bytes.extend_from_slice(b"\x1b]8;;\x1b\\");
        }
        run.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_surrounds_its_cells_only() {
        let mut frames = Frames::new(Size::new(10, 1));
        frames.links = vec!["https://a".to_owned()];
        let mut linked = Cell::new("b");
        linked.underline_color = link_colour("https://a");
        let cells = [Cell::new("a"), linked.clone(), linked, Cell::new("c")];
        let cells = cells.iter().enumerate();
        frames
            .draw(cells.map(|(x, cell)| (x as u16, 0, cell)))
            .expect("a vector");
        let text = String::from_utf8(frames.bytes).expect("UTF-8");
        let (before, rest) = text.split_once("\x1b]8;id=").expect("a link");
        let (_, rest) = rest.split_once(";https://a\x1b\\").expect("its address");
        let (inside, after) = rest.split_once("\x1b]8;;\x1b\\").expect("its end");
        assert!(before.contains('a') && inside.contains("bb") && after.contains('c'));
        assert!(
            !text.contains("58;2"),
            "no underline colour is shown: {text:?}"
        );
    }
}
