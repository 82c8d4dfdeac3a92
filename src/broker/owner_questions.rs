//! A worker's wait for its owner's sign-in.
//!
//! A worker without a session asks its owner by the bot, and waits until the owner has answered. One
//! question serves all waiting workers of an owner: see [`OwnerQuestions`].
//!
//! # Why no sign-in is missed
//!
//! [`OwnerWait::begin`] subscribes to the changes of the store, and then reads the sessions. Its caller
//! tries to get a token after that. A commit before the subscription is in what the caller reads, and a
//! later one ends the next wait. Any process may commit it: the bot, a terminal, another worker's flight.
//! No lock is held, so a caller that leaves ends its own wait and nothing else.
//!
//! The question and its answer are the bot's, and are durable there. If this process dies here, the call
//! ends without an answer. The caller makes it anew, and it joins the same question.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Broker, TokenError, WithoutBot, WorkerTokenError, WorkerTokens, worker_tokens::Candidates};
use crate::{
    agent::{Conversation, Holder},
    ids::{ProviderId, Tenant},
    session::Revision,
    store::{ChangeNotices, StoreError},
};

/// The longest time for which a worker may wait for its owner.
pub const LONGEST_OWNER_WAIT: Duration = Duration::from_secs(300);

/// Asks the owners of conversations to sign in. The bot, on a higher floor, implements it.
#[async_trait]
pub trait OwnerQuestions: Send + Sync + 'static {
    /// Asks the owner of a conversation to sign in at `tenant`, which is the owner's own. A question that
    /// is open already is not repeated. The result holds the refusal once there is one; a sign-in shows
    /// in the store.
    ///
    /// # Errors
    /// The owner is not asked now.
    async fn ask(
        &self,
        conversation: &Conversation,
        tenant: &Tenant,
    ) -> Result<watch::Receiver<Option<OwnerRefusal>>, OwnerRefusal>;
}

/// The reason why no sign-in follows a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerRefusal {
    /// The owner has declined.
    #[error("the owner has declined to sign in for an agent, and is not asked again for a while")]
    Declined,
    /// The access was denied at the provider.
    #[error("the access was denied at the provider, and the owner is not asked again for a while")]
    DeniedByProvider,
    /// The agent has asked for too many sign-ins.
    #[error(
        "this agent has asked its owner for too many sign-ins: ask again in {} s, or wait for the owner's own `/auth start`", retry_after.as_secs()
    )]
    TooMany {
        /// The time to wait.
        retry_after: Duration,
    },
    /// No message reaches the owner.
    #[error(
        "the owner cannot be asked, because the thread takes no message of the bot and neither do direct messages"
    )]
    Unreachable,
    /// This process has no bot.
    #[error("the owner cannot be asked, because this threadkey runs without its Discord bot")]
    NoBot,
}

#[async_trait]
impl OwnerQuestions for WithoutBot {
    async fn ask(
        &self,
        _conversation: &Conversation,
        _tenant: &Tenant,
    ) -> Result<watch::Receiver<Option<OwnerRefusal>>, OwnerRefusal> {
        Err(OwnerRefusal::NoBot)
    }
}

/// The wait of one request.
pub struct OwnerWait {
    tokens: WorkerTokens,
    holder: Holder,
    provider: ProviderId,
    /// The owner's own tenant, whose sign-in the question is about.
    asked: Tenant,
    changes: ChangeNotices,
    /// The sessions of the candidates before the caller's last attempt.
    seen: [Option<Revision>; 2],
    answer: Option<watch::Receiver<Option<OwnerRefusal>>>,
    ending: CancellationToken,
}

/// The reason why a wait ends without a change.
#[derive(Debug, thiserror::Error)]
pub enum OwnerWaitError {
    /// No sign-in follows.
    #[error("{refusal} ({asked})")]
    Refused {
        /// The tenant that the question is about.
        asked: Tenant,
        /// The reason.
        refusal: OwnerRefusal,
    },
    /// This process is ending. The question stays.
    #[error("threadkey is ending, so the wait is over; the question to the owner stays: ask again")]
    Ending,
    /// The sessions cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl OwnerWait ===

impl OwnerWait {
    /// Subscribes to sign-ins for a worker of `holder`. The caller tries to get a token once more before
    /// it calls [`OwnerWait::next`].
    pub(super) async fn begin(
        tokens: &WorkerTokens,
        holder: &Holder,
        provider: &ProviderId,
        ending: CancellationToken,
    ) -> Result<Self, WorkerTokenError> {
        let candidates = Candidates::of(holder, provider)
            .ok_or_else(|| WorkerTokenError::ProviderNotAllowed(provider.clone()))?;
        let changes = tokens.broker().changes();
        let seen = candidates.revisions(tokens.broker()).await.map_err(TokenError::from)?;
        Ok(Self {
            tokens: tokens.clone(),
            holder: holder.clone(),
            provider: provider.clone(),
            asked: tokens.broker().source_of(&candidates.own),
            changes,
            seen,
            answer: None,
            ending,
        })
    }

    /// Returns once a session of the owner, or of the shared server, has changed, so that another attempt
    /// makes sense. The first call asks the owner. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`OwnerWaitError`].
    pub async fn next(&mut self) -> Result<(), OwnerWaitError> {
        let refused = |asked: &Tenant, refusal| OwnerWaitError::Refused { asked: asked.clone(), refusal };
        if self.answer.is_none() {
            let asking = self.tokens.questions().ask(&self.holder.conversation, &self.asked).await;
            self.answer = Some(asking.map_err(|refusal| refused(&self.asked, refusal))?);
        }
        loop {
            let Self { changes, answer, ending, asked, .. } = &mut *self;
            let refusal = async {
                let refusal = match answer {
                    Some(answer) => answer.wait_for(Option::is_some).await.ok().and_then(|refusal| *refusal),
                    None => None,
                };
                match refusal {
                    Some(refusal) => refusal,
                    // The bot keeps the question no longer, and the sign-in can still come.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = ending.cancelled() => return Err(OwnerWaitError::Ending),
                () = changes.next() => {}
                refusal = refusal => return Err(refused(asked, refusal)),
            }
            if self.has_changed().await? {
                return Ok(());
            }
        }
    }

    /// Whether a session of a candidate is another one than at the last attempt.
    async fn has_changed(&mut self) -> Result<bool, StoreError> {
        let Some(candidates) = Candidates::of(&self.holder, &self.provider) else { return Ok(false) };
        let now = candidates.revisions(self.tokens.broker()).await?;
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }
}

// === impl Candidates ===

impl Candidates {
    /// The revisions of the sessions that may serve the worker.
    async fn revisions(&self, broker: &Broker) -> Result<[Option<Revision>; 2], StoreError> {
        let own = broker.session(&broker.source_of(&self.own)).await?;
        let shared = match &self.shared {
            Some(shared) => broker.session(&broker.source_of(shared)).await?,
            None => None,
        };
        Ok([own, shared].map(|session| session.map(|session| session.revision())))
    }
}

// === impl WorkerTokenError ===

impl WorkerTokenError {
    /// Whether only a sign-in of the owner helps.
    pub fn needs_sign_in(&self) -> bool {
        matches!(self, Self::Token(TokenError::NoSession(_) | TokenError::Ended { .. }))
    }
}
