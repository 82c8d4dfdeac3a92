//! Capabilities: the random secret that a worker shows to the token API.
//!
//! Kept as SHA-256 only, one per conversation; a new one, or the worker's end, voids the old.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use dashmap::DashMap;

use super::Conversation;
use crate::{
    ids::{ConversationId, ProviderId},
    secret::{Capability, Fingerprint},
    sys::random,
};

/// What a capability stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose worker shows it.
    pub conversation: Conversation,
    /// What it may ask for.
    pub providers: Vec<ProviderId>,
}

/// The live capabilities.
#[derive(Debug, Default)]
pub struct Capabilities {
    by_fingerprint: DashMap<Fingerprint, Holder>,
    by_conversation: DashMap<ConversationId, Fingerprint>,
    given: Mutex<Given>,
}

/// How many tokens that workers were given are remembered; the oldest are forgotten.
const MAX_GIVEN: usize = 4096;

/// The tokens that workers were given, in order.
#[derive(Debug, Default)]
struct Given {
    known: BTreeSet<Fingerprint>,
    order: VecDeque<Fingerprint>,
}

impl Capabilities {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Mints one for a worker; the conversation's earlier one is void.
    pub fn issue(&self, holder: Holder) -> Capability {
        let capability = Capability::new(random::token());
        let fingerprint = capability.fingerprint();
        let id = holder.conversation.id;
        self.by_fingerprint.insert(fingerprint.clone(), holder);
        if let Some(old) = self.by_conversation.insert(id, fingerprint) {
            self.by_fingerprint.remove(&old);
        }
        capability
    }

    /// Who shows this, if it is live. Looked up by hash, so the time it takes tells nothing of the secret.
    pub fn holder(&self, shown: &str) -> Option<Holder> {
        self.by_fingerprint.get(&Fingerprint::of(shown)).map(|holder| holder.clone())
    }

    /// Notes a token that a worker was given, so that [`Capabilities::is_secret`] knows it.
    pub fn note_given(&self, token: Fingerprint) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if !given.known.insert(token.clone()) {
            return;
        }
        given.order.push_back(token);
        if given.order.len() > MAX_GIVEN
            && let Some(oldest) = given.order.pop_front()
        {
            given.known.remove(&oldest);
        }
    }

    /// Whether this is a live capability, or a token that a worker was given: nothing that anybody else may see.
    pub fn is_secret(&self, fingerprint: &Fingerprint) -> bool {
        self.by_fingerprint.contains_key(fingerprint)
            || self.given.lock().unwrap_or_else(PoisonError::into_inner).known.contains(fingerprint)
    }

    /// Voids the conversation's capability.
    pub fn revoke(&self, conversation: ConversationId) {
        if let Some((_, fingerprint)) = self.by_conversation.remove(&conversation) {
            self.by_fingerprint.remove(&fingerprint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Snowflake;

    fn holder(id: u64) -> Holder {
        let conversation =
            Conversation { id: ConversationId(Snowflake(id)), owner: Snowflake(1), shared_guild: None };
        Holder { conversation, providers: vec!["acme".parse().expect("a name")] }
    }

    #[test]
    fn a_new_capability_and_a_revocation_void_the_old_one() {
        let all = Capabilities::new();
        let first = all.issue(holder(1));
        let other = all.issue(holder(2));
        assert_eq!(all.holder(first.expose()), Some(holder(1)));
        let second = all.issue(holder(1));
        assert_eq!(all.holder(first.expose()), None);
        assert_eq!(all.holder(second.expose()), Some(holder(1)));
        all.revoke(ConversationId(Snowflake(1)));
        assert_eq!(all.holder(second.expose()), None);
        assert_eq!(all.holder(other.expose()), Some(holder(2)));
        assert_eq!(all.holder(""), None);
    }

    #[test]
    fn capabilities_and_given_tokens_are_known_as_secrets_and_the_oldest_tokens_forgotten() {
        let all = Capabilities::new();
        let capability = all.issue(holder(1));
        let token = |n: usize| Fingerprint::of(&format!("token {n}"));
        for n in 0..=MAX_GIVEN {
            all.note_given(token(n));
            all.note_given(token(n));
        }
        assert!(all.is_secret(&capability.fingerprint()));
        assert!(all.is_secret(&token(MAX_GIVEN)) && all.is_secret(&token(1)));
        assert!(!all.is_secret(&token(0)));
    }
}
