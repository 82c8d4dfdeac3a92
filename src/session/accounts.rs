//! The account of a session: its identity at the issuer, and whether two sessions have the same one.
//!
//! Invariant: one function compares accounts, [`Session::accounts_with`]. The choice between two
//! accounts, a logout's question and the revocation of dropped grants all ask it.

use super::{Identity, Session};

/// The accounts of two sessions, compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounts {
    /// They are the same.
    Same,
    /// They are different.
    Different,
    /// One of them is unknown.
    OneUnknown,
    /// Neither is known.
    BothUnknown,
}

// === impl Accounts ===

impl Accounts {
    /// Whether they may be the same. An unknown account may be any.
    pub fn may_be_same(self) -> bool {
        self != Self::Different
    }
}

// === impl Session ===

impl Session {
    /// Compares the accounts of two sessions: by issuer and subject if both sessions have a subject, else
    /// by the names in the provider's words. Two spellings of a name count as two accounts.
    ///
    /// Where an issuer is unknown, one token endpoint stands for one issuer. Equal subjects at two of
    /// them prove nothing, so the names decide.
    pub fn accounts_with(&self, other: &Self) -> Accounts {
        let same = |is_same| if is_same { Accounts::Same } else { Accounts::Different };
        if let (Some(own), Some(others)) = (&self.subject, &other.subject) {
            match (&self.binding.issuer, &other.binding.issuer) {
                _ if own != others => return Accounts::Different,
                (Some(own), Some(others)) => return same(own == others),
                _ if self.binding.token_endpoint == other.binding.token_endpoint => return Accounts::Same,
                _ => {}
            }
        }
        match (&self.account, &other.account) {
            (Some(own), Some(others)) => same(own == others),
            (None, None) => Accounts::BothUnknown,
            _ => Accounts::OneUnknown,
        }
    }

    /// Whether only the subject names the account, so that users read a number in place of a name.
    pub fn has_no_readable_name(&self) -> bool {
        self.account.is_none() || self.account == self.subject
    }

    /// Takes over the account that a userinfo answer names: the name in place of one that no user can
    /// read, and the subject if the session has none.
    pub fn take_account(&mut self, name: String, subject: Option<String>) {
        if self.has_no_readable_name() {
            self.account = Some(name);
        }
        self.subject = self.subject.take().or(subject);
    }

    /// Whether an accepted id token names the account. Otherwise a userinfo answer may have named it,
    /// and an id token takes precedence over that.
    pub fn has_proved_subject(&self) -> bool {
        self.subject.is_some() && self.id_token.is_some()
    }

    /// Takes over the identity that an id token of its grant names.
    pub fn identify(&mut self, identity: Identity) {
        self.binding.issuer = Some(identity.issuer);
        self.subject = Some(identity.subject);
        self.id_token = Some(identity.id_token);
    }

    /// Whether this is the identity of the session.
    pub(super) fn has_identity(&self, identity: &Identity) -> bool {
        self.binding.issuer.as_ref() == Some(&identity.issuer)
            && self.subject.as_ref() == Some(&identity.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::test_session;

    fn session(issuer: Option<&str>, subject: Option<&str>, account: Option<&str>) -> Session {
        let mut session = test_session(1_795_358_672, 3600);
        session.binding.issuer = issuer.map(str::to_owned);
        session.subject = subject.map(str::to_owned);
        session.account = account.map(str::to_owned);
        session
    }

    #[test]
    fn accounts_are_compared_by_issuer_and_subject_or_else_by_name() {
        let one = Some("https://one.example");
        let two = Some("https://two.example");
        let (a, b) = (Some("a"), Some("b"));
        for (own, other, expected) in [
            // Both sessions have issuer and subject: the names have no effect.
            ((one, a, Some("alice")), (one, a, Some("renamed")), Accounts::Same),
            ((one, a, Some("alice")), (one, b, Some("alice")), Accounts::Different),
            ((one, a, Some("alice")), (two, a, Some("alice")), Accounts::Different),
            ((one, a, None), (one, a, None), Accounts::Same),
            ((one, a, None), (one, b, None), Accounts::Different),
            // One of them lacks the subject: the names decide.
            ((one, a, Some("alice")), (one, None, Some("alice")), Accounts::Same),
            ((one, a, Some("alice")), (one, None, Some("bob")), Accounts::Different),
            ((one, a, Some("alice")), (one, None, None), Accounts::OneUnknown),
            ((one, a, None), (one, None, Some("alice")), Accounts::OneUnknown),
            ((one, a, None), (one, None, None), Accounts::BothUnknown),
            // Without an issuer, the server is known by its token endpoint.
            ((None, a, Some("alice")), (one, a, Some("bob")), Accounts::Same),
            ((None, a, Some("alice")), (None, b, Some("alice")), Accounts::Different),
            ((None, a, Some("alice")), (one, b, Some("alice")), Accounts::Different),
            ((None, a, None), (None, b, None), Accounts::Different),
            ((None, a, None), (None, a, None), Accounts::Same),
            ((None, None, Some("alice")), (None, None, Some("alice")), Accounts::Same),
            ((None, None, Some("alice")), (None, None, Some("Alice")), Accounts::Different),
        ] {
            let make = |(issuer, subject, account)| session(issuer, subject, account);
            assert_eq!(make(own).accounts_with(&make(other)), expected, "{own:?} {other:?}");
            assert_eq!(make(other).accounts_with(&make(own)), expected, "{other:?} {own:?}");
        }
        // The same number at another server proves nothing, so the names decide.
        for (name, expected) in [("alice", Accounts::Same), ("bob", Accounts::Different)] {
            let mut elsewhere = session(None, a, Some(name));
            elsewhere.binding.token_endpoint = "https://other.example/token".into();
            assert_eq!(session(one, a, Some("alice")).accounts_with(&elsewhere), expected, "{name}");
        }
        let unknown = [Accounts::Same, Accounts::OneUnknown, Accounts::BothUnknown];
        assert!(unknown.into_iter().all(Accounts::may_be_same) && !Accounts::Different.may_be_same());
    }
}
