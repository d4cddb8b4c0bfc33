//! Prints messages as JSON, one a line.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use crate::wire;

/// Standard output. A reader that has had enough, such as `head`, is no error.
pub(super) struct Printer {
    output: BufWriter<StdoutLock<'static>>,
    is_closed: bool,
}

impl Printer {
    pub(super) fn new() -> Self {
        Self {
            output: BufWriter::new(io::stdout().lock()),
            is_closed: false,
        }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn print(&mut self, chat: &wire::Chat) -> Result<(), String> {
        let written = write_chat(&mut self.output, chat);
        self.note(written)
    }

    pub(super) fn end(mut self) -> Result<(), String> {
        let flushed = self.output.flush();
        self.note(flushed)
    }

    fn note(&mut self, written: io::Result<()>) -> Result<(), String> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(format!("cannot write the standard output: {error}")),
            Ok(()) => Ok(()),
        }
    }
}

fn write_chat(output: &mut impl Write, chat: &wire::Chat) -> io::Result<()> {
    let (seq, time) = (chat.seq, chat.time_unix_ms);
    write!(output, r#"{{"seq":{seq},"time_unix_ms":{time},"sender":"#)?;
    write_string(output, &chat.sender)?;
    write!(output, r#","text":"#)?;
    write_string(output, &chat.text)?;
    if chat.removed {
        write!(output, r#","removed":true"#)?;
    }
    writeln!(output, "}}")
}

/// A string as RFC 8259 has it, section 7.
fn write_string(output: &mut impl Write, text: &str) -> io::Result<()> {
    write!(output, "\"")?;
    let mut rest = text;
    while let Some(index) = rest.find(|c| c == '"' || c == '\\' || c < ' ') {
        let (plain, escaped) = rest.split_at(index);
        output.write_all(plain.as_bytes())?;
        let mut chars = escaped.chars();
        match chars.next() {
            Some(mark @ ('"' | '\\')) => write!(output, "\\{mark}")?,
            control => write!(output, "\\u{:04x}", control.map_or(0, u32::from))?,
        }
        rest = chars.as_str();
    }
    output.write_all(rest.as_bytes())?;
    write!(output, "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_json_whatever_it_holds() {
        let mut output = Vec::new();
        write_string(&mut output, "a\"b\\c\n\u{1f}\u{7f}ä\u{2028}😀").expect("memory");
        let expected = "\"a\\\"b\\\\c\\u000a\\u001f\u{7f}ä\u{2028}😀\"";
        assert_eq!(String::from_utf8(output).expect("text"), expected);
    }
}
