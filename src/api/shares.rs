//! Fair shares: what one caller holds is never in another one's way.
//!
//! A worker may be hostile. It can open connections and say nothing, send a byte now and then, ask while a provider is slow, and
//! do all that from many processes at once. Nothing that the kernel tells of a peer binds it: it can fork, and leave its group and
//! session. So shares are counted in two pools, each with places of its own:
//!
//! - *arrivals*: connections that have not shown a capability. They are counted by the peer's process. Whoever means it shows one
//!   with its first bytes, and stays for no time to speak of.
//! - *requests* with a live capability, counted by conversation, however many processes of it ask.
//!
//! In a full pool a newcomer always finds a place: whoever holds the most loses the place that it has held longest. So whoever
//! holds less than an equal share loses nothing, and who is alone may have all of it. A process has to be forked for each
//! arrival that is to count as somebody else's, and gains nothing but that its like are dismissed a little later: no
//! arrival takes the place of a request.
//!
//! To lose a place costs little. An arrival is hung up on. A request is answered 503 with Retry-After; the refresh that it waited for
//! goes on, as it does for a caller that hangs up by itself.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::ids::ConversationId;

/// Connections that have not shown a capability.
pub(super) const ARRIVALS: usize = 128;
/// Requests of workers.
pub(super) const REQUESTS: usize = 384;

/// Both pools. Clones are the same.
#[derive(Clone)]
pub(super) struct Shares {
    arrivals: Pool<Option<i32>>,
    requests: Pool<ConversationId>,
}

/// A connection: one request, and its place.
pub(super) struct Visit {
    shares: Shares,
    peer: Option<i32>,
    arrival: Mutex<Option<Place<Option<i32>>>>,
    /// It has lost its place among the arrivals.
    pub(super) dismissed: CancellationToken,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { arrivals: Pool::new(ARRIVALS), requests: Pool::new(REQUESTS) }
    }

    /// A connection of the process `peer` has come.
    pub(super) fn arrive(&self, peer: Option<i32>) -> Visit {
        let visit = Visit {
            shares: self.clone(),
            peer,
            arrival: Mutex::new(None),
            dismissed: CancellationToken::new(),
        };
        visit.wait_to_go();
        visit
    }
}

impl Visit {
    /// Does the work of a request by the worker of `conversation`, unless others need the place that it takes.
    pub(super) async fn of<T>(
        &self,
        conversation: ConversationId,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let displaced = CancellationToken::new();
        let _place = self.shares.requests.enter(conversation, displaced.clone());
        self.arrival().take();
        let result = tokio::select! {
            biased;
            result = work => result,
            () = displaced.cancelled() => Err(Problem::too_many_requests()),
        };
        self.wait_to_go();
        result
    }

    /// What has no capability, or no more use for it, is among the arrivals.
    fn wait_to_go(&self) {
        let place = self.shares.arrivals.enter(self.peer, self.dismissed.clone());
        *self.arrival() = Some(place);
    }

    fn arrival(&self) -> MutexGuard<'_, Option<Place<Option<i32>>>> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number of places, held by whom.
struct Pool<K>(Arc<Mutex<Table<K>>>);

struct Table<K> {
    places: usize,
    taken: usize,
    next: u64,
    /// By holder, the oldest place first. A holder without places is not there.
    held: BTreeMap<K, BTreeMap<u64, CancellationToken>>,
}

/// A place in a pool, given back when it is dropped.
struct Place<K: Ord> {
    pool: Pool<K>,
    holder: K,
    number: u64,
}

impl<K> Clone for Pool<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord + Clone> Pool<K> {
    fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(Table { places, taken: 0, next: 0, held: BTreeMap::new() })))
    }

    /// A place for `holder`; `lost` is cancelled when others need it.
    fn enter(&self, holder: K, lost: CancellationToken) -> Place<K> {
        let mut table = self.table();
        if table.taken >= table.places {
            table.displace(&holder);
        }
        let number = table.next;
        table.next += 1;
        table.taken += 1;
        table.held.entry(holder.clone()).or_default().insert(number, lost);
        drop(table);
        Place { pool: self.clone(), holder, number }
    }
}

