//! The trait of a grant, and the types of its steps.

use std::fmt;

use url::Url;

use super::{opening::OpeningError, poll_words};
use crate::{
    oauth::{
        AnswerRules, Attempt, Credentials, Mismatch, OpeningRequest, Outcome, Provider, TokenRequest,
        Withheld, sign_in_outcome,
    },
    secret::{AuthorizationCode, CodeVerifier},
    session::{
        Locked, Pending, Polling,
        journal::{Answer, Answered},
    },
};

/// The first view of a sign-in for its user. Only that user may see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum View {
    /// A page where the user signs in. Its address carries the state.
    Link(Url),
    /// A page where the user enters a code (RFC 8628 §3.3).
    DeviceCode {
        /// The code.
        user_code: String,
        /// The page.
        verification_uri: Url,
        /// The page with the code in its address.
        verification_uri_complete: Option<Url>,
    },
    /// A question on another screen of the user (CIBA Core §7).
    Elsewhere {
        /// The message beside the question.
        binding_message: String,
    },
}

/// The user of a sign-in, for a grant that names the user to the provider.
#[derive(Clone, Debug, Default)]
pub struct KnownUser {
    /// The user's name at the provider, from the operator or an earlier sign-in.
    pub login_hint: Option<String>,
    /// The user's name here.
    pub name: String,
}

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

/// One grant.
pub trait TokenAcquirer: fmt::Debug + Send + Sync {
    /// Returns the request that begins a sign-in, or `None` if the provider need not be asked.
    ///
    /// # Errors
    /// [`OpeningError`] if the sign-in cannot begin.
    fn opening(
        &self,
        provider: &Provider,
        user: &KnownUser,
        credentials: &Credentials,
    ) -> Result<Option<OpeningRequest>, OpeningError> {
        let _ = (provider, user, credentials);
        Ok(None)
    }

    /// Reads the answer to [`opening`](Self::opening).
    ///
    /// # Errors
    /// [`OpeningError`] if the provider refuses, or its answer cannot be used.
    fn opened(
        &self,
        provider: &Provider,
        user: &KnownUser,
        answer: &Answer,
    ) -> Result<Polling, OpeningError> {
        let _ = (provider, user, answer);
        Err(OpeningError::Unusable("an answer to no question"))
    }

    /// Returns the redirect URI of the exchange, if the grant has its own.
    fn redirect_uri(&self, provider: &Provider) -> Option<String> {
        let _ = provider;
        None
    }

    /// Returns the first view for the user.
    fn view(&self, provider: &Provider, pending: &Pending) -> View;

    /// Builds the request of a poll. A grant without polls sends a code that no provider accepts.
    ///
    /// # Errors
    /// See [`Provider::destination`].
    fn poll(
        &self,
        provider: &Provider,
        pending: &Locked<Pending>,
        polling: &Polling,
        credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        let _ = polling;
        provider.exchange(pending, &AuthorizationCode::new(""), credentials)
    }

    /// Reads the answer to an exchange of a code, or to a poll.
    ///
    /// # Errors
    /// [`Mismatch`] if the tokens may belong to another sign-in. They must not be used.
    fn read(
        &self,
        attempt: &Attempt<Answered>,
        rules: &AnswerRules,
        pending: &Pending,
        is_poll: bool,
    ) -> Result<Reading, Mismatch> {
        if is_poll {
            return poll_words::read(attempt, rules, pending);
        }
        sign_in_outcome(attempt, rules, pending.nonce.as_ref()).map(Reading::Outcome)
    }
}

// === impl dyn TokenAcquirer ===

impl dyn TokenAcquirer {
    /// Builds the token request with this proof: the exchange of a code, which is the same for every
    /// grant, or the poll.
    ///
    /// # Errors
    /// See [`Provider::destination`].
    pub fn request(
        &self,
        provider: &Provider,
        pending: &Locked<Pending>,
        proof: &Proof,
        credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        match (proof, &pending.polling) {
            (Proof::Code { code, verifier: None }, _) => provider.exchange(pending, code, credentials),
            (Proof::Code { code, verifier: Some(verifier) }, _) => {
                provider.exchange(&pending.clone().with_verifier(verifier.clone()), code, credentials)
            }
            (Proof::Poll, Some(polling)) => self.poll(provider, pending, polling, credentials),
            (Proof::Poll, None) => provider.exchange(pending, &AuthorizationCode::new(""), credentials),
        }
    }
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
