//! The parser for the text that a user pastes to finish a sign-in: the authorization response (RFC
//! 6749 §4.1.2), changed by browsers, terminals, shells and chat programs.
//!
//! # Our own state is enough
//!
//! The caller passes the states of the sign-ins in progress. A state has at least 128 random bits,
//! and only the link of its sign-in contains it. So a text that contains one whole was made for
//! that sign-in, and the parser then accepts the text with anything around it: prose, quotes,
//! decoration, escapes, wrapped lines. It searches the text as it stands, and then with one to
//! three percent-encodings removed, because a redirector puts the whole address into a parameter. If
//! that finds none of our states, it undoes the escapes of Proofpoint, and then removes the marks at
//! the beginnings of lines (`> `, `12: `, `// `). A wrong guess finds no state.
//!
//! The state shows which sign-in the text is for. It does not show which code belongs to it, if
//! the text has several. The rules for that, in order:
//!
//! 1. A code in the same address or object as our state belongs to it, whatever else the text
//!    contains. So does the word before `#` and our state. Another state in that address, or a
//!    second, different code, makes the meaning uncertain: refused.
//! 2. Elsewhere in the text, a code belongs to our state only if it is the only one, and the text
//!    contains no other state at all.
//! 3. Without any named code, the only word of a short text that can be a code is the code.
//!
//! Thus an attacker who gets a victim to paste a foreign answer beside the victim's own one gains
//! nothing: the foreign code stands with its own state, or is not the only code.
//!
//! An authorization *request* contains our state as well. A user who pastes the sign-in link has no
//! code yet, so the parameters of a request count for nothing.
//!
//! Without one of our states, any other state is refused. A code without a state is returned as
//! such; the caller accepts it only where the provider enforces PKCE.

mod parameters;
mod reading;
mod text;

use std::fmt;

use parameters::Name;
use reading::{Reading, bare};
use text::{LETTER, MAX_ENCODINGS, Text, decoded};
use zeroize::Zeroizing;

use crate::secret::{AuthorizationCode, State};

/// A pasted text that may contain an authorization response.
pub struct Pasted {
    text: Text,
    /// The text without the marks at the beginnings of its lines, if it has some.
    unmarked: Option<Text>,
}

/// The authorization response of a paste.
#[derive(Debug)]
pub struct AuthorizationResponse {
    /// The code.
    pub code: AuthorizationCode,
    /// The position of its sign-in among the states that were passed; none if the paste has no
    /// state.
    pub sign_in: Option<usize>,
    /// The values that each `iss` (RFC 9207) may have.
    issuers: Vec<Vec<String>>,
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

/// The longest paste, in bytes.
const MAX_PASTE: usize = 64 * 1024;

/// The longest code, in bytes.
const MAX_CODE: usize = 8 * 1024;

/// The longest issuer, in bytes.
const MAX_ISSUER: usize = 512;

impl Pasted {
    /// Takes a pasted text: the code, `code#state`, or the address of the last page, with whatever
    /// stands around it. At most 64 KiB.
    ///
    /// # Errors
    /// [`PasteError::Empty`] or [`PasteError::TooLong`].
    pub fn parse(text: &str) -> Result<Self, PasteError> {
        if text.len() > MAX_PASTE {
            return Err(PasteError::TooLong);
        }
        let unnumbered = text::without_line_numbers(text);
        let text = unnumbered.as_ref().map_or(text, |text| text.as_str());
        let unmarked = text::without_line_marks(text).map(|text| Text::new(&text));
        let text = Text::new(text);
        if !text.bytes.iter().any(|b| b.is_ascii_alphanumeric() || *b == LETTER) {
            return Err(PasteError::Empty);
        }
        Ok(Self { text, unmarked })
    }

