//! The fingerprints of the tokens that this process has handed out, for whoever has to keep them out of messages.

use dashmap::DashMap;

use crate::{
    ids::Tenant,
    secret::Fingerprint,
    session::{Seen, Session},
};

/// A tenant's newest fingerprints: the refresh token and the access token of this state and of the one before, which may
/// still be good.
const PER_TENANT: usize = 4;

/// How many tenants are remembered.
const MAX_TENANTS: usize = 10_000;

#[derive(Default)]
pub(super) struct Known(DashMap<Tenant, Newest>);

struct Newest {
    seen: Seen,
    fingerprints: Vec<Fingerprint>,
}

impl Known {
    /// Remembers the session's tokens. Costs a look-up while the session stays as it is.
    pub(super) fn remember(&self, tenant: &Tenant, session: &Session) {
        if self.0.get(tenant).is_some_and(|newest| newest.seen == session.seen()) {
            return;
        }
        if self.0.len() >= MAX_TENANTS && !self.0.contains_key(tenant) {
            return;
        }
        let tokens = [
            Some(session.access_token.fingerprint()),
            session.refresh_token.as_ref().map(|t| t.fingerprint()),
        ];
        let mut newest = self
            .0
            .entry(tenant.clone())
            .or_insert_with(|| Newest { seen: session.seen(), fingerprints: Vec::with_capacity(PER_TENANT) });
        newest.seen = session.seen();
        newest.fingerprints.splice(0..0, tokens.into_iter().flatten());
        newest.fingerprints.truncate(PER_TENANT);
    }

    pub(super) fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.0.iter().any(|newest| newest.fingerprints.contains(fingerprint))
    }
}
