//! The messages about open sign-ins that are out, so that they say how their sign-in went, by whichever way it ended: its link,
//! and the question between two accounts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::{asked::Asked, people::TOKEN_LIFE, rest::InteractionToken};
use crate::{
    broker::SignInProgress,
    ids::{Snowflake, Tenant},
};

/// How many messages are followed; the oldest are then left as they are.
const MAX: usize = 2_000;

/// A message about a sign-in that is under way: a link, or the question between two accounts.
#[derive(Clone, Debug)]
pub(super) struct OpenSignIn {
    pub(super) shown: SignInProgress,
    person: Snowflake,
    pub(super) token: InteractionToken,
    /// When the token ends, and with it what can be done about the message.
    token_ends: Instant,
    ends: Instant,
    pub(super) custom_ids: Vec<String>,
    /// Held while the message is written, so that what comes last also stands last.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
}

/// All that are out.
#[derive(Debug)]
pub(super) struct OpenSignIns {
    entries: Mutex<BTreeMap<u64, OpenSignIn>>,
    /// The key of the next one; none is used twice.
    next: AtomicU64,
    /// The earliest end may have changed.
    changed: Notify,
    /// One has come, or something has happened to one: how they stand is to be looked at.
    look: Notify,
}

impl OpenSignIn {
    /// A message that answers `asked` since `since`, with these buttons.
    pub(super) fn new(shown: SignInProgress, asked: &Asked, since: Instant, custom_ids: Vec<String>) -> Self {
        let token_ends = since + TOKEN_LIFE;
        let (person, token) = (asked.user, asked.token.clone());
        Self { shown, person, token, token_ends, ends: token_ends, custom_ids, writing: Arc::default() }
    }

    /// The same, and its end comes before that of the token.
    pub(super) fn ending(mut self, at: Instant) -> Self {
        self.ends = self.token_ends.min(at);
        self
    }
}

impl OpenSignIns {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(0),
            changed: Notify::new(),
            look: Notify::new(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, OpenSignIn>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a message until its end. What happened to its sign-in until now is seen as well.
    pub(super) fn add(&self, entry: OpenSignIn) {
        let mut entries = self.entries();
        // Under the lock, so that the newest is the last.
        entries.insert(self.next.fetch_add(1, Ordering::Relaxed), entry);
        while entries.len() > MAX {
            entries.pop_first();
        }
        drop(entries);
        self.changed.notify_one();
        self.look();
    }

    /// Somebody is to look at how they stand.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// Waits for a reason to look.
    pub(super) async fn to_look(&self) {
        self.look.notified().await;
    }

    fn take(&self, wanted: impl Fn(&OpenSignIn) -> bool) -> Vec<OpenSignIn> {
        let mut entries = self.entries();
        let keys: Vec<u64> = entries.iter().filter(|(_, entry)| wanted(entry)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| entries.remove(key)).collect()
    }

    /// The links of a tenant, which are followed no more.
    pub(super) fn links_of(&self, tenant: &Tenant) -> Vec<OpenSignIn> {
        self.take(|entry| entry.shown.tenant() == tenant && entry.shown.is_link())
    }

    /// The message with this button is somebody else's to write from now on.
    pub(super) fn leave(&self, custom_id: &str) {
        self.take(|entry| entry.custom_ids.iter().any(|id| id == custom_id));
    }

    /// What is shown, the newest first.
    pub(super) fn shown(&self) -> Vec<(u64, Snowflake, SignInProgress)> {
        let all = self.entries();
        all.iter().rev().map(|(key, entry)| (*key, entry.person, entry.shown.clone())).collect()
    }

    /// The message goes on as it is, if it is still followed; with `None` it is followed no more.
    pub(super) fn stay(&self, key: u64, next: Option<SignInProgress>) {
        let mut entries = self.entries();
        match (entries.get_mut(&key), next) {
            (Some(entry), Some(shown)) => entry.shown = shown,
            (_, None) => drop(entries.remove(&key)),
            (None, Some(_)) => {}
        }
    }

    /// The message is written anew: it shows `next` from now on, with these buttons, or is followed no more. Gives the message as it
    /// was, if it is still followed.
    pub(super) fn turn(
        &self,
        key: u64,
        next: Option<SignInProgress>,
        custom_ids: Vec<String>,
    ) -> Option<OpenSignIn> {
        let mut entries = self.entries();
        let Some(shown) = next else { return entries.remove(&key) };
        let entry = entries.get_mut(&key)?;
        let before = entry.clone();
        (entry.shown, entry.custom_ids, entry.ends) = (shown, custom_ids, entry.token_ends);
        Some(before)
    }

    /// Waits until some have come to their end, and takes them. Gives those that show a link: a question is left as it is, its buttons
    /// work on.
    pub(super) async fn ended(&self) -> Vec<OpenSignIn> {
        loop {
            let next = self.entries().values().map(|entry| entry.ends).min();
            match next {
                Some(at) if at <= Instant::now() => {
                    let mut ended = self.take(|entry| entry.ends <= Instant::now());
                    ended.retain(|entry| entry.shown.is_link());
                    return ended;
                }
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
        let ends = Instant::now() + Duration::from_secs(seconds);
        let token = InteractionToken(Secret::new("token"));
        open.add(OpenSignIn {
            shown: SignInProgress::for_tests(&tenant.parse().expect("a tenant")),
            person: Snowflake(5),
            token,
            token_ends: ends,
            ends,
            custom_ids: vec!["id".into()],
            writing: Arc::default(),
        });
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
            ended[0].shown.tenant().to_string(),
            "acme/user:2",
            "the one that ends first, though it came last"
        );
        assert_eq!((at - begun).as_secs(), 60);
        assert_eq!(open.ended().await[0].shown.tenant().to_string(), "acme/user:1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_in_that_is_over_takes_all_its_messages_and_no_others() {
        let open = OpenSignIns::new();
        add(&open, "acme/user:1", 900);
        add(&open, "acme/user:1", 800);
        add(&open, "acme/user:2", 700);
        let tenant: Tenant = "acme/user:1".parse().expect("a tenant");
        assert_eq!(open.links_of(&tenant).len(), 2);
        assert_eq!(open.ended().await.len(), 1);
    }

    #[test]
    fn at_the_bound_the_oldest_is_left_as_it_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _inside = runtime.enter();
        let open = OpenSignIns::new();
        (0..=MAX).for_each(|n| add(&open, &format!("acme/user:{n}"), 900));
        let all = open.take(|_| true);
        assert_eq!((all.len(), all[0].shown.tenant().to_string().as_str()), (MAX, "acme/user:1"));
    }
}
