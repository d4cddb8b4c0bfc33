//! What the operator does to members (CHAT-MOD), for how long still, and why.

use crate::{
    name::Name,
    session::{Ban, Reason},
    wire::ErrorCode,
};

use super::{Rejection, rejection};

/// CHAT-MOD-1
pub(in crate::session) fn kicked(reason: &Reason) -> Rejection {
    let what = "the operator of this server has thrown you out";
    rejection(ErrorCode::Kicked, with_reason(what, reason))
}

/// CHAT-MOD-1
pub(in crate::session) fn password_changed() -> Rejection {
    rejection(
        ErrorCode::Kicked,
        "the password of this server was changed, connect again with the new one",
    )
}

/// CHAT-MOD-1
pub(in crate::session) fn name_removed(name: &Name) -> Rejection {
    rejection(
        ErrorCode::Kicked,
        format!("the name {name} was taken off this server's list"),
    )
}

/// CHAT-MOD-2, CHAT-MOD-3
pub(in crate::session) fn banned_name(ban: &Ban, now_unix_ms: i64) -> Rejection {
    rejection(
        ErrorCode::Banned,
        with_ban(
            "the operator of this server has banned this name",
            ban,
            now_unix_ms,
        ),
    )
}

/// CHAT-MOD-2, CHAT-MOD-3
pub(in crate::session) fn banned_address(ban: &Ban, now_unix_ms: i64) -> Rejection {
    let what = "the operator of this server has banned your network address";
    rejection(ErrorCode::Banned, with_ban(what, ban, now_unix_ms))
}

/// CHAT-MOD-4
pub(in crate::session) fn muted(mute: &Ban, now_unix_ms: i64) -> Rejection {
    let what = "the operator of this server has muted you";
    rejection(ErrorCode::Muted, with_ban(what, mute, now_unix_ms))
}

fn with_reason(what: &str, reason: &Reason) -> String {
    match reason.as_str() {
        "" => what.to_owned(),
        reason => format!("{what}: {reason}"),
    }
}

/// `what`, for how long still, and why.
fn with_ban(what: &str, ban: &Ban, now_unix_ms: i64) -> String {
    let Some(until) = ban.until_unix_ms else {
        return with_reason(what, &ban.reason);
    };
    let minutes = until.saturating_sub(now_unix_ms).max(0) / 60_000 + 1;
    let time = match minutes {
        1 => "1 minute".to_owned(),
        2..120 => format!("{minutes} minutes"),
        120..2_880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    };
    with_reason(&format!("{what} for {time}"), &ban.reason)
}
