//! The progress of a sign-in that a message shows, whichever process makes it.
//!
//! The store does not record how a sign-in ended: its pending entry is gone, and the session beside
//! it is new or not. So a [`SignInProgress`] remembers the record as it was when the sign-in was
//! last seen, and compares it with the record of now. A caller that asks after each change of the
//! store ([`Broker::changes`]) learns of each end. Several changes between two looks count as one,
//! so a session that came and went in between goes unnoticed.
//!
//! A sign-in that this process finishes itself is reported by [`Event::SignedIn`] and
//! [`Event::Undecided`], which carry more than the store. Meanwhile ([`FinishingSignIn`]) the store
//! reports nothing; [`Event::SignInConcluded`] marks the moment to read it again.

use std::{sync::Arc, time::Duration};

use crate::{
    broker::{Broker, Event, Inner, SignedIn, Undecided},
    ids::{Lineage, Tenant},
    secret::Fingerprint,
    session::{Entry, PENDING_LIFETIME, Pending, Session},
    store::StoreError,
    sys::clock::UnixTime,
};

/// The state of a sign-in as a message shows it: a link or a code that waits for the user, or the question
/// between two accounts.
#[derive(Clone, Debug)]
pub struct SignInProgress {
    tenant: Tenant,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Its link is shown.
    Link { state: Fingerprint, ends: UnixTime, open_for: Duration, beside: Beside },
    /// The question is shown.
    Question { lineage: Lineage, account: Option<String>, current: Option<String> },
    /// Its end is shown. The account may still become known.
    Nameless { lineage: Lineage, before: Option<String> },
}

/// The rest of the record beside a pending sign-in.
#[derive(Clone, Debug, Default)]
struct Beside {
    session: Option<(Lineage, Option<String>)>,
    candidate: Option<Lineage>,
}

/// The end of a sign-in, or its next step.
#[derive(Clone, Debug)]
pub enum News {
    /// It is the session now.
    SignedIn(SignedIn),
    /// It waits for a choice.
    Undecided(Undecided),
    /// It was cancelled.
    Cancelled,
    /// The way back through the browser ended, for this reason.
    Failed(String),
    /// It expired, after it was open for this time.
    Expired(Duration),
    /// The provider ended it without tokens.
    Ended {
        /// The provider's word, such as `access_denied`.
        code: String,
    },
    /// Another sign-in took its place.
    Replaced,
    /// Its tenant was logged out.
    LoggedOut,
    /// The user kept the session.
    NotChosen {
        /// The account that was not chosen.
        account: Option<String>,
        /// The session's account.
        current: Option<String>,
    },
    /// It waited for a choice, and both it and the session of that time are gone.
    Gone,
}

/// A change of a shown sign-in.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The news to show, if any.
    pub news: Option<News>,
    /// The state to ask about next; `None` if the sign-in has ended.
    pub next: Option<SignInProgress>,
}

// === impl SignInProgress ===

impl SignInProgress {
    /// A shown link, and the record of its sign-in.
    pub(super) fn link(tenant: &Tenant, pending: &Pending, entry: &Entry) -> Self {
        let stage = Stage::Link {
            state: pending.state.fingerprint(),
            ends: pending.expires_at(),
            open_for: pending.open_for(),
            beside: Beside::of(entry),
        };
        Self { tenant: tenant.clone(), stage }
    }

    /// A link of an unknown sign-in.
    #[cfg(test)]
    pub(crate) fn for_tests(tenant: &Tenant) -> Self {
        let stage = Stage::Link {
            state: Fingerprint::of("state"),
            ends: UnixTime::MAX,
            open_for: PENDING_LIFETIME,
            beside: Beside::default(),
        };
        Self { tenant: tenant.clone(), stage }
    }

    /// The tenant.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The fingerprint of the state, while the link is shown.
    pub(super) fn state(&self) -> Option<&Fingerprint> {
        match &self.stage {
            Stage::Link { state, .. } => Some(state),
            Stage::Question { .. } | Stage::Nameless { .. } => None,
        }
    }

    /// The whole time for which its link is open.
    pub fn open_for(&self) -> Duration {
        match &self.stage {
            Stage::Link { open_for, .. } => *open_for,
            Stage::Question { .. } | Stage::Nameless { .. } => PENDING_LIFETIME,
        }
    }

    /// Whether it is a link that waits for its code.
    pub fn is_link(&self) -> bool {
        matches!(self.stage, Stage::Link { .. })
    }

    /// Compares the remembered record with this one.
    pub(super) fn progress(&self, entry: &Entry, now: UnixTime) -> Progress {
        let (news, next) = match &self.stage {
            Stage::Link { state, ends, open_for, beside } => {
                let in_progress = |pending: &&Pending| pending.state.fingerprint().matches(state);
                let there = entry.pending.as_ref().filter(|pending| in_progress(pending));
                let ended = there.and_then(|pending| pending.polling.as_ref()?.ended.clone());
                if let Some(failure) = there.and_then(|pending| pending.failure()) {
                    (Some(News::Failed(failure.to_owned())), None)
                } else if let Some(code) = ended {
                    (Some(News::Ended { code }), None)
                } else if there.is_some() {
                    let (state, ends, open_for) = (state.clone(), *ends, *open_for);
                    (None, self.at(Stage::Link { state, ends, open_for, beside: Beside::of(entry) }))
                } else {
                    self.link_ended(entry, beside, (now >= *ends).then_some(*open_for))
                }
            }
            Stage::Question { lineage, account, current } => {
                self.answered(entry, *lineage, account.as_ref(), current.as_ref())
            }
            Stage::Nameless { lineage, before } => match &entry.session {
                Some(session) if session.lineage == *lineage && session.account.is_none() => {
                    (None, Some(self.clone()))
                }
                Some(session) if session.lineage == *lineage => self.finished(session, before.as_ref()),
                _ => (None, None),
            },
        };
        Progress { news, next }
    }

