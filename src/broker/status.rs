//! The state of sessions, without their secrets.

use std::{collections::BTreeMap, time::Duration};

use super::{Broker, DEFAULT_MIN_TTL, Undecided};
use crate::{
    ids::{Lineage, Principal, Tenant},
    session::{Change, Decision, Entry, LoginEnds, Refusals, RetryKind, Session, Wish, decide, failure},
    store::StoreError,
    sys::clock::UnixTime,
};

/// The state of a session as its user sees it, without secrets.
#[derive(Clone, Debug)]
pub struct Status {
    /// The tenant.
    pub tenant: Tenant,
    /// The account, in the provider's words.
    pub account: Option<String>,
    /// The access token.
    pub access: AccessState,
    /// When the access token was issued, in Unix seconds.
    pub issued_at: Option<UnixTime>,
    /// The scope of the access token.
    pub scope: Option<String>,
    /// The refresh token.
    pub refresh: RefreshState,
    /// The last failure, its family, and when it was recorded.
    pub last_error: Option<(String, RetryKind, UnixTime)>,
    /// The provider's refusals since the last success that are no verdict.
    pub refusals: Option<Refusals>,
    /// A sign-in is in progress until then.
    pub pending_until: Option<UnixTime>,
    /// A sign-in with another account that waits for the user's choice.
    pub undecided: Option<Undecided>,
    /// When the login ends, as far as it is known.
    pub login_ends: LoginEnds,
    /// The configured scopes that were not granted.
    pub missing_scopes: Vec<String>,
    /// Whether an answer is kept that could not be read. It may hold the only copy of a token.
    pub has_unread_answer: bool,
    /// The session's generation; 0 without a session.
    pub generation: u64,
    /// The variable whose token callers get in place of the session's.
    pub environment: Option<String>,
    /// The tenant whose token is exchanged for each token of this one.
    pub exchanged_from: Option<Tenant>,
}

/// A trouble of a session that its user must be notified of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The session has ended, with this code.
    Ended(String),
    /// The provider has refused it for hours without a verdict.
    Stuck {
        /// The refusal as a stable word.
        code: String,
        /// When the first refusal arrived, in Unix seconds.
        since: UnixTime,
    },
    /// The login ends at this time, in Unix seconds, and no refresh moves that.
    Ending(UnixTime),
}

/// The sessions in trouble whose users have not been notified.
#[derive(Clone, Debug, Default)]
pub struct Unnotified {
    /// Each session, and its trouble.
    pub troubled: Vec<(Tenant, Session, Trouble)>,
    /// The time until the next end of a login comes near, if no session changes in the meantime.
    pub next_in: Option<Duration>,
}

/// The state of a session in one word, for lists and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// A token can be had now.
    Ready,
    /// There is no session yet: a sign-in is in progress.
    Pending,
    /// There is no session yet: a sign-in waits for a choice.
    Undecided,
    /// No refresh is sent at present, because the last one failed.
    HeldBack,
    /// The last forced refresh brought the reported token back.
    RejectedAgain,
    /// The refresh token may have been spent without an answer.
    Uncertain,
    /// The provider has refused it for hours without a verdict.
    Stuck,
    /// The refresh token is not sent, because the configuration has changed.
    Withheld,
    /// The access token has expired, and there is no refresh token.
    Expired,
    /// A resource rejected the access token, and there is no refresh token.
    Rejected,
    /// The provider has ended it.
    Ended,
    /// The token comes from the environment.
    Environment,
    /// The token comes from an exchange.
    Exchange,
}

impl SessionState {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Pending => "pending",
            Self::Undecided => "undecided",
            Self::HeldBack => "held_back",
            Self::RejectedAgain => "rejected_again",
            Self::Uncertain => "uncertain",
            Self::Stuck => "stuck",
            Self::Withheld => "withheld",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Ended => "ended",
            Self::Environment => "environment",
            Self::Exchange => "exchange",
        }
    }
}

/// The state of an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessState {
    /// There is no session.
    None,
    /// Valid until then, in Unix seconds.
    Valid(UnixTime),
    /// Expired since then.
    Expired(UnixTime),
    /// A resource rejected it before its expiry.
    Rejected,
}

