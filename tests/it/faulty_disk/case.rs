//! A user, the program that serves them, and a disk that fails.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use threadkey::{
    broker::{Broker, Event, FinishError, Finished, Lease, SignIn, TokenError},
    ids::{Principal, ProviderId, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, Providers},
    session::Session,
    store::{FileStore, FileStoreOptions, Store},
    sys::{clock::Clock, disk::Disk},
};

use super::{MINUTE, NOW, disk::Failing};
use crate::{
    fixtures,
    support::{
        authserver::{self, AuthServer, Lifetimes},
        browser,
        events::Counts,
    },
};

/// One authorization server and one folder of stores, for all cases.
pub(super) struct Rig {
    server: AuthServer,
    folder: tempfile::TempDir,
}

/// One user with a store and a program.
pub(super) struct Case {
    pub(super) tenant: Tenant,
    pub(super) principal: Principal,
    pub(super) account: String,
    pub(super) clock: Clock,
    pub(super) disk: Failing,
    pub(super) store: Arc<dyn Store>,
    pub(super) broker: Broker,
    pub(super) server: AuthServer,
    pub(super) path: PathBuf,
}

impl Rig {
    pub(super) async fn start() -> Arc<Self> {
        let server = AuthServer::start(authserver::Options::default()).await;
        server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
        Arc::new(Self { server, folder: tempfile::tempdir().unwrap() })
    }

    pub(super) fn case(&self, number: u64, errno: i32) -> Case {
        let (principal, clock, disk) =
            (Principal::User(Snowflake(1000 + number)), Clock::fixed(NOW), Failing::new(errno));
        let path = self.folder.path().join(number.to_string()).join("auth.json");
        let store = open(Arc::new(disk.clone()), &path, &clock);
        let broker = broker(&self.server, store.clone(), &clock);
        let (tenant, account) = (Tenant::new(acme(), principal), format!("user-{number}"));
        Case { tenant, principal, account, clock, disk, store, broker, server: self.server.clone(), path }
    }
}

impl Case {
    /// Makes the N-th call from now fail.
    pub(super) fn fail_at(&self, call: u64) {
        self.disk.arm(call);
    }

    /// Makes all calls from the N-th on fail.
    pub(super) fn fail_from(&self, call: u64) {
        self.disk.keep_failing();
        self.disk.arm(call);
    }

    pub(super) fn recover(&self) {
        self.disk.recover();
    }

    /// Runs `work` on a disk that keeps failing, until it ends or reports that the provider's
    /// answer cannot be saved. Then the disk recovers. Returns the result of `work`.
    pub(super) async fn run_until_recovery<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let mut events = self.broker.events();
        let mut working = tokio::spawn(work);
        let failed = async {
            while !matches!(events.recv().await.unwrap(), Event::SaveFailed(tenant) if tenant == self.tenant)
            {
            }
        };
        let ended = tokio::select! {
            ended = &mut working => Some(ended),
            () = failed => None,
        };
        self.recover();
        match ended {
            Some(ended) => ended.unwrap(),
            None => working.await.unwrap(),
        }
    }

    pub(super) async fn callback(&self, started: &SignIn) -> String {
        browser::sign_in(started.link().unwrap().as_str(), &self.account).await.url
    }

    pub(super) async fn finish(&self, callback: &str) -> Result<Finished, FinishError> {
        self.broker.finish(self.principal, None, Pasted::parse(callback).unwrap()).await
    }

    pub(super) async fn sign_in(&self) {
        let started = self.broker.start(&self.tenant, self.principal).await.unwrap();
        self.finish(&self.callback(&started).await).await.unwrap();
    }

    pub(super) async fn session(&self) -> Option<Session> {
        self.store.read(&self.tenant).await.unwrap().session
    }

    /// Returns the provider's counts for this user.
    pub(super) fn counts(&self) -> Counts {
        self.server.events().of(&self.account)
    }

    /// Asserts that nothing was sent and that the session is unchanged.
    pub(super) async fn expect_untouched(&self, before: &Option<Session>, call: u64) {
        assert_eq!(self.counts().refreshes, 0, "{call}: nothing was sent");
        assert_eq!(self.session().await, *before, "{call}: nothing was lost");
    }

    /// Asserts that all tries together made one refresh, and that a caller with an earlier token
    /// holds its result.
    pub(super) async fn expect_one_refresh(&self, first: Result<Lease, TokenError>, next: &Lease, call: u64) {
        if let Ok(first) = first {
            assert_eq!(first.access_token, next.access_token, "{call}");
        }
        let counts = self.counts();
        assert_eq!((counts.refreshes, counts.reuses), (1, 0), "{call}: {:?}", self.disk.failed_call());
        assert_eq!(self.session().await.unwrap().generation, 2);
    }

    /// Asserts that all tries together spent one code, and that its session works.
    pub(super) async fn expect_one_sign_in(&self, call: u64) {
        let counts = self.counts();
        assert_eq!((counts.sign_ins, counts.reuses), (1, 0), "{call}: {:?}", self.disk.failed_call());
        let session = self.session().await.unwrap();
        let lease = self.broker.token(&self.tenant, MINUTE).await.unwrap();
        assert_eq!(lease.access_token, session.access_token);
    }

    /// Asserts that the error names a path and a remedy.
    pub(super) fn expect_actionable(&self, error: &str, hint: &str) {
        let (call, path) = self.disk.failed_call().unwrap();
        let own = self.path.parent().unwrap().to_string_lossy().into_owned();
        let names_path = error.contains(&own) || error.contains(&*path.to_string_lossy());
        assert!(names_path, "{call} {}: the error names no path: {error}", path.display());
        assert!(error.contains(hint), "{call} {}: the error names no remedy: {error}", path.display());
    }
}

fn open(disk: Arc<dyn Disk>, path: &Path, clock: &Clock) -> Arc<dyn Store> {
    Arc::new(FileStore::on_disk(disk, path, clock.clone(), FileStoreOptions::default()).unwrap())
}

fn broker(server: &AuthServer, store: Arc<dyn Store>, clock: &Clock) -> Broker {
    let provider = Provider::new(acme(), fixtures::settings(server)).unwrap();
    Broker::new(store, Providers::new([provider]), Client::new(clock.clone()).unwrap(), clock.clone())
}

fn acme() -> ProviderId {
    "acme".parse().unwrap()
}
