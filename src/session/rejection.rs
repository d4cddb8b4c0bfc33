//! Rejections: the error code and the sentence for everything that a session rejects
//! (CHAT-ERR-5, CHAT-ERR-6).
//!
//! Every sentence fits into the smallest frame that can be configured, and repeats
//! nothing that a client sent unless it is safe to print.

mod moderation;

use crate::{
    frame::FrameError,
    limits::Limits,
    name::{Name, NameError},
    text::TextError,
    wire::{self, ErrorCode, ServerEnvelope, server_envelope::Message},
};

use super::AddressLimit;
pub(super) use moderation::{
    banned_address, banned_name, kicked, muted, name_removed, password_changed,
};

/// A rejection that has not been sent yet. It becomes an Error in one of three ways: it
/// ends the session, it rejects one chat, or neither.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    pub(super) code: ErrorCode,
    detail: String,
    retry_after_ms: u32,
}

impl Rejection {
    /// An error that ends the session (CHAT-ERR-2).
    pub(super) fn fatal(self) -> ServerEnvelope {
        self.envelope(true, 0)
    }

    /// An error after which the session continues (CHAT-ERR-3), about no chat.
    pub(super) fn non_fatal(self) -> ServerEnvelope {
        self.envelope(false, 0)
    }

    /// An error that rejects the chat or the request with this id (CHAT-ERR-4).
    pub(super) fn for_request(self, id: u64) -> ServerEnvelope {
        self.envelope(false, id)
    }

    /// An error that refuses something about this file.
    pub(super) fn about_file(self, sha256: Vec<u8>) -> ServerEnvelope {
        let mut envelope = self.envelope(false, 0);
        if let Some(Message::Error(error)) = &mut envelope.message {
            error.sha256 = sha256;
        }
        envelope
    }

    fn envelope(self, ends_session: bool, id: u64) -> ServerEnvelope {
        ServerEnvelope {
            message: Some(Message::Error(wire::Error {
                code: self.code.into(),
                detail: self.detail,
                ends_session,
                id,
                retry_after_ms: self.retry_after_ms,
                sha256: Vec::new(),
            })),
        }
    }
}

fn rejection(code: ErrorCode, detail: impl Into<String>) -> Rejection {
    Rejection {
        code,
        detail: detail.into(),
        retry_after_ms: 0,
    }
}

pub(super) fn frame(error: FrameError) -> Rejection {
    let code = match error {
        FrameError::Length => ErrorCode::MalformedFrame,
        FrameError::TooLong { .. } => ErrorCode::FrameTooLong,
    };
    rejection(code, error.to_string())
}

pub(super) fn bad_envelope() -> Rejection {
    rejection(
        ErrorCode::MalformedFrame,
        "a frame does not parse as a ClientEnvelope of chat.v1",
    )
}

pub(super) fn cut_short() -> Rejection {
    rejection(
        ErrorCode::MalformedFrame,
        "the stream ended inside a frame, which was ignored",
    )
}

pub(super) fn not_registered() -> Rejection {
    rejection(
        ErrorCode::NotRegistered,
        "the first message must be Register",
    )
}

pub(super) fn already_registered() -> Rejection {
    rejection(
        ErrorCode::AlreadyRegistered,
        "you are registered already; to change your name, leave and register again",
    )
}

pub(super) fn register_timeout(deadline_ms: u32) -> Rejection {
    rejection(
        ErrorCode::RegisterTimeout,
        format!("no Register arrived within {deadline_ms} ms, connect again"),
    )
}

pub(super) fn server_full() -> Rejection {
    rejection(ErrorCode::ServerFull, "the server is full, try again later")
}

pub(super) fn address_limit(limit: AddressLimit) -> Rejection {
    match limit {
        // CHAT-REG-11
        AddressLimit::Concurrent => rejection(
            ErrorCode::TooManyConnections,
            "too many connections are open from your network address, close one or try again later",
        ),
        // CHAT-REG-12
        AddressLimit::Rate { retry_after_ms } => Rejection {
            retry_after_ms,
            ..rejection(
                ErrorCode::ConnectingTooFast,
                format!(
                    "too many connections came from your network address, connect again in {retry_after_ms} ms"
                ),
            )
        },
    }
}

pub(super) fn name(error: NameError) -> Rejection {
    match error {
        NameError::Invalid => rejection(
            ErrorCode::NameInvalid,
            "a name has 1 to 32 ASCII letters, digits, '.', '_' or '-' and begins with a letter or digit",
        ),
        NameError::Reserved => rejection(
            ErrorCode::NameReserved,
            "this name is reserved, choose another",
        ),
    }
}

pub(super) fn name_in_use(name: &Name) -> Rejection {
    rejection(
        ErrorCode::NameInUse,
        format!("the name {name} is in use, choose another"),
    )
}

