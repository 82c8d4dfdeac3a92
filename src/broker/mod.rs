//! The broker: one refresh per tenant however many ask, and sign-ins from start to end.
//!
//! # Who holds what, from where to where
//!
//! *Within this process* a tenant has at most one *flight*, found through a map that is locked for the look-up alone.
//! A flight runs in a task of its own, so a caller that gives up, is cancelled or dies takes nothing with it. *Between
//! processes* the flight takes the tenant's lock before it reads the refresh token, and lets go after the new session is
//! durable. The store's global lock is taken inside it, for single writes, and never while a request is under way.
//!
//! # What happens when the process dies
//!
//! | dies | left behind | the next caller |
//! | --- | --- | --- |
//! | before the intent is durable | nothing was sent | refreshes |
//! | after it, before the answer is durable | an intent without an answer | records the outcome as ambiguous, [`session::decide`](crate::session::decide) |
//! | after that, before the commit | the answer | commits it, spends nothing |
//! | after the commit, before the journal is emptied | an answer for an older generation | empties the journal, serves |
//!
//! The operating system gives the lock back in each case.

mod background;
mod choice;
mod error;
mod flight;
mod lookup;
mod peek;
mod rescue;
mod save;
mod settle;
mod shown;
mod sign_in;
mod token;

pub use error::{CancelError, ChoiceError, FinishError, LogoutError, StartError, TokenError};
pub use peek::{Peek, peek};
pub use rescue::RestoreError;
pub use shown::{News, Progress, Shown};

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

use crate::{
    ids::{Lineage, Tenant},
    oauth::{Client, Provider, Providers},
    secret::AccessToken,
    session::{RetryKind, Session, seconds},
    store::{Changes, Store},
    sys::clock::{Clock, UnixTime},
};

/// How long a caller waits for a refresh before it gets [`TokenError::InProgress`]; the refresh goes on.
pub const CALLER_WAIT: Duration = Duration::from_secs(30);

/// The life that a token should still have when nobody says otherwise.
pub const DEFAULT_MIN_TTL: Duration = Duration::from_secs(60);

/// Events that a slow listener may lag behind.
const EVENTS: usize = 256;

/// Coordinates everything that spends or replaces a token. Cheap to clone; clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    providers: Providers,
    client: Client,
    clock: Clock,
    flights: DashMap<Tenant, flight::Joined>,
    /// Grants whose revocation was asked for while a refresh of theirs was under way.
    revoking: DashMap<Lineage, ()>,
    /// How many sign-ins this process is about to save or to tell of.
    landing: DashMap<Tenant, usize>,
    /// What could not be saved yet: in memory alone, or, without the answer here, in the journal but not in the store.
    unsaved: DashMap<Tenant, Option<rescue::Unsaved>>,
    events: broadcast::Sender<Event>,
    tasks: TaskTracker,
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
    /// What was shown, to follow it with [`Broker::look_at`].
    pub shown: Shown,
}

/// What a finished sign-in came to.
#[derive(Clone, Debug)]
pub enum Finished {
    /// It is the session.
    SignedIn(SignedIn),
    /// It is as another account than the session's: nothing is replaced until its person chooses.
    Undecided(Undecided),
}

/// A sign-in that waits for a choice: [`Broker::switch`] or [`Broker::keep`].
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
    /// A sign-in as another account waits for a choice.
    pub undecided: Option<Undecided>,
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
    /// A sign-in was finished, and is the session.
    SignedIn(SignedIn),
    /// A sign-in was finished, and waits for a choice.
    Undecided(Undecided),
    /// This process no longer finishes a sign-in of this tenant. What came of it has been told, if something did.
    Landed(Tenant),
    /// A choice was not made in its time: the session stays.
    Lapsed(Kept),
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

// === impl Broker ===

impl Broker {
    /// Puts a broker together. It does nothing until it is asked.
    pub fn new(store: Arc<dyn Store>, providers: Providers, client: Client, clock: Clock) -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        let inner = Inner {
            store,
            providers,
            client,
            clock,
            flights: DashMap::new(),
            revoking: DashMap::new(),
            landing: DashMap::new(),
            unsaved: DashMap::new(),
            events,
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What happens from now on. A slow listener misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Tells whenever what is stored may have changed, whichever process did it. To be called on a runtime.
    pub fn changes(&self) -> Changes {
        self.inner.store.changes()
    }

    /// The configured providers.
    pub fn providers(&self) -> &Providers {
        &self.inner.providers
    }

    /// Waits until no refresh or exchange is under way, for an orderly end.
    pub async fn drained(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

// === impl Inner ===

impl Inner {
    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Tells whoever listens; nobody has to.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn provider(&self, tenant: &Tenant) -> Result<Arc<Provider>, TokenError> {
        let found = self.providers.get(&tenant.provider);
        found.cloned().ok_or_else(|| TokenError::UnknownProvider(tenant.provider.clone()))
    }
}

// === impl Lease ===

impl Lease {
    fn new(tenant: &Tenant, session: &Session, now: UnixTime) -> Self {
        Self {
            tenant: tenant.clone(),
            access_token: session.access_token.clone(),
            token_type: session.token_type.clone(),
            expires_at: session.expires_at,
            expires_in: session.remaining(now),
            scope: session.scope.clone(),
            account: session.account.clone(),
            generation: session.generation,
        }
    }
}

/// Seconds from `now` until `then`, at least 1: what a `Retry-After` says.
fn wait_until(then: UnixTime, now: UnixTime) -> Duration {
    Duration::from_secs(then.saturating_sub(now).max(1).try_into().unwrap_or(1))
}

/// `now` and a while.
fn later(now: UnixTime, duration: Duration) -> UnixTime {
    now.saturating_add(seconds(duration))
}
