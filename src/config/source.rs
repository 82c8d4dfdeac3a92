//! The texts that the configuration comes from: reading them, and finding in them what an error is about.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::{
    ConfigError, Place, Variables,
    file::File,
    overrides::{self, Override},
    words::in_words,
};

/// The file's text, and the variables: some override what the file says, others are named in it.
pub(super) struct Source<'a> {
    pub(super) path: PathBuf,
    text: String,
    pub(super) variables: &'a Variables,
    overrides: Vec<Override>,
}

/// Reads file and variables.
pub(super) fn read(
    path: PathBuf,
    text: String,
    variables: &Variables,
) -> Result<(File, Source<'_>), ConfigError> {
    let mut source = Source { path, text, variables, overrides: Vec::new() };
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

impl Source<'_> {
    /// A path that is written in the file: a relative one is relative to the file's folder.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(path)
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

/// Line and column, from 1; columns are characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
