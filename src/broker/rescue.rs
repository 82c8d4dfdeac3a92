//! What could not be saved before the process had to end: written somewhere else, and brought home later.
//!
//! This is for one case alone: a provider has answered, and the answer could not be made durable in the journal for as
//! long as the process lived. Whatever is in the journal needs no rescue.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

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
    /// There is no such session or sign-in in this store; it may be the wrong one.
    #[error(
        "there is nothing of {tenant} in {store} that this file is for. If that is the store which threadkey was to write when it \
         wrote the file, {tenant} was logged out or signed in since, and the file is of no use any more; else keep it, and name the right \
         configuration by --config"
    )]
    Nothing {
        /// Of whom the file is.
        tenant: Tenant,
        /// Where it was looked for.
        store: String,
    },
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
        let tenants: BTreeSet<_> = self.inner.unsaved.iter().map(|entry| entry.key().0.clone()).collect();
        tenants.into_iter().collect()
    }

    /// Writes each answer that is only in memory into a file of its own, in the first of `folders` that takes it, and
    /// returns the files. To be called at the very end.
    pub fn rescue(&self, folders: &[PathBuf]) -> Vec<(Tenant, Option<PathBuf>)> {
        let waiting = self.inner.unsaved.iter();
        let waiting = waiting.filter_map(|entry| Some((entry.key().clone(), entry.value().clone()?)));
        let now = self.inner.now();
        waiting
            .map(|((tenant, purpose), unsaved)| {
                let text = store::rescue_text(&tenant, &unsaved.intent, &unsaved.answer);
                let sign_in = if purpose == Purpose::SignIn { "-signin" } else { "" };
                let name = format!("threadkey-rescue-{}{sign_in}-{now}", tenant.file_name());
                let file = folders.iter().find_map(|folder| written(&folder.join(&name), &text));
                (tenant, file)
            })
            .collect()
    }

    /// Brings a rescue file's answer home: into the journal, from where it is committed as after any crash. That spends
    /// nothing; a token whose life is over by now is then renewed as any other.
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
        let before = self.inner.store.read(tenant).await?.session;
        let before = before.ok_or_else(|| self.nothing_of(tenant))?;
        if !matches!(&intent.spending, Spending::Refresh(spent) if spent.revision.lineage == before.lineage) {
            return Err(self.nothing_of(tenant));
        }
        if before.refresh_target().map(Spending::Refresh).as_ref() != Some(&intent.spending) {
            return Err(RestoreError::Outdated(tenant.clone()));
        }
        journalled(lock.as_mut(), &intent, &answer).await?;
        drop(lock);
        let joined = self.join(tenant, &provider, before.revision(), DEFAULT_MIN_TTL);
        let landed = landing(joined, tenant).await;
        // By the session, not by the flight: an access token whose life was over in the file is renewed at once, and that may fail.
        let after = self.inner.store.read(tenant).await?.session;
        if after.is_some_and(|after| after.revision() != before.revision()) {
            return Ok(());
        }
        landed?;
        Err(RestoreError::NoToken(tenant.clone()))
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
            return Err(self.nothing_of(tenant));
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

impl Broker {
    fn nothing_of(&self, tenant: &Tenant) -> RestoreError {
        RestoreError::Nothing { tenant: tenant.clone(), store: self.inner.store.location() }
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
