//! How a tenant's record changes: the one place that decides.
//!
//! Every change names the state that it was made for: a lineage and generation, or a pending
//! `state`. If that state is gone, the change is [`Applied::Stale`]. So a late result neither
//! revives a logout nor overwrites a newer sign-in, whichever process brings it and however late.
//!
//! There are two kinds. A [`Change`] is open to any caller of the store. A [`Settlement`] is the
//! result of a request that spent a secret, and only the holder of the tenant's lock commits it
//! ([`TenantLock::settle`](super::TenantLock::settle)).

use super::{
    Accounts, BrowserReturn, DIGIT_ATTEMPTS, Ended, Entry, FORCED_REFRESH_INTERVAL, Grant, Identity, Pending,
    Polling, RefreshTarget, Rejected, Retry, RetryKind, Session, Unconfirmed, WrongCodes, failure, seconds,
};
use crate::{
    ids::{Lineage, UnixTime},
    secret::{AccessToken, Digits, Fingerprint, State},
};

/// A change of one tenant's record.
#[derive(Clone, Debug)]
pub enum Change {
    /// Starts a sign-in. Stale while another one is live, which must be cancelled first: so a link
    /// that a user has open does not stop working unannounced.
    Start(Pending),
    /// Starts a sign-in in place of the one with this `state`, in one step: no reader takes that one for
    /// cancelled. Stale for another one.
    Replace {
        /// The `state` of the pending sign-in.
        state: State,
        /// The new one.
        pending: Pending,
    },
    /// Cancels the pending sign-in; with a state only the sign-in of that state.
    Cancel(Option<State>),
    /// Binds the sign-in with this `state` to the browser with this cookie. Stale for a second browser.
    OpenStart {
        /// The `state` of the pending sign-in.
        state: State,
        /// The cookie's fingerprint.
        cookie: Fingerprint,
    },
    /// Compares typed digits with those of the sign-in with this `state`.
    Confirm {
        /// The `state` of the pending sign-in.
        state: State,
        /// The typed digits.
        typed: Digits,
    },
    /// Ends the way back through the browser, and drops a grant that waits for its digits.
    FailReturn {
        /// The `state` of the pending sign-in.
        state: State,
        /// The reason.
        code: String,
    },
    /// Records the report that a resource rejected this access token. Stale if the token is not the
    /// current one, if the last report was less than [`FORCED_REFRESH_INTERVAL`] ago, or while
    /// forced refreshes are held back.
    Reject(AccessToken),
    /// Records that the userinfo endpoint refused this access token too. Ends a session without a
    /// refresh token. Stale if the token is not the current one.
    ConfirmRejection(AccessToken),
    /// Ends a session that has no usable access token and no refresh token. Stale for others.
    Exhausted(Lineage),
    /// Lets the next refresh of a session that is held back begin at once.
    TryAgain(Lineage),
    /// Records that the user of the ended or stuck session was notified.
    Notified(Lineage),
    /// Records that the user was notified of the end of the login.
    EndNotified {
        /// The grant.
        lineage: Lineage,
        /// The end, in Unix seconds.
        end: UnixTime,
    },
    /// Records that no caller has had a token since the present access token, before a refresh that
    /// only keeps the login alive.
    Unused(Lineage),
    /// Records that a caller has a token of the session.
    HandedOut(Lineage),
    /// Removes a session that has ended and was not replaced for so long. Stale for any other one.
    Sweep {
        /// The grant.
        lineage: Lineage,
        /// The session ended before, in Unix seconds.
        ended_before: UnixTime,
    },
    /// Records that a resource demands these scopes beyond the granted ones. Stale beyond the limits of
    /// [`Demanded`](super::Demanded).
    Demand {
        /// The grant.
        lineage: Lineage,
        /// The scopes.
        scopes: Vec<String>,
    },
    /// Records the account of a session, as a userinfo answer names it.
    Account {
        /// The grant.
        lineage: Lineage,
        /// The account in the provider's words, if it is to replace the session's.
        account: Option<String>,
        /// The account's identifier. It never replaces the session's.
        subject: Option<String>,
    },
    /// Records the identity of a session without an accepted id token. Stale for a session that has
    /// another one.
    Identify {
        /// The grant.
        lineage: Lineage,
        /// The identity, from an id token that was accepted.
        identity: Identity,
    },
    /// Puts the candidate in the session's place. Stale once the time to choose has expired.
    Switch {
        /// The candidate's grant.
        lineage: Lineage,
    },
    /// Removes the candidate and keeps the session.
    Keep {
        /// The candidate's grant.
        lineage: Lineage,
    },
    /// Removes the session, and with it the candidate and the pending sign-in. Stale without a
    /// session.
    Logout,
}

