//! Operator keys: long secrets by which programs of the operator use the token API (adr/0051).
//!
//! Invariants:
//!
//! - Only the SHA-256 of a key stays in memory, and a presented key is compared with all of them in
//!   constant time. The scrubber knows each key, and a log has its name alone.
//! - A key opens what its settings name ([`KeyScope`]), and nothing without them.
//! - A key's file is read again after each change, and all files and commands after SIGHUP. From then
//!   on the earlier text opens nothing. A file that is gone, or has no valid key, opens nothing: so
//!   an operator ends a key by its file.

mod file_watch;
mod scope;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

pub(super) use file_watch::{folder_of, follow_folders};
pub use scope::{KeyScope, NoSuchRight, PrincipalPattern, ProviderPattern, Right};

use crate::{
    secret::{Scrubber, Secret},
    sys::{files, secret_source::SecretCommand},
};

/// The shortest key, in characters.
pub const SHORTEST_KEY: usize = 32;

/// The longest key, in characters. It fits into a request's head with room to spare.
const LONGEST_KEY: usize = 4096;

/// How many keys a text may hold, one on each line: the new one and the old one while programs
/// change over, and some to spare.
const MOST_KEYS: usize = 8;

/// The settings of a named key.
#[derive(Clone, Debug)]
pub struct OperatorKeySettings {
    /// The name of its section in `[api.operator_keys]`.
    pub name: String,
    /// The place of its text.
    pub source: KeySource,
    /// Its scope.
    pub scope: KeyScope,
}

/// The place of a key's text.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// An environment variable, which had this text when the process started.
    Variable(Secret),
    /// A file.
    File(PathBuf),
    /// A command that prints it.
    Command(SecretCommand),
    /// There is none, for this reason.
    Missing(String),
}

/// The reason why a text is no key. It repeats no part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The key is too short to withstand guessing.
    #[error(
        "it is shorter than {SHORTEST_KEY} characters, and could be guessed. `openssl rand -hex 32` makes one"
    )]
    Short,
    /// The key is longer than a request's head may be.
    #[error("it is longer than {LONGEST_KEY} characters")]
    Long,
    /// The key cannot be sent in a header.
    #[error(
        "it has a blank or a character outside of ASCII in it. `openssl rand -hex 32` makes a key that can be sent"
    )]
    NotAWord,
    /// There are too many keys.
    #[error("it has more than {MOST_KEYS} lines: write one key on each, and remove the old ones")]
    Many,
}

/// The reason why the keys cannot be used at the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("api.operator_keys.{name}: {problem}")]
pub struct OperatorKeyError {
    /// The name of the key.
    pub name: String,
    /// The problem, without any part of the key.
    pub problem: String,
}

/// A named key, as its holder is known to the API.
#[derive(Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name.
    pub name: String,
    /// The scope.
    pub scope: KeyScope,
}

/// The live keys. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OperatorKeys {
    keys: Arc<[Key]>,
}

#[derive(Debug)]
struct Key {
    operator: Arc<Operator>,
    source: KeySource,
    /// The SHA-256 of each text that opens it.
    hashes: RwLock<Vec<[u8; 32]>>,
}

/// Returns the keys of a text, one on each line.
///
/// # Errors
/// See [`KeyProblem`].
pub fn keys_in(text: &str) -> Result<Vec<Secret>, KeyProblem> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<&str> = lines.collect();
    if keys.is_empty() {
        return Err(KeyProblem::Empty);
    }
    if keys.len() > MOST_KEYS {
        return Err(KeyProblem::Many);
    }
    keys.into_iter().map(checked).collect()
}

