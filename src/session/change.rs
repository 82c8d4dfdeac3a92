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
    /// The sign-in with this `state` is finished; it takes the place of any session.
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
    /// The session and the pending sign-in go.
    Logout,
    /// The same, if the session is still in this state: what is revoked afterwards is then what was there.
    LogoutOf(Seen),
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
        Change::Logout if *entry == Entry::default() => Applied::Stale,
        Change::LogoutOf(seen) if entry.session.as_ref().map(Session::seen) != Some(seen) => Applied::Stale,
        Change::Logout | Change::LogoutOf(_) => {
            *entry = Entry::default();
            Applied::Done
        }
    }
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
    entry.session = Some(session);
    Applied::Done
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
        if grant.account.is_some() {
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ids::Principal,
        secret::{CodeVerifier, RefreshToken},
        session::{PENDING_LIFETIME, test_session},
    };

    const NOW: UnixTime = 1_795_358_672;

    fn entry() -> Entry {
        Entry { session: Some(test_session(NOW, 3600)), pending: None }
    }

    fn session(entry: &Entry) -> &Session {
        entry.session.as_ref().expect("there is a session")
    }

    fn spent(entry: &Entry) -> Spent {
        session(entry).to_spend().expect("it has a refresh token")
    }

    fn grant(refresh_token: Option<&str>) -> Box<Grant> {
        Box::new(Grant {
            access_token: AccessToken::new("access-8"),
            refresh_token: refresh_token.map(RefreshToken::new),
            token_type: "Bearer".into(),
            scope: None,
            expires_in: Duration::from_secs(60),
            account: None,
        })
    }

    fn pending(state: &str, created_at: UnixTime) -> Pending {
        let session = test_session(NOW, 3600);
        Pending {
            verifier: CodeVerifier::new("verifier"),
            state: State::new(state),
            nonce: None,
            redirect_uri: "http://127.0.0.1:1/callback".into(),
            created_at,
            started_by: Principal::Local,
            lineage_seen: None,
            binding: session.binding,
            scopes: vec![],
        }
    }

    #[test]
    fn a_refresh_moves_the_generation_and_keeps_what_the_answer_left_out() {
        let mut entry = entry();
        let change = Change::Refreshed { spent: spent(&entry), grant: grant(None) };
        assert_eq!(apply(&mut entry, change, NOW + 10), Applied::Done);
        let after = session(&entry);
        assert_eq!(after.generation, 8);
        assert_eq!(after.access_token.expose(), "access-8");
        assert_eq!(after.refresh_token, Some(RefreshToken::new("refresh-7")), "RFC 6749 §6");
        assert_eq!(after.scope.as_deref(), Some("read"));
        assert_eq!(after.account.as_deref(), Some("alice@example.com"));
        assert_eq!((after.issued_at, after.expires_at), (NOW + 10, NOW + 70));
    }

    #[test]
    fn a_refresh_of_the_last_generation_that_can_be_counted_is_kept_and_seen() {
        let mut entry = entry();
        session_mut(&mut entry).generation = u64::MAX;
        let before = session(&entry).seen();
        let change = Change::Refreshed { spent: spent(&entry), grant: grant(Some("refresh-8")) };
        assert_eq!(apply(&mut entry, change, NOW), Applied::Done);
        assert_eq!(session(&entry).access_token.expose(), "access-8");
        assert_ne!(session(&entry).seen(), before);
    }

    #[test]
    fn a_late_result_changes_nothing_that_it_was_not_sent_for() {
        let sent_for = spent(&entry());
        let late = [
            Change::Refreshed { spent: sent_for.clone(), grant: grant(Some("late")) },
            Change::End { spent: sent_for.clone(), code: "invalid_grant".into() },
            Change::HoldBack {
                spent: sent_for,
                retry: Retry { set_at: NOW, not_before: NOW + 60, attempts: 1, code: "connect".into() },
            },
        ];
        let mut renewed = entry();
        session_mut(&mut renewed).generation += 1;
        let mut signed_in_anew = entry();
        session_mut(&mut signed_in_anew).lineage = Lineage([8; 16]);
        let mut other_token = entry();
        session_mut(&mut other_token).refresh_token = Some(RefreshToken::new("another"));
        for before in [renewed, signed_in_anew, other_token, Entry::default()] {
            for change in &late {
                let mut after = before.clone();
                assert_eq!(apply(&mut after, change.clone(), NOW), Applied::Stale, "{change:?}");
                assert_eq!(after, before, "{change:?}");
            }
        }
    }

    #[test]
    fn a_logout_that_names_a_state_takes_no_other_one_along() {
        let mut entry = entry();
        let before = session(&entry).seen();
        session_mut(&mut entry).generation += 1;
        let renewed = session(&entry).seen();
        assert_eq!(apply(&mut entry, Change::LogoutOf(before), NOW), Applied::Stale);
        assert!(entry.session.is_some());
        assert_eq!(apply(&mut entry, Change::LogoutOf(renewed), NOW), Applied::Done);
        assert_eq!(entry, Entry::default());
        assert_eq!(apply(&mut entry, Change::LogoutOf(renewed), NOW), Applied::Stale);
    }

    #[test]
    fn only_the_sign_in_that_is_pending_can_be_finished() {
        let mut entry = Entry { session: None, pending: Some(pending("one", NOW)) };
        let finish =
            |state| Change::SignIn { state: State::new(state), session: Box::new(test_session(NOW, 3600)) };
        assert_eq!(apply(&mut entry, finish("two"), NOW), Applied::Stale);
        assert_eq!(apply(&mut entry, finish("one"), NOW), Applied::Done);
        assert_eq!(session(&entry).generation, 1);
        assert_eq!(apply(&mut entry, finish("one"), NOW), Applied::Stale, "it was finished");
    }

    #[test]
    fn a_live_sign_in_is_not_replaced_by_another_start() {
        let mut entry = Entry { session: None, pending: Some(pending("one", NOW)) };
        let again = Change::Start(pending("two", NOW + 60));
        assert_eq!(apply(&mut entry, again.clone(), NOW + 60), Applied::Stale);
        let over = NOW + seconds(PENDING_LIFETIME);
        assert_eq!(apply(&mut entry, again, over), Applied::Done);
        let other = Change::Cancel(Some(State::new("one")));
        assert_eq!(apply(&mut entry, other, over), Applied::Stale);
        assert_eq!(apply(&mut entry, Change::Cancel(None), over), Applied::Done);
    }

    #[test]
    fn a_pending_sign_in_from_a_broken_clock_counts_as_old() {
        for created_at in [0, -5, NOW - 900, NOW + 901] {
            assert!(!pending("one", created_at).is_live(NOW), "{created_at}");
        }
        for created_at in [NOW - 899, NOW, NOW + 900] {
            assert!(pending("one", created_at).is_live(NOW), "{created_at}");
        }
    }

    #[test]
    fn a_rejection_counts_for_the_current_token_and_once_a_minute() {
        let mut entry = entry();
        let token = session(&entry).access_token.clone();
        assert_eq!(apply(&mut entry, Change::Reject(AccessToken::new("old")), NOW), Applied::Stale);
        assert_eq!(apply(&mut entry, Change::Reject(token.clone()), NOW), Applied::Done);
        assert!(session(&entry).is_rejected());
        let change = Change::Refreshed { spent: spent(&entry), grant: grant(Some("refresh-8")) };
        apply(&mut entry, change, NOW + 1);
        assert!(!session(&entry).is_rejected());
        let renewed = Change::Reject(session(&entry).access_token.clone());
        assert_eq!(apply(&mut entry, renewed.clone(), NOW + 59), Applied::Stale);
        assert_eq!(apply(&mut entry, renewed, NOW + 60), Applied::Done);
    }

    #[test]
    fn a_verdict_ends_the_session_and_a_success_takes_it_back() {
        let mut entry = entry();
        let end = Change::End { spent: spent(&entry), code: "invalid_grant".into() };
        assert_eq!(apply(&mut entry, end, NOW), Applied::Done);
        assert_eq!(session(&entry).verdict().map(|ended| ended.code.as_str()), Some("invalid_grant"));
        let lineage = session(&entry).lineage;
        assert_eq!(apply(&mut entry, Change::Notified(lineage), NOW + 5), Applied::Done);
        assert_eq!(session(&entry).verdict().and_then(|ended| ended.notified_at), Some(NOW + 5));
        let change = Change::Refreshed { spent: spent(&entry), grant: grant(Some("refresh-8")) };
        assert_eq!(apply(&mut entry, change, NOW + 9), Applied::Done);
        assert_eq!(session(&entry).verdict(), None);
    }

    fn session_mut(entry: &mut Entry) -> &mut Session {
        entry.session.as_mut().expect("there is a session")
    }
}
