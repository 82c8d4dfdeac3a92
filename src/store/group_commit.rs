//! Group commit: changes that wait for the global lock in one process share one read, write and fsync.
//!
//! A change is queued with all that it needs. The first one finds no leader and starts one: a blocking task that takes the
//! global lock, *then* takes what is queued by now, applies it in the order in which it came, writes once, answers each, and
//! begins again until nothing is queued. So whoever queues while the lock is waited for, or while the batch before is being
//! written, joins the next write; a lone change is written at once, and nobody waits for company.
//!
//! # Why nobody is told what is not so
//!
//! * *Order.* Batches are taken from the front under one mutex, and there is one leader at a time, so the changes of a
//!   process are applied as they were queued, each to what the one before it left.
//! * *An answer follows the fsync.* The answers of a batch go out after its one write is durable. A change that is stale was
//!   perhaps made so by another of its batch, and waits for the same write.
//! * *A write that fails fails its whole batch.* Nothing of it is known to be durable, and each gets the error. A change that
//!   is stale by itself, in a batch that writes nothing, needs no write.
//! * *Death.* At any line it is as in [`super::store_file`], with several changes where there was one: the rename brings all of
//!   a batch or none. Before it nobody was told anything; after it those who were not told find it done.
//! * *A caller that gives up.* Once queued, a change no longer belongs to its caller: it is applied, its answer goes nowhere.
//!   What it was made for is checked when it is applied, so this is no later a moment than any other.
//! * *A tenant's lock* is in the queue with the change that was made under it, and is let go after the write.
//! * *A leader that panics or is never run,* because the runtime stops: its guard takes the leadership back and drops
//!   what is queued, whose callers get an error; nothing waits for ever.
//!
//! The lock is let go between two batches, so other processes get their turn. At most [`MAX_QUEUED`] changes are queued;
//! whoever comes beyond that waits in line for a place.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{StoreError, error::failed, locked_journal::LockedJournal, store_file::StoreFile};
use crate::{
    ids::Tenant,
    session::{Changed, Update},
};

/// How many changes are queued at most, and so how many share a write.
const MAX_QUEUED: usize = 256;

const GIVEN_UP: &str = "nobody is left to write: threadkey is stopping, or has a defect, which its log shows";

/// The changes of a process that wait for the global lock.
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
    /// The tenant's lock, where the change is made under it.
    held: Option<OwnedMutexGuard<LockedJournal>>,
    answer: oneshot::Sender<Result<Changed, StoreError>>,
    _place: OwnedSemaphorePermit,
}

/// The one who writes for all.
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
    /// Applies `change` under the global lock, together with whatever else is queued; durable when it returns.
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

    /// Queues it; who gets a leader back has to let it run.
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
            let (mut changed, error) = match committed {
                Ok(committed) => (committed.changed.into_iter(), None),
                Err(error) => (Vec::new().into_iter(), Some(error)),
            };
            for (held, answer, place) in waiting {
                let result = match &error {
                    Some(error) => Err(error.clone()),
                    None => Ok(changed.next().expect("each change of the batch has its result")),
                };
                drop((held, place));
                // A caller that gave up does not hear it.
                let _ = answer.send(result);
            }
        }
    }

    /// Whether there is something to do. If not, the next who comes leads.
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
