//! Takes a worker's secrets out of texts.

use crate::secret::Secret;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrubber(Vec<Secret>);

impl Scrubber {
    /// Of these; empty ones are passed over.
    pub(super) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self(secrets)
    }

    /// The text with an ellipsis for each secret.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.expose()) { text.replace(secret.expose(), "…") } else { text }
        })
    }
}
