//! Group commit: changes that wait for the global lock in one process share one read, write and
//! fsync.
//!
//! An update is queued with all that it needs. The first one finds no leader and starts one: a
//! blocking task. The leader takes the global lock, *then* takes the present queue, applies it in
//! the order of arrival, writes once, answers each, and begins again until the queue is empty. An
//! update that is queued while the leader waits for the lock, or writes the batch before, joins the
//! next write. A lone update is written at once.
//!
//! # Why every result is true
//!
//! * *Order.* Batches are taken from the front under one mutex, and there is one leader at a time.
//!   So the updates of a process are applied in the order of the queue, each to the state that the
//!   one before left.
//! * *A result follows the fsync.* The results of a batch are sent after its one write is durable.
//!   An update that is stale, perhaps because of another one in its batch, waits for the same
//!   write.
//! * *A write that fails fails its whole batch.* No update of it is known to be durable, and each
//!   gets the error. A batch without an effect needs no write.
//! * *Death.* At each line it is as in [`super::store_file`]: the rename makes all updates of a
//!   batch visible, or none. Before the rename no caller has a result. After it a caller without a
//!   result finds its update done when it reads again.
//! * *A caller that gives up.* A queued update no longer belongs to its caller: it is applied, and
//!   its result is dropped. The state that it was made for is checked when it is applied, so a late
//!   update does no harm.
//! * *A tenant's lock* is in the queue with the update that was made under it, and is released
//!   after the write.
//! * *A leader that panics, or never runs because the runtime stops:* its drop gives the leadership
//!   back and drops the queue, whose callers get an error. No caller waits for ever.
//!
//! The global lock is released between two batches, so other processes get their turn. At most
//! [`MAX_QUEUED`] updates are queued, and further callers wait for a place.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    StoreError,
    error::failed,
    locked_journal::LockedJournal,
    store_file::{Committed, StoreFile},
};
use crate::{
    ids::Tenant,
    session::{Changed, Update},
};

/// The most updates that are queued, and so the most that share a write.
const MAX_QUEUED: usize = 256;

const GIVEN_UP: &str = "no task is left to write: threadkey is stopping, or has a defect that its log shows";

/// The updates of a process that wait for the global lock.
#[derive(Clone)]
pub(super) struct GroupCommit {
    state: Arc<Mutex<State>>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Queued>,
    has_leader: bool,
}

struct Queued {
    tenant: Tenant,
    update: Update,
    /// The tenant's lock, if the update is made under it.
    held: Option<OwnedMutexGuard<LockedJournal>>,
    answer: oneshot::Sender<Result<Changed, StoreError>>,
    _place: OwnedSemaphorePermit,
}

/// The task that writes for all callers.
struct Leader {
    store_file: Arc<StoreFile>,
    group_commit: GroupCommit,
    leads: bool,
}

impl Default for GroupCommit {
    fn default() -> Self {
        Self { state: Arc::default(), places: Arc::new(Semaphore::new(MAX_QUEUED)) }
    }
}

// === impl GroupCommit ===

impl GroupCommit {
    /// Applies `update` under the global lock, together with the rest of the queue. It is durable
    /// when this returns.
    pub(super) async fn change(
        &self,
        store_file: &Arc<StoreFile>,
        tenant: &Tenant,
        update: Update,
        held: Option<OwnedMutexGuard<LockedJournal>>,
    ) -> Result<Changed, StoreError> {
        let stopping = || failed("cannot finish with", &store_file.location.path)(io::Error::other(GIVEN_UP));
        let place = self.places.clone().acquire_owned().await.map_err(|_| stopping())?;
        let (answer, answered) = oneshot::channel();
        let queued = Queued { tenant: tenant.clone(), update, held, answer, _place: place };
        if let Some(leader) = self.push(store_file, queued) {
            tokio::task::spawn_blocking(move || leader.run());
        }
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Queues an update. The caller must run the leader that it gets.
    fn push(&self, store_file: &Arc<StoreFile>, queued: Queued) -> Option<Leader> {
        let mut state = self.state();
        state.waiting.push_back(queued);
        let leads = !std::mem::replace(&mut state.has_leader, true);
        leads.then(|| Leader { store_file: store_file.clone(), group_commit: self.clone(), leads: true })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().waiting.len()
    }
}

// === impl Leader ===

impl Leader {
    fn run(mut self) {
        while self.goes_on() {
            let locked = self.store_file.location.lock_global();
            let batch = std::mem::take(&mut self.group_commit.state().waiting);
            let (changes, waiting): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|queued| ((queued.tenant, queued.update), (queued.held, queued.answer, queued._place)))
                .unzip();
            let committed = locked.and_then(|guard| self.store_file.change_all(&guard, changes));
            let (mut changed, replaced, error) = match committed {
                Ok(Committed { changed, replaced }) => (changed.into_iter(), replaced, None),
                Err(error) => (Vec::new().into_iter(), None, Some(error)),
            };
            for (held, answer, place) in waiting {
                let result = match &error {
                    Some(error) => Err(error.clone()),
                    None => Ok(changed.next().expect("each change of the batch has its result")),
                };
                drop((held, place));
                // A caller that gave up has dropped the receiver.
                let _ = answer.send(result);
            }
            self.store_file.retire(replaced);
        }
    }

    /// Whether the queue has an update. If not, the next update starts a leader.
    fn goes_on(&mut self) -> bool {
        let mut state = self.group_commit.state();
        self.leads = !state.waiting.is_empty();
        state.has_leader = self.leads;
        self.leads
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.leads {
            let mut state = self.group_commit.state();
            state.has_leader = false;
            let abandoned = std::mem::take(&mut state.waiting);
            drop(state);
            drop(abandoned);
        }
    }
}
