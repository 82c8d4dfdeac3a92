//! How sessions stand, as text and as JSON: access token, refresh token and last error apart.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Exit, Failure, words};
use crate::{
    broker::{AccessState, RefreshState, Status},
    session::RetryKind,
    sys::clock::UnixTime,
};

#[derive(Serialize)]
struct StatusDto<'a> {
    provider: &'a str,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    access_token: AccessDto,
    refresh_token: RefreshDto<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ErrorDto<'a>>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_until: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undecided: Option<UndecidedDto<'a>>,
    generation: u64,
}

#[derive(Serialize)]
struct UndecidedDto<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    /// Unix seconds.
    until: i64,
}

#[derive(Serialize)]
struct AccessDto {
    state: &'static str,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Serialize)]
struct RefreshDto<'a> {
    state: &'static str,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorDto<'a> {
    code: &'a str,
    kind: &'static str,
    /// Unix seconds.
    at: i64,
}

/// All of it, as one line of JSON.
pub(super) fn json(all: &[Status]) -> Result<String, Failure> {
    let all: Vec<_> = all.iter().map(dto).collect();
    let text = serde_json::to_string(&all)
        .map_err(|e| Failure::new(Exit::Internal, format!("the result cannot be written: {e}")))?;
    Ok(text + "\n")
}

fn dto(status: &Status) -> StatusDto<'_> {
    StatusDto {
        provider: status.tenant.provider.as_str(),
        principal: status.tenant.principal.to_string(),
        account: status.account.as_deref(),
        access_token: access(status.access),
        refresh_token: refresh(&status.refresh),
        last_error: status.last_error.as_ref().map(|(code, kind, at)| ErrorDto {
            code,
            kind: kind_word(*kind),
            at: *at,
        }),
        pending_until: status.pending_until,
        undecided: status
            .undecided
            .as_ref()
            .map(|undecided| UndecidedDto { account: undecided.account.as_deref(), until: undecided.until }),
        generation: status.generation,
    }
}

fn access(state: AccessState) -> AccessDto {
    let (state, expires_at) = match state {
        AccessState::None => ("none", None),
        AccessState::Valid(until) => ("valid", Some(until)),
        AccessState::Expired(at) => ("expired", Some(at)),
        AccessState::Rejected => ("rejected", None),
    };
    AccessDto { state, expires_at }
}

fn refresh(state: &RefreshState) -> RefreshDto<'_> {
    let plain = |state| RefreshDto { state, not_before: None, code: None };
    match state {
        RefreshState::None => plain("none"),
        RefreshState::Ready => plain("ready"),
        RefreshState::HeldBack(until) => RefreshDto { not_before: Some(*until), ..plain("held_back") },
        RefreshState::Uncertain(code) => RefreshDto { code: Some(code), ..plain("uncertain") },
        RefreshState::Ended(code) => RefreshDto { code: Some(code), ..plain("ended") },
    }
}

fn kind_word(kind: RetryKind) -> &'static str {
    match kind {
        RetryKind::Unspent => "unspent",
        RetryKind::Ambiguous => "ambiguous",
        RetryKind::Misconfigured => "misconfigured",
    }
}

/// For people: one block per session.
pub(super) fn text(all: &[Status], now: UnixTime) -> String {
    let mut text = String::new();
    for status in all {
        let account = status.account.as_deref().map(|a| format!("  {a}")).unwrap_or_default();
        let _ = writeln!(text, "{}{account}", status.tenant);
        // A sign-in under way has no tokens to speak of.
        if status.access != AccessState::None {
            let _ = writeln!(text, "  access token   {}", access_words(status.access, now));
            let _ = writeln!(text, "  refresh token  {}", refresh_words(&status.refresh, now));
        }
        if let Some((code, kind, at)) = &status.last_error {
            let ago = span(now.saturating_sub(*at));
            let _ = writeln!(text, "  last error     {code} ({}), {ago} ago", kind_word(*kind));
        }
        if let Some(until) = status.pending_until {
            let left = span(until.saturating_sub(now));
            let _ = writeln!(text, "  sign-in        under way, open for {left}");
        }
        if let Some(undecided) = &status.undecided {
            let left = span(undecided.until.saturating_sub(now));
            let account = undecided.account.as_deref().unwrap_or("another account");
            let _ = writeln!(text, "  sign-in        as {account}, waits for your choice for {left}:");
            let _ = writeln!(text, "                 {}", words::commands(&undecided.tenant));
        }
    }
    text
}

