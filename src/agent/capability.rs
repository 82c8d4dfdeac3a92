//! Capabilities: the random secrets that workers present to the token API.
//!
//! A conversation has at most one live capability, of which only the SHA-256 is kept. A new one, or
//! the worker's end, voids the old one.

use dashmap::DashMap;

use super::Conversation;
use crate::{
    ids::{ConversationId, ProviderId},
    secret::{Capability, Fingerprint, Scrubber},
    sys::random,
};

/// The rights of a live capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The conversation of the worker that presents it.
    pub conversation: Conversation,
    /// The providers whose tokens the worker may ask for.
    pub providers: Vec<ProviderId>,
}

/// The live capabilities.
#[derive(Debug, Default)]
pub struct Capabilities {
    by_fingerprint: DashMap<Fingerprint, Holder>,
    by_conversation: DashMap<ConversationId, Fingerprint>,
}

impl Capabilities {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a worker's capability, and voids the conversation's earlier one.
    pub fn issue(&self, holder: Holder) -> Capability {
        let capability = Capability::new(random::token());
        Scrubber::of_process().note(capability.expose());
        let fingerprint = capability.fingerprint();
        let id = holder.conversation.id;
        self.by_fingerprint.insert(fingerprint.clone(), holder);
        if let Some(old) = self.by_conversation.insert(id, fingerprint) {
            self.by_fingerprint.remove(&old);
        }
        capability
    }

    /// Returns the holder of a presented capability if that is live.
    ///
    /// The look-up goes by hash, so its duration reveals nothing about the secret.
    pub fn holder(&self, presented: &str) -> Option<Holder> {
        self.by_fingerprint.get(&Fingerprint::of(presented)).map(|holder| holder.clone())
    }

    /// The number of live capabilities, one for each worker.
    pub fn live(&self) -> usize {
        self.by_conversation.len()
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
