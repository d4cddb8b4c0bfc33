//! Connect errors: every way in which there is no session, and what it means for one that
//! is to be continued.

use std::{fmt, io};

use super::backoff::{Failure, Retry};
use super::event::Ending;
use crate::address::{AddressError, Scheme};
#[cfg(feature = "tls")]
use crate::tls::Untrusted;
use crate::wire::ErrorCode;

/// Why there is no session.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be parsed.
    Address(AddressError),
    /// The host lookup failed.
    Lookup(io::Error),
    /// No address of the host accepted the connection; the last error.
    Connect(io::Error),
    /// The server's certificate is not trusted.
    #[cfg(feature = "tls")]
    Untrusted(Untrusted),
    /// The handshake of an encrypted connection failed otherwise: the server does not
    /// speak TLS, or refuses.
    #[cfg(feature = "tls")]
    Tls(io::Error),
    /// The library was built without the feature of this scheme.
    SchemeMissing(Scheme),
    /// The server did not answer in time.
    Silent,
    /// The connection was closed without an answer.
    Closed,
    /// The connection broke before there was an answer.
    Lost(io::Error),
    /// The server speaks another protocol.
    NotChat,
    /// The server is shutting down.
    ServerClosed {
        /// The server's sentence about it; can be empty, and is not safe to
        /// print as it is.
        detail: String,
        /// When it asks its clients to come back, in milliseconds; 0: it does not say.
        retry_after_ms: u32,
    },
    /// The server refused the registration.
    Refused {
        /// Why; [`ErrorCode::Unspecified`] for a code that this library does not
        /// know (CHAT-GROW-5).
        code: ErrorCode,
        /// The server's sentence about it; can be empty, and is not safe to
        /// print as it is.
        detail: String,
        /// How long to wait before connecting again, in milliseconds; 0 if waiting does
        /// not help.
        retry_after_ms: u32,
    },
}

impl ConnectError {
    /// Whether the server asks for a password, or for another than the one given
    /// ([`Connector::password`](super::Connector::password)). Retrying with the same is pointless (CHAT-ADM-7).
    pub fn is_about_password(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: ErrorCode::PasswordWrong,
                ..
            }
        )
    }
}

impl ConnectError {
    /// Whether another server of the same room may do better.
    pub(super) fn is_of_server(&self) -> bool {
        match self {
            Self::Refused { code, .. } => Retry::after_code(*code) == Retry::Worthwhile,
            Self::Lookup(_)
            | Self::Connect(_)
            | Self::Silent
            | Self::Closed
            | Self::Lost(_)
            | Self::ServerClosed { .. } => true,
            _ => false,
        }
    }

    /// What it means for a session that is to be continued.
    pub(super) fn into_failure(self) -> Failure {
        let failure = |ending, retry| Failure {
            ending,
            retry,
            retry_after_ms: 0,
        };
        match self {
            Self::Refused {
                code,
                detail,
                retry_after_ms,
            } => Failure {
                ending: Ending::Error { code, detail },
                retry: Retry::after_code(code),
                retry_after_ms,
            },
            Self::ServerClosed {
                detail,
                retry_after_ms,
            } => Failure {
                ending: Ending::ServerClosed {
                    detail,
                    retry_after_ms,
                },
                retry: Retry::Worthwhile,
                retry_after_ms,
            },
            error => {
                let retry = match error {
                    Self::Address(_) | Self::SchemeMissing(_) => Retry::Never,
                    // Who the server is, only the user can judge.
                    #[cfg(feature = "tls")]
                    Self::Untrusted(_) => Retry::Never,
                    // What stands before a server that starts may answer for it.
                    Self::NotChat => Retry::Doubtful,
                    _ => Retry::Worthwhile,
                };
                let reason = error.to_string();
                failure(Ending::Lost { reason }, retry)
            }
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => write!(f, "this is not an address: {error}"),
            Self::Lookup(error) => write!(f, "cannot look up the host: {error}"),
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            #[cfg(feature = "tls")]
            Self::Untrusted(error) => write!(f, "the server is not trusted: {error}"),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "cannot encrypt the connection: {error}"),
            Self::SchemeMissing(scheme) => write!(
                f,
                "this program was built without the feature for {}://",
                scheme.as_str()
            ),
            Self::Silent => write!(f, "the server did not answer in time"),
            Self::Closed => write!(f, "the connection was closed without an answer"),
            Self::Lost(error) => write!(f, "the connection broke: {error}"),
            Self::NotChat => write!(f, "the server speaks another protocol"),
            Self::ServerClosed { detail, .. } => write!(f, "the server is closing: {detail:?}"),
            Self::Refused { code, detail, .. } => {
                write!(f, "the server refused ({}): {detail:?}", code.as_str_name())
            }
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(error) => Some(error),
            Self::Lookup(error) | Self::Connect(error) | Self::Lost(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::Untrusted(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::Tls(error) => Some(error),
            _ => None,
        }
    }
}
