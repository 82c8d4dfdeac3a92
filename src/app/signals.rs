//! SIGTERM, SIGINT and SIGHUP.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::AppError;

/// The signals that end the program.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Returns the signals, and those at which the operator keys are read again. From now on none of them
    /// ends the process by itself, also while it stands by or starts.
    pub(super) fn new() -> Result<(Self, Signal), AppError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|source| AppError::System { problem: "the signal handlers cannot be set", source })
        };
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok((Self { terminate, interrupt }, listen(SignalKind::hangup())?))
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
