//! The way back through our own pages: the browser brings the code, and six digits prove that the
//! user who started the sign-in is the user who signed in (RFC 9700 §4.7, adr/0041).
//!
//! A [`BrowserReturn`](super::BrowserReturn) is a part of the pending sign-in. The tokens of its exchange stay in there as
//! [`Unconfirmed`], and no other code looks for a session in a pending sign-in. So a switch, a
//! refresh or a caller of tokens cannot use them, nor can an older program, which keeps the member
//! as an unknown one. [`Change::Confirm`](super::Change::Confirm) alone moves them out.

use super::{Pending, Unconfirmed};
use crate::ids::UnixTime;

/// How many times a user may type the digits.
pub const DIGIT_ATTEMPTS: u32 = 3;

/// The words for the end of a sign-in that are not a provider's
/// ([`BrowserReturn::failed`](super::BrowserReturn::failed), [`Polling::ended`](super::Polling::ended)).
pub mod failure {
    /// The user denied the access (RFC 6749 §4.1.2.1).
    pub const DENIED: &str = "access_denied";
    /// Other digits were typed [`DIGIT_ATTEMPTS`](super::DIGIT_ATTEMPTS) times.
    pub const WRONG_DIGITS: &str = "wrong_digits";
    /// No digits were typed in time.
    pub const NO_DIGITS: &str = "no_digits";
    /// The process ended during the exchange, so that no page shows the digits.
    pub const INTERRUPTED: &str = "interrupted";
    /// The code was sent, and its answer was lost or unreadable.
    pub const CODE_SPENT: &str = "code_spent";
    /// The user who started the sign-in may no longer finish it.
    pub const NOT_ENTITLED: &str = "not_entitled";
    /// The answer names another issuer (RFC 9207), or none although the provider promises it.
    pub const WRONG_ISSUER: &str = "wrong_issuer";
    /// The answer arrived at the redirect URI of another provider (RFC 9700 §4.4).
    pub const WRONG_CALLBACK: &str = "wrong_callback";
}

impl Pending {
    /// The grant that waits for its digits.
    pub fn unconfirmed(&self) -> Option<&Unconfirmed> {
        self.browser.as_ref()?.unconfirmed.as_ref()
    }

    /// Whether a browser has opened the link and has not brought the answer back.
    pub fn awaits_its_browser(&self) -> bool {
        self.browser.as_ref().is_some_and(|browser| {
            browser.cookie.is_some() && browser.unconfirmed.is_none() && browser.failed.is_none()
        })
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
