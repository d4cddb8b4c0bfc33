//! Tests of the log: a property test against a model that keeps every frame in a list,
//! and cases that it does not reach.

use std::{fs::File, os::unix::fs::FileExt};

use proptest::prelude::*;

use super::*;
use crate::wire::{self, server_envelope::Message};

fn envelope(text_bytes: usize) -> ServerEnvelope {
    ServerEnvelope {
        message: Some(Message::Chat(wire::Chat {
            text: "x".repeat(text_bytes),
            ..Default::default()
        })),
    }
}

/// Sends up to `bytes_max` of the unsent bytes of `reader`.
fn send(reader: &mut Reader, bytes_max: usize, received: &mut Vec<u8>) -> usize {
    let unsent = reader.unsent();
    check_file(unsent);
    let sent = unsent.bytes.len().min(bytes_max);
    received.extend_from_slice(&unsent.bytes[..sent]);
    reader.advance(sent);
    sent
}

/// Checks that the segment's file holds the same bytes, on a system with such files.
fn check_file(unsent: Unsent<'_>) {
    assert_eq!(unsent.file.is_some(), cfg!(target_os = "linux"));
    if let Some((file, offset)) = unsent.file {
        let file = File::from(file.try_clone_to_owned().expect("a descriptor is left"));
        let mut bytes = vec![0; unsent.bytes.len()];
        file.read_exact_at(&mut bytes, u64::from(offset))
            .expect("the file is as long as the segment");
        assert!(bytes == unsent.bytes);
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// The connection of reader `by` publishes, or another one.
    Append {
        by: Option<usize>,
        text_bytes: usize,
        is_presence: bool,
    },
    Send {
        reader: usize,
        bytes_max: usize,
    },
    FinishFrame {
        reader: usize,
        bytes_max: usize,
    },
    Stop {
        reader: usize,
    },
    Commit,
}

const READERS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (
            prop::option::of(0..READERS),
            // Mostly small; some fill a segment in a few steps.
            prop_oneof![0..100usize, 30_000..60_000usize],
            any::<bool>(),
        ).prop_map(|(by, text_bytes, is_presence)| Step::Append { by, text_bytes, is_presence }),
        5 => (0..READERS, prop_oneof![0..200usize, 0..300_000usize])
            .prop_map(|(reader, bytes_max)| Step::Send { reader, bytes_max }),
        2 => (0..READERS, 0..200usize)
            .prop_map(|(reader, bytes_max)| Step::FinishFrame { reader, bytes_max }),
        1 => (0..READERS).prop_map(|reader| Step::Stop { reader }),
        3 => Just(Step::Commit),
    ]
}

/// What a reader must receive.
#[derive(Default)]
struct Model {
    expected: Vec<u8>,
    /// Where frames end in `expected`.
    frame_ends: Vec<usize>,
    /// How many bytes of `expected` are committed.
    committed: usize,
    is_stopped: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn readers_receive_what_the_model_says(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut log = Log::new(1, 0);
        let mut readers: Vec<_> = (0..READERS).map(|i| log.reader(i % 2 == 0)).collect();
        let mut models: Vec<_> = (0..READERS).map(|_| Model::default()).collect();
        let mut received = vec![Vec::new(); READERS];

        for step in steps {
            match step {
                Step::Append { by, text_bytes, is_presence } => {
                    let envelope = envelope(text_bytes);
                    let audience = if is_presence { Audience::Presence } else { Audience::Everyone };
                    let range = log.append(audience, &envelope);
                    prop_assert_eq!(range.end, log.end());
                    if let Some(by) = by {
                        readers[by].skip(range);
                    }
                    for (i, model) in models.iter_mut().enumerate() {
                        let is_unwanted = is_presence && i % 2 != 0;
                        if by != Some(i) && !is_unwanted && !model.is_stopped {
                            frame_bytes(&envelope, &mut model.expected);
                            model.frame_ends.push(model.expected.len());
                        }
                    }
                }
                Step::Send { reader, bytes_max } => {
                    send(&mut readers[reader], bytes_max, &mut received[reader]);
                    prop_assert!(received[reader].len() <= models[reader].committed);
                }
                Step::Commit => {
                    log.commit();
                    prop_assert_eq!(log.committed_end(), log.end());
                    for model in &mut models {
                        model.committed = model.expected.len();
                    }
                }
                Step::FinishFrame { reader, bytes_max } => {
                    let so_far = received[reader].len();
                    let ends = &models[reader].frame_ends;
                    let end = ends.iter().find(|&&end| end >= so_far).copied().unwrap_or(0);
                    let is_between = so_far == 0 || ends.contains(&so_far);
                    let rest = readers[reader].rest_of_frame().to_vec();
                    prop_assert_eq!(rest.len(), if is_between { 0 } else { end - so_far });
                    let sent = rest.len().min(bytes_max);
                    received[reader].extend_from_slice(&rest[..sent]);
                    readers[reader].advance_in_frame(sent);
                }
                Step::Stop { reader } => {
                    let end = log.end();
                    readers[reader].stop_at(end);
                    models[reader].is_stopped = true;
                }
            }
        }
        log.commit();
        for ((reader, model), mut received) in readers.iter_mut().zip(&models).zip(received) {
            while send(reader, usize::MAX, &mut received) > 0 {}
            prop_assert!(received == model.expected);
            if !model.is_stopped {
                prop_assert_eq!(reader.position(), log.end());
            }
        }

        // Segments that every reader has passed are freed, except for the last. A reader
        // that stopped keeps those behind its position.
        if models.iter().all(|model| !model.is_stopped) {
            prop_assert_eq!(log.retained().bytes(), SEGMENT_BYTES as u64);
        }
        drop(readers);
        prop_assert_eq!(log.retained().bytes(), SEGMENT_BYTES as u64);
    }
}

