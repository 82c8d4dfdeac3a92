//! The records of a tenant, and how a session begins and takes over the tokens of a refresh.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Demanded, Ended, GrantKind, Identity, PENDING_LIFETIME, Polling, Rejected, Retry, SWEEP_GRACE,
    UNKNOWN_EXPIRY, WrongCodes, limits::is_within, seconds,
};
use crate::{
    ids::{Lineage, Principal, UnixTime},
    secret::{AccessToken, CodeVerifier, Fingerprint, IdToken, Nonce, RefreshToken, StartId, State},
};

/// A tenant's part of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The grant.
    pub session: Option<Session>,
    /// The sign-in in progress.
    pub pending: Option<Pending>,
    /// A finished sign-in with another account than the session's, until the user chooses. Until
    /// then it is neither used nor refreshed.
    pub candidate: Option<Session>,
}

/// One tenant's grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The access token that callers get.
    pub access_token: AccessToken,
    /// The refresh token; some grants have none.
    pub refresh_token: Option<RefreshToken>,
    /// The HTTP authentication scheme, usually `Bearer`. An older program may have stored the
    /// provider's `token_type` (RFC 6749 §7.1) instead.
    pub token_type: String,
    /// The granted scope, space separated (RFC 6749 §3.3).
    pub scope: Option<String>,
    /// When the access token was received.
    pub issued_at: UnixTime,
    /// When the access token expires. [`UNKNOWN_EXPIRY`] stands for a lifetime that the provider
    /// does not name.
    pub expires_at: UnixTime,
    /// Identifies the grant.
    pub lineage: Lineage,
    /// Counts the commits within the lineage, from 1.
    pub generation: u64,
    /// The account's name, in the provider's words.
    pub account: Option<String>,
    /// The account's identifier at the issuer: the `sub` of OpenID Connect Core §2, or the identifier in
    /// a userinfo answer.
    pub subject: Option<String>,
    /// The party that finished the sign-in.
    pub signed_in_by: Option<Principal>,
    /// The newest OpenID id token that was accepted.
    pub id_token: Option<IdToken>,
    /// Other values of the token response that callers need, such as `instance_url`.
    pub extra: BTreeMap<String, String>,
    /// When the user signed in.
    pub signed_in_at: Option<UnixTime>,
    /// When the refresh token expires, as the provider's newest answer about it names it.
    pub refresh_expires_at: Option<UnixTime>,
    /// The last moment at which a caller can have had a token, written before the first refresh that
    /// only keeps the login alive. The next token that is handed out removes it.
    pub unused_since: Option<UnixTime>,
    /// The end of the login that its user was notified of.
    pub notified_end: Option<UnixTime>,
    /// The scopes that a resource demands beyond the granted ones.
    pub demanded: Option<Demanded>,
    /// The only destinations of its tokens.
    pub binding: Binding,
    /// An access token that a resource rejected before its expiry.
    pub rejected: Option<Rejected>,
    /// Refreshes are held back.
    pub retry: Option<Retry>,
    /// The provider's verdict that the grant has ended.
    pub ended: Option<Ended>,
}

/// The client and the endpoints that a sign-in names. Its secrets are sent nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The issuer, where it is known (RFC 8414 §2). In a session with an id token it is the token's
    /// `iss`.
    pub issuer: Option<String>,
    /// The token endpoint that issues the tokens.
    pub token_endpoint: String,
    /// The endpoint that may revoke them (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// The endpoint that may receive the access token to name the account (OpenID Connect Core
    /// §5.3).
    pub userinfo_endpoint: Option<String>,
    /// The endpoint that may receive the access token to show whether it is dead.
    pub probe_endpoint: Option<String>,
    /// The client that they are issued to.
    pub client_id: String,
    /// The resource that they are requested for (RFC 8707).
    pub resource: Option<String>,
}

/// A started sign-in, kept until it is finished, cancelled or [`PENDING_LIFETIME`] old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The PKCE verifier (RFC 7636 §4.1).
    pub verifier: CodeVerifier,
    /// The `state` that the callback must bring back.
    pub state: State,
    /// The OpenID `nonce`, when the scopes contain `openid`.
    pub nonce: Option<Nonce>,
    /// The redirect URI of the authorization request; the exchange repeats it.
    pub redirect_uri: String,
    /// When it was started.
    pub created_at: UnixTime,
    /// The party that started it; no other party can finish it.
    pub started_by: Principal,
    /// The lineage of the session that it would replace.
    pub lineage_seen: Option<Lineage>,
    /// The client and the endpoints of the exchange and of the session that it begins.
    pub binding: Binding,
    /// The requested scopes.
    pub scopes: Vec<String>,
    /// The codes that the provider did not accept for this sign-in.
    pub wrong_codes: Option<WrongCodes>,
    /// The way back through our own pages; none for a paste.
    pub browser: Option<Box<BrowserReturn>>,
    /// The poll for its tokens, if no user brings a code.
    pub polling: Option<Polling>,
}

