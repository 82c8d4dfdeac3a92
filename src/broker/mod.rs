//! The broker: one refresh per tenant however many ask, and sign-ins from start to end.

mod error;

pub use error::{CancelError, FinishError, LogoutError, StartError, TokenError};

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast;

use crate::{
    ids::{Principal, ProviderId, Snowflake, Tenant},
    oauth::{Client, Pasted, Providers},
    secret::AccessToken,
    session::{RetryKind, Session},
    store::Store,
    sys::clock::{Clock, UnixTime},
};

/// How long a caller waits for a refresh before it gets [`TokenError::InProgress`]; the refresh goes on.
pub const CALLER_WAIT: Duration = Duration::from_secs(30);

/// The life that a token should still have when nobody says otherwise.
pub const DEFAULT_MIN_TTL: Duration = Duration::from_secs(60);

/// Coordinates everything that spends or replaces a token. Cheap to clone; clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<()>,
}

/// An access token to use, and what is known of it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Whose it is.
    pub tenant: Tenant,
    /// The token.
    pub access_token: AccessToken,
    /// Usually `Bearer`.
    pub token_type: String,
    /// Unix seconds.
    pub expires_at: UnixTime,
    /// What is left of its life now.
    pub expires_in: Duration,
    /// Space separated.
    pub scope: Option<String>,
    /// Whose login it is.
    pub account: Option<String>,
    /// The session's state.
    pub generation: u64,
}

/// A sign-in that waits for its code.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// For whom.
    pub tenant: Tenant,
    /// Where the person goes. Carries the state, so it is shown to nobody else.
    pub authorize_url: url::Url,
    /// Unix seconds.
    pub expires_at: UnixTime,
    /// It had been started before, and is shown again.
    pub resumed: bool,
}

/// A finished sign-in.
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
}

/// What a person may know of a session: never a secret.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which one.
    pub tenant: Tenant,
    /// Whose login it is.
    pub account: Option<String>,
    /// The access token.
    pub access: AccessState,
    /// The refresh token.
    pub refresh: RefreshState,
    /// The last trouble, its kind and when.
    pub last_error: Option<(String, RetryKind, UnixTime)>,
    /// A sign-in is under way until then.
    pub pending_until: Option<UnixTime>,
    /// The state of the session; 0 without one.
    pub generation: u64,
}

/// How an access token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessState {
    /// There is no session.
    None,
    /// Good until then, in Unix seconds.
    Valid(UnixTime),
    /// It ended then.
    Expired(UnixTime),
    /// A resource refused it before its time.
    Rejected,
}

/// How a refresh token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshState {
    /// There is none.
    None,
    /// As far as known it works.
    Ready,
    /// Nothing is sent before then, in Unix seconds.
    HeldBack(UnixTime),
    /// It may have been spent without an answer; `code` says how that came.
    Uncertain(String),
    /// The provider ended it; `code` is its word.
    Ended(String),
}

/// What happened to a session, for those who tell people.
#[derive(Clone, Debug)]
pub enum Event {
    /// A sign-in was finished.
    SignedIn(SignedIn),
    /// The provider ended a session; its person has not been told.
    Ended {
        /// Which one.
        tenant: Tenant,
        /// The provider's word.
        code: String,
    },
    /// A session was logged out.
    LoggedOut(Tenant),
    /// A new token could not be saved although the provider gave it out; it is held and tried again.
    SaveFailed(Tenant),
}

/// What a logout did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedOut {
    /// Removed here; the grant lives on at the provider.
    LocallyOnly,
    /// Removed here and revoked at the provider.
    Revoked,
    /// Removed here; the provider did not confirm the revocation.
    RevocationFailed,
    /// Removed here; the provider offers no revocation.
    CannotRevoke,
}

/// Whether a logout also ends the grant at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Only the session here goes.
    Keep,
    /// RFC 7009.
    Revoke,
}

