//! Removing sessions that ended long ago and that no sign-in has replaced, and registered clients that
//! no session uses.
//!
//! The session of a user who is gone would stay in the store for ever. Its status is of no use after
//! some months, so the running bot removes it. All sessions that are due go in one write. The store
//! checks each one again under its global lock: a session that was signed in again meanwhile has
//! another lineage, and stays. A process that dies before the write leaves all of them.
//!
//! A registered client that is as old, and that no record is bound to, goes too. A sweep first dates it,
//! and a later one removes it after a day: a grant of its last session may still have to be revoked, and
//! a sign-in may have read it and not yet written its record. If a record is bound to it again, a sweep
//! takes the date away. The client at the server stays there: it has no tokens, and servers remove such
//! clients by themselves.

use std::time::Duration;

use super::{Broker, later};
use crate::{
    session::{Session, seconds},
    store::{StoreError, clients_in_use},
    sys::clock::UnixTime,
};

/// The longest pause between two looks at the clock. Not every system reports a clock that is set.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

impl Broker {
    /// Removes each session `after` its end, and each unused client that is as old. Ends when dropped.
    pub async fn sweep_ended(&self, after: Duration) {
        let mut stored = self.changes();
        loop {
            let pause = self.sweep_due(after).await;
            let due = async {
                match pause {
                    Some(pause) => {
                        tokio::time::sleep(pause.clamp(Duration::from_secs(1), LONGEST_PAUSE)).await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = stored.next() => {}
            }
        }
    }

    /// Sweeps once. Returns the time until the next session or client is due, or `None` if none will be.
    async fn sweep_due(&self, after: Duration) -> Option<Duration> {
        let clients = self.sweep_clients(after).await;
        let sessions = self.sweep_sessions(after).await;
        clients.into_iter().chain(sessions).min()
    }

    async fn sweep_clients(&self, after: Duration) -> Option<Duration> {
        let now = self.inner.now();
        let due = async {
            let (records, clients) = (self.inner.store.list().await?, self.inner.store.clients().await?);
            Ok::<_, StoreError>(
                clients_in_use(&records, &clients)
                    .filter_map(|(_, client, is_used)| client.sweep_at(is_used, after))
                    .min(),
            )
        };
        let swept = async {
            match due.await? {
                Some(next) if next <= now => self.inner.store.sweep_clients(after).await.map(Err),
                next => Ok(Ok(next)),
            }
        };
        match swept.await {
            Ok(Ok(next)) => next.map(|next| Duration::from_secs(next.saturating_sub(now).unsigned_abs())),
            Ok(Err(swept)) => {
                for key in swept {
                    tracing::info!(client = key, "removed a registered client that no session uses");
                }
                // Its own write wakes the sweep again. Without one there is nothing that it may do now.
                Some(LONGEST_PAUSE)
            }
            Err(error) => {
                tracing::warn!(%error, "unused registered clients cannot be removed");
                Some(LONGEST_PAUSE)
            }
        }
    }

    async fn sweep_sessions(&self, after: Duration) -> Option<Duration> {
        let now = self.inner.now();
        let next = match self.inner.store.list().await {
            Ok(records) => {
                records.values().filter_map(|entry| due_at(entry.session.as_ref()?, after)).min()?
            }
            Err(error) => {
                tracing::warn!(%error, "cannot check which ended sessions are due for removal");
                return Some(LONGEST_PAUSE);
            }
        };
        if next > now {
            return Some(Duration::from_secs(next.saturating_sub(now).unsigned_abs()));
        }
        match self.inner.store.sweep(now.saturating_sub(seconds(after))).await {
            Ok(swept) => {
                for tenant in swept {
                    tracing::info!(%tenant, days = after.as_secs() / 86_400, "removed a session that ended long ago");
                }
                Some(Duration::from_secs(1))
            }
            Err(error) => {
                tracing::warn!(%error, "sessions that ended long ago could not be removed");
                Some(LONGEST_PAUSE)
            }
        }
    }
}

/// When a session is removed; `None` for a live one. The access token of an ended one may still
/// serve.
fn due_at(session: &Session, after: Duration) -> Option<UnixTime> {
    let ended = session.verdict()?;
    let serves_until = if session.is_rejected() { ended.at } else { session.expires_at };
    Some(later(ended.at, after).saturating_add(1).max(serves_until))
}
