//! The challenges of a resource: WWW-Authenticate (RFC 9110 §11.6.1) with the parameters of RFC 6750
//! §3 and RFC 9728 §5.1.
//!
//! One header may hold several challenges, with commas between them and between their parameters.
//! A server may send several such headers. The parser is lenient about blanks and empty elements, and
//! a challenge that it cannot read ends its header.

use url::Url;

/// The most scopes that a challenge may demand. More are ignored.
const MAX_SCOPES: usize = 64;

/// The longest scope of a challenge, in bytes.
const MAX_SCOPE: usize = 256;

/// A challenge of the scheme `Bearer`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BearerChallenge {
    /// The address of the resource's metadata (RFC 9728 §5.1).
    pub resource_metadata: Option<Url>,
    /// The scopes that the resource demands, in order. Empty if it names none.
    pub scopes: Vec<String>,
    /// The error code, such as `insufficient_scope` (RFC 6750 §3.1).
    pub error: Option<String>,
}

// === impl BearerChallenge ===

impl BearerChallenge {
    /// Finds the first Bearer challenge in the values of all WWW-Authenticate headers.
    pub fn find<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut all = headers.into_iter().flat_map(challenges);
        let (_, parameters) = all.find(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))?;
        let value = |name: &str| {
            let found = parameters.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        Some(Self {
            resource_metadata: value("resource_metadata").and_then(|url| Url::parse(url).ok()),
            scopes: value("scope").map(scope_list).unwrap_or_default(),
            error: value("error").map(str::to_owned),
        })
    }

    /// Whether the resource refuses a token that is valid, because its scopes do not suffice.
    pub fn is_insufficient_scope(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }
}

/// Splits a scope (RFC 6749 §3.3). Words that are no scope are dropped, and each scope occurs once.
pub(super) fn scope_list(text: &str) -> Vec<String> {
    let is_allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.split_ascii_whitespace() {
        let is_scope = scope.len() <= MAX_SCOPE && scope.bytes().all(is_allowed);
        if is_scope && scopes.len() < MAX_SCOPES && !scopes.iter().any(|there| there == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// A scheme and its parameters.
type Challenge = (String, Vec<(String, String)>);

/// Parses one header.
fn challenges(header: &str) -> Vec<Challenge> {
    let mut rest = Rest(header);
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        rest.skip(" \t,");
        let Some(word) = rest.token() else { return found };
        let had_blank = rest.skip(" \t");
        if rest.take('=') && !found.is_empty() {
            rest.skip(" \t");
            let Some(value) = rest.value() else { return found };
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            continue;
        }
        found.push((word.to_owned(), Vec::new()));
        if had_blank {
            rest.token68();
        }
    }
}

/// The unread rest of a header.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Skips these characters. Returns whether there was one.
    fn skip(&mut self, these: &str) -> bool {
        let rest = self.0.trim_start_matches(|c| these.contains(c));
        let skipped = rest.len() < self.0.len();
        self.0 = rest;
        skipped
    }

    fn take(&mut self, this: char) -> bool {
        let rest = self.0.strip_prefix(this);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Takes a token (RFC 9110 §5.6.2).
    fn token(&mut self) -> Option<&'a str> {
        self.word(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    }

    fn word(&mut self, is_part: impl Fn(u8) -> bool) -> Option<&'a str> {
        let end = self.0.bytes().position(|b| !is_part(b)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Skips credentials of the form token68 (RFC 9110 §11.2), which end a challenge.
    fn token68(&mut self) {
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        let end = self.0.bytes().position(|b| !is_part(b)).unwrap_or(self.0.len());
        let after = self.0[end..].trim_start();
        let word = self.0[..end].trim_end_matches('=');
        // A name with a value is a parameter.
        if (after.is_empty() || after.starts_with(',')) && !word.contains('=') {
            self.0 = &self.0[end..];
        }
    }

    /// Takes a token or a quoted string (RFC 9110 §5.6.4).
    fn value(&mut self) -> Option<String> {
        if !self.take('"') {
            // Some servers write a URL without quotation marks.
            return self.word(|b| !b.is_ascii_whitespace() && b != b',').map(str::to_owned);
        }
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                c => value.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(headers: &[&str]) -> Option<BearerChallenge> {
        BearerChallenge::find(headers.iter().copied())
    }

    #[test]
    fn a_bearer_challenge_is_found_among_others() {
        let challenge = BearerChallenge {
            resource_metadata: Url::parse("https://mcp.example/.well-known/oauth-protected-resource").ok(),
            scopes: vec!["files:read".into(), "a,b".into()],
            error: Some("insufficient_scope".into()),
        };
        let parameters = r#"error="insufficient_scope", scope="files:read a,b  files:read",resource_metadata="https://mcp.example/.well-known/oauth-protected-resource""#;
        for headers in [
            &[format!("Bearer {parameters}")][..],
            &[format!("bearer  {parameters}, Basic realm=\"a\"")],
            &[format!("Basic realm=\"a, \\\"Bearer scope=x\\\"\", Bearer {parameters}")],
            &[format!("Negotiate YWJj==, , Bearer {parameters}")],
            &["Basic realm=a".to_owned(), format!("Bearer\t{parameters}")],
            &[format!("DPoP algs=\"ES256\", Bearer {parameters}, error_description=\"cut")],
        ] {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert_eq!(find(&headers), Some(challenge.clone()), "{headers:?}");
        }
        assert!(challenge.is_insufficient_scope());
    }

    #[test]
    fn a_challenge_without_parameters_is_one() {
        for header in ["Bearer", "Basic, Bearer", "Bearer,", "Bearer realm"] {
            assert_eq!(find(&[header]), Some(BearerChallenge::default()), "{header}");
        }
        for header in ["", "Basic realm=\"Bearer\"", "=,=", "Bearers a=b", "\u{e9}"] {
            assert_eq!(find(&[header]), None, "{header}");
        }
    }

    #[test]
    fn a_value_that_is_no_url_and_no_scope_is_left_out() {
        let odd = find(&["Bearer resource_metadata=\"/relative\", scope=\"a\u{e9} \\\"b c\""]);
        let odd = odd.expect("is a challenge");
        assert_eq!((odd.resource_metadata, odd.scopes), (None, vec!["c".to_owned()]));
        let unquoted = find(&["Bearer scope=read, resource_metadata=https://mcp.example/m?a=b"]);
        let unquoted = unquoted.expect("is a challenge");
        assert_eq!(unquoted.scopes, ["read"]);
        assert_eq!(unquoted.resource_metadata.map(String::from), Some("https://mcp.example/m?a=b".into()));
        let many: String = (0..1000).map(|i| format!("s{i} ")).collect();
        assert_eq!(scope_list(&many).len(), MAX_SCOPES);
    }
}
