//! A token for a program that cannot report a rejected one, tried at the provider first.
//!
//! [`probed_token`] is the one order of the steps, for the token API and for the command line. Its caller
//! is a tool that ends a slow command, and that gives up after a few failed ones. So:
//!
//! - Only a 401 of the probe endpoint is a report. Every other result hands out the token.
//! - All waits that have an alternative end within [`PATIENCE`]. A refresh goes on without the caller, and
//!   the next call finds its result.
//! - If no newer token can be had now, the stored one is handed out while it lives: the tool gets its
//!   401 and asks again, which it does not do after a failed command.
//! - An endpoint that refuses two tokens within ten minutes, and takes none in between, refuses every token.
//!   It is not asked for ten minutes then. Without this rule, each call would spend a refresh. The first
//!   refusal is kept with the probes, so the rule holds for a refresh that outlasts its caller too.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Broker, Lease, LeaseSource, TokenError};
use crate::{
    ids::Tenant,
    oauth::{Client, Probed, Providers},
    secret::AccessToken,
    session::{LastProbe, ProbeVerdict, Wish},
    store::Store,
    sys::clock::UnixTime,
};

/// How long a call may take while it has a token to hand out. Codex ends its command after 5 s.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// The steps of [`probed_token`] in one program.
pub trait Probing: Sync {
    /// The reason for no token.
    type Error: std::fmt::Display + Send;

    /// Returns a token by the clock alone.
    fn token(&self) -> impl Future<Output = Result<Lease, Self::Error>> + Send;

    /// Reports a token, and returns another one. A dropped future does not end a refresh.
    fn another(&self, rejected: &AccessToken) -> impl Future<Output = Result<Lease, Self::Error>> + Send;

    /// Returns the stored token if it lives.
    fn living(&self) -> impl Future<Output = Option<Lease>> + Send;

    /// Asks the provider about a token, or a recent answer of it.
    fn probe(&self, lease: &Lease) -> impl Future<Output = Probed> + Send;

    /// Reports a failure that the caller does not get, because it gets a token.
    fn warn(&self, error: &Self::Error);
}

/// Returns a token that the provider still takes, as far as a probe shows that in time.
///
/// # Errors
/// As [`Probing::token`] and [`Probing::another`], if no token lives.
pub async fn probed_token<P: Probing>(probing: &P) -> Result<Lease, P::Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut getting = std::pin::pin!(probing.token());
    let lease = match timeout_at(deadline, getting.as_mut()).await {
        Ok(Ok(lease)) => lease,
        Ok(Err(error)) => return living_or(probing, error).await,
        Err(_) => {
            // Without a living token the caller has to wait.
            return match probing.living().await {
                Some(living) => Ok(living),
                None => getting.await,
            };
        }
    };
    if timeout_at(deadline, probing.probe(&lease)).await != Ok(Probed::Refused) {
        return Ok(lease);
    }
    let newer = match timeout_at(deadline, probing.another(&lease.access_token)).await {
        Ok(Ok(newer)) => newer,
        Ok(Err(error)) => return living_or(probing, error).await,
        Err(_) => return Ok(probing.living().await.unwrap_or(lease)),
    };
    // An endpoint that refuses this one too is not asked again for a while.
    let _ = timeout_at(deadline, probing.probe(&newer)).await;
    Ok(newer)
}

async fn living_or<P: Probing>(probing: &P, error: P::Error) -> Result<Lease, P::Error> {
    match probing.living().await {
        Some(living) => {
            probing.warn(&error);
            Ok(living)
        }
        None => Err(error),
    }
}

/// Asks the provider whether it still takes the token of a lease, unless that was asked seconds ago.
pub async fn probe_lease(
    store: &dyn Store,
    providers: &Providers,
    client: &Client,
    lease: &Lease,
    now: UnixTime,
) -> Probed {
    let tenant = &lease.tenant;
    let last = store.last_probe(tenant).await;
    if last.as_ref().is_some_and(|last| last.spares(&lease.access_token, now)) {
        return Probed::Stands;
    }
    let Some(provider) = providers.get(&tenant.provider) else { return Probed::Unknown };
    let bound = match lease.source {
        LeaseSource::Exchange => return Probed::Unknown,
        LeaseSource::Environment => None,
        LeaseSource::Session => {
            let Ok(entry) = store.read(tenant).await else { return Probed::Unknown };
            match entry.session.filter(|session| session.access_token == lease.access_token) {
                Some(session) => Some(session.binding),
                // Another caller replaced it meanwhile. The report of an older token costs nothing, and
                // returns the one that is stored now.
                None => return Probed::Refused,
            }
        }
    };
    let request = match provider.probe(bound.as_ref(), &lease.access_token) {
        Ok(request) => request,
        Err(withheld) => {
            tracing::debug!(%tenant, reason = %withheld, "the access token is not probed");
            return Probed::Unknown;
        }
    };
    let probed = client.try_token(request).await;
    let verdict = match probed {
        // No refresh follows, so nothing has to be bounded.
        Probed::Refused if lease.source == LeaseSource::Environment => return probed,
        Probed::Refused if last.is_some_and(|l| l.is_of_refused_predecessor(&lease.access_token, now)) => {
            tracing::warn!(
                %tenant,
                "the probe_endpoint refuses a token that was issued just now, so it is not asked for ten minutes: correct it"
            );
            ProbeVerdict::Useless
        }
        Probed::Refused => ProbeVerdict::Refused,
        // An endpoint that gives no answer is not asked again at once either.
        Probed::Stands | Probed::Unknown => ProbeVerdict::Good,
    };
    let fingerprint = lease.access_token.fingerprint();
    store.keep_probe(tenant, LastProbe { fingerprint, at: now, verdict }).await;
    if verdict == ProbeVerdict::Useless { Probed::Stands } else { probed }
}

