//! Settings: what `/set` and the options change. Pure.

use jiff::civil::DateTime;
use jiff::fmt::strtime;

use super::colour::Colours;
use crate::client::app::time_format::parse_time;
use crate::nearest::nearest;

/// The options of `/set`.
const KEYS: [&str; 5] = ["bell", "history", "mouse", "notify", "time"];

/// How the screen behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client::app) struct Settings {
    /// Whether a mention rings the bell.
    pub(super) has_bell: bool,
    /// Whether a mention raises a notice of the desktop.
    pub(super) notifies: bool,
    /// Whether typed lines are kept in a file.
    pub(super) keeps_history: bool,
    /// Whether the mouse wheel scrolls.
    pub(super) has_mouse: bool,
    /// The format of times; `None` shows none.
    pub(super) time: Option<String>,
    pub(super) colours: Colours,
}

impl Settings {
    /// A time as it is shown, with the blank behind it.
    pub(super) fn time(&self, at: DateTime) -> String {
        let Some(format) = &self.time else {
            return String::new();
        };
        let mut time = strtime::format(format, at).unwrap_or_default();
        time.push(' ');
        time
    }

    /// Changes one option; `value` is as `/set` and the options of the program have it.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let key = key.to_lowercase();
        let switch = match key.as_str() {
            "time" => {
                self.time = parse_time(value)?;
                return Ok(());
            }
            "bell" => &mut self.has_bell,
            "notify" => &mut self.notifies,
            "history" => &mut self.keeps_history,
            "mouse" => &mut self.has_mouse,
            _ => {
                let hint = nearest(&key, KEYS).map_or_else(
                    || format!("the options are {}", KEYS.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                return Err(format!("unknown option {key}: {hint}"));
            }
        };
        *switch = match value {
            "on" => true,
            "off" => false,
            _ => return Err(format!("{key} is on or off, not {value}")),
        };
        Ok(())
    }

    /// "bell on, history off, …".
    pub(super) fn list(&self) -> String {
        let word = |is_on| if is_on { "on" } else { "off" };
        format!(
            "bell {}, history {}, mouse {}, notify {}, time {}",
            word(self.has_bell),
            word(self.keeps_history),
            word(self.has_mouse),
            word(self.notifies),
            self.time.as_deref().unwrap_or("off"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            has_bell: true,
            notifies: true,
            keeps_history: true,
            has_mouse: true,
            time: None,
            colours: Colours::None,
        }
    }

    #[test]
    fn options_are_set_and_listed() {
        let mut settings = settings();
        for (key, value) in [("time", "short"), ("bell", "off"), ("MOUSE", "off")] {
            settings.set(key, value).expect("an option");
        }
        assert_eq!(
            settings.list(),
            "bell off, history on, mouse off, notify on, time %H:%M"
        );
        let at = DateTime::constant(2026, 1, 2, 3, 4, 5, 0);
        assert_eq!(settings.time(at), "03:04 ");
        settings.set("time", "off").expect("an option");
        assert_eq!(settings.time(at), "");
    }

    #[test]
    fn mistakes_name_what_is_known() {
        for (key, value, sentence) in [
            ("bel", "on", "unknown option bel: did you mean bell?"),
            (
                "x",
                "on",
                "unknown option x: the options are bell, history, mouse, notify, time",
            ),
            ("bell", "loud", "bell is on or off, not loud"),
            (
                "time",
                "never",
                "a time is short, long, off or a format like %H:%M, not never",
            ),
        ] {
            assert_eq!(settings().set(key, value), Err(sentence.to_owned()));
        }
    }
}
