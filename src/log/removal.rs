//! Removal: takes the text of one chat out of the recent past, from which sessions resume.
//!
//! Committed bytes never change, since readers send from them at any time. So the segments
//! up to the one of the chat are copied, with the chat in its shorter form, and the copies
//! take their place in the recent past. Readers that are in the old ones finish there, and
//! the old ones are freed behind them.
//!
//! ```text
//!   old    [ 1 ]──▶[ 2, with the chat ]──▶[ 3 ]──▶ tail      members that were here
//!                                           ▲
//!   past   [ 1']──▶[ 2', without text ]─────┘                sessions that resume
//! ```

use std::sync::{Arc, atomic::AtomicUsize};

use prost::Message as _;

use super::{
    Log,
    past::Past,
    segment::{Segment, SegmentWriter},
};
use crate::wire::{ServerEnvelope, server_envelope::Message};

impl Log {
    /// Ends the segment that is being filled, so that what it holds can be replaced once
    /// it is committed ([`Log::remove`]).
    pub fn end_segment(&mut self) {
        if self.tail.filled_bytes() > 0 {
            self.begin_segment();
        }
    }

    /// Takes the text of a chat out of the recent past (CHAT-MOD-8). Its segment must be
    /// committed and no longer filled. Does nothing if the chat is not in memory.
    pub fn remove(&mut self, seq: u64) {
        let live = Arc::clone(&self.retained.segments);
        self.past.remove_text(seq, &live);
    }
}

/// The frame of a chat without its text, and by how much it is shorter, in bytes.
fn shorten(segment: &Segment, offset: usize) -> Option<(Vec<u8>, usize)> {
    let (length, body) = split(segment.committed().get(offset..)?)?;
    let envelope = ServerEnvelope::decode(body).ok()?;
    let frame = without_text(envelope)?.encode_length_delimited_to_vec();
    let saved_bytes = length.checked_sub(frame.len())?;
    Some((frame, saved_bytes))
}

/// The first frame of some bytes: how long it is with its length, and its body.
fn split(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = bytes;
    let length = prost::decode_length_delimiter(&mut rest).ok()?;
    let body = rest.get(..length)?;
    Some((bytes.len() - rest.len() + length, body))
}

/// A chat as it is sent once its text was removed; `None` if it is no chat, or without a
/// text already.
fn without_text(mut envelope: ServerEnvelope) -> Option<ServerEnvelope> {
    match &mut envelope.message {
        Some(Message::Chat(chat)) if !chat.removed => {
            chat.text.clear();
            chat.files.clear();
            chat.removed = true;
            Some(envelope)
        }
        _ => None,
    }
}

impl Past {
    /// Replaces the frame of a chat by one without its text. `live` counts the segments.
    fn remove_text(&mut self, seq: u64, live: &Arc<AtomicUsize>) {
        let Some(place) = self.place(seq) else {
            return;
        };
        let Some((frame, saved_bytes)) = shorten(place.segment, place.offset) else {
            return;
        };
        // The copies end where the old ones did, so they begin later.
        let (index, at) = (place.index, place.offset);
        let Some(next) = place.segment.next().map(Arc::clone) else {
            return;
        };
        let segments = self.segments().take(index + 1);
        let copies: Vec<SegmentWriter> = segments
            .enumerate()
            .map(|(nth, segment)| {
                let replaced = (nth == index).then_some((at, frame.as_slice()));
                copy(segment, saved_bytes as u64, replaced, live)
            })
            .collect();
        for (copy, next) in copies.iter().zip(copies.iter().skip(1)) {
            copy.link(next);
        }
        if let Some(last) = copies.last() {
            last.link_to(&next);
        }
        self.put(copies.iter().map(SegmentWriter::segment));
        self.shift(index, at, saved_bytes);
    }
}

