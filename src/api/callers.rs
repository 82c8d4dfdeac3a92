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
    ids::{Principal, ProviderId, Tenant},
    secret::Secret,
};

/// The caller of a request, with the secret that it presented: the secret is checked again before a token
/// leaves.
pub(super) struct Caller {
    pub(super) secret: Secret,
    pub(super) identity: Identity,
}

/// The holder of a secret.
pub(super) enum Identity {
    Worker(Holder),
    Operator(Arc<Operator>),
}

impl Caller {
    /// The holder of the request's place.
    pub(super) fn holding(&self) -> Holding {
        match &self.identity {
            Identity::Worker(holder) => Holding::Conversation(holder.conversation.id),
            Identity::Operator(operator) => Holding::Operator(operator.name.clone()),
        }
    }

    /// Returns the operator key, which some routes need.
    pub(super) fn operator(&self) -> Result<&Operator, Problem> {
        match &self.identity {
            Identity::Worker(_) => Err(Problem::needs_operator_key()),
            Identity::Operator(operator) => Ok(operator),
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
        let secret = bearer(headers).ok_or_else(|| Problem::unauthorized(self.via))?;
        let identity = self.identity(&secret)?;
        Ok(Caller { secret, identity })
    }

    /// Returns the present holder of a secret.
    pub(super) fn identity(&self, secret: &Secret) -> Result<Identity, Problem> {
        if let Some(operator) = self.operators.holder(secret.expose()) {
            return Ok(Identity::Operator(operator));
        }
        let worker = self.capabilities.holder(secret.expose()).filter(|_| self.via == Via::Socket);
        worker.map(Identity::Worker).ok_or_else(|| Problem::unauthorized(self.via))
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
}

/// The principal of a key that has one alone.
fn only_principal(scope: &KeyScope) -> Option<Principal> {
    match scope.principals[..] {
        [super::operators::PrincipalPattern::One(principal)] => Some(principal),
        _ => None,
    }
}
