//! The list of conversations whose workers must end.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::ids::ConversationId;

/// The conversations whose workers must end.
#[derive(Debug, Default)]
pub(super) struct Ended {
    waiting: Mutex<BTreeSet<ConversationId>>,
    added: Notify,
}

impl Ended {
    /// Asks for the end of a conversation's worker.
    pub(super) fn add(&self, conversation: ConversationId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(conversation);
        self.added.notify_one();
    }

    /// Waits for conversations, and takes them.
    pub(super) async fn next(&self) -> BTreeSet<ConversationId> {
        self.added.notified().await;
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