/// A key, which the scrubber knows from now on, whatever its form.
fn checked(key: &str) -> Result<Secret, KeyProblem> {
    Scrubber::of_process().keep(key);
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyProblem::NotAWord);
    }
    match key.len() {
        ..SHORTEST_KEY => Err(KeyProblem::Short),
        SHORTEST_KEY..=LONGEST_KEY => Ok(Secret::new(key)),
        _ => Err(KeyProblem::Long),
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

// === impl OperatorKeys ===

impl OperatorKeys {
    /// Reads all keys.
    ///
    /// # Errors
    /// When a key is missing or has no right form, or two names have the same one.
    pub async fn load(settings: Vec<OperatorKeySettings>) -> Result<Self, OperatorKeyError> {
        let (keys, problems) = Self::read(settings).await;
        problems.into_iter().next().map_or(Ok(keys), Err)
    }

    /// Reads all keys. Returns those that can be used, and the problem of each other one.
    pub async fn read(settings: Vec<OperatorKeySettings>) -> (Self, Vec<OperatorKeyError>) {
        let (mut keys, mut problems): (Vec<Key>, _) = (Vec::new(), Vec::new());
        for OperatorKeySettings { name, source, scope } in settings {
            let hashes = source.read().await;
            let has_same = |hashes: &Vec<_>| keys.iter().find(|key| key.has_any(hashes));
            let same = hashes.as_ref().ok().and_then(has_same).map(|other| other.operator.name.clone());
            match (hashes, same) {
                (Ok(hashes), None) => {
                    let operator = Arc::new(Operator { name, scope });
                    keys.push(Key { operator, source, hashes: RwLock::new(hashes) });
                }
                (Ok(_), Some(other)) => {
                    let problem = format!("it is the same key as {other}: make another one");
                    problems.push(OperatorKeyError { name, problem });
                }
                (Err(problem), _) => problems.push(OperatorKeyError { name, problem }),
            }
        }
        (Self { keys: keys.into() }, problems)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the holder of a presented key, if that is live. The time depends on no key's text: the
    /// hashes of all keys are compared whole.
    pub fn holder(&self, presented: &str) -> Option<Arc<Operator>> {
        let presented = hash(presented);
        let matches = self.keys.iter().filter(|key| key.opens(&presented));
        // All are compared, because `last` takes the iterator to its end.
        matches.last().map(|key| key.operator.clone())
    }

    /// Reads the files and runs the commands again.
    pub async fn reload(&self) {
        for key in &*self.keys {
            if matches!(key.source, KeySource::File(_) | KeySource::Command(_)) {
                key.replace(key.source.read().await, &self.keys);
            }
        }
    }

    /// Reads each file again after each change in its folder. Does not return.
    pub async fn follow(self) {
        let files: Vec<&Path> = self.keys.iter().filter_map(Key::file).collect();
        let folders = files.iter().map(|file| folder_of(file)).collect();
        follow_folders(folders, "an operator key", || {
            for key in self.keys.iter() {
                if let Some(file) = key.file() {
                    key.replace(read_file(file), &self.keys);
                }
            }
        })
        .await;
    }
}

// === impl Key ===

impl Key {
    fn file(&self) -> Option<&Path> {
        match &self.source {
            KeySource::File(file) => Some(file),
            _ => None,
        }
    }

    fn hashes(&self) -> Vec<[u8; 32]> {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn opens(&self, presented: &[u8; 32]) -> bool {
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().fold(Choice::from(0), |found, hash| found | hash.ct_eq(presented)).into()
    }

    fn has_any(&self, others: &[[u8; 32]]) -> bool {
        others.iter().any(|other| self.opens(other))
    }

    /// Takes the text that was read anew. Without a valid one the key opens nothing.
    fn replace(&self, read: Result<Vec<[u8; 32]>, String>, all: &[Self]) {
        let name = &self.operator.name;
        let is_others =
            |hashes: &[[u8; 32]]| all.iter().any(|key| key.operator.name != *name && key.has_any(hashes));
        let read = read.and_then(|hashes| {
            if is_others(&hashes) { Err("another name has the same key".to_owned()) } else { Ok(hashes) }
        });
        let before = self.hashes();
        let now = read.unwrap_or_else(|problem| {
            if !before.is_empty() {
                tracing::error!(key = name, problem, "an operator key opens nothing until it is mended");
            }
            Vec::new()
        });
        if now == before {
            return;
        }
        if !now.is_empty() {
            tracing::info!(key = name, "an operator key was replaced; the earlier one opens nothing");
        }
        *self.hashes.write().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

// === impl KeySource ===

impl KeySource {
    async fn read(&self) -> Result<Vec<[u8; 32]>, String> {
        match self {
            Self::Variable(text) => hashes_in(text.expose()),
            Self::File(path) => read_file(path),
            Self::Command(command) => {
                let printed = command.run().await.map_err(|error| error.to_string())?;
                hashes_in(printed.expose())
            }
            Self::Missing(reason) => Err(reason.clone()),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<[u8; 32]>, String> {
    match files::read_text(path).map(Zeroizing::new) {
        Ok(text) => hashes_in(&text).map_err(|problem| format!("the file {}: {problem}", path.display())),
        Err(error) => Err(format!("the file {} cannot be read: {error}", path.display())),
    }
}

fn hashes_in(text: &str) -> Result<Vec<[u8; 32]>, String> {
    let keys = keys_in(text).map_err(|problem| problem.to_string())?;
    Ok(keys.iter().map(|key| hash(key.expose())).collect())
}

#[cfg(test)]
mod tests;