/// The way back through the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserReturn {
    /// The one-time id in the address of the start page.
    pub start_id: StartId,
    /// The name of the user who started it, for the page.
    pub user: String,
    /// The name of the server where it was started, for the page.
    pub server: Option<String>,
    /// The cookie of the one browser that opened the link.
    pub cookie: Option<Fingerprint>,
    /// The result of the exchange, until its digits are typed.
    pub unconfirmed: Option<Unconfirmed>,
    /// The reason why it can no longer be finished: the provider's error code or one of our words.
    pub failed: Option<String>,
}

/// A grant whose user has not typed the digits yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The session that it becomes.
    pub session: Session,
    /// The digits, salted with the `state`.
    pub digits: Fingerprint,
    /// How often other digits were typed.
    pub wrong: u32,
}

/// One state of one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The grant.
    pub lineage: Lineage,
    /// Its state.
    pub generation: u64,
}

/// The exact state and token that a refresh request spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshTarget {
    /// The state of the session.
    pub revision: Revision,
    /// Fingerprint of the refresh token.
    pub fingerprint: Fingerprint,
}

/// The content of a provider's successful answer (RFC 6749 §5.1), read leniently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The new access token.
    pub access_token: AccessToken,
    /// The new refresh token; if absent, the old one stays valid.
    pub refresh_token: Option<RefreshToken>,
    /// The HTTP authentication scheme, usually `Bearer`.
    pub token_type: String,
    /// The scope, if the answer names it.
    pub scope: Option<String>,
    /// The access token's lifetime; `None` if the provider names none.
    pub expires_in: Option<Duration>,
    /// The account's name, if the answer has one.
    pub account: Option<String>,
    /// When the refresh token expires, if the answer names it.
    pub refresh_expires_at: Option<UnixTime>,
    /// The account's identity, if the answer has an id token that can be accepted.
    pub identity: Option<Identity>,
}

// === impl Entry ===

impl Entry {
    /// Returns the bindings of all its sessions and sign-ins.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        let waiting = self.pending.as_ref().and_then(Pending::unconfirmed).map(|waiting| &waiting.session);
        let sessions = [self.session.as_ref(), self.candidate.as_ref(), waiting];
        let pending = self.pending.as_ref().map(|pending| &pending.binding);
        sessions.into_iter().flatten().map(|session| &session.binding).chain(pending)
    }
}

// === impl Pending ===

impl Pending {
    /// Returns the grant of this sign-in.
    pub fn grant(&self) -> GrantKind {
        self.polling.as_ref().map_or(GrantKind::Code, |polling| polling.grant)
    }

    /// When it can no longer be finished.
    pub fn expires_at(&self) -> UnixTime {
        let ends = self.since().saturating_add(seconds(PENDING_LIFETIME));
        self.polling.as_ref().map_or(ends, |polling| ends.min(polling.expires_at))
    }

    /// The whole time for which its present step is open.
    pub fn open_for(&self) -> Duration {
        Duration::from_secs(self.expires_at().saturating_sub(self.since()).try_into().unwrap_or(0))
    }

    /// Whether it can still be finished. A broken clock's counts as expired: one from before 1970,
    /// or from more than its lifetime ahead. So does one whose poll has ended. A grant that waits for
    /// its digits begins a new lifetime.
    pub fn is_live(&self, now: UnixTime) -> bool {
        let goes_on = |polling: &Polling| polling.ended.is_none() && now < polling.expires_at;
        self.failure().is_none()
            && is_within(self.since(), PENDING_LIFETIME, Duration::ZERO, now)
            && self.polling.as_ref().is_none_or(goes_on)
    }

    /// Whether a write drops it, [`SWEEP_GRACE`] after its end. An exchange that began in time
    /// still finds it when the answer arrives, whichever process writes in between.
    pub fn is_swept(&self, now: UnixTime) -> bool {
        !is_within(self.since(), PENDING_LIFETIME, SWEEP_GRACE, now)
    }
}