/// A committed copy of a segment that begins `later_bytes` later; with another frame where
/// one is given.
fn copy(
    segment: &Segment,
    later_bytes: u64,
    replaced: Option<(usize, &[u8])>,
    live: &Arc<AtomicUsize>,
) -> SegmentWriter {
    let mut copy = SegmentWriter::new(segment.base() + later_bytes, live);
    let bytes = segment.committed();
    let runs: Vec<(usize, usize)> = segment.presence_runs().collect();
    let mut offset = 0;
    while let Some((length, _)) = bytes.get(offset..).and_then(split) {
        let is_presence = runs.iter().any(|run| (run.0..run.1).contains(&offset));
        let frame = match replaced {
            Some((at, frame)) if at == offset => frame,
            _ => bytes.get(offset..offset + length).unwrap_or_default(),
        };
        copy.fill(frame.len(), is_presence, |room| room.copy_from_slice(frame));
        offset += length;
    }
    copy.commit_up_to(copy.end());
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::{Audience, Unsent},
        wire::{Chat, Joined},
    };

    fn chat(seq: u64) -> ServerEnvelope {
        let chat = Chat {
            text: format!("the text of {seq}, {}", "x".repeat(3_000)),
            sender: "Alice".to_owned(),
            seq,
            ..Chat::default()
        };
        ServerEnvelope {
            message: Some(Message::Chat(chat)),
        }
    }

    fn joined(seq: u64) -> ServerEnvelope {
        let name = format!("member-{seq}");
        ServerEnvelope {
            message: Some(Message::Joined(Joined { name })),
        }
    }

    /// What a reader receives, to the end.
    fn read(reader: &mut crate::log::Reader) -> Vec<ServerEnvelope> {
        let mut bytes = Vec::new();
        loop {
            let Unsent { bytes: more, .. } = reader.unsent();
            let length = more.len();
            if length == 0 {
                break;
            }
            bytes.extend_from_slice(more);
            reader.advance(length);
        }
        let mut rest = bytes.as_slice();
        let mut read = Vec::new();
        while let Some((length, body)) = split(rest) {
            read.push(ServerEnvelope::decode(body).expect("a frame"));
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "whole frames");
        read
    }

    fn texts(read: &[ServerEnvelope]) -> Vec<(u64, bool)> {
        let chats = read.iter().filter_map(|it| match &it.message {
            Some(Message::Chat(chat)) => Some(chat),
            _ => None,
        });
        chats
            .map(|chat| {
                assert_eq!(chat.removed, chat.text.is_empty());
                assert_eq!(chat.sender, "Alice");
                (chat.seq, chat.removed)
            })
            .collect()
    }

    /// CHAT-MOD-8: over several segments, with presence between the chats.
    #[test]
    fn a_removed_chat_comes_without_its_text_to_readers_that_begin_later() {
        const CHATS: u64 = 500;
        let mut log = Log::new(1, 4 << 20);
        for seq in 1..=CHATS {
            log.append(Audience::Everyone, &chat(seq));
            log.append(Audience::Presence, &joined(seq));
        }
        log.commit();
        let mut live = log.reader_from(1, true).expect("it is in memory");
        let mut behind = log.reader_from(CHATS - 10, true).expect("it is in memory");
        for seq in [1, 200, CHATS, 200, CHATS + 1, 0] {
            log.end_segment();
            log.commit();
            log.remove(seq);
        }
        log.append(Audience::Everyone, &chat(CHATS + 1));
        log.commit();
        let removed = |from: u64| -> Vec<(u64, bool)> {
            let all = from..=CHATS + 1;
            all.map(|seq| (seq, [1, 200, CHATS].contains(&seq)))
                .collect()
        };
        for from in [1, 2, 199, 200, 201, CHATS - 1, CHATS, CHATS + 1] {
            let mut reader = log.reader_from(from, true).expect("it is in memory");
            let position = reader.position();
            assert!(position <= log.end());
            assert_eq!(texts(&read(&mut reader)), removed(from), "from {from}");
            assert_eq!(reader.position(), log.end());
        }
        let segments = log.retained().bytes();
        // Members that were here have been sent it, or are being sent it.
        for reader in [&mut live, &mut behind] {
            let read = texts(&read(reader));
            assert_eq!(read.last(), Some(&(CHATS + 1, false)));
            assert!(read.iter().all(|&(_, is_removed)| !is_removed));
        }
        // The old segments are gone with their readers.
        drop((live, behind));
        assert!(log.retained().bytes() < segments);
    }
}
