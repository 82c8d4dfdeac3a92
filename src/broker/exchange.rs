//! Tokens by exchange (RFC 8693): a token for another audience, in return for the access token of the
//! same principal's session at another provider.
//!
//! The new token lives in the memory of this process until it expires. It is in no store: it is a copy
//! of a right that the session has anyway, and any process can exchange again without spending anything.
//! A refresh token in an answer is dropped, because nobody could refresh it without a race. It is not
//! revoked: some servers end the whole grant with it.
//!
//! A tenant has one exchange at a time in this process, under a lock of its own that no other tenant
//! waits for. A caller that gives up drops its request and nothing else. The refresh that an exchange
//! may need first is a flight of its own. After a failure, no caller asks again before a pause.

use std::time::Duration;

use tokio::time::timeout;

use super::exchanges::{Exchanged, Exchanges, Failure};
use super::{Broker, CALLER_WAIT, DEFAULT_MIN_TTL, Lease, LeaseSource, TokenError, error::wait_until, later};
use crate::{
    ids::Tenant,
    oauth::{Exchange, Outcome, exchange_outcome},
    session::{Decision, FORCED_REFRESH_INTERVAL, Grant, Retry, Session, Wish, decide},
    sys::clock::UnixTime,
};

/// The pause after a failure that passes by itself, if the server names none.
const PAUSE: Duration = Duration::from_secs(5);

/// The pause after a refusal, which only a user or the operator can mend.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(30);

// === impl Broker ===

impl Broker {
    /// Returns the tenant whose session gives the tokens of `tenant`: another one for an exchange.
    pub fn source_of(&self, tenant: &Tenant) -> Tenant {
        match self.inner.providers.exchange(&tenant.provider) {
            Some(exchange) => Tenant::new(exchange.from().clone(), tenant.principal),
            None => tenant.clone(),
        }
    }

    /// Returns a token by exchange. Waits at most [`CALLER_WAIT`].
    pub(super) async fn exchanged(
        &self,
        exchange: &Exchange,
        tenant: &Tenant,
        wish: Wish,
    ) -> Result<Lease, TokenError> {
        let slot = self.inner.exchanges.entry(tenant.clone()).or_default().clone();
        let in_turn = async {
            let mut exchanges = slot.lock().await;
            self.exchanged_in_turn(exchange, tenant, &wish, &mut exchanges).await
        };
        timeout(CALLER_WAIT, in_turn).await.unwrap_or_else(|_| {
            let code = "ambiguous_timeout".to_owned();
            Err(TokenError::ExchangeUnavailable {
                tenant: tenant.clone(),
                from: self.source_of(tenant),
                code,
                retry_after: PAUSE,
            })
        })
    }

    async fn exchanged_in_turn(
        &self,
        exchange: &Exchange,
        tenant: &Tenant,
        wish: &Wish,
        exchanges: &mut Exchanges,
    ) -> Result<Lease, TokenError> {
        let from = self.source_of(tenant);
        let none = || TokenError::NoSession(from.clone());
        let now = self.inner.now();
        let session = self.inner.store.read(&from).await?.session;
        // Nothing in memory outlives the login that it came from.
        let is_over =
            |session: &Session| matches!(decide(session, now, &Wish::default()), Decision::Ended { .. });
        if let Some(session) = session.filter(|session| !is_over(session)) {
            if let Some(token) = &exchanges.token {
                if let Some(lease) = token.serves(&session, wish, now) {
                    return Ok(lease);
                }
                let pause_ends = later(token.at, FORCED_REFRESH_INTERVAL);
                if token.is_refused(wish) && token.lineage == session.lineage && now < pause_ends {
                    return Err(rejected_again(tenant, &from, wait_until(pause_ends, now)));
                }
            }
            let is_paused = |failure: &&Failure| {
                failure.lineage == session.lineage && failure.at <= now && now < failure.until
            };
            if let Some(failure) = exchanges.failure.as_ref().filter(is_paused) {
                return Err(failure.error.clone());
            }
        } else {
            *exchanges = Exchanges::default();
        }
        self.stored_token_for(&from, Wish::living(DEFAULT_MIN_TTL)).await?;
        // The token and its binding come from one read.
        let session = self.inner.store.read(&from).await?.session.ok_or_else(none)?;
        match self.send_exchange(exchange, tenant, &from, &session).await {
            Ok(lease) => {
                // A logout during the request ends the right to its result.
                let after = self.inner.store.read(&from).await?.session.ok_or_else(none)?;
                if after.lineage != session.lineage {
                    return Err(TokenError::InProgress(tenant.clone()));
                }
                let (lineage, at) = (session.lineage, self.inner.now());
                let token = Exchanged { lease: lease.clone(), lineage, at };
                let is_refused = token.is_refused(wish);
                *exchanges = Exchanges { token: Some(token), failure: None };
                if is_refused {
                    return Err(rejected_again(tenant, &from, FORCED_REFRESH_INTERVAL));
                }
                Ok(lease)
            }
            Err(error) => {
                let pause = match &error {
                    TokenError::ExchangeUnavailable { retry_after, .. } => *retry_after,
                    _ => PAUSE_AFTER_REFUSAL,
                };
                let (lineage, at) = (session.lineage, self.inner.now());
                tracing::warn!(%tenant, %error, "no token by exchange");
                let until = later(at, pause);
                exchanges.failure = Some(Failure { lineage, at, until, error: error.clone() });
                Err(error)
            }
        }
    }