/// The result of a request that spent a secret.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// A refresh succeeded.
    Refreshed {
        /// The session state that was refreshed.
        target: RefreshTarget,
        /// The new tokens.
        grant: Box<Grant>,
    },
    /// A refresh failed; the next one is held back.
    HoldBack {
        /// The session state that was to be refreshed.
        target: RefreshTarget,
        /// Until when, and why.
        retry: Retry,
    },
    /// The provider ended the grant.
    End {
        /// The session state that was to be refreshed.
        target: RefreshTarget,
        /// The error code.
        code: String,
    },
    /// The provider did not accept a code of the sign-in with this `state`.
    WrongCode(State),
    /// The provider answered a poll without tokens: the sign-in with this `state` goes on, or has
    /// ended.
    Polled {
        /// The `state` of the pending sign-in.
        state: State,
        /// The poll from now on.
        polling: Box<Polling>,
    },
    /// The sign-in with this `state` is finished. Its session takes the place of the present one,
    /// unless that one is live, its account is known, and the new one's is another or unknown: then it
    /// becomes the candidate, and the user chooses.
    SignIn {
        /// The `state` of the pending sign-in.
        state: State,
        /// The new session. Its generation is set to 1.
        session: Box<Session>,
    },
    /// The code of the sign-in with this `state` was exchanged by the way back through the browser. The
    /// session waits for its digits.
    AwaitDigits {
        /// The `state` of the pending sign-in.
        state: State,
        /// The new session. Its generation is set to 1.
        session: Box<Session>,
        /// The digits, salted with the `state`.
        digits: Fingerprint,
    },
}

/// A change or a settlement: everything that [`apply`] takes.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "an update is moved a few times and never kept")]
pub enum Update {
    /// A change that any caller may make.
    Change(Change),
    /// A result that only the lock's holder may commit.
    Settlement(Settlement),
}

/// The effect of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The record is changed.
    Done,
    /// The record already holds this very result, most often because an earlier try took effect
    /// without becoming durable. Now it is durable.
    Already,
    /// The state that the update was made for is gone; the record is unchanged.
    Stale,
}

/// An update that is durable: its effect, and the record around it.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The effect.
    pub applied: Applied,
    /// The record that the update met.
    pub before: Entry,
    /// The record that it left.
    pub after: Entry,
}

impl Applied {
    /// Whether the record now holds the result.
    pub fn took_effect(self) -> bool {
        self != Self::Stale
    }
}

