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
mod text;

use std::fmt;

use parameters::{MIN_LINE, Name, Parameter, is_part_of_code, is_terminator, is_word, without_glue};
use text::{Gap, LETTER, MAX_ENCODINGS, OTHER, Text, decoded};
use zeroize::Zeroizing;

use super::grant::printable;
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

/// The longest description of a refusal that is shown, in characters.
const MAX_DESCRIPTION: usize = 200;

/// The longest issuer, in bytes.
const MAX_ISSUER: usize = 512;

/// The shortest code that is accepted after a label, as in `Code: abc`, without any state.
const MIN_LABELLED_CODE: usize = 8;

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

/// One layer of a paste, and its parameters.
struct Reading<'a> {
    text: &'a Text,
    parameters: Vec<Parameter>,
    own: &'a [&'a State],
}

impl<'a> Reading<'a> {
    fn new(text: &'a Text, own: &'a [&'a State]) -> Self {
        let mut parameters = parameters::find(text, own);
        let requests: Vec<usize> =
            parameters.iter().filter(|one| one.name == Name::OfRequest).map(|one| one.group).collect();
        // A label before the ruled line of a table is a heading.
        let is_heading = |one: &Parameter| one.is_label && !one.value.iter().any(u8::is_ascii_alphanumeric);
        parameters.retain(|one| !requests.contains(&one.group) && !is_heading(one));
        Self { text, parameters, own }
    }

    /// Returns the response to one of our sign-ins; none if the text contains none of our states.
    fn own_response(&self) -> Option<Result<AuthorizationResponse, PasteError>> {
        let mut found: Option<Result<AuthorizationResponse, PasteError>> = None;
        for sign_in in 0..self.own.len() {
            let Some(response) = self.response_to(sign_in) else { continue };
            found = match (found, response) {
                (Some(Ok(_)), Ok(_)) => return Some(Err(PasteError::SeveralCodes)),
                (Some(Ok(response)), _) | (_, Ok(response)) => Some(Ok(response)),
                (Some(Err(PasteError::NoCode)) | None, error) => Some(error),
                (earlier, _) => earlier,
            };
        }
        found
    }

    /// Returns the response to the sign-in at this position, by the rules of the module.
    fn response_to(&self, sign_in: usize) -> Option<Result<AuthorizationResponse, PasteError>> {
        let is_own = |one: &&Parameter| one.own == Some(sign_in);
        let groups: Vec<usize> = self.parameters.iter().filter(is_own).map(|one| one.group).collect();
        let first = self.parameters.iter().find(is_own)?;
        let beside = |name| self.values(name).filter(|one| groups.contains(&one.group));
        if beside(Name::Code).next().is_some() {
            if beside(Name::State).any(|one| one.own != Some(sign_in)) {
                return Some(Err(PasteError::StateMismatch));
            }
            return Some(self.only(beside(Name::Code), Some(sign_in)));
        }
        if let Some(error) = beside(Name::Error).next() {
            return Some(Err(self.denied(error)));
        }
        if let Some(code) = self.word_before(first) {
            // A character that no address contains may cut a named code in two.
            let is_other = |one: &Parameter| {
                !one.is_label && !self.has_state(one.group) && decoded(&one.value) != decoded(&code)
            };
            return Some(if self.values(Name::Code).any(is_other) {
                Err(PasteError::SeveralCodes)
            } else {
                self.answer(&code, Some(sign_in))
            });
        }
        if self.has_foreign_state() {
            return Some(Err(PasteError::StateMismatch));
        }
        if self.values(Name::Code).next().is_some() {
            return Some(self.only(self.values(Name::Code), Some(sign_in)));
        }
        Some(match self.only_word() {
            Some(code) => self.answer(&code, Some(sign_in)),
            None => Err(PasteError::NoCode),
        })
    }

    /// Returns the response in a text with none of our states; none if no parameter shows it.
    fn response_without_own_state(&self) -> Option<Result<AuthorizationResponse, PasteError>> {
        let (labels, names): (Vec<_>, Vec<_>) = self.values(Name::Code).partition(|one| one.is_label);
        // The `code` of an error report is another one.
        let has_error = self.parameters.iter().any(|one| one.name == Name::Error && !one.is_label);
        let names = if has_error { Vec::new() } else { names };
        let labels: Vec<_> = labels.into_iter().filter(|one| reads_as_code(&one.value)).collect();
        let codes = if names.is_empty() { labels } else { names };
        if !codes.is_empty() {
            let is_foreign = |code: &&Parameter| self.has_state(code.group);
            if codes.iter().any(is_foreign) {
                return Some(Err(PasteError::StateMismatch));
            }
            return Some(self.only(codes.into_iter(), None));
        }
        // Whichever sign-in it is for, a refusal contains no code that could be sent.
        if let Some(error) = self.values(Name::Error).find(|one| !one.is_label) {
            return Some(Err(self.denied(error)));
        }
        let state = self.values(Name::State).find(|one| !one.is_label)?;
        self.word_before(state).map(|_| Err(PasteError::StateMismatch))
    }

    /// The parameters of this name that have a value.
    fn values(&self, name: Name) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(move |one| one.name == name && !one.value.is_empty())
    }

