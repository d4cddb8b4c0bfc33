//! The nats-server dialect over a stream of JetStream, which is kept in files: what is
//! published is delivered once it is in the stream, to a consumer for each member.

use super::{Dialect, JoinAs, Message, ROOM, Split, Unit, nats::Nats, shown};

/// Subjects of answers, with the name of the member behind them: that there is a stream,
/// and that there is a consumer. What the consumer delivers comes to the third.
const STREAM: &str = "_S.";
const CONSUMER: &str = "_C.";
const DELIVER: &str = "_D.";

pub struct JetStream;

impl Dialect for JetStream {
    fn join(&self, name: &str, join_as: JoinAs) -> Vec<u8> {
        let stream = format!(r#"{{"name":"{ROOM}","subjects":["{ROOM}"],"storage":"file"}}"#);
        let mut lines = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":false,\"name\":\"{name}\"}}\r\n\
             SUB {STREAM}{name} 1\r\nSUB {CONSUMER}{name} 2\r\n"
        );
        if join_as != JoinAs::Sender {
            lines += &format!("SUB {DELIVER}{name} 3\r\n");
        }
        let to = format!("{STREAM}{name}");
        lines += &request(&format!("STREAM.CREATE.{ROOM}"), &to, &stream);
        lines.into_bytes()
    }

    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        Nats.around_text(text_bytes)
    }

    fn leave(&self) -> &'static [u8] {
        b""
    }

    /// The line of a delivery names the consumer.
    fn has_same_bytes(&self) -> bool {
        false
    }

    fn split<'a>(&self, bytes: &'a [u8], join_as: JoinAs) -> Result<Split<'a>, String> {
        let Some((used, unit)) = Nats.split(bytes, join_as)? else {
            return Ok(None);
        };
        let Unit::Message(Message { text, .. }) = &unit else {
            // There is no answer to a PING of ours.
            return Ok(Some((used, unit)));
        };
        let mut words = bytes.split(|&byte| byte == b' ').skip(1);
        let subject = words.next().unwrap_or_default();
        let subject = std::str::from_utf8(subject).unwrap_or_default();
        let is_refused = text.windows(9).any(|it| it == b"\"error\":{");
        let unit = match (subject.strip_prefix(STREAM), join_as) {
            (Some(_), _) if is_refused => Unit::Refused(shown(text)),
            (Some(_), JoinAs::Sender) => Unit::Joined { interval_ms: 0 },
            (Some(name), _) => {
                let consumer = format!(
                    "{{\"stream_name\":\"{ROOM}\",\"config\":{{\"deliver_subject\":\"{DELIVER}{name}\",\
                     \"deliver_policy\":\"new\",\"ack_policy\":\"none\"}}}}"
                );
                let to = format!("{CONSUMER}{name}");
                Unit::Answer(request(&format!("CONSUMER.CREATE.{ROOM}"), &to, &consumer).into())
            }
            (None, _) if !subject.starts_with(CONSUMER) => unit,
            _ if is_refused => Unit::Refused(shown(text)),
            _ => Unit::Joined { interval_ms: 0 },
        };
        Ok(Some((used, unit)))
    }
}

fn request(what: &str, answer_to: &str, body: &str) -> String {
    let bytes = body.len();
    format!("PUB $JS.API.{what} {answer_to} {bytes}\r\n{body}\r\n")
}
