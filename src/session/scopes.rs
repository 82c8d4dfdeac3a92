//! Granted scopes compared with the requested ones.
//!
//! Providers write a granted scope in other words than the requested one. The comparison is lenient,
//! because a wrong warning at each sign-in would hide the right ones.

use super::Session;

/// Scopes that ask for a token of the answer. Providers often leave them out of `scope`.
const REFRESH: [&str; 2] = ["offline_access", "offline"];

/// The prefixes under which providers write a short scope as a URL.
const LONG_FORMS: [&str; 2] = ["https://www.googleapis.com/auth/userinfo.", "https://graph.microsoft.com/"];

/// Returns the requested scopes that the session does not have.
pub(super) fn missing(requested: &[String], session: &Session) -> Vec<String> {
    let Some(scope) = &session.scope else { return Vec::new() };
    let granted: Vec<&str> = scope.split([' ', ',']).filter(|scope| !scope.is_empty()).collect();
    let is_granted = |asked: &String| {
        granted.iter().any(|granted| covers(granted, asked))
            || session.refresh_token.is_some() && REFRESH.contains(&asked.as_str())
            || session.id_token.is_some() && asked == "openid"
    };
    requested.iter().filter(|asked| !is_granted(asked)).cloned().collect()
}

/// Whether the granted scope includes the requested one: in other letters, as a URL, or as the
/// family (`repo`) of a part (`repo:status`).
fn covers(granted: &str, asked: &str) -> bool {
    let short = |scope: &str| {
        let short = LONG_FORMS.iter().find_map(|prefix| scope.strip_prefix(prefix));
        short.unwrap_or(scope).to_ascii_lowercase()
    };
    let (granted, asked) = (short(granted), short(asked));
    granted == asked || asked.strip_prefix(&granted).is_some_and(|part| part.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use crate::{secret::IdToken, session::test_session};

    fn missing_of(granted: Option<&str>, requested: &str) -> Vec<String> {
        let mut session = test_session(0, 3600);
        session.scope = granted.map(str::to_owned);
        let requested: Vec<_> = requested.split(' ').map(str::to_owned).collect();
        session.missing_scopes(&requested)
    }

    #[test]
    fn scopes_that_the_provider_did_not_grant_are_missing() {
        assert_eq!(missing_of(Some("read"), "read write"), ["write"]);
        assert_eq!(missing_of(Some("read,gist"), "read gist admin:org"), ["admin:org"]);
        assert_eq!(missing_of(Some("repo:status"), "repo"), ["repo"]);
    }

    #[test]
    fn no_scope_in_the_answer_means_that_all_were_granted() {
        assert!(missing_of(None, "read write").is_empty());
    }

    #[test]
    fn a_granted_scope_in_the_providers_own_form_is_not_missing() {
        let google = "https://www.googleapis.com/auth/userinfo.email openid";
        assert!(missing_of(Some(google), "openid email").is_empty());
        assert!(missing_of(Some("https://graph.microsoft.com/User.Read"), "user.read").is_empty());
        assert!(missing_of(Some("repo"), "repo:status").is_empty());
    }

    #[test]
    fn a_refresh_token_and_an_id_token_stand_for_their_scopes() {
        assert!(missing_of(Some("read"), "read offline_access").is_empty());
        let mut session = test_session(0, 3600);
        let requested = ["openid".to_owned(), "offline_access".to_owned()];
        session.refresh_token = None;
        assert_eq!(session.missing_scopes(&requested), requested);
        session.id_token = Some(IdToken::new("id"));
        assert_eq!(session.missing_scopes(&requested), ["offline_access"]);
    }
}
