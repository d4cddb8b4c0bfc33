//! Configuration of the simulated server: its limits, its password and its list of
//! names.

use fastrand::Rng;

use crate::{
    limits::{LAG_BYTES_FLOOR, Limits},
    name::Name,
    password::Password,
    session::AccessPolicy,
};

use super::{
    Theme,
    inputs::{CONTESTED_NAMES, PASSWORD},
};

/// Random limits, small enough that a run reaches them.
pub(super) fn limits(theme: Theme, has_operator: bool, rng: &mut Rng) -> Limits {
    let idle_deadline_ms = rng.u32(300..4_000);
    let is_bulk = theme == Theme::Bulk;
    // A removed text ends a segment, and the past must be there all the same.
    let lag_bytes_max = LAG_BYTES_FLOOR * if has_operator { 4 } else { 1 };
    let frame_bytes_max = match theme {
        Theme::Bulk => 65_536,
        Theme::Crowd => rng.u32(300..400),
        _ => rng.u32(300..2_000),
    };
    let (chat_burst, chat_interval_ms) = if !is_bulk && rng.u8(0..4) > 0 {
        (rng.u32(1..8), Some(rng.u32(1..800)))
    } else {
        (1, None)
    };
    // The lowest inbound rate that the chat rate allows, or somewhat more.
    let inbound_rate = |rng: &mut Rng, per_chat: u32, more: u32| {
        let least = (2_000 * per_chat).div_ceil(chat_interval_ms.unwrap_or(2_000));
        (!is_bulk && rng.u8(0..3) == 0).then(|| least + rng.u32(0..more))
    };
    Limits {
        connections_max: match theme {
            Theme::Crowd => rng.u32(8..24),
            Theme::Bulk => rng.u32(4..8),
            _ => rng.u32(2..8),
        },
        frame_bytes_max,
        text_bytes_max: (frame_bytes_max - 256)
            .min(rng.u32(30..120) + if is_bulk { 65_000 } else { 0 }),
        chat_burst,
        chat_interval_ms,
        register_deadline_ms: rng.u32(100..3_000),
        keepalive_interval_ms: rng.u32(1..idle_deadline_ms),
        idle_deadline_ms,
        write_deadline_ms: rng.u32(50..3_000) + if is_bulk { 8_000 } else { 0 },
        lag_bytes_max,
        frames_per_second_max: inbound_rate(rng, 1, 10),
        bytes_per_second_max: inbound_rate(rng, frame_bytes_max, 2_000),
        errors_max: match theme {
            Theme::Chatter if rng.u8(0..4) > 0 => None,
            _ => (rng.u8(0..3) > 0).then(|| rng.u32(1..12)),
        },
        name_check_deadline_ms: rng.u32(50..1_500),
        // Only a member that does not read makes the queues grow so far. Not much more
        // than its lag may be, or the server closes it for its lag first.
        queue_bytes_max: lag_bytes_max + if is_bulk { rng.u64(0..1 << 18) } else { 0 },
        connections_per_address_max: (rng.u8(0..4) == 0).then(|| rng.u32(1..5)),
        connections_per_minute_max: (rng.u8(0..4) == 0).then(|| rng.u32(1..20)),
        is_loopback_limited: false,
        history_memory_bytes: lag_bytes_max / 8,
        resume_ms: rng.choice([5_000, 3_600_000]).unwrap_or(5_000),
        resumes_max: rng.u32(1..20),
        resend_ids_max: rng.choice([4, 1_000]).unwrap_or(4),
        history_page_max: 10,
        covered_interval_ms: rng.u32(500..2_000),
        filter_entries_max: 4,
        mentions_max: 2,
        name_expiry_ms: 2_000,
        // Nothing is stored.
        ..Limits::default()
    }
}

/// The access policy: a password, and a list of the contested names, if there are any.
pub(super) fn access(has_password: bool, has_name_list: bool) -> AccessPolicy {
    let names = || {
        CONTESTED_NAMES
            .iter()
            .filter_map(|name| Name::parse(name).ok())
    };
    AccessPolicy {
        password: Password::parse(PASSWORD).ok().filter(|_| has_password),
        names: has_name_list.then(|| names().collect()),
        ..AccessPolicy::default()
    }
}
