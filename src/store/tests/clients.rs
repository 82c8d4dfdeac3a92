//! Registered clients: which one stays, which one goes, and the wait for the lock.

use super::{
    super::group_commit::LOCK_WAIT,
    group::{hold_the_global_lock, until_queued},
    *,
};
use crate::secret::ClientSecret;

const KEY: &str = "https://id.example http://127.0.0.1:1/callback";

fn client(id: &str) -> RegisteredClient {
    RegisteredClient {
        client_id: id.to_owned(),
        client_secret: Some(ClientSecret::new(format!("secret-of-{id}"))),
        secret_expires_at: None,
        auth_method: Some("client_secret_post".to_owned()),
        registered_at: Some(NOW),
        unused_since: None,
    }
}

impl Fixture {
    /// Sweeps clients of a day once, so many days after the start. Returns the removed ones.
    async fn sweep_clients_on_day(&self, days: i64) -> Vec<String> {
        self.clock.set(NOW + days * DAY);
        self.store.sweep_clients(Duration::from_secs(DAY.unsigned_abs())).await.expect("writable")
    }

    async fn client_ids(&self) -> Vec<String> {
        let clients = self.healthy().clients().await.expect("readable");
        clients.values().map(|client| client.client_id.clone()).collect()
    }
}

#[tokio::test]
async fn the_client_that_is_stored_first_stays_and_one_that_was_seen_is_replaced() {
    let f = Fixture::new();
    let store = |id: &'static str, replaced| f.store.store_client(KEY, client(id), replaced);
    assert_eq!(store("c-1", None).await.expect("writable"), client("c-1"));
    assert_eq!(f.healthy().store_client(KEY, client("c-2"), None).await.expect("writable"), client("c-1"));
    assert_eq!(
        store("c-3", Some(client("c-2"))).await.expect("writable"),
        client("c-1"),
        "it saw another one"
    );
    assert_eq!(store("c-3", Some(client("c-1"))).await.expect("writable"), client("c-3"));
    assert_eq!(f.healthy().clients().await.expect("readable").get(KEY), Some(&client("c-3")));
    let text = f.text();
    assert!(
        text.contains("\"registered_at\": 1795358672") || text.contains("\"registered_at\":1795358672"),
        "{text}"
    );
}

#[tokio::test]
async fn a_retired_client_leaves_its_key_with_one_write_and_keeps_its_secret() {
    let f = Fixture::new();
    f.store.store_client(KEY, client("c-1"), None).await.expect("writable");
    assert!(!f.store.retire_client(KEY, &client("c-2")).await.expect("writable"), "another one is there");
    assert!(f.store.retire_client(KEY, &client("c-1")).await.expect("writable"));
    let retired = format!("{KEY} c-1");
    let clients = f.healthy().clients().await.expect("readable");
    assert_eq!(clients.iter().collect::<Vec<_>>(), [(&retired, &client("c-1"))]);
    assert!(!f.store.retire_client(&retired, &client("c-1")).await.expect("writable"), "it is retired");
}

#[tokio::test]
async fn only_old_clients_that_no_record_is_bound_to_are_swept() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut undated = client("undated");
    undated.registered_at = None;
    let mut young = client("young");
    young.registered_at = Some(NOW + 3 * DAY);
    for (key, client) in
        [("i a", client("old")), ("i b", undated), ("i c", young), ("i d", client("threadkey"))]
    {
        f.store.store_client(key, client, None).await.expect("writable");
    }
    let mut waiting = pending("state-1");
    waiting.binding.client_id = "waiting".to_owned();
    f.store.store_client("i e", client("waiting"), None).await.expect("writable");
    f.store
        .change(&"codex/user:1".parse().expect("a tenant"), Change::Start(waiting))
        .await
        .expect("writable");
    assert!(f.sweep_clients_on_day(1).await.is_empty(), "each was only now seen unused");
    assert_eq!(f.sweep_clients_on_day(2).await, ["i a", "i b"], "a sign-in has another one");
    // The next change drops that sign-in.
    f.clock.set(NOW + 3 * DAY);
    let next = Change::Start(pending("state-2"));
    f.store.change(&"codex/user:2".parse().expect("a tenant"), next).await.expect("writable");
    assert!(f.sweep_clients_on_day(3).await.is_empty());
    assert_eq!(f.sweep_clients_on_day(4).await, ["i e"]);
    let left: Vec<String> = f.healthy().clients().await.expect("readable").keys().cloned().collect();
    assert_eq!(left, ["i c", "i d"], "a session is bound to one, and another one is young");
    assert!(f.sweep_clients_on_day(4).await.is_empty());
}

