//! What a finished sign-in came to, and what comes of the choice where it is as another account than the session's.

use crate::{
    ids::{Lineage, Tenant},
    session::{Entry, Session},
    sys::clock::UnixTime,
};

/// What a finished sign-in came to.
#[derive(Clone, Debug)]
pub enum Finished {
    /// It is the session.
    SignedIn(SignedIn),
    /// It is as another account than the session's: nothing is replaced until its person chooses.
    Undecided(Undecided),
}

/// A sign-in that waits for a choice: [`Broker::switch`](super::Broker::switch) or [`Broker::keep`](super::Broker::keep).
#[derive(Clone, Debug)]
pub struct Undecided {
    /// For whom.
    pub tenant: Tenant,
    /// Which sign-in; the choice names it.
    pub lineage: Lineage,
    /// Whose login it is.
    pub account: Option<String>,
    /// Whose login the session is.
    pub current: Option<String>,
    /// Unix seconds: when it can no longer be chosen.
    pub until: UnixTime,
    /// The sign-in that waited before, and was replaced by this one.
    pub dropped: Option<Unchosen>,
}

/// A sign-in that was not chosen.
#[derive(Clone, Debug)]
pub struct Unchosen {
    /// Whose login it was.
    pub account: Option<String>,
    /// What became of its grant.
    pub grant: GrantEnd,
}

/// What became of a grant at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantEnd {
    /// The provider has ended it (RFC 7009).
    Revoked,
    /// It could not be asked to, did not confirm it, or was not asked because the same account is in use elsewhere.
    MayLiveOn,
}

/// A session that was kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Whose.
    pub tenant: Tenant,
    /// Whose login it is.
    pub account: Option<String>,
    /// The sign-in that goes.
    pub unchosen: Unchosen,
}

/// A sign-in that has become the session.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// For whom.
    pub tenant: Tenant,
    /// Whose login it is.
    pub account: Option<String>,
    /// Whose login was there before, if that was another one.
    pub replaced: Option<String>,
    /// Unix seconds: when the access token ends (it is renewed).
    pub expires_at: UnixTime,
    /// There is a refresh token; without one the person signs in again when the access token ends.
    pub renews: bool,
    /// The sign-in that waited for a choice, and was dropped for this one.
    pub dropped: Option<Unchosen>,
}

// === impl Undecided ===

impl Undecided {
    /// What waits for a choice in a record, while it can be chosen.
    pub(super) fn of(tenant: &Tenant, entry: &Entry, now: UnixTime) -> Option<Self> {
        entry.candidate.as_ref().filter(|candidate| candidate.awaits_choice(now))?;
        Self::in_record(tenant, entry)
    }

    /// The same, whatever the time.
    pub(super) fn in_record(tenant: &Tenant, entry: &Entry) -> Option<Self> {
        let candidate = entry.candidate.as_ref()?;
        Some(Self {
            tenant: tenant.clone(),
            lineage: candidate.lineage,
            account: candidate.account.clone(),
            current: entry.session.as_ref().and_then(|session| session.account.clone()),
            until: candidate.choice_ends_at(),
            dropped: None,
        })
    }
}

// === impl SignedIn ===

impl SignedIn {
    /// A session that has taken the place of `before`.
    pub(super) fn new(tenant: &Tenant, session: &Session, before: Option<&Session>) -> Self {
        let before = before.and_then(|before| before.account.as_ref());
        Self {
            tenant: tenant.clone(),
            account: session.account.clone(),
            replaced: before.filter(|before| Some(*before) != session.account.as_ref()).cloned(),
            expires_at: session.expires_at,
            renews: session.refresh_token.is_some(),
            dropped: None,
        }
    }
}
