//! The public keys of issuers, and the check of an id token's signature.
//!
//! # When keys are fetched
//!
//! A sign-in fetches them after the provider's answer is durable in the journal and before the commit,
//! because the commit depends on the account. It holds the tenant's sign-in lock then, as it did
//! during the exchange, and no other lock of the store. A refresh fetches nothing under its lock: it
//! uses the keys in memory. If they are missing and no id token of the session was accepted yet, a task
//! fetches them after the commit and fills the identity in ([`Inner::identify_later`]).
//!
//! Keys are fetched again when they are an hour old, and when a token has a `kid` that none of them
//! has. After the first answer an issuer is asked at most once a minute, whatever tokens come. The map is locked for the
//! look-up alone. Tasks that want the keys of one issuer at once wait for one fetch, which ends within
//! 10 s.
//!
//! # When keys cannot be fetched
//!
//! The sign-in is finished without an identity. The tokens came from the token endpoint over TLS, so
//! they are the user's own; only the account is not proved by a signature. A code works once, so a
//! refusal would lose the grant, and a wait could outlive the sign-in. A later refresh fills the
//! identity in.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{Inner, known_keys::Issuer};
use crate::{
    ids::Tenant,
    oauth::{DocumentRequest, Jws, KeySet, Provider, SignatureFault},
    secret::IdToken,
    session::{Change, Identity, Session},
};

/// The age from which keys are fetched again before they are used.
const STALE: Duration = Duration::from_secs(60 * 60);

/// The age from which keys are not used, although no newer ones can be fetched.
const TOO_OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// The reason why an id token proves no account.
#[derive(Debug)]
pub(super) enum Unproved {
    /// The signature is not accepted.
    Refused(SignatureFault),
    /// The keys cannot be fetched, or may not be fetched here.
    NoKeys,
}

// === impl Inner ===

impl Inner {
    /// Checks the signature of an id token with the keys in memory. Without a key address the token is
    /// taken as it came over TLS (OpenID Connect Core §3.1.3.7, item 6).
    pub(super) fn prove_from_memory(&self, provider: &Provider, token: &IdToken) -> Result<(), Unproved> {
        let Some(url) = provider.jwks_uri() else { return Ok(()) };
        let jws = Jws::parse(token.expose()).map_err(Unproved::Refused)?;
        let known = self.issuer_keys.of(url).known();
        let keys = known.younger_than(TOO_OLD, self.clock.elapsed()).ok_or(Unproved::NoKeys)?;
        keys.verify(&jws).map_err(|fault| match fault.may_be_a_rotation(&jws) {
            true => Unproved::NoKeys,
            false => Unproved::Refused(fault),
        })
    }

    /// Checks the signature of an id token, and fetches the issuer's keys where that is needed. Ends
    /// within the time of a document. The caller holds no lock of the store but a sign-in lock.
    pub(super) async fn prove(&self, provider: &Provider, token: &IdToken) -> Result<(), Unproved> {
        let Some(url) = provider.jwks_uri() else { return Ok(()) };
        let jws = Jws::parse(token.expose()).map_err(Unproved::Refused)?;
        let issuer = self.issuer_keys.of(url);
        let verdict = |keys: &KeySet| match keys.verify(&jws) {
            Err(fault) if fault.may_be_a_rotation(&jws) => None,
            verdict => Some(verdict.map_err(Unproved::Refused)),
        };
        if let Some(keys) = issuer.known().younger_than(STALE, self.clock.elapsed())
            && let Some(verdict) = verdict(&keys)
        {
            return verdict;
        }
        let _one = issuer.fetching.lock().await;
        // Another task may have fetched them meanwhile.
        if issuer.known().may_ask(self.clock.elapsed()) {
            self.fetch_keys(provider, url, &issuer).await;
        }
        let known = issuer.known().younger_than(TOO_OLD, self.clock.elapsed()).ok_or(Unproved::NoKeys)?;
        known.verify(&jws).map_err(Unproved::Refused)
    }

    async fn fetch_keys(&self, provider: &Provider, url: &Url, issuer: &Issuer) {
        let is_first = issuer.known().keys.is_none();
        issuer.change(|known| known.asked_at = Some(self.clock.elapsed()));
        let request = DocumentRequest::get(url.clone(), provider.trust().clone(), provider.jwks_reach(url));
        let document = self.client.document(request).await.and_then(|document| document.successful_json());
        let keys = document.map_err(|error| error.to_string()).and_then(|document| {
            KeySet::parse(&document).map_err(|error| format!("{url} is no key set: {error}"))
        });
        match keys {
            Ok(keys) => issuer.change(|known| {
                known.keys = Some((Arc::new(keys), self.clock.elapsed()));
                // A rotation may come at any moment after the first fetch.
                known.asked_at.take_if(|_| is_first);
            }),
            Err(error) => tracing::warn!(
                provider = %provider.id(), %error, "the keys that sign id tokens cannot be fetched: check providers.{}.jwks_uri",
                provider.id()
            ),
        }
    }

    /// Proves an identity that came with a refresh, and then records it in a session that has none.
    /// Runs in a task of its own, and the refresh does not depend on it.
    pub(super) async fn identify_later(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        session: &Session,
        identity: Identity,
    ) {
        match self.prove(provider, &identity.id_token).await {
            Ok(()) => {
                let change = Change::Identify { lineage: session.lineage, identity };
                if let Err(error) = self.store.change(tenant, change).await {
                    tracing::warn!(%tenant, %error, "the identity of the account could not be recorded");
                }
            }
            Err(unproved) => log_unproved(tenant, &unproved),
        }
    }
}

/// Logs that an id token proves no account.
pub(super) fn log_unproved(tenant: &Tenant, unproved: &Unproved) {
    match unproved {
        Unproved::Refused(fault) => tracing::warn!(
            %tenant, %fault, "an id token is ignored, because its signature is not accepted"
        ),
        Unproved::NoKeys => {
            tracing::info!(%tenant, "an id token is ignored, because the issuer's keys are not known now")
        }
    }
}
