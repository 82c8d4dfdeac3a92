//! One tenant's session: the record, and the pure decisions on it.
//!
//! Nothing here reads a clock, a file or the network. [`decide`] says what a request for a token needs,
//! [`apply`] is the one place that says how the record may change, and [`journal`] holds the words in which a refresh
//! under way is written down. The store serialises these types; the broker acts on the decisions.

mod change;
mod decide;
pub mod journal;
mod lifetimes;
mod trouble;

pub use change::{Applied, Change, apply};
pub use decide::{Decision, adopts, decide, refresh_due_at};
pub use lifetimes::{
    CHOICE_LIFETIME, FORCED_REFRESH_INTERVAL, MAX_BACKOFF, PENDING_LIFETIME, SWEEP_GRACE, seconds,
};
pub use trouble::{Ended, Rejected, Retry, RetryKind};

use std::time::Duration;

use lifetimes::is_within;

use crate::{
    ids::{Lineage, Principal, UnixTime},
    secret::{AccessToken, CodeVerifier, Fingerprint, Nonce, RefreshToken, State},
};

/// A tenant's part of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The grant, if there is one.
    pub session: Option<Session>,
    /// The sign-in under way, if there is one.
    pub pending: Option<Pending>,
    /// A finished sign-in as another account than the session's, until its person has chosen. Nothing of it is used, renewed
    /// or shown before.
    pub candidate: Option<Session>,
}

/// One tenant's grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The access token to hand out.
    pub access_token: AccessToken,
    /// The refresh token; some grants have none.
    pub refresh_token: Option<RefreshToken>,
    /// RFC 6749 §7.1, as the provider spelled it; usually `Bearer`.
    pub token_type: String,
    /// The granted scope, space separated (RFC 6749 §3.3).
    pub scope: Option<String>,
    /// When the access token was received.
    pub issued_at: UnixTime,
    /// When the access token ends.
    pub expires_at: UnixTime,
    /// Which grant this is.
    pub lineage: Lineage,
    /// Counts the commits within the lineage, from 1.
    pub generation: u64,
    /// Whose login it is, in the provider's words.
    pub account: Option<String>,
    /// Where its refresh token may go.
    pub binding: Binding,
    /// An access token that a resource refused before its time.
    pub rejected: Option<Rejected>,
    /// Refreshes are held back until then.
    pub retry: Option<Retry>,
    /// The provider's verdict that the grant is over.
    pub ended: Option<Ended>,
}

/// To whom a refresh token belongs: it is sent nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The issuer, where it is known (RFC 8414 §2).
    pub issuer: Option<String>,
    /// The token endpoint it came from.
    pub token_endpoint: String,
    /// The client it was issued to.
    pub client_id: String,
    /// The resource it was requested for (RFC 8707).
    pub resource: Option<String>,
}

/// A started sign-in, kept until it is finished, cancelled or [`PENDING_LIFETIME`] old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The PKCE verifier (RFC 7636 §4.1).
    pub verifier: CodeVerifier,
    /// The `state` that the callback must bring back.
    pub state: State,
    /// The OpenID `nonce`, when `openid` was asked for.
    pub nonce: Option<Nonce>,
    /// The redirect URI of the authorization request; the exchange repeats it.
    pub redirect_uri: String,
    /// When it was started.
    pub created_at: UnixTime,
    /// Who started it; nobody else can finish it.
    pub started_by: Principal,
    /// The session that it would replace.
    pub lineage_seen: Option<Lineage>,
    /// Where the code will be exchanged.
    pub binding: Binding,
    /// The scopes asked for.
    pub scopes: Vec<String>,
}

impl Pending {
    /// When it can no longer be finished.
    pub fn expires_at(&self) -> UnixTime {
        self.created_at.saturating_add(seconds(PENDING_LIFETIME))
    }

    /// Whether it can still be finished. One from the future (more than its lifetime ahead) or from before 1970
    /// comes from a broken clock and counts as old.
    pub fn is_live(&self, now: UnixTime) -> bool {
        is_within(self.created_at, PENDING_LIFETIME, Duration::ZERO, now)
    }

    /// Whether a write drops it: [`SWEEP_GRACE`] after it could last be finished, so that an exchange which was begun in time
    /// finds it when it comes back.
    pub fn is_swept(&self, now: UnixTime) -> bool {
        !is_within(self.created_at, PENDING_LIFETIME, SWEEP_GRACE, now)
    }
}

/// Which state of which grant somebody has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The grant.
    pub lineage: Lineage,
    /// Its state.
    pub generation: u64,
}

/// Exactly what a refresh request was sent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The grant and its state.
    pub seen: Seen,
    /// The refresh token that was sent.
    pub fingerprint: Fingerprint,
}

