//! Capabilities: the random secret that a worker shows to the token API.
//!
//! Kept as SHA-256 only, one per conversation; a new one, or the worker's end, voids the old.

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

    /// Whether this is the fingerprint of a live one.
    pub fn is_live(&self, fingerprint: &Fingerprint) -> bool {
        self.by_fingerprint.contains_key(fingerprint)
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
}
