//! A tenant's lock for async callers: [`LockBackend`] over [`LockedJournal`].
//!
//! Each step runs in a blocking task that owns the lock for its duration. So a caller whose future
//! is dropped during a step neither stops the step nor releases the lock under it.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{
    StoreError, blocking::blocking, group_commit::GroupCommit, locked_journal::LockedJournal,
    store_file::StoreFile,
};
use crate::{
    ids::Tenant,
    session::{
        Changed, Entry, LockBackend, Settlement,
        journal::{Answer, Intent, Journal},
    },
};

/// [`LockedJournal`], for async callers.
pub(super) struct FileTenantLock {
    journal: Arc<Mutex<LockedJournal>>,
    path: PathBuf,
    tenant: Tenant,
    store_file: Arc<StoreFile>,
    group_commit: GroupCommit,
}

// === impl FileTenantLock ===

impl FileTenantLock {
    pub(super) fn new(
        journal: LockedJournal,
        tenant: Tenant,
        store_file: Arc<StoreFile>,
        group_commit: GroupCommit,
    ) -> Self {
        let path = journal.path().to_owned();
        Self { journal: Arc::new(Mutex::new(journal)), path, tenant, store_file, group_commit }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LockedJournal) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let journal = self.journal.clone().lock_owned().await;
        blocking(&self.path, move || work(&journal)).await
    }
}

#[async_trait]
impl LockBackend<StoreError> for FileTenantLock {
    async fn read(&mut self) -> Result<Entry, StoreError> {
        let (store_file, tenant) = (self.store_file.clone(), self.tenant.clone());
        self.run(move |_| Ok(store_file.records()?.get(&tenant).cloned().unwrap_or_default())).await
    }

    async fn journal(&mut self) -> Result<Journal, StoreError> {
        self.run(LockedJournal::journal).await
    }

    async fn write_intent(&mut self, intent: &Intent) -> Result<(), StoreError> {
        let intent = intent.clone();
        self.run(move |journal| journal.intend(&intent)).await
    }

    async fn write_answer(&mut self, answer: &Answer) -> Result<(), StoreError> {
        let answer = answer.clone();
        self.run(move |journal| journal.record(&answer)).await
    }

    async fn keep_unread(&mut self) -> Result<(), StoreError> {
        self.run(LockedJournal::keep_unread).await
    }

    async fn clear(&mut self) -> Result<(), StoreError> {
        self.run(LockedJournal::clear).await
    }

    async fn commit(&mut self, settlement: Settlement) -> Result<Changed, StoreError> {
        let journal = self.journal.clone().lock_owned().await;
        self.group_commit.change(&self.store_file, &self.tenant, settlement.into(), Some(journal)).await
    }
}
