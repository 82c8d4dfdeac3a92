//! Saving what must not be lost: tried again until it works, loudly, with the lock held all the while.

use std::time::Duration;

use super::{Event, Inner, Unsaved};
use crate::{
    ids::Tenant,
    session::{
        Applied, Change,
        journal::{Answer, Intent},
    },
    store::{Purpose, TenantLock},
};

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a provider gave out once and will not give again.
pub(super) enum Precious<'a> {
    /// Its answer, for the journal, behind its intent.
    Answer(&'a Intent, &'a Answer),
    /// What the answer means for the store, as of now.
    Change(&'a (dyn Fn() -> Change + Sync)),
}

/// Saves it under the tenant's lock for `purpose`, however long that takes. Calls `failed` after the first failure.
pub(super) async fn save(
    inner: &Inner,
    tenant: &Tenant,
    purpose: Purpose,
    lock: &mut dyn TenantLock,
    what: Precious<'_>,
    failed: impl FnOnce() + Send,
) -> Applied {
    let mut failed = Some(failed);
    let mut pause = Duration::from_secs(1);
    loop {
        let saved = match what {
            Precious::Answer(_, answer) => lock.record(answer).await.map(|()| Applied::Done),
            Precious::Change(change) => lock.commit(change()).await,
        };
        let error = match saved {
            Ok(applied) => {
                if failed.is_none() {
                    inner.unsaved.remove(&(tenant.clone(), purpose));
                    tracing::info!(%tenant, "saved at last");
                }
                return applied;
            }
            Err(error) => error,
        };
        tracing::error!(%tenant, %error, "what the provider gave out cannot be saved; it is kept in memory and tried again");
        if let Some(failed) = failed.take() {
            // An answer in the journal is safe; one that is not there yet is in memory alone.
            let only_here = match what {
                Precious::Answer(intent, answer) => {
                    Some(Unsaved { intent: intent.clone(), answer: answer.clone() })
                }
                Precious::Change(_) => None,
            };
            inner.unsaved.insert((tenant.clone(), purpose), only_here);
            inner.tell(Event::SaveFailed(tenant.clone()));
            failed();
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
