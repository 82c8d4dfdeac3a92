//! Sessions on disk: the [`Store`] seam and the file store that implements it.
//!
//! A store keeps one [`Entry`] per tenant, changes it only under its global lock, and lends each
//! tenant's lock with the journal in it. It never talks to a provider, so nothing here waits for
//! the network.

mod blocking;
mod cache;
mod change_notices;
mod codec;
mod doctor;
mod dto;
mod error;
mod file;
mod find_session;
mod group_commit;
mod journal;
mod layout;
mod location;
mod lock_files;
mod lock_waiters;
mod locked_journal;
mod paths;
mod rescue;
mod section;
mod store_file;
mod strict_json;
mod tenant_lock;
mod unread;

pub use change_notices::ChangeNotices;
pub use doctor::{Check, Verdict, doctor, lock_probe};
pub use error::{StoreError, User};
pub use file::FileStore;
pub use location::FileStoreOptions;
pub use paths::{Purpose, default_path};
pub use rescue::{read_rescue, rescue_text};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    ids::{Tenant, UnixTime},
    session::{self, Change, Changed, Entry, LastProbe, RegisteredClient},
    sys::lock_holder::LockHolder,
};

/// All tenants' records at one moment.
pub type Records = BTreeMap<Tenant, Entry>;

/// The registered clients, by the keys of [`RegisteredClient::key`].
pub type Clients = BTreeMap<String, RegisteredClient>;

/// The store as the broker uses it. Its methods wait for the disk and for the global lock, which is
/// held for one read and one write, and for nothing else. The wait for the lock is limited. Their
/// system calls run on threads that may block.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads the tenant's record as it is now. Takes no lock and needs no write permission.
    async fn read(&self, tenant: &Tenant) -> Result<Entry, StoreError>;

    /// Reads all records as they are now.
    async fn list(&self) -> Result<Arc<Records>, StoreError>;

    /// Returns the result of [`Store::list`] if it is known without waiting: after at most one
    /// stat(2) on a local file system.
    fn current(&self) -> Option<Arc<Records>>;

    /// Reads the registered clients as they are now.
    async fn clients(&self) -> Result<Arc<Clients>, StoreError>;

    /// Stores a registered client under its key, under the global lock, unless another process was
    /// first. Returns the client that is stored now. `replaced` is the client whose place it may take:
    /// the one that the caller saw, or none.
    async fn store_client(
        &self,
        key: &str,
        client: RegisteredClient,
        replaced: Option<RegisteredClient>,
    ) -> Result<RegisteredClient, StoreError>;

    /// Takes this registered client away from sign-ins, if it is still at this key. It stays under the
    /// key of [`RegisteredClient::retired_key`]. Returns whether it did.
    async fn retire_client(&self, key: &str, client: &RegisteredClient) -> Result<bool, StoreError>;

    /// Removes the registered clients that are this old and that no session, candidate and pending
    /// sign-in has been bound to for a day, with one write. The first sweep that sees a client unused
    /// dates it. Returns the keys of the removed ones.
    /// While the store has members of another version, their clients are unknown, so it removes none.
    async fn sweep_clients(&self, after: Duration) -> Result<Vec<String>, StoreError>;

    /// Subscribes to changes by any process. Must be called within a Tokio runtime.
    fn changes(&self) -> ChangeNotices;

    /// Applies `change` under the global lock. When it returns, the change is durable. A change that
    /// cannot get the lock within some seconds is withdrawn, with [`StoreError::Busy`]. A change whose
    /// future is dropped while it waits for the lock is withdrawn too.
    ///
    /// The result of a request that spent a secret is a [`Settlement`](session::Settlement), and
    /// [`TenantLock::settle`](session::TenantLock::settle) commits it.
    async fn change(&self, tenant: &Tenant, change: Change) -> Result<Changed, StoreError>;

    /// Removes all sessions that ended before this time and whose access token no longer serves,
    /// with one write. Returns their tenants.
    async fn sweep(&self, ended_before: UnixTime) -> Result<Vec<Tenant>, StoreError>;

    /// Takes the tenant's lock if it is free.
    async fn try_lock(&self, tenant: &Tenant, purpose: Purpose) -> Result<Option<TenantLock>, StoreError>;

    /// Returns once the tenant's refresh lock has been free for a moment: its holder has committed
    /// or died. Dropping the future does not leave the lock held.
    async fn wait_unlocked(&self, tenant: &Tenant) -> Result<(), StoreError>;

    /// Returns the tenants that have an unread answer: a success of the provider that could not be
    /// read, kept because it may hold the only copy of a token.
    async fn unread(&self) -> Result<Vec<Tenant>, StoreError>;

    /// Returns the tenants whose sign-in journal is not empty: an exchange is in progress, or its process
    /// has died.
    async fn sign_in_journals(&self) -> Result<Vec<Tenant>, StoreError>;

    /// Returns the process that holds the tenant's lock, or the stopped process that it waits for in
    /// turn. `None` if there is none, if it is this process, or if the system does not name it.
    async fn lock_holder(&self, tenant: &Tenant, purpose: Purpose) -> Option<LockHolder>;

    /// Checks that the global lock can be taken, or that a process at work holds it.
    ///
    /// # Errors
    /// If the lock's file cannot be opened or locked, or a stopped process holds it.
    async fn check_locks(&self) -> Result<(), StoreError>;

    /// Returns the last probe of the tenant's access token, if there is one.
    async fn last_probe(&self, tenant: &Tenant) -> Option<LastProbe>;

    /// Keeps a probe for other processes. It is of use for seconds, so it is not durable, and a failure
    /// is ignored.
    async fn keep_probe(&self, tenant: &Tenant, probe: LastProbe);

    /// Returns the path of the store, for messages.
    fn location(&self) -> String;
}

/// Returns the registered clients, and whether a record is bound to each. The issuer of a binding may be
/// the name in an id token, so the client's id alone counts.
pub fn clients_in_use<'a>(
    records: &'a Records,
    clients: &'a Clients,
) -> impl Iterator<Item = (&'a String, &'a RegisteredClient, bool)> {
    let used: BTreeSet<&str> =
        records.values().flat_map(Entry::bindings).map(|bound| bound.client_id.as_str()).collect();
    clients.iter().map(move |(key, client)| (key, client, used.contains(client.client_id.as_str())))
}

/// A tenant's lock, lent by this store.
pub type TenantLock = session::TenantLock<StoreError>;

#[cfg(test)]
mod tests;
