//! Tests of the limits: their ranges, defaults, sentences and announcements.

use crate::wire;

use super::*;

#[test]
fn defaults_fit_together() {
    assert_eq!(Limits::default().check(), Ok(()));
    assert_eq!(Limits::resolve(|_| None), Ok(Limits::default()));
}

#[test]
fn the_sum_of_the_bounds() {
    let limits = Limits::default();
    let lines_bytes = 20_000 * (512 + 64 * 24);
    let filters_bytes = 10_000 * (64 * 160 + 16_384);
    let files_bytes =
        65_536 * 1_280 + 2 * 65_536 * 128 + (512 + 64 + 9 * 7) * ((16 << 10) + 256) + 10_000 * 512;
    assert_eq!(
        limits.memory_bytes_max(),
        (256 << 20)
            + 10_000 * (2_048 + 2_304)
            + lines_bytes
            + 50_000 * 256
            + filters_bytes
            + files_bytes
    );
}

/// Each limit at the ends of its range and just beyond, in a server that has the
/// defaults otherwise.
#[test]
fn values_beyond_the_range_are_refused_and_those_within_are_kept() {
    let resolve =
        |field, value| Limits::resolve(|limit| (limit.field == field).then_some(Some(value)));
    for limit in LIMITS {
        let range = (limit.range)(&Limits::default());
        let (least, most) = (*range.start(), *range.end());
        let is_kept = |value| {
            let mut limits = Limits::default();
            (limit.set)(&mut limits, Some(value));
            limit.value(&limits) == Some(value)
        };
        assert!(is_kept(least) && is_kept(most), "{}", limit.field);
        for value in [least.checked_sub(1), most.checked_add(1)]
            .into_iter()
            .flatten()
        {
            let sentence = resolve(limit.field, value).expect_err(limit.field);
            assert!(sentence.contains(&limit.option()), "{sentence}");
            assert!(sentence.contains(&limit.unit.show(value)), "{sentence}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let refused = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits.check().expect_err("should be refused")
    };
    insta::assert_snapshot!(
        [
            refused(|l| l.connections_max = 0),
            refused(|l| l.connections_per_address_max = Some(0)),
            refused(|l| l.connections_per_minute_max = Some(60_001)),
            refused(|l| l.frame_bytes_max = 256),
            refused(|l| l.frame_bytes_max = 65_537),
            refused(|l| l.text_bytes_max = 0),
            refused(|l| l.text_bytes_max = 7_937),
            refused(|l| l.chat_interval_ms = Some(0)),
            refused(|l| l.chat_burst = 0),
            refused(|l| l.frames_per_second_max = Some(19)),
            refused(|l| l.bytes_per_second_max = Some(163_839)),
            refused(|l| l.errors_max = Some(0)),
            refused(|l| l.register_deadline_ms = 0),
            refused(|l| l.name_check_deadline_ms = 0),
            refused(|l| l.idle_deadline_ms = 86_400_001),
            refused(|l| l.keepalive_interval_ms = 90_000),
            refused(|l| l.write_deadline_ms = 0),
            refused(|l| l.lag_bytes_max = 1_000),
            refused(|l| l.queue_bytes_max = 67_108_863),
            refused(|l| l.history_memory_bytes = 8_388_609),
            refused(|l| l.resume_ms = 0),
            refused(|l| l.resumes_max = 0),
            refused(|l| l.resend_ids_max = 1),
            refused(|l| l.history_page_max = 1_001),
        ]
        .join("\n"),
        @r"
    --connections-max must be from 1 to 1000000, not 0
    --connections-per-address-max must be from 1 to 1000000, not 0
    --connections-per-minute-max must be from 1 to 60000, not 60001
    --frame-bytes-max must be from 257B to 64KiB, not 256B
    --frame-bytes-max must be from 257B to 64KiB, not 65537B
    --text-bytes-max must be from 1B to 7936B, not 0: a frame is at least 256B longer than its text
    --text-bytes-max must be from 1B to 7936B, not 7937B: a frame is at least 256B longer than its text
    --rate-limit must be from 1/h to 1000/s, not 1 in 0ms
    --rate-burst must be from 1 to 1000000, not 0
    --frames-per-second-max must be from 20 to 1000000000, not 19: at least twice what --rate-limit allows
    --bytes-per-second-max must be from 160KiB to 1GiB, not 163839B: at least twice what --rate-limit allows of the longest frames
    --errors-max must be from 1 to 1000000000, not 0
    --register-deadline-ms must be from 1ms to 1d, not 0
    --name-check-deadline-ms must be from 1ms to 1d, not 0
    --idle-deadline-ms must be from 2ms to 1d, not 86400001ms
    --keepalive-interval-ms must be from 1ms to 89999ms, not 90s: less than --idle-deadline-ms
    --write-deadline-ms must be from 1ms to 1d, not 0
    --lag-bytes-max must be from 2MiB to 1TiB, not 1000B
    --queue-bytes-max must be from 64MiB to 1TiB, not 67108863B: at least --lag-bytes-max
    --history-memory must be from 0 to 8MiB, not 8388609B: an eighth of --lag-bytes-max at most, which it is a part of
    --resume-ms must be from 1ms to 1d, not 0
    --resumes-max must be from 1 to 1000000, not 0
    --resend-ids-max must be from 2 to 1024, not 1
    --history-page-max must be from 1 to 1000, not 1001
    "
    );
}

#[test]
fn defaults_follow_the_limits_that_are_given() {
    let resolve = |given: &[(&str, Option<u64>)]| {
        let value = |limit: &Limit| given.iter().find(|(field, _)| *field == limit.field);
        Limits::resolve(|limit| value(limit).map(|&(_, value)| value)).unwrap()
    };
    let flood = |given| {
        let limits = resolve(given);
        (limits.frames_per_second_max, limits.bytes_per_second_max)
    };
    assert_eq!(flood(&[]), (Some(200), Some(327_680)));
    let fast = flood(&[("chat_interval_ms", Some(1))]);
    assert_eq!(fast, (Some(20_000), Some(32_768_000)));
    assert_eq!(flood(&[("chat_interval_ms", None)]), (None, None));
    let asked = [
        ("chat_interval_ms", None),
        ("frames_per_second_max", Some(7)),
    ];
    assert_eq!(flood(&asked), (Some(7), None));
    assert_eq!(flood(&[("bytes_per_second_max", None)]), (Some(200), None));
    assert_eq!(
        resolve(&[("chat_burst", Some(1_000))]).errors_max,
        Some(30_000)
    );
    assert_eq!(
        resolve(&[("idle_deadline_ms", Some(900))]).keepalive_interval_ms,
        300
    );
    assert_eq!(
        resolve(&[("register_deadline_ms", Some(8_000))]).name_check_deadline_ms,
        4_000
    );
    assert_eq!(
        resolve(&[("lag_bytes_max", Some(1 << 30))]).queue_bytes_max,
        2 << 30
    );
}

/// A limit that is declared and not announced, or announced in the wrong field,
/// shows here: the schema's fields have the names of ours.
#[test]
fn every_field_of_the_schema_is_announced_by_the_limit_of_its_name() {
    let message = wire::SCHEMA
        .split("message Limits {")
        .nth(1)
        .and_then(|it| it.split('}').next());
    let fields: Vec<_> = message
        .expect("the schema has a message Limits")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("uint")?.split(' ').nth(1))
        .filter(|&field| field != "name_bytes_max")
        .collect();
    let announced = LIMITS.iter().filter(|limit| limit.announce.is_some());
    let mut declared: Vec<_> = announced.clone().map(|limit| limit.field).collect();
    let mut known = fields.clone();
    declared.sort_unstable();
    known.sort_unstable();
    assert_eq!(declared, known);
    for limit in announced {
        // With room for as many mentions.
        let mut limits = Limits {
            frame_bytes_max: u32::MAX,
            ..Limits::default()
        };
        (limit.set)(&mut limits, Some(4_711));
        let shown = format!("{:?}", limits.announced());
        assert!(shown.contains(&format!("{}: 4711", limit.field)), "{shown}");
    }
}
