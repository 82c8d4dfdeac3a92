//! The state of sessions, without their secrets.

use super::{Broker, Undecided};
use crate::{
    ids::{Principal, Tenant},
    session::{Change, Entry, RetryKind, Session},
    store::StoreError,
    sys::clock::UnixTime,
};

/// The state of a session as its user sees it, without secrets.
#[derive(Clone, Debug)]
pub struct Status {
    /// The tenant.
    pub tenant: Tenant,
    /// The account, in the provider's words.
    pub account: Option<String>,
    /// The access token.
    pub access: AccessState,
    /// The refresh token.
    pub refresh: RefreshState,
    /// The last failure, its family, and when it was recorded.
    pub last_error: Option<(String, RetryKind, UnixTime)>,
    /// A sign-in is in progress until then.
    pub pending_until: Option<UnixTime>,
    /// A sign-in with another account that waits for the user's choice.
    pub undecided: Option<Undecided>,
    /// The session's generation; 0 without a session.
    pub generation: u64,
}

/// The state of an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessState {
    /// There is no session.
    None,
    /// Valid until then, in Unix seconds.
    Valid(UnixTime),
    /// Expired since then.
    Expired(UnixTime),
    /// A resource rejected it before its expiry.
    Rejected,
}

/// The state of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshState {
    /// There is none.
    None,
    /// It can be used.
    Ready,
    /// No refresh is sent before then, in Unix seconds.
    HeldBack(UnixTime),
    /// It may have been spent without an answer; the code names the cause.
    Uncertain(String),
    /// The provider ended it, with this code.
    Ended(String),
}

impl Broker {
    /// Returns the state of these principals' tenants, in order of provider. A tenant is listed if
    /// it has a session, or a sign-in that is pending or waits for a choice.
    ///
    /// # Errors
    /// The store's.
    pub async fn status(&self, principals: &[Principal]) -> Result<Vec<Status>, StoreError> {
        let now = self.inner.now();
        let entries = self.inner.store.list().await?;
        let wanted = entries.iter().filter(|(tenant, _)| principals.contains(&tenant.principal));
        Ok(wanted.filter_map(|(tenant, entry)| status(tenant.clone(), entry, now)).collect())
    }

    /// Returns the ended sessions whose users have not been notified.
    ///
    /// # Errors
    /// The store's.
    pub async fn ended_unnotified(&self) -> Result<Vec<(Tenant, Session)>, StoreError> {
        let entries = self.inner.store.list().await?;
        let ended = entries.iter().filter_map(|(tenant, entry)| {
            let session = entry.session.as_ref()?;
            let is_unnotified = session.verdict()?.notified_at.is_none();
            is_unnotified.then(|| (tenant.clone(), session.clone()))
        });
        Ok(ended.collect())
    }

    /// Records that the user of an ended session was notified.
    ///
    /// # Errors
    /// The store's.
    pub async fn notified(&self, tenant: &Tenant, session: &Session) -> Result<(), StoreError> {
        self.inner.store.change(tenant, Change::Notified(session.lineage)).await?;
        Ok(())
    }
}

fn status(tenant: Tenant, entry: &Entry, now: UnixTime) -> Option<Status> {
    let pending_until = entry.pending.as_ref().filter(|p| p.is_live(now)).map(|p| p.expires_at());
    let undecided = Undecided::of(&tenant, entry, now);
    let session = entry.session.as_ref();
    if session.is_none() && pending_until.is_none() && undecided.is_none() {
        return None;
    }
    Some(Status {
        tenant,
        account: session.and_then(|s| s.account.clone()),
        access: session.map_or(AccessState::None, |s| access(s, now)),
        refresh: session.map_or(RefreshState::None, |s| refresh(s, now)),
        last_error: session.and_then(last_error),
        pending_until,
        undecided,
        generation: session.map_or(0, |s| s.generation),
    })
}

fn access(session: &Session, now: UnixTime) -> AccessState {
    if session.is_rejected() {
        AccessState::Rejected
    } else if session.remaining(now).is_zero() {
        AccessState::Expired(session.expires_at)
    } else {
        AccessState::Valid(session.expires_at)
    }
}

fn refresh(session: &Session, now: UnixTime) -> RefreshState {
    if let Some(ended) = session.verdict() {
        return RefreshState::Ended(ended.code.clone());
    }
    if session.refresh_token.is_none() {
        return RefreshState::None;
    }
    match &session.retry {
        Some(retry) if retry.kind() == RetryKind::Ambiguous => RefreshState::Uncertain(retry.code.clone()),
        Some(retry) => retry.active(now).map_or(RefreshState::Ready, RefreshState::HeldBack),
        None => RefreshState::Ready,
    }
}

fn last_error(session: &Session) -> Option<(String, RetryKind, UnixTime)> {
    session.retry.as_ref().map(|retry| (retry.code.clone(), retry.kind(), retry.set_at))
}