    /// Sends one exchange, and reads its answer by the outcome table.
    async fn send_exchange(
        &self,
        exchange: &Exchange,
        tenant: &Tenant,
        from: &Tenant,
        session: &Session,
    ) -> Result<Lease, TokenError> {
        let source = self.inner.usable(&from.provider).await?;
        let credentials = match exchange.credentials(&source, self.inner.now()).await {
            Ok(None) => self.inner.credentials(&source, &session.binding).await,
            Ok(Some(own)) => Ok(own),
            Err(problem) => Err(problem),
        };
        let credentials =
            credentials.map_err(|problem| TokenError::NoClientSecret { tenant: tenant.clone(), problem })?;
        let request = exchange.request(&source, session, &credentials).map_err(|withheld| {
            tracing::error!(%tenant, reason = %withheld, "the access token is not exchanged");
            TokenError::Ended { tenant: from.clone(), code: TokenError::BOUND_ELSEWHERE.to_owned() }
        })?;
        tracing::debug!(%tenant, %from, "exchanging a token");
        let attempt = self.inner.client.exchange_token(request).await;
        let rules = source.answer_rules(&session.binding);
        let unavailable = |code, retry_after: Option<Duration>| TokenError::ExchangeUnavailable {
            tenant: tenant.clone(),
            from: from.clone(),
            code,
            retry_after: retry_after.unwrap_or(PAUSE),
        };
        match exchange_outcome(&attempt, &rules) {
            Outcome::Granted(grant) => Ok(lease_of(tenant, *grant, session, self.inner.now())),
            // The table returns this for a refresh alone.
            Outcome::Foreign { .. } => Err(TokenError::Internal(tenant.clone())),
            Outcome::Unspent { code, retry_after } => Err(unavailable(code, retry_after)),
            Outcome::Ambiguous { code } => Err(unavailable(code, None)),
            Outcome::Refused { code } | Outcome::Ended { code } | Outcome::Misconfigured { code } => {
                if !exchange.has_own_client() {
                    self.inner.forget_client(&source, &session.binding, &code).await;
                }
                Err(TokenError::ExchangeRefused { tenant: tenant.clone(), from: from.clone(), code })
            }
        }
    }
}

/// Makes a lease of a token by exchange. A token whose end the server does not name lives as long as the
/// session's.
fn lease_of(tenant: &Tenant, grant: Grant, session: &Session, now: UnixTime) -> Lease {
    let expires_in = grant.expires_in.unwrap_or_else(|| session.remaining(now));
    Lease {
        tenant: tenant.clone(),
        access_token: grant.access_token,
        token_type: grant.token_type,
        expires_at: later(now, expires_in),
        expires_in,
        scope: grant.scope,
        account: session.account.clone(),
        generation: session.generation,
        source: LeaseSource::Exchange,
        lineage: Some(session.lineage),
    }
}

fn rejected_again(tenant: &Tenant, from: &Tenant, retry_after: Duration) -> TokenError {
    let code = Retry::REJECTED_AGAIN.to_owned();
    TokenError::ExchangeUnavailable { tenant: tenant.clone(), from: from.clone(), code, retry_after }
}
