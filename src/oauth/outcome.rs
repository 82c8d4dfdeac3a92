//! What an answer means: the one table.

use std::time::Duration;

use super::Sent;
use crate::{
    secret::Nonce,
    session::{Grant, journal::Answer},
};

/// The meaning of what came back from a token endpoint.
#[derive(Debug)]
pub enum Outcome {
    /// New tokens.
    Granted(Box<Grant>),
    /// What was sent is not spent: try again later.
    Unspent {
        /// A stable word: `connect`, `http_503`, …
        code: String,
        /// What `Retry-After` asked for, from the answer's arrival.
        retry_after: Option<Duration>,
    },
    /// It may have been spent. `code` begins with `ambiguous_`.
    Ambiguous {
        /// A stable word: `ambiguous_timeout`, `ambiguous_http_500`, …
        code: String,
    },
    /// The provider's verdict: it is over.
    Ended {
        /// `invalid_grant`, …
        code: String,
    },
    /// The operator has to mend something.
    Misconfigured {
        /// `invalid_client`, …
        code: String,
    },
    /// The answer carries tokens for somebody else than asked: the id token's `nonce` or `aud` does not match. Only for the
    /// exchange of a code.
    Mismatch {
        /// Which claim.
        claim: &'static str,
    },
}

/// Reads what became of a request. With `nonce`, an id token in the answer has to carry it (OpenID Connect Core §3.1.3.7).
pub fn outcome(sent: &Sent, client_id: &str, nonce: Option<&Nonce>) -> Outcome {
    let _ = (sent, client_id, nonce);
    unimplemented!()
}

/// The same for an answer out of a journal.
pub fn outcome_of(answer: &Answer, client_id: &str, nonce: Option<&Nonce>) -> Outcome {
    let _ = (answer, client_id, nonce);
    unimplemented!()
}
