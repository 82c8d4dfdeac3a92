//! How a tenant's record may change: the one place that decides.
//!
//! Every change names what it was made for, a lineage and generation or a pending `state`, and is refused as
//! [`Applied::Stale`] when that is no longer there. So a late result can neither revive a logout nor overwrite a newer
//! sign-in, whoever brings it and however late.

use super::{
    Ended, Entry, FORCED_REFRESH_INTERVAL, Grant, Pending, Rejected, Retry, Seen, Session, Spent, seconds,
};
use crate::{
    ids::{Lineage, UnixTime},
    secret::{AccessToken, State},
};

/// One change of one tenant's record.
#[derive(Clone, Debug)]
pub enum Change {
    /// A sign-in was started. Stale while another one is live: that has to be cancelled first, so that a link which
    /// somebody has open never goes dead behind their back.
    Start(Pending),
    /// The pending sign-in was given up. With a state only that one.
    Cancel(Option<State>),
    /// The sign-in with this `state` is finished. It takes the session's place, unless it is known to be as another account than
    /// a session that goes on: then it becomes the candidate, and its person chooses.
    SignIn {
        /// The pending one that it finishes.
        state: State,
        /// What it brought. Its generation is set here.
        session: Box<Session>,
    },
    /// A refresh succeeded.
    Refreshed {
        /// What it was sent for.
        spent: Spent,
        /// What came back.
        grant: Box<Grant>,
    },
    /// A refresh did not succeed, and the next one is held back.
    HoldBack {
        /// What it was sent for.
        spent: Spent,
        /// Until when and why.
        retry: Retry,
    },
    /// The provider's verdict on a refresh token.
    End {
        /// What it was sent for.
        spent: Spent,
        /// The error code.
        code: String,
    },
    /// A resource refused this access token. Stale if it is not the current one, or if a forced refresh was noted less
    /// than [`FORCED_REFRESH_INTERVAL`] ago.
    Reject(AccessToken),
    /// The ended session's person was told.
    Notified(Lineage),
    /// Whose login it is has become known.
    Account {
        /// Of which grant.
        lineage: Lineage,
        /// In the provider's words.
        account: String,
    },
    /// The candidate is chosen: it takes the session's place. Stale once its time is over.
    Switch {
        /// Which one.
        lineage: Lineage,
    },
    /// The candidate is not chosen, and goes; the session stays.
    Keep {
        /// Which one.
        lineage: Lineage,
    },
    /// The session, the candidate and the pending sign-in go.
    Logout,
    /// The same, if session and candidate are still these: what is revoked afterwards is then what was there.
    LogoutOf {
        /// The session's state.
        seen: Seen,
        /// Which sign-in waits for a choice.
        candidate: Option<Lineage>,
    },
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The record is changed.
    Done,
    /// What the change was made for is no longer there; the record is as it was.
    Stale,
}

/// Applies `change` to `entry`, or leaves it alone.
pub fn apply(entry: &mut Entry, change: Change, now: UnixTime) -> Applied {
    match change {
        Change::Start(_) if entry.pending.as_ref().is_some_and(|p| p.is_live(now)) => Applied::Stale,
        Change::Start(pending) => {
            entry.pending = Some(pending);
            Applied::Done
        }
        Change::Cancel(state) => cancel(entry, state.as_ref()),
        Change::SignIn { state, session } => sign_in(entry, &state, *session),
        Change::Refreshed { spent, grant } => refreshed(entry, &spent, *grant, now),
        Change::HoldBack { spent, retry } => on_spent(entry, &spent, |session| session.retry = Some(retry)),
        Change::End { spent, code } => {
            let fingerprint = spent.fingerprint.clone();
            on_spent(entry, &spent, |session| {
                session.ended = Some(Ended { at: now, code, fingerprint, notified_at: None });
                session.retry = None;
            })
        }
        Change::Reject(token) => reject(entry, &token, now),
        Change::Notified(lineage) => on_lineage(entry, lineage, |session| {
            if let Some(ended) = &mut session.ended {
                ended.notified_at = Some(now);
            }
        }),
        Change::Account { lineage, account } => {
            on_lineage(entry, lineage, |session| session.account = Some(account))
        }
        Change::Switch { lineage } => switch(entry, lineage, now),
        Change::Keep { lineage } => take_candidate(entry, lineage).map_or(Applied::Stale, |_| Applied::Done),
        Change::Logout if *entry == Entry::default() => Applied::Stale,
        Change::LogoutOf { seen, candidate } if !holds(entry, seen, candidate) => Applied::Stale,
        Change::Logout | Change::LogoutOf { .. } => {
            *entry = Entry::default();
            Applied::Done
        }
    }
}