#[tokio::test]
async fn an_old_client_stays_for_a_day_after_each_last_session_of_it() {
    let f = Fixture::new();
    let old = RegisteredClient { registered_at: Some(NOW - 10 * DAY), ..client("threadkey") };
    f.store.store_client(KEY, old.clone(), None).await.expect("writable");
    assert!(f.sweep_clients_on_day(0).await.is_empty());
    f.sign_in().await;
    assert!(f.sweep_clients_on_day(0).await.is_empty());
    assert_eq!(f.healthy().clients().await.expect("readable").get(KEY), Some(&old));
    f.store.change(&alice(), Change::Logout).await.expect("writable");
    assert!(f.sweep_clients_on_day(20).await.is_empty(), "a late answer may need it");
    assert!(f.sweep_clients_on_day(20).await.is_empty());
    assert_eq!(f.sweep_clients_on_day(21).await, [KEY]);
}

#[tokio::test]
async fn no_client_is_removed_while_the_store_has_tenants_of_another_version() {
    let f = Fixture::new();
    f.sign_in().await;
    f.store.store_client(KEY, client("c-1"), None).await.expect("writable");
    assert!(f.sweep_clients_on_day(1).await.is_empty());
    let known = f.value();
    let mut foreign = known.clone();
    foreign["sessions"]["codex/robot:7"] = known["sessions"]["codex/user:803"].clone();
    f.put(foreign.to_string());
    assert!(f.sweep_clients_on_day(9).await.is_empty());
    assert_eq!(f.client_ids().await, ["c-1"], "that tenant may use it");
    f.put(known.to_string());
    assert_eq!(f.sweep_clients_on_day(9).await, [KEY]);
}

#[tokio::test]
async fn of_the_clients_that_no_record_uses_only_the_newest_64_stay() {
    let f = Fixture::new();
    f.sign_in().await;
    f.store.store_client("i used", client("threadkey"), None).await.expect("writable");
    for n in 0..70 {
        let mut new = client(&format!("c-{n:02}"));
        new.registered_at = Some(NOW + n);
        f.store.store_client(&format!("i {n:02}"), new, None).await.expect("writable");
    }
    let mut expected: Vec<String> = (6..70).map(|n| format!("c-{n:02}")).collect();
    expected.push("threadkey".to_owned());
    assert_eq!(f.client_ids().await, expected);
}

#[tokio::test(start_paused = true)]
async fn changes_of_clients_behind_a_stuck_lock_end_in_seconds_and_are_never_made() {
    let f = Fixture::new();
    f.store.store_client(KEY, client("c-1"), None).await.expect("writable");
    f.store.store_client("i old", client("old"), None).await.expect("writable");
    let held = hold_the_global_lock(&f);
    let (one, two, three) = (f.store.clone(), f.store.clone(), f.store.clone());
    let calls = [
        tokio::spawn(async move { one.store_client("i new", client("c-2"), None).await.map(drop) }),
        tokio::spawn(async move { two.retire_client(KEY, &client("c-1")).await.map(drop) }),
        tokio::spawn(async move { three.sweep_clients(Duration::ZERO).await.map(drop) }),
    ];
    until_queued(&f, 3).await;
    tokio::time::advance(LOCK_WAIT + Duration::from_millis(1)).await;
    for call in calls {
        let result = call.await.expect("no panic");
        assert!(matches!(result, Err(StoreError::Busy { .. })), "{result:?}");
    }
    drop(held);
    f.store.change(&alice(), Change::Start(pending("state-1"))).await.expect("free");
    let left: Vec<String> = f.healthy().clients().await.expect("readable").keys().cloned().collect();
    assert_eq!(left, [KEY, "i old"], "nothing was made later");
}

#[tokio::test]
async fn a_client_and_a_change_that_wait_together_are_both_made() {
    let f = Fixture::new();
    let held = hold_the_global_lock(&f);
    let (one, two) = (f.store.clone(), f.store.clone());
    let stored = tokio::spawn(async move { one.store_client(KEY, client("c-1"), None).await });
    until_queued(&f, 1).await;
    let changed = tokio::spawn(async move { two.change(&alice(), Change::Start(pending("state-1"))).await });
    until_queued(&f, 2).await;
    drop(held);
    assert_eq!(stored.await.expect("no panic").expect("writable"), client("c-1"));
    assert_eq!(changed.await.expect("no panic").expect("writable").applied, Applied::Done);
    let other = f.healthy();
    assert!(other.clients().await.expect("readable").contains_key(KEY));
    assert!(other.read(&alice()).await.expect("readable").pending.is_some());
}
