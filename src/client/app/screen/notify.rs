//! Notices of the desktop: which form of them a terminal knows.

/// How the terminal raises a notice of the desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notify {
    /// Nobody knows.
    No,
    Osc9,
    Osc777,
}

impl Notify {
    /// From the environment, which has the name of the terminal.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is = |name, values: &[&str]| {
            variable(name).is_some_and(|value| values.contains(&value.as_str()))
        };
        // What a multiplexer does not know, it may show as text.
        if variable("TMUX").is_some() || variable("STY").is_some() {
            return Self::No;
        }
        if is("TERM_PROGRAM", &["iTerm.app", "WezTerm", "ghostty"])
            || is("TERM", &["xterm-kitty", "xterm-ghostty"])
        {
            return Self::Osc9;
        }
        if variable("VTE_VERSION").is_some()
            || is("TERM", &["foot", "foot-extra", "rxvt-unicode-256color"])
        {
            return Self::Osc777;
        }
        Self::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_raised_where_the_terminal_knows_how() {
        let of = |pairs: &[(&str, &str)]| {
            Notify::of(|name| {
                let pair = pairs.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[("TERM_PROGRAM", "WezTerm")]), Notify::Osc9);
        assert_eq!(of(&[("TERM", "foot")]), Notify::Osc777);
        assert_eq!(of(&[("TERM", "xterm-kitty"), ("TMUX", "x")]), Notify::No);
        assert_eq!(of(&[("TERM", "xterm")]), Notify::No);
    }
}
