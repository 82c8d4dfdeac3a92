//! What could not be saved before the process had to end: written somewhere else, and brought home later.
//!
//! This is for one case alone: a provider has answered, and the answer could not be made durable in the journal for as
//! long as the process lived. Whatever is in the journal needs no rescue.

use std::path::{Path, PathBuf};

use super::{Broker, DEFAULT_MIN_TTL, Finished, TokenError, Undecided, flight::landing};
use crate::{
    ids::Tenant,
    session::journal::{Answer, Intent, Journal, Spending},
    store::{self, Purpose, StoreError, TenantLock},
    sys::files,
};

/// Why a rescue file could not be brought home. The file is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The session is no longer the one that the answer was for.
    #[error("{0} has been renewed, replaced or logged out since: this file is of no use any more, delete it")]
    Outdated(Tenant),
    /// Somebody is just refreshing or signing in.
    #[error("a refresh or sign-in of {0} is under way: try again in a moment")]
    Busy(Tenant),
    /// The answer was saved, and brought no token.
    #[error("the answer for {0} is saved, but there is no token in it")]
    NoToken(Tenant),
    /// No token came of it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Broker {
    /// Whose tokens could not be saved until now. They are kept in memory and tried again.
    pub fn unsaved(&self) -> Vec<Tenant> {
        self.inner.unsaved.iter().map(|entry| entry.key().clone()).collect()
    }

    /// Writes each answer that is only in memory into a file of its own, in the first of `folders` that takes it, and
    /// returns the files. To be called at the very end.
    pub fn rescue(&self, folders: &[PathBuf]) -> Vec<(Tenant, Option<PathBuf>)> {
        let waiting = self.inner.unsaved.iter();
        let waiting = waiting.filter_map(|entry| Some((entry.key().clone(), entry.value().clone()?)));
        let now = self.inner.now();
        waiting
            .map(|(tenant, unsaved)| {
                let text = store::rescue_text(&tenant, &unsaved.intent, &unsaved.answer);
                let name = format!("threadkey-rescue-{}-{now}", tenant.file_name());
                let file = folders.iter().find_map(|folder| written(&folder.join(&name), &text));
                (tenant, file)
            })
            .collect()
    }

    /// Brings a rescue file's answer home: into the journal, from where it is committed as after any crash. Spends nothing.
    /// A sign-in may turn out to be one that waits for a choice.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub async fn restore(
        &self,
        tenant: &Tenant,
        intent: Intent,
        answer: Answer,
    ) -> Result<Option<Undecided>, RestoreError> {
        match &intent.spending {
            Spending::Refresh(_) => self.restore_refresh(tenant, intent, answer).await.map(|()| None),
            Spending::Code { .. } => self.restore_sign_in(tenant, intent, answer).await,
        }
    }

    async fn restore_refresh(
        &self,
        tenant: &Tenant,
        intent: Intent,
        answer: Answer,
    ) -> Result<(), RestoreError> {
        let provider = self.inner.provider(tenant)?;
        let lock = self.inner.store.try_lock(tenant, Purpose::Refresh).await?;
        let mut lock = lock.ok_or_else(|| RestoreError::Busy(tenant.clone()))?;
        let outdated = || RestoreError::Outdated(tenant.clone());
        let before = self.inner.store.read(tenant).await?.session.ok_or_else(outdated)?;
        if before.to_spend().map(Spending::Refresh).as_ref() != Some(&intent.spending) {
            return Err(outdated());
        }
        journalled(lock.as_mut(), &intent, &answer).await?;
        drop(lock);
        let joined = self.join(tenant, &provider, before.seen(), DEFAULT_MIN_TTL);
        let after = landing(joined, tenant).await?;
        if after.seen() == before.seen() { Err(RestoreError::NoToken(tenant.clone())) } else { Ok(()) }
    }

    async fn restore_sign_in(
        &self,
        tenant: &Tenant,
        intent: Intent,
        answer: Answer,
    ) -> Result<Option<Undecided>, RestoreError> {
        let lock = self.inner.store.try_lock(tenant, Purpose::SignIn).await?;
        let mut lock = lock.ok_or_else(|| RestoreError::Busy(tenant.clone()))?;
        let Spending::Code { state, .. } = &intent.spending else {
            return Err(RestoreError::Outdated(tenant.clone()));
        };
        let pending = self.inner.store.read(tenant).await?.pending;
        if !pending.is_some_and(|pending| pending.state.fingerprint().matches(state)) {
            return Err(RestoreError::Outdated(tenant.clone()));
        }
        journalled(lock.as_mut(), &intent, &answer).await?;
        drop(lock);
        match self.recover_sign_in(tenant).await? {
            Some(Finished::SignedIn(_)) => Ok(None),
            Some(Finished::Undecided(undecided)) => Ok(Some(undecided)),
            None => Err(RestoreError::NoToken(tenant.clone())),
        }
    }
}

/// Puts intent and answer into the journal, unless they are there.
async fn journalled(lock: &mut dyn TenantLock, intent: &Intent, answer: &Answer) -> Result<(), StoreError> {
    match lock.journal().await? {
        Journal::Answered(there, _) if there.spending == intent.spending => return Ok(()),
        Journal::Intended(there) if there.spending == intent.spending => {}
        Journal::Empty => lock.intend(intent).await?,
        Journal::Intended(_) | Journal::Answered(..) => {
            lock.clear().await?;
            lock.intend(intent).await?;
        }
    }
    lock.record(answer).await
}

fn written(path: &Path, text: &[u8]) -> Option<PathBuf> {
    files::create_private_folder(path.parent()?).ok()?;
    match files::replace_private(path, text) {
        Ok(()) => Some(path.to_owned()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the rescue file cannot be written there");
            None
        }
    }
}