fn frame_bytes(envelope: &ServerEnvelope, out: &mut Vec<u8>) {
    crate::frame::encode(envelope, out);
}

#[test]
fn skips_in_a_row_are_one_run() {
    let mut log = Log::new(1, 0);
    let mut reader = log.reader(true);
    let mut append = || log.append(Audience::Everyone, &envelope(1));
    assert_eq!(reader.skip_count(), 0);
    reader.skip(append());
    reader.skip(append());
    assert_eq!(reader.skip_count(), 1);
    append();
    reader.skip(append());
    assert_eq!(reader.skip_count(), 2);
    log.commit();
    while send(&mut reader, usize::MAX, &mut Vec::new()) > 0 {}
    assert_eq!(reader.skip_count(), 0);
}

#[test]
fn separate_presence_runs_fill_a_segment_before_its_bytes_do() {
    let mut log = Log::new(1, 0);
    let mut reader = log.reader(false);
    let mut expected = Vec::new();
    for _ in 0..segment::PRESENCE_RUNS_MAX * 3 {
        log.append(Audience::Presence, &envelope(1));
        // Messages need no run: they fit behind the last presence frame that has one.
        for _ in 0..2 {
            log.append(Audience::Everyone, &envelope(2));
            frame_bytes(&envelope(2), &mut expected);
        }
    }
    assert_eq!(log.retained().bytes(), 3 * SEGMENT_BYTES as u64);
    log.commit();
    let mut received = Vec::new();
    while send(&mut reader, usize::MAX, &mut received) > 0 {}
    assert_eq!(received, expected);
}

#[test]
fn presence_frames_in_a_row_are_one_run() {
    let mut log = Log::new(1, 0);
    let mut reader = log.reader(false);
    assert!(!reader.wants_presence());
    assert!(log.reader(true).wants_presence());
    for _ in 0..segment::PRESENCE_RUNS_MAX * 3 {
        log.append(Audience::Presence, &envelope(1));
    }
    log.commit();
    assert_eq!(log.retained().bytes(), SEGMENT_BYTES as u64);
    assert_eq!(send(&mut reader, usize::MAX, &mut Vec::new()), 0);
}

#[test]
fn a_long_chain_is_freed_without_recursion() {
    const SEGMENTS: usize = 300;
    // Far too little for a recursive call for each segment.
    const STACK_BYTES: usize = 64 * 1024;

    let mut log = Log::new(1, 0);
    let reader = log.reader(true);
    // Separate runs of presence close a segment early, so this touches little memory.
    for _ in 0..SEGMENTS * segment::PRESENCE_RUNS_MAX {
        log.append(Audience::Presence, &envelope(1));
        log.append(Audience::Everyone, &envelope(1));
    }
    log.commit();
    assert_eq!(log.retained().bytes(), (SEGMENTS * SEGMENT_BYTES) as u64);
    let dropping = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(|| drop(reader))
        .expect("the system starts a thread");
    dropping
        .join()
        .expect("dropping does not overflow the stack");
    assert_eq!(log.retained().bytes(), SEGMENT_BYTES as u64);
}

