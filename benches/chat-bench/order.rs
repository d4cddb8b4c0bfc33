//! The order that all members must receive, and each member's cursor in it.
//!
//! All members receive the same bytes in the same order. The first member to receive a
//! message has it checked in full (is it the next of its sender, and the next of all?),
//! and its bytes are kept; for every other member it is enough that the bytes are
//! equal. That is as strict as checking each delivery, and costs one comparison of
//! memory. Bytes that differ are checked unit by unit, to name the fault: a message is
//! missing, came twice or came out of order.

use crate::{
    dialect::{Dialect, JoinAs, Message, Unit, shown},
    digest::Digest,
    failure::Failure,
    text::{Stamp, TEXT_BYTES_MIN, blank},
};

/// The messages of the run in their order, as bytes on the wire.
pub struct Order {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// The number of messages so far, by sender.
    counts: Vec<u32>,
    last_seq: Option<u64>,
    /// The text that all messages share, apart from the stamp.
    blank: Vec<u8>,
}

struct Frame {
    /// The end of the frame in `bytes`.
    end: usize,
    sent_ns: u64,
    sender: usize,
}

/// Called for a unit that is not a message.
pub type OnOther<'a> = dyn FnMut(Unit<'_>) -> Result<(), Failure> + 'a;

impl Order {
    pub fn new(senders: usize, text_bytes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            frames: Vec::new(),
            counts: vec![0; senders],
            last_seq: None,
            blank: blank(text_bytes),
        }
    }

    /// The text that all messages share, apart from the stamp.
    pub fn blank(&self) -> &[u8] {
        &self.blank
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// When a message was sent, in nanoseconds since the start of the run.
    pub fn sent_ns(&self, index: usize) -> u64 {
        self.frames[index].sent_ns
    }

    /// What a sender must have received: every message but its own.
    pub fn without(&self, sender: usize) -> Digest {
        let mut start = 0;
        let mut others = Digest::new();
        for frame in &self.frames {
            if frame.sender != sender {
                others.add(&self.bytes[start..frame.end]);
            }
            start = frame.end;
        }
        others
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |last| self.frames[last].end)
    }

    /// Appends a message that no member has received before.
    fn append(&mut self, bytes: &[u8], message: &Message<'_>) -> Result<(), Failure> {
        let stamp = stamp(message)?;
        check_rest(message, &self.blank)?;
        let count = self.counts.get_mut(stamp.sender).ok_or_else(|| {
            Failure::lost(format!(
                "a message of sender {}, which is not one of this run's",
                stamp.sender
            ))
        })?;
        if stamp.index != *count {
            return Err(Failure::lost(format!(
                "message {count} of sender {} was followed by its message {}: {}",
                stamp.sender,
                u64::from(stamp.index) + 1,
                if stamp.index < *count {
                    "it was repeated or out of order"
                } else {
                    "some are missing"
                },
            )));
        }
        if let (Some(seq), Some(last)) = (message.seq, self.last_seq)
            && seq != last + 1
        {
            return Err(Failure::lost(format!(
                "seq {last} was followed by seq {seq}"
            )));
        }
        if let Some(name) = message.sender
            && name != crate::member::name(stamp.sender).as_bytes()
        {
            return Err(Failure::lost(format!(
                "a message of {} arrived under the name {:?}",
                crate::member::name(stamp.sender),
                shown(name)
            )));
        }
        *count += 1;
        self.last_seq = message.seq;
        self.bytes.extend_from_slice(bytes);
        self.frames.push(Frame {
            end: self.bytes.len(),
            sent_ns: stamp.sent_ns,
            sender: stamp.sender,
        });
        Ok(())
    }
}

/// The stamp in a message's text.
pub fn stamp(message: &Message<'_>) -> Result<Stamp, Failure> {
    Stamp::read(message.text).ok_or_else(|| changed(message))
}

/// Checks the length of the text and everything behind its stamp.
pub fn check_rest(message: &Message<'_>, blank: &[u8]) -> Result<(), Failure> {
    if message.text.get(TEXT_BYTES_MIN..) == blank.get(TEXT_BYTES_MIN..) {
        return Ok(());
    }
    Err(changed(message))
}

fn changed(message: &Message<'_>) -> Failure {
    Failure::lost(format!(
        "another client sends in this room, or a text was changed: {} bytes, {:?}",
        message.text.len(),
        shown(message.text)
    ))
}

