//! What people paste when they were asked for a code.

use crate::secret::{AuthorizationCode, State};

/// A pasted answer, taken apart.
#[derive(Debug)]
pub struct Pasted {
    /// The code.
    pub code: AuthorizationCode,
    /// The `state`, where the paste carried one.
    pub state: Option<State>,
    /// The `iss` (RFC 9207), where the paste carried one.
    pub iss: Option<String>,
}

/// Why a paste is no answer. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// Nothing there.
    #[error("that was empty: paste the code, or the whole address of the page that you ended on")]
    Empty,
    /// A URL without a code.
    #[error(
        "that address carries no code: paste the address of the page that you ended on after you allowed the access"
    )]
    NoCode,
    /// The provider says no (RFC 6749 §4.1.2.1).
    #[error("the sign-in was not allowed ({error}{}): start again if that was not meant", description.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
    Denied {
        /// `access_denied`, …
        error: String,
        /// The provider's words.
        description: Option<String>,
    },
    /// Too long for a code.
    #[error("that is too long for a code: paste only the code, or the address of the page that you ended on")]
    TooLong,
}

impl Pasted {
    /// Takes the code, `code#state`, or the whole callback URL, with white space, line breaks, `<>`, quotes or backticks
    /// around or in it.
    pub fn parse(text: &str) -> Result<Self, PasteError> {
        let _ = text;
        unimplemented!()
    }
}
