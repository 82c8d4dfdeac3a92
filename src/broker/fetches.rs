//! The fetches of one provider's metadata in this process, one at a time.

use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use crate::oauth::DiscoveryError;

/// The fetches of one provider.
#[derive(Default)]
pub(super) struct Fetches(Mutex<Option<(Instant, DiscoveryError)>>);

/// The turn of one fetch. Its content is the end of the newest one, if that failed.
pub(super) type Turn<'a> = MutexGuard<'a, Option<(Instant, DiscoveryError)>>;

impl Fetches {
    /// Waits until no other fetch is under way.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.0.lock().await
    }

    /// Returns `None` if another fetch is under way.
    pub(super) fn turn_now(&self) -> Option<Turn<'_>> {
        self.0.try_lock().ok()
    }
}
