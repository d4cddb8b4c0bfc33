//! Captures: a file of the frames that a connection carried, a line of JSON each, for
//! `chat-conformance audit`. A capture holds no password and no resume token.
//!
//! A line begins a recording, opens or closes a connection, or is a frame:
//!
//! ```text
//! {"capture":1,"by":"chat-client 0.1.0"}
//! {"at_ms":1764496947123,"connection":1,"event":"opened"}
//! {"at_ms":1764496947124,"connection":1,"from":"client","frame":"0712050a03426f62"}
//! {"at_ms":1764496947130,"connection":1,"event":"closed"}
//! ```
//!
//! A frame is written as the schema knows it. What the schema does not define could hold
//! a secret of a later version, so it is left out and counted: `"left_out":12`, in bytes.
//! So are bytes that are no frame: `"no_frame":12`.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::frame;
use crate::wire::{ClientEnvelope, ServerEnvelope, client_envelope, server_envelope};

/// The version of the format.
pub const VERSION: u32 = 1;

/// The most bytes that one recording writes. What comes after it is not recorded: a
/// program that runs for weeks must not fill the disk.
pub const BYTES_MAX: u64 = 1 << 30;

/// Stands for a password in a capture.
pub const PASSWORD: &str = "<password>";

/// Stands for a resume token in a capture.
pub const TOKEN: &[u8] = b"<token>";

/// Which end sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl End {
    /// As a capture writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A recording that goes on. Its clones write to the same file.
#[derive(Debug, Clone)]
pub struct Capture {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    file: File,
    left_bytes: u64,
    connections: u64,
    failure: Option<io::Error>,
}