impl Broker {
    /// Puts a broker together. It does nothing until it is asked.
    pub fn new(store: Arc<dyn Store>, providers: Providers, client: Client, clock: Clock) -> Self {
        let _ = (store, providers, client, clock);
        unimplemented!()
    }

    /// An access token that lives for at least `min_ttl`, refreshed first where that is needed. Waits at most
    /// [`CALLER_WAIT`]; dropping the future cancels nothing but the wait.
    pub async fn token(&self, tenant: &Tenant, min_ttl: Duration) -> Result<Lease, TokenError> {
        let _ = (tenant, min_ttl);
        unimplemented!()
    }

    /// A resource refused `token` before its time: takes the stored one if it differs, else notes it and refreshes.
    pub async fn rejected(&self, tenant: &Tenant, token: &AccessToken) -> Result<Lease, TokenError> {
        let _ = (tenant, token);
        unimplemented!()
    }

    /// Starts a sign-in, or shows the one again that `started_by` has under way.
    pub async fn start(&self, tenant: &Tenant, started_by: Principal) -> Result<SignIn, StartError> {
        let _ = (tenant, started_by);
        unimplemented!()
    }

    /// Finishes the sign-in of `who` with what they pasted. Without `provider`: the one whose `state` matches, or the only
    /// one under way (the newest, when the paste carries no state).
    pub async fn finish(
        &self,
        who: Principal,
        provider: Option<&ProviderId>,
        pasted: Pasted,
    ) -> Result<SignedIn, FinishError> {
        let _ = (who, provider, pasted);
        unimplemented!()
    }

    /// Drops what `who` has under way; with a provider only that. Returns what was dropped.
    pub async fn cancel(
        &self,
        who: Principal,
        provider: Option<&ProviderId>,
    ) -> Result<Vec<Tenant>, CancelError> {
        let _ = (who, provider);
        unimplemented!()
    }

    /// Removes the session at once.
    pub async fn logout(&self, tenant: &Tenant, revocation: Revocation) -> Result<LoggedOut, LogoutError> {
        let _ = (tenant, revocation);
        unimplemented!()
    }

    /// How the sessions of these principals stand, in order of provider; with a session or a pending sign-in only.
    pub async fn status(&self, principals: &[Principal]) -> Result<Vec<Status>, crate::store::StoreError> {
        let _ = principals;
        unimplemented!()
    }

    /// Which tenant a worker of `owner` uses for `provider`: theirs if they have a session; else, where `guild` is given
    /// because sharing is on and they are a member, the guild's if that has one; else theirs.
    pub async fn resolve(
        &self,
        provider: &ProviderId,
        owner: Snowflake,
        guild: Option<Snowflake>,
    ) -> Result<Tenant, crate::store::StoreError> {
        let _ = (provider, owner, guild);
        unimplemented!()
    }

    /// The ended sessions whose persons have not been told yet, and the note that they now were.
    pub async fn ended_unnotified(&self) -> Result<Vec<(Tenant, Session)>, crate::store::StoreError> {
        unimplemented!()
    }

    /// Notes that the person of an ended session was told.
    pub async fn notified(&self, tenant: &Tenant, session: &Session) -> Result<(), crate::store::StoreError> {
        let _ = (tenant, session);
        unimplemented!()
    }

    /// What happens from now on. A slow listener misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        unimplemented!()
    }

    /// The configured providers.
    pub fn providers(&self) -> &Providers {
        unimplemented!()
    }

    /// Waits until no refresh or exchange is under way, for an orderly end.
    pub async fn drained(&self) {
        unimplemented!()
    }

    /// Refreshes by itself, at three quarters of their lives, the sessions of the tenants that `in_use` names each time it
    /// is asked; ends when dropped.
    pub async fn keep_fresh<F>(&self, in_use: F)
    where
        F: Fn() -> Vec<Tenant> + Send + Sync,
    {
        let _ = (&self.inner, in_use().len());
        unimplemented!()
    }
}
