//! Workers' tokens come from the broker.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    agent::{Capabilities, Conversation, Holder, TokenSource},
    broker::{Broker, DEFAULT_MIN_TTL},
    ids::{Principal, ProviderId, Tenant},
    secret::AccessToken,
};

/// The broker, as the workers' side sees it.
pub(super) struct BrokerTokens {
    pub(super) broker: Broker,
    pub(super) capabilities: Arc<Capabilities>,
}

#[async_trait]
impl TokenSource for BrokerTokens {
    async fn token(&self, holder: &Holder, provider: &ProviderId) -> Result<AccessToken, String> {
        if !holder.providers.contains(provider) {
            return Err(format!("agents may not use the provider {provider}: see agent.providers"));
        }
        let Conversation { owner, shared_guild, .. } = holder.conversation;
        let tenant = self.broker.resolve(provider, owner, shared_guild).await.map_err(|error| {
            tracing::error!(%error, "the store cannot be used");
            "the store cannot be used just now; threadkey's log says why".to_owned()
        })?;
        let lease = self.broker.token(&tenant, DEFAULT_MIN_TTL).await.map_err(|error| error.to_string())?;
        self.capabilities.note_given(lease.access_token.fingerprint());
        Ok(lease.access_token)
    }
}

/// The tenants that these conversations' workers may ask for.
pub(super) fn in_use(conversations: &[Conversation], providers: &[ProviderId]) -> Vec<Tenant> {
    let mut tenants: Vec<Tenant> = Vec::new();
    for conversation in conversations {
        let guild = conversation.shared_guild.map(Principal::Guild);
        for principal in [Some(Principal::User(conversation.owner)), guild].into_iter().flatten() {
            tenants.extend(providers.iter().map(|provider| Tenant::new(provider.clone(), principal)));
        }
    }
    tenants.sort();
    tenants.dedup();
    tenants
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConversationId, Snowflake};

    #[test]
    fn each_owners_and_each_shared_tenant_is_in_use_once() {
        let conversation = |id, owner, guild: Option<u64>| Conversation {
            id: ConversationId(Snowflake(id)),
            owner: Snowflake(owner),
            shared_guild: guild.map(Snowflake),
        };
        let all = [conversation(1, 803, None), conversation(2, 803, Some(9)), conversation(3, 804, Some(9))];
        let tenants = in_use(&all, &["acme".parse().expect("a name")]);
        let names: Vec<_> = tenants.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["acme/user:803", "acme/user:804", "acme/guild:9"]);
    }
}
