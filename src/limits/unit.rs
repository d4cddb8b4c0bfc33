//! Units: how the value of a limit is read and written, `10s` or `64MiB`. A plain
//! number counts in the unit that the limit's name ends in.

/// What the units of a time are worth, in milliseconds, the shortest first.
const TIMES: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// The times in which a rate counts.
const RATE_TIMES: [(&str, u64); 3] = [("s", 1_000), ("min", 60_000), ("h", 3_600_000)];

/// What the units of a size are worth, in bytes, the smallest first.
const SIZES: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The unit of a limit's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number of something.
    Count,
    /// Bytes: `8192`, `8KiB`.
    Bytes,
    /// Milliseconds: `10000`, `10s`.
    Milliseconds,
    /// How often, kept as the milliseconds from one to the next: `10` and `10/s` are
    /// 100 ms, `2/min` is 30,000. Rounded up, so that the rate is at most the one that
    /// was asked for.
    Rate,
    /// On or off, kept as 1 or 0.
    Switch,
}

impl Unit {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// A sentence that says how values of this unit are written.
    pub fn parse(self, text: &str) -> Result<u64, &'static str> {
        let value = match self {
            Self::Count => text.parse().ok(),
            Self::Bytes => scaled(text, &SIZES),
            Self::Milliseconds => scaled(text, &TIMES),
            Self::Rate => interval_ms(text),
            Self::Switch => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Some(1),
                "" | "0" | "false" | "no" | "off" => Some(0),
                _ => None,
            },
        };
        value.ok_or(match self {
            Self::Count => "write a whole number, like 100",
            Self::Bytes => {
                "write a whole number of bytes, or one with a unit \
                 (B, KiB, MiB, GiB, TiB), like 64MiB"
            }
            Self::Milliseconds => {
                "write a whole number of milliseconds, or one with a unit \
                 (ms, s, min, h, d), like 10s"
            }
            Self::Rate => {
                "write a whole number a second, 1 to 1000, or one with a unit \
                 (/s, /min, /h), like 20/min"
            }
            Self::Switch => "write yes or no",
        })
    }

    /// Writes a value in the largest unit that leaves it whole; [`Unit::parse`] reads
    /// it back.
    pub fn show(self, value: u64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Bytes => shown(value, &SIZES),
            Self::Milliseconds => shown(value, &TIMES),
            Self::Rate => shown_rate(value),
            Self::Switch => if value == 0 { "no" } else { "yes" }.to_owned(),
        }
    }

    /// What stands for a value in a usage line.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Count => "N",
            Self::Bytes => "SIZE",
            Self::Milliseconds => "TIME",
            Self::Rate => "RATE",
            Self::Switch => "YES|NO",
        }
    }
}

/// A whole number, then one of the units or the first.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.strip_prefix(digits)?.trim_start();
    let worth = match unit {
        "" => 1,
        _ => {
            units
                .iter()
                .find(|(name, _)| unit.eq_ignore_ascii_case(name))?
                .1
        }
    };
    digits.parse::<u64>().ok()?.checked_mul(worth)
}

fn shown(value: u64, units: &[(&str, u64)]) -> String {
    let is_whole = |&&(_, worth): &&(&str, u64)| value >= worth && value.is_multiple_of(worth);
    match units.iter().rfind(is_whole) {
        Some((name, worth)) => format!("{}{name}", value / worth),
        None => value.to_string(),
    }
}

/// So often in a time, as the milliseconds from one to the next.
fn interval_ms(text: &str) -> Option<u64> {
    let (count, time) = text.split_once('/').unwrap_or((text, "s"));
    let time_ms = RATE_TIMES
        .iter()
        .find(|(name, _)| time.eq_ignore_ascii_case(name))?
        .1;
    let count = count.parse::<u64>().ok()?;
    // More than one a millisecond cannot be said to clients.
    (1..=time_ms)
        .contains(&count)
        .then(|| time_ms.div_ceil(count))
}

/// The most in one of the times that gives this interval.
fn shown_rate(interval_ms: u64) -> String {
    RATE_TIMES
        .iter()
        .find_map(|&(name, time_ms)| {
            let count = match interval_ms {
                0 => return None,
                1 => time_ms,
                _ => (time_ms - 1) / (interval_ms - 1),
            };
            let is_exact = count > 0 && time_ms.div_ceil(count) == interval_ms;
            is_exact.then(|| format!("{count}/{name}"))
        })
        .unwrap_or_else(|| format!("1 in {interval_ms}ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text is read as, and how that is written.
    fn read(unit: Unit, text: &str) -> Option<(u64, String)> {
        let value = unit.parse(text).ok()?;
        Some((value, unit.show(value)))
    }

    #[test]
    fn values_with_and_without_a_unit() {
        for (unit, text, value, shown) in [
            (Unit::Count, "100", 100, "100"),
            (Unit::Bytes, "8192", 8_192, "8KiB"),
            (Unit::Bytes, "8KiB", 8_192, "8KiB"),
            (Unit::Bytes, "64 mib", 64 << 20, "64MiB"),
            (Unit::Bytes, "7936B", 7_936, "7936B"),
            (Unit::Bytes, "0", 0, "0"),
            (Unit::Milliseconds, "10000", 10_000, "10s"),
            (Unit::Milliseconds, "10s", 10_000, "10s"),
            (Unit::Milliseconds, "1500ms", 1_500, "1500ms"),
            (Unit::Milliseconds, "90s", 90_000, "90s"),
            (Unit::Milliseconds, "2min", 120_000, "2min"),
            (Unit::Milliseconds, "24h", 86_400_000, "1d"),
            (Unit::Rate, "10", 100, "10/s"),
            (Unit::Rate, "3", 334, "3/s"),
            (Unit::Rate, "1000", 1, "1000/s"),
            (Unit::Rate, "1", 1_000, "1/s"),
            (Unit::Rate, "2/min", 30_000, "2/min"),
            (Unit::Rate, "1/h", 3_600_000, "1/h"),
            (Unit::Switch, "Yes", 1, "yes"),
            (Unit::Switch, "", 0, "no"),
        ] {
            let read = read(unit, text);
            assert_eq!(read, Some((value, shown.to_owned())), "{unit:?} {text}");
        }
    }

    #[test]
    fn values_that_are_none() {
        for (unit, texts) in [
            (
                Unit::Count,
                &["", "-1", "1.5", "10s", "18446744073709551616"][..],
            ),
            (
                Unit::Bytes,
                &["", "KiB", "1.5MiB", "64M", "64Mi B", "10s", "99999999TiB"],
            ),
            (
                Unit::Milliseconds,
                &["", "s", "-1", "1.5s", "10m", "10 s s", "1KiB"],
            ),
            (
                Unit::Rate,
                &["", "0", "1001", "-1", "1.5", "2/", "2/min/s", "/s", "1/d"],
            ),
            (Unit::Switch, &["maybe", "2"]),
        ] {
            for text in texts {
                assert!(unit.parse(text).is_err(), "{unit:?} {text}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for unit in [Unit::Count, Unit::Bytes, Unit::Milliseconds] {
            for value in [
                0,
                1,
                999,
                1_000,
                1_024,
                60_000,
                86_400_001,
                3 << 20,
                u64::MAX,
            ] {
                assert_eq!(unit.parse(&unit.show(value)), Ok(value), "{unit:?} {value}");
            }
        }
        for count in 1..=1_000 {
            let interval_ms = Unit::Rate.parse(&count.to_string()).unwrap();
            let shown = Unit::Rate.show(interval_ms);
            assert_eq!(Unit::Rate.parse(&shown), Ok(interval_ms), "{shown}");
        }
    }
}
