//! Capture file: the lines of a capture, as `src/capture.rs` describes them.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use chat::capture::{End, VERSION};
use serde::Deserialize;

use crate::framing::{self, Head};

/// The longest line, in bytes: the longest frame in hexadecimal digits, and a word or two.
const LINE_BYTES_MAX: u64 = 2 * framing::ENVELOPE_BYTES_MAX + 1024;

/// A line of a capture.
#[derive(Debug)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: usize,
    /// The connection that it is about, from 1; 0 for a line about the recording.
    pub connection: u64,
    /// What happened.
    pub what: What,
}

/// What a line tells.
#[derive(Debug)]
pub enum What {
    /// A recording begins: connections are counted from 1 again.
    Begins,
    /// A connection opens.
    Opened,
    /// It closes.
    Closed,
    /// A frame went over it.
    Frame {
        /// Which end sent it.
        from: End,
        /// The frame.
        raw: Vec<u8>,
        /// How long its length is.
        prefix: usize,
        /// Whether a part of it is left out that the recorder did not know.
        is_partial: bool,
    },
    /// Bytes went over it that are no frame.
    NoFrame(End),
}

#[derive(Deserialize)]
struct Fields {
    capture: Option<u32>,
    connection: Option<u64>,
    event: Option<String>,
    from: Option<String>,
    frame: Option<String>,
    left_out: Option<u64>,
    no_frame: Option<u64>,
}

/// Reads the capture at `path` and passes each line on. Returns whether its last line is
/// cut short, as a program that was killed leaves it.
pub fn read(path: &Path, mut each: impl FnMut(Line)) -> Result<bool, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let taken = (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(|e| format!("{shown} cannot be read: {e}"))?;
        if taken == 0 {
            if number == 1 {
                return Err(format!("{shown} is empty"));
            }
            break;
        }
        let is_cut = bytes.last() != Some(&b'\n');
        let what = parse(&bytes).map_err(|e| format!("{shown}:{number}: {e}"));
        match what {
            Err(_) if is_cut && number > 1 => return Ok(true),
            Err(sentence) => return Err(sentence),
            Ok((_, What::Begins)) => {}
            Ok(_) if number == 1 => {
                return Err(format!(
                    "{shown} is no capture: its first line is not {{\"capture\":{VERSION},...}}"
                ));
            }
            Ok(_) => {}
        }
        let (connection, what) = what?;
        each(Line {
            number,
            connection,
            what,
        });
    }
    Ok(false)
}

fn parse(bytes: &[u8]) -> Result<(u64, What), String> {
    let fields: Fields =
        serde_json::from_slice(bytes).map_err(|_| "this is no line of a capture".to_owned())?;
    match fields.capture {
        Some(VERSION) => return Ok((0, What::Begins)),
        Some(other) => {
            return Err(format!(
                "it is a capture of version {other}, and this program reads version {VERSION}"
            ));
        }
        None => {}
    }
    let connection = fields.connection.ok_or("the line is about no connection")?;
    let from = match fields.from.as_deref() {
        Some("client") => Some(End::Client),
        Some("server") => Some(End::Server),
        _ => None,
    };
    let what = match (fields.event.as_deref(), from, fields.frame, fields.no_frame) {
        (Some("opened"), ..) => What::Opened,
        (Some("closed"), ..) => What::Closed,
        (_, Some(from), Some(hex), _) => {
            let raw = framing::unhex(&hex).ok_or("the frame is not in hexadecimal digits")?;
            let Head::Frame { from: prefix, to } = framing::head(&raw) else {
                return Err("the frame is not whole".to_owned());
            };
            if to != raw.len() {
                return Err("there are bytes behind the frame".to_owned());
            }
            What::Frame {
                from,
                raw,
                prefix,
                is_partial: fields.left_out.is_some(),
            }
        }
        (_, Some(from), _, Some(_)) => What::NoFrame(from),
        _ => return Err("this is no line of a capture".to_owned()),
    };
    Ok((connection, what))
}
