//! Granted scopes compared with the requested ones, and with those that a resource demands.
//!
//! Providers write a granted scope in other words than the requested one. The comparison is lenient,
//! because a wrong warning at each sign-in would hide the right ones.

use super::Session;
use crate::ids::UnixTime;

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

// === impl Session ===

impl Session {
    /// Returns the demanded scopes that a sign-in at this moment requests.
    pub fn demanded_scopes(&self, now: UnixTime) -> Vec<String> {
        let recent = self.demanded.as_ref().and_then(|demanded| demanded.recent(now));
        recent.unwrap_or_default().scopes
    }

    /// Returns the granted scopes, as far as the provider names them.
    pub fn granted_scopes(&self) -> Vec<String> {
        self.scope.as_deref().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// Takes over the demands on the session before, if both are of one issuer.
    pub(super) fn take_demands_of(&mut self, before: Option<&Self>) {
        let before = before.filter(|before| before.binding.issuer == self.binding.issuer);
        let recent = before.and_then(|before| before.demanded.as_ref()?.recent(self.issued_at));
        let granted = self.granted_scopes();
        self.demanded = recent.map(|mut demanded| {
            demanded.scopes.retain(|scope| !granted.contains(scope));
            demanded
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::Lineage,
        secret::IdToken,
        session::{Change, Demanded, Entry, apply, test_session},
    };

    const NOW: UnixTime = 1_795_358_672;

    fn scopes(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

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

    #[test]
    fn a_new_sign_in_takes_over_what_it_was_not_granted_and_the_dates() {
        let mut before = test_session(NOW, 3600);
        before.demanded = Demanded::default().with(&scopes("write admin"), NOW).expect("is in the limits");
        let mut after = test_session(NOW + 60, 3600);
        after.scope = Some("read write".into());
        after.take_demands_of(Some(&before));
        assert_eq!(after.demanded, Some(Demanded { scopes: scopes("admin"), at: vec![NOW] }));
        after.issued_at = NOW + 3600;
        after.take_demands_of(Some(&before));
        assert_eq!(after.demanded, None, "an hour is over");
        after.issued_at = NOW + 60;
        after.binding.issuer = Some("https://other.example".into());
        after.take_demands_of(Some(&before));
        assert_eq!(after.demanded, None, "another server demanded them");
    }

    #[test]
    fn a_demand_changes_the_session_that_it_was_made_for_alone() {
        let session = test_session(NOW, 3600);
        let demand = |lineage| Change::Demand { lineage, scopes: scopes("write") };
        let mut entry = Entry { session: Some(session.clone()), ..Entry::default() };
        assert!(!apply(&mut entry, demand(Lineage([9; 16])), NOW).took_effect());
        assert!(apply(&mut entry, demand(session.lineage), NOW).took_effect());
        let after = entry.session.expect("is there");
        assert_eq!(after.demanded_scopes(NOW + 3599), ["write"]);
        assert!(after.demanded_scopes(NOW + 3600).is_empty());
    }
}