/// CHAT-CLUS-1.
pub(super) fn cluster_unreachable(retry_after_ms: u32) -> Rejection {
    Rejection {
        retry_after_ms,
        ..rejection(
            ErrorCode::ClusterUnreachable,
            "this server is cut off the other servers of the room, connect to another one or \
             try again later",
        )
    }
}

/// CHAT-RES-5, CHAT-RES-6.
pub(super) fn replaced() -> Rejection {
    rejection(
        ErrorCode::Replaced,
        "this session continues on another connection",
    )
}

/// CHAT-HIST-7
pub(super) fn page(chats_max: u32) -> Rejection {
    rejection(
        ErrorCode::RequestInvalid,
        format!("ask for the chats before or after a number, from 1 to {chats_max} of them"),
    )
}

/// CHAT-REG-9
pub(super) fn store_full() -> Rejection {
    rejection(
        ErrorCode::ServerFull,
        "the disk of the server is full, try again later",
    )
}

/// CHAT-HIST-9
pub(super) fn storage_full() -> Rejection {
    rejection(
        ErrorCode::StorageFull,
        "the server has no space to keep your message, try again later",
    )
}

/// CHAT-ADM-1. The sentence repeats neither password (CHAT-ADM-5).
pub(super) fn password_wrong(is_missing: bool) -> Rejection {
    rejection(
        ErrorCode::PasswordWrong,
        if is_missing {
            "this server requires a password, connect again with it"
        } else {
            "the password is wrong, connect again with the right one"
        },
    )
}

pub(super) fn name_not_allowed(name: &Name) -> Rejection {
    rejection(
        ErrorCode::NameNotAllowed,
        format!("the name {name} is not on this server's list, choose one that is"),
    )
}

/// CHAT-ID-8
pub(super) fn name_owned(name: &Name, has_key: bool) -> Rejection {
    let with = match has_key {
        true => "with the key that owns it",
        false => "with its key",
    };
    rejection(
        ErrorCode::NameOwned,
        format!("the name {name} has an owner: choose another, or connect {with}"),
    )
}

/// CHAT-ID-4
pub(super) fn key_invalid() -> Rejection {
    rejection(
        ErrorCode::ProofWrong,
        "a key is 32 bytes, an Ed25519 public key; register with one, or without a key",
    )
}

/// CHAT-ID-5
pub(super) fn proof_wrong() -> Rejection {
    rejection(
        ErrorCode::ProofWrong,
        "the proof is not the signature of the Challenge by the key that you registered with",
    )
}

/// CHAT-ID-6
pub(super) fn proof_expected() -> Rejection {
    rejection(
        ErrorCode::NotRegistered,
        "the answer to a Challenge must be Proof",
    )
}

pub(super) fn name_reclaimed(deadline_ms: u32) -> Rejection {
    rejection(
        ErrorCode::NameReclaimed,
        format!(
            "another client asked for your name, and nothing arrived from you for {deadline_ms} ms after a Ping"
        ),
    )
}

pub(super) fn text(error: TextError, text_bytes_max: u32) -> Rejection {
    match error {
        TextError::Empty => rejection(ErrorCode::TextInvalid, "the text is empty, say something"),
        TextError::Control(c) => rejection(
            ErrorCode::TextInvalid,
            format!(
                "the text holds U+{:04X}, a line break or control character; send one line of plain text",
                u32::from(c)
            ),
        ),
        TextError::TooLong => rejection(
            ErrorCode::TextTooLong,
            format!("the text is longer than {text_bytes_max} bytes, send it in parts"),
        ),
    }
}

/// CHAT-LIM-3
pub(super) fn rate(retry_after_ms: u32) -> Rejection {
    Rejection {
        retry_after_ms,
        ..rejection(
            ErrorCode::RateLimited,
            format!("too many messages, send it again in {retry_after_ms} ms"),
        )
    }
}

pub(super) fn too_many_errors() -> Rejection {
    rejection(
        ErrorCode::TooManyErrors,
        "too many of your messages were rejected, see the errors before this one",
    )
}

pub(super) fn unknown_message() -> Rejection {
    rejection(
        ErrorCode::UnknownMessage,
        "this server does not know that message",
    )
}

pub(super) fn keepalive_not_granted() -> Rejection {
    rejection(
        ErrorCode::NotGranted,
        "keepalive was not granted to this session, ask for it in Register",
    )
}

pub(super) fn history_not_granted(is_offered: bool) -> Rejection {
    let detail = match is_offered {
        true => "history was not granted to this session, ask for it in Register",
        false => "this server does not let members read the past",
    };
    rejection(ErrorCode::NotGranted, detail)
}

