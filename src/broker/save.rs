//! Saving what must not be lost: tried again until it works, loudly, with the lock held all the while.

use std::time::Duration;

use super::{Event, Inner};
use crate::{
    ids::Tenant,
    session::{Applied, Change, journal::Answer},
    store::TenantLock,
};

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a provider gave out once and will not give again.
pub(super) enum Precious<'a> {
    /// Its answer, for the journal.
    Answer(&'a Answer),
    /// What the answer means, for the store.
    Change(&'a Change),
}

/// Saves it under the tenant's lock, however long that takes. Calls `failed` after the first failure.
pub(super) async fn save(
    inner: &Inner,
    tenant: &Tenant,
    lock: &mut dyn TenantLock,
    what: Precious<'_>,
    failed: impl FnOnce() + Send,
) -> Applied {
    let mut failed = Some(failed);
    let mut pause = Duration::from_secs(1);
    loop {
        let saved = match what {
            Precious::Answer(answer) => lock.record(answer).await.map(|()| Applied::Done),
            Precious::Change(change) => lock.commit(change.clone()).await,
        };
        let error = match saved {
            Ok(applied) => return applied,
            Err(error) => error,
        };
        tracing::error!(%tenant, %error, "what the provider gave out cannot be saved; it is kept in memory and tried again");
        if let Some(failed) = failed.take() {
            inner.tell(Event::SaveFailed(tenant.clone()));
            failed();
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
