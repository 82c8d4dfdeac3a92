//! What becomes of a refresh once it is known how it went: the effect of each outcome.

use std::time::Duration;

use super::{
    Event, TokenError,
    flight::Flight,
    later,
    save::{Precious, save},
};
use crate::{
    oauth::{Attempt, Outcome, outcome},
    session::{Applied, Change, Entry, Grant, MAX_BACKOFF, RefreshTarget, Retry, RetryKind, Session, apply},
    store::{Purpose, TenantLock},
    sys::random,
};

/// What the flight does next.
pub(super) enum Settled {
    /// It is over.
    Landed(Box<Session>),
    /// The provider still takes the same refresh token: send at once.
    SendAgain,
    /// The record has changed: decide on it anew.
    Decide,
}

/// Settles a refresh that was sent for `spent`. Where the provider's grace is not over (`may_repeat`), an ambiguous outcome is
/// tried again at once.
pub(super) async fn refresh(
    flight: &Flight,
    lock: &mut dyn TenantLock,
    session: &Session,
    spent: &RefreshTarget,
    sent: &Attempt,
    may_repeat: bool,
) -> Result<Settled, TokenError> {
    match outcome(sent, &session.binding.client_id, None) {
        Outcome::Granted(grant) => granted(flight, lock, session, spent, sent, *grant).await,
        Outcome::Ambiguous { code } if may_repeat => {
            tracing::warn!(tenant = %flight.tenant, code, "no clear answer; the provider allows to ask again");
            // On record first: if this process dies now, nobody takes the next request for the first one.
            hold_back(flight, lock, session, spent, code, Some(Duration::ZERO)).await?;
            Ok(Settled::SendAgain)
        }
        Outcome::Unspent { code, retry_after } => {
            hold_back(flight, lock, session, spent, code, retry_after).await
        }
        Outcome::Ambiguous { code } | Outcome::Misconfigured { code } => {
            hold_back(flight, lock, session, spent, code, None).await
        }
        Outcome::Mismatch { claim } => {
            hold_back(flight, lock, session, spent, format!("ambiguous_{claim}_mismatch"), None).await
        }
        Outcome::Ended { code } => ended(flight, lock, spent, code).await,
    }
}

async fn granted(
    flight: &Flight,
    lock: &mut dyn TenantLock,
    session: &Session,
    spent: &RefreshTarget,
    sent: &Attempt,
    grant: Grant,
) -> Result<Settled, TokenError> {
    // The life of an access token runs from the answer on, however long the commit is tried.
    let change = || {
        let left = grant.clone().aged(sent.age(flight.inner.now()));
        Change::Refreshed { spent: spent.clone(), grant: Box::new(left) }
    };
    let mut after = Entry { session: Some(session.clone()), ..Entry::default() };
    apply(&mut after, change(), flight.inner.now());
    let Some(renewed) = after.session else { return Ok(Settled::Decide) };
    // The journal is durable, so nothing is lost while the commit is tried again: callers are served meanwhile.
    let serve = || {
        flight.landed.send_replace(Some(Ok(renewed.clone())));
    };
    let applied =
        save(&flight.inner, &flight.tenant, Purpose::Refresh, lock, Precious::Change(&change), serve).await;
    clear(flight, lock).await;
    match applied {
        Applied::Done => {
            tracing::info!(tenant = %flight.tenant, generation = renewed.generation, "refreshed");
            Ok(Settled::Landed(Box::new(renewed)))
        }
        // An earlier try replaced the file and could not make that durable; this one did, and found nothing to change.
        Applied::Stale if flight.holds(&renewed).await => Ok(Settled::Landed(Box::new(renewed))),
        Applied::Stale => {
            tracing::info!(tenant = %flight.tenant, "logged out or signed in anew meanwhile; the late answer is dropped");
            flight.inner.revoke_late(&flight.tenant, &flight.provider, session, grant).await;
            Ok(Settled::Decide)
        }
    }
}