/// The steps in a process with a broker.
struct OfBroker<'a> {
    broker: &'a Broker,
    tenant: &'a Tenant,
    wish: Wish,
}

impl Broker {
    /// Returns a token as [`Broker::token_for`] does, for a program that cannot report a rejected one.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub(super) async fn probed_token_for(&self, tenant: &Tenant, wish: Wish) -> Result<Lease, TokenError> {
        probed_token(&OfBroker { broker: self, tenant, wish }).await
    }
}

impl Probing for OfBroker<'_> {
    type Error = TokenError;

    async fn token(&self) -> Result<Lease, TokenError> {
        self.broker.token_for(self.tenant, self.wish.clone()).await
    }

    async fn another(&self, rejected: &AccessToken) -> Result<Lease, TokenError> {
        let (broker, tenant, rejected) = (self.broker.clone(), self.tenant.clone(), rejected.clone());
        // A task of its own, because the caller waits for a few seconds only.
        let reported = tokio::spawn(async move { broker.rejected(&tenant, &rejected).await });
        reported.await.map_err(|_| TokenError::Internal(self.tenant.clone()))?
    }

    async fn living(&self) -> Option<Lease> {
        if !self.broker.is_stored(self.tenant) {
            return None;
        }
        let inner = &self.broker.inner;
        let session = inner.store.read(self.tenant).await.ok()?.session?;
        Lease::of_living(self.tenant, &session, inner.now()).filter(|_| !self.wish.refuses(&session))
    }

    async fn probe(&self, lease: &Lease) -> Probed {
        let inner = &self.broker.inner;
        // Callers of one tenant ask one after another, so many of them cause one request.
        let turn = inner.probes.entry(self.tenant.clone()).or_default().clone();
        let _turn = turn.lock().await;
        probe_lease(&*inner.store, &inner.providers, &inner.client, lease, inner.now()).await
    }

    fn warn(&self, error: &TokenError) {
        tracing::warn!(tenant = %self.tenant, %error, "a program gets the stored token, because no newer one can be had now");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oauth::{Provider, ProviderSettings},
        store::{FileStore, FileStoreOptions},
        sys::{clock::Clock, files},
    };

    #[tokio::test]
    async fn a_token_that_another_caller_has_replaced_is_reported_without_a_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::fixed(0);
        let path = folder.path().join("auth.json");
        let store = FileStore::open(&path, clock.clone(), FileStoreOptions::default()).expect("a store");
        let endpoint = |name: &str| format!("http://127.0.0.1:1/{name}");
        let settings = ProviderSettings {
            authorization_endpoint: endpoint("authorize"),
            token_endpoint: endpoint("token"),
            probe_endpoint: Some(endpoint("me")),
            client_id: "threadkey".to_owned(),
            redirect_uri: endpoint("callback"),
            ..ProviderSettings::default()
        };
        let acme = Provider::new("acme".parse().expect("a name"), settings).expect("a provider");
        let providers = Providers::with_exchanges([acme], [], []);
        // The record has the next token.
        let text = r#"{"version":1,"sessions":{"acme/local":{"access_token":"access-7","token_type":"Bearer","issued_at":0,
            "expires_at":3600,"lineage":"000102030405060708090a0b0c0d0e0f","generation":7,
            "token_endpoint":"http://127.0.0.1:1/token","client_id":"threadkey"}}}"#;
        files::replace_private(&path, text.as_bytes()).expect("a record");
        let lease = Lease {
            tenant: "acme/local".parse().expect("a tenant"),
            access_token: AccessToken::new("access-6"),
            token_type: "Bearer".to_owned(),
            expires_at: 3600,
            expires_in: Duration::from_secs(3600),
            scope: None,
            account: None,
            generation: 6,
            source: LeaseSource::Session,
            lineage: None,
        };
        let client = Client::new(clock).expect("a client");
        let probed = |lease: Lease| {
            let (store, providers, client) = (&store, &providers, &client);
            async move { probe_lease(store, providers, client, &lease, 0).await }
        };
        let stored = Lease { access_token: AccessToken::new("access-7"), generation: 7, ..lease.clone() };
        assert_eq!(probed(stored).await, Probed::Unknown, "the record is read, and the port is closed");
        assert_eq!(probed(lease.clone()).await, Probed::Refused);
        let from_environment = Lease { source: LeaseSource::Environment, ..lease };
        assert_eq!(probed(from_environment).await, Probed::Unknown, "the port is closed");
    }
}
