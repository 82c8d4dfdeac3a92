//! The result of a paste: an authorization response, or the reason why there is none.

use crate::secret::AuthorizationCode;

/// The longest code, in bytes.
const MAX_CODE: usize = 8 * 1024;

/// The longest issuer, in bytes.
const MAX_ISSUER: usize = 512;

/// The authorization response of a paste.
#[derive(Debug)]
pub struct AuthorizationResponse {
    /// The code.
    pub code: AuthorizationCode,
    /// The position of its sign-in among the states that were passed; none if the paste has no
    /// state.
    pub sign_in: Option<usize>,
    /// The values that each `iss` (RFC 9207) may have.
    pub(super) issuers: Vec<Vec<String>>,
}

/// The reason why a paste has no code. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// The paste is empty.
    #[error("that was empty: paste the code, or the whole address of the page that you ended on")]
    Empty,
    /// The paste is a URL without a code, or a text that cannot be a code.
    #[error(
        "that address contains no code: paste the address of the page that you ended on after you allowed the access"
    )]
    NoCode,
    /// The paste contains codes of several sign-ins, or several codes of one.
    #[error("that text contains more than one code: paste only the address of the page that you ended on")]
    SeveralCodes,
    /// The paste belongs to another sign-in (RFC 6749 §10.12).
    #[error(
        "that code belongs to another sign-in, or the address was cut or changed (its state does not match): use the newest link, and paste the whole address of the page that it ends on"
    )]
    StateMismatch,
    /// The provider refused the sign-in (RFC 6749 §4.1.2.1).
    #[error("the sign-in was not allowed ({error}{}): start again if you did not mean to refuse it", description.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
    Denied {
        /// `access_denied`, …
        error: String,
        /// The provider's description, cleaned for display.
        description: Option<String>,
    },
    /// The paste is too long for a code.
    #[error("that is too long for a code: paste only the code, or the address of the page that you ended on")]
    TooLong,
}

impl AuthorizationResponse {
    /// Whether it names an issuer (RFC 9207).
    pub fn has_issuer(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// Returns an issuer (RFC 9207) that is not the `expected` one, cleaned for display.
    pub fn foreign_issuer(&self, expected: &str) -> Option<&str> {
        let foreign = self.issuers.iter().find(|values| !values.iter().any(|value| value == expected))?;
        foreign.first().map(String::as_str)
    }
}

/// Returns an issuer, which is a URL (RFC 9207 §2). A text that cannot be a URL is escaped and
/// marked with `…`, so that it can be shown and equals no configured issuer.
pub(super) fn issuer(text: &str) -> String {
    if text.len() <= MAX_ISSUER && text.bytes().all(|b| b.is_ascii_graphic()) {
        return text.to_owned();
    }
    text.escape_default().take(MAX_ISSUER).chain(['…']).collect()
}

/// Checks that a code is printable ASCII (RFC 6749 appendix A.11), and of a length that a provider
/// may use.
pub(super) fn code_of(text: &str) -> Result<AuthorizationCode, PasteError> {
    if text.len() > MAX_CODE {
        return Err(PasteError::TooLong);
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(PasteError::NoCode);
    }
    Ok(AuthorizationCode::new(text))
}
