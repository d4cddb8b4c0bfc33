//! Text files: how the suite reads the files that people write.

use std::{fs, path::Path};

/// Some editors begin a file with it. It is no part of the text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a text without its byte order mark.
pub fn read(path: &Path) -> Result<String, String> {
    let text =
        fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    Ok(text.trim_start_matches(BYTE_ORDER_MARK).to_owned())
}

/// Reads a text of which the server has a copy: a byte order mark might be a part of it
/// there.
pub fn read_unmarked(path: &Path) -> Result<String, String> {
    let text =
        fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    match text.starts_with(BYTE_ORDER_MARK) {
        true => Err(format!(
            "{} begins with a byte order mark (U+FEFF); save it as UTF-8 without one",
            path.display()
        )),
        false => Ok(text),
    }
}
