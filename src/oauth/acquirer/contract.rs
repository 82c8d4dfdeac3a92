//! The trait of a grant, and the types of its steps.

use std::fmt;

use url::Url;

use super::{
    opening::OpeningError,
    poll_words,
    reading::{Proof, Reading},
};
use crate::{
    oauth::{
        AnswerRules, Attempt, Credentials, Mismatch, OpeningRequest, Provider, TokenRequest, Withheld,
        sign_in_outcome,
    },
    secret::AuthorizationCode,
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
