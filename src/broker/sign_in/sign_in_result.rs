//! The result of a finished sign-in, and of the choice between two accounts.

use crate::{
    ids::{Lineage, ProviderId, Tenant},
    oauth::printable,
    secret::Digits,
    session::{Accounts, Entry, Session},
    sys::clock::UnixTime,
};

/// The longest part of a subject that is shown, in characters.
const MAX_SHOWN_SUBJECT: usize = 40;

/// The result of a finished sign-in.
#[derive(Clone, Debug)]
pub enum Finished {
    /// It is the session now.
    SignedIn(SignedIn),
    /// It has another account than the session; nothing is replaced until the user chooses.
    Undecided(Undecided),
}

/// A sign-in that waits for a choice: [`Broker::switch`](crate::broker::Broker::switch) or
/// [`Broker::keep`](crate::broker::Broker::keep).
#[derive(Clone, Debug)]
pub struct Undecided {
    /// The tenant.
    pub tenant: Tenant,
    /// Identifies the sign-in; the choice names it.
    pub lineage: Lineage,
    /// The new account.
    pub account: Option<String>,
    /// The session's account.
    pub current: Option<String>,
    /// When it can no longer be chosen, in Unix seconds.
    pub until: UnixTime,
    /// An earlier candidate that this sign-in replaced.
    pub dropped: Option<Unchosen>,
}

/// A sign-in that was not chosen.
#[derive(Clone, Debug)]
pub struct Unchosen {
    /// Its account.
    pub account: Option<String>,
    /// The state of its grant at the provider.
    pub grant: GrantEnd,
}

/// The state of a dropped grant at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantEnd {
    /// The provider has ended it (RFC 7009).
    Revoked,
    /// The provider could not be asked, did not confirm, or was not asked because the same account
    /// is in use elsewhere.
    MayLiveOn,
}

/// A session that was kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The tenant.
    pub tenant: Tenant,
    /// The account, in the provider's words.
    pub account: Option<String>,
    /// The sign-in that was dropped.
    pub unchosen: Unchosen,
}

/// A sign-in that has become the session.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The tenant.
    pub tenant: Tenant,
    /// The account, in the provider's words.
    pub account: Option<String>,
    /// The account that it replaced, if that was another one.
    pub replaced: Option<String>,
    /// When the access token expires, in Unix seconds. It is refreshed before.
    pub expires_at: UnixTime,
    /// Whether there is a refresh token. Without one the user signs in again after the expiry.
    pub renews: bool,
    /// The requested scopes that were not granted.
    pub missing_scopes: Vec<String>,
    /// A candidate that this sign-in replaced.
    pub dropped: Option<Unchosen>,
    /// The code of the end of the session before, if that had ended or was stuck.
    pub(crate) ended: Option<String>,
}

/// The digits of a sign-in that the browser has finished.
#[derive(Debug)]
pub struct DigitsPage {
    /// The sign-in's provider.
    pub provider: ProviderId,
    /// The account, if its name is known.
    pub account: Option<String>,
    /// The digits.
    pub digits: Digits,
}

// === impl Undecided ===

impl Undecided {
    /// The candidate of a record, while it can be chosen.
    pub(crate) fn of(tenant: &Tenant, entry: &Entry, now: UnixTime) -> Option<Self> {
        entry.candidate.as_ref().filter(|candidate| candidate.awaits_choice(now))?;
        Self::in_record(tenant, entry)
    }

    /// The candidate of a record, at any time.
    pub(super) fn in_record(tenant: &Tenant, entry: &Entry) -> Option<Self> {
        let candidate = entry.candidate.as_ref()?;
        let current = entry.session.as_ref();
        // Two accounts may have one name, and the user must see which is which.
        let has_twin = current.is_some_and(|current| current.account == candidate.account);
        let name = |session: &Session| match (&session.account, &session.subject) {
            (Some(name), Some(subject)) if has_twin => {
                Some(format!("{name} ({})", printable(subject, MAX_SHOWN_SUBJECT).unwrap_or_default()))
            }
            _ => session.account.clone(),
        };
        Some(Self {
            tenant: tenant.clone(),
            lineage: candidate.lineage,
            account: name(candidate),
            current: current.and_then(name),
            until: candidate.choice_ends_at(),
            dropped: None,
        })
    }
}

// === impl SignedIn ===

impl SignedIn {
    /// A session that took the place of `before`, after a sign-in that requested these scopes.
    pub(super) fn new(
        tenant: &Tenant,
        session: &Session,
        before: Option<&Session>,
        requested: &[String],
    ) -> Self {
        let is_another = |before: &&Session| before.accounts_with(session) != Accounts::Same;
        let replaced = before.filter(is_another).and_then(|before| before.account.clone());
        Self {
            tenant: tenant.clone(),
            account: session.account.clone(),
            replaced,
            expires_at: session.expires_at,
            renews: session.refresh_token.is_some(),
            missing_scopes: session.missing_scopes(requested),
            dropped: None,
            ended: before.and_then(Session::end_code).map(str::to_owned),
        }
    }
}
