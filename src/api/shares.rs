//! Fair shares: the connections of one caller never block another caller.
//!
//! A worker may be hostile. It can open silent connections, send a byte now and then, ask while a
//! provider is slow, and do all that from many processes at once. The kernel's facts about a peer
//! do not bind it: it can fork, and leave its process group and session. So places are counted in
//! three pools:
//!
//! - *arrivals* are connections that have not presented a capability. They are counted by the
//!   peer's process. An honest caller presents its capability with its first bytes, so it is an
//!   arrival for a moment only.
//! - *requests* have a live capability or operator key. They are counted by conversation or key,
//!   across all its processes. A request that is answered at once, without a wait, takes no place.
//!
//! - *waits* are those requests while they wait for the owner's sign-in, for minutes. They are counted
//!   like requests, in a pool of their own: they take no place from a request, nor does one from them.
//!
//! A kept connection is an arrival between its requests. From its first request on it is counted with
//! the holder of that request, so a peer without a secret cannot take its place. A peer on TCP is
//! counted by its network: see [`Peer`].
//!
//! A newcomer always finds a place, even in a full pool: the holder of the most places loses its
//! oldest one. So a holder of less than an equal share loses nothing, and a single holder may have
//! all places. An attacker has to fork a process for each arrival that should count as another
//! holder's. That only delays the loss of its own arrivals, because no arrival takes the place of a
//! request.
//!
//! Losing a place costs little. An arrival's connection is closed. A request is answered 503 with
//! Retry-After; the refresh that it waited for goes on, as it does for a caller that hangs up.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    future::poll_fn,
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::ids::ConversationId;

/// How many connections without a presented capability have a place.
pub(super) const ARRIVALS: usize = 128;
/// How many requests of workers have a place.
pub(super) const REQUESTS: usize = 384;
/// How many requests that wait for an owner have a place.
pub(super) const WAITS: usize = 256;

/// All pools. Clones share them.
#[derive(Clone)]
pub(super) struct Shares {
    arrivals: Pool<Arriving>,
    requests: Pool<Holding>,
    waits: Pool<Holding>,
}

/// The other end of a connection, before it has presented a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// A process on this machine, if the kernel names it.
    Process(Option<i32>),
    /// An IPv4 address, or the network of an IPv6 address, which one customer has whole (RFC 6177).
    Network(IpAddr),
}

/// The holder of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holding {
    /// The worker of this conversation.
    Conversation(ConversationId),
    /// The operator key of this name.
    Operator(String),
}

/// The holder of an arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Arriving {
    Unknown(Peer),
    Known(Holding),
}

/// The share of one connection: its place among the arrivals or the requests.
pub(super) struct ConnectionShare {
    shares: Shares,
    arrival: Mutex<Option<Place<Arriving>>>,
    /// Fires when the connection has lost its place among the arrivals.
    pub(super) dismissed: CancellationToken,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { arrivals: Pool::new(ARRIVALS), requests: Pool::new(REQUESTS), waits: Pool::new(WAITS) }
    }

    /// Gives a new connection of `peer` a place among the arrivals.
    pub(super) fn arrive(&self, peer: Peer) -> ConnectionShare {
        let share = ConnectionShare {
            shares: self.clone(),
            arrival: Mutex::new(None),
            dismissed: CancellationToken::new(),
        };
        share.enter_arrivals(Arriving::Unknown(peer));
        share
    }
}

impl Peer {
    /// The peer at this address.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            address => address,
        })
    }
}

impl ConnectionShare {
    /// Runs a request of `holder` on a place among the requests. Returns an error if the place is
    /// lost. Callers box `work`, which may hold a whole refresh: it is moved here, and each move needs
    /// its room on the stack.
    pub(super) async fn run_request<T>(
        &self,
        holder: Holding,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        self.run_in(&self.shares.requests, holder, work).await
    }

    /// The same for a request that waits for an owner, on a place among the waits.
    pub(super) async fn run_wait<T>(
        &self,
        holder: Holding,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        self.run_in(&self.shares.waits, holder, work).await
    }

