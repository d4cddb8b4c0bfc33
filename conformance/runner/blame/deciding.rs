//! Deciding rules: which rules a step, a field or a message depends on.

use super::context::Context;
use crate::{
    problem::Problem,
    transcript::{Action, Side},
};

/// The rules that can decide a step: the one that does so in any case, and those that
/// may do so in a case about them. A rule that ends in a hyphen is a whole area.
#[derive(Debug)]
pub(super) struct Deciding {
    pub(super) first: &'static str,
    also: &'static [&'static str],
}

impl Deciding {
    /// Those of some rules that can decide it.
    pub(super) fn among(&self, rules: &[String]) -> Vec<String> {
        let decides = |rule: &&String| {
            let mut all = self.also.iter().chain(std::iter::once(&self.first));
            all.any(|id| rule == id || (id.ends_with('-') && rule.starts_with(id)))
        };
        rules.iter().filter(decides).cloned().collect()
    }
}

/// The rules against an error that is not due, by its code. Others depend on the step.
pub(super) fn of_error_instead(code: &str) -> Option<Deciding> {
    match code {
        "TOO_MANY_ERRORS" => rules("CHAT-ERR-9", &[]),
        "RATE_LIMITED" => rules("CHAT-LIM-2", &["CHAT-LIM-", "CHAT-ERR-5", "CHAT-RES-11"]),
        "NAME_RECLAIMED" => rules("CHAT-NAME-8", &["CHAT-NAME-4", "CHAT-NAME-9", "CHAT-ID-9"]),
        _ => None,
    }
}

/// The rules by which a connection stays open, in cases about them.
pub(super) const STAYING_OPEN: Deciding = Deciding {
    first: "CHAT-ERR-3",
    also: &[
        "CHAT-ERR-9",
        "CHAT-NAME-4",
        "CHAT-NAME-8",
        "CHAT-KEEP-5",
        "CHAT-KEEP-6",
    ],
};

/// The rules about messages that were sent before Leave.
pub(super) const BEFORE_LEAVE: Deciding = Deciding {
    first: "CHAT-LEAVE-2",
    also: &["CHAT-LEAVE-3"],
};

/// The rules that can decide a step; None: all of those of the case.
pub(super) fn deciding(action: &Action, context: &Context, problem: &Problem) -> Option<Deciding> {
    match (action, context.side) {
        (Action::Receive { wanted, .. }, side) => {
            let first = wanted.first()?;
            if wanted.iter().any(|other| other.kind != first.kind) {
                return None;
            }
            match side {
                // A client need not have a key.
                Side::Client if *problem.fields == ["key"] => rules("CHAT-ID-18", &[]),
                Side::Client => of_client_message(&first.kind),
                Side::Server if first.kind == "error" => {
                    of_error(first.body["code"].as_str()?, context, problem)
                }
                Side::Server => of_message(&first.kind, problem),
            }
        }
        (Action::Join { .. } | Action::Crowd(_) | Action::Saturate(_), Side::Server) => {
            of_message("registered", problem)
        }
        (Action::Pieces { .. }, _) => rules("CHAT-FILE-10", FILES),
        (Action::Closed { .. }, Side::Server) => of_close(context),
        (Action::AllMembers { .. } | Action::Finds { .. }, _) => rules(
            "CHAT-PRES-1",
            &["CHAT-PRES-", "CHAT-REG-3", "CHAT-FRAME-12"],
        ),
        (Action::CatchesUp { .. }, _) => rules("CHAT-ORD-4", &["CHAT-ORD-", "CHAT-LIM-"]),
        (Action::Ends, _) => rules("CHAT-CLOSE-3", &["CHAT-CLOSE-"]),
        _ => None,
    }
}

