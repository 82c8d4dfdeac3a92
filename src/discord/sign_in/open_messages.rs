//! The messages of sign-ins that can still change: those with a link, and those with the question
//! between two accounts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::super::{interaction::Interaction, interaction_tokens::TOKEN_LIFETIME, rest::InteractionToken};
use crate::{
    broker::SignInProgress,
    ids::{Snowflake, Tenant},
};

/// The number of messages that are followed. Beyond it the oldest ones are never updated again.
const MAX: usize = 2_000;

/// The message of a sign-in in progress: its link, or the question between two accounts.
#[derive(Clone, Debug)]
pub(in crate::discord) struct OpenMessage {
    pub(super) shown: SignInProgress,
    pub(super) user: Snowflake,
    pub(super) token: InteractionToken,
    /// The end of the token, after which the message cannot be edited.
    token_ends: Instant,
    ends: Instant,
    pub(super) custom_ids: Vec<String>,
    /// Held while the message is written, so that the newest stage is written last.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
}

/// All open messages.
#[derive(Debug)]
pub(in crate::discord) struct OpenMessages {
    entries: Mutex<BTreeMap<u64, OpenMessage>>,
    /// The key of the next message; no key is used twice.
    next: AtomicU64,
    /// Notified when the earliest end may have changed.
    changed: Notify,
    /// Notified when the messages must be compared with the store.
    sync: Notify,
}

impl OpenMessage {
    /// A message that answers `interaction`, received at `since`, with these buttons.
    pub(in crate::discord) fn new(
        shown: SignInProgress,
        interaction: &Interaction,
        since: Instant,
        custom_ids: Vec<String>,
    ) -> Self {
        let token_ends = since + TOKEN_LIFETIME;
        let (user, token) = (interaction.user, interaction.token.clone());
        Self { shown, user, token, token_ends, ends: token_ends, custom_ids, writing: Arc::default() }
    }

    /// The same message, with an end before that of its token.
    pub(in crate::discord) fn ending(mut self, at: Instant) -> Self {
        self.ends = self.token_ends.min(at);
        self
    }
}

