//! The bot's lock: one `run` is connected to Discord, and a second one stands by.

use tokio::sync::oneshot;

use super::{AppError, signals::Signals};
use crate::{
    store::{FileStore, StoreError},
    sys::lock::Lock,
};

/// Waits until no other process holds the bot's lock, and takes it. Returns `None` if a signal
/// comes first.
pub(super) async fn bot_lock(store: &FileStore, signals: &mut Signals) -> Result<Option<Lock>, AppError> {
    if let Some(lock) = store.try_lock_bot()? {
        return Ok(Some(lock));
    }
    let holder = store.bot_lock_holder().map(|holder| holder.to_string());
    tracing::info!(
        holder = holder.as_deref().unwrap_or("unknown"),
        "another threadkey run uses this store: standing by until it ends"
    );
    tokio::select! {
        lock = wait_for_lock(store.clone()) => Ok(Some(lock?)),
        () = signals.next() => Ok(None),
    }
}

/// Waits for the lock on a thread of its own: the runtime could not shut down while one of its
/// threads waits.
async fn wait_for_lock(store: FileStore) -> Result<Lock, AppError> {
    let (sender, receiver) = oneshot::channel::<Result<Lock, StoreError>>();
    std::thread::Builder::new()
        .name("bot-lock".into())
        .spawn(move || {
            // If the receiver has gone, the lock is dropped here and so released.
            let _ = sender.send(store.lock_bot());
        })
        .map_err(|source| AppError::System { problem: "a thread cannot be started", source })?;
    match receiver.await {
        Ok(lock) => {
            tracing::info!("the other threadkey run has ended: taking over");
            Ok(lock?)
        }
        Err(_) => Err(AppError::Stopped("the wait for the bot's lock")),
    }
}
