//! The state of sessions: access token, refresh token and last error separately. `json` has it for
//! programs.

mod json;

use std::fmt::Write as _;

pub(super) use json::json;
use json::{RefreshJson, kind_name, refresh_json};

use super::messages;
use crate::{
    broker::{AccessState, RefreshState, Status},
    session::{LoginEnds, is_known_expiry},
    sys::clock::UnixTime,
};

/// Returns the statuses for a terminal: one block of lines per session.
pub(super) fn text(statuses: &[Status], now: UnixTime) -> String {
    let mut text = String::new();
    for status in statuses {
        let account = status.account.as_deref().map(|a| format!("  {a}")).unwrap_or_default();
        let _ = writeln!(text, "{}{account}", status.tenant);
        if let Some(variable) = &status.environment {
            let _ = writeln!(text, "  environment    {variable}: callers get its token, and no session's");
        }
        if let Some(from) = &status.exchanged_from {
            let _ = writeln!(text, "  exchange       each token comes in return for that of {from}");
        }
        // A sign-in under way has no tokens yet.
        if status.access != AccessState::None {
            let _ = writeln!(text, "  access token   {}", access_text(status.access, now));
            let _ = writeln!(text, "  refresh token  {}", refresh_text(&status.refresh, now));
        }
        if let Some(end) = status.login_ends.absolute {
            let _ = writeln!(text, "  login          {}", end_text(end, "however much it is used", now));
        }
        if let Some(end) = status.login_ends.idle {
            let _ =
                writeln!(text, "  login          {}", end_text(end, "unless it is refreshed before", now));
        }
        if !status.missing_scopes.is_empty() {
            let _ = writeln!(text, "  not granted    {}", status.missing_scopes.join(" "));
        }
        if status.has_unread_answer {
            text.push_str(
                "  unread answer  kept, because it may hold a new token: `threadkey doctor` names its file\n",
            );
        }
        if let Some((code, kind, at)) = &status.last_error {
            let ago = duration_text(now.saturating_sub(*at));
            let _ = writeln!(text, "  last error     {code} ({}), {ago} ago", kind_name(*kind));
        }
        if let Some(refusals) = &status.refusals {
            let ago = duration_text(now.saturating_sub(refusals.since));
            let (times, code) = (refusals.in_words(), &refusals.code);
            let _ = writeln!(
                text,
                "  refused        {times}, first {ago} ago ({code}). If it lasts, sign in again:"
            );
            let _ = writeln!(text, "                 {}", messages::start_command(&status.tenant));
        }
        if let Some(until) = status.pending_until {
            let left = duration_text(until.saturating_sub(now));
            let _ = writeln!(text, "  sign-in        under way, open for {left}");
        }
        if let Some(undecided) = &status.undecided {
            let left = duration_text(undecided.until.saturating_sub(now));
            let account = undecided.account.as_deref().unwrap_or("an unnamed account");
            let _ = writeln!(text, "  sign-in        as {account}, waits for your choice for {left}:");
            let _ = writeln!(text, "                 {}", messages::choice_commands(&undecided.tenant));
        }
    }
    text
}

/// Returns the statuses as a table: one line per session.
pub(super) fn table(statuses: &[Status], now: UnixTime) -> String {
    if statuses.is_empty() {
        return String::new();
    }
    // The column of the ends is only there if one is known.
    let has_ends = statuses.iter().any(|status| status.login_ends != LoginEnds::default());
    let header = ["TENANT", "ACCOUNT", "ACCESS TOKEN", "REFRESH TOKEN", "LOGIN ENDS"].map(str::to_owned);
    let rows = statuses.iter().map(|status| {
        let account = status.account.clone().unwrap_or_else(|| "-".to_owned());
        let (access, refresh) = match (status.access, status.pending_until) {
            _ if status.environment.is_some() => {
                (format!("from {}", status.environment.as_deref().unwrap_or_default()), "-".to_owned())
            }
            _ if status.exchanged_from.is_some() => ("by exchange".to_owned(), "-".to_owned()),
            (AccessState::None, Some(_)) => ("sign-in under way".to_owned(), "-".to_owned()),
            (AccessState::None, None) => ("-".to_owned(), "-".to_owned()),
            (access, _) => (access_text(access, now), refresh_word(&status.refresh)),
        };
        [status.tenant.to_string(), account, access, refresh, first_end(status, now)]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let shown = if has_ends { 5 } else { 4 };
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..shown).map(width).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        text
    })
}

/// The end of a login, and the condition on which it comes.
fn end_text(end: UnixTime, condition: &str, now: UnixTime) -> String {
    if end <= now {
        return format!(
            "has most likely ended {} ago: sign in again",
            duration_text(now.saturating_sub(end))
        );
    }
    format!("ends in {}, {condition}", duration_text(end.saturating_sub(now)))
}

/// The end of a login that comes first, for a table.
fn first_end(status: &Status, now: UnixTime) -> String {
    let LoginEnds { absolute, idle } = status.login_ends;
    let first = absolute.into_iter().chain(idle).min();
    first.map_or_else(|| "-".to_owned(), |end| format!("in {}", duration_text(end.saturating_sub(now))))
}

/// The state of a refresh token in a word, with the code of a trouble.
fn refresh_word(state: &RefreshState) -> String {
    let RefreshJson { state, code, .. } = refresh_json(state);
    code.map_or_else(|| state.to_owned(), |code| format!("{state} ({code})"))
}

