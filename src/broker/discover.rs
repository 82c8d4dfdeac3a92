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
}

// === impl Unusable ===

impl From<Unusable> for TokenError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Unknown(id) => Self::UnknownProvider(id),
        }
    }
}

impl From<Unusable> for StartError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Unknown(id) => Self::UnknownProvider(id),
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
        self.providers.get(id).ok_or_else(|| Unusable::Unknown(id.clone()))
    }
}
