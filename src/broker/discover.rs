//! The provider of a request: found among the configured ones, and discovered first where a server
//! publishes its endpoints.
//!
//! A caller asks before it takes any lock, so no lock is held while a server is asked. A process asks
//! once for each provider; requests that come in the meantime find the endpoints of before.

use std::sync::Arc;

use super::{Broker, Inner, StartError, TokenError};
use crate::{ids::ProviderId, oauth::Provider};

/// The reason why a provider cannot be used now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// The configuration has no such provider.
    #[error("there is no provider {0} in the configuration")]
    Unknown(ProviderId),
    /// Its tokens come from the sign-in at another provider, so it has none of its own.
    #[error(
        "{id} has no sign-in of its own: its tokens come from the sign-in at {from}, by exchange. Sign in at {from}"
    )]
    Exchanged {
        /// The provider.
        id: ProviderId,
        /// The provider with the sign-in.
        from: ProviderId,
    },
}

// === impl Unusable ===

impl From<Unusable> for TokenError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Unknown(id) | Unusable::Exchanged { id, .. } => Self::UnknownProvider(id),
        }
    }
}

impl From<Unusable> for StartError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Unknown(id) => Self::UnknownProvider(id),
            exchanged @ Unusable::Exchanged { .. } => Self::Exchanged(exchanged),
        }
    }
}

// === impl Broker ===

impl Broker {
    /// Returns a provider with known endpoints.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub async fn usable(&self, id: &ProviderId) -> Result<Arc<Provider>, Unusable> {
        self.inner.usable(id).await
    }
}

// === impl Inner ===

impl Inner {
    /// Returns a provider with known endpoints. The caller holds no lock.
    pub(super) async fn usable(&self, id: &ProviderId) -> Result<Arc<Provider>, Unusable> {
        if let Some(exchange) = self.providers.exchange(id) {
            return Err(Unusable::Exchanged { id: id.clone(), from: exchange.from().clone() });
        }
        self.providers.get(id).ok_or_else(|| Unusable::Unknown(id.clone()))
    }
}
