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
mod response;
mod text;

use std::fmt;

use parameters::Name;
use reading::{Reading, bare};
use response::issuer;
use text::{LETTER, MAX_ENCODINGS, Text, decoded};
use zeroize::Zeroizing;

pub use response::{AuthorizationResponse, PasteError};

use crate::secret::State;

/// A pasted text that may contain an authorization response.
pub struct Pasted {
    text: Text,
    /// The text without the marks at the beginnings of its lines, if it has some.
    unmarked: Option<Text>,
}

/// The longest paste, in bytes.
const MAX_PASTE: usize = 64 * 1024;

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

#[cfg(test)]
mod tests;
