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
//! * *A tenant's lock* is in the queue with the update that was made under it, and is released
//!   after the write.
//! * *A leader that panics, or never runs because the runtime stops:* its drop gives the leadership
//!   back and drops the queue, whose callers get an error. No caller waits for ever.
//!
//! # How long an update waits
//!
//! The holder of the global lock may be a stopped process, which releases it no sooner than it
//! continues or dies. One thread of this process waits for it, the leader's, however many updates
//! are queued. Each update waits for at most [`LOCK_WAIT`]. Once the leader has waited that long,
//! each further update waits for [`SHORT_WAIT`]: a command with several updates ends in time.
//!
//! * *An update that has waited long enough* is taken out of the queue, under the mutex. Its caller
//!   gets [`StoreError::Busy`]. The update is never applied later: a user who reads that a logout
//!   failed can rely on it.
//! * *An update that the leader has taken* is not in the queue any more. The leader holds the lock
//!   by then, so the caller waits for the result of the write. An update is either withdrawn or
//!   answered, never both.
//! * *A change whose caller is gone* is taken out of the queue in the same way. No user would learn
//!   that it was applied an hour later.
//! * *A settlement whose caller is gone* stays queued, with its tenant's lock, and is applied. It
//!   is the result of a secret that is spent. The state that it was made for is checked when it is
//!   applied, so a late settlement does no harm.
//! * *A settlement that has waited long enough* is withdrawn as any update is. Its answer is in the
//!   journal. The caller holds the tenant's lock and tries again, or the next holder does.
//! * *A leader that gets the lock and finds an empty queue* writes nothing, and ends.
//!
//! The global lock is released between two batches, so other processes get their turn. At most
//! [`MAX_QUEUED`] updates are queued, and further callers wait for a place.
//!
//! # Other work under the lock
//!
//! A change of registered clients, or a sweep, does not update one tenant. It waits in the same queue,
//! by the same rules, and is withdrawn like a change. The leader does it after the updates of its
//! batch, under the same lock, with a write of its own.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    StoreError,
    blocking::blocking,
    error::failed,
    lock_files::GlobalGuard,
    locked_journal::LockedJournal,
    store_file::{Committed, StoreFile},
};
use crate::{
    ids::Tenant,
    session::{Changed, Update},
};

/// The most updates that are queued, and so the most that share a write.
const MAX_QUEUED: usize = 256;

/// The longest time that an update waits for the global lock.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The time for which an update waits if the lock could not be had for [`LOCK_WAIT`] already.
pub(super) const SHORT_WAIT: Duration = Duration::from_secs(1);

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
    /// Since when the leader waits for the lock.
    blocked_since: Option<Instant>,
    last_id: u64,
}

struct Queued {
    id: u64,
    work: Work,
    place: OwnedSemaphorePermit,
}

enum Work {
    Update(Box<QueuedUpdate>),
    /// Work with a write of its own. It gets the error if the lock cannot be taken.
    Other(OtherWork),
}

type OtherWork = Box<dyn FnOnce(Result<&GlobalGuard, StoreError>) + Send>;

struct QueuedUpdate {
    tenant: Tenant,
    update: Update,
    /// The tenant's lock, if the update is made under it.
    held: Option<OwnedMutexGuard<LockedJournal>>,
    answer: Answer<Changed>,
}

/// The tenant's lock of an update, its answer, and its place in the queue.
type Waiting = (Option<OwnedMutexGuard<LockedJournal>>, Answer<Changed>, OwnedSemaphorePermit);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A caller's hold on its queued update.
struct Ticket {
    group_commit: GroupCommit,
    id: u64,
    is_change: bool,
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
    /// when this returns. After [`StoreError::Busy`] it is not applied, and will not be.
    pub(super) async fn change(
        &self,
        store_file: &Arc<StoreFile>,
        tenant: &Tenant,
        update: Update,
        held: Option<OwnedMutexGuard<LockedJournal>>,
    ) -> Result<Changed, StoreError> {
        let is_change = matches!(update, Update::Change(_));
        let tenant = tenant.clone();
        let work = |answer| Work::Update(Box::new(QueuedUpdate { tenant, update, held, answer }));
        self.queue(store_file, is_change, work).await
    }

