//! The checks of every text that is read as a paste.

use threadkey::{
    oauth::{AuthorizationResponse, PasteError, Pasted},
    secret::State,
};

/// The state of a sign-in in progress. The fuzzer has it in its dictionary.
pub const STATE: &str = "Yq3-kXn0_4dF7hJ2mP9sT1vW5zA8bC6eG0iK3lN-oQ2";

/// Checks the result of the parser: a code contains only characters of the paste, and belongs to the
/// sign-in only if the paste has its state. No message contains control characters or invisible
/// formatting characters.
pub fn assert_read(text: &str) {
    match read(text) {
        Ok(response) => {
            assert!(response.sign_in.is_none() || is_part_of(STATE, text), "{text:?} has no state of ours");
            let code = response.code.expose();
            assert!(!code.is_empty() && code.bytes().all(|b| b.is_ascii_graphic()), "{code:?} is not a code");
            assert!(is_part_of(code, text), "{code:?} is not part of {text:?}");
            let iss = response.foreign_issuer("").unwrap_or_default();
            assert!(iss.len() <= 600 && !iss.contains(char::is_control), "{iss:?}");
        }
        Err(error) => assert_shown(&error),
    }
}

/// Reads a text as the paste of the sign-in with [`STATE`].
///
/// # Errors
/// Those of the parser.
pub fn read(text: &str) -> Result<AuthorizationResponse, PasteError> {
    Pasted::parse(text)?.response(&[&State::new(STATE)])
}

/// Whether the text contains the characters of `wanted` in this order. An escape contains the
/// number of its character, or its name in HTML.
pub fn is_part_of(wanted: &str, text: &str) -> bool {
    let text: String = text.chars().map(narrow).collect::<String>().to_ascii_lowercase();
    let mut rest = text.as_str();
    wanted.to_ascii_lowercase().chars().all(|c| {
        if let Some(after) = rest.strip_prefix(c) {
            rest = after;
            return true;
        }
        let upper = u32::from(c.to_ascii_uppercase());
        let name = NAMES.iter().find(|(named, _)| *named == c).map_or("", |(_, name)| name);
        let number = u32::from(c);
        let numbers = [format!("{number:x}"), format!("{upper:x}"), number.to_string(), upper.to_string()];
        let forms = numbers.into_iter().chain([c.to_string(), name.to_owned()]);
        // A line break may stand within an escape.
        let end_of = |form: String| {
            form.chars().try_fold(0, |from, c| Some(from + rest[from..].find(c)? + c.len_utf8()))
        };
        let end = forms.filter(|form| !form.is_empty()).filter_map(end_of).min();
        rest = end.map_or("", |end| &rest[end..]);
        end.is_some()
    })
}

/// Returns the ASCII form of a full-width character or of a typesetting program's hyphen.
fn narrow(c: char) -> char {
    match c {
        '\u{2010}' | '\u{2011}' => '-',
        '！'..='～' => char::from_u32(u32::from(c) - u32::from('！') + u32::from('!')).unwrap_or(c),
        c => c,
    }
}

const NAMES: [(char, &str); 15] = [
    ('&', "amp"),
    ('\'', "apos"),
    (':', "colon"),
    ('=', "equals"),
    ('>', "gt"),
    ('_', "lowbar"),
    ('<', "lt"),
    ('#', "num"),
    ('%', "percnt"),
    ('.', "period"),
    ('+', "plus"),
    ('?', "quest"),
    ('"', "quot"),
    ('/', "sol"),
    (' ', "nbsp"),
];

fn assert_shown(error: &PasteError) {
    let shown = error.to_string();
    let is_active = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!shown.contains(is_active), "{shown:?}");
    assert!(shown.len() < 2000, "the message is too long: {shown}");
    if let PasteError::Denied { error, .. } = error {
        assert!(!error.is_empty() && error.len() <= 64, "{error}");
    }
}
