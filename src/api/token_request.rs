//! A request for a token: its parse, and its answer.
//!
//! A [`TokenRequest`] holds nothing of the HTTP request that it was parsed from. A caller may wait for a
//! refresh or for its owner, and the head of its request would keep the connection's read buffer
//! meanwhile.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};

use super::{
    callers::{Caller, Identity},
    operators::{Operator, Right},
    owner_wait::WorkerRequest,
    problem::Problem,
    request::{Parameters, min_ttl, probe, wait},
    shares::{ConnectionShare, Holding},
    state::Api,
};
use crate::{
    agent::Holder,
    broker::{Lease, TokenJson},
    ids::{ProviderId, Tenant},
    secret::{Scrubber, Secret},
};

/// A request for a token whose caller is known.
pub(super) struct TokenRequest {
    /// The secret of the caller. It is checked again before the token leaves.
    secret: Secret,
    wanted: Wanted,
    min_ttl: Duration,
    /// Whether the token is tried at the provider first.
    is_probed: bool,
}

enum Wanted {
    /// The token that a worker gets, which may wait for its owner's sign-in.
    OfWorker { holder: Holder, provider: ProviderId, wait: Duration },
    /// A token that an operator key covers.
    OfOperator { operator: Arc<Operator>, tenant: Tenant },
}

impl Api {
    /// Parses a request for a token, and checks its caller.
    pub(super) fn token_request(
        &self,
        provider: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<TokenRequest, Problem> {
        let caller = self.caller(headers)?;
        self.refuse_raw_tokens(&caller)?;
        let Caller { secret, identity } = caller;
        let known = ["min_ttl", "wait", "probe", "principal"];
        match identity {
            Identity::Worker(holder) => {
                let mut query = Parameters::of(query, &known[..3])?;
                let (min_ttl, wait, is_probed) =
                    (min_ttl(&mut query)?, wait(&mut query)?, probe(&mut query)?);
                let provider = provider.parse().map_err(|_| Problem::provider_not_allowed())?;
                let wanted = Wanted::OfWorker { holder, provider, wait };
                Ok(TokenRequest { secret, wanted, min_ttl, is_probed })
            }
            Identity::Operator(operator) => {
                let mut query = Parameters::of(query, &known)?;
                let tenant = self.token_tenant(&operator, provider, &mut query)?;
                let (min_ttl, is_probed) = (min_ttl(&mut query)?, probe(&mut query)?);
                // A key has no owner to ask.
                wait(&mut query)?;
                let wanted = Wanted::OfOperator { operator, tenant };
                Ok(TokenRequest { secret, wanted, min_ttl, is_probed })
            }
        }
    }

    /// Answers a request for a token.
    pub(super) async fn token(
        &self,
        share: &ConnectionShare,
        request: TokenRequest,
    ) -> Result<Response, Problem> {
        let TokenRequest { secret, wanted, min_ttl, is_probed } = request;
        match wanted {
            Wanted::OfWorker { holder, provider, wait } => {
                let request =
                    WorkerRequest { api: self, share, secret, holder, provider, min_ttl, wait, is_probed };
                Box::pin(request.answer()).await
            }
            Wanted::OfOperator { operator, tenant } => {
                let holding = Holding::Operator(operator.name.clone());
                let answer = Box::pin(async move {
                    let lease = match is_probed {
                        false => self.tokens.operators_token(&operator.name, &tenant, min_ttl).await?,
                        true => {
                            let probed = self.tokens.operators_probed_token(&operator.name, &tenant, min_ttl);
                            Box::pin(probed).await?
                        }
                    };
                    self.to_operator(&secret, lease)
                });
                share.run_request(holding, answer).await
            }
        }
    }

    /// Refuses a worker where workers get tokens by the injecting proxy alone.
    pub(super) fn refuse_raw_tokens(&self, caller: &Caller) -> Result<(), Problem> {
        match &caller.identity {
            Identity::Worker(_) if self.inject_only => Err(Problem::raw_tokens_disabled()),
            Identity::Worker(_) | Identity::Operator(_) => Ok(()),
        }
    }

    /// Returns the tenant of an operator's request for a token.
    pub(super) fn token_tenant(
        &self,
        operator: &Operator,
        provider: &str,
        query: &mut Parameters,
    ) -> Result<Tenant, Problem> {
        self.operators_tenant(operator, provider, query.take("principal").as_deref(), Right::Tokens)
    }

    /// Answers with the token if the capability is still live. A refresh takes a while, and the
    /// worker may have ended meanwhile.
    pub(super) fn to_worker(&self, secret: &Secret, lease: Lease) -> Result<Response, Problem> {
        let Identity::Worker(holder) = self.identity(secret)? else {
            return Err(Problem::unauthorized(self.via));
        };
        let (conversation, tenant) = (holder.conversation.id, &lease.tenant);
        tracing::debug!(%conversation, %tenant, generation = lease.generation, "a worker was given a token");
        Ok(token_answer(lease))
    }

    /// Answers with the token if the operator key is still live and covers the tenant. The key may have
    /// been replaced meanwhile.
    pub(super) fn to_operator(&self, secret: &Secret, lease: Lease) -> Result<Response, Problem> {
        let Identity::Operator(operator) = self.identity(secret)? else {
            return Err(Problem::needs_operator_key());
        };
        if !operator.scope.covers(&lease.tenant) {
            return Err(Problem::principals_of_key(&operator.name));
        }
        Scrubber::of_process().note(lease.access_token.expose());
        tracing::debug!(key = operator.name, tenant = %lease.tenant, generation = lease.generation, "an operator key was given a token");
        Ok(token_answer(lease))
    }
}

/// Returns the answer with a token.
fn token_answer(lease: Lease) -> Response {
    // One allocation: the buffer of axum's own `Json` begins with 128 bytes, and grows by copies.
    let mut body = Vec::with_capacity(512 + lease.access_token.expose().len());
    // It fails for maps with keys that are no text alone.
    let written = serde_json::to_writer(&mut body, &TokenJson::from(lease));
    debug_assert!(written.is_ok(), "a token is JSON");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
