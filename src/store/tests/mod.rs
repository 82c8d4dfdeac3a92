//! The promises of the file store to one process; its promises to several are in
//! `tests/it/store.rs`.
#![expect(clippy::disallowed_methods, reason = "these tests lay out files and look at them")]

mod cache;
mod candidates;
mod change_notices;
mod clients;
mod doctor;
mod format;
mod group;
mod journal;
mod layouts;
mod locks;
#[expect(dead_code, unreachable_pub, reason = "the integration tests share it, and need more of it")]
#[path = "../../../tests/support/random.rs"]
mod random;
mod safety;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{tenant_lock::FileTenantLock, *};
use crate::{
    ids::{Lineage, Principal},
    secret::{AccessToken, CodeVerifier, RefreshToken, State},
    session::{
        Applied, Grant, LockBackend as _, Pending, RefreshTarget, Session, Settlement,
        journal::{Answer, Intent, Journal, MAX_BODY, Spending},
        test_session,
    },
    sys::{clock::Clock, disk::RealDisk, faults::Faults},
};

const NOW: i64 = 1_795_358_672;
const DAY: i64 = 86_400;

struct Fixture {
    folder: TempDir,
    clock: Clock,
    store: FileStore,
}

impl Fixture {
    fn new() -> Self {
        Self::failing("")
    }

    /// A store whose disk has the faults that are named.
    fn failing(faults: &str) -> Self {
        Self::with(Faults::parse(faults))
    }

    fn with(faults: Faults) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        chmod(folder.path(), 0o700);
        let clock = Clock::fixed(NOW);
        let path = folder.path().join("auth.json");
        let store = on_disk(&path, faults, &clock).expect("a store");
        Self { store, clock, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("auth.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("a store file")
    }

    fn put(&self, text: impl AsRef<[u8]>) {
        fs::write(self.path(), text).expect("writable");
        chmod(&self.path(), 0o600);
    }

    fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.text()).expect("JSON")
    }

    /// The same file, on a disk without faults.
    fn healthy(&self) -> FileStore {
        open(&self.path(), &self.clock)
    }

    async fn sign_in(&self) -> Session {
        sign_in(&self.healthy(), &alice(), test_session(NOW, 3600)).await
    }
}

fn on_disk(path: &Path, faults: Faults, clock: &Clock) -> Result<FileStore, StoreError> {
    let disk = Arc::new(RealDisk::with(faults));
    FileStore::on_disk(disk, path, clock.clone(), FileStoreOptions::default())
}

fn open(path: &Path, clock: &Clock) -> FileStore {
    on_disk(path, Faults::default(), clock).expect("a store")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

fn alice() -> Tenant {
    "codex/user:803".parse().expect("a tenant")
}

fn pending(state: &str) -> Pending {
    let Session { binding, .. } = test_session(NOW, 3600);
    Pending {
        verifier: CodeVerifier::new("verifier-1"),
        state: State::new(state),
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at: NOW,
        started_by: Principal::Local,
        lineage_seen: None,
        binding,
        scopes: vec!["read".into(), "offline_access".into()],
        wrong_codes: None,
        browser: None,
        polling: None,
    }
}

/// The text of a store with this one record.
fn text_with(tenant: &Tenant, entry: Entry) -> String {
    let mut changed = codec::ChangedRecords::default();
    changed.put(tenant, entry);
    codec::Document::empty().revise(changed, Zeroizing::default()).text().to_owned()
}

/// Signs in by the changes that the broker makes; the session's generation is 1.
async fn sign_in(store: &FileStore, tenant: &Tenant, session: Session) -> Session {
    store.change(tenant, Change::Start(pending("state-1"))).await.expect("a start");
    let settlement = Settlement::SignIn { state: State::new("state-1"), session: Box::new(session) };
    let mut lock = store.try_lock(tenant, Purpose::SignIn).await.expect("lockable").expect("free");
    assert_eq!(lock.settle(settlement).await.expect("a sign-in").applied, Applied::Done);
    store.read(tenant).await.expect("readable").session.expect("a session")
}

fn refreshed(target: RefreshTarget, number: u32) -> Settlement {
    let grant = Grant {
        access_token: AccessToken::new(format!("access-{number}")),
        refresh_token: Some(RefreshToken::new(format!("refresh-{number}"))),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(Duration::from_secs(3600)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    };
    Settlement::Refreshed { target, grant: Box::new(grant) }
}

async fn lock(store: &FileStore) -> TenantLock {
    store.try_lock(&alice(), Purpose::Refresh).await.expect("lockable").expect("free")
}

/// The tenant's lock without the order of the steps.
async fn backend(store: &FileStore) -> FileTenantLock {
    store.try_lock_backend(&alice(), Purpose::Refresh).await.expect("lockable").expect("free")
}

fn intent(session: &Session) -> Intent {
    Intent {
        spending: Spending::Refresh(session.refresh_target().expect("a refresh token")),
        at: NOW,
        token_endpoint: "https://id.example/token".into(),
    }
}

fn answer(body: &[u8]) -> Answer {
    Answer { status: 200, body: Zeroizing::new(body.to_vec()), at: NOW + 1, ..Answer::default() }
}

/// Awaits a future for half a minute, which is enough on any machine, and panics after that.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it happens within half a minute")
}
