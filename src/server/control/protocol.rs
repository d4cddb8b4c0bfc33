//! What the control socket carries: one request a line and one answer a line, as JSON.
//!
//! ```text
//! {"command":"kick","name":"mallory","reason":"spam"}
//! {"ok":true}
//! {"command":"kick","name":"nobody"}
//! {"ok":false,"code":"not-found","error":"no member has the name nobody"}
//! ```

use serde::{Deserialize, Serialize};

/// The longest request and the longest answer, in bytes with their line breaks: the
/// longest text that can be configured, escaped, and a page of members.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// The most bans in one answer, the names first; `bans` is for people to read.
pub(super) const BANS_LISTED_MAX: usize = 2_000;

/// The most members in one answer.
pub(super) const MEMBERS_MAX: usize = 1_000;

/// What an operator asks for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    /// The members behind a name.
    List {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    Kick {
        name: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    Ban {
        /// A name, an address or a range.
        target: String,
        /// For how long, from now; for ever if it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_ms: Option<u64>,
        /// Whether the address of the member with that name is banned as well.
        #[serde(default)]
        address: bool,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    Unban {
        target: String,
    },
    Mute {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    Unmute {
        name: String,
    },
    /// Those that last.
    Bans,
    /// Takes the text of a message away for ever.
    Remove {
        seq: u64,
    },
    Say {
        text: String,
    },
    Reload,
    Drain {
        /// When clients are to come back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        back_in_ms: Option<u32>,
    },
    Stats,
}

/// The answer: `ok` and what was asked for, or why not.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(super) enum Answer {
    Refused(Refused),
    Members {
        ok: Yes,
        members: Vec<Member>,
        /// Whether there are more behind the last one.
        more: bool,
    },
    Said {
        ok: Yes,
        seq: u64,
    },
    Banned {
        ok: Yes,
        /// How many connections were ended.
        ended: usize,
        /// Whether it survives a restart of the server.
        kept: bool,
    },
    Bans {
        ok: Yes,
        bans: Vec<ListedBan>,
    },
    Reloaded {
        ok: Yes,
        reloaded: String,
    },
    Stats {
        ok: Yes,
        stats: Stats,
    },
    Done {
        ok: Yes,
    },
}

/// `true`, which it always is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(into = "bool", try_from = "bool")]
pub(super) struct Yes;

impl From<Yes> for bool {
    fn from(_: Yes) -> Self {
        true
    }
}

impl TryFrom<bool> for Yes {
    type Error = &'static str;

    fn try_from(ok: bool) -> Result<Self, Self::Error> {
        ok.then_some(Self).ok_or("it is refused")
    }
}

/// Why a request was not carried out.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Refused {
    /// Always `false`.
    pub(super) ok: bool,
    pub(super) code: Code,
    /// A sentence for a person.
    pub(super) error: String,
}

/// Why, for a program.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Code {
    /// The request is no request, or a value in it is wrong.
    Invalid,
    /// There is nobody or nothing of that name.
    NotFound,
    /// It was tried and failed.
    Failed,
}

/// A member.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// IP address and port; absent where it comes over no network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    pub(super) since_unix_ms: i64,
    pub(super) idle_ms: u32,
    pub(super) queue_bytes: u64,
    pub(super) messages: u64,
    /// It is connected to another server of the cluster: times and queue say nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) elsewhere: bool,
}

/// A ban or mute.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct ListedBan {
    /// `deny` for one of the file of `--deny`, else `ban` or `mute`.
    pub(super) kind: String,
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until_unix_ms: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(super) reason: String,
}

/// How the server is.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) version: String,
    pub(super) uptime_ms: u64,
    pub(super) connections: usize,
    pub(super) members: usize,
    pub(super) last_seq: u64,
    pub(super) oldest_seq: u64,
    pub(super) buffered_bytes: u64,
    pub(super) senders_paused: bool,
    pub(super) disk_full: bool,
}

impl Answer {
    pub(super) fn done() -> Self {
        Self::Done { ok: Yes }
    }

    pub(super) fn refused(code: Code, error: impl Into<String>) -> Self {
        Self::Refused(Refused {
            ok: false,
            code,
            error: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_and_a_success_are_told_apart() {
        let refused = Answer::refused(Code::NotFound, "nobody");
        let answers = [
            (
                refused,
                r#"{"ok":false,"code":"not-found","error":"nobody"}"#,
            ),
            (Answer::done(), r#"{"ok":true}"#),
            (Answer::Said { ok: Yes, seq: 7 }, r#"{"ok":true,"seq":7}"#),
        ];
        for (answer, json) in answers {
            assert_eq!(serde_json::to_string(&answer).expect("JSON"), json);
            assert_eq!(serde_json::from_str::<Answer>(json).expect(json), answer);
        }
    }

    #[test]
    fn a_request_has_no_unknown_field_and_no_unknown_command() {
        for json in [
            r#"{"command":"kick","name":"a","resaon":"typing error"}"#,
            r#"{"command":"reboot"}"#,
            r#"{"command":"kick"}"#,
            "[]",
            "",
        ] {
            assert!(serde_json::from_str::<Request>(json).is_err(), "{json}");
        }
        let list = serde_json::from_str::<Request>(r#"{"command":"list"}"#);
        assert_eq!(list.expect("a request"), Request::List { after: None });
    }
}
