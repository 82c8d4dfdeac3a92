//! The sessions within an operator key's scope: their state, and their end.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    openapi::{ListProblems, LogoutProblems},
    operators::Right,
    problem::Problem,
    request::Parameters,
    shares::ConnectionShare,
    state::Api,
};
use crate::{
    broker::{AccessState, LoggedOut, Revocation, Status},
    session::is_known_expiry,
};

/// The sessions that a key covers.
#[derive(Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<SessionJson>,
}

/// A session, without its tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionJson {
    /// The provider.
    provider: String,
    /// The party that it belongs to: `user:ID`, `guild:ID` or `local`.
    principal: String,
    /// One word about the whole of it: `ready` (a token can be had now), `pending` (a sign-in is in
    /// progress, and no session yet), `undecided` (a sign-in waits for a choice, and no session yet),
    /// `held_back`, `rejected_again`, `uncertain`, `stuck`, `withheld` (no refresh at present, for that
    /// reason), `expired` (there is no refresh token), `rejected`, `ended`, `environment` or
    /// `exchange` (the token comes from there).
    state: &'static str,
    /// The account, in the provider's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    account: Option<String>,
    /// The scope of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<String>,
    /// When the access token expires or expired, in Unix seconds; absent if the provider names no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<i64>,
    /// When the access token was issued, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    issued_at: Option<i64>,
    /// The code of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_error: Option<String>,
    /// When a sign-in that is in progress ends, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pending_until: Option<i64>,
    /// The number of commits to it; 0 without a session of its own.
    generation: u64,
}

/// The result of a logout. The session is removed here in each case.
#[derive(Serialize, ToSchema)]
#[schema(as = LoggedOut)]
pub(super) struct LoggedOutJson {
    /// The provider.
    provider: String,
    /// The party that it belonged to.
    principal: String,
    /// The end of the grant at the provider: `revoked`, `kept` (as asked), `failed` (the provider did not
    /// confirm), `impossible` (it has no revocation endpoint for this session), or `in_use` (another
    /// session of the account needs it).
    grant: &'static str,
}

/// Lists the sessions that the key covers. No token is in the answer.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", security(("operator_key" = [])),
    responses((status = 200, description = "The sessions, in order of provider and principal.", body = Sessions), ListProblems)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Sessions>, Problem> {
    let caller = api.caller(&headers)?;
    let answer = async {
        let scope = &caller.operator_with(Right::List)?.scope;
        Parameters::of(query.as_deref(), &[])?;
        let statuses = api.broker.status_of_all().await.map_err(|error| Problem::from(&error))?;
        let covered = statuses.into_iter().filter(|status| scope.covers(&status.tenant));
        Ok(Json(Sessions { sessions: covered.map(SessionJson::from).collect() }))
    };
    share.run_request(caller.holding(), Box::pin(answer)).await
}

/// Logs a session out, as `threadkey auth logout` does: it is removed at once, and its grant is revoked
/// (RFC 7009). Where another session here has the same account, nothing is done without
/// `grant`.
#[utoipa::path(
    delete, path = "/v1/sessions/{provider}/{principal}", tag = "sessions", security(("operator_key" = [])),
    params(
        ("provider" = String, Path, description = "The provider.", example = "gitlab", pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$"),
        ("principal" = String, Path, description = "The party that the session belongs to.", example = "user:80351110224678912", pattern = "^(local|(user|guild):[0-9]{1,19})$"),
        ("grant" = Option<super::openapi::GrantChoice>, Query, description = "`keep` leaves the grant at the provider; `revoke` ends it although another session here has the same account."),
    ),
    responses((status = 200, description = "The session is removed.", body = LoggedOutJson), LogoutProblems)
)]
pub(super) async fn log_out(
    State(api): State<Arc<Api>>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    Path((provider, principal)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<LoggedOutJson>, Problem> {
    let caller = api.caller(&headers)?;
    let answer = async {
        let operator = caller.operator()?;
        let tenant = api.operators_tenant(operator, &provider, Some(&principal), Right::Delete)?;
        let mut parameters = Parameters::of(query.as_deref(), &["grant"])?;
        let revocation = match parameters.take("grant").as_deref() {
            None => Revocation::UnlessShared,
            Some("keep") => Revocation::Keep,
            Some("revoke") => Revocation::Revoke,
            Some(_) => return Err(Problem::invalid_request("grant is `keep` or `revoke`")),
        };
        tracing::info!(key = operator.name, %tenant, "an operator key logs a session out");
        let grant = match api.broker.logout(&tenant, revocation).await? {
            LoggedOut::LocallyOnly => "kept",
            LoggedOut::Revoked => "revoked",
            LoggedOut::RevocationFailed => "failed",
            LoggedOut::CannotRevoke(_) => "impossible",
            LoggedOut::InUseElsewhere => "in_use",
        };
        let (provider, principal) = (tenant.provider.to_string(), tenant.principal.to_string());
        Ok(Json(LoggedOutJson { provider, principal, grant }))
    };
    share.run_request(caller.holding(), Box::pin(answer)).await
}

impl From<Status> for SessionJson {
    fn from(status: Status) -> Self {
        let expires_at = match status.access {
            AccessState::Valid(at) | AccessState::Expired(at) => Some(at).filter(|at| is_known_expiry(*at)),
            AccessState::None | AccessState::Rejected => None,
        };
        Self {
            state: status.state().name(),
            provider: status.tenant.provider.to_string(),
            principal: status.tenant.principal.to_string(),
            account: status.account,
            scope: status.scope,
            expires_at,
            issued_at: status.issued_at,
            last_error: status.last_error.map(|(code, ..)| code),
            pending_until: status.pending_until,
            generation: status.generation,
        }
    }
}