pub(super) fn direct_not_granted() -> Rejection {
    rejection(
        ErrorCode::NotGranted,
        "direct messages were not granted to this session, ask for them and for receipts in Register",
    )
}

/// CHAT-DM-6: it says nothing about the reason.
pub(super) fn not_reachable() -> Rejection {
    rejection(
        ErrorCode::NotReachable,
        "no member of this name takes direct messages now",
    )
}

pub(super) fn follow_not_granted() -> Rejection {
    rejection(
        ErrorCode::NotGranted,
        "follow was not granted to this session, ask for it in Register",
    )
}

/// CHAT-FOL-1
pub(super) fn topic() -> Rejection {
    rejection(
        ErrorCode::TopicInvalid,
        "a topic has 1 to 32 ASCII letters, digits, '.', '_' or '-' and begins with a letter or digit",
    )
}

/// CHAT-FOL-1
pub(super) fn mention() -> Rejection {
    rejection(
        ErrorCode::TopicInvalid,
        "a mention is the name of a member: 1 to 32 ASCII letters, digits, '.', '_' or '-'",
    )
}

/// CHAT-FOL-1
pub(super) fn too_many_mentions(mentions_max: u32) -> Rejection {
    rejection(
        ErrorCode::TopicInvalid,
        format!("a message has at most {mentions_max} mentions"),
    )
}

/// CHAT-FOL-5
pub(super) fn filter_invalid() -> Rejection {
    rejection(
        ErrorCode::RequestInvalid,
        "a filter has topics and names of 1 to 32 ASCII letters, digits, '.', '_' or '-'",
    )
}

/// CHAT-FOL-5
pub(super) fn filter_too_long(entries_max: u32) -> Rejection {
    rejection(
        ErrorCode::RequestInvalid,
        format!("a filter has at most {entries_max} topics and names"),
    )
}

pub(super) fn files_not_granted(is_offered: bool) -> Rejection {
    let detail = match is_offered {
        true => "files were not granted to this session, ask for them in Register",
        false => "this server takes no files",
    };
    rejection(ErrorCode::NotGranted, detail)
}

/// CHAT-FILE: the same words for a file that is not there and one that is not for this
/// member (CHAT-FILE-4).
pub(super) fn file(code: ErrorCode, limits: &Limits) -> Rejection {
    let detail = match code {
        ErrorCode::FileTooLong => {
            format!("a file has at most {} bytes here", limits.file_bytes_max)
        }
        ErrorCode::FilesFull => {
            "the server has no space for this file now, try again later".to_owned()
        }
        ErrorCode::FileMismatch => {
            "the piece does not follow, or the file is not what its SHA-256 says; ask with PutFile"
                .to_owned()
        }
        _ => "the server has no such file for you, upload it first".to_owned(),
    };
    rejection(code, detail)
}

/// CHAT-CLUS-2
pub(super) fn file_elsewhere() -> Rejection {
    rejection(
        ErrorCode::NotReachable,
        "another server of this room has the file and cannot be reached, try again later",
    )
}

/// CHAT-FILE-9
pub(super) fn file_request() -> Rejection {
    rejection(
        ErrorCode::RequestInvalid,
        "a SHA-256 has 32 bytes, a file one at least, and a download begins within it",
    )
}

/// CHAT-FILE-9
pub(super) fn files_per_chat(files_max: u32) -> Rejection {
    rejection(
        ErrorCode::RequestInvalid,
        format!("a message names at most {files_max} files, each by a SHA-256 of 32 bytes"),
    )
}

/// CHAT-FILE-8
pub(super) fn file_name() -> Rejection {
    rejection(
        ErrorCode::FileNameInvalid,
        "the name of a file has 1 to 128 bytes without '/', '\\', ':' and control characters, and does not begin with '.'",
    )
}

pub(super) fn downloads() -> Rejection {
    rejection(
        ErrorCode::FilesFull,
        "the server sends too many files at once, try again later",
    )
}

pub(super) fn idle_timeout(deadline_ms: u32) -> Rejection {
    rejection(
        ErrorCode::IdleTimeout,
        format!("nothing arrived from you for {deadline_ms} ms, connect again"),
    )
}

pub(super) fn slow_consumer() -> Rejection {
    rejection(
        ErrorCode::SlowConsumer,
        "you do not read fast enough, connect again",
    )
}

pub(super) fn past_removed() -> Rejection {
    rejection(
        ErrorCode::SlowConsumer,
        "the server removed messages that you missed before it could send them, connect again to get the rest",
    )
}

pub(super) fn overloaded() -> Rejection {
    rejection(
        ErrorCode::Overloaded,
        "the queues of all clients take too much of the server's memory, and yours is the largest; connect again and read faster",
    )
}
