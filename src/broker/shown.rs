//! A sign-in that stands on somebody's screen, and how it goes on, whichever process does that.
//!
//! The store does not say how a sign-in ended: its entry is gone, and beside it is another session, or not. So what was stored when it
//! was last seen under way is remembered, and what is stored now is compared with that. Whoever looks at each change of the store
//! ([`Broker::changes`](super::Broker::changes)) hears of each end. Changes that come together are one, so of a session that came and went in between it is
//! told as little as a reader of the store could know.
//!
//! Pure: [`Broker::look_at`](super::Broker::look_at) reads.

use super::{SignedIn, Undecided};
use crate::{
    ids::{Lineage, Tenant},
    secret::Fingerprint,
    session::{Entry, Pending, Session},
    sys::clock::UnixTime,
};

/// A sign-in as it was shown: a link that waits for its code, or the question between two accounts.
#[derive(Clone, Debug)]
pub struct Shown {
    tenant: Tenant,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Its link is shown.
    Link { state: Fingerprint, ends: UnixTime, beside: Beside },
    /// The question is shown.
    Question { lineage: Lineage, account: Option<String>, current: Option<String> },
    /// It is told as finished. Whose login it is may become known yet.
    Nameless { lineage: Lineage, before: Option<String> },
}

/// What was stored beside a sign-in that was under way.
#[derive(Clone, Debug, Default)]
struct Beside {
    session: Option<(Lineage, Option<String>)>,
    candidate: Option<Lineage>,
}

/// What has become of a sign-in that is shown.
#[derive(Clone, Debug)]
pub enum News {
    /// It is the session.
    SignedIn(SignedIn),
    /// It waits for a choice.
    Undecided(Undecided),
    /// It was cancelled.
    Cancelled,
    /// Its time was over.
    Expired,
    /// Another sign-in was started in its place.
    Replaced,
    /// Its tenant was logged out, and it went with the session.
    LoggedOut,
    /// It waited for a choice, and the session stays as it was.
    NotChosen {
        /// Whose login it was.
        account: Option<String>,
        /// Whose login the session is.
        current: Option<String>,
    },
    /// It waited for a choice, and neither it nor the session of then is there any more.
    Gone,
}

/// What is new about a sign-in that is shown.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What to tell of it, if there is something.
    pub news: Option<News>,
    /// What is shown then; `None` if nothing more can come of it.
    pub next: Option<Shown>,
}

// === impl Shown ===

impl Shown {
    /// A link, and the record that its sign-in is in.
    pub(super) fn link(tenant: &Tenant, pending: &Pending, entry: &Entry) -> Self {
        let stage = Stage::Link {
            state: pending.state.fingerprint(),
            ends: pending.expires_at(),
            beside: Beside::of(entry),
        };
        Self { tenant: tenant.clone(), stage }
    }

    /// A link, of a sign-in that nothing is known of.
    #[cfg(test)]
    pub(crate) fn for_tests(tenant: &Tenant) -> Self {
        let stage =
            Stage::Link { state: Fingerprint::of("state"), ends: UnixTime::MAX, beside: Beside::default() };
        Self { tenant: tenant.clone(), stage }
    }

    /// Whose sign-in it is.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Whether a link is shown that waits for its code.
    pub fn is_link(&self) -> bool {
        matches!(self.stage, Stage::Link { .. })
    }

    /// What is new, now that the record is this.
    pub(super) fn progress(&self, entry: &Entry, now: UnixTime) -> Progress {
        let (news, next) = match &self.stage {
            Stage::Link { state, ends, beside } => {
                let under_way = |pending: &Pending| pending.state.fingerprint().matches(state);
                if entry.pending.as_ref().is_some_and(under_way) {
                    let (state, ends, beside) = (state.clone(), *ends, Beside::of(entry));
                    (None, self.at(Stage::Link { state, ends, beside }))
                } else {
                    self.link_ended(entry, beside, now >= *ends)
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

    fn link_ended(&self, entry: &Entry, beside: &Beside, is_late: bool) -> (Option<News>, Option<Self>) {
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
            (None, _) if is_late => News::Expired,
            (None, _) => News::Cancelled,
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
        let mut done = SignedIn::new(&self.tenant, session, None);
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
    /// The question, as it is shown.
    pub fn shown(&self) -> Shown {
        let (account, current) = (self.account.clone(), self.current.clone());
        let stage = Stage::Question { lineage: self.lineage, account, current };
        Shown { tenant: self.tenant.clone(), stage }
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

#[cfg(test)]
mod tests;