/// What a provider's successful answer carries (RFC 6749 §5.1), read leniently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The new access token.
    pub access_token: AccessToken,
    /// The new refresh token; absent means that the old one stays.
    pub refresh_token: Option<RefreshToken>,
    /// `Bearer` when the provider left it out.
    pub token_type: String,
    /// The scope, if it was named.
    pub scope: Option<String>,
    /// The access token's lifetime.
    pub expires_in: Duration,
    /// Whose login it is, where the answer tells.
    pub account: Option<String>,
}

impl Grant {
    /// What is left of it when its answer is this old: it may have waited in a journal.
    #[must_use]
    pub fn aged(self, age: Duration) -> Self {
        Self { expires_in: self.expires_in.saturating_sub(age), ..self }
    }
}

impl Session {
    /// The session that a finished sign-in begins.
    pub fn begin(lineage: Lineage, grant: Grant, binding: Binding, now: UnixTime) -> Self {
        Self {
            access_token: grant.access_token,
            refresh_token: grant.refresh_token,
            token_type: grant.token_type,
            scope: grant.scope,
            issued_at: now,
            expires_at: now.saturating_add(seconds(grant.expires_in)),
            lineage,
            generation: 1,
            account: grant.account,
            binding,
            rejected: None,
            retry: None,
            ended: None,
        }
    }

    /// Whether it goes on, and whose login it is is known: then a sign-in as somebody else has to be chosen.
    pub fn is_somebodys(&self) -> bool {
        self.account.is_some() && self.verdict().is_none()
    }

    /// Of a candidate: when it can no longer be chosen.
    pub fn choice_ends_at(&self) -> UnixTime {
        self.issued_at.saturating_add(seconds(CHOICE_LIFETIME))
    }

    /// Of a candidate: whether it can still be chosen. A broken clock's counts as over, as with a started sign-in.
    pub fn awaits_choice(&self, now: UnixTime) -> bool {
        is_within(self.issued_at, CHOICE_LIFETIME, Duration::ZERO, now)
    }

    /// Of a candidate: whether a write drops it, [`SWEEP_GRACE`] after it could last be chosen.
    pub fn is_swept(&self, now: UnixTime) -> bool {
        !is_within(self.issued_at, CHOICE_LIFETIME, SWEEP_GRACE, now)
    }

    /// Which state this is.
    pub fn seen(&self) -> Seen {
        Seen { lineage: self.lineage, generation: self.generation }
    }

    /// What a refresh of this state would spend; `None` without a refresh token.
    pub fn to_spend(&self) -> Option<Spent> {
        let token = self.refresh_token.as_ref()?;
        Some(Spent { seen: self.seen(), fingerprint: token.fingerprint() })
    }

    /// The access token's whole lifetime.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(self.issued_at).try_into().unwrap_or(0))
    }

    /// What is left of the access token's life; zero when it is over.
    pub fn remaining(&self, now: UnixTime) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(now).try_into().unwrap_or(0))
    }

    /// Whether the current access token is the one that a resource refused.
    pub fn is_rejected(&self) -> bool {
        self.rejected.as_ref().is_some_and(|r| r.fingerprint.matches(&self.access_token.fingerprint()))
    }

    /// Whether the access token still works, as far as anybody knows.
    pub fn is_usable(&self, now: UnixTime) -> bool {
        !self.remaining(now).is_zero() && !self.is_rejected()
    }

    /// The verdict on the current refresh token, if there is one; a verdict on an older token says nothing.
    pub fn verdict(&self) -> Option<&Ended> {
        let ended = self.ended.as_ref()?;
        match &self.refresh_token {
            Some(token) if !ended.fingerprint.matches(&token.fingerprint()) => None,
            _ => Some(ended),
        }
    }
}

/// A session for tests: generation 7, as RFC 6749 would have it.
#[cfg(test)]
pub(crate) fn test_session(issued_at: UnixTime, lifetime: i64) -> Session {
    let grant = Grant {
        access_token: AccessToken::new("access-7"),
        refresh_token: Some(RefreshToken::new("refresh-7")),
        token_type: "Bearer".into(),
        scope: Some("read".into()),
        expires_in: Duration::from_secs(lifetime.try_into().expect("a lifetime is not negative")),
        account: Some("alice@example.com".into()),
    };
    let binding = Binding {
        issuer: Some("https://id.example".into()),
        token_endpoint: "https://id.example/token".into(),
        client_id: "threadkey".into(),
        resource: None,
    };
    let mut session = Session::begin(Lineage([7; 16]), grant, binding, issued_at);
    session.generation = 7;
    session
}
