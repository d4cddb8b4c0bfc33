//! Time format: how the times of messages are shown. Pure.

use jiff::civil::DateTime;
use jiff::fmt::strtime;

/// The longest time that is shown, in characters.
const TIME_CHARS_MAX: usize = 24;

/// The format of a time: `short`, `long`, `off`, or a format of strftime.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(super) fn parse_time(value: &str) -> Result<Option<String>, String> {
    let format = match value {
        "off" => return Ok(None),
        "short" => "%H:%M",
        "long" => "%H:%M:%S",
        format => format,
    };
    let shown = strtime::format(format, DateTime::constant(2026, 12, 31, 23, 59, 59, 0));
    match shown {
        Ok(shown) if shown.chars().count() > TIME_CHARS_MAX => {
            Err(format!("a time of more than {TIME_CHARS_MAX} characters"))
        }
        Ok(shown) if shown.is_empty() || shown == format => Err(format!(
            "a time is short, long, off or a format like %H:%M, not {format}"
        )),
        Ok(_) => Ok(Some(format.to_owned())),
        Err(error) => Err(format!("a time cannot be shown as {format}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_checked() {
        let format = |value| parse_time(value).map(|format| format.unwrap_or_default());
        assert_eq!(format("off"), Ok(String::new()));
        assert_eq!(format("short"), Ok("%H:%M".to_owned()));
        assert_eq!(format("%H.%M"), Ok("%H.%M".to_owned()));
        for wrong in ["", "never", "%Q!", "%A %B %A %B %A %B"] {
            assert!(format(wrong).is_err(), "{wrong}");
        }
    }
}
