//! One `run` talks to Discord; a second one stands by.

use tokio::sync::oneshot;

use super::{AppError, signals::Signals};
use crate::{
    store::{FileStore, StoreError},
    sys::lock::Lock,
};

/// The bot's lock, as soon as no other process has it; `None` when a signal came first.
pub(super) async fn bot_lock(store: &FileStore, signals: &mut Signals) -> Result<Option<Lock>, AppError> {
    if let Some(lock) = store.try_lock_bot()? {
        return Ok(Some(lock));
    }
    tracing::info!("another threadkey run has this store: standing by, to take over when it ends");
    tokio::select! {
        lock = waited_for(store.clone()) => Ok(Some(lock?)),
        () = signals.next() => Ok(None),
    }
}

/// Blocks a thread of its own, not one of the runtime's: that one could not end while it waits.
async fn waited_for(store: FileStore) -> Result<Lock, AppError> {
    let (sender, receiver) = oneshot::channel::<Result<Lock, StoreError>>();
    std::thread::Builder::new()
        .name("bot-lock".into())
        .spawn(move || {
            // Nobody there any more: the lock is let go as it is dropped.
            let _ = sender.send(store.lock_bot());
        })
        .map_err(|source| AppError::System { what: "a thread cannot be started", source })?;
    match receiver.await {
        Ok(lock) => {
            tracing::info!("the other threadkey run has ended: taking over");
            Ok(lock?)
        }
        Err(_) => Err(AppError::Stopped("the wait for the bot's lock")),
    }
}
