//! A part of a provider's answer for the debug log, without secrets.

use super::{TokenRequest, grant::printable};
use crate::{secret::Secret, session::journal::Answer};

/// The longest part of a body that is shown, in characters.
const MAX_SHOWN: usize = 300;

/// The longest word that is shown. Tokens are longer.
const MAX_WORD: usize = 24;

/// The parameters of a token request that are no secrets.
const PUBLIC: [&str; 5] = ["grant_type", "client_id", "redirect_uri", "resource", "token_type_hint"];

impl TokenRequest {
    /// Returns the secrets in the body of the request. A provider may repeat them in its answer.
    pub fn secrets(&self) -> Vec<Secret> {
        url::form_urlencoded::parse(self.0.body())
            .filter(|(name, value)| !PUBLIC.contains(&name.as_ref()) && !value.is_empty())
            .map(|(_, value)| Secret::new(value.as_ref()))
            .collect()
    }
}

/// Returns the beginning of a failed answer's body, without the secrets that were sent, and
/// without any word that may be another one. Empty for a success, whose body holds tokens.
pub fn excerpt(answer: &Answer, sent: &[Secret]) -> String {
    if (200..300).contains(&answer.status) {
        return String::new();
    }
    let mut text = String::from_utf8_lossy(&answer.body).into_owned();
    for secret in sent {
        text = text.replace(secret.expose(), "…");
    }
    let mut shown = String::new();
    for part in text.split_inclusive(|c: char| !is_of_a_word(c)) {
        let word = part.trim_end_matches(|c: char| !is_of_a_word(c));
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let is_public = word.len() <= MAX_WORD && (digits == 0 || word.len() <= 4);
        shown.push_str(if is_public { word } else { "…" });
        shown.push_str(&part[word.len()..]);
    }
    printable(&shown.split_whitespace().collect::<Vec<_>>().join(" "), MAX_SHOWN).unwrap_or_default()
}

/// Whether a character can be a part of a token (RFC 6749 appendix A.12), apart from punctuation that
/// also ends a word of prose, a name or a tag.
fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/=%".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str, sent: &[&str]) -> String {
        let answer = Answer { status, body: body.as_bytes().to_vec().into(), ..Answer::default() };
        excerpt(&answer, &sent.iter().map(|secret| Secret::new(*secret)).collect::<Vec<_>>())
    }

    #[test]
    fn an_excerpt_shows_the_providers_words_and_no_secret() {
        assert_eq!(
            of(404, "<html>\n <title>404 Not Found</title>", &[]),
            "<html> <title>404 Not Found</title>"
        );
        let error = r#"{"error":"invalid_scope","error_description":"The scope reed is unknown"}"#;
        assert_eq!(of(400, error, &[]), error);
        assert_eq!(of(400, "bad code 'abc' given", &["abc"]), "bad code '…' given");
        for secret in [
            "gho_16C7e42F292c6912E7710c838347Ae178B4a",
            "canary-refresh-token-of-alice",
            "4/0AY0e-g7",
            "s3cr3t",
        ] {
            let shown = of(401, &format!("{{\"token\":\"{secret}\"}}"), &[]);
            assert_eq!(shown, "{\"token\":\"…\"}");
        }
        assert_eq!(of(200, r#"{"access_token":"a"}"#, &[]), "", "a success holds tokens");
        assert!(of(500, &"word ".repeat(500), &[]).chars().count() <= MAX_SHOWN);
        assert!(!of(500, "a\u{1b}[31m\r\nfake line", &[]).contains(['\u{1b}', '\n']));
    }
}
