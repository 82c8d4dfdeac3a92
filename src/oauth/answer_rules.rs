//! The provider's peculiarities that matter to the reader of its answers.

use std::time::Duration;

use super::Provider;
use crate::session::{Binding, Session};

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
    /// The issuer of id tokens, where it is known. `{tenantid}` in it stands for the claim `tid`.
    pub issuer: Option<String>,
    /// Whether the issuer's keys can be fetched. Then an id token must have all claims that the
    /// standard requires.
    pub has_keys: bool,
    /// For a refresh: the subject of the session, where an id token named it. Another id token must
    /// have the same.
    pub subject: Option<String>,
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
            issuer: self.id_token_issuer.clone().or_else(|| binding.issuer.clone()),
            has_keys: self.jwks_uri.is_some(),
            subject: None,
        }
    }

    /// Returns the rules for the answers to the refreshes of this session.
    pub fn refresh_rules(&self, session: &Session) -> AnswerRules {
        let rules = self.answer_rules(&session.binding);
        match session.subject.as_ref().filter(|_| session.has_proved_subject()) {
            // The identity of the session has the exact issuer.
            Some(subject) => AnswerRules {
                issuer: session.binding.issuer.clone(),
                subject: Some(subject.clone()),
                ..rules
            },
            None => rules,
        }
    }
}
