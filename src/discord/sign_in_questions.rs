//! The state of questions to owners that the token API and the bot share. `questions` asks them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    agent::Conversation,
    broker::{OwnerQuestions, OwnerRefusal},
    ids::Tenant,
    sys::clock::UnixTime,
};

/// Asks owners by messages. The bot implements it.
#[async_trait]
pub(super) trait AskOwner: Send + Sync {
    /// Asks, unless the owner is asked already.
    async fn ask_if_due(
        self: Arc<Self>,
        conversation: &Conversation,
        tenant: &Tenant,
    ) -> Result<(), OwnerRefusal>;
}

/// How long a question's thread counts as present after a look, in seconds.
const LOOK_EVERY: UnixTime = 60;

/// How long an owner whom no message reaches counts as such, in seconds.
pub(super) const UNREACHABLE_FOR: UnixTime = 60;

/// The questions to owners, for the token API and the bot. Cheap to clone; clones share their state.
#[derive(Clone, Default)]
pub struct SignInQuestions(pub(super) Arc<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    /// Set once Discord has accepted the token. Before that no owner can be asked.
    bot: OnceLock<Weak<dyn AskOwner>>,
    /// Held while a request decides whether to ask, so that two do not ask the same.
    pub(super) asking: tokio::sync::Mutex<()>,
    open: Mutex<BTreeMap<Tenant, Open>>,
}

/// The part of a question that only this process has.
pub(super) struct Open {
    refusal: watch::Sender<Option<OwnerRefusal>>,
    /// Its message is being sent.
    pub(super) is_sending: bool,
    /// No message reaches the owner before this time.
    pub(super) unreachable_until: Option<UnixTime>,
    /// When the question's thread was looked for.
    looked_at: Option<UnixTime>,
}

// === impl SignInQuestions ===

impl SignInQuestions {
    /// Begins to ask.
    pub(super) fn connect(&self, bot: Weak<dyn AskOwner>) {
        let _ = self.0.bot.set(bot);
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Tenant, Open>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the entry of a tenant. Entries that no request and no sender uses are dropped.
    pub(super) fn with<T>(&self, tenant: &Tenant, use_it: impl FnOnce(&mut Open) -> T) -> T {
        let mut open = self.open();
        open.retain(|_, one| {
            let is_used = one.is_sending || one.refusal.receiver_count() > 0;
            is_used || one.unreachable_until.is_some() || one.looked_at.is_some()
        });
        use_it(open.entry(tenant.clone()).or_insert_with(|| Open {
            refusal: watch::Sender::new(None),
            is_sending: false,
            unreachable_until: None,
            looked_at: None,
        }))
    }

    fn subscribe(&self, tenant: &Tenant) -> watch::Receiver<Option<OwnerRefusal>> {
        self.with(tenant, |open| open.refusal.subscribe())
    }

    /// Ends the requests that wait for this question.
    pub(super) fn end(&self, tenant: &Tenant, refusal: OwnerRefusal) {
        if let Some(open) = self.open().remove(tenant) {
            let _ = open.refusal.send(Some(refusal));
        }
    }

    /// Whether the thread of a question must be looked for, which the caller does then.
    pub(super) fn is_look_due(&self, tenant: &Tenant, now: UnixTime) -> bool {
        self.with(tenant, |open| {
            let is_recent = |at: &UnixTime| (*at..at.saturating_add(LOOK_EVERY)).contains(&now);
            let is_due = !open.looked_at.as_ref().is_some_and(is_recent);
            if is_due {
                open.looked_at = Some(now);
            }
            is_due
        })
    }

    /// Whether this process has just found that no message reaches the owner.
    pub(super) fn is_unreachable(&self, tenant: &Tenant, now: UnixTime) -> bool {
        self.with(tenant, |open| {
            open.unreachable_until = open
                .unreachable_until
                .filter(|until| (until.saturating_sub(UNREACHABLE_FOR)..*until).contains(&now));
            open.unreachable_until.is_some()
        })
    }
}

#[async_trait]
impl OwnerQuestions for SignInQuestions {
    async fn ask(
        &self,
        conversation: &Conversation,
        tenant: &Tenant,
    ) -> Result<watch::Receiver<Option<OwnerRefusal>>, OwnerRefusal> {
        // The receiver comes first, so that no refusal is missed.
        let receiver = self.subscribe(tenant);
        if let Some(bot) = self.0.bot.get().and_then(Weak::upgrade) {
            bot.ask_if_due(conversation, tenant).await?;
        }
        Ok(receiver)
    }
}
