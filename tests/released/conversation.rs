//! A conversation as it was recorded: which bytes each connection carried, in which
//! order, and how the programs were started.

use std::{
    fmt::{self, Write as _},
    io::{self, Read},
    str::FromStr,
};

use crate::schema::Schema;

/// A longer length prefix is none (CHAT-FRAME-4).
const LENGTH_BYTES_MAX: usize = 10;

#[derive(Debug, Default, Clone)]
pub struct Conversation {
    /// The options of the server.
    pub server: Vec<String>,
    /// What the server asks for.
    pub password: Option<String>,
    /// The program that speaks as `client`, `chat-client` or `library`, and its
    /// arguments.
    pub client: Vec<String>,
    /// What that program prints, and how it exits.
    pub output: Vec<String>,
    pub exit: Option<i32>,
    pub steps: Vec<Step>,
}

/// Something that happened; `who` is a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Bytes to the server, from `client` one frame at a time.
    Sent { who: String, bytes: Vec<u8> },
    /// A frame from the server.
    Received { who: String, bytes: Vec<u8> },
    /// This side sends nothing more.
    SentEnd { who: String },
    /// Nor does the server.
    ReceivedEnd { who: String },
    /// A line is typed into the program that speaks as `client`.
    Typed { line: String },
    /// Nothing more is typed.
    InputEnd,
    /// The server is told to end.
    Stop,
}

/// The next frame, length prefix included, or nothing at the end of the stream.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut frame = Vec::new();
    let mut length = 0u64;
    loop {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return match frame.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        length |= u64::from(byte[0] & 0x7f) << (7 * frame.len());
        frame.push(byte[0]);
        if byte[0] < 0x80 {
            break;
        }
        if frame.len() == LENGTH_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let prefix = frame.len();
    stream.take(length).read_to_end(&mut frame)?;
    if frame.len() as u64 - prefix as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

/// What a frame holds, behind its length.
pub fn body(frame: &[u8]) -> &[u8] {
    let prefix = frame.iter().take_while(|&&byte| byte >= 0x80).count() + 1;
    &frame[prefix.min(frame.len())..]
}

impl Conversation {
    /// The file, each frame with what it says to the right.
    pub fn print(&self, title: &str, schema: &Schema) -> String {
        let mut text = format!("# {title}\n");
        let mut line = |line: fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("a string takes all");
        };
        let words = |words: &[String]| words.join(" ");
        if !self.server.is_empty() {
            line(format_args!("server: {}", words(&self.server)));
        }
        if let Some(password) = &self.password {
            line(format_args!("password: {password}"));
        }
        if !self.client.is_empty() {
            line(format_args!("client: {}", words(&self.client)));
        }
        for printed in &self.output {
            line(format_args!("output: {printed}"));
        }
        if let Some(exit) = self.exit {
            line(format_args!("exit: {exit}"));
        }
        line(format_args!(""));
        for step in &self.steps {
            match step {
                Step::Sent { who, bytes } => {
                    let says = match read_frame(&mut &bytes[..]) {
                        Ok(Some(frame)) if frame == *bytes => {
                            plain(&schema.client_shown(body(bytes)))
                        }
                        _ => "no whole frame".to_owned(),
                    };
                    line(format_args!("{who}> {}  # {says}", hex(bytes)));
                }
                Step::Received { who, bytes } => {
                    let says = schema.server(body(bytes)).expect("a right server");
                    let says = plain(&says.to_string());
                    line(format_args!("{who}< {}  # {says}", hex(bytes)));
                }
                Step::SentEnd { who } => line(format_args!("{who}> end")),
                Step::ReceivedEnd { who } => line(format_args!("{who}< end")),
                Step::Typed { line: typed } => line(format_args!("types {typed}")),
                Step::InputEnd => line(format_args!("input ends")),
                Step::Stop => line(format_args!("stop")),
            }
        }
        text
    }
}

impl FromStr for Conversation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words = |value: &str| value.split_whitespace().map(str::to_owned).collect();
            let wrong = || format!("no line of a conversation: {line}");
            if let Some(line) = line.strip_prefix("types ") {
                let line = line.to_owned();
                read.steps.push(Step::Typed { line });
            } else if let Some((who, rest)) = line.split_once("> ") {
                let who = who.to_owned();
                read.steps.push(match unhex(rest).ok_or_else(wrong)? {
                    None => Step::SentEnd { who },
                    Some(bytes) => Step::Sent { who, bytes },
                });
            } else if let Some((who, rest)) = line.split_once("< ") {
                let who = who.to_owned();
                read.steps.push(match unhex(rest).ok_or_else(wrong)? {
                    None => Step::ReceivedEnd { who },
                    Some(bytes) => Step::Received { who, bytes },
                });
            } else if line == "input ends" {
                read.steps.push(Step::InputEnd);
            } else if line == "stop" {
                read.steps.push(Step::Stop);
            } else if let Some((key, value)) = line.split_once(": ") {
                match key {
                    "server" => read.server = words(value),
                    "password" => read.password = Some(value.to_owned()),
                    "client" => read.client = words(value),
                    "output" => read.output.push(value.to_owned()),
                    "exit" => read.exit = Some(value.parse().map_err(|_| wrong())?),
                    _ => return Err(wrong()),
                }
            } else if !line.trim().is_empty() {
                return Err(wrong());
            }
        }
        Ok(read)
    }
}

/// What an editor may act on becomes visible.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        match character.is_ascii() {
            true => plain.push(character),
            false => plain.extend(character.escape_unicode()),
        }
    }
    plain
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes, or nothing for `end`.
fn unhex(text: &str) -> Option<Option<Vec<u8>>> {
    let digits = text.split("  #").next()?.trim();
    if digits == "end" {
        return Some(None);
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits
        .as_bytes()
        .chunks(2)
        .map(pair)
        .collect::<Option<_>>()
        .map(Some)
}
