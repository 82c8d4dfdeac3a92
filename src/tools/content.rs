//! A text with placeholders.

use super::escape::Format;

/// A text with placeholders, and its format.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The text.
    pub text: &'a str,
    /// The format.
    pub format: Format,
}

impl Content<'_> {
    /// Whether an access token or an id token is in it.
    pub fn holds_token(&self) -> bool {
        ["{access_token}", "{id_or_access_token}"].iter().any(|name| self.text.contains(name))
    }

    /// Whether the account of a token is in it, which the token names.
    pub fn names_account(&self) -> bool {
        self.text.contains("chatgpt_account_id}")
    }

    /// Whether a token or a secret of the injecting proxy is in it.
    pub fn holds_secret(&self) -> bool {
        self.holds_token() || self.text.contains("{key}")
    }
}
