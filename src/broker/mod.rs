//! The broker: one refresh per tenant, however many callers ask, and sign-ins from start to end.
//!
//! `refresh/` describes the steps of a refresh, and `sign_in/` those of a sign-in. Both spend a
//! secret by the steps in `spend.rs`. [`StoredToken`] is the one decision about the stored token.
//!
//! # Which lock, from where to where
//!
//! *Within this process* a tenant has at most one *flight*, found through a map that is locked for
//! the look-up alone. A flight is a task of its own, so a caller that gives up, is cancelled or
//! dies takes nothing with it. *Between processes* the flight takes the tenant's lock before it
//! reads the refresh token, and releases it after the new session is durable. The store's global
//! lock is taken inside it for single writes, and never during a request.
//!
//! # What happens when the process dies
//!
//! | dies | leaves | the next caller |
//! | --- | --- | --- |
//! | before the intent is durable | nothing was sent | refreshes |
//! | before the answer is durable | an intent without an answer | records the outcome as ambiguous, [`session::decide`](crate::session::decide) |
//! | before the commit | the answer | commits it and spends nothing |
//! | before the journal is emptied | an answer for an older generation | empties the journal and serves |
//!
//! In each case the operating system releases the lock.

mod candidate_watch;
mod change_error;
mod discover;
mod error;
mod event;
mod exchange;
mod exchanges;
mod fetches;
mod finish_error;
mod issuer_keys;
mod known_keys;
mod lease;
mod mcp;
mod mcp_state;
mod metrics;
mod owner_questions;
mod owner_rights;
mod owner_wait;
mod probe;
mod refresh;
mod reports;
mod rescue;
mod sign_in;
mod spend;
mod start_error;
mod status;
mod stored_token;
mod sweep;
mod token;
mod worker_tokens;

pub use change_error::{CancelError, ChoiceError, LogoutError};
pub use discover::Unusable;
pub use error::{TokenError, is_from_a_wrong_endpoint};
pub use event::Event;
pub use finish_error::FinishError;
pub use lease::{Lease, LeaseSource, TokenJson};
pub use metrics::{BrokerMetrics, Durations, durations};
pub use owner_questions::{LONGEST_OWNER_WAIT, OwnerQuestions, OwnerRefusal};
pub use owner_rights::{OwnerRights, RightsError, Standing, WithoutBot};
pub use owner_wait::{OwnerWait, OwnerWaitError};
pub use probe::{PATIENCE, Probing, probe_lease, probed_token};
pub use rescue::{RestoreError, Restored};
pub use sign_in::{
    AwaitedAnswers, DigitsPage, Finished, GrantEnd, Kept, LoggedOut, News, OpenedStart, Opener, PageError,
    Polled, Progress, PublicUrl, PublicUrlError, ResponseInText, Revocation, SignIn, SignInProgress,
    SignedIn, StartOptions, StartPage, Unchosen, Undecided, View, WayBack,
};
pub use start_error::StartError;
pub use status::{AccessState, RefreshState, SessionState, SharedLogin, Status, Trouble, Unnotified};
pub use stored_token::{StoredToken, TokenPolicy};
pub use worker_tokens::{Entitlement, GrantInUse, WorkerTokenError, WorkerTokens};

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use candidate_watch::Watch;
use dashmap::DashMap;
use fetches::Fetches;
use known_keys::IssuerKeys;
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;

use crate::{
    ids::{Lineage, ProviderId, Tenant},
    net::Unreachable,
    oauth::{Client, Provider, Providers, UserinfoAccount, UserinfoRequest, Withheld},
    secret::{AccessToken, Fingerprint},
    session::{Binding, Change, Session, journal::Unread, seconds},
    store::{ChangeNotices, Purpose, Store},
    sys::clock::{Clock, UnixTime},
};

/// How long a caller waits for a refresh before it gets [`TokenError::InProgress`]. The refresh
/// continues.
pub const CALLER_WAIT: Duration = Duration::from_secs(30);

/// The remaining lifetime that a token should have if the caller names none.
pub const DEFAULT_MIN_TTL: Duration = Duration::from_secs(60);

/// How many events a slow listener may lag.
const EVENTS: usize = 256;

/// Coordinates everything that spends or replaces a token. Cheap to clone; clones are the same
/// broker.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    providers: Providers,
    client: Client,
    clock: Clock,
    mcp: mcp_state::McpState,
    issuer_keys: IssuerKeys,
    flights: DashMap<Tenant, Joined>,
    exchanges: DashMap<Tenant, exchanges::ExchangeSlot>,
    /// The fetches of published metadata.
    fetches: DashMap<ProviderId, Arc<Fetches>>,
    /// Tenants that are logged out during a refresh of theirs, and whose grant is kept.
    keeping: DashMap<Tenant, ()>,
    /// Tenants whose use this process is recording.
    noting: DashMap<Tenant, ()>,
    /// The turns of callers that probe a tenant's token.
    probes: DashMap<Tenant, Arc<tokio::sync::Mutex<()>>>,
    /// How many sign-ins of a tenant this process is committing and has not published yet.
    finishing: DashMap<Tenant, usize>,
    sign_in_gates: sign_in::SignInGates,
    /// Sign-ins that wait for a choice, as this process has seen them.
    watched: DashMap<(Tenant, Lineage), Watch>,
    /// The sign-ins that are over and left no answer in their journal.
    looked_at: DashMap<(Tenant, Fingerprint), ()>,
    /// Writes that fail so far: with the answer if it is in memory alone, without it if the journal
    /// holds it.
    unsaved: DashMap<(Tenant, Purpose), Option<Unread>>,
    public_url: OnceLock<PublicUrl>,
    events: broadcast::Sender<Event>,
    tasks: TaskTracker,
    metrics: BrokerMetrics,
}

