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
    /// Compares the accounts of two sessions: by issuer and subject if both sessions have them, else
    /// by the names in the provider's words. Two spellings of a name count as two accounts.
    pub fn accounts_with(&self, other: &Self) -> Accounts {
        let same = |is_same| if is_same { Accounts::Same } else { Accounts::Different };
        if let (Some(own), Some(others)) = (self.issuer_and_subject(), other.issuer_and_subject()) {
            return same(own == others);
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

    /// Takes over the identity that an id token of its grant names.
    pub fn identify(&mut self, identity: Identity) {
        self.binding.issuer = Some(identity.issuer);
        self.subject = Some(identity.subject);
        self.id_token = Some(identity.id_token);
    }

    /// Whether this is the identity of the session.
    pub(super) fn has_identity(&self, identity: &Identity) -> bool {
        self.issuer_and_subject() == Some((&identity.issuer, &identity.subject))
    }

    fn issuer_and_subject(&self) -> Option<(&str, &str)> {
        Some((self.binding.issuer.as_deref()?, self.subject.as_deref()?))
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
            // A subject counts only with its issuer.
            ((None, a, Some("alice")), (one, a, Some("bob")), Accounts::Different),
            ((None, a, None), (None, b, None), Accounts::BothUnknown),
            ((None, None, Some("alice")), (None, None, Some("alice")), Accounts::Same),
            ((None, None, Some("alice")), (None, None, Some("Alice")), Accounts::Different),
        ] {
            let make = |(issuer, subject, account)| session(issuer, subject, account);
            assert_eq!(make(own).accounts_with(&make(other)), expected, "{own:?} {other:?}");
            assert_eq!(make(other).accounts_with(&make(own)), expected, "{other:?} {own:?}");
        }
        let unknown = [Accounts::Same, Accounts::OneUnknown, Accounts::BothUnknown];
        assert!(unknown.into_iter().all(Accounts::may_be_same) && !Accounts::Different.may_be_same());
    }
}
