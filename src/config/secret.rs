//! Secrets, which never stand in the configuration: it names a variable or a file that holds one.

use std::{ffi::OsStr, path::Path};

use super::{ConfigError, source::Source};
use crate::{secret::Secret, sys::files};

/// The secret that `<name>_env` or `<name>_file` leads to. `None` when neither is set; the inner error is a sentence
/// without its end, because only who needs the secret knows what to do.
pub(super) fn named(
    source: &Source<'_>,
    env: Option<&str>,
    file: Option<&Path>,
    section: &[&str],
    name: &str,
) -> Result<Option<Result<Secret, String>>, ConfigError> {
    let (env_key, file_key) = (format!("{name}_env"), format!("{name}_file"));
    let at = |key: &str| section.iter().copied().chain([key]).map(str::to_owned).collect::<Vec<_>>();
    let about = |key: &str, what: String| {
        let key = at(key);
        source.about(&key.iter().map(String::as_str).collect::<Vec<_>>(), what)
    };
    let dotted = section.join(".");
    let env = env.filter(|env| !env.is_empty());
    let file = file.filter(|file| !file.as_os_str().is_empty());
    match (env, file) {
        (Some(_), Some(_)) => {
            Err(about(&file_key, format!("{dotted} has both {env_key} and {file_key}: keep one")))
        }
        (Some(variable), None) => {
            if !is_variable_name(variable) {
                // Not repeated: it may be the secret itself.
                let what = format!(
                    "{dotted}.{env_key} is the name of an environment variable, such as ACME_SECRET, not the secret itself"
                );
                return Err(about(&env_key, what));
            }
            let value = source.variables.get(OsStr::new(variable)).and_then(|value| value.to_str());
            let value = value.map(str::trim).filter(|value| !value.is_empty());
            let missing = || format!("the variable {variable}, which {dotted}.{env_key} names, is not set");
            Ok(Some(value.map(Secret::new).ok_or_else(missing)))
        }
        (None, Some(file)) => {
            let path = source.absolute(file);
            let read = files::read_text(&path).map(zeroize::Zeroizing::new);
            Ok(Some(match read {
                Ok(text) if text.trim().is_empty() => {
                    Err(format!("the file {}, which {dotted}.{file_key} names, is empty", path.display()))
                }
                Ok(text) => Ok(Secret::new(text.trim())),
                Err(error) => Err(format!(
                    "the file {}, which {dotted}.{file_key} names, cannot be read: {error}",
                    path.display()
                )),
            }))
        }
        (None, None) => Ok(None),
    }
}

/// POSIX.1-2017 §8.1: upper case letters, digits and underscore. Stricter than systems are, so that a secret that was
/// written here by mistake is not taken for a name and shown.
fn is_variable_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    text.len() <= 64 && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(fits)
}
