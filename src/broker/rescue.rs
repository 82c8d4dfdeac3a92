//! Rescue files: an answer that could not be saved before the process had to end.
//!
//! There is one case only: a provider has answered, and the answer could not be written to the
//! journal for as long as the process lived. An answer in the journal needs no rescue.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    Broker, DEFAULT_MIN_TTL, Finished, TokenError, Undecided,
    refresh::await_flight,
    sign_in::RecoveredSignIn,
    spend::{Recovered, recover},
};
use crate::{
    ids::Tenant,
    session::{
        Wish,
        journal::{Answer, Intent, Spending},
    },
    store::{self, Purpose, StoreError, TenantLock},
    sys::files,
};

/// A rescue file that could not be restored. The file is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store has no such session or sign-in; it may be the wrong store.
    #[error(
        "{store} holds no session or sign-in of {tenant} that this file belongs to. If this is the store of the configuration that \
         threadkey ran with when it wrote the file, {tenant} was logged out or signed in again since: delete the file. Otherwise keep it, \
         and name the right configuration with --config"
    )]
    Nothing {
        /// The tenant of the file.
        tenant: Tenant,
        /// The path of the store.
        store: String,
    },
    /// The session is no longer the one that the answer was for.
    #[error("{0} has been refreshed, signed in again or logged out since: this file is outdated, delete it")]
    Outdated(Tenant),
    /// A refresh or sign-in is in progress.
    #[error("a refresh or sign-in of {0} is in progress: try again in a moment")]
    Busy(Tenant),
    /// The answer was saved, and contains no token.
    #[error("the answer for {0} is saved, but it contains no token")]
    NoToken(Tenant),
    /// The refresh did not return a token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of a restored answer.
#[derive(Debug)]
pub enum Restored {
    /// The session holds its tokens.
    Session,
    /// The sign-in waits for a choice.
    Undecided(Undecided),
    /// The answer is in the journal. A reload of the page in the user's browser shows the digits.
    AwaitsReload,
}

impl Broker {
    /// The tenants whose answers could not be saved so far. They are kept in memory and tried
    /// again.
    pub fn unsaved(&self) -> Vec<Tenant> {
        let tenants: BTreeSet<_> = self.inner.unsaved.iter().map(|entry| entry.key().0.clone()).collect();
        tenants.into_iter().collect()
    }

    /// Writes each answer that is only in memory to a file of its own, in the first of `folders`
    /// that accepts it. Returns the files. Called at exit, after everything else.
    pub fn rescue(&self, folders: &[PathBuf]) -> Vec<(Tenant, Option<PathBuf>)> {
        let waiting = self.inner.unsaved.iter();
        let waiting = waiting.filter_map(|entry| Some((entry.key().clone(), entry.value().clone()?)));
        let now = self.inner.now();
        waiting
            .map(|((tenant, purpose), unread)| {
                let text = unread.rescue_text(&tenant, store::rescue_text);
                let sign_in = if purpose == Purpose::SignIn { "-signin" } else { "" };
                let name = format!("threadkey-rescue-{}{sign_in}-{now}", tenant.file_name());
                let file = folders.iter().find_map(|folder| written(&folder.join(&name), &text));
                (tenant, file)
            })
            .collect()
    }

    /// Restores a rescue file: puts its answer into the journal, from where it is committed as
    /// after a crash. That spends nothing; an access token that has expired is then refreshed as
    /// usual.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub async fn restore(
        &self,
        tenant: &Tenant,
        intent: Intent,
        answer: Answer,
    ) -> Result<Restored, RestoreError> {
        match &intent.spending {
            Spending::Refresh(_) => {
                self.restore_refresh(tenant, intent, answer).await.map(|()| Restored::Session)
            }
            Spending::Code { .. } => self.restore_sign_in(tenant, intent, answer).await,
        }
    }

    async fn restore_refresh(
        &self,
        tenant: &Tenant,
        intent: Intent,
        answer: Answer,
    ) -> Result<(), RestoreError> {
        let provider = self.inner.usable(&tenant.provider).await.map_err(TokenError::from)?;
        let lock = self.inner.store.try_lock(tenant, Purpose::Refresh).await?;
        let mut lock = lock.ok_or_else(|| RestoreError::Busy(tenant.clone()))?;
        let before = self.inner.store.read(tenant).await?.session;
        let before = before.ok_or_else(|| self.nothing_of(tenant))?;
        if !matches!(&intent.spending, Spending::Refresh(target) if target.revision.lineage == before.lineage)
        {
            return Err(self.nothing_of(tenant));
        }
        if before.refresh_target().map(Spending::Refresh).as_ref() != Some(&intent.spending) {
            return Err(RestoreError::Outdated(tenant.clone()));
        }
        put_in_journal(&mut lock, intent, answer).await?;
        drop(lock);
        let joined = self.join(tenant, &provider, before.revision(), Wish::living(DEFAULT_MIN_TTL));
        let result = await_flight(joined, tenant).await;
        // The session decides, not the flight: an access token that had expired in the file is
        // refreshed at once, and that may fail.
        let after = self.inner.store.read(tenant).await?.session;
        if after.is_some_and(|after| after.revision() != before.revision()) {
            return Ok(());
        }
        result?;
        Err(RestoreError::NoToken(tenant.clone()))
    }

    async fn restore_sign_in(
        &self,
        tenant: &Tenant,
        intent: Intent,
        answer: Answer,
    ) -> Result<Restored, RestoreError> {
        let lock = self.inner.store.try_lock(tenant, Purpose::SignIn).await?;
        let mut lock = lock.ok_or_else(|| RestoreError::Busy(tenant.clone()))?;
        let Spending::Code { state, .. } = &intent.spending else {
            return Err(RestoreError::Outdated(tenant.clone()));
        };
        let pending = self.inner.store.read(tenant).await?.pending;
        if !pending.is_some_and(|pending| pending.state.fingerprint().matches(state)) {
            return Err(self.nothing_of(tenant));
        }
        put_in_journal(&mut lock, intent, answer).await?;
        drop(lock);
        match self.recover_sign_in(tenant).await? {
            RecoveredSignIn::Finished(finished) => Ok(match *finished {
                Finished::SignedIn(_) => Restored::Session,
                Finished::Undecided(undecided) => Restored::Undecided(undecided),
            }),
            RecoveredSignIn::AwaitsReload => Ok(Restored::AwaitsReload),
            RecoveredSignIn::Later => Err(RestoreError::Busy(tenant.clone())),
            RecoveredSignIn::Nothing => Err(RestoreError::NoToken(tenant.clone())),
        }
    }
}

impl Broker {
    fn nothing_of(&self, tenant: &Tenant) -> RestoreError {
        RestoreError::Nothing { tenant: tenant.clone(), store: self.inner.store.location() }
    }
}

/// Puts the answer into the journal, unless it is there.
async fn put_in_journal(lock: &mut TenantLock, intent: Intent, answer: Answer) -> Result<(), StoreError> {
    if let Recovered::Answered(_) = recover(lock, |there| there.matches(&intent.spending)).await? {
        return Ok(());
    }
    let unread = lock.intend(intent).await?.answered(answer);
    lock.record(&unread).await.map(drop)
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
