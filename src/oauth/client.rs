//! Sending a token request: one connection, one attempt, everything bounded.

use crate::{session::journal::Answer, sys::clock::Clock};

/// A request to a token, revocation or userinfo endpoint, ready to be sent. `Debug` shows method and URL only.
pub struct TokenRequest(pub(super) oauth2::HttpRequest);

/// What became of a request.
#[derive(Debug)]
pub enum Sent {
    /// An answer came, whole.
    Answer(Answer),
    /// It never left: DNS, connect or TLS failed. The word is a stable code: `dns`, `connect`, `tls`.
    NotSent(&'static str),
    /// It left, and no whole answer came: `timeout`, `reset`, `too_large`.
    Unknown(&'static str),
}

/// The HTTP client for providers: connects within 5 s, reads for up to 180 s, follows no redirect, repeats nothing,
/// reuses no idle connection, reads at most [`MAX_BODY`](crate::session::journal::MAX_BODY) bytes.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// Builds it. `clock` dates the answers.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Clock) -> Result<Self, super::ProviderError> {
        let _ = clock;
        unimplemented!()
    }

    /// Sends once.
    pub async fn send(&self, request: TokenRequest) -> Sent {
        let _ = request;
        unimplemented!()
    }

    /// Asks the userinfo endpoint whose login an access token is: `email`, `preferred_username`, `name` or `sub`, the
    /// first that there is. `None` when there is no such endpoint or it does not tell within 10 s.
    pub async fn account(
        &self,
        provider: &super::Provider,
        token: &crate::secret::AccessToken,
    ) -> Option<String> {
        let _ = (provider, token);
        unimplemented!()
    }
}
