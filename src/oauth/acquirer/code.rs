//! Authorization code (RFC 6749 §4.1 with RFC 7636): the user follows a link and brings a code back.

use super::contract::{Proof, TokenAcquirer, View};
use crate::{
    oauth::{Credentials, Provider, TokenRequest, Withheld},
    secret::AuthorizationCode,
    session::{Locked, Pending},
};

/// The grant.
#[derive(Debug)]
pub(super) struct Code;

impl TokenAcquirer for Code {
    fn view(&self, provider: &Provider, pending: &Pending) -> View {
        View::Link(provider.authorize_url(pending))
    }

    fn request(
        &self,
        provider: &Provider,
        pending: &Locked<Pending>,
        proof: &Proof,
        credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        exchange(provider, pending, proof, credentials)
    }
}

/// Builds the exchange of a code. A proof without one gets a code that no provider accepts.
pub(super) fn exchange(
    provider: &Provider,
    pending: &Locked<Pending>,
    proof: &Proof,
    credentials: &Credentials,
) -> Result<TokenRequest, Withheld> {
    match proof {
        Proof::Code { code, verifier: None } => provider.exchange(pending, code, credentials),
        Proof::Code { code, verifier: Some(verifier) } => {
            provider.exchange(&pending.clone().with_verifier(verifier.clone()), code, credentials)
        }
        Proof::Poll => provider.exchange(pending, &AuthorizationCode::new(""), credentials),
    }
}
