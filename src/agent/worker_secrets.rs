//! Keeps a worker's secrets known to the scrubber, and removes all known secrets from its texts.

use std::sync::Arc;

use crate::secret::{Pin, Scrubber, Secret};

/// The secrets in one worker's environment. They stay known at least as long as the worker lives.
#[derive(Clone, Debug)]
pub(super) struct WorkerSecrets(#[expect(dead_code, reason = "its drop forgets the secrets")] Arc<[Pin]>);

impl WorkerSecrets {
    /// Takes the secrets, and ignores empty ones.
    pub(super) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let scrubber = Scrubber::of_process();
        let pin = |secret: Secret| {
            // A worker may have passed it on, so the secret outlives the worker in the scrubber.
            scrubber.note(secret.expose());
            scrubber.pin(secret.expose())
        };
        Self(secrets.into_iter().map(pin).collect())
    }

    /// Returns the text without any secret that this process knows.
    #[expect(clippy::unused_self, reason = "only the worker's secrets make the scrubber complete")]
    pub(super) fn scrub(&self, text: &str) -> String {
        Scrubber::of_process().clean(text)
    }
}