impl OpenMessages {
    pub(in crate::discord) fn new() -> Self {
        Self {
            entries: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(0),
            changed: Notify::new(),
            sync: Notify::new(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, OpenMessage>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a message until its end. The sync that this requests also finds changes from before
    /// this call.
    pub(super) fn follow(&self, message: OpenMessage) {
        let mut entries = self.entries();
        // The key is drawn under the lock, so that the newest message is the last.
        entries.insert(self.next.fetch_add(1, Ordering::Relaxed), message);
        while entries.len() > MAX {
            entries.pop_first();
        }
        drop(entries);
        self.changed.notify_one();
        self.request_sync();
    }

    /// Requests that the messages are compared with the store.
    pub(in crate::discord) fn request_sync(&self) {
        self.sync.notify_one();
    }

    /// Waits for [`request_sync`](Self::request_sync).
    pub(in crate::discord) async fn sync_requested(&self) {
        self.sync.notified().await;
    }

    fn take(&self, is_wanted: impl Fn(&OpenMessage) -> bool) -> Vec<OpenMessage> {
        let mut entries = self.entries();
        let keys: Vec<u64> =
            entries.iter().filter(|(_, message)| is_wanted(message)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| entries.remove(key)).collect()
    }

    /// Takes the messages with links of a tenant. They are followed no longer, so that only the
    /// caller writes them.
    pub(in crate::discord) fn take_links(&self, tenant: &Tenant) -> Vec<OpenMessage> {
        self.take(|message| message.shown.tenant() == tenant && message.shown.is_link())
    }

    /// Whether a message with a link of a tenant is followed.
    pub(in crate::discord) fn follows_link(&self, tenant: &Tenant) -> bool {
        self.entries().values().any(|open| open.shown.tenant() == tenant && open.shown.is_link())
    }

    /// Follows the message with this button no longer: from now on its presser's interaction writes
    /// it.
    pub(super) fn release(&self, custom_id: &str) {
        self.take(|message| message.custom_ids.iter().any(|id| id == custom_id));
    }

    /// Returns the key, the user and the sign-in of each message, the newest first.
    pub(super) fn all_shown(&self) -> Vec<(u64, Snowflake, SignInProgress)> {
        let all = self.entries();
        all.iter().rev().map(|(key, message)| (*key, message.user, message.shown.clone())).collect()
    }

    /// Leaves a message as it is, and follows it as `next`, or no longer.
    pub(super) fn keep(&self, key: u64, next: Option<SignInProgress>) {
        let mut entries = self.entries();
        match (entries.get_mut(&key), next) {
            (Some(message), Some(shown)) => message.shown = shown,
            (_, None) => drop(entries.remove(&key)),
            (None, Some(_)) => {}
        }
    }

    /// Records that a message is rewritten with these buttons, and follows it as `next`, or no
    /// longer. Returns the earlier state of the message if it is still followed.
    pub(super) fn advance(
        &self,
        key: u64,
        next: Option<SignInProgress>,
        custom_ids: Vec<String>,
    ) -> Option<OpenMessage> {
        let mut entries = self.entries();
        let Some(shown) = next else { return entries.remove(&key) };
        let message = entries.get_mut(&key)?;
        let before = message.clone();
        (message.shown, message.custom_ids, message.ends) = (shown, custom_ids, message.token_ends);
        Some(before)
    }

    /// Waits until messages reach their end, stops following them, and returns those with a link. A
    /// question stays as it is because its buttons still work.
    pub(in crate::discord) async fn expired(&self) -> Vec<OpenMessage> {
        loop {
            let next = self.entries().values().map(|message| message.ends).min();
            match next {
                Some(at) if at <= Instant::now() => {
                    let mut expired = self.take(|message| message.ends <= Instant::now());
                    expired.retain(|message| message.shown.is_link());
                    return expired;
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

    fn follow(open: &OpenMessages, tenant: &str, seconds: u64) {
        let ends = Instant::now() + Duration::from_secs(seconds);
        let token = InteractionToken(Secret::new("token"));
        open.follow(OpenMessage {
            shown: SignInProgress::for_tests(&tenant.parse().expect("a tenant")),
            user: Snowflake(5),
            token,
            token_ends: ends,
            ends,
            custom_ids: vec!["id".into()],
            writing: Arc::default(),
        });
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_expires_at_its_own_end() {
        let open = Arc::new(OpenMessages::new());
        follow(&open, "acme/user:1", 900);
        let waiting = tokio::spawn({
            let open = open.clone();
            async move { (open.expired().await, Instant::now()) }
        });
        tokio::task::yield_now().await;
        let started = Instant::now();
        follow(&open, "acme/user:2", 60);
        let (expired, at) = waiting.await.expect("the task ends");
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].shown.tenant().to_string(), "acme/user:2", "the newer message ends first");
        assert_eq!((at - started).as_secs(), 60);
        assert_eq!(open.expired().await[0].shown.tenant().to_string(), "acme/user:1");
    }

    #[tokio::test(start_paused = true)]
    async fn take_links_returns_all_messages_of_one_tenant_and_no_others() {
        let open = OpenMessages::new();
        follow(&open, "acme/user:1", 900);
        follow(&open, "acme/user:1", 800);
        follow(&open, "acme/user:2", 700);
        let tenant: Tenant = "acme/user:1".parse().expect("a tenant");
        assert_eq!(open.take_links(&tenant).len(), 2);
        assert_eq!(open.expired().await.len(), 1);
    }

    #[test]
    fn a_full_list_follows_the_oldest_message_no_longer() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _inside = runtime.enter();
        let open = OpenMessages::new();
        (0..=MAX).for_each(|n| follow(&open, &format!("acme/user:{n}"), 900));
        let all = open.take(|_| true);
        assert_eq!((all.len(), all[0].shown.tenant().to_string().as_str()), (MAX, "acme/user:1"));
    }
}