/// The state of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshState {
    /// There is none.
    None,
    /// It can be used.
    Ready,
    /// No refresh is sent before then, in Unix seconds.
    HeldBack(UnixTime),
    /// The last forced refresh brought the reported access token back. No refresh is forced before
    /// then, in Unix seconds.
    RejectedAgain(UnixTime),
    /// The provider has refused it for hours without a verdict, with this code.
    Stuck(String),
    /// It may have been spent without an answer; the code names the cause.
    Uncertain(String),
    /// It is not sent, because the configuration names another token endpoint or client than the
    /// sign-in.
    Withheld,
    /// The provider ended it, with this code.
    Ended(String),
}

impl Broker {
    /// Whether a tenant has a session that serves tokens, now or after a refresh.
    ///
    /// # Errors
    /// The store's error.
    pub async fn has_login(&self, tenant: &Tenant) -> Result<bool, StoreError> {
        if self.environment_variable(tenant).is_some() {
            return Ok(true);
        }
        let entry = self.inner.store.read(&self.source_of(tenant)).await?;
        let Some(session) = &entry.session else { return Ok(false) };
        let decision = decide(session, self.inner.now(), &Wish::living(DEFAULT_MIN_TTL));
        Ok(!matches!(decision, Decision::Ended { .. }))
    }

    /// Returns the state of these principals' tenants, in order of provider. A tenant is listed if
    /// it has a session, or a sign-in that is pending or waits for a choice.
    ///
    /// # Errors
    /// The store's.
    pub async fn status(&self, principals: &[Principal]) -> Result<Vec<Status>, StoreError> {
        self.statuses(|tenant| principals.contains(&tenant.principal)).await
    }

    /// Returns the state of all tenants, in order of provider, for the operator.
    ///
    /// # Errors
    /// The store's.
    pub async fn status_of_all(&self) -> Result<Vec<Status>, StoreError> {
        self.statuses(|_| true).await
    }

    async fn statuses(&self, is_wanted: impl Fn(&Tenant) -> bool) -> Result<Vec<Status>, StoreError> {
        let now = self.inner.now();
        let entries = self.inner.store.list().await?;
        let unread = self.inner.store.unread().await?;
        let wanted = entries.iter().filter(|(tenant, _)| is_wanted(tenant));
        let statuses = wanted.filter_map(|(tenant, entry)| {
            let mut status = status(tenant.clone(), entry, now)?;
            status.has_unread_answer = unread.contains(tenant);
            let provider = self.inner.providers.get(&tenant.provider);
            if let (Some(session), Some(provider)) = (&entry.session, provider) {
                status.missing_scopes = session.missing_scopes(provider.scopes());
                status.login_ends = session.login_ends(provider.login_limits());
                let is_over = matches!(status.refresh, RefreshState::None | RefreshState::Ended(_));
                if !is_over && !provider.issued(&session.binding) {
                    status.refresh = RefreshState::Withheld;
                }
            }
            Some(status)
        });
        let mut statuses: Vec<Status> = statuses.collect();
        self.add_other_sources(&mut statuses, is_wanted);
        Ok(statuses)
    }

    /// Returns the variable whose token the tenant gets in place of its session's.
    pub fn environment_variable(&self, tenant: &Tenant) -> Option<String> {
        Some(self.inner.providers.environment_token(tenant)?.variable)
    }

    /// Adds the tokens that come from no session of their own: from the environment, and by exchange.
    fn add_other_sources(&self, statuses: &mut Vec<Status>, is_wanted: impl Fn(&Tenant) -> bool) {
        for id in self.inner.providers.ids() {
            let Some(token) = self.inner.providers.environment(id) else { continue };
            for principal in &token.principals {
                let tenant = Tenant::new(id.clone(), *principal);
                if !is_wanted(&tenant) {
                    continue;
                }
                let variable = Some(token.variable.clone());
                match statuses.iter_mut().find(|status| status.tenant == tenant) {
                    Some(status) => status.environment = variable,
                    None => statuses.push(Status { environment: variable, ..Status::empty(tenant) }),
                }
            }
        }
        for exchange in self.inner.providers.exchanges() {
            let has_session = |status: &&Status| {
                status.tenant.provider == *exchange.from() && status.access != AccessState::None
            };
            let sources: Vec<_> = statuses.iter().filter(has_session).map(|s| s.tenant.clone()).collect();
            statuses.extend(sources.into_iter().map(|from| {
                let tenant = Tenant::new(exchange.id().clone(), from.principal);
                Status { exchanged_from: Some(from), ..Status::empty(tenant) }
            }));
        }
        statuses.sort_by(|one, other| one.tenant.cmp(&other.tenant));
    }

    /// Checks that the store's locks work, for a probe of the process.
    ///
    /// # Errors
    /// The store's.
    pub async fn check_locks(&self) -> Result<(), StoreError> {
        self.inner.store.check_locks().await
    }