fn access_text(state: AccessState, now: UnixTime) -> String {
    match state {
        AccessState::None => "none".into(),
        AccessState::Valid(until) if !is_known_expiry(until) => "valid; the provider names no end".into(),
        AccessState::Valid(until) => format!("valid for {}", duration_text(until.saturating_sub(now))),
        AccessState::Expired(at) => format!("expired {} ago", duration_text(now.saturating_sub(at))),
        AccessState::Rejected => "rejected by a resource before it expired".into(),
    }
}

fn refresh_text(state: &RefreshState, now: UnixTime) -> String {
    match state {
        RefreshState::None => "none: sign in again when the access token expires".into(),
        RefreshState::Ready => "ready".into(),
        RefreshState::HeldBack(until) => {
            format!("held back for {}", duration_text(until.saturating_sub(now)))
        }
        RefreshState::RejectedAgain(until) => format!(
            "ready; the last one brought the rejected access token back, the next one can be forced in {}",
            duration_text(until.saturating_sub(now))
        ),
        RefreshState::Stuck(code) => {
            format!("refused for hours ({code}), most likely ended: sign in again. It is tried once an hour")
        }
        RefreshState::Uncertain(code) => format!("may have been used without an answer ({code})"),
        RefreshState::Withheld => {
            "not sent, because another token endpoint or client is configured (binding_changed): sign in again".into()
        }
        RefreshState::Ended(code) => format!("ended by the provider ({code}): sign in again"),
    }
}

/// Formats seconds in their two largest units.
pub fn duration_text(seconds: i64) -> String {
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
    use crate::session::{Refusals, RetryKind, UNKNOWN_EXPIRY};

    const NOW: UnixTime = 1_795_358_672;

    fn status() -> Status {
        Status {
            tenant: "acme/local".parse().expect("a tenant"),
            account: Some("alice@example.com".into()),
            access: AccessState::Expired(NOW - 90),
            issued_at: None,
            scope: None,
            refresh: RefreshState::HeldBack(NOW + 30),
            last_error: Some(("http_503".into(), RetryKind::Unspent, NOW - 5)),
            refusals: None,
            pending_until: None,
            undecided: None,
            login_ends: LoginEnds::default(),
            missing_scopes: vec![],
            has_unread_answer: false,
            generation: 7,
            environment: None,
            exchanged_from: None,
        }
    }

    #[test]
    fn a_status_shows_access_token_refresh_token_and_last_error_separately() {
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
    fn a_status_shows_since_when_and_how_often_a_provider_refuses_and_the_next_step() {
        let refusals = Refusals { code: "http_400".into(), since: NOW - 7500, times: 12, notified_at: None };
        let refused = Status { refusals: Some(refusals), ..status() };
        let shown = text(std::slice::from_ref(&refused), NOW);
        assert!(
            shown.ends_with(
                "  refused        12 times, first 2 h 5 min ago (http_400). If it lasts, sign in again:\n                 `threadkey auth start acme`\n"
            ),
            "{shown}"
        );
        let json = json(&[refused]).expect("is JSON");
        assert!(json.contains(r#""refused":{"code":"http_400","times":12,"since":1795351172}"#), "{json}");
    }

    #[test]
    fn an_access_token_without_a_known_end_is_shown_as_such_in_words() {
        let lasting = Status { access: AccessState::Valid(UNKNOWN_EXPIRY), ..status() };
        let shown = text(std::slice::from_ref(&lasting), NOW);
        assert!(shown.contains("  access token   valid; the provider names no end\n"), "{shown}");
        let json = json(&[lasting]).expect("is JSON");
        assert!(json.contains("{\"state\":\"valid\",\"expires_at\":253402300799}"), "{json}");
    }

    #[test]
    fn the_ends_of_a_login_are_shown_with_their_conditions() {
        let ends = LoginEnds { absolute: Some(NOW + 27 * 86_400), idle: Some(NOW + 7 * 86_400 + 7200) };
        let status = Status { login_ends: ends, ..status() };
        let shown = text(std::slice::from_ref(&status), NOW);
        assert!(shown.contains("  login          ends in 27 d 0 h, however much it is used\n"), "{shown}");
        assert!(
            shown.contains("  login          ends in 7 d 2 h, unless it is refreshed before\n"),
            "{shown}"
        );
        assert!(table(std::slice::from_ref(&status), NOW).ends_with("  in 7 d 2 h\n"));
        let past = text(std::slice::from_ref(&status), NOW + 8 * 86_400);
        assert!(
            past.contains("  login          has most likely ended 22 h 0 min ago: sign in again\n"),
            "{past}"
        );
        let json = json(&[status]).expect("is JSON");
        assert!(json.contains("\"login_ends_at\":1797691472,\"idle_ends_at\":1795970672"), "{json}");
    }

    #[test]
    fn a_sign_in_under_way_is_shown_without_tokens() {
        let under_way = Status {
            account: None,
            access: AccessState::None,
            issued_at: None,
            scope: None,
            refresh: RefreshState::None,
            last_error: None,
            refusals: None,
            pending_until: Some(NOW + 870),
            generation: 0,
            ..status()
        };
        assert_eq!(text(&[under_way], NOW), "acme/local\n  sign-in        under way, open for 14 min 30 s\n");
    }

    #[test]
    fn a_sign_in_that_waits_for_a_choice_is_shown_with_the_commands_that_choose() {
        let mut status = status();
        status.tenant = "acme/user:5".parse().expect("a tenant");
        status.undecided = Some(messages::tests::undecided(&status.tenant, NOW + 720));
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
