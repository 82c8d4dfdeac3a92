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
mod event;
mod exchange;
mod finish;
mod flight;
mod landing;
mod lease;
mod logout;
mod lookup;
mod peek;
mod refresh;
mod rescue;
mod revoke;
mod save;
mod settle;
mod shown;
mod signed_in;
mod start;
mod token;
mod worker_tokens;

pub use error::{CancelError, ChoiceError, FinishError, LogoutError, StartError, TokenError};
pub use event::Event;
pub use lease::{Lease, TokenJson};
pub use logout::{LoggedOut, Revocation};
pub use lookup::{AccessState, RefreshState, Status};
pub use peek::{Peek, peek};
pub use rescue::RestoreError;
pub use shown::{News, Progress, Shown};
pub use signed_in::{Finished, GrantEnd, Kept, SignedIn, Unchosen, Undecided};
pub use start::SignIn;
pub use worker_tokens::{Entitlement, WorkerTokenError, WorkerTokens};

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;

use crate::{
    ids::{Lineage, Tenant},
    oauth::{Client, Provider, Providers},
    session::{
        Session,
        journal::{Answer, Intent},
        seconds,
    },
    store::{Changes, Purpose, Store},
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
    flights: DashMap<Tenant, Joined>,
    /// Grants whose revocation was asked for while a refresh of theirs was under way.
    revoking: DashMap<Lineage, ()>,
    /// How many sign-ins this process is about to save or to tell of.
    landing: DashMap<Tenant, usize>,
    /// What could not be saved yet: in memory alone, or, without the answer here, in the journal but not in the store.
    unsaved: DashMap<(Tenant, Purpose), Option<Unsaved>>,
    events: broadcast::Sender<Event>,
    tasks: TaskTracker,
}

/// What a flight came to.
type Landed = Result<Session, TokenError>;

/// Where a flight's result will be.
type Joined = watch::Receiver<Option<Landed>>;

/// An answer that is only in memory.
#[derive(Clone)]
struct Unsaved {
    intent: Intent,
    answer: Answer,
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

/// `now` and a while.
fn later(now: UnixTime, duration: Duration) -> UnixTime {
    now.saturating_add(seconds(duration))
}
