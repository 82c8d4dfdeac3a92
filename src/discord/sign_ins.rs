//! The `/auth start` messages that are out, so that they say how their sign-in went, by whichever way it ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use super::rest::InteractionToken;
use crate::ids::Tenant;

/// How many messages are followed; the oldest are then left as they are.
const MAX: usize = 2_000;

/// A message with a sign-in link.
#[derive(Clone, Debug)]
pub(super) struct OpenSignIn {
    pub(super) tenant: Tenant,
    pub(super) token: InteractionToken,
    ends: Instant,
    pub(super) custom_ids: Vec<String>,
    /// Held while the message is written, so that what comes last also stands last.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
}

/// All that are out.
#[derive(Debug)]
pub(super) struct OpenSignIns {
    entries: Mutex<BTreeMap<u64, OpenSignIn>>,
    /// The earliest end may have changed.
    changed: Notify,
}

impl OpenSignIns {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::new(BTreeMap::new()), changed: Notify::new() }
    }

    /// Follows the message of an interaction until `ends`.
    pub(super) fn add(
        &self,
        tenant: Tenant,
        token: InteractionToken,
        ends: Instant,
        custom_ids: Vec<String>,
    ) -> OpenSignIn {
        let entry = OpenSignIn { tenant, token, ends, custom_ids, writing: Arc::default() };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let key = entries.last_key_value().map_or(0, |(key, _)| key + 1);
        entries.insert(key, entry.clone());
        while entries.len() > MAX {
            entries.pop_first();
        }
        drop(entries);
        self.changed.notify_one();
        entry
    }

    fn take(&self, wanted: impl Fn(&OpenSignIn) -> bool) -> Vec<OpenSignIn> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<u64> = entries.iter().filter(|(_, entry)| wanted(entry)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| entries.remove(key)).collect()
    }

    /// Takes those of a tenant.
    pub(super) fn take_all(&self, tenant: &Tenant) -> Vec<OpenSignIn> {
        self.take(|entry| entry.tenant == *tenant)
    }

    /// Waits until one has come to its end, and takes those that have.
    pub(super) async fn ended(&self) -> Vec<OpenSignIn> {
        loop {
            let entries = || self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let next = entries().values().map(|entry| entry.ends).min();
            match next {
                Some(at) if at <= Instant::now() => return self.take(|entry| entry.ends <= Instant::now()),
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::Secret;

    fn add(open: &OpenSignIns, tenant: &str, seconds: u64) {
        let token = InteractionToken(Secret::new("token"));
        let ends = Instant::now() + Duration::from_secs(seconds);
        open.add(tenant.parse().expect("a tenant"), token, ends, vec!["id".into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_comes_to_its_end_in_its_time() {
        let open = Arc::new(OpenSignIns::new());
        add(&open, "acme/user:1", 900);
        let waiting = tokio::spawn({
            let open = open.clone();
            async move { (open.ended().await, Instant::now()) }
        });
        tokio::task::yield_now().await;
        let begun = Instant::now();
        add(&open, "acme/user:2", 60);
        let (ended, at) = waiting.await.expect("it ends");
        assert_eq!(ended.len(), 1);
        assert_eq!(
            ended[0].tenant.to_string(),
            "acme/user:2",
            "the one that ends first, though it came last"
        );
        assert_eq!((at - begun).as_secs(), 60);
        assert_eq!(open.ended().await[0].tenant.to_string(), "acme/user:1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_in_that_is_over_takes_all_its_messages_and_no_others() {
        let open = OpenSignIns::new();
        add(&open, "acme/user:1", 900);
        add(&open, "acme/user:1", 800);
        add(&open, "acme/user:2", 700);
        let tenant: Tenant = "acme/user:1".parse().expect("a tenant");
        assert_eq!(open.take_all(&tenant).len(), 2);
        assert_eq!(open.ended().await.len(), 1);
    }

    #[test]
    fn at_the_bound_the_oldest_is_left_as_it_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _inside = runtime.enter();
        let open = OpenSignIns::new();
        (0..=MAX).for_each(|n| add(&open, &format!("acme/user:{n}"), 900));
        let all = open.take(|_| true);
        assert_eq!((all.len(), all[0].tenant.to_string().as_str()), (MAX, "acme/user:1"));
    }
}