impl Capture {
    /// Begins a recording at the end of `file`. `by` names the program that writes it.
    pub fn new(file: File, by: &str) -> Self {
        let by: String = by
            .chars()
            .filter(|&c| c == ' ' || c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
            .collect();
        let mut state = State {
            file,
            left_bytes: BYTES_MAX,
            connections: 0,
            failure: None,
        };
        state.line(&format!("{{\"capture\":{VERSION},\"by\":\"{by}\"}}"));
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Begins a connection.
    pub fn connection(&self) -> CapturedConnection {
        let mut state = self.lock();
        state.connections += 1;
        let connection = CapturedConnection {
            capture: self.clone(),
            number: state.connections,
        };
        state.line(&connection.line("\"event\":\"opened\""));
        connection
    }

    /// Why the recording is not complete, if it is not.
    pub fn failure(&self) -> Option<String> {
        let state = self.lock();
        match &state.failure {
            Some(error) => Some(error.to_string()),
            None if state.left_bytes == 0 => Some(format!("it has {BYTES_MAX} bytes")),
            None => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes a line whole, or not at all and nothing after it.
    fn line(&mut self, line: &str) {
        if self.failure.is_some() {
            return;
        }
        let line = format!("{line}\n");
        let Some(left_bytes) = self.left_bytes.checked_sub(line.len() as u64) else {
            self.left_bytes = 0;
            return;
        };
        self.left_bytes = left_bytes;
        self.failure = self.file.write_all(line.as_bytes()).err();
    }
}

/// A connection in a recording. It is closed when this is dropped.
#[derive(Debug)]
pub struct CapturedConnection {
    capture: Capture,
    number: u64,
}

impl CapturedConnection {
    /// Writes down an envelope that went over the connection.
    pub fn envelope(&self, from: End, bytes: &[u8]) {
        let known = match from {
            End::Client => ClientEnvelope::decode(bytes).map(client_frame),
            End::Server => ServerEnvelope::decode(bytes).map(server_frame),
        };
        let Ok((frame, known_bytes)) = known else {
            return self.no_frame(from, bytes.len());
        };
        let left_out = match bytes.len().saturating_sub(known_bytes) {
            0 => String::new(),
            bytes => format!(",\"left_out\":{bytes}"),
        };
        self.write(from, &format!("\"frame\":\"{}\"{left_out}", hex(&frame)));
    }

    /// Writes down that bytes came which are no frame.
    pub fn no_frame(&self, from: End, bytes: usize) {
        self.write(from, &format!("\"no_frame\":{bytes}"));
    }

    fn write(&self, from: End, what: &str) {
        let line = self.line(&format!("\"from\":\"{}\",{what}", from.as_str()));
        self.capture.lock().line(&line);
    }

    fn line(&self, what: &str) -> String {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_ms = at.unwrap_or_default().as_millis();
        format!(
            "{{\"at_ms\":{at_ms},\"connection\":{},{what}}}",
            self.number
        )
    }
}

impl Drop for CapturedConnection {
    fn drop(&mut self) {
        let line = self.line("\"event\":\"closed\"");
        self.capture.lock().line(&line);
    }
}

/// The frame of an envelope without its secrets, and how long the envelope is with them.
fn client_frame(mut envelope: ClientEnvelope) -> (Vec<u8>, usize) {
    let known_bytes = envelope.encoded_len();
    if let Some(client_envelope::Message::Register(register)) = &mut envelope.message {
        if !register.password.is_empty() {
            register.password = PASSWORD.to_owned();
        }
        if let Some(resume) = &mut register.resume {
            hide(&mut resume.token);
        }
    }
    (encoded(&envelope), known_bytes)
}

fn server_frame(mut envelope: ServerEnvelope) -> (Vec<u8>, usize) {
    let known_bytes = envelope.encoded_len();
    if let Some(server_envelope::Message::Registered(registered)) = &mut envelope.message {
        hide(&mut registered.resume_token);
    }
    (encoded(&envelope), known_bytes)
}

fn hide(token: &mut Vec<u8>) {
    if !token.is_empty() {
        token.clear();
        token.extend_from_slice(TOKEN);
    }
}

fn encoded(envelope: &impl Message) -> Vec<u8> {
    let mut frame = Vec::with_capacity(frame::encoded_len(envelope));
    frame::encode(envelope, &mut frame);
    frame
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or('0');
    let pairs = bytes
        .iter()
        .map(|&byte| [digit(byte >> 4), digit(byte & 15)]);
    pairs.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Chat, Register, Registered, Resume};
    use std::io::{Read, Seek, SeekFrom};

    fn written(record: impl FnOnce(&CapturedConnection)) -> String {
        let mut file = tempfile::tempfile().expect("a file");
        let capture = Capture::new(file.try_clone().expect("a file"), "a \"program\" 1");
        record(&capture.connection());
        assert_eq!(capture.failure(), None);
        file.seek(SeekFrom::Start(0)).expect("a file");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        text
    }

    #[test]
    fn neither_a_password_nor_a_token_is_written() {
        let register = ClientEnvelope {
            message: Some(client_envelope::Message::Register(Register {
                name: "Bob".to_owned(),
                password: "hunter2hunter2".to_owned(),
                resume: Some(Resume {
                    token: b"secretsecret".to_vec(),
                    ..Resume::default()
                }),
                ..Register::default()
            })),
        };
        let registered = ServerEnvelope {
            message: Some(server_envelope::Message::Registered(Registered {
                resume_token: b"secretsecret".to_vec(),
                ..Registered::default()
            })),
        };
        // Protobuf takes the last arm of several: the register before it stays in the bytes.
        let mut both = register.encode_to_vec();
        both.extend(
            ClientEnvelope {
                message: Some(client_envelope::Message::Chat(Chat::default())),
            }
            .encode_to_vec(),
        );
        // An arm, and a field of Registered, that this version does not know.
        let mut later = vec![0xfa, 0x7f, 12];
        later.extend(b"secretsecret");
        let mut cut = register.encode_to_vec();
        cut.truncate(cut.len() - 1);
        let text = written(|connection| {
            connection.envelope(End::Client, &register.encode_to_vec());
            connection.envelope(End::Server, &registered.encode_to_vec());
            connection.envelope(End::Client, &both);
            connection.envelope(End::Server, &later);
            connection.envelope(End::Client, &cut);
        });
        for secret in ["hunter2", "secret"] {
            assert!(!text.contains(&hex(secret.as_bytes())), "{text}");
        }
        assert_eq!(text.matches(&hex(PASSWORD.as_bytes())).count(), 1, "{text}");
        assert_eq!(text.matches(&hex(TOKEN)).count(), 2, "{text}");
        assert!(
            text.contains(&format!("\"left_out\":{}", later.len())),
            "{text}"
        );
        assert!(
            text.contains(&format!("\"no_frame\":{}", cut.len())),
            "{text}"
        );
    }

    #[test]
    fn a_line_is_json_and_a_frame_is_whole() {
        let chat = ClientEnvelope {
            message: Some(client_envelope::Message::Chat(Chat {
                text: "hi".to_owned(),
                ..Chat::default()
            })),
        };
        let text = written(|connection| connection.envelope(End::Client, &chat.encode_to_vec()));
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let [head, opened, frame, closed] = &lines[..] else {
            panic!("{text}");
        };
        assert_eq!(
            (&head["capture"], &head["by"]),
            (&1.into(), &"a program 1".into())
        );
        assert_eq!(
            (&opened["connection"], &opened["event"]),
            (&1.into(), &"opened".into())
        );
        assert_eq!(
            (&frame["from"], &frame["frame"]),
            (&"client".into(), &"060a040a026869".into())
        );
        assert_eq!(frame.get("left_out"), None);
        assert_eq!(closed["event"], "closed");
    }
}