    fn link_ended(
        &self,
        entry: &Entry,
        beside: &Beside,
        expired_after: Option<Duration>,
    ) -> (Option<News>, Option<Self>) {
        let (was, before) = beside.session.clone().unzip();
        let is_new = |session: &&Session| Some(session.lineage) != was;
        if let Some(session) = entry.session.as_ref().filter(is_new) {
            return self.finished(session, before.flatten().as_ref());
        }
        let undecided = Undecided::in_record(&self.tenant, entry);
        if let Some(undecided) = undecided.filter(|one| Some(one.lineage) != beside.candidate) {
            let next = undecided.shown();
            return (Some(News::Undecided(undecided)), Some(next));
        }
        let news = match (&entry.pending, &entry.session) {
            (Some(_), _) => News::Replaced,
            (None, None) if was.is_some() => News::LoggedOut,
            (None, _) => expired_after.map_or(News::Cancelled, News::Expired),
        };
        (Some(news), None)
    }

    fn answered(
        &self,
        entry: &Entry,
        lineage: Lineage,
        account: Option<&String>,
        current: Option<&String>,
    ) -> (Option<News>, Option<Self>) {
        if entry.candidate.as_ref().is_some_and(|candidate| candidate.lineage == lineage) {
            return (None, Some(self.clone()));
        }
        let news = match &entry.session {
            Some(session) if session.lineage == lineage => return self.finished(session, current),
            Some(session) if entry.candidate.is_none() && session.account.as_ref() == current => {
                News::NotChosen { account: account.cloned(), current: current.cloned() }
            }
            _ => News::Gone,
        };
        (Some(news), None)
    }

    fn finished(&self, session: &Session, before: Option<&String>) -> (Option<News>, Option<Self>) {
        let mut done = SignedIn::new(&self.tenant, session, None, &[]);
        done.replaced = before.filter(|before| Some(*before) != session.account.as_ref()).cloned();
        let nameless = Stage::Nameless { lineage: session.lineage, before: before.cloned() };
        let next = session.account.is_none().then(|| self.at(nameless)).flatten();
        (Some(News::SignedIn(done)), next)
    }

    fn at(&self, stage: Stage) -> Option<Self> {
        Some(Self { tenant: self.tenant.clone(), stage })
    }
}

impl Undecided {
    /// The state of a message that shows the question.
    pub fn shown(&self) -> SignInProgress {
        let (account, current) = (self.account.clone(), self.current.clone());
        let stage = Stage::Question { lineage: self.lineage, account, current };
        SignInProgress { tenant: self.tenant.clone(), stage }
    }
}

impl Beside {
    fn of(entry: &Entry) -> Self {
        Self {
            session: entry.session.as_ref().map(|session| (session.lineage, session.account.clone())),
            candidate: entry.candidate.as_ref().map(|candidate| candidate.lineage),
        }
    }
}

/// This process is finishing a sign-in: from before the commit until its result is published.
pub(in crate::broker) struct FinishingSignIn {
    inner: Arc<Inner>,
    tenant: Tenant,
}

// === impl FinishingSignIn ===

impl FinishingSignIn {
    pub(super) fn begin(inner: &Arc<Inner>, tenant: &Tenant) -> Self {
        *inner.finishing.entry(tenant.clone()).or_insert(0) += 1;
        Self { inner: inner.clone(), tenant: tenant.clone() }
    }
}

impl Drop for FinishingSignIn {
    fn drop(&mut self) {
        self.inner.finishing.remove_if_mut(&self.tenant, |_, count| {
            *count -= 1;
            *count == 0
        });
        self.inner.publish(Event::SignInConcluded(self.tenant.clone()));
    }
}

// === impl Broker ===

impl Broker {
    /// Returns the change of a shown sign-in since `shown`. Callers ask after [`Broker::start`],
    /// and then after each change of the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn sign_in_progress(&self, shown: &SignInProgress) -> Result<Progress, StoreError> {
        let tenant = shown.tenant();
        let unchanged = || Progress { news: None, next: Some(shown.clone()) };
        // Before the read, because this process may be about to publish the same news; after it,
        // because it may have committed in between.
        if self.inner.finishing.contains_key(tenant) {
            return Ok(unchanged());
        }
        let entry = self.inner.store.read(tenant).await?;
        if self.inner.finishing.contains_key(tenant) {
            return Ok(unchanged());
        }
        let mut progress = shown.progress(&entry, self.inner.now());
        if let (Some(News::SignedIn(done)), Some(session)) = (&mut progress.news, &entry.session) {
            done.missing_scopes = session.missing_scopes(&self.inner.scopes(tenant));
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests;
