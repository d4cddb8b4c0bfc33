//! What everybody must receive, and how far each member has got with it.
//!
//! All members receive the same bytes in the same order. So whoever is the first
//! to receive a message has it judged with care (is it the next of its sender, the
//! next of all?), and its bytes are kept; for everybody else it is enough that the
//! bytes are the same. That is as strict as judging each delivery, and costs a
//! comparison of memory. Bytes that differ are judged one unit at a time, to say
//! what is wrong: a message that is missing, that came twice, that came in
//! another order.

use crate::{
    dialect::{Dialect, JoinAs, Message, Unit, shown},
    digest::Digest,
    failure::Failure,
    text::{Stamp, TEXT_BYTES_MIN, blank},
};

/// The messages of the run, in their order, as they go over the wire.
pub struct Order {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// For each sender, the number of its messages so far.
    counts: Vec<u32>,
    last_seq: Option<u64>,
    /// What each text is but for its stamp.
    blank: Vec<u8>,
}

struct Frame {
    /// Where it ends in the bytes.
    end: usize,
    sent_ns: u64,
    sender: usize,
}

/// What is called for a unit that is no message.
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

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// When a message was sent, in nanoseconds since the run began.
    pub fn sent_ns(&self, index: usize) -> u64 {
        self.frames[index].sent_ns
    }

    /// What a sender must have received: everything but its own.
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

    /// Takes a message that nobody had before.
    fn append(&mut self, bytes: &[u8], message: &Message<'_>) -> Result<(), Failure> {
        let stamp = stamp(message)?;
        check_rest(message, &self.blank)?;
        let count = self.counts.get_mut(stamp.sender).ok_or_else(|| {
            Failure::lost(format!(
                "a message of sender {}, which is none of ours",
                stamp.sender
            ))
        })?;
        if stamp.index != *count {
            return Err(Failure::lost(format!(
                "after message {count} of sender {} came its message {}: {}",
                stamp.sender,
                u64::from(stamp.index) + 1,
                if stamp.index < *count {
                    "it came twice or late"
                } else {
                    "some are missing"
                },
            )));
        }
        if let (Some(seq), Some(last)) = (message.seq, self.last_seq)
            && seq != last + 1
        {
            return Err(Failure::lost(format!(
                "after number {last} came number {seq}"
            )));
        }
        if let Some(name) = message.sender
            && name != crate::member::name(stamp.sender).as_bytes()
        {
            return Err(Failure::lost(format!(
                "a message of {} came under the name {:?}",
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

/// What a text says about itself.
pub fn stamp(message: &Message<'_>) -> Result<Stamp, Failure> {
    Stamp::read(message.text).ok_or_else(|| changed(message))
}

/// Whether the text is as long as it was, and the same behind its stamp.
pub fn check_rest(message: &Message<'_>, blank: &[u8]) -> Result<(), Failure> {
    if message.text.get(TEXT_BYTES_MIN..) == blank.get(TEXT_BYTES_MIN..) {
        return Ok(());
    }
    Err(changed(message))
}

fn changed(message: &Message<'_>) -> Failure {
    Failure::lost(format!(
        "somebody else speaks in the room, or a text was changed: {} bytes, {:?}",
        message.text.len(),
        shown(message.text)
    ))
}

/// How far one member has got.
pub struct Cursor {
    /// The message that it is to receive next; `None` before its first, where it
    /// came late.
    next: Option<usize>,
    /// How many bytes of the order it has.
    position: usize,
    /// The start of a unit, behind the last that is whole.
    held: Vec<u8>,
}

impl Cursor {
    /// From the first message on.
    pub fn from_start() -> Self {
        Self {
            next: Some(0),
            position: 0,
            held: Vec::new(),
        }
    }

    /// From whichever message comes first.
    pub fn from_anywhere() -> Self {
        Self {
            next: None,
            ..Self::from_start()
        }
    }

    /// The message that it is to receive next.
    pub fn next(&self) -> Option<usize> {
        self.next
    }

    /// Judges what it received.
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
            // Something new or something else: on from the last whole message.
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

    /// Once the order has what is held, too, it need not be held.
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

    /// Judges one message. `false` when that is not possible yet: those before it
    /// have not been received by anybody.
    fn judge(
        &mut self,
        bytes: &[u8],
        message: &Message<'_>,
        order: &mut Order,
    ) -> Result<bool, Failure> {
        let next = match self.next {
            Some(next) => next,
            // With one sender, its numbers are places in the order.
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
                 one is missing, came twice or came in another order",
                u64::from(stamp.index) + 1,
                stamp.sender
            )));
        }
        self.position = order.frames[next].end;
        self.next = Some(next + 1);
        Ok(true)
    }
}

/// How many of `frames` end at `position` or before. Usually few: gallops.
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
