//! Ending a grant at the provider (RFC 7009).

use super::Inner;
use crate::{
    ids::Tenant,
    oauth::{Attempt, Provider, TokenRequest},
    session::{Grant, Session},
};

impl Inner {
    /// RFC 7009 §2.2: 200 also for a token that the provider no longer knows.
    pub(super) async fn revoke(&self, tenant: &Tenant, request: TokenRequest) -> bool {
        tracing::info!(%tenant, "the provider is asked to revoke a grant");
        match self.client.send(request).await {
            Attempt::Answered(answer) if answer.status == 200 => {
                tracing::info!(%tenant, "the provider has revoked the grant");
                true
            }
            Attempt::Answered(answer) => {
                tracing::warn!(%tenant, status = answer.status, "the provider did not revoke the grant");
                false
            }
            Attempt::NotSent(code) | Attempt::Unanswered(code) => {
                tracing::warn!(%tenant, code, "the provider could not be asked to revoke the grant");
                false
            }
        }
    }

    /// A refresh came back for a grant that was logged out with revocation meanwhile: the new tokens go as well.
    pub(super) async fn revoke_late(
        &self,
        tenant: &Tenant,
        provider: &Provider,
        dead: &Session,
        grant: Grant,
    ) {
        if self.revoking.remove(&dead.lineage).is_none() {
            return;
        }
        let session = Session::begin(dead.lineage, grant, dead.binding.clone(), self.now());
        if let Some(request) = provider.revoke(&session) {
            self.revoke(tenant, request).await;
        }
    }
}
