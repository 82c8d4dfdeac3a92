//! The request that begins a sign-in at the provider (RFC 8628 §3.1, CIBA Core §7.1), and the reader
//! of its answer.

use url::Url;

use crate::{
    net::is_loopback,
    oauth::{
        content::{Content, Object},
        grant::printable,
        outcome::{self, Outcome},
    },
    secret::{DeviceCode, Scrubber},
    session::{PENDING_LIFETIME, Polling, journal::Answer, seconds},
};

/// The longest `user_code`, in characters.
const MAX_USER_CODE: usize = 64;

/// The longest address of a verification page, in bytes.
const MAX_URL: usize = 2000;

/// The reason why a sign-in cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// No name of the user at the provider is known.
    #[error("no login hint is known for the user")]
    NoLoginHint,
    /// No answer arrived. The word is a stable code.
    #[error("{0}")]
    Unreachable(String),
    /// The provider answered without a code.
    #[error("{0}")]
    Refused(String),
    /// The answer has no usable value of this name.
    #[error("its answer has no usable {0}")]
    Unusable(&'static str),
}

/// A successful answer to an [`OpeningRequest`].
pub(super) struct Opened<'a> {
    members: Object<'a>,
    at: i64,
}

/// Returns the content of an answer for [`Opened::read`].
///
/// # Errors
/// The provider's error, in a stable word.
pub(super) fn content(answer: &Answer) -> Result<Content, OpeningError> {
    let content = Content::of(answer);
    let is_object = |content: &Content| content.object().is_some_and(|object| !object.reports_error());
    match content {
        Some(content) if (200..300).contains(&answer.status) && is_object(&content) => Ok(content),
        _ => Err(OpeningError::Refused(match outcome::of_opening(answer) {
            Outcome::Unspent { code, .. }
            | Outcome::Ambiguous { code }
            | Outcome::Refused { code }
            | Outcome::Ended { code }
            | Outcome::Misconfigured { code } => code,
            Outcome::Granted(_) | Outcome::Foreign { .. } => format!("http_{}", answer.status),
        })),
    }
}

impl<'a> Opened<'a> {
    /// Reads the members of an answer.
    pub(super) fn read(content: &'a Content, answer: &Answer) -> Result<Self, OpeningError> {
        let members = content.object().ok_or(OpeningError::Unusable("JSON object"))?;
        Ok(Self { members, at: answer.at })
    }

    /// Returns the code of the poll, and notes it in the scrubber.
    pub(super) fn code(&self, name: &'static str) -> Result<DeviceCode, OpeningError> {
        let code = self.members.text(name).whole().ok_or(OpeningError::Unusable(name))?;
        Scrubber::of_process().note(&code);
        Ok(DeviceCode::new(code))
    }

    /// Returns the code that the user enters, from the first member that is present.
    pub(super) fn user_code(&self, names: &[&str]) -> Result<String, OpeningError> {
        let code = names.iter().find_map(|name| self.members.text(name).whole());
        let is_plain = |code: &String| code.chars().all(|c| c.is_alphanumeric() || "- _.".contains(c));
        let code = code.filter(|code| code.chars().count() <= MAX_USER_CODE);
        let code = code.and_then(|code| printable(&code, MAX_USER_CODE)).filter(is_plain);
        code.ok_or(OpeningError::Unusable("user_code"))
    }

    /// Returns the address of a page: https, or http on loopback.
    pub(super) fn page(&self, names: &[&str]) -> Option<String> {
        let text = names.iter().find_map(|name| self.members.text(name).whole())?;
        let url = Url::parse(&text).ok()?;
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        let is_plain = url.username().is_empty() && url.password().is_none() && url.as_str().len() <= MAX_URL;
        (is_safe && is_plain).then(|| url.to_string())
    }

    /// Returns when the code expires. Without a number that is the end of the sign-in itself.
    pub(super) fn expires_at(&self) -> i64 {
        let lifetime = self.number("expires_in").map_or(seconds(PENDING_LIFETIME), i64::from);
        self.at.saturating_add(lifetime)
    }

    /// Returns the interval. Some providers write it as a text.
    pub(super) fn interval(&self) -> u32 {
        let interval = self.number("interval").unwrap_or(Polling::DEFAULT_INTERVAL);
        interval.clamp(1, Polling::LONGEST_INTERVAL)
    }

    fn number(&self, name: &str) -> Option<u32> {
        whole_seconds(self.members.number(name)?)
    }
}

/// Returns a number of seconds, rounded up; a day at most. `None` unless it is more than zero.
pub(super) fn whole_seconds(number: f64) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds")]
    (number > 0.0).then(|| number.ceil().min(86_400.0) as u32)
}
