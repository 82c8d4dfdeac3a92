//! What the stored record alone answers, for callers that refresh elsewhere: the command line looks, and leaves the
//! refresh to a detached process.

use std::time::Duration;

use super::{Lease, TokenError, error::refusal};
use crate::{
    ids::Tenant,
    oauth::Provider,
    session::{Decision, Entry, decide},
    sys::clock::UnixTime,
};

/// What somebody who wants a token finds.
#[derive(Clone, Debug)]
pub enum Peek {
    /// This one serves.
    Serves(Lease),
    /// This one serves, and it is time for a refresh in the background.
    Due(Lease),
    /// Only [`Broker::token`](super::Broker::token) can tell: a refresh is needed, or a died sign-in can be recovered.
    Work,
}

/// Looks at the record without touching anything.
///
/// # Errors
/// When the record says that there is no token to be had now.
pub fn peek(
    provider: &Provider,
    tenant: &Tenant,
    entry: &Entry,
    min_ttl: Duration,
    now: UnixTime,
) -> Result<Peek, TokenError> {
    let Some(session) = &entry.session else {
        return if entry.pending.is_some() {
            Ok(Peek::Work)
        } else {
            Err(TokenError::NoSession(tenant.clone()))
        };
    };
    if session.verdict().is_some() && entry.pending.is_some() && !session.is_usable(now) {
        return Ok(Peek::Work);
    }
    let decision = decide(session, now, min_ttl);
    if let Some(error) = refusal(tenant, decision.clone(), now) {
        return Err(error);
    }
    let lease = || Lease::new(tenant, session, now);
    Ok(match decision {
        Decision::Refresh => Peek::Work,
        Decision::ServeAndRefresh if !provider.refresh_revokes_access() => Peek::Due(lease()),
        _ => Peek::Serves(lease()),
    })
}