    /// Returns the tenant's session as stored.
    ///
    /// # Errors
    /// The store's.
    pub async fn session(&self, tenant: &Tenant) -> Result<Option<Session>, StoreError> {
        Ok(self.inner.store.read(tenant).await?.session)
    }

    /// Returns the start of the tenant's newest sign-in if the access was denied at the provider.
    ///
    /// # Errors
    /// The store's.
    pub async fn denied_sign_in(&self, tenant: &Tenant) -> Result<Option<UnixTime>, StoreError> {
        let Some(pending) = self.inner.store.read(tenant).await?.pending else { return Ok(None) };
        let polled = pending.polling.as_ref().and_then(|polling| polling.ended.as_deref());
        let is_denied = [pending.failure(), polled].contains(&Some(failure::DENIED));
        Ok(is_denied.then_some(pending.created_at))
    }

    /// Returns the sessions that have ended, are stuck or will end soon, and whose users have not
    /// been notified.
    ///
    /// # Errors
    /// The store's.
    pub async fn unnotified(&self) -> Result<Unnotified, StoreError> {
        let now = self.inner.now();
        let entries = self.inner.store.list().await?;
        let mut unnotified = Unnotified::default();
        for (tenant, entry) in entries.iter() {
            let Some(session) = &entry.session else { continue };
            let mut trouble = unnotified_trouble(session);
            if trouble.is_none()
                && let Some((end, from)) = self.notice_of_end(tenant, session)
                && now < end
            {
                if now >= from {
                    trouble = Some(Trouble::Ending(end));
                } else {
                    let left = Duration::from_secs(from.saturating_sub(now).unsigned_abs());
                    unnotified.next_in = Some(unnotified.next_in.map_or(left, |next| next.min(left)));
                }
            }
            unnotified.troubled.extend(trouble.map(|trouble| (tenant.clone(), session.clone(), trouble)));
        }
        Ok(unnotified)
    }

    fn notice_of_end(&self, tenant: &Tenant, session: &Session) -> Option<(UnixTime, UnixTime)> {
        let provider = self.inner.providers.get(&tenant.provider);
        session.notice_of_end(&provider.map(|provider| *provider.login_limits()).unwrap_or_default())
    }

    /// Returns the logins of all servers.
    ///
    /// # Errors
    /// The store's.
    pub async fn shared_logins(&self) -> Result<BTreeMap<Tenant, SharedLogin>, StoreError> {
        let entries = self.inner.store.list().await?;
        let shared = entries.iter().filter(|(tenant, _)| matches!(tenant.principal, Principal::Guild(_)));
        let logins = shared.filter_map(|(tenant, entry)| {
            let session = entry.session.as_ref()?;
            let login = SharedLogin {
                lineage: session.lineage,
                signed_in_by: session.signed_in_by,
                candidate: entry.candidate.as_ref().map(|candidate| candidate.lineage),
                has_ended: session.verdict().is_some(),
            };
            Some((tenant.clone(), login))
        });
        Ok(logins.collect())
    }

    /// Records that the user of such a session was notified.
    ///
    /// # Errors
    /// The store's.
    pub async fn notified(
        &self,
        tenant: &Tenant,
        session: &Session,
        trouble: &Trouble,
    ) -> Result<(), StoreError> {
        let lineage = session.lineage;
        let change = match trouble {
            Trouble::Ended(_) | Trouble::Stuck { .. } => Change::Notified(lineage),
            Trouble::Ending(end) => Change::EndNotified { lineage, end: *end },
        };
        self.inner.store.change(tenant, change).await?;
        Ok(())
    }
}

/// The login of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLogin {
    /// The grant in use.
    pub lineage: Lineage,
    /// The user who signed in, if the record has it.
    pub signed_in_by: Option<Principal>,
    /// The grant that waits for a choice.
    pub candidate: Option<Lineage>,
    /// Whether the provider has ended the grant in use.
    pub has_ended: bool,
}