/// The result of a flight, the single refresh of one tenant in this process. Its callers share it.
type FlightResult = Result<Arc<Session>, TokenError>;

/// Receives a flight's result.
type Joined = watch::Receiver<Option<FlightResult>>;

// === impl Broker ===

impl Broker {
    /// Builds a broker. It does nothing until it is called.
    pub fn new(store: Arc<dyn Store>, providers: Providers, client: Client, clock: Clock) -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        let inner = Inner {
            store,
            providers,
            client,
            clock,
            mcp: mcp_state::McpState::default(),
            issuer_keys: IssuerKeys::default(),
            flights: DashMap::new(),
            exchanges: DashMap::new(),
            fetches: DashMap::new(),
            keeping: DashMap::new(),
            noting: DashMap::new(),
            probes: DashMap::new(),
            finishing: DashMap::new(),
            sign_in_gates: sign_in::SignInGates::default(),
            watched: DashMap::new(),
            looked_at: DashMap::new(),
            unsaved: DashMap::new(),
            public_url: OnceLock::new(),
            events,
            tasks: TaskTracker::new(),
            metrics: BrokerMetrics::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Subscribes to events from now on. A slow listener misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Subscribes to changes of the store by any process. Must be called within a Tokio runtime.
    pub fn changes(&self) -> ChangeNotices {
        self.inner.store.changes()
    }

    /// The figures of this broker, for the metrics.
    pub fn metrics(&self) -> &BrokerMetrics {
        &self.inner.metrics
    }

    /// The number of refreshes in progress in this process.
    pub fn flights(&self) -> usize {
        self.inner.flights.len()
    }

    /// The time of the broker's clock.
    pub fn now(&self) -> UnixTime {
        self.inner.now()
    }

    /// The broker's clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The configured providers.
    pub fn providers(&self) -> &Providers {
        &self.inner.providers
    }

    /// Returns the reason why this process could not connect to the provider, if its newest attempt
    /// failed so.
    pub fn trouble(&self, provider: &ProviderId) -> Option<Unreachable> {
        self.inner.client.trouble(&*self.inner.providers.get(provider)?)
    }

    /// Waits until no refresh or exchange is in progress, for an orderly exit.
    pub async fn drained(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Waits until the process may end although some answers are not saved: each of them is in a
    /// journal, from which the next process continues. No user has to wait for that.
    pub async fn safe_to_leave(&self) {
        let mut events = self.events();
        loop {
            let journalled = self.inner.unsaved.iter().filter(|unsaved| unsaved.value().is_none()).count();
            if self.inner.tasks.len() <= journalled {
                return;
            }
            tokio::select! {
                () = self.drained() => return,
                _ = events.recv() => {}
            }
        }
    }
}

// === impl Inner ===

impl Inner {
    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Publishes an event. There may be no listener.
    fn publish(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// The configured scopes of the tenant's provider.
    fn scopes(&self, tenant: &Tenant) -> Vec<String> {
        self.providers.get(&tenant.provider).map_or_else(Vec::new, |provider| provider.scopes().to_vec())
    }

    /// The request for the account of an access token, if the token may go to a userinfo endpoint.
    fn userinfo(
        &self,
        tenant: &Tenant,
        provider: &Provider,
        bound: &Binding,
        token: &AccessToken,
    ) -> Option<UserinfoRequest> {
        match provider.userinfo(bound, token) {
            Ok(request) => Some(request),
            Err(Withheld::NotConfigured(_)) => None,
            Err(withheld) => {
                tracing::warn!(%tenant, reason = %withheld, "the access token is not sent to the userinfo endpoint");
                None
            }
        }
    }

    /// Records the account of a session that a userinfo answer names.
    async fn record_account(&self, tenant: &Tenant, session: &Session, found: UserinfoAccount) {
        let account = session.has_no_readable_name().then_some(found.name);
        let change = Change::Account { lineage: session.lineage, account, subject: found.subject };
        if let Err(error) = self.store.change(tenant, change).await {
            tracing::warn!(%tenant, %error, "the account could not be recorded");
        }
    }
}

/// The time after `duration`.
fn later(now: UnixTime, duration: Duration) -> UnixTime {
    now.saturating_add(seconds(duration))
}