#[test]
fn readers_on_other_threads_see_whole_frames_in_order() {
    use crate::frame::{Split, split};
    use prost::Message as _;
    const FRAMES: u64 = 50_000;

    let mut log = Log::new(1, 0);
    let readers: Vec<_> = (0..2).map(|_| log.reader(false)).collect();
    let threads: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            std::thread::spawn(move || {
                let mut next = 1;
                while next <= FRAMES {
                    let mut rest = reader.unsent().bytes;
                    let bytes = rest.len();
                    while let Ok(Split::Frame { body, rest: after }) = split(rest, u32::MAX) {
                        rest = after;
                        let envelope = ServerEnvelope::decode(body).expect("whole frames");
                        let Some(Message::Chat(chat)) = envelope.message else {
                            panic!("a reader without presence received presence");
                        };
                        assert_eq!(chat.seq, next);
                        next += 1;
                    }
                    assert!(rest.is_empty());
                    reader.advance(bytes);
                    if bytes == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    for seq in 1..=FRAMES {
        if seq % 3 == 0 {
            log.append(Audience::Presence, &envelope(1));
        }
        let chat = wire::Chat {
            seq,
            ..Default::default()
        };
        log.append(
            Audience::Everyone,
            &ServerEnvelope {
                message: Some(Message::Chat(chat)),
            },
        );
        if seq % 7 == 0 || seq == FRAMES {
            log.commit();
        }
    }
    for thread in threads {
        thread.join().expect("a reader sees whole frames in order");
    }
}

#[test]
fn a_reader_that_begins_before_a_commit_skips_earlier_frames() {
    // The earlier frames fill a part of a segment, or several segments.
    for frames in [1, 20] {
        let mut log = Log::new(1, 0);
        for _ in 0..frames {
            log.append(Audience::Everyone, &envelope(60_000));
        }
        let mut reader = log.reader(true);
        let mut received = Vec::new();
        assert_eq!(send(&mut reader, usize::MAX, &mut received), 0);
        assert_eq!(reader.rest_of_frame(), &[] as &[u8]);
        log.append(Audience::Everyone, &envelope(3));
        assert_eq!(send(&mut reader, usize::MAX, &mut received), 0);
        log.commit();
        while send(&mut reader, usize::MAX, &mut received) > 0 {}
        let mut expected = Vec::new();
        frame_bytes(&envelope(3), &mut expected);
        assert_eq!(received, expected);
        assert_eq!(reader.position(), log.committed_end());
    }
}

/// Every second frame is due to a reader with a filter, and they go out together, cut
/// anywhere; and a reader whose queue has overflowed finds the same.
#[test]
fn short_pieces_of_a_filtered_reader_go_together() {
    let filter = wire::Filter {
        topics: vec!["due".to_owned()],
        ..Default::default()
    };
    let filter = Filter::parse("member", &filter, 1).expect("a filter");
    let filter = Arc::new(filter.expect("it follows something"));
    // In one segment, and over several of them; beyond the queue, too.
    for (count, text_bytes) in [(20, 10), (2_000, 1_000), (4_000, 10)] {
        for bytes_max in [1, 7, 100, 50_000, usize::MAX] {
            let mut log = Log::new(1, 0);
            let mut reader = log.filtered_reader(Arc::clone(&filter), false);
            let queue = Arc::clone(reader.due().expect("it has a filter"));
            let (mut frames, mut due, mut seqs) = (DueFrames::default(), Vec::new(), Vec::new());
            for seq in 1..=count {
                let is_due = seq % 2 == 0;
                let chat = wire::Chat {
                    text: "x".repeat(text_bytes),
                    seq,
                    topic: if is_due { "due" } else { "other" }.to_owned(),
                    ..Default::default()
                };
                let envelope = ServerEnvelope {
                    message: Some(Message::Chat(chat)),
                };
                let range = log.append(Audience::Everyone, &envelope);
                if is_due {
                    frame::encode(&envelope, &mut due);
                    seqs.push(seq);
                    let appended = log.appended(&range);
                    if !frames.add(&appended, Some(seq)) {
                        queue.push(&mut frames);
                        assert!(frames.add(&appended, Some(seq)));
                    }
                }
                // A pass ends now and then.
                if seq % 700 == 0 {
                    queue.push(&mut frames);
                    log.commit();
                }
            }
            queue.push(&mut frames);
            log.commit();
            let (mut received, mut buffer, mut writes) = (Vec::new(), Vec::new(), 0);
            loop {
                let unsent = reader.unsent_gathered(u64::MAX, &mut buffer);
                let (sent, has_more) = (unsent.bytes.len().min(bytes_max), unsent.has_more);
                received.extend_from_slice(&unsent.bytes[..sent]);
                reader.advance(sent);
                // As after a reply, which comes between two frames.
                let rest = reader.rest_of_frame().to_vec();
                received.extend_from_slice(&rest);
                reader.advance_in_frame(rest.len());
                writes += 1;
                if sent == 0 && !has_more {
                    break;
                }
            }
            assert!(received == due, "{count} of {text_bytes}, {bytes_max}");
            assert_eq!(reader.position(), Reader::NOTHING_DUE);
            if bytes_max == usize::MAX {
                // Not one for each frame.
                assert!(writes < seqs.len() / 2, "{writes}");
            }
        }
    }
}
