//! What is wrong with the configuration, in our words. A value is never repeated: it could be a secret.

/// Keys that a later version will have.
const LATER: &[&str] =
    &["preset", "mcp", "inject", "listen", "public_url", "operator_key_env", "guests", "tokens"];
/// Secrets that people write down where they do not belong, and the keys to use instead.
const INLINE: &[(&str, &str)] = &[
    ("token", "token_env (the name of an environment variable) or token_file (a path)"),
    (
        "client_secret",
        "client_secret_env (the name of an environment variable) or client_secret_file (a path)",
    ),
];
/// How alike two keys have to be for the one to be offered for the other.
const ALIKE: f64 = 0.8;

/// What the parser said, in our words, with a suggestion.
pub(super) fn in_words(message: &str) -> String {
    let message = message.trim();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (Some(unknown), true) = (quoted.first(), message.starts_with("unknown field")) else {
        return without_values(message);
    };
    if LATER.contains(unknown) {
        return format!("this version of threadkey does not have `{unknown}` yet: take it out");
    }
    if let Some((_, instead)) = INLINE.iter().find(|(name, _)| name == unknown) {
        return format!("a secret never stands in the configuration: instead of `{unknown}` use {instead}");
    }
    match closest(unknown, quoted[1..].iter().copied()) {
        Some(meant) => format!("unknown key `{unknown}`; did you mean `{meant}`?"),
        None => format!("unknown key `{unknown}`; here are known: {}", quoted[1..].join(", ")),
    }
}

/// The one of `known` that was most likely meant.
pub(super) fn closest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| (strsim::jaro_winkler(unknown, name), name));
    scored.filter(|(score, _)| *score > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// serde shows the value that it did not expect: `invalid type: string "…", expected …`.
fn without_values(message: &str) -> String {
    let Some((kind, rest)) = message.split_once(": string \"") else { return message.to_owned() };
    match rest.rsplit_once("\", expected ") {
        Some((_, expected)) => format!("{kind}: a string, expected {expected}"),
        None => format!("{kind}: a string"),
    }
}
