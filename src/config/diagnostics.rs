//! The texts of configuration errors. They never repeat a value, because it could be a secret.

use crate::ids::closest;

/// Keys of a later version.
const PLANNED_KEYS: &[&str] = &["guests"];
/// Keys that would hold a secret itself, and the keys to use instead.
const INLINE_SECRETS: &[(&str, &str)] = &[
    ("token", "token_env (the name of an environment variable) or token_file (a path)"),
    (
        "client_secret",
        "client_secret_env (the name of an environment variable) or client_secret_file (a path)",
    ),
    ("key", "key_env (the name of an environment variable) or key_file (a path)"),
];

/// Rewrites a parser error: an unknown key gets a suggestion, and values are left out.
pub(super) fn explain(message: &str) -> String {
    let message = message.trim();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (Some(unknown), true) = (quoted.first(), message.starts_with("unknown field")) else {
        return in_words_of_toml(&without_values(message));
    };
    if PLANNED_KEYS.contains(unknown) {
        return format!("this version of threadkey does not support `{unknown}` yet: remove it");
    }
    if let Some((_, instead)) = INLINE_SECRETS.iter().find(|(name, _)| name == unknown) {
        return format!("the configuration must not contain a secret: instead of `{unknown}` use {instead}");
    }
    let known = &quoted[1..];
    match closest(unknown, known.iter().copied()) {
        Some(similar) => format!("unknown key `{unknown}`; did you mean `{similar}`?"),
        None => format!("unknown key `{unknown}`; known keys: {}", known.join(", ")),
    }
}

/// Replaces serde's names of kinds by those of TOML, with an example.
fn in_words_of_toml(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "a sequence" => "a list, as in [\"one\", \"two\"]",
        "a map" => "a table, as in { name = \"value\" }",
        "a boolean" => "true or false, without quotes",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// Removes the value that serde quotes: `invalid type: string "…", expected …`.
fn without_values(message: &str) -> String {
    let Some((kind, rest)) = message.split_once(": string \"") else { return message.to_owned() };
    match rest.rsplit_once("\", expected ") {
        Some((_, expected)) => format!("{kind}: a string, expected {expected}"),
        None => format!("{kind}: a string"),
    }
}
