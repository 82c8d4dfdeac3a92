//! The way back through our own pages: the browser brings the code, and six digits prove that the
//! user who started the sign-in is the user who signed in (RFC 9700 §4.7, adr/0041).
//!
//! A [`BrowserReturn`] is a part of the pending sign-in. The tokens of its exchange stay in there as
//! [`Unconfirmed`], and no other code looks for a session in a pending sign-in. So a switch, a
//! refresh or a caller of tokens cannot use them, nor can an older program, which keeps the member
//! as an unknown one. [`confirm`] is the only function that moves them out.

use super::{Applied, Entry, Pending, Session, change::place};
use crate::{
    ids::UnixTime,
    secret::{Digits, Fingerprint, StartId, State},
};

/// How many times a user may type the digits.
pub const DIGIT_ATTEMPTS: u32 = 3;

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

/// The words of [`BrowserReturn::failed`] that are not a provider's.
pub mod failure {
    /// The user denied the access (RFC 6749 §4.1.2.1).
    pub const DENIED: &str = "access_denied";
    /// Other digits were typed [`DIGIT_ATTEMPTS`](super::DIGIT_ATTEMPTS) times.
    pub const WRONG_DIGITS: &str = "wrong_digits";
    /// No digits were typed in time.
    pub const NO_DIGITS: &str = "no_digits";
    /// The process ended during the exchange, so that no page shows the digits.
    pub const INTERRUPTED: &str = "interrupted";
    /// The answer names another issuer (RFC 9207).
    pub const WRONG_ISSUER: &str = "wrong_issuer";
}

impl Pending {
    /// The grant that waits for its digits.
    pub fn unconfirmed(&self) -> Option<&Unconfirmed> {
        self.browser.as_ref()?.unconfirmed.as_ref()
    }

    /// The reason why the way back through the browser ended.
    pub fn failure(&self) -> Option<&str> {
        self.browser.as_ref()?.failed.as_deref()
    }

    /// The beginning of the present step: the start, or the exchange.
    pub(super) fn since(&self) -> UnixTime {
        self.unconfirmed().map_or(self.created_at, |waiting| waiting.session.issued_at.max(self.created_at))
    }
}

fn of<'a>(entry: &'a mut Entry, state: &State) -> Option<&'a mut BrowserReturn> {
    let pending = entry.pending.as_mut().filter(|pending| pending.state == *state)?;
    pending.browser.as_deref_mut().filter(|browser| browser.failed.is_none())
}

/// Binds the sign-in to the browser with this cookie. Only the first browser gets it.
pub(super) fn open(entry: &mut Entry, state: &State, cookie: Fingerprint) -> Applied {
    match of(entry, state) {
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
pub(super) fn await_digits(
    entry: &mut Entry,
    state: &State,
    mut session: Session,
    digits: Fingerprint,
) -> Applied {
    let Some(browser) = of(entry, state) else { return Applied::Stale };
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
pub(super) fn confirm(entry: &mut Entry, state: &State, typed: &Digits, now: UnixTime) -> Applied {
    if !entry.pending.as_ref().is_some_and(|pending| pending.is_live(now)) {
        return Applied::Stale;
    }
    let Some(browser) = of(entry, state) else { return Applied::Stale };
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
pub(super) fn fail(entry: &mut Entry, state: &State, code: String) -> Applied {
    let Some(browser) = of(entry, state) else { return Applied::Stale };
    browser.unconfirmed = None;
    browser.failed = Some(code);
    Applied::Done
}
