//! A tenant's lock for async callers: [`TenantLock`] over [`Held`].
//!
//! Each step runs in a blocking task that owns the lock for its duration: a caller whose future is dropped in the
//! middle of one neither stops it nor frees the lock under it.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{StoreError, TenantLock, blocking::blocking, core::Core, held::Held, queue::Queue};
use crate::{
    ids::Tenant,
    session::{
        Applied, Change,
        journal::{Answer, Intent, Journal},
    },
};

/// [`Held`], for async callers.
pub(super) struct FileTenantLock {
    held: Arc<Mutex<Held>>,
    path: PathBuf,
    tenant: Tenant,
    core: Arc<Core>,
    queue: Queue,
}

// === impl FileTenantLock ===

impl FileTenantLock {
    pub(super) fn new(held: Held, tenant: Tenant, core: Arc<Core>, queue: Queue) -> Self {
        let path = held.path().to_owned();
        Self { held: Arc::new(Mutex::new(held)), path, tenant, core, queue }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Held) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let held = self.held.clone().lock_owned().await;
        blocking(&self.path, move || work(&held)).await
    }
}

#[async_trait]
impl TenantLock for FileTenantLock {
    async fn journal(&mut self) -> Result<Journal, StoreError> {
        self.run(Held::journal).await
    }

    async fn intend(&mut self, intent: &Intent) -> Result<(), StoreError> {
        let intent = intent.clone();
        self.run(move |held| held.intend(&intent)).await
    }

    async fn record(&mut self, answer: &Answer) -> Result<(), StoreError> {
        let answer = answer.clone();
        self.run(move |held| held.record(&answer)).await
    }

    async fn clear(&mut self) -> Result<(), StoreError> {
        self.run(Held::clear).await
    }

    async fn commit(&mut self, change: Change) -> Result<Applied, StoreError> {
        let held = self.held.clone().lock_owned().await;
        self.queue.change(&self.core, &self.tenant, change, Some(held)).await
    }
}
