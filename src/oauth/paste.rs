//! The parser for the text that a user pastes to finish a sign-in: the authorization response (RFC
//! 6749 §4.1.2), changed by browsers, terminals and chat programs. The parser accepts every text
//! that can only mean one thing.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::grant::{is_invisible, printable};
use crate::secret::{AuthorizationCode, State};

/// A parsed authorization response.
#[derive(Debug)]
pub struct Pasted {
    /// The code.
    pub code: AuthorizationCode,
    /// The `state`, if the paste contains one.
    pub state: Option<State>,
    /// The `iss` (RFC 9207), if the paste contains one.
    pub iss: Option<String>,
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

impl Pasted {
    /// Parses the code, `code#state` or the whole callback URL. White space, line breaks, `<>`,
    /// quotes and backticks may stand around or in it.
    ///
    /// # Errors
    /// [`PasteError`]; nothing was sent, and the sign-in can still be finished.
    pub fn parse(text: &str) -> Result<Self, PasteError> {
        if text.len() > MAX_PASTE {
            return Err(PasteError::TooLong);
        }
        let cleaned = clean(text);
        if cleaned.is_empty() {
            return Err(PasteError::Empty);
        }
        match parameters(&cleaned) {
            Some(parameters) => from_parameters(&parameters),
            None if is_address(&cleaned) => Err(PasteError::NoCode),
            None => bare(&cleaned),
        }
    }
}

/// The longest paste, in bytes.
const MAX_PASTE: usize = 8 * 1024;

/// The longest description of a refusal that is shown, in characters.
const MAX_DESCRIPTION: usize = 200;

/// The longest issuer, in bytes.
const MAX_ISSUER: usize = 512;

/// Removes the characters that chat programs, terminals and users add to an address: white space
/// and line breaks anywhere, invisible characters, `<>`, quotes, code fences, spoiler bars, a
/// masked link. A code or a URL can contain none of them.
fn clean(text: &str) -> Zeroizing<String> {
    let text = target_of_masked_link(inside_fence(text.trim()));
    let kept = text.chars().filter(|&c| {
        !c.is_whitespace()
            && !is_invisible(c)
            && !matches!(c, '<' | '>' | '"' | '`' | '“' | '”' | '„' | '«' | '»')
    });
    let kept = Zeroizing::new(kept.collect::<String>());
    Zeroizing::new(kept.trim_matches(|c| matches!(c, '\'' | '‘' | '’' | '|')).to_owned())
}

/// Returns the text in a code fence, without the language's name after its first backticks.
fn inside_fence(text: &str) -> &str {
    let Some(inside) = text.strip_prefix("```") else { return text };
    match inside.split_once('\n') {
        Some((language, rest)) if language.trim().bytes().all(|b| b.is_ascii_alphanumeric()) => rest,
        _ => inside,
    }
}

/// Returns the address of `[words](address)` or `[words](<address> "title")`.
fn target_of_masked_link(text: &str) -> &str {
    let bars = |c: char| c == '|' || c.is_whitespace();
    let target = text
        .trim_matches(bars)
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|rest| rest.split_once("](").map(|(_, target)| target));
    match target {
        Some(target) => target.split_once(" \"").map_or(target, |(target, _title)| target),
        None => text,
    }
}

/// Names and values, percent-decoded once. Dropping a value zeroes its memory.
type Parameters = Vec<(String, Zeroizing<String>)>;

/// Returns the parameters of an authorization response (RFC 6749 §4.1.2). They stand in the query
/// or the fragment of an address, or alone. Returns `None` if the text contains no such parameter.
fn parameters(text: &str) -> Option<Parameters> {
    let pairs = match text.find(['?', '#']) {
        Some(at) if is_address(text) || has_parameter(&text[at + 1..]) => &text[at + 1..],
        _ if has_parameter(text) => text,
        // The text is the part of an address after `code=`.
        _ if !is_address(text) && text.contains("&state=") => {
            return Some(split(&Zeroizing::new(format!("code={text}"))));
        }
        _ => return None,
    };
    has_parameter(pairs).then(|| split(pairs))
}

const SEPARATORS: [char; 3] = ['&', '#', '?'];

fn has_parameter(text: &str) -> bool {
    text.split(SEPARATORS).any(|pair| pair.starts_with("code=") || pair.starts_with("error="))
}

fn split(text: &str) -> Parameters {
    text.split(SEPARATORS)
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

/// Percent-decodes once. A `+` stays a `+`: codes are often base64, and no code contains a space.
fn decoded(text: &str) -> Zeroizing<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Zeroizing::new(decoded.map_or_else(|_| text.to_owned(), |decoded| decoded.into_owned()))
}

fn from_parameters(parameters: &Parameters) -> Result<Pasted, PasteError> {
    let value = |name: &str| {
        let found = parameters.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    // This is the sign-in link itself. The links of some providers contain a `code` parameter too.
    if value("response_type").is_some() || value("code_challenge").is_some() {
        return Err(PasteError::NoCode);
    }
    if let Some(code) = value("code") {
        let iss = value("iss").map(issuer);
        return Ok(Pasted { code: code_of(code)?, state: value("state").map(State::new), iss });
    }
    let Some(error) = value("error") else { return Err(PasteError::NoCode) };
    let description = value("error_description").map(|text| text.replace('+', " "));
    Err(PasteError::Denied {
        error: word(error),
        description: description.and_then(|text| printable(&text, MAX_DESCRIPTION)),
    })
}

/// Returns an issuer, which is a URL (RFC 9207 §2). A text that cannot be a URL is escaped and
/// marked with `…`, so that it can be shown and equals no configured issuer.
fn issuer(text: &str) -> String {
    if text.len() <= MAX_ISSUER && text.bytes().all(|b| b.is_ascii_graphic()) {
        return text.to_owned();
    }
    text.escape_default().take(MAX_ISSUER).chain(['…']).collect()
}

/// Parses a code alone, or `code#state`.
fn bare(text: &str) -> Result<Pasted, PasteError> {
    let (code, state) = match text.split_once('#') {
        Some((code, state)) => (code, Some(state).filter(|state| !state.is_empty())),
        None => (text, None),
    };
    Ok(Pasted {
        code: code_of(&decoded(code))?,
        state: state.map(|s| State::new(decoded(s).as_str())),
        iss: None,
    })
}

/// Checks that a code is printable ASCII (RFC 6749 appendix A.11).
fn code_of(text: &str) -> Result<AuthorizationCode, PasteError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(PasteError::NoCode);
    }
    Ok(AuthorizationCode::new(text))
}

/// Whether the text is an address and not a code. Browsers omit the scheme from a copied address.
fn is_address(text: &str) -> bool {
    let host = |name| text.get(..str::len(name)).is_some_and(|start| start.eq_ignore_ascii_case(name));
    text.contains("://")
        || host("localhost:")
        || host("localhost/")
        || host("127.0.0.1")
        || host("[::1]")
        || host("www.")
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