fn holds(entry: &Entry, seen: Seen, candidate: Option<Lineage>) -> bool {
    entry.session.as_ref().map(Session::seen) == Some(seen)
        && entry.candidate.as_ref().map(|candidate| candidate.lineage) == candidate
}

fn cancel(entry: &mut Entry, state: Option<&State>) -> Applied {
    match (&entry.pending, state) {
        (Some(pending), Some(state)) if pending.state != *state => Applied::Stale,
        (Some(_), _) => {
            entry.pending = None;
            Applied::Done
        }
        (None, _) => Applied::Stale,
    }
}

fn sign_in(entry: &mut Entry, state: &State, mut session: Session) -> Applied {
    // No look at the age: it was live when the code was sent, and what came back is not thrown away.
    if entry.pending.as_ref().is_none_or(|p| p.state != *state) {
        return Applied::Stale;
    }
    session.generation = 1;
    entry.pending = None;
    // One that waited for a choice is replaced in either case: its person has signed in anew since.
    entry.candidate = None;
    if entry.session.as_ref().is_some_and(|before| is_another_account(before, &session)) {
        entry.candidate = Some(session);
    } else {
        entry.session = Some(session);
    }
    Applied::Done
}

/// Whether a new grant is known to be of another account than that of a session which goes on. The provider's words are
/// compared as they are: two spellings may be two people.
fn is_another_account(before: &Session, new: &Session) -> bool {
    before.is_somebodys() && new.account.is_some() && before.account != new.account
}

fn switch(entry: &mut Entry, lineage: Lineage, now: UnixTime) -> Applied {
    if !entry.candidate.as_ref().is_some_and(|candidate| candidate.awaits_choice(now)) {
        return Applied::Stale;
    }
    let Some(chosen) = take_candidate(entry, lineage) else { return Applied::Stale };
    entry.session = Some(chosen);
    Applied::Done
}

fn take_candidate(entry: &mut Entry, lineage: Lineage) -> Option<Session> {
    entry.candidate.take_if(|candidate| candidate.lineage == lineage)
}

fn refreshed(entry: &mut Entry, spent: &Spent, grant: Grant, now: UnixTime) -> Applied {
    on_spent(entry, spent, |session| {
        session.access_token = grant.access_token;
        // RFC 6749 §6: without a new refresh token the old one stays good.
        if let Some(token) = grant.refresh_token {
            session.refresh_token = Some(token);
        }
        session.token_type = grant.token_type;
        if grant.scope.is_some() {
            session.scope = grant.scope;
        }
        // A grant does not change hands (OpenID Connect Core §12.2), but the words for its person may be other ones at each
        // answer. Were they taken over, the next sign-in would pass for one as another account.
        if session.account.is_none() {
            session.account = grant.account;
        }
        session.issued_at = now;
        session.expires_at = now.saturating_add(seconds(grant.expires_in));
        // That it differs is what counts; no refresh fails because of a number that somebody wrote into the file.
        session.generation = session.generation.wrapping_add(1);
        session.retry = None;
        session.ended = None;
        // `rejected` stays: it names a token, not the session, and it dates the last forced refresh.
    })
}

fn reject(entry: &mut Entry, token: &AccessToken, now: UnixTime) -> Applied {
    let Some(session) = &mut entry.session else { return Applied::Stale };
    let fingerprint = token.fingerprint();
    if session.access_token != *token {
        return Applied::Stale;
    }
    let recently = |r: &Rejected| r.at <= now && now < r.at.saturating_add(seconds(FORCED_REFRESH_INTERVAL));
    if session.rejected.as_ref().is_some_and(recently) {
        return Applied::Stale;
    }
    session.rejected = Some(Rejected { fingerprint, at: now });
    Applied::Done
}

fn on_spent(entry: &mut Entry, spent: &Spent, change: impl FnOnce(&mut Session)) -> Applied {
    match &mut entry.session {
        Some(session) if session.to_spend().is_some_and(|now| same(&now, spent)) => {
            change(session);
            Applied::Done
        }
        _ => Applied::Stale,
    }
}

fn same(now: &Spent, then: &Spent) -> bool {
    let Seen { lineage, generation } = now.seen;
    lineage == then.seen.lineage
        && generation == then.seen.generation
        && now.fingerprint.matches(&then.fingerprint)
}

fn on_lineage(entry: &mut Entry, lineage: Lineage, change: impl FnOnce(&mut Session)) -> Applied {
    match &mut entry.session {
        Some(session) if session.lineage == lineage => {
            change(session);
            Applied::Done
        }
        _ => Applied::Stale,
    }
}

#[cfg(test)]
mod tests;
