//! A tenant's lock, held: the only way to read a secret that is about to be spent, to spend it, and
//! to commit the result.
//!
//! The store lends the lock ([`LockBackend`] is its part). This type adds the order of the steps:
//! see [`journal`](super::journal). A value read through it is [`Locked`]: it was read while the
//! lock was held. Requests that spend a secret are built from [`Locked`] values only, so a refresh
//! token from memory cannot be sent:
//!
//! ```compile_fail
//! # use threadkey::{oauth::Provider, session::Session};
//! fn a_session_from_memory_cannot_be_refreshed(provider: &Provider, session: &Session) {
//!     let _ = provider.refresh(session);
//! }
//! ```
//!
//! A [`Settlement`] is not a [`Change`](super::Change), so only the holder of a lock commits the
//! result of a request:
//!
//! ```compile_fail
//! # use threadkey::{ids::Tenant, session::Settlement, store::Store};
//! async fn a_result_needs_the_lock(store: &dyn Store, tenant: &Tenant, settlement: Settlement) {
//!     let _ = store.change(tenant, settlement).await;
//! }
//! ```

use std::ops::Deref;

use async_trait::async_trait;

use crate::secret::CodeVerifier;

use super::{
    Changed, Entry, Pending, Session, Settlement,
    journal::{Answer, Answered, Found, Intended, Intent, Journal, Unread},
};

/// A held lock as a store implements it. Dropping it releases the lock, and so does the operating
/// system when the process dies.
#[async_trait]
pub trait LockBackend<E>: Send + Sync {
    /// Reads the tenant's record.
    async fn read(&mut self) -> Result<Entry, E>;

    /// Reads the journal that an earlier holder left.
    async fn journal(&mut self) -> Result<Journal, E>;

    /// Writes the intent in place of the journal's content, with room for an answer of
    /// [`MAX_BODY`](super::journal::MAX_BODY) bytes. Returns once all of it is durable.
    async fn write_intent(&mut self, intent: &Intent) -> Result<(), E>;

    /// Writes the answer after the intent. Returns once it is durable.
    async fn write_answer(&mut self, answer: &Answer) -> Result<(), E>;

    /// Copies the journal's answer to the tenant's `.unread` file. Returns once it is durable.
    async fn keep_unread(&mut self) -> Result<(), E>;

    /// Empties the journal. Returns once that is durable.
    async fn clear(&mut self) -> Result<(), E>;

    /// Applies the settlement. Returns once it is durable.
    async fn commit(&mut self, settlement: Settlement) -> Result<Changed, E>;
}

/// A tenant's lock, held.
pub struct TenantLock<E>(Box<dyn LockBackend<E>>);

/// A value that was read while the lock was held.
#[derive(Clone, Debug)]
pub struct Locked<T>(T);

// === impl TenantLock ===

impl<E> TenantLock<E> {
    /// Wraps a lock that the store has taken.
    pub fn new(backend: impl LockBackend<E> + 'static) -> Self {
        Self(Box::new(backend))
    }

    /// Reads the tenant's record as it is now.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(&mut self) -> Result<Locked<Entry>, E> {
        self.0.read().await.map(Locked)
    }

    /// Reads the journal that an earlier holder left.
    ///
    /// # Errors
    /// The store's.
    pub async fn journal(&mut self) -> Result<Found, E> {
        Ok(match self.0.journal().await? {
            Journal::Empty => Found::Nothing,
            Journal::Intended(intent) => Found::Intended(intent),
            Journal::Answered(intent, answer) => Found::Answered(Answered::new(intent, answer)),
        })
    }

    /// Announces a request: makes the intent durable and reserves room for the answer. Replaces an
    /// earlier intent.
    ///
    /// # Errors
    /// The store's; also when the journal holds an answer, which would be lost.
    pub async fn intend(&mut self, intent: Intent) -> Result<Intended, E> {
        self.0.write_intent(&intent).await?;
        Ok(Intended::new(intent))
    }

    /// Makes an answer durable. After an error the caller can try again with the same answer.
    ///
    /// # Errors
    /// The store's.
    pub async fn record(&mut self, unread: &Unread) -> Result<Answered, E> {
        let (intent, answer) = unread.for_the_journal();
        self.0.write_answer(answer).await?;
        Ok(Answered::new(intent.clone(), answer.clone()))
    }

    /// Commits the result of a request. After an error the caller can try again.
    ///
    /// # Errors
    /// The store's.
    pub async fn settle(&mut self, settlement: Settlement) -> Result<Changed, E> {
        self.0.commit(settlement).await
    }

    /// Keeps the journal's answer in the tenant's `.unread` file, because it could not be parsed.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_unread(&mut self) -> Result<(), E> {
        self.0.keep_unread().await
    }

    /// Empties the journal.
    ///
    /// # Errors
    /// The store's.
    pub async fn clear(&mut self) -> Result<(), E> {
        self.0.clear().await
    }
}

// === impl Locked ===

impl<T> Locked<T> {
    /// A value for tests that build requests without a store.
    #[cfg(any(test, feature = "test-util"))]
    pub fn for_tests(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Locked<Pending> {
    /// Returns the sign-in with the verifier that the provider made for its code.
    #[must_use]
    pub fn with_verifier(mut self, verifier: CodeVerifier) -> Self {
        self.0.verifier = verifier;
        self
    }
}

impl Locked<Entry> {
    /// The record's session.
    pub fn session(&self) -> Option<Locked<Session>> {
        self.0.session.clone().map(Locked)
    }

    /// The record's pending sign-in.
    pub fn pending(&self) -> Option<Locked<Pending>> {
        self.0.pending.clone().map(Locked)
    }
}
