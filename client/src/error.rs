//! The errors of a request for a token.

use std::{io, path::PathBuf, time::Duration};

/// The reason why threadkey returns no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The environment names no token API.
    #[error(
        "{0} is not set: threadkey sets it for the workers that it starts. Another program can use the command `threadkey token`, with Client::program"
    )]
    NotInWorker(&'static str),
    /// The capability has characters that no HTTP header can carry.
    #[error(
        "the capability for threadkey's token API has characters that no HTTP header can carry: check THREADKEY_CAPABILITY"
    )]
    BadCapability,
    /// The name of the provider is not one that threadkey allows.
    #[error(
        "{0:?} is no name of a provider: it has 1 to 64 of the characters a-z, 0-9, `_`, `.` and `-`, and starts with a letter or digit"
    )]
    BadProvider(String),
    /// The URL of a server is neither `https` nor on loopback, so no token may be sent there.
    #[error("{0} is no URL for a token: use https, or http on loopback")]
    UnsafeServer(String),
    /// No server listens on the socket.
    #[error("threadkey's token API at {socket} cannot be reached: {source}. Is `threadkey run` running?", socket = socket.display())]
    Unreachable {
        /// The path of the socket.
        socket: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The command could not be started, or its output could not be read.
    #[error("the command {program} cannot be run: {source}. Install threadkey, or name its path", program = program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("the connection to threadkey's token API broke: {0}. Try again")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There was no answer in time.
    #[error("threadkey did not answer within {} s. Try again", .0.as_secs())]
    Silent(Duration),
    /// threadkey has no token now.
    #[error("{detail} ({code})", code = code.as_str())]
    Refused {
        /// The stable code.
        code: Code,
        /// The reason, and the next step.
        detail: String,
        /// When to try again, if it makes sense to wait.
        retry_after: Option<Duration>,
    },
    /// The answer is not in threadkey's format.
    #[error(
        "threadkey answered in an unknown format ({0}). Are this program and threadkey of the same version?"
    )]
    Unknown(String),
}

impl Error {
    /// Returns when to try again, if the same call can succeed later without a user.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a user must sign in before there is a token.
    pub fn needs_sign_in(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::NoSession
                    | Code::SessionEnded
                    | Code::AuthorizationDenied
                    | Code::AuthorizationTimeout,
                ..
            }
        )
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A stable code of an error answer (the member `code` of its problem, RFC 9457).
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)+
            /// A code that this version of the library does not know.
            Other(String),
        }

        impl Code {
            /// Returns the code as threadkey sends it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for Code {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }
    };
}

codes! {
    /// The request is malformed.
    InvalidRequest = "invalid_request",
    /// The body is too long.
    ContentTooLarge = "content_too_large",
    /// The capability is missing, wrong or revoked.
    Unauthorized = "unauthorized",
    /// The caller may not use this provider.
    ProviderNotAllowed = "provider_not_allowed",
    /// The user declined to sign in.
    AuthorizationDenied = "authorization_denied",
    /// The owner may not use the bot at the moment.
    NotEntitled = "not_entitled",
    /// The operator hands out no raw tokens.
    RawTokensDisabled = "raw_tokens_disabled",
    /// No provider of this name is configured.
    UnknownProvider = "unknown_provider",
    /// There is no session.
    NoSession = "no_session",
    /// The user did not sign in in time.
    AuthorizationTimeout = "authorization_timeout",
    /// The session has ended: a user must sign in again.
    SessionEnded = "session_ended",
    /// The provider cannot be reached.
    ProviderUnavailable = "provider_unavailable",
    /// A refresh is still in progress.
    RefreshInProgress = "refresh_in_progress",
    /// The store cannot be read or written.
    StoreUnavailable = "store_unavailable",
    /// The caller has too many requests in progress.
    TooManyRequests = "too_many_requests",
    /// The newest token was reported as rejected, and no newer one can be had yet.
    RejectedAgain = "rejected_again",
    /// The upstream of an injected request cannot be reached.
    UpstreamUnavailable = "upstream_unavailable",
    /// The provider refuses threadkey's client: the operator must mend the configuration.
    ProviderMisconfigured = "provider_misconfigured",
    /// A defect of threadkey.
    Internal = "internal",
}