impl<K> Pool<K> {
    fn table(&self) -> MutexGuard<'_, Table<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone> Table<K> {
    /// Takes a place from whoever would hold the most once `newcomer` has one more; among equals from the one that has held longest.
    fn displace(&mut self, newcomer: &K) {
        let most = self.held.iter().max_by_key(|(holder, places)| {
            let more = usize::from(*holder == newcomer);
            (places.len() + more, Reverse(places.keys().next().copied()))
        });
        let Some((holder, oldest)) =
            most.and_then(|(holder, places)| Some((holder.clone(), *places.keys().next()?)))
        else {
            return;
        };
        if let Some(lost) = self.remove(&holder, oldest) {
            lost.cancel();
        }
    }
}

impl<K: Ord> Table<K> {
    fn remove(&mut self, holder: &K, number: u64) -> Option<CancellationToken> {
        let places = self.held.get_mut(holder)?;
        let removed = places.remove(&number)?;
        if places.is_empty() {
            self.held.remove(holder);
        }
        self.taken -= 1;
        Some(removed)
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        // It is not there any more if it was lost.
        let _ = self.pool.table().remove(&self.holder, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Snowflake;

    /// Places that were taken, with what tells of their loss.
    type Taken = Vec<(Place<u32>, CancellationToken)>;

    fn take(pool: &Pool<u32>, holder: u32, places: usize) -> Taken {
        let one = |_| {
            let lost = CancellationToken::new();
            (pool.enter(holder, lost.clone()), lost)
        };
        (0..places).map(one).collect()
    }

    fn kept(taken: &Taken) -> usize {
        taken.iter().filter(|(_, lost)| !lost.is_cancelled()).count()
    }

    #[test]
    fn who_is_alone_may_have_all_and_then_loses_its_oldest() {
        let pool = Pool::new(8);
        let taken = take(&pool, 1, 9);
        assert!(taken[0].1.is_cancelled());
        assert_eq!(kept(&taken), 8);
    }

    #[test]
    fn a_newcomer_gets_its_share_from_who_holds_the_most_and_no_more() {
        let pool = Pool::new(12);
        let heavy = take(&pool, 1, 12);
        let light = take(&pool, 2, 3);
        assert_eq!((kept(&heavy), kept(&light)), (9, 3));
        let greedy = take(&pool, 3, 100);
        assert_eq!(kept(&light), 3, "who holds less than a share loses nothing");
        assert!((4..=5).contains(&kept(&heavy)), "{}", kept(&heavy));
        assert_eq!(kept(&heavy) + kept(&light) + kept(&greedy), 12);
    }

    #[test]
    fn a_place_that_is_given_back_is_there_for_the_next_one_and_a_lost_one_is_not_given_back_twice() {
        let pool = Pool::new(2);
        let first = take(&pool, 1, 3);
        drop(first);
        assert_eq!(pool.table().taken, 0);
        assert!(pool.table().held.is_empty());
        let (one, two) = (take(&pool, 1, 1), take(&pool, 2, 1));
        drop(one);
        let three = take(&pool, 3, 1);
        assert_eq!((kept(&two), kept(&three)), (1, 1));
    }

    #[tokio::test]
    async fn however_many_arrive_a_request_keeps_its_place_and_one_too_many_is_told_to_come_again() {
        let shares = Shares::new();
        let visit = shares.arrive(Some(1));
        let worker = ConversationId(Snowflake(7));
        let arrivals: Vec<_> = (0..1000).map(|process| shares.arrive(Some(process))).collect();
        assert!(visit.dismissed.is_cancelled(), "it took its time");
        assert_eq!(arrivals.iter().filter(|one| !one.dismissed.is_cancelled()).count(), ARRIVALS);
        let under_way = visit.of(worker, std::future::pending::<Result<(), Problem>>());
        tokio::pin!(under_way);
        assert!(futures_util::poll!(&mut under_way).is_pending());
        let _more: Vec<_> = (0..1000).map(|process| shares.arrive(Some(process))).collect();
        assert!(futures_util::poll!(&mut under_way).is_pending());
        let tokens: Vec<_> = (0..REQUESTS).map(|_| CancellationToken::new()).collect();
        let places = tokens.iter().map(|lost| shares.requests.enter(worker, lost.clone()));
        let _places: Vec<_> = places.collect();
        assert_eq!(under_way.await, Err(Problem::too_many_requests()));
    }
}