    async fn run_in<T>(
        &self,
        pool: &Pool<Holding>,
        holder: Holding,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let mut work = pin!(work);
        // An answer that is there at once needs no place: nothing else runs on this connection meanwhile.
        let result = match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            Poll::Ready(result) => result,
            Poll::Pending => {
                let displaced = CancellationToken::new();
                let _place = pool.enter(holder.clone(), displaced.clone());
                self.arrival().take();
                tokio::select! {
                    biased;
                    result = work => result,
                    () = displaced.cancelled() => Err(Problem::too_many_requests()),
                }
            }
        };
        self.enter_arrivals(Arriving::Known(holder));
        result
    }

    /// Moves the connection to the arrivals, before and after a request.
    fn enter_arrivals(&self, holder: Arriving) {
        let mut arrival = self.arrival();
        match &mut *arrival {
            Some(place) if place.holder == holder => place.renew(),
            _ => {
                // The earlier place is returned first, so that the connection displaces no other one.
                *arrival = None;
                *arrival = Some(self.shares.arrivals.enter(holder, self.dismissed.clone()));
            }
        }
    }

    fn arrival(&self) -> MutexGuard<'_, Option<Place<Arriving>>> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A limited number of places, counted by holder.
pub(super) struct Pool<K>(Arc<Mutex<Table<K>>>);

struct Table<K> {
    places: usize,
    taken: usize,
    next: u64,
    /// The places of each holder, the oldest first. A holder without a place has no entry.
    held: BTreeMap<K, BTreeMap<u64, CancellationToken>>,
}