    /// Runs `work` under the global lock. After [`StoreError::Busy`], or if the caller gives up the
    /// wait, it is not run.
    pub(super) async fn locked<T: Send + 'static>(
        &self,
        store_file: &Arc<StoreFile>,
        work: impl FnOnce(&StoreFile, &GlobalGuard) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let of = store_file.clone();
        let work = |answer: Answer<T>| {
            Work::Other(Box::new(move |guard| {
                // A caller that gave up has dropped the receiver.
                let _ = answer.send(guard.and_then(|guard| work(&of, guard)));
            }))
        };
        self.queue(store_file, true, work).await
    }

    /// Queues work, and waits for its result.
    async fn queue<T>(
        &self,
        store_file: &Arc<StoreFile>,
        is_change: bool,
        work: impl FnOnce(Answer<T>) -> Work,
    ) -> Result<T, StoreError> {
        let stopping = || failed("cannot finish with", &store_file.location.path)(io::Error::other(GIVEN_UP));
        let deadline = self.deadline();
        let place = match timeout_at(deadline, self.places.clone().acquire_owned()).await {
            Ok(place) => place.map_err(|_| stopping())?,
            Err(_) => return Err(busy(store_file).await),
        };
        let (answer, mut answered) = oneshot::channel();
        let queued = Queued { id: 0, work: work(answer), place };
        let (id, leader) = self.push(store_file, queued);
        let ticket = Ticket { group_commit: self.clone(), id, is_change };
        if let Some(leader) = leader {
            tokio::task::spawn_blocking(move || leader.run());
        }
        let result = match timeout_at(deadline, &mut answered).await {
            Ok(result) => result,
            Err(_) if ticket.withdraw() => return Err(busy(store_file).await),
            Err(_) => answered.await,
        };
        result.unwrap_or_else(|_| Err(stopping()))
    }

    /// When an update that begins now has waited long enough.
    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let since = self.state().blocked_since.unwrap_or(now);
        (since + LOCK_WAIT).max(now + SHORT_WAIT)
    }

    /// Queues an update. Returns its number. The caller must run the leader that it gets.
    fn push(&self, store_file: &Arc<StoreFile>, queued: Queued) -> (u64, Option<Leader>) {
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.waiting.push_back(Queued { id, ..queued });
        let leads = !std::mem::replace(&mut state.has_leader, true);
        let leader = || Leader { store_file: store_file.clone(), group_commit: self.clone(), leads: true };
        (id, leads.then(leader))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn waits_for_lock(&self) -> bool {
        self.state().blocked_since.is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().waiting.len()
    }
}

/// The error of an update that has waited long enough. It was not applied.
async fn busy(store_file: &Arc<StoreFile>) -> StoreError {
    let location = store_file.location.clone();
    let path = location.path.clone();
    let find = move || {
        let path = location.locate()?.global_lock();
        Ok(StoreError::Busy { path, holder: location.global_lock_holder() })
    };
    blocking(&path, find).await.unwrap_or_else(|error| error)
}

// === impl Ticket ===

impl Ticket {
    /// Takes the update out of the queue. Returns `false` if it is not there any more: the leader has
    /// taken it.
    fn withdraw(&self) -> bool {
        let mut state = self.group_commit.state();
        let place = state.waiting.iter().position(|queued| queued.id == self.id);
        let withdrawn = place.and_then(|place| state.waiting.remove(place));
        // The drop may release a tenant's lock, which needs no mutex.
        drop(state);
        withdrawn.is_some()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_change {
            self.withdraw();
        }
    }
}

// === impl Leader ===

impl Leader {
    fn run(mut self) {
        while self.goes_on() {
            let locked = self.lock();
            let batch = std::mem::take(&mut self.group_commit.state().waiting);
            if batch.is_empty() {
                continue;
            }
            let (mut changes, mut waiting, mut others) = (Vec::new(), Vec::new(), Vec::new());
            for Queued { work, place, .. } in batch {
                match work {
                    Work::Update(queued) => {
                        let QueuedUpdate { tenant, update, held, answer } = *queued;
                        changes.push((tenant, update));
                        waiting.push((held, answer, place));
                    }
                    Work::Other(work) => others.push((work, place)),
                }
            }
            if !changes.is_empty() {
                self.commit(locked.as_ref(), changes, waiting);
            }
            for (work, place) in others {
                work(locked.as_ref().map_err(StoreError::clone));
                drop(place);
            }
        }
    }

    /// Writes a batch of updates, and answers each.
    fn commit(
        &self,
        locked: Result<&GlobalGuard, &StoreError>,
        changes: Vec<(Tenant, Update)>,
        waiting: Vec<Waiting>,
    ) {
        let committed = locked.map_err(StoreError::clone);
        let committed = committed.and_then(|guard| self.store_file.change_all(guard, changes));
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

    fn lock(&self) -> Result<GlobalGuard, StoreError> {
        self.group_commit.state().blocked_since = Some(Instant::now());
        let locked = self.store_file.location.lock_global();
        self.group_commit.state().blocked_since = None;
        locked
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
            state.blocked_since = None;
            let abandoned = std::mem::take(&mut state.waiting);
            drop(state);
            drop(abandoned);
        }
    }
}
