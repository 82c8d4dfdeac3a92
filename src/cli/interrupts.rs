//! The signals that end a command which waits for its user.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, Failure};

/// While this exists, the signals no longer end the process by themselves.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

// === impl Interrupts ===

impl Interrupts {
    /// Sets the handlers. Callers do so before they show anything that a user may answer by Ctrl-C.
    pub(super) fn new() -> Result<Self, Failure> {
        let failed = |error| {
            Failure::new(Exit::Internal, format!("the signals of this process cannot be read: {error}"))
        };
        let caught = |kind| signal(kind).map_err(failed);
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
