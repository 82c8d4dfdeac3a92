//! System calls on threads that may block, instead of the async threads.

use std::{io, path::Path};

use super::{StoreError, error::failed};

/// Runs `work` on a thread that may block. The work runs to its end even if the caller is gone.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(failed("cannot finish with", path)(io::Error::other("threadkey is stopping"))),
    }
}
