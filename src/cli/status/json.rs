//! The state of sessions as JSON.

use serde::Serialize;

use crate::{
    broker::{AccessState, RefreshState, Status},
    cli::{Failure, json_line},
    session::RetryKind,
};

#[derive(Serialize)]
struct StatusJson<'a> {
    provider: &'a str,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    access_token: AccessJson,
    refresh_token: RefreshJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ErrorJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedJson<'a>>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_until: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undecided: Option<UndecidedJson<'a>>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    login_ends_at: Option<i64>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ends_at: Option<i64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    missing_scopes: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unread_answer: bool,
    generation: u64,
    /// The variable whose token callers get.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    /// The tenant whose token is exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanged_from: Option<String>,
}

#[derive(Serialize)]
struct UndecidedJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    /// Unix seconds.
    until: i64,
}

#[derive(Serialize)]
struct AccessJson {
    state: &'static str,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct RefreshJson<'a> {
    pub(super) state: &'static str,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorJson<'a> {
    code: &'a str,
    kind: &'static str,
    /// Unix seconds.
    at: i64,
}

#[derive(Serialize)]
struct RefusedJson<'a> {
    code: &'a str,
    times: u32,
    /// Unix seconds.
    since: i64,
}

/// Returns the statuses as one line of JSON.
pub(in crate::cli) fn json(statuses: &[Status]) -> Result<String, Failure> {
    json_line(&statuses.iter().map(status_json).collect::<Vec<_>>())
}

fn status_json(status: &Status) -> StatusJson<'_> {
    StatusJson {
        provider: status.tenant.provider.as_str(),
        principal: status.tenant.principal.to_string(),
        account: status.account.as_deref(),
        access_token: access_json(status.access),
        refresh_token: refresh_json(&status.refresh),
        last_error: status.last_error.as_ref().map(|(code, kind, at)| ErrorJson {
            code,
            kind: kind_name(*kind),
            at: *at,
        }),
        refused: status.refusals.as_ref().map(|refusals| RefusedJson {
            code: &refusals.code,
            times: refusals.times,
            since: refusals.since,
        }),
        pending_until: status.pending_until,
        undecided: status
            .undecided
            .as_ref()
            .map(|undecided| UndecidedJson { account: undecided.account.as_deref(), until: undecided.until }),
        login_ends_at: status.login_ends.absolute,
        idle_ends_at: status.login_ends.idle,
        missing_scopes: &status.missing_scopes,
        unread_answer: status.has_unread_answer,
        generation: status.generation,
        environment: status.environment.as_deref(),
        exchanged_from: status.exchanged_from.as_ref().map(ToString::to_string),
    }
}

fn access_json(state: AccessState) -> AccessJson {
    let (state, expires_at) = match state {
        AccessState::None => ("none", None),
        AccessState::Valid(until) => ("valid", Some(until)),
        AccessState::Expired(at) => ("expired", Some(at)),
        AccessState::Rejected => ("rejected", None),
    };
    AccessJson { state, expires_at }
}

pub(super) fn refresh_json(state: &RefreshState) -> RefreshJson<'_> {
    let plain = |state| RefreshJson { state, not_before: None, code: None };
    match state {
        RefreshState::None => plain("none"),
        RefreshState::Ready => plain("ready"),
        RefreshState::HeldBack(until) => RefreshJson { not_before: Some(*until), ..plain("held_back") },
        RefreshState::RejectedAgain(until) => {
            RefreshJson { not_before: Some(*until), ..plain("rejected_again") }
        }
        RefreshState::Stuck(code) => RefreshJson { code: Some(code), ..plain("stuck") },
        RefreshState::Uncertain(code) => RefreshJson { code: Some(code), ..plain("uncertain") },
        RefreshState::Withheld => RefreshJson { code: Some("binding_changed"), ..plain("withheld") },
        RefreshState::Ended(code) => RefreshJson { code: Some(code), ..plain("ended") },
    }
}

/// Returns the word of a kind of failure.
pub(super) fn kind_name(kind: RetryKind) -> &'static str {
    match kind {
        RetryKind::Unspent => "unspent",
        RetryKind::Ambiguous => "ambiguous",
        RetryKind::Misconfigured => "misconfigured",
        RetryKind::Stuck => "stuck",
        RetryKind::RejectedAgain => "rejected_again",
    }
}