/// A place in a pool, which is returned on drop.
pub(super) struct Place<K: Ord> {
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
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(Table { places, taken: 0, next: 0, held: BTreeMap::new() })))
    }

    /// Gives `holder` a place. `lost` is cancelled when another holder takes it.
    pub(super) fn enter(&self, holder: K, lost: CancellationToken) -> Place<K> {
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
    /// Takes the oldest place of the holder that would hold the most after `newcomer` has one more.
    /// Among equal holders the one with the oldest place loses it.
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

impl<K: Ord> Place<K> {
    /// Makes the place the newest one of its holder. A lost place stays lost.
    fn renew(&mut self) {
        let mut table = self.pool.table();
        let Table { next, held, .. } = &mut *table;
        if let Some(places) = held.get_mut(&self.holder)
            && let Some(lost) = places.remove(&self.number)
        {
            places.insert(*next, lost);
            self.number = *next;
            *next += 1;
        }
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        // A lost place has been removed already.
        let _ = self.pool.table().remove(&self.holder, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Snowflake;

    /// Places with the tokens that show their loss.
    type Taken = Vec<(Place<u32>, CancellationToken)>;

    fn take(pool: &Pool<u32>, holder: u32, places: usize) -> Taken {
        let enter = |_| {
            let lost = CancellationToken::new();
            (pool.enter(holder, lost.clone()), lost)
        };
        (0..places).map(enter).collect()
    }

    fn kept(taken: &Taken) -> usize {
        taken.iter().filter(|(_, lost)| !lost.is_cancelled()).count()
    }

    #[test]
    fn a_single_holder_may_have_all_places_and_then_loses_its_oldest() {
        let pool = Pool::new(8);
        let taken = take(&pool, 1, 9);
        assert!(taken[0].1.is_cancelled());
        assert_eq!(kept(&taken), 8);
    }

    #[test]
    fn a_newcomer_takes_its_equal_share_from_the_largest_holder_only() {
        let pool = Pool::new(12);
        let heavy = take(&pool, 1, 12);
        let light = take(&pool, 2, 3);
        assert_eq!((kept(&heavy), kept(&light)), (9, 3));
        let greedy = take(&pool, 3, 100);
        assert_eq!(kept(&light), 3, "a holder of less than a share loses nothing");
        assert!((4..=5).contains(&kept(&heavy)), "{}", kept(&heavy));
        assert_eq!(kept(&heavy) + kept(&light) + kept(&greedy), 12);
    }

    #[test]
    fn a_returned_place_is_free_and_a_lost_place_is_not_returned_twice() {
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
    async fn arrivals_never_displace_a_request_and_a_displaced_request_gets_503() {
        let shares = Shares::new();
        let share = shares.arrive(Peer::Process(Some(1)));
        let worker = Holding::Conversation(ConversationId(Snowflake(7)));
        let arrive = |process| shares.arrive(Peer::Process(Some(process)));
        let arrivals: Vec<_> = (0..1000).map(arrive).collect();
        assert!(share.dismissed.is_cancelled(), "it presented no capability");
        assert_eq!(arrivals.iter().filter(|share| !share.dismissed.is_cancelled()).count(), ARRIVALS);
        let request = share.run_request(worker.clone(), std::future::pending::<Result<(), Problem>>());
        tokio::pin!(request);
        assert!(futures_util::poll!(&mut request).is_pending());
        let _more: Vec<_> = (0..1000).map(arrive).collect();
        assert!(futures_util::poll!(&mut request).is_pending());
        let tokens: Vec<_> = (0..REQUESTS).map(|_| CancellationToken::new()).collect();
        let places = tokens.iter().map(|lost| shares.requests.enter(worker.clone(), lost.clone()));
        let _places: Vec<_> = places.collect();
        assert_eq!(request.await, Err(Problem::too_many_requests()));
    }

    #[tokio::test]
    async fn waits_take_no_place_from_requests_and_share_their_own_places_fairly() {
        let shares = Shares::new();
        let worker = |id| Holding::Conversation(ConversationId(Snowflake(id)));
        let connection = || shares.arrive(Peer::Process(None));
        let endless = || std::future::pending::<Result<(), Problem>>();
        let (first, honest) = (connection(), connection());
        let mut oldest = Box::pin(first.run_wait(worker(1), endless()));
        assert!(futures_util::poll!(&mut oldest).is_pending());
        let lost: Vec<_> = (0..WAITS).map(|_| CancellationToken::new()).collect();
        let places: Vec<_> = lost.iter().map(|lost| shares.waits.enter(worker(1), lost.clone())).collect();
        assert_eq!(oldest.await, Err(Problem::too_many_requests()), "its own later waits displace it");
        let mut waiting = Box::pin(honest.run_wait(worker(2), endless()));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let more: Vec<_> =
            (0..WAITS).map(|_| shares.waits.enter(worker(1), CancellationToken::new())).collect();
        assert!(futures_util::poll!(&mut waiting).is_pending(), "a small holder keeps its wait");
        assert_eq!(shares.requests.table().taken, 0);
        assert_eq!(connection().run_request(worker(3), async { Ok(()) }).await, Ok(()));
        drop((places, more));
    }

    #[tokio::test]
    async fn a_kept_connection_of_a_known_holder_outlives_a_storm_of_strangers() {
        let shares = Shares::new();
        let address = Peer::at("127.0.0.1".parse().expect("an address"));
        let kept = shares.arrive(address);
        let operator = Holding::Operator("backup".to_owned());
        kept.run_request(operator, async { Ok(()) }).await.expect("it is served");
        let _strangers: Vec<_> = (0..1000).map(|_| shares.arrive(address)).collect();
        assert!(!kept.dismissed.is_cancelled(), "it has presented a key");
    }

    #[tokio::test]
    async fn a_connection_that_was_just_used_is_the_last_of_its_holder_to_lose_its_place() {
        let shares = Shares::new();
        let used = async |connection: &ConnectionShare| {
            let operator = Holding::Operator("backup".to_owned());
            connection.run_request(operator, async { Ok(()) }).await.expect("it is served");
        };
        let [first, second] = [(); 2].map(|()| shares.arrive(Peer::Process(None)));
        for connection in [&first, &second, &first] {
            used(connection).await;
        }
        let mut others = Vec::new();
        for _ in 0..ARRIVALS - 1 {
            others.push(shares.arrive(Peer::Process(None)));
            used(&others[others.len() - 1]).await;
        }
        assert!(second.dismissed.is_cancelled() && !first.dismissed.is_cancelled());
        assert_eq!(shares.arrivals.table().taken, ARRIVALS);
    }

    #[tokio::test]
    async fn a_request_takes_a_place_once_it_has_to_wait() {
        let shares = Shares::new();
        let connection = shares.arrive(Peer::Process(None));
        let operator = || Holding::Operator("backup".to_owned());
        let taken = || (shares.arrivals.table().taken, shares.requests.table().taken);
        let answered = async {
            assert_eq!(taken(), (1, 0));
            Ok(())
        };
        connection.run_request(operator(), answered).await.expect("it is served");
        let waits = std::future::pending::<Result<(), Problem>>();
        let mut waiting = Box::pin(connection.run_request(operator(), waits));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(taken(), (0, 1));
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_peer() {
        let peer = |text: &str| Peer::at(text.parse().expect("an address"));
        assert_eq!(peer("2001:db8:1:2::5"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::5"), peer("2001:db8:1:3::5"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    }
}
