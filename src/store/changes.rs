//! What a listener to a store's changes holds; who tells it is in [`super::watch`].

use std::time::Duration;

use tokio::sync::watch;

/// How often the store is looked at where nothing tells of its changes.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells one listener that the store may have changed.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Changes of a store that counts its notices in `notices`; the count 0 is none yet.
    pub fn new(notices: &watch::Sender<u64>) -> Self {
        let mut receiver = notices.subscribe();
        if *receiver.borrow() > 0 {
            receiver.mark_changed();
        }
        Self(receiver)
    }

    /// Returns when the store may have changed since it returned last; the first time as soon as changes are watched for. Read
    /// the store after it, not before. Dropping the future loses nothing.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody tells any more: a runtime that ends, or a defect.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