    fn has_state(&self, group: usize) -> bool {
        self.values(Name::State).any(|one| one.group == group)
    }

    fn has_foreign_state(&self) -> bool {
        self.values(Name::State).any(|one| one.own.is_none() && !one.is_label)
    }

    /// Returns the code that all these parameters contain.
    fn only<'p>(
        &self,
        codes: impl Iterator<Item = &'p Parameter>,
        sign_in: Option<usize>,
    ) -> Result<AuthorizationResponse, PasteError> {
        let (labels, names): (Vec<_>, Vec<_>) = codes.partition(|one| one.is_label);
        let codes = if names.is_empty() { labels } else { names };
        let first = codes.first().ok_or(PasteError::NoCode)?;
        let code = decoded(&first.value);
        if codes.iter().any(|one| decoded(&one.value) != code) {
            return Err(PasteError::SeveralCodes);
        }
        self.answer(&first.value, sign_in)
    }

    fn answer(&self, code: &[u8], sign_in: Option<usize>) -> Result<AuthorizationResponse, PasteError> {
        let issuers = self.parameters.iter().filter(|one| one.name == Name::Iss && !one.value.is_empty());
        let issuers =
            issuers.map(|one| one.readings(self.text).iter().map(|iss| issuer(&decoded(iss))).collect());
        Ok(AuthorizationResponse { code: code_of(&decoded(code))?, sign_in, issuers: issuers.collect() })
    }

    fn denied(&self, error: &Parameter) -> PasteError {
        let mut descriptions = self.values(Name::Description).filter(|one| one.group == error.group);
        let description = descriptions.next().map(|one| decoded(&one.value).replace('+', " "));
        PasteError::Denied {
            error: word(&decoded(&error.value)),
            description: description.and_then(|text| printable(&text, MAX_DESCRIPTION)),
        }
    }

    /// Returns the word before `#` or `&state=` and a state: `code#state`, and the part of an
    /// address after `code=`.
    fn word_before(&self, state: &Parameter) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = &self.text.bytes;
        let end = state.at.checked_sub(1)?;
        let separator = if state.from == state.at { b'#' } else { b'&' };
        (bytes[end] == separator).then_some(())?;
        let mut begin = end;
        let is_end = |byte: u8| is_terminator(byte) || b"()[]{},;".contains(&byte);
        while let Some(at) = begin.checked_sub(1).filter(|&at| !is_end(bytes[at])) {
            if begin < end && self.text.gap(begin) != Gap::None && !self.goes_on(begin, end) {
                break;
            }
            begin = at;
        }
        let is_value = begin.checked_sub(1).is_some_and(|before| matches!(bytes[before], b'?' | b'&' | b'#'));
        let code = without_marks(&bytes[begin..end], bytes.get(state.state_end()..).unwrap_or_default());
        (!is_value && !code.is_empty() && !is_address(code)).then(|| Zeroizing::new(code.to_vec()))
    }

    /// Whether the characters before a gap are a part of the word that ends at `end`.
    fn goes_on(&self, at: usize, end: usize) -> bool {
        let gap = self.text.gap(at);
        let begin = (0..at).rev().find(|&begin| self.text.gap(begin) != Gap::None).unwrap_or(0);
        let starts_line = self.text.gap(begin) == Gap::Line;
        let is_part = is_part_of_code(&self.text.bytes[begin..at], gap) && self.text.bytes[at - 1] != b':';
        let is_joined = gap == Gap::Line || at - begin >= MIN_LINE;
        starts_line && is_part && is_joined && is_part_of_code(&self.text.bytes[at..end], gap)
    }

    /// Returns the only word besides our state that can be a code, in a text of a few words.
    fn only_word(&self) -> Option<Zeroizing<Vec<u8>>> {
        let is_own = self.parameters.iter().all(|one| one.own.is_some());
        let is_of_state =
            |at: usize| self.parameters.iter().any(|one| (one.at..one.state_end()).contains(&at));
        let mut words: Vec<Zeroizing<Vec<u8>>> = vec![Zeroizing::default()];
        for (at, &byte) in self.text.bytes.iter().enumerate() {
            // A table has bars or commas between its cells.
            let is_separator = is_terminator(byte) || is_of_state(at) || b"|,;".contains(&byte);
            if (is_separator || self.text.gap(at) != Gap::None)
                && words.last().is_some_and(|word| !word.is_empty())
            {
                words.push(Zeroizing::default());
            }
            if let Some(word) = words.last_mut().filter(|_| !is_separator) {
                word.push(byte);
                // The word is the name of the state, as in `oauth_state=…`.
                if byte == b'=' && is_of_state(at + 1) && self.text.gap(at + 1) == Gap::None {
                    word.clear();
                }
            }
        }
        let words: Vec<&[u8]> = words.iter().map(|word| without_glue(without_marks(word, b""))).collect();
        // The ruled lines of a table are no words.
        let is_ruled = |word: &&&[u8]| !word.iter().any(u8::is_ascii_alphanumeric);
        let words: Vec<&[u8]> = words.iter().filter(|word| !is_ruled(word)).copied().collect();
        let mut codes = words.iter().filter(|word| !is_word(word));
        let code = codes.next().filter(|code| !is_address(code) && !without_padding(code).contains(&b'='))?;
        (is_own && words.len() <= MAX_WORDS && codes.next().is_none()).then(|| Zeroizing::new(code.to_vec()))
    }
}

