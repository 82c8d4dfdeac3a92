//! Secrets. The configuration never contains one: it names the variable or the file that holds it,
//! or the command that prints it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use toml::Value;
use zeroize::Zeroizing;

use super::{ConfigError, Variables, source::Source};
use crate::{
    secret::{Scrubber, Secret},
    sys::{
        files,
        secret_source::{SecretCommand, SecretSource},
    },
};

/// The keys of a section that can name a secret.
pub(super) struct SecretKeys<'a> {
    /// The section, for example `["providers", "acme"]`.
    pub(super) section: &'a [&'a str],
    /// The keys are `<name>_env`, `<name>_file` and `<name>_command`.
    pub(super) name: &'a str,
    /// The value of `<name>_env`.
    pub(super) env: Option<&'a str>,
    /// The value of `<name>_file`.
    pub(super) file: Option<&'a Path>,
    /// The value of `<name>_command`: a program and its arguments.
    pub(super) command: &'a [String],
}

/// Reads secrets, and collects the files that hold them: workers must not read these.
pub(super) struct SecretReader<'a> {
    source: &'a Source<'a>,
    files: Vec<PathBuf>,
}

impl<'a> SecretReader<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, files: Vec::new() }
    }

    /// Returns the files that hold the secrets read so far.
    pub(super) fn into_files(self) -> Vec<PathBuf> {
        self.files
    }

    /// Reads the secret, or returns `None` if no key is set. A command runs later, when its secret is
    /// needed.
    ///
    /// The inner error reports a missing secret, in a sentence without its end: the caller knows
    /// whether the secret is needed and where to get one.
    pub(super) fn read(
        &mut self,
        keys: &SecretKeys<'_>,
    ) -> Result<Option<Result<SecretSource, String>>, ConfigError> {
        let SecretKeys { section, name, .. } = *keys;
        let (env_key, file_key) = (format!("{name}_env"), format!("{name}_file"));
        let error_at = |key: &str, problem: String| {
            let path: Vec<&str> = section.iter().copied().chain([key]).collect();
            self.source.error_at(&path, problem)
        };
        let section = section.join(".");
        let env = keys.env.filter(|env| !env.is_empty());
        let file = keys.file.filter(|file| !file.as_os_str().is_empty());
        let command = SecretCommand::new(keys.command);
        match (env, file, command) {
            (Some(_), Some(_), _) => {
                let problem = format!("{section} has both {env_key} and {file_key}: remove one");
                Err(error_at(&file_key, problem))
            }
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                let key = format!("{name}_command");
                let problem = format!("{section} has {key} and another place of the secret: remove one");
                Err(error_at(&key, problem))
            }
            (None, None, Some(command)) => Ok(Some(Ok(SecretSource::Command(command)))),
            (Some(variable), None, None) if !is_variable_name(variable) => {
                // The text does not repeat the value: it may be the secret itself.
                let problem = format!(
                    "{section}.{env_key} must be the name of an environment variable, such as ACME_SECRET, not the secret itself"
                );
                Err(error_at(&env_key, problem))
            }
            (Some(variable), None, None) => {
                let value = self.source.variables.get(OsStr::new(variable)).and_then(|value| value.to_str());
                let value = value.map(str::trim).filter(|value| !value.is_empty());
                let missing =
                    || format!("the variable {variable}, which {section}.{env_key} names, is not set");
                Ok(Some(value.map(|value| kept(value).into()).ok_or_else(missing)))
            }
            (None, Some(file), None) => {
                let path = self.source.absolute(file);
                let named = format!("the file {}, which {section}.{file_key} names,", path.display());
                let secret = match files::read_text(&path).map(Zeroizing::new) {
                    Ok(text) if text.trim().is_empty() => Err(format!("{named} is empty")),
                    Ok(text) => Ok(kept(text.trim()).into()),
                    Err(error) => Err(format!("{named} cannot be read: {error}")),
                };
                self.files.push(path);
                Ok(Some(secret))
            }
            (None, None, None) => Ok(None),
        }
    }
}

/// Returns the variables, with stand-ins for the secrets that the text of a configuration names and that
/// are not set, and the names of these. So a text can be checked before its secrets exist.
pub fn with_missing_secrets(text: &str, variables: &Variables) -> (Variables, Vec<String>) {
    let mut names = Vec::new();
    let mut tables: Vec<toml::Table> = toml::from_str(text).into_iter().collect();
    while let Some(table) = tables.pop() {
        for (key, value) in table {
            match value {
                Value::Table(inner) => tables.push(inner),
                Value::String(name) if key.ends_with("_env") && is_variable_name(&name) => names.push(name),
                _ => {}
            }
        }
    }
    let is_set = |name: &String| variables.get(OsStr::new(name)).is_some_and(|value| !value.is_empty());
    names.retain(|name| !name.is_empty() && !is_set(name));
    names.sort();
    names.dedup();
    let mut all = variables.clone();
    all.extend(names.iter().map(|name| (name.into(), "a-secret-that-is-not-set-yet".into())));
    (all, names)
}

/// A secret that the scrubber knows as long as the process lives.
fn kept(text: &str) -> Secret {
    Scrubber::of_process().keep(text);
    Secret::new(text)
}

/// Whether a text is a variable name of POSIX.1-2017 §8.1: upper case letters, digits and
/// underscores.
///
/// Systems allow more, but a secret that was written here by mistake must not pass as a name and be
/// shown.
pub(super) fn is_variable_name(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    text.len() <= 64 && !text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(is_allowed)
}
