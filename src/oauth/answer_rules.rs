//! The provider's peculiarities that matter to the reader of its answers.

use std::time::Duration;

use super::Provider;
use crate::session::Binding;

/// The rules by which an answer is read. They are the same for an answer that just arrived and for
/// one from a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerRules {
    /// The client that the tokens are for: the audience of an id token.
    pub client_id: String,
    /// See [`ProviderSettings::token_path`](super::ProviderSettings::token_path). Empty if the
    /// tokens stand at the top.
    pub token_path: Vec<String>,
    /// See [`ProviderSettings::ended_errors`](super::ProviderSettings::ended_errors).
    pub ended_errors: Vec<String>,
    /// See [`ProviderSettings::max_lifetime`](super::ProviderSettings::max_lifetime).
    pub max_lifetime: Option<Duration>,
    /// Whether PKCE binds a code to its sign-in
    /// ([`ProviderSettings::enforces_pkce`](super::ProviderSettings::enforces_pkce)). Then an id
    /// token may lack its nonce.
    pub pkce_binds_code: bool,
}

impl Provider {
    /// Returns the rules for the answers to requests that spend a secret of this binding.
    pub fn answer_rules(&self, binding: &Binding) -> AnswerRules {
        AnswerRules {
            client_id: binding.client_id.clone(),
            token_path: self.token_path.clone(),
            ended_errors: self.ended_errors.clone(),
            max_lifetime: self.max_lifetime,
            pkce_binds_code: self.enforces_pkce,
        }
    }
}

/// The reason why the tokens of a sign-in are refused: its id token may belong to another sign-in
/// (OpenID Connect Core §3.1.3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The `nonce` is that of another sign-in.
    Nonce,
    /// There is no `nonce`, and PKCE does not bind the code to the sign-in.
    NoNonce,
    /// The `aud` names other clients.
    Audience,
}