/// The most words of a text whose one unusual word counts as the code.
const MAX_WORDS: usize = 6;

/// Parses a text without parameters and without one of our states: the code alone, or with a
/// foreign state.
fn bare(layers: &[Text], own: &[&State]) -> Result<AuthorizationResponse, PasteError> {
    if layers.iter().any(|text| is_address(&text.bytes)) {
        return Err(PasteError::NoCode);
    }
    let text = layers.first().ok_or(PasteError::Empty)?;
    let is_decoration =
        |b: &u8| matches!(*b, OTHER | b'"' | b'\'' | b'<' | b'>' | b'`') || b"()[]{}|*".contains(b);
    let mut begin = text.bytes.iter().take_while(|b| is_decoration(b)).count();
    if text.bytes[..begin].ends_with(b"```") {
        // The name of a language stands after the fence, in the same line.
        let code = (begin + 1..text.bytes.len()).find(|&at| text.gap(at) == Gap::Line);
        let is_language = |code: &usize| text.gap(begin) == Gap::None && is_word(&text.bytes[begin..*code]);
        begin = code.filter(is_language).unwrap_or(begin);
    }
    let end = text
        .bytes
        .iter()
        .rposition(|b| !is_decoration(b) && !b".,;:!?".contains(b))
        .map_or(begin, |last| last + 1);
    let word = text.bytes.get(begin..end).unwrap_or_default();
    let (code, state) = match word.iter().position(|&b| b == b'#') {
        Some(at) => (&word[..at], &word[at + 1..]),
        None => (word, &b""[..]),
    };
    let starts: Vec<usize> =
        (begin..begin + code.len()).filter(|&at| at == begin || text.gap(at) != Gap::None).collect();
    let is_whole = starts.len() <= 1
        || starts.iter().enumerate().all(|(index, &from)| {
            let to = starts.get(index + 1).copied().unwrap_or(begin + code.len());
            is_part_of_code(&text.bytes[from..to], text.gap(from.max(starts[1])))
        });
    let is_state = own.iter().any(|state| state.expose().as_bytes() == code);
    if code.is_empty() || !is_whole || is_state || code.iter().any(|&b| is_terminator(b)) {
        return Err(PasteError::NoCode);
    }
    let code = code_of(&decoded(code))?;
    if !state.is_empty() || code.expose().contains('#') {
        return Err(PasteError::StateMismatch);
    }
    Ok(AuthorizationResponse { code, sign_in: None, issuers: Vec::new() })
}

/// Removes brackets, emphasis and a label's punctuation from the beginning of a word. An underscore
/// may be a part of the code, unless another one follows the state.
fn without_marks<'a>(word: &'a [u8], after: &[u8]) -> &'a [u8] {
    let is_mark = |&&b: &&u8| b"([{|*:,.;!".contains(&b) || (b"_~".contains(&b) && after.first() == Some(&b));
    &word[word.iter().take_while(is_mark).count()..]
}

fn without_padding(code: &[u8]) -> &[u8] {
    let end = code.iter().rposition(|&b| b != b'=');
    end.map_or(&[], |end| &code[..=end])
}

/// Whether a labelled value is a code and no word or number of a message.
fn reads_as_code(value: &[u8]) -> bool {
    value.len() >= MIN_LABELLED_CODE && !is_word(value)
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

/// Whether the text is or contains an address. Browsers omit the scheme from a copied address.
fn is_address(text: &[u8]) -> bool {
    let starts =
        |host: &&str| text.get(..host.len()).is_some_and(|start| start.eq_ignore_ascii_case(host.as_bytes()));
    text.windows(3).any(|found| found == b"://")
        || ["localhost:", "localhost/", "127.0.0.1", "[::1]", "www."].iter().any(starts)
}

/// Returns an error code as one lower-case word, without the other characters that RFC 6749
/// §4.1.2.1 permits.
fn word(error: &str) -> String {
    let word = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-');
    let word: String = error.to_ascii_lowercase().chars().filter(word).take(64).collect();
    if word.is_empty() { "unknown_error".to_owned() } else { word }
}

#[cfg(test)]
mod tests;
