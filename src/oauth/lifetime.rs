//! The lifetime of an access token, from whichever member names it.
//!
//! `expires_in` counts before a time of expiry, because two clocks may differ. A lifetime that is
//! impossible counts as none: a grant never expires on arrival.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::content::{Object, number};
use crate::{session::seconds, sys::clock::UnixTime};

/// The longest lifetime that needs no setting: a year.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The members that name a time of expiry.
const INSTANTS: [&str; 3] = ["expires_at", "expires_on", "expires"];

/// From this number on a time is not in seconds: in seconds it is the year 5138.
const NO_SECONDS: f64 = 1e11;

/// The facts that a lifetime depends on, besides the answer.
pub(super) struct Circumstances {
    /// When the answer arrived.
    pub(super) at: UnixTime,
    /// Whether the token can be refreshed.
    pub(super) is_refreshable: bool,
    /// The setting `max_lifetime`.
    pub(super) longest: Option<Duration>,
}

/// Returns the lifetime of an access token, at least a second; `None` if it is unknown.
pub(super) fn lifetime(
    tokens: &Object<'_>,
    access_token: &str,
    circumstances: &Circumstances,
) -> Option<Duration> {
    let until = |end: f64| seconds_of(end - circumstances.at as f64);
    let named = || tokens.number("expires_in").and_then(seconds_of);
    let named = named().map(|named| without_milliseconds(named, circumstances));
    let named =
        named.or_else(|| INSTANTS.iter().find_map(|name| until(instant(&text_or_number(tokens, name)?)?)));
    // A token may be served from a cache, or live shorter than its answer names, but never longer.
    let hint = jwt_expiry(access_token).and_then(until);
    let shortest = named.into_iter().chain(hint).min();
    let bound = circumstances.longest.unwrap_or(YEAR);
    shortest.map(|lifetime| lifetime.min(bound)).or(circumstances.longest)
}

/// The longest time for which a refresh token's end is believed: ten years. A longer one means
/// "never".
const LONGEST_LOGIN: f64 = 10.0 * 365.0 * 86_400.0;

/// The members that name the lifetime of a refresh token, in seconds. No standard has one.
const REFRESH_LIFETIMES: [&str; 3] =
    ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"];

/// The members that name the time at which a refresh token expires.
const REFRESH_INSTANTS: [&str; 3] =
    ["refresh_token_expires_at", "refreshTokenExpiresAt", "refresh_expires_at"];

/// Returns the time at which the refresh token of an answer that arrived at `at` expires. Zero and
/// the past mean no end: a refresh token never expires on arrival.
pub(super) fn refresh_expiry(tokens: &Object<'_>, at: UnixTime) -> Option<UnixTime> {
    let named = REFRESH_LIFETIMES.iter().find_map(|name| tokens.number(name));
    let until = || REFRESH_INSTANTS.iter().find_map(|name| instant(&text_or_number(tokens, name)?));
    let left = named.or_else(|| until().map(|end| end - at as f64))?;
    let is_an_end = (1.0..=LONGEST_LOGIN).contains(&left);
    is_an_end.then(|| at.saturating_add(left.floor() as i64))
}

/// Returns a number of seconds as a lifetime, unless it is in the past. The store counts whole
/// seconds, and no lifetime is rounded down to zero.
fn seconds_of(number: f64) -> Option<Duration> {
    (number > 0.0).then(|| {
        Duration::try_from_secs_f64(number.floor().max(1.0)).unwrap_or(Duration::from_secs(u64::MAX))
    })
}

/// Reads a lifetime of more than a year as milliseconds, if that is possible for this token.
fn without_milliseconds(named: Duration, circumstances: &Circumstances) -> Duration {
    if named <= circumstances.longest.unwrap_or(YEAR).max(YEAR) || !circumstances.is_refreshable {
        return named;
    }
    let read = Duration::from_secs((named.as_secs() / 1000).max(1));
    if read <= YEAR { read } else { named }
}

/// Returns a member that is a number or a text, as a text.
fn text_or_number(tokens: &Object<'_>, name: &str) -> Option<String> {
    tokens.text(name).whole().or_else(|| tokens.number(name).map(|number| number.to_string()))
}

/// Reads a time in Unix seconds: a number of seconds or of milliseconds, RFC 3339, or the date of
/// HTTP (RFC 9110 §5.6.7).
fn instant(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Some(mut number) = number(text) {
        while number >= NO_SECONDS {
            number /= 1000.0;
        }
        return Some(number);
    }
    // Some providers leave out the offset, and mean UTC.
    for text in [text, &format!("{text}Z")] {
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            return Some(time.unix_timestamp() as f64);
        }
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(seconds(date.duration_since(UNIX_EPOCH).ok()?) as f64)
}

/// Returns the `exp` of an access token that is a JWT (RFC 9068 §2.2). Its signature does not
/// matter, because a wrong time does no more harm than a wrong `expires_in`.
fn jwt_expiry(access_token: &str) -> Option<f64> {
    let claims = jwt_claims(access_token)?;
    instant(&text_or_number(&Object::parse(&claims)?, "exp")?)
}

/// Returns the payload of a JWT (RFC 7519 §7.2), unverified, as the text of a JSON object.
pub(super) fn jwt_claims(token: &str) -> Option<Zeroizing<String>> {
    let mut parts = token.trim().split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    Some(Zeroizing::new(String::from_utf8_lossy(&payload).into_owned()))
}

#[cfg(test)]
mod tests;
