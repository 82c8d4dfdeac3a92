//! Looking at how a sign-in stands that is shown, and when this process is not to.
//!
//! What this process itself finishes is told by [`Event::SignedIn`] and [`Event::Undecided`], which know more than the store. While that
//! is under way nothing is told from the store; [`Event::Landed`] says when to look again.

use std::sync::Arc;

use super::{Broker, Event, Inner, Progress, Shown};
use crate::{ids::Tenant, store::StoreError};

impl Broker {
    /// What is new about a sign-in that is shown. To be asked after [`Broker::start`], and then at each change.
    ///
    /// # Errors
    /// The store's.
    pub async fn look_at(&self, shown: &Shown) -> Result<Progress, StoreError> {
        let tenant = shown.tenant();
        let same = || Progress { news: None, next: Some(shown.clone()) };
        // Before, because what is read may be what is about to be told; and after, because it may have been read just now.
        if self.inner.landing.contains_key(tenant) {
            return Ok(same());
        }
        let entry = self.inner.store.read(tenant).await?;
        let landing = self.inner.landing.contains_key(tenant);
        Ok(if landing { same() } else { shown.progress(&entry, self.inner.now()) })
    }
}

/// This process is finishing a sign-in: from before what it brought is saved until that is told. Its end is told too.
pub(super) struct Landing {
    inner: Arc<Inner>,
    tenant: Tenant,
}

impl Landing {
    pub(super) fn begin(inner: &Arc<Inner>, tenant: &Tenant) -> Self {
        *inner.landing.entry(tenant.clone()).or_insert(0) += 1;
        Self { inner: inner.clone(), tenant: tenant.clone() }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.landing.remove_if_mut(&self.tenant, |_, landings| {
            *landings -= 1;
            *landings == 0
        });
        self.inner.tell(Event::Landed(self.tenant.clone()));
    }
}
