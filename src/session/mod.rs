//! One tenant's session: the record, and the pure decisions on it.
//!
//! Nothing here reads a clock, a file or the network. [`decide`] returns the next step of a request
//! for a token. [`apply`] is the one place that changes a record. [`journal`] and [`TenantLock`]
//! keep the order of the steps that spend a secret. The store serialises these types; the broker
//! acts on the decisions.

mod accounts;
mod browser_return;
mod change;
mod client;
mod decide;
mod demanded;
mod failures;
mod identity;
pub mod journal;
mod limits;
mod login_end;
mod polling;
mod probe;
mod questions;
mod record;
mod scopes;
mod tenant_lock;

pub use accounts::Accounts;
pub use browser_return::{DIGIT_ATTEMPTS, failure};
pub use change::{Applied, Change, Changed, Settlement, Update, apply};
pub use client::{ClientSweep, RegisteredClient};
pub use decide::{Decision, Wish, adopts, decide, refresh_due_at};
pub use demanded::{DEMAND_LASTS, DemandRefused, Demanded};
pub use failures::{Ended, Refusals, Rejected, Retry, RetryKind, WrongCodes};
pub use identity::Identity;
pub use limits::{
    CHOICE_LIFETIME, CLOCK_ERROR, FORCED_REFRESH_INTERVAL, MAX_BACKOFF, PENDING_LIFETIME, SWEEP_GRACE,
    UNKNOWN_EXPIRY, in_words, is_known_expiry, left_in_words, seconds,
};
pub use login_end::{LONGEST_NOTICE, LoginEnds, LoginLimits};
pub use polling::{GrantKind, NoGrantKind, Polling};
pub use probe::{LastProbe, ProbeVerdict};
pub use record::{
    Binding, BrowserReturn, Entry, Grant, Pending, RefreshTarget, Revision, Session, Unconfirmed,
};
pub use tenant_lock::{LockBackend, Locked, TenantLock};

#[cfg(test)]
pub(crate) use record::test_session;
