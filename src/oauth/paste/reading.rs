//! One layer of a paste, and the rules by which a code in it belongs to a sign-in. The doc of the module
//! above lists these rules.

use zeroize::Zeroizing;

use super::{
    parameters::{self, MIN_LINE, Name, Parameter, is_part_of_code, is_terminator, is_word, without_glue},
    response::{AuthorizationResponse, PasteError, code_of, issuer},
    text::{Gap, OTHER, Text, decoded},
};
use crate::{oauth::grant::printable, secret::State};

/// The longest description of a refusal that is shown, in characters.
const MAX_DESCRIPTION: usize = 200;

/// The shortest code that is accepted after a label, as in `Code: abc`, without any state.
const MIN_LABELLED_CODE: usize = 8;

/// One layer of a paste, and its parameters.
pub(super) struct Reading<'a> {
    text: &'a Text,
    parameters: Vec<Parameter>,
    own: &'a [&'a State],
}

impl<'a> Reading<'a> {
    pub(super) fn new(text: &'a Text, own: &'a [&'a State]) -> Self {
        let mut parameters = parameters::find(text, own);
        let requests: Vec<usize> =
            parameters.iter().filter(|one| one.name == Name::OfRequest).map(|one| one.group).collect();
        // A label before the ruled line of a table is a heading.
        let is_heading = |one: &Parameter| one.is_label && !one.value.iter().any(u8::is_ascii_alphanumeric);
        parameters.retain(|one| !requests.contains(&one.group) && !is_heading(one));
        Self { text, parameters, own }
    }

    /// Returns the response to one of our sign-ins; none if the text contains none of our states.
    pub(super) fn own_response(&self) -> Option<Result<AuthorizationResponse, PasteError>> {
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
    pub(super) fn response_without_own_state(&self) -> Option<Result<AuthorizationResponse, PasteError>> {
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
    pub(super) fn values(&self, name: Name) -> impl Iterator<Item = &Parameter> {
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
pub(super) fn bare(layers: &[Text], own: &[&State]) -> Result<AuthorizationResponse, PasteError> {
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