fn access_words(state: AccessState, now: UnixTime) -> String {
    match state {
        AccessState::None => "none".into(),
        AccessState::Valid(until) => format!("valid for {}", span(until.saturating_sub(now))),
        AccessState::Expired(at) => format!("expired {} ago", span(now.saturating_sub(at))),
        AccessState::Rejected => "rejected by a resource before its time".into(),
    }
}

fn refresh_words(state: &RefreshState, now: UnixTime) -> String {
    match state {
        RefreshState::None => "none: sign in again when the access token ends".into(),
        RefreshState::Ready => "ready".into(),
        RefreshState::HeldBack(until) => {
            format!("held back for {}", span(until.saturating_sub(now)))
        }
        RefreshState::Uncertain(code) => format!("may have been spent without an answer ({code})"),
        RefreshState::Ended(code) => format!("ended by the provider ({code}): sign in again"),
    }
}

/// Seconds in the largest two units that say something.
fn span(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_795_358_672;

    fn status() -> Status {
        Status {
            tenant: "acme/local".parse().expect("a tenant"),
            account: Some("alice@example.com".into()),
            access: AccessState::Expired(NOW - 90),
            refresh: RefreshState::HeldBack(NOW + 30),
            last_error: Some(("http_503".into(), RetryKind::Unspent, NOW - 5)),
            pending_until: None,
            undecided: None,
            generation: 7,
        }
    }

    #[test]
    fn access_refresh_and_last_error_are_told_apart() {
        assert_eq!(
            text(&[status()], NOW),
            "acme/local  alice@example.com\n  access token   expired 1 min 30 s ago\n  \
             refresh token  held back for 30 s\n  last error     http_503 (unspent), 5 s ago\n"
        );
        assert_eq!(
            json(&[status()]).expect("is JSON"),
            "[{\"provider\":\"acme\",\"principal\":\"local\",\"account\":\"alice@example.com\",\
             \"access_token\":{\"state\":\"expired\",\"expires_at\":1795358582},\
             \"refresh_token\":{\"state\":\"held_back\",\"not_before\":1795358702},\
             \"last_error\":{\"code\":\"http_503\",\"kind\":\"unspent\",\"at\":1795358667},\"generation\":7}]\n"
        );
    }

    #[test]
    fn a_sign_in_under_way_is_shown_without_tokens_that_there_are_none_of() {
        let under_way = Status {
            account: None,
            access: AccessState::None,
            refresh: RefreshState::None,
            last_error: None,
            pending_until: Some(NOW + 870),
            generation: 0,
            ..status()
        };
        assert_eq!(text(&[under_way], NOW), "acme/local\n  sign-in        under way, open for 14 min 30 s\n");
    }

    #[test]
    fn a_sign_in_that_waits_for_a_choice_is_shown_with_what_decides() {
        let mut status = status();
        status.tenant = "acme/user:5".parse().expect("a tenant");
        status.undecided = Some(words::tests::undecided(&status.tenant, NOW + 720));
        let shown = text(std::slice::from_ref(&status), NOW);
        let lines: Vec<_> = shown.lines().skip(4).collect();
        assert_eq!(
            lines,
            [
                "  sign-in        as bob@example.com, waits for your choice for 12 min 0 s:",
                "                 `threadkey auth switch acme --as user:5` or `threadkey auth keep acme --as user:5`",
            ]
        );
        let json = json(&[status]).expect("is JSON");
        let part = "\"undecided\":{\"account\":\"bob@example.com\",\"until\":1795359392},\"generation\":7}";
        assert!(json.contains(part), "{json}");
    }
}
