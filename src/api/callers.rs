//! The caller of a request: a worker with its capability, or a program of the operator with its key.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::{
    operators::{KeyScope, Operator, Right},
    problem::Problem,
    request::bearer,
    shares::Holding,
    state::Api,
    via::Via,
};
use crate::{
    agent::Holder,
    broker::Lease,
    ids::{Principal, ProviderId, Tenant},
    secret::Scrubber,
};

/// The holder of the secret that a request presents.
pub(super) enum Caller {
    Worker(Holder),
    Operator(Arc<Operator>),
}

impl Caller {
    /// The holder of the request's place.
    pub(super) fn holding(&self) -> Holding {
        match self {
            Self::Worker(holder) => Holding::Conversation(holder.conversation.id),
            Self::Operator(operator) => Holding::Operator(operator.name.clone()),
        }
    }

    /// Returns the operator key, which some routes need.
    pub(super) fn operator(&self) -> Result<&Operator, Problem> {
        match self {
            Self::Worker(_) => Err(Problem::needs_operator_key()),
            Self::Operator(operator) => Ok(operator),
        }
    }

    /// Returns the operator key, if it has this right.
    pub(super) fn operator_with(&self, right: Right) -> Result<&Operator, Problem> {
        let operator = self.operator()?;
        operator.must(right).map(|()| operator)
    }
}

impl Operator {
    /// Checks that the key has this right.
    pub(super) fn must(&self, right: Right) -> Result<(), Problem> {
        if self.scope.may(right) { Ok(()) } else { Err(Problem::no_right(&self.name, right)) }
    }
}

impl Api {
    /// Returns the caller. A secret that opens nothing here looks the same as none.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let unauthorized = || Problem::unauthorized(self.via);
        let presented = bearer(headers).ok_or_else(unauthorized)?;
        if let Some(operator) = self.operators.holder(presented) {
            return Ok(Caller::Operator(operator));
        }
        let worker = self.capabilities.holder(presented).filter(|_| self.via == Via::Socket);
        worker.map(Caller::Worker).ok_or_else(unauthorized)
    }

    /// Returns the tenant whose tokens an operator's program may read. The answer to a scope that is
    /// too small depends on the scope alone, and so does not show whether a session exists.
    pub(super) fn operators_tenant(
        &self,
        operator: &Operator,
        provider: &str,
        principal: Option<&str>,
        right: Right,
    ) -> Result<Tenant, Problem> {
        operator.must(right)?;
        let Operator { name, scope } = operator;
        let provider: ProviderId = provider
            .parse()
            .ok()
            .filter(|provider| scope.covers_provider(provider))
            .ok_or_else(|| Problem::providers_of_key(name))?;
        let principal = match principal {
            Some(text) => text.parse().map_err(|error: crate::ids::IdError| {
                Problem::invalid_request(format!("principal: {error}"))
            })?,
            None => only_principal(scope).ok_or_else(|| {
                let detail =
                    "name the principal whose token you want, as in ?principal=user:80351110224678912";
                Problem::invalid_request(detail)
            })?,
        };
        if !scope.covers_principal(principal) {
            return Err(Problem::principals_of_key(name));
        }
        Ok(Tenant::new(provider, principal))
    }

    /// Hands a token out to an operator's program, if its key is still live and covers the tenant. A
    /// refresh takes a while, and the key may have been replaced meanwhile.
    pub(super) fn to_operator(&self, headers: &HeaderMap, lease: &Lease) -> Result<(), Problem> {
        let caller = self.caller(headers)?;
        let operator = caller.operator()?;
        if !operator.scope.covers(&lease.tenant) {
            return Err(Problem::principals_of_key(&operator.name));
        }
        Scrubber::of_process().note(lease.access_token.expose());
        tracing::debug!(key = operator.name, tenant = %lease.tenant, generation = lease.generation, "an operator key was given a token");
        Ok(())
    }
}

/// The principal of a key that has one alone.
fn only_principal(scope: &KeyScope) -> Option<Principal> {
    match scope.principals[..] {
        [super::operators::PrincipalPattern::One(principal)] => Some(principal),
        _ => None,
    }
}
