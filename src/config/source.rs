//! The texts of the configuration: reads them, and finds the place that an error is about.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::{
    ConfigError, Place, Variables,
    diagnostics::explain,
    file::File,
    overrides::{self, Override},
    presets, upstream_presets,
};

/// The file's text and the environment variables. Some variables override a key of the file; the
/// file names others.
pub(super) struct Source<'a> {
    pub(super) path: PathBuf,
    text: String,
    pub(super) variables: &'a Variables,
    overrides: Vec<Override>,
}

/// Reads the file's text and applies the overrides.
pub(super) fn read(
    path: PathBuf,
    text: String,
    variables: &Variables,
) -> Result<(File, Source<'_>), ConfigError> {
    let mut source = Source { path, text, variables, overrides: Vec::new() };
    let file: File = toml::from_str(&source.text).map_err(|error| source.toml_error(&error))?;
    source.overrides = overrides::find(variables, &file)?;
    let has_preset = file.providers.values().any(|section| section.preset.is_some())
        || file.inject.values().any(|section| section.preset.is_some());
    if source.overrides.is_empty() && !has_preset {
        return Ok((file, source));
    }
    let mut table: toml::Table = toml::from_str(&source.text).map_err(|error| source.toml_error(&error))?;
    for setting in &source.overrides {
        overrides::apply(&mut table, setting)?;
    }
    presets::apply(&mut table, |key, problem| source.error_at(key, problem))?;
    upstream_presets::apply(&mut table, |key, problem| source.error_at(key, problem))?;
    let file = File::deserialize(table).map_err(|error| source.toml_error(&error))?;
    Ok((file, source))
}

impl Source<'_> {
    /// Makes a path of the configuration absolute. A relative path starts at the file's folder.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(path)
    }

    /// Returns an error about a key, for example `["providers", "acme", "client_id"]`. Its place is
    /// the variable or the line that sets the key, or else the key's section.
    pub(super) fn error_at(&self, key: &[&str], problem: impl Into<String>) -> ConfigError {
        let problem = problem.into();
        if let Some(setting) = self.overrides.iter().find(|setting| setting.key == key) {
            return ConfigError::Invalid { place: Place::Variable(setting.variable.clone()), problem };
        }
        let at = self.offset_of(key).map(|offset| line_and_column(&self.text, offset));
        ConfigError::Invalid { place: Place::File { path: self.path.clone(), at }, problem }
    }

    fn toml_error(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map(|span| line_and_column(&self.text, span.start));
        let place = Place::File { path: self.path.clone(), at };
        ConfigError::Invalid { place, problem: explain(error.message()) }
    }

    /// Returns the offset of the key, or of the innermost table on the path to it.
    fn offset_of(&self, key: &[&str]) -> Option<usize> {
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

/// Returns line and column of an offset, both from 1. Columns count characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