/// The position of one member in the order.
pub struct Cursor {
    /// The message expected next; `None` before the first one of a late joiner.
    next: Option<usize>,
    /// The same position in bytes.
    position: usize,
    /// The start of a unit that is not complete.
    held: Vec<u8>,
}

impl Cursor {
    /// A cursor at the first message.
    pub fn from_start() -> Self {
        Self {
            next: Some(0),
            position: 0,
            held: Vec::new(),
        }
    }

    /// A cursor at whichever message arrives first.
    pub fn from_anywhere() -> Self {
        Self {
            next: None,
            ..Self::from_start()
        }
    }

    /// The message expected next.
    pub fn next(&self) -> Option<usize> {
        self.next
    }

    /// Checks bytes that the member received.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        order: &mut Order,
        dialect: &dyn Dialect,
        on_other: &mut OnOther<'_>,
    ) -> Result<(), Failure> {
        self.rejoin(order);
        if let Some(next) = self.next
            && self.held.is_empty()
        {
            let ahead = &order.bytes[self.position..];
            let same = ahead.len().min(bytes.len());
            if ahead[..same] == bytes[..same] {
                self.position += same;
                self.next = Some(next + passed(&order.frames[next..], self.position));
                bytes = &bytes[same..];
                if bytes.is_empty() {
                    return Ok(());
                }
            }
            // New or different bytes: check again from the last complete message.
            let next = self.next.unwrap_or(next);
            let start = order.start(next);
            self.held
                .extend_from_slice(&order.bytes[start..self.position]);
            self.position = start;
        }
        self.held.extend_from_slice(bytes);
        self.judge_held(order, dialect, on_other)?;
        self.rejoin(order);
        Ok(())
    }

    /// Drops the held bytes once the order contains them.
    fn rejoin(&mut self, order: &Order) {
        if self.next.is_some() && order.bytes[self.position..].starts_with(&self.held) {
            self.position += self.held.len();
            self.held.clear();
        }
    }

    fn judge_held(
        &mut self,
        order: &mut Order,
        dialect: &dyn Dialect,
        on_other: &mut OnOther<'_>,
    ) -> Result<(), Failure> {
        let held = std::mem::take(&mut self.held);
        let mut used = 0;
        while let Some((unit_bytes, unit)) = dialect
            .split(&held[used..], JoinAs::Reader)
            .map_err(Failure::protocol)?
        {
            let bytes = &held[used..used + unit_bytes];
            match unit {
                Unit::Message(message) => {
                    let bytes = match dialect.has_same_bytes() {
                        true => bytes,
                        false => message.text,
                    };
                    if !self.judge(bytes, &message, order)? {
                        break;
                    }
                }
                other => on_other(other)?,
            }
            used += unit_bytes;
        }
        self.held = held[used..].to_vec();
        Ok(())
    }

    /// Checks one message. Returns `false` if that is not possible yet, because no
    /// member has received the messages before it.
    fn judge(
        &mut self,
        bytes: &[u8],
        message: &Message<'_>,
        order: &mut Order,
    ) -> Result<bool, Failure> {
        let next = match self.next {
            Some(next) => next,
            // With a single sender, its message numbers are positions in the order.
            None => stamp(message)?.index as usize,
        };
        if next > order.len() {
            return Ok(false);
        }
        self.position = order.start(next);
        if next == order.len() {
            order.append(bytes, message)?;
        } else if order.bytes[self.position..order.frames[next].end] != *bytes {
            let stamp = stamp(message)?;
            return Err(Failure::lost(format!(
                "a member received message {} of sender {} where the others received another: \
                 one is missing, repeated or out of order",
                u64::from(stamp.index) + 1,
                stamp.sender
            )));
        }
        self.position = order.frames[next].end;
        self.next = Some(next + 1);
        Ok(true)
    }
}

/// Galloping search: how many of `frames` end at `position` or before. Usually few.
fn passed(frames: &[Frame], position: usize) -> usize {
    let mut bound = 1;
    while frames
        .get(bound - 1)
        .is_some_and(|frame| frame.end <= position)
    {
        bound *= 2;
    }
    let from = bound / 2;
    let to = frames.len().min(bound);
    from + frames[from..to].partition_point(|frame| frame.end <= position)
}