async fn ended(
    flight: &Flight,
    lock: &mut dyn TenantLock,
    spent: &RefreshTarget,
    code: String,
) -> Result<Settled, TokenError> {
    let change = Change::End { spent: spent.clone(), code: code.clone() };
    let applied = lock.commit(change).await?;
    clear(flight, lock).await;
    if applied == Applied::Done {
        tracing::warn!(tenant = %flight.tenant, code, "the provider has ended the session");
        flight.inner.tell(Event::Ended { tenant: flight.tenant.clone(), code });
    }
    Ok(Settled::Decide)
}

/// Nothing came of it: the record says until when nobody tries again, and why.
async fn hold_back(
    flight: &Flight,
    lock: &mut dyn TenantLock,
    session: &Session,
    spent: &RefreshTarget,
    code: String,
    retry_after: Option<Duration>,
) -> Result<Settled, TokenError> {
    let now = flight.inner.now();
    let before = session.retry.as_ref();
    let attempts = before.map_or(0, |retry| retry.attempts).saturating_add(1);
    let code = match before.map(Retry::kind) {
        // What was in doubt stays in doubt, whatever happens to the next try.
        Some(RetryKind::Ambiguous) if !code.starts_with("ambiguous_") => format!("ambiguous_{code}"),
        _ => code,
    };
    let mut retry = Retry { set_at: now, not_before: now, attempts, code };
    let pause = retry_after.unwrap_or_else(|| backoff(attempts, retry.last_kind(), random::fraction()));
    retry.not_before = later(now, pause.min(MAX_BACKOFF));
    log_held_back(flight, &retry);
    lock.commit(Change::HoldBack { spent: spent.clone(), retry }).await?;
    clear(flight, lock).await;
    Ok(Settled::Decide)
}

fn log_held_back(flight: &Flight, retry: &Retry) {
    let (tenant, code, attempts) = (&flight.tenant, &retry.code, retry.attempts);
    match retry.last_kind() {
        RetryKind::Misconfigured => tracing::error!(
            %tenant, code, "the provider refuses this client: check providers.{}; the session is kept", tenant.provider
        ),
        RetryKind::Ambiguous => {
            tracing::warn!(%tenant, code, attempts, "it is not known whether the refresh token was spent")
        }
        RetryKind::Unspent => tracing::warn!(%tenant, code, attempts, "not refreshed; nothing was spent"),
    }
}

/// An emptied journal saves the next holder a look; a full one misleads nobody, because it names what it is about.
async fn clear(flight: &Flight, lock: &mut dyn TenantLock) {
    if let Err(error) = lock.clear().await {
        tracing::warn!(tenant = %flight.tenant, %error, "the journal could not be emptied; the next refresh does it");
    }
}

/// How long nobody tries: 1 s, doubled with each failure in a row, at most 5 min, ±30 % by `fraction` (0 to 1). What only
/// the operator can mend is tried every 5 min to 1 h.
fn backoff(attempts: u32, kind: RetryKind, fraction: f64) -> Duration {
    let (first, cap) = match kind {
        RetryKind::Misconfigured => (300, 3600),
        RetryKind::Unspent | RetryKind::Ambiguous => (1, 300),
    };
    let seconds = (first << (attempts.saturating_sub(1)).min(16)).min(cap);
    let jittered = Duration::from_secs(seconds).mul_f64(0.7 + 0.6 * fraction);
    // The store counts whole seconds; rounding up keeps a pause a pause.
    Duration::from_secs(jittered.as_secs_f64().ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_from_one_second_to_five_minutes_within_thirty_percent() {
        let middle = |attempts| backoff(attempts, RetryKind::Unspent, 0.5).as_secs();
        assert_eq!((1..=10).map(middle).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(middle(u32::MAX), 300);
        assert_eq!(backoff(5, RetryKind::Unspent, 0.0).as_secs(), 12);
        assert_eq!(backoff(5, RetryKind::Unspent, 1.0).as_secs(), 21);
    }

    #[test]
    fn what_only_the_operator_can_mend_is_tried_slowly() {
        assert_eq!(backoff(1, RetryKind::Misconfigured, 0.5).as_secs(), 300);
        assert_eq!(backoff(9, RetryKind::Misconfigured, 0.5).as_secs(), 3600);
    }
}
