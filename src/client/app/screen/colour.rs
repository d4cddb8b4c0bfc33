//! Colours of names: one name, one colour, readable on dark and on light grounds. Pure.

use ratatui_core::style::Color;

/// How many colours the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    /// None are wanted, or the terminal has none.
    None,
    /// The eight of every terminal, in the shades that it gives them.
    Eight,
    /// 256, in shades that are known.
    Full,
}

/// Colours of 256 whose contrast is at least 3.6 on black and on white.
const FULL: [u8; 12] = [131, 166, 100, 64, 28, 30, 32, 63, 98, 128, 133, 162];

/// Without the two that one of the grounds may swallow, black and white, and without
/// yellow, which most terminals show too bright for a light one.
const EIGHT: [Color; 5] = [
    Color::Red,
    Color::Green,
    Color::Blue,
    Color::Magenta,
    Color::Cyan,
];

impl Colours {
    /// From the environment: `NO_COLOR`, `TERM` and `COLORTERM`.
    pub(super) fn of(is_colourful: bool, term: &str, colorterm: &str) -> Self {
        // DEC's terminals have none, and take parts of newer sequences for blinking.
        if !is_colourful || term.starts_with("vt") {
            Self::None
        } else if term.contains("256") || term.contains("direct") || !colorterm.is_empty() {
            Self::Full
        } else {
            Self::Eight
        }
    }

    /// The colour of a name, whatever its case.
    pub(super) fn of_name(self, name: &str) -> Color {
        // FNV-1a: the same on every machine, so that people can talk about colours.
        let hash = name
            .bytes()
            .map(|byte| byte.to_ascii_lowercase())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let hash = usize::try_from(hash >> 33).unwrap_or_default();
        let colour = match self {
            Self::None => None,
            Self::Eight => EIGHT.get(hash % EIGHT.len()).copied(),
            Self::Full => FULL.get(hash % FULL.len()).copied().map(Color::Indexed),
        };
        colour.unwrap_or(Color::Reset)
    }

    /// The colour of what went wrong.
    pub(super) fn of_problems(self) -> Color {
        match self {
            Self::None => Color::Reset,
            Self::Eight => Color::Red,
            Self::Full => Color::Indexed(160),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of a colour of the 6x6x6 cube, as WCAG defines it.
    fn luminance(index: u8) -> f64 {
        let levels = [0, 95, 135, 175, 215, 255];
        let linear = |level: usize| {
            let level = f64::from(levels[level]) / 255.0;
            match level <= 0.03928 {
                true => level / 12.92,
                false => ((level + 0.055) / 1.055).powf(2.4),
            }
        };
        let index = usize::from(index - 16);
        0.2126 * linear(index / 36) + 0.7152 * linear(index / 6 % 6) + 0.0722 * linear(index % 6)
    }

    #[test]
    fn names_are_readable_on_dark_and_on_light_grounds() {
        for index in FULL.into_iter().chain([160]) {
            let luminance = luminance(index) + 0.05;
            let (on_black, on_white) = (luminance / 0.05, 1.05 / luminance);
            assert!(
                on_black >= 3.6 && on_white >= 3.6,
                "{index}: {on_black} {on_white}"
            );
        }
    }

    #[test]
    fn a_name_keeps_its_colour() {
        let colours = Colours::of(true, "xterm-256color", "");
        assert_eq!(colours.of_name("Bob"), colours.of_name("bOB"));
        let names = ["Alice", "Bob", "Carol", "Dave", "Eve", "Frank"];
        let mut seen: Vec<_> = names.map(|name| colours.of_name(name)).into();
        seen.dedup();
        assert!(seen.len() > 3, "{seen:?}");
        assert_eq!(
            Colours::of(false, "xterm", "truecolor").of_name("Bob"),
            Color::Reset
        );
        assert_eq!(Colours::of(true, "xterm", ""), Colours::Eight);
        assert_eq!(Colours::of(true, "vt100", ""), Colours::None);
    }
}
