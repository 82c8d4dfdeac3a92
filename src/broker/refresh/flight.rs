//! The flight: the single refresh of one tenant in this process.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    broker::{FlightResult, Inner},
    ids::Tenant,
    oauth::Provider,
    session::{Revision, Session, Wish},
};

/// The input of a flight, and where its result goes.
pub(super) struct Flight {
    pub(super) inner: Arc<Inner>,
    pub(super) tenant: Tenant,
    pub(super) provider: Arc<Provider>,
    /// The state that the first caller saw. A newer one that works ends the flight.
    pub(super) seen: Revision,
    /// The wish of the first caller.
    pub(super) wish: Wish,
    pub(super) result: watch::Sender<Option<FlightResult>>,
}

/// The next step of the flight.
pub(super) enum Settled {
    /// It returns the new session.
    Refreshed(Arc<Session>),
    /// It sends again at once: the provider still takes the same refresh token.
    Repeat,
    /// It reads the record, which now holds the outcome.
    Recorded,
}