fn rules(first: &'static str, also: &'static [&'static str]) -> Option<Deciding> {
    Some(Deciding { first, also })
}

/// Messages of a client under test.
fn of_client_message(kind: &str) -> Option<Deciding> {
    match kind {
        "register" => rules(
            "CHAT-REG-1",
            &[
                "CHAT-REG-",
                "CHAT-ADM-",
                "CHAT-NAME-",
                "CHAT-RES-",
                "CHAT-FRAME-",
            ],
        ),
        "leave" => rules("CHAT-LEAVE-1", &["CHAT-LEAVE-"]),
        "proof" => rules("CHAT-ID-13", &["CHAT-ID-"]),
        "pong" => rules("CHAT-KEEP-2", &["CHAT-KEEP-", "CHAT-GROW-", "CHAT-FRAME-"]),
        "direct_ack" => rules("CHAT-DM-13", &["CHAT-DM-"]),
        "get_file" => rules("CHAT-FILE-18", FILES),
        _ => None,
    }
}

/// Errors: the rule that asks for the code.
fn of_error(code: &str, context: &Context, problem: &Problem) -> Option<Deciding> {
    let code = code.strip_prefix("ERROR_CODE_")?;
    // The code is right, and another field is wrong.
    match &*problem.fields {
        [field] if field == "id" => return rules("CHAT-ERR-4", &[]),
        [field] if field == "detail" => {
            return rules("CHAT-ERR-6", &["CHAT-ADM-5", "CHAT-DM-6", "CHAT-FILE-4"]);
        }
        _ => {}
    }
    match code {
        "MALFORMED_FRAME" if context.is_after_end_of_stream => rules("CHAT-FRAME-10", &[]),
        "MALFORMED_FRAME" if context.has_sent_frame => rules("CHAT-FRAME-8", &["CHAT-ERR-11"]),
        "MALFORMED_FRAME" => rules("CHAT-FRAME-4", &["CHAT-ERR-11"]),
        "FRAME_TOO_LONG" => rules("CHAT-FRAME-5", &["CHAT-FRAME-6", "CHAT-ERR-11"]),
        "NOT_REGISTERED" => rules("CHAT-REG-2", &["CHAT-ID-6"]),
        "ALREADY_REGISTERED" => rules("CHAT-REG-6", &["CHAT-ID-7"]),
        "REGISTER_TIMEOUT" => rules("CHAT-REG-5", &[]),
        "SERVER_FULL" => rules("CHAT-REG-9", &[]),
        "NAME_INVALID" => rules("CHAT-NAME-1", &[]),
        "NAME_RESERVED" => rules("CHAT-NAME-2", &[]),
        "NAME_IN_USE" => rules("CHAT-NAME-3", &["CHAT-NAME-"]),
        "TEXT_INVALID" => rules("CHAT-CHAT-6", ANSWERS),
        "TEXT_TOO_LONG" => rules("CHAT-CHAT-7", ANSWERS),
        "RATE_LIMITED" => rules("CHAT-LIM-3", ANSWERS),
        "FILE_UNKNOWN" => rules("CHAT-FILE-1", FILES),
        "FILE_TOO_LONG" => rules("CHAT-FILE-13", FILES),
        "FILES_FULL" => rules("CHAT-FILE-14", FILES),
        "FILE_MISMATCH" => rules("CHAT-FILE-5", FILES),
        "FILE_NAME_INVALID" => rules("CHAT-FILE-8", FILES),
        "NOT_REACHABLE" => rules("CHAT-DM-6", &["CHAT-DM-"]),
        "UNKNOWN_MESSAGE" => rules("CHAT-GROW-1", ANSWERS),
        "NOT_GRANTED" => rules("CHAT-GROW-6", ANSWERS),
        "IDLE_TIMEOUT" => rules("CHAT-KEEP-4", &["CHAT-KEEP-"]),
        "PASSWORD_WRONG" => rules("CHAT-ADM-1", &["CHAT-ADM-2"]),
        "NAME_NOT_ALLOWED" => rules("CHAT-ADM-4", &["CHAT-ADM-2"]),
        "TOO_MANY_CONNECTIONS" => rules("CHAT-REG-11", &[]),
        "CONNECTING_TOO_FAST" => rules("CHAT-REG-12", &[]),
        "NAME_RECLAIMED" => rules("CHAT-NAME-9", &["CHAT-NAME-"]),
        "TOO_MANY_ERRORS" => rules("CHAT-ERR-8", &["CHAT-ERR-"]),
        "SLOW_CONSUMER" => rules("CHAT-LIM-5", &["CHAT-LIM-"]),
        "REPLACED" => rules("CHAT-RES-5", &["CHAT-RES-", "CHAT-ID-9"]),
        "NAME_OWNED" => rules("CHAT-ID-8", &["CHAT-ID-"]),
        "PROOF_WRONG" => rules("CHAT-ID-5", &["CHAT-ID-"]),
        "REQUEST_INVALID" => rules("CHAT-HIST-7", &["CHAT-FOL-", "CHAT-ORD-8", "CHAT-FILE-9"]),
        "TOPIC_INVALID" => rules("CHAT-FOL-1", &["CHAT-ERR-4"]),
        "STORAGE_FULL" => rules("CHAT-HIST-9", &[]),
        "CLUSTER_UNREACHABLE" => rules("CHAT-CLUS-1", &[]),
        "KICKED" => rules("CHAT-MOD-1", &["CHAT-MOD-"]),
        "BANNED" => rules("CHAT-MOD-3", &["CHAT-MOD-"]),
        "MUTED" => rules("CHAT-MOD-4", ANSWERS),
        "OVERLOADED" => rules("CHAT-LIM-10", &["CHAT-LIM-"]),
        _ => None,
    }
}

/// The rules that an answer which does not come can break.
const ANSWERS: &[&str] = &["CHAT-LIM-9", "CHAT-ERR-11"];

/// Messages of a server: the rule that asks for the message, or for the field of it that
/// is wrong.
fn of_message(kind: &str, problem: &Problem) -> Option<Deciding> {
    let field = match &*problem.fields {
        [field] => field.as_str(),
        _ => "",
    };
    match (kind, field) {
        ("registered", "name") => rules("CHAT-REG-4", &["CHAT-NAME-"]),
        ("registered", "seq") => rules("CHAT-ORD-6", &["CHAT-ORD-", "CHAT-HIST-10"]),
        ("registered", "epoch") => rules("CHAT-ORD-7", &[]),
        ("registered", "capabilities") => rules(
            "CHAT-REG-7",
            &[
                "CHAT-REG-8",
                "CHAT-GROW-",
                "CHAT-ADM-",
                "CHAT-RES-1",
                "CHAT-DM-1",
            ],
        ),
        ("registered", "limits") => rules("CHAT-LIM-1", &["CHAT-LIM-7"]),
        ("registered", "resumeToken") => rules("CHAT-RES-2", &["CHAT-RES-1"]),
        ("registered", "resumedFrom") => rules("CHAT-RES-8", &["CHAT-RES-"]),
        ("registered", "resumeFailure") => rules("CHAT-RES-10", &["CHAT-RES-", "CHAT-MOD-5"]),
        ("registered", "oldestSeq") => rules("CHAT-HIST-8", &[]),
        ("registered", _) => match problem.code() {
            Some("NAME_IN_USE") => rules(
                "CHAT-NAME-6",
                &["CHAT-NAME-", "CHAT-FRAME-9", LEAVE, "CHAT-RES-"],
            ),
            Some("PASSWORD_WRONG") => rules("CHAT-ADM-1", &["CHAT-ADM-"]),
            Some("NAME_NOT_ALLOWED") => rules("CHAT-ADM-4", &["CHAT-ADM-"]),
            Some("NAME_OWNED" | "PROOF_WRONG") => rules("CHAT-NAME-6", &["CHAT-ID-"]),
            _ => rules("CHAT-REG-3", REGISTERING),
        },
        // A chat that does not come, or another in its place, is what most rules are about.
        ("challenge", _) => rules("CHAT-ID-2", &["CHAT-ID-"]),
        ("chat", "senderId") => rules("CHAT-ID-12", &["CHAT-ID-16"]),
        ("chat", "sender") => rules("CHAT-CHAT-4", SENDER),
        ("chat", "seq") => rules("CHAT-ORD-1", NUMBERED),
        ("chat", "timeUnixMs") => rules("CHAT-CHAT-5", &["CHAT-RCPT-3"]),
        ("chat", "id") => rules("CHAT-CHAT-9", &[]),
        ("chat", "topic" | "mentions") => rules("CHAT-FOL-2", &["CHAT-FOL-3"]),
        ("chat" | "direct", "files") => rules("CHAT-FILE-16", FILES),
        ("chat", _) => None,
        ("members", _) => rules(
            "CHAT-PRES-1",
            &["CHAT-PRES-", "CHAT-REG-3", "CHAT-FRAME-12"],
        ),
        ("joined", _) => rules("CHAT-PRES-2", &["CHAT-PRES-", "CHAT-ERR-3"]),
        ("left", "reason") => rules("CHAT-PRES-5", &[]),
        ("left", _) => rules("CHAT-PRES-3", &["CHAT-PRES-", LEAVE]),
        ("receipt", "seq") => rules("CHAT-RCPT-1", NUMBERED),
        ("receipt", "timeUnixMs") => rules("CHAT-RCPT-3", &["CHAT-RES-11", "CHAT-DM-11"]),
        ("receipt", _) => rules(
            "CHAT-RCPT-1",
            &[
                "CHAT-RCPT-",
                "CHAT-CLOSE-6",
                "CHAT-ERR-3",
                "CHAT-ERR-11",
                "CHAT-LIM-",
                "CHAT-RES-",
                "CHAT-DM-",
                LEAVE,
            ],
        ),
        ("history", "from" | "to") => rules("CHAT-HIST-2", HISTORY),
        ("history", "chats") => rules("CHAT-HIST-2", HISTORY),
        ("history", _) => rules("CHAT-HIST-1", HISTORY),
        ("file_state", "have") => rules("CHAT-FILE-3", FILES),
        ("file_state", _) => rules("CHAT-FILE-2", FILES),
        ("file_data", _) => rules("CHAT-FILE-10", FILES),
        ("direct", "seq") => rules("CHAT-DM-8", DIRECT),
        ("direct", "peer" | "text" | "timeUnixMs" | "id") => rules("CHAT-DM-4", DIRECT),
        ("direct", _) => rules("CHAT-DM-2", DIRECT),
        ("direct_state", _) => rules("CHAT-DM-9", DIRECT),
        ("following", "seq") => rules("CHAT-FOL-7", FOLLOWING),
        ("following", _) => rules("CHAT-FOL-6", FOLLOWING),
        ("covered", "sent") => rules("CHAT-COV-4", &["CHAT-COV-"]),
        ("covered", _) => rules("CHAT-COV-3", &["CHAT-COV-"]),
        ("pong", _) => rules(
            "CHAT-KEEP-1",
            &["CHAT-KEEP-", "CHAT-ERR-3", "CHAT-ERR-11", "CHAT-LIM-9"],
        ),
        ("ping", _) => rules("CHAT-KEEP-3", &["CHAT-KEEP-", "CHAT-NAME-"]),
        ("server_closing", _) => rules("CHAT-CLOSE-1", &["CHAT-CLOSE-"]),
        _ => None,
    }
}

/// Messages that no step expects: the rule against one too many.
pub(super) fn of_unexpected(kind: &str) -> Option<Deciding> {
    match kind {
        "chat" => rules(
            "CHAT-ORD-2",
            &[
                "CHAT-CHAT-",
                "CHAT-ORD-",
                "CHAT-CLOSE-",
                "CHAT-ERR-10",
                "CHAT-FOL-",
                "CHAT-FRAME-",
                "CHAT-LIM-",
                "CHAT-REG-",
                "CHAT-RES-",
                LEAVE,
            ],
        ),
        "receipt" => rules(
            "CHAT-RCPT-2",
            &[
                "CHAT-RCPT-",
                "CHAT-CHAT-8",
                "CHAT-ERR-10",
                "CHAT-RES-",
                "CHAT-DM-",
            ],
        ),
        "challenge" => rules("CHAT-ID-3", &["CHAT-ID-"]),
        "joined" => rules("CHAT-PRES-2", &["CHAT-PRES-"]),
        "left" => rules("CHAT-PRES-3", &["CHAT-PRES-"]),
        "members" => rules("CHAT-PRES-1", &["CHAT-PRES-"]),
        "pong" => rules("CHAT-KEEP-1", &["CHAT-KEEP-"]),
        "history" => rules("CHAT-HIST-1", &["CHAT-HIST-"]),
        "file_state" => rules("CHAT-FILE-2", FILES),
        "file_data" => rules("CHAT-FILE-10", FILES),
        "direct" => rules("CHAT-DM-2", DIRECT),
        "direct_state" => rules("CHAT-DM-9", DIRECT),
        "following" => rules("CHAT-FOL-6", FOLLOWING),
        "covered" => rules("CHAT-COV-5", &["CHAT-COV-"]),
        _ => None,
    }
}

/// The rules that an answer to Follow can break.
const FOLLOWING: &[&str] = &["CHAT-FOL-", "CHAT-ORD-8"];

/// The rules that a page with wrong edges or chats can break.
const HISTORY: &[&str] = &[
    "CHAT-HIST-",
    "CHAT-FOL-",
    "CHAT-DM-3",
    "CHAT-ORD-8",
    "CHAT-MOD-8",
];

/// The rules that a Direct or its state can break.
const DIRECT: &[&str] = &["CHAT-DM-"];

/// The rules that files can break.
const FILES: &[&str] = &["CHAT-FILE-"];

const LEAVE: &str = "CHAT-LEAVE-";

/// The rules that a Register that is not accepted can break.
const REGISTERING: &[&str] = &[
    "CHAT-REG-",
    "CHAT-NAME-",
    "CHAT-ADM-",
    "CHAT-FRAME-",
    "CHAT-GROW-",
    "CHAT-ID-",
    "CHAT-PRES-1",
    "CHAT-LIM-1",
    "CHAT-LIM-7",
    "CHAT-ORD-9",
    "CHAT-RES-",
    "CHAT-MOD-",
    LEAVE,
];

/// The rules that a wrong sender can break: a session that is changed has another name.
const SENDER: &[&str] = &["CHAT-REG-4", "CHAT-REG-6", "CHAT-ERR-3"];

/// The rules that a wrong number can break.
const NUMBERED: &[&str] = &[
    "CHAT-ORD-",
    "CHAT-CHAT-5",
    "CHAT-CHAT-8",
    "CHAT-CLOSE-5",
    "CHAT-ERR-10",
    "CHAT-FRAME-9",
    "CHAT-LEAVE-4",
    "CHAT-LIM-3",
    "CHAT-RCPT-1",
    "CHAT-RES-",
    "CHAT-HIST-10",
    "CHAT-DM-3",
    "CHAT-DM-7",
];

/// The end of a connection.
fn of_close(context: &Context) -> Option<Deciding> {
    if context.is_after_closing {
        rules("CHAT-CLOSE-2", &["CHAT-CLOSE-"])
    } else if context.is_after_leave {
        rules("CHAT-LEAVE-2", &["CHAT-GROW-3", "CHAT-FRAME-7"])
    } else if context.is_after_end_of_stream {
        rules("CHAT-LEAVE-5", &["CHAT-FRAME-", "CHAT-REG-13"])
    } else {
        None
    }
}