impl From<Change> for Update {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

impl From<Settlement> for Update {
    fn from(settlement: Settlement) -> Self {
        Self::Settlement(settlement)
    }
}

/// Applies `update` to `entry`, or leaves the entry as it is.
pub fn apply(entry: &mut Entry, update: impl Into<Update>, now: UnixTime) -> Applied {
    match update.into() {
        Update::Change(change) => apply_change(entry, change, now),
        Update::Settlement(settlement) => apply_settlement(entry, settlement, now),
    }
}

fn apply_change(entry: &mut Entry, change: Change, now: UnixTime) -> Applied {
    match change {
        Change::Start(_) if entry.pending.as_ref().is_some_and(|p| p.is_live(now)) => Applied::Stale,
        Change::Start(pending) => {
            entry.pending = Some(pending);
            Applied::Done
        }
        Change::Replace { state, .. } if entry.pending.as_ref().is_none_or(|p| p.state != state) => {
            Applied::Stale
        }
        Change::Replace { pending, .. } => {
            entry.pending = Some(pending);
            Applied::Done
        }
        Change::Cancel(state) => cancel(entry, state.as_ref()),
        Change::OpenStart { state, cookie } => open_start(entry, &state, cookie),
        Change::Confirm { state, typed } => confirm(entry, &state, &typed, now),
        Change::FailReturn { state, code } => fail_return(entry, &state, code),
        Change::Reject(token) => reject(entry, &token, now),
        Change::ConfirmRejection(token) => confirm_rejection(entry, &token, now),
        Change::Exhausted(lineage) => exhausted(entry, lineage, now),
        Change::TryAgain(lineage) => on_lineage(entry, lineage, |session| {
            if let Some(retry) = &mut session.retry {
                retry.not_before = now;
            }
        }),
        Change::Notified(lineage) => on_lineage(entry, lineage, |session| {
            let refused = session.retry.as_mut().and_then(|retry| retry.refused.as_mut());
            match (&mut session.ended, refused) {
                (Some(ended), _) => ended.notified_at = Some(now),
                (None, Some(refused)) => refused.notified_at = Some(now),
                (None, None) => {}
            }
        }),
        Change::EndNotified { lineage, end } => {
            on_lineage(entry, lineage, |session| session.notified_end = Some(end))
        }
        Change::Unused(lineage) => unused(entry, lineage, now),
        Change::HandedOut(lineage) => handed_out(entry, lineage),
        Change::Sweep { lineage, ended_before } => sweep(entry, lineage, ended_before, now),
        Change::Demand { lineage, scopes } => demand(entry, lineage, &scopes, now),
        Change::Account { lineage, account, subject } => on_lineage(entry, lineage, |session| {
            session.account = account.or(session.account.take());
            session.subject = session.subject.take().or(subject);
        }),
        Change::Identify { lineage, identity } => identify(entry, lineage, identity),
        Change::Switch { lineage } => switch(entry, lineage, now),
        Change::Keep { lineage } => take_candidate(entry, lineage).map_or(Applied::Stale, |_| Applied::Done),
        // A logout concerns a session. It does not cancel a sign-in in progress.
        Change::Logout if entry.session.is_none() => Applied::Stale,
        Change::Logout => {
            *entry = Entry::default();
            Applied::Done
        }
    }
}

fn apply_settlement(entry: &mut Entry, settlement: Settlement, now: UnixTime) -> Applied {
    match settlement {
        Settlement::Refreshed { target, grant } => refreshed(entry, &target, *grant, now),
        Settlement::HoldBack { target, retry } => {
            on_target(entry, &target, |session| session.retry = Some(retry))
        }
        Settlement::End { target, code } => on_target(entry, &target, |session| {
            let fingerprint = target.fingerprint.clone();
            session.ended = Some(Ended { at: now, code, fingerprint, notified_at: None });
            session.retry = None;
        }),
        Settlement::WrongCode(state) => wrong_code(entry, &state, now),
        Settlement::Polled { state, polling } => polled(entry, &state, *polling),
        Settlement::SignIn { state, session } => sign_in(entry, &state, *session),
        Settlement::AwaitDigits { state, session, digits } => await_digits(entry, &state, *session, digits),
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
    let is_this = |there: &Option<Session>| there.as_ref().is_some_and(|s| s.lineage == session.lineage);
    if is_this(&entry.session) || is_this(&entry.candidate) {
        return Applied::Already;
    }
    // The age does not matter: the sign-in was live when the code was sent, and its result is kept.
    // Without digits no sign-in by the browser becomes a session.
    if entry.pending.as_ref().is_none_or(|p| p.state != *state || p.browser.is_some()) {
        return Applied::Stale;
    }
    session.generation = 1;
    place(entry, session);
    Applied::Done
}

/// Ends the pending sign-in with this session: it takes the present one's place, or becomes the
/// candidate.
fn place(entry: &mut Entry, mut session: Session) {
    session.take_demands_of(entry.session.as_ref());
    entry.pending = None;
    // An earlier candidate goes in either case: its user has signed in again since.
    entry.candidate = None;
    let may_be_another_account = |before: &Session| match before.accounts_with(&session) {
        Accounts::Different => before.verdict().is_none(),
        Accounts::OneUnknown => before.has_known_account(),
        Accounts::Same | Accounts::BothUnknown => false,
    };
    if entry.session.as_ref().is_some_and(may_be_another_account) {
        entry.candidate = Some(session);
    } else {
        entry.session = Some(session);
    }
}

fn demand(entry: &mut Entry, lineage: Lineage, scopes: &[String], now: UnixTime) -> Applied {
    let Some(session) = entry.session.as_mut().filter(|session| session.lineage == lineage) else {
        return Applied::Stale;
    };
    match session.demanded.clone().unwrap_or_default().with(scopes, now) {
        Ok(Some(demanded)) => {
            session.demanded = Some(demanded);
            Applied::Done
        }
        Ok(None) => Applied::Already,
        Err(_) => Applied::Stale,
    }
}

fn identify(entry: &mut Entry, lineage: Lineage, identity: Identity) -> Applied {
    match &mut entry.session {
        Some(session) if session.lineage == lineage && !session.has_proved_subject() => {
            session.identify(identity);
            Applied::Done
        }
        Some(session) if session.lineage == lineage && session.has_identity(&identity) => Applied::Already,
        _ => Applied::Stale,
    }
}

fn switch(entry: &mut Entry, lineage: Lineage, now: UnixTime) -> Applied {
    if entry.session.as_ref().is_some_and(|session| session.lineage == lineage) {
        return Applied::Already;
    }
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

fn refreshed(entry: &mut Entry, target: &RefreshTarget, grant: Grant, now: UnixTime) -> Applied {
    let is_result = |session: &Session| session.is_refresh_of(target, &grant);
    if entry.session.as_ref().is_some_and(is_result) {
        return Applied::Already;
    }
    on_target(entry, target, |session| session.take(grant, now))
}

fn reject(entry: &mut Entry, token: &AccessToken, now: UnixTime) -> Applied {
    let Some(session) = &mut entry.session else { return Applied::Stale };
    let fingerprint = token.fingerprint();
    if session.access_token != *token {
        return Applied::Stale;
    }
    let recently = |r: &Rejected| r.at <= now && now < r.at.saturating_add(seconds(FORCED_REFRESH_INTERVAL));
    let is_pause = |r: &Retry| r.kind() == RetryKind::RejectedAgain && r.active(now).is_some();
    if session.rejected.as_ref().is_some_and(recently) || session.retry.as_ref().is_some_and(is_pause) {
        return Applied::Stale;
    }
    // A confirmed report stays confirmed.
    let decided = session.is_rejected();
    session.rejected = Some(Rejected { fingerprint, at: now, decided });
    Applied::Done
}

fn confirm_rejection(entry: &mut Entry, token: &AccessToken, now: UnixTime) -> Applied {
    let Some(session) = entry.session.as_mut().filter(|session| session.access_token == *token) else {
        return Applied::Stale;
    };
    let fingerprint = token.fingerprint();
    let at = session.rejected.as_ref().filter(|r| r.fingerprint.matches(&fingerprint)).map_or(now, |r| r.at);
    session.rejected = Some(Rejected { fingerprint: fingerprint.clone(), at, decided: true });
    if session.refresh_token.is_none() && session.ended.is_none() {
        let code = Ended::REJECTED.to_owned();
        session.ended = Some(Ended { at: now, code, fingerprint, notified_at: None });
    }
    Applied::Done
}

fn exhausted(entry: &mut Entry, lineage: Lineage, now: UnixTime) -> Applied {
    let is_meant = |session: &&mut Session| {
        session.lineage == lineage && session.is_exhausted(now) && session.ended.is_none()
    };
    let Some(session) = entry.session.as_mut().filter(is_meant) else { return Applied::Stale };
    let fingerprint = session.access_token.fingerprint();
    let code = Ended::EXHAUSTED.to_owned();
    session.ended = Some(Ended { at: now, code, fingerprint, notified_at: None });
    Applied::Done
}

fn unused(entry: &mut Entry, lineage: Lineage, now: UnixTime) -> Applied {
    match &mut entry.session {
        Some(session) if session.lineage == lineage && session.unused_since.is_some() => Applied::Already,
        // The token may have been handed out until its end.
        _ => on_lineage(entry, lineage, |session| session.unused_since = Some(session.expires_at.min(now))),
    }
}

fn handed_out(entry: &mut Entry, lineage: Lineage) -> Applied {
    match &mut entry.session {
        Some(session) if session.lineage == lineage && session.unused_since.is_none() => Applied::Already,
        _ => on_lineage(entry, lineage, |session| session.unused_since = None),
    }
}

fn sweep(entry: &mut Entry, lineage: Lineage, ended_before: UnixTime, now: UnixTime) -> Applied {
    let is_meant = |session: &Session| {
        session.lineage == lineage
            && !session.is_usable(now)
            && session.verdict().is_some_and(|ended| ended.at < ended_before)
    };
    match entry.session.take_if(|session| is_meant(session)) {
        Some(_) => Applied::Done,
        None => Applied::Stale,
    }
}

fn wrong_code(entry: &mut Entry, state: &State, now: UnixTime) -> Applied {
    match &mut entry.pending {
        Some(pending) if pending.state == *state => {
            pending.wrong_codes = Some(WrongCodes::count(pending.wrong_codes, now));
            Applied::Done
        }
        _ => Applied::Stale,
    }
}

fn polled(entry: &mut Entry, state: &State, polling: Polling) -> Applied {
    match &mut entry.pending {
        Some(pending) if pending.state == *state && pending.polling.is_some() => {
            pending.polling = Some(polling);
            Applied::Done
        }
        _ => Applied::Stale,
    }
}

fn on_target(entry: &mut Entry, target: &RefreshTarget, change: impl FnOnce(&mut Session)) -> Applied {
    match &mut entry.session {
        Some(session) if session.refresh_target().is_some_and(|now| now.matches(target)) => {
            change(session);
            Applied::Done
        }
        _ => Applied::Stale,
    }
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

fn browser_return<'a>(entry: &'a mut Entry, state: &State) -> Option<&'a mut BrowserReturn> {
    let pending = entry.pending.as_mut().filter(|pending| pending.state == *state)?;
    pending.browser.as_deref_mut().filter(|browser| browser.failed.is_none())
}

/// Binds the sign-in to the browser with this cookie. Only the first browser gets it.
fn open_start(entry: &mut Entry, state: &State, cookie: Fingerprint) -> Applied {
    match browser_return(entry, state) {
        Some(browser) if browser.unconfirmed.is_some() => Applied::Stale,
        Some(browser) => match &browser.cookie {
            Some(there) if *there == cookie => Applied::Already,
            Some(_) => Applied::Stale,
            None => {
                browser.cookie = Some(cookie);
                Applied::Done
            }
        },
        None => Applied::Stale,
    }
}

/// Keeps the result of the exchange until the digits are typed.
fn await_digits(entry: &mut Entry, state: &State, mut session: Session, digits: Fingerprint) -> Applied {
    let Some(browser) = browser_return(entry, state) else { return Applied::Stale };
    match &browser.unconfirmed {
        Some(there) if there.session.lineage == session.lineage => Applied::Already,
        Some(_) => Applied::Stale,
        None => {
            session.generation = 1;
            browser.unconfirmed = Some(Unconfirmed { session, digits, wrong: 0 });
            Applied::Done
        }
    }
}

/// Compares the typed digits. The right ones finish the sign-in as a paste does; the last wrong
/// attempt ends it and drops the grant.
fn confirm(entry: &mut Entry, state: &State, typed: &Digits, now: UnixTime) -> Applied {
    if !entry.pending.as_ref().is_some_and(|pending| pending.is_live(now)) {
        return Applied::Stale;
    }
    let Some(browser) = browser_return(entry, state) else { return Applied::Stale };
    let Some(mut waiting) = browser.unconfirmed.take() else { return Applied::Stale };
    if waiting.digits == typed.fingerprint(state) {
        // The time of the choice between two accounts begins now.
        waiting.session.issued_at = now;
        place(entry, waiting.session);
        return Applied::Done;
    }
    waiting.wrong = waiting.wrong.saturating_add(1);
    if waiting.wrong < DIGIT_ATTEMPTS {
        browser.unconfirmed = Some(waiting);
    } else {
        browser.failed = Some(failure::WRONG_DIGITS.to_owned());
    }
    Applied::Done
}

/// Ends the sign-in and drops a grant that waits for its digits.
fn fail_return(entry: &mut Entry, state: &State, code: String) -> Applied {
    let Some(browser) = browser_return(entry, state) else { return Applied::Stale };
    browser.unconfirmed = None;
    browser.failed = Some(code);
    Applied::Done
}

#[cfg(test)]
mod tests;