impl Status {
    /// The whole state in one word.
    pub fn state(&self) -> SessionState {
        if self.environment.is_some() {
            return SessionState::Environment;
        }
        if self.exchanged_from.is_some() {
            return SessionState::Exchange;
        }
        if self.access == AccessState::None {
            return if self.undecided.is_some() { SessionState::Undecided } else { SessionState::Pending };
        }
        match (&self.refresh, self.access) {
            (RefreshState::Ended(_), _) => SessionState::Ended,
            (RefreshState::Ready, _) | (_, AccessState::Valid(_)) if !self.is_in_doubt() => {
                SessionState::Ready
            }
            (RefreshState::HeldBack(_), _) => SessionState::HeldBack,
            (RefreshState::RejectedAgain(_), _) => SessionState::RejectedAgain,
            (RefreshState::Stuck(_), _) => SessionState::Stuck,
            (RefreshState::Uncertain(_), _) => SessionState::Uncertain,
            (RefreshState::Withheld, _) => SessionState::Withheld,
            (RefreshState::None | RefreshState::Ready, AccessState::Rejected) => SessionState::Rejected,
            (RefreshState::None | RefreshState::Ready, _) => SessionState::Expired,
        }
    }

    /// Whether the refresh token may be lost, although the access token still works.
    fn is_in_doubt(&self) -> bool {
        matches!(self.refresh, RefreshState::Uncertain(_) | RefreshState::Stuck(_) | RefreshState::Withheld)
    }

    /// The state of a tenant without a session.
    fn empty(tenant: Tenant) -> Self {
        Self {
            tenant,
            account: None,
            access: AccessState::None,
            issued_at: None,
            scope: None,
            refresh: RefreshState::None,
            last_error: None,
            refusals: None,
            pending_until: None,
            undecided: None,
            login_ends: LoginEnds::default(),
            missing_scopes: Vec::new(),
            has_unread_answer: false,
            generation: 0,
            environment: None,
            exchanged_from: None,
        }
    }
}

fn unnotified_trouble(session: &Session) -> Option<Trouble> {
    if let Some(ended) = session.verdict() {
        return ended.notified_at.is_none().then(|| Trouble::Ended(ended.code.clone()));
    }
    let retry = session.retry.as_ref().filter(|retry| retry.kind() == RetryKind::Stuck)?;
    let refused = retry.refused.as_ref().filter(|refused| refused.notified_at.is_none())?;
    Some(Trouble::Stuck { code: refused.code.clone(), since: refused.since })
}

fn status(tenant: Tenant, entry: &Entry, now: UnixTime) -> Option<Status> {
    let pending_until = entry.pending.as_ref().filter(|p| p.is_live(now)).map(|p| p.expires_at());
    let undecided = Undecided::of(&tenant, entry, now);
    let session = entry.session.as_ref();
    if session.is_none() && pending_until.is_none() && undecided.is_none() {
        return None;
    }
    Some(Status {
        account: session.and_then(|s| s.account.clone()),
        access: session.map_or(AccessState::None, |s| access(s, now)),
        issued_at: session.map(|s| s.issued_at),
        scope: session.and_then(|s| s.scope.clone()),
        refresh: session.map_or(RefreshState::None, |s| refresh(s, now)),
        last_error: session.and_then(last_error),
        refusals: session.and_then(refusals),
        pending_until,
        undecided,
        generation: session.map_or(0, |s| s.generation),
        ..Status::empty(tenant)
    })
}

fn access(session: &Session, now: UnixTime) -> AccessState {
    if session.is_rejected() {
        AccessState::Rejected
    } else if session.remaining(now).is_zero() {
        AccessState::Expired(session.expires_at)
    } else {
        AccessState::Valid(session.expires_at)
    }
}

fn refresh(session: &Session, now: UnixTime) -> RefreshState {
    if let Some(ended) = session.verdict() {
        return RefreshState::Ended(ended.code.clone());
    }
    if session.refresh_token.is_none() {
        return RefreshState::None;
    }
    match &session.retry {
        Some(retry) => match (retry.kind(), retry.active(now)) {
            (RetryKind::Ambiguous, _) => RefreshState::Uncertain(retry.code.clone()),
            (RetryKind::Stuck, _) => RefreshState::Stuck(retry.code.clone()),
            (_, None) => RefreshState::Ready,
            (RetryKind::RejectedAgain, Some(until)) => RefreshState::RejectedAgain(until),
            (RetryKind::Unspent | RetryKind::Misconfigured, Some(until)) => RefreshState::HeldBack(until),
        },
        None => RefreshState::Ready,
    }
}

fn last_error(session: &Session) -> Option<(String, RetryKind, UnixTime)> {
    session.retry.as_ref().map(|retry| (retry.code.clone(), retry.kind(), retry.set_at))
}

fn refusals(session: &Session) -> Option<Refusals> {
    if session.verdict().is_some() {
        return None;
    }
    session.retry.as_ref()?.refused.clone()
}
