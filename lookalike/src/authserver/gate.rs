//! Holding token requests, before or after they are processed.

use tokio::sync::watch;

/// Where in its life a token request can be held.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// Taken in, nothing decided.
    Before,
    /// Decided, not answered.
    After,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    before: bool,
    after: bool,
    held: usize,
    releases: u64,
}

/// A place at which requests wait until they are released.
pub(super) struct Gate(watch::Sender<State>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// From now on every request waits at `stage`.
    pub(super) fn hold(&self, stage: Stage) {
        self.0.send_modify(|state| match stage {
            Stage::Before => state.before = true,
            Stage::After => state.after = true,
        });
    }

    /// Opens both stages and releases all waiting requests.
    pub(super) fn release(&self) {
        self.0.send_modify(|state| {
            *state = State { releases: state.releases + 1, ..State::default() };
        });
    }

    pub(super) fn held(&self) -> usize {
        self.0.borrow().held
    }

    pub(super) async fn wait_for_held(&self, count: usize) {
        let mut states = self.0.subscribe();
        let _ = states.wait_for(|state| state.held >= count).await;
    }

    /// Waits for the next release if `stage` is held.
    pub(super) async fn pass(&self, stage: Stage) {
        self.wait_if(|state| match stage {
            Stage::Before => state.before,
            Stage::After => state.after,
        })
        .await;
    }

    /// Waits for the next release in any case.
    pub(super) async fn wait_for_release(&self) {
        self.wait_if(|_| true).await;
    }

    async fn wait_if(&self, closed: impl Fn(&State) -> bool) {
        let mut states = self.0.subscribe();
        let mut since = None;
        self.0.send_if_modified(|state| {
            if closed(state) {
                state.held += 1;
                since = Some(state.releases);
            }
            since.is_some()
        });
        if let Some(since) = since {
            let _ = states.wait_for(|state| state.releases != since).await;
        }
    }
}
