//! The proof of a token request of a sign-in, and the meaning of its answer.

use std::fmt;

use crate::{
    oauth::Outcome,
    secret::{AuthorizationCode, CodeVerifier},
};

/// The proof that a token request presents.
#[derive(Clone)]
pub enum Proof {
    /// An authorization code.
    Code {
        /// The code.
        code: AuthorizationCode,
        /// The verifier, if the provider made it.
        verifier: Option<CodeVerifier>,
    },
    /// The code of the sign-in's own poll.
    Poll,
}

/// The meaning of the answer to a token request of a sign-in.
#[derive(Debug)]
pub enum Reading {
    /// As for every request to a token endpoint.
    Outcome(Outcome),
    /// The user has not decided yet.
    Pending,
    /// The user has not decided yet, and the provider wants fewer polls.
    SlowDown {
        /// The interval that the provider names, in seconds.
        interval: Option<u32>,
    },
    /// The sign-in has ended without tokens.
    Ended {
        /// `access_denied` or `expired_token`.
        code: &'static str,
    },
    /// An authorization code to exchange.
    Exchange(Proof),
}

// === impl Proof ===

impl fmt::Debug for Proof {
    /// Shows the kind alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code { .. } => "Code(…)",
            Self::Poll => "Poll",
        })
    }
}
