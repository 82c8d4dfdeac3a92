//! Removes a worker's secrets from its texts.

use crate::secret::Secret;

/// The secrets in one worker's environment.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerSecrets(Vec<Secret>);

impl WorkerSecrets {
    /// Takes the secrets, and ignores empty ones.
    pub(super) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self(secrets)
    }

    /// Returns the text with an ellipsis in the place of each secret.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.expose()) { text.replace(secret.expose(), "…") } else { text }
        })
    }
}
