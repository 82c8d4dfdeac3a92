//! Refreshing by itself what is in use, so that nobody who asks has to wait.

use std::time::Duration;

use super::{Broker, DEFAULT_MIN_TTL};
use crate::{
    ids::Tenant,
    session::{Decision, Session, decide, refresh_due_at},
    sys::clock::UnixTime,
};

/// The longest pause between two looks: a worker that came meanwhile, or a clock that jumped, waits no longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The shortest one, for sessions that live only seconds.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

impl Broker {
    /// Refreshes by itself, at three quarters of their lives, the sessions of the tenants that `in_use` names each time it
    /// is asked; ends when dropped. A provider whose refresh ends the old access token is left alone: a worker may be
    /// using it just now.
    pub async fn keep_fresh<F>(&self, in_use: F)
    where
        F: Fn() -> Vec<Tenant> + Send + Sync,
    {
        loop {
            let mut pause = LONGEST_PAUSE;
            for tenant in in_use() {
                if let Some(look_in) = self.refresh_if_due(&tenant).await {
                    pause = pause.min(look_in);
                }
            }
            tokio::time::sleep(pause.max(SHORTEST_PAUSE)).await;
        }
    }

    /// Refreshes it if it is due, and says when to look again; `None` when there is nothing to do for it.
    async fn refresh_if_due(&self, tenant: &Tenant) -> Option<Duration> {
        let provider = self.inner.providers.get(&tenant.provider)?;
        if provider.refresh_revokes_access() {
            return None;
        }
        let session = match self.inner.store.read(tenant).await {
            Ok(entry) => entry.session?,
            Err(error) => {
                tracing::warn!(%tenant, %error, "cannot look whether a refresh is due");
                return None;
            }
        };
        let now = self.inner.now();
        match decide(&session, now, DEFAULT_MIN_TTL) {
            Decision::ServeAndRefresh | Decision::Refresh => {
                drop(self.join(tenant, provider, session.seen(), DEFAULT_MIN_TTL));
                Some(SHORTEST_PAUSE)
            }
            Decision::Serve => Some(until_due(&session, now)),
            Decision::Backoff { .. } | Decision::Ended { .. } => None,
        }
    }
}

fn until_due(session: &Session, now: UnixTime) -> Duration {
    let seconds = refresh_due_at(session).saturating_sub(now).max(0);
    Duration::from_secs(seconds.try_into().unwrap_or(0))
}