// === impl RefreshTarget ===

impl RefreshTarget {
    /// Whether both name the same state and token. Fingerprints of different lengths are compared
    /// by their common prefix.
    pub fn matches(&self, other: &Self) -> bool {
        self.revision == other.revision && self.fingerprint.matches(&other.fingerprint)
    }
}

// === impl Grant ===

impl Grant {
    /// The grant with the lifetime that is left at this age of its answer, which may have waited in
    /// a journal.
    #[must_use]
    pub fn aged(self, age: Duration) -> Self {
        Self { expires_in: self.expires_in.map(|lifetime| lifetime.saturating_sub(age)), ..self }
    }
}

// === impl Session ===

impl Session {
    /// Begins a session with the result of a sign-in.
    pub fn begin(lineage: Lineage, grant: Grant, binding: Binding, now: UnixTime) -> Self {
        let mut session = Self {
            access_token: grant.access_token,
            refresh_token: grant.refresh_token,
            token_type: grant.token_type,
            scope: grant.scope,
            issued_at: now,
            expires_at: expiry(now, grant.expires_in),
            lineage,
            generation: 1,
            account: grant.account,
            subject: None,
            signed_in_by: None,
            id_token: None,
            extra: BTreeMap::new(),
            signed_in_at: None,
            refresh_expires_at: grant.refresh_expires_at,
            unused_since: None,
            notified_end: None,
            demanded: None,
            binding,
            rejected: None,
            retry: None,
            ended: None,
        };
        if let Some(identity) = grant.identity {
            session.identify(identity);
        }
        session
    }

    /// Takes over the tokens of a refresh and moves to the next generation.
    pub fn take(&mut self, grant: Grant, now: UnixTime) {
        self.access_token = grant.access_token;
        // RFC 6749 §6: without a new refresh token the old one stays valid.
        if let Some(token) = grant.refresh_token {
            self.refresh_token = Some(token);
        }
        self.token_type = grant.token_type;
        if grant.scope.is_some() {
            self.scope = grant.scope;
        }
        // A grant keeps its account (OpenID Connect Core §12.2), but answers may spell it in
        // several ways. A new spelling would make the next sign-in look like another account.
        if self.account.is_none() {
            self.account = grant.account;
        }
        // An answer without an end leaves the one that is known: the login keeps it.
        self.refresh_expires_at = grant.refresh_expires_at.or(self.refresh_expires_at);
        if let Some(identity) = grant.identity {
            self.identify(identity);
        }
        self.issued_at = now;
        self.expires_at = expiry(now, grant.expires_in);
        // Only the difference counts; a number that another program wrote must not fail a refresh.
        self.generation = self.generation.wrapping_add(1);
        // `rejected` stays: it names a token, not the session, and it dates the last forced
        // refresh. If the reported token comes back, the next forced refresh has to wait.
        self.demanded = self.demanded.take().and_then(|demanded| demanded.recent(now));
        self.retry = self.is_reported().then(|| Retry::rejected_again(self.retry.as_ref(), now));
        self.ended = None;
    }
}

/// The `expires_at` of an access token that is issued now.
fn expiry(now: UnixTime, lifetime: Option<Duration>) -> UnixTime {
    lifetime.map_or(UNKNOWN_EXPIRY, |lifetime| now.saturating_add(seconds(lifetime)))
}

/// A session for tests: generation 7, values as in RFC 6749.
#[cfg(test)]
pub(crate) fn test_session(issued_at: UnixTime, lifetime: i64) -> Session {
    let grant = Grant {
        access_token: AccessToken::new("access-7"),
        refresh_token: Some(RefreshToken::new("refresh-7")),
        token_type: "Bearer".into(),
        scope: Some("read".into()),
        expires_in: Some(Duration::from_secs(lifetime.try_into().expect("a lifetime is not negative"))),
        account: Some("alice@example.com".into()),
        refresh_expires_at: None,
        identity: None,
    };
    let binding = Binding {
        issuer: Some("https://id.example".into()),
        token_endpoint: "https://id.example/token".into(),
        revocation_endpoint: None,
        userinfo_endpoint: None,
        probe_endpoint: None,
        client_id: "threadkey".into(),
        resource: None,
    };
    let mut session = Session::begin(Lineage([7; 16]), grant, binding, issued_at);
    session.generation = 7;
    session
}
