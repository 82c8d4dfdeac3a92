//! The texts that the configuration comes from: reading them, and finding in them what an error is about.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::{
    ConfigError, Place, Variables,
    file::File,
    overrides::{self, Override},
};

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

/// The file's text, and the variables that override it.
pub(super) struct Source {
    pub(super) path: PathBuf,
    text: String,
    overrides: Vec<Override>,
}

/// Reads file and variables.
pub(super) fn read(
    path: PathBuf,
    text: String,
    variables: &Variables,
) -> Result<(File, Source), ConfigError> {
    let mut source = Source { path, text, overrides: Vec::new() };
    let file: File = toml::from_str(&source.text).map_err(|error| source.in_file(&error))?;
    source.overrides = overrides::find(variables, &file)?;
    if source.overrides.is_empty() {
        return Ok((file, source));
    }
    let mut table: toml::Table = toml::from_str(&source.text).map_err(|error| source.in_file(&error))?;
    for one in &source.overrides {
        overrides::put(&mut table, one)?;
    }
    let file = File::deserialize(table).map_err(|error| source.in_file(&error))?;
    Ok((file, source))
}

impl Source {
    /// The folder that relative paths are relative to.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// An error about a key, `["providers", "acme", "client_id"]` for example, wherever it was set; about its section, where it
    /// was not.
    pub(super) fn about(&self, key: &[&str], what: impl Into<String>) -> ConfigError {
        let what = what.into();
        if let Some(one) = self.overrides.iter().find(|one| one.key == key) {
            return ConfigError::Invalid { place: Place::Variable(one.variable.clone()), what };
        }
        let at = self.find(key).map(|offset| position(&self.text, offset));
        ConfigError::Invalid { place: Place::File { path: self.path.clone(), at }, what }
    }

    fn in_file(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map(|span| position(&self.text, span.start));
        let place = Place::File { path: self.path.clone(), at };
        ConfigError::Invalid { place, what: in_words(error.message()) }
    }

    /// Where the key begins, or the innermost table on the way to it.
    fn find(&self, key: &[&str]) -> Option<usize> {
        let document = DeTable::parse(&self.text).ok()?;
        let mut table = document.get_ref();
        let mut found = None;
        for part in key {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else { break };
            found = Some(name.span().start);
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        found
    }
}

/// What the parser said, in our words, with a suggestion; never with a value, which could be a secret.
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

/// Line and column, from 1; columns are characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
