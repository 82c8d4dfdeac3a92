//! Capabilities: the random secrets that workers present to the token API.
//!
//! A conversation has at most one live capability, of which only the SHA-256 is kept. A new one, or
//! the worker's end, voids the old one.

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

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

/// A live capability.
#[derive(Debug)]
struct Live {
    holder: Holder,
    /// Fires when the capability is void.
    voided: CancellationToken,
}

/// The live capabilities.
#[derive(Debug, Default)]
pub struct Capabilities {
    by_fingerprint: DashMap<Fingerprint, Live>,
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
        let voided = CancellationToken::new();
        self.by_fingerprint.insert(fingerprint.clone(), Live { holder, voided });
        if let Some(old) = self.by_conversation.insert(id, fingerprint) {
            self.void(&old);
        }
        capability
    }

    /// Returns the holder of a presented capability if that is live.
    ///
    /// The look-up goes by hash, so its duration reveals nothing about the secret.
    pub fn holder(&self, presented: &str) -> Option<Holder> {
        self.by_fingerprint.get(&Fingerprint::of(presented)).map(|live| live.holder.clone())
    }

    /// Returns a token that fires when the capability is void. It has fired if that is so already.
    pub fn voided(&self, capability: &Capability) -> CancellationToken {
        self.voided_for(capability.expose())
    }

    /// The same for a presented capability.
    pub fn voided_for(&self, presented: &str) -> CancellationToken {
        match self.by_fingerprint.get(&Fingerprint::of(presented)) {
            Some(live) => live.voided.clone(),
            None => {
                let voided = CancellationToken::new();
                voided.cancel();
                voided
            }
        }
    }

    /// The number of live capabilities, one for each worker.
    pub fn live(&self) -> usize {
        self.by_conversation.len()
    }

    /// Voids the conversation's capability.
    pub fn revoke(&self, conversation: ConversationId) {
        if let Some((_, fingerprint)) = self.by_conversation.remove(&conversation) {
            self.void(&fingerprint);
        }
    }

    fn void(&self, fingerprint: &Fingerprint) {
        if let Some((_, live)) = self.by_fingerprint.remove(fingerprint) {
            live.voided.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Snowflake;

    fn holder(id: u64) -> Holder {
        let conversation = Conversation {
            id: ConversationId(Snowflake(id)),
            owner: Snowflake(1),
            shared_guild: None,
            agent: None,
        };
        Holder { conversation, providers: vec!["acme".parse().expect("a name")] }
    }

    #[test]
    fn a_new_capability_and_a_revocation_void_the_old_one() {
        let all = Capabilities::new();
        let first = all.issue(holder(1));
        let other = all.issue(holder(2));
        assert_eq!(all.holder(first.expose()), Some(holder(1)));
        let voided = all.voided(&first);
        assert!(!voided.is_cancelled());
        let second = all.issue(holder(1));
        assert_eq!(all.holder(first.expose()), None);
        assert!(voided.is_cancelled() && all.voided(&first).is_cancelled());
        assert_eq!(all.holder(second.expose()), Some(holder(1)));
        all.revoke(ConversationId(Snowflake(1)));
        assert_eq!(all.holder(second.expose()), None);
        assert_eq!(all.holder(other.expose()), Some(holder(2)));
        assert_eq!(all.holder(""), None);
    }
}