    /// Finds the authorization response. `own` are the states of the user's sign-ins in progress.
    ///
    /// # Errors
    /// [`PasteError`]; nothing was sent, and the sign-in can still be finished.
    pub fn response(&self, own: &[&State]) -> Result<AuthorizationResponse, PasteError> {
        let plain = layers(self.quoted_printable(own).unwrap_or_else(|| self.text.clone()));
        let escaped = || self.text.proofpoint_decoded().map(layers);
        let unmarked = || self.unmarked.clone().map(layers);
        let mut has_own_state = false;
        let candidates: [&dyn Fn() -> Option<Vec<Text>>; 3] = [&|| Some(plain.clone()), &escaped, &unmarked];
        for layers in candidates.iter().filter_map(|candidate| candidate()) {
            for reading in layers.iter().map(|text| Reading::new(text, own)) {
                match reading.own_response() {
                    // The code may stand in an address that is encoded as a whole.
                    Some(Err(PasteError::NoCode)) if reading.values(Name::Code).next().is_none() => {
                        has_own_state = true;
                    }
                    Some(found) => return found,
                    None => {}
                }
            }
        }
        if has_own_state {
            return Err(PasteError::NoCode);
        }
        let readings: Vec<Reading<'_>> = plain.iter().map(|text| Reading::new(text, own)).collect();
        let labelled = readings.iter().find_map(Reading::response_without_own_state);
        labelled.unwrap_or_else(|| bare(&plain, own))
    }

    /// Whether the text names an issuer (RFC 9207), and whether one is not the `expected` one. The values
    /// count as they stand, and with each encoding removed.
    pub fn issuers(&self, own: &State, expected: &str) -> (bool, bool) {
        let mut texts = vec![self.quoted_printable(&[own]).unwrap_or_else(|| self.text.clone())];
        texts.extend(self.text.proofpoint_decoded());
        let mut named = false;
        for text in texts.into_iter().flat_map(layers) {
            let parameters = parameters::find(&text, &[own]);
            if !parameters.iter().any(|one| one.own.is_some()) {
                continue;
            }
            for one in parameters.iter().filter(|one| one.name == Name::Iss && !one.value.is_empty()) {
                named = true;
                if !one.readings(&text).iter().any(|iss| issuer(&decoded(iss)) == expected) {
                    return (true, true);
                }
            }
        }
        (named, false)
    }

    /// Returns the visible characters of the text in every form in which a response may stand: without
    /// blanks, escapes and the marks of lines, as it stands and decoded.
    pub fn forms(&self) -> Vec<Zeroizing<String>> {
        let decoded = [self.text.quoted_printable_decoded(), self.text.proofpoint_decoded()];
        let texts = [self.unmarked.clone()].into_iter().chain(decoded).flatten();
        let forms = std::iter::once(self.text.clone()).chain(texts).flat_map(layers);
        forms.map(|text| Zeroizing::new(String::from_utf8_lossy(&text.bytes).into_owned())).collect()
    }

    /// Returns the text without quoted-printable, if one of our states shows that it is in that form.
    fn quoted_printable(&self, own: &[&State]) -> Option<Text> {
        // A soft line break may stand in the state.
        let plain = self.text.without_soft_line_breaks();
        let is_quoted_printable =
            |state: &&State| plain.find(format!("=3D{}", state.expose()).as_bytes(), 0).is_some();
        own.iter().any(is_quoted_printable).then(|| self.text.quoted_printable_decoded()).flatten()
    }
}

/// Returns a text as it stands, and with one to three encodings removed.
fn layers(text: Text) -> Vec<Text> {
    let mut layers = vec![text];
    while layers.len() <= MAX_ENCODINGS
        && let Some(decoded) = layers.last().and_then(Text::percent_decoded)
    {
        layers.push(decoded);
    }
    layers
}

impl fmt::Debug for Pasted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pasted(…)")
    }
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
fn issuer(text: &str) -> String {
    if text.len() <= MAX_ISSUER && text.bytes().all(|b| b.is_ascii_graphic()) {
        return text.to_owned();
    }
    text.escape_default().take(MAX_ISSUER).chain(['…']).collect()
}

/// Checks that a code is printable ASCII (RFC 6749 appendix A.11), and of a length that a provider
/// may use.
fn code_of(text: &str) -> Result<AuthorizationCode, PasteError> {
    if text.len() > MAX_CODE {
        return Err(PasteError::TooLong);
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(PasteError::NoCode);
    }
    Ok(AuthorizationCode::new(text))
}

#[cfg(test)]
mod tests;
