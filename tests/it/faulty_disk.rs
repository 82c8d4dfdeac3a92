//! A disk that fails, at any one call of a refresh, a sign-in or a logout: nothing is spent that cannot be saved, and
//! nothing is lost.
//!
//! Each case has a person of its own, a program of its own and one fault: its N-th call fails with an error, once, or all calls
//! from it on do, until the disk is well again. The number of calls is counted on a disk that is well, so that each call has
//! its turn.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use threadkey::{
    broker::{Broker, Event, FinishError, Finished, GrantEnd, LogoutError, Revocation, SignIn, TokenError},
    ids::{Principal, ProviderId, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    session::Session,
    store::{FileStore, FileStoreOptions, Store},
    sys::{
        clock::Clock,
        disk::{Disk, DiskFile, Open, RealDisk, Stat},
        filesystem::FileSystem,
        lock::Mode,
    },
};
use zeroize::Zeroizing;

use crate::support::{
    authserver::{self, AuthServer, Lifetimes},
    browser,
    events::Counts,
};

const NOW: i64 = 1_795_358_672;
const MINUTE: Duration = Duration::from_secs(60);

const ERRORS: [(i32, &str); 6] = [
    (libc::ENOSPC, "free some space"),
    (libc::EDQUOT, "free some space"),
    (libc::EIO, "check the disk"),
    (libc::EROFS, "file system that can be written"),
    (libc::EMFILE, "raise the limit of open files"),
    (libc::EACCES, "give the user that runs threadkey access"),
];

/// How many cases are under way at once.
const AT_ONCE: usize = 16;

/// The machine's disk, with one call that fails.
#[derive(Clone)]
struct Failing(Arc<Fault>);

struct Fault {
    disk: RealDisk,
    calls: AtomicU64,
    /// Which call fails; 0 is none.
    at: AtomicU64,
    /// Whether all later calls fail too.
    lasts: AtomicBool,
    errno: i32,
    struck: Mutex<Option<(&'static str, PathBuf)>>,
}

struct FailingFile {
    disk: Failing,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

// === impl Failing ===

impl Failing {
    fn new(errno: i32) -> Self {
        let (calls, at, struck) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        let lasts = AtomicBool::new(false);
        Self(Arc::new(Fault { disk: RealDisk::new(), calls, at, lasts, errno, struck }))
    }

    /// Counts from now, and fails at this call; at none with 0.
    fn arm(&self, at: u64) {
        self.0.calls.store(0, Ordering::SeqCst);
        self.0.at.store(at, Ordering::SeqCst);
    }

    fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// The call that failed, and on what.
    fn struck(&self) -> Option<(&'static str, PathBuf)> {
        self.0.struck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn at<T>(
        &self,
        call: &'static str,
        path: &Path,
        run: impl FnOnce(&RealDisk) -> io::Result<T>,
    ) -> io::Result<T> {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let at = self.0.at.load(Ordering::SeqCst);
        if number == at || (at != 0 && number > at && self.0.lasts.load(Ordering::SeqCst)) {
            *self.0.struck.lock().unwrap_or_else(PoisonError::into_inner) = Some((call, path.to_owned()));
            return Err(io::Error::from_raw_os_error(self.0.errno));
        }
        run(&self.0.disk)
    }
}

impl Disk for Failing {
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.at("canonicalize", path, |disk| disk.canonicalize(path))
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.at("readlink", path, |disk| disk.read_link(path))
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.at("stat", path, |disk| disk.stat(path))
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.at("open", path, |disk| disk.open(path, how))?;
        Ok(Box::new(FailingFile { disk: self.clone(), path: path.to_owned(), file }))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.at("mkdir", path, |disk| disk.create_folder(path))
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.at("list", folder, |disk| disk.list(folder))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at("rename", to, |disk| disk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at("remove", path, |disk| disk.remove(path))
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.at("fsync-folder", folder, |disk| disk.sync_folder(folder))
    }
    fn check_writable(&self, folder: &Path) -> io::Result<()> {
        self.at("access", folder, |disk| disk.check_writable(folder))
    }
    fn is_mount_point(&self, path: &Path) -> io::Result<bool> {
        self.at("statx", path, |disk| disk.is_mount_point(path))
    }
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.at("statfs", path, |disk| disk.file_system(path))
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.at("statvfs", path, |disk| disk.free_space(path))
    }
}

// === impl FailingFile ===

impl FailingFile {
    fn at<T>(&self, call: &'static str, run: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.disk.at(call, &self.path, |_| run(&*self.file))
    }
}

impl DiskFile for FailingFile {
    fn stat(&self) -> io::Result<Stat> {
        self.at("fstat", |file| file.stat())
    }
    fn read(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        self.at("read", |file| file.read(limit))
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.at("read", |file| file.read_at(offset, bytes))
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.at("write", |file| file.write_at(offset, bytes))
    }
    fn reserve(&self, from: u64, to: u64) -> io::Result<()> {
        self.at("reserve", |file| file.reserve(from, to))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.at("truncate", |file| file.set_len(len))
    }
    fn sync(&self) -> io::Result<()> {
        self.at("fsync", |file| file.sync())
    }
    fn lock(&self, mode: Mode) -> io::Result<()> {
        self.at("lock", |file| file.lock(mode))
    }
    fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        self.at("try-lock", |file| file.try_lock(mode))
    }
    fn unlock(&self) -> io::Result<()> {
        // It cannot fail on an open descriptor, and is tried whatever happens.
        self.file.unlock()
    }
}

/// One authorization server and one folder of stores, for all cases with one error.
struct Rig {
    server: AuthServer,
    folder: tempfile::TempDir,
}

/// One person with a store of their own, and their program.
struct Case {
    tenant: Tenant,
    who: Principal,
    account: String,
    clock: Clock,
    disk: Failing,
    store: Arc<dyn Store>,
    broker: Broker,
    server: AuthServer,
    path: PathBuf,
}

impl Rig {
    async fn start() -> Arc<Self> {
        let server = AuthServer::start(authserver::Options::default()).await;
        server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
        Arc::new(Self { server, folder: tempfile::tempdir().unwrap() })
    }

    fn case(&self, number: u64, errno: i32) -> Case {
        let (who, clock, disk) =
            (Principal::User(Snowflake(1000 + number)), Clock::fixed(NOW), Failing::new(errno));
        let path = self.folder.path().join(number.to_string()).join("auth.json");
        let store = open(Arc::new(disk.clone()), &path, &clock);
        let broker = broker(&self.server, store.clone(), &clock);
        let (tenant, account) = (Tenant::new(acme(), who), format!("person-{number}"));
        Case { tenant, who, account, clock, disk, store, broker, server: self.server.clone(), path }
    }
}

impl Case {
    /// Lets the N-th call from now fail.
    fn fail_at(&self, call: u64) {
        self.disk.arm(call);
    }

    /// Lets all calls fail from the N-th on.
    fn fail_from(&self, call: u64) {
        self.disk.0.lasts.store(true, Ordering::SeqCst);
        self.disk.arm(call);
    }

    fn is_well_again(&self) {
        self.disk.0.at.store(0, Ordering::SeqCst);
    }

    /// What comes of `work` on a disk that goes on failing: it ends, or it is told that what the provider gave cannot be
    /// saved. Then the disk is well again, and it ends.
    async fn through_it<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let mut events = self.broker.events();
        let mut working = tokio::spawn(work);
        let failed = async {
            while !matches!(events.recv().await.unwrap(), Event::SaveFailed(whose) if whose == self.tenant) {}
        };
        let ended = tokio::select! {
            ended = &mut working => Some(ended),
            () = failed => None,
        };
        self.is_well_again();
        match ended {
            Some(ended) => ended.unwrap(),
            None => working.await.unwrap(),
        }
    }

    async fn callback(&self, started: &SignIn) -> String {
        browser::sign_in(started.authorize_url.as_str(), &self.account).await.url
    }

    async fn finish(&self, callback: &str) -> Result<Finished, FinishError> {
        self.broker.finish(self.who, None, Pasted::parse(callback).unwrap()).await
    }

    async fn sign_in(&self) {
        let started = self.broker.start(&self.tenant, self.who).await.unwrap();
        self.finish(&self.callback(&started).await).await.unwrap();
    }

    async fn session(&self) -> Option<Session> {
        self.store.read(&self.tenant).await.unwrap().session
    }

    /// What the provider counted for this person.
    fn counts(&self) -> Counts {
        self.server.events().of(&self.account)
    }

    /// What a person reads: on which path, and what to do.
    fn expect_told(&self, error: &str, hint: &str) {
        let (call, path) = self.disk.struck().unwrap();
        let own = self.path.parent().unwrap().to_string_lossy().into_owned();
        let says_where = error.contains(&own) || error.contains(&*path.to_string_lossy());
        assert!(says_where, "{call} {}: it does not say where: {error}", path.display());
        assert!(error.contains(hint), "{call} {}: it does not say what to do: {error}", path.display());
    }
}

fn open(disk: Arc<dyn Disk>, path: &Path, clock: &Clock) -> Arc<dyn Store> {
    Arc::new(FileStore::on_disk(disk, path, clock.clone(), FileStoreOptions::default()).unwrap())
}

fn broker(server: &AuthServer, store: Arc<dyn Store>, clock: &Clock) -> Broker {
    let settings = ProviderSettings {
        issuer: Some(server.issuer().into()),
        authorization_endpoint: server.authorization_endpoint(),
        token_endpoint: server.token_endpoint(),
        revocation_endpoint: Some(server.revocation_endpoint()),
        client_id: authserver::CLIENT_ID.into(),
        redirect_uri: authserver::PASTE_REDIRECT_URI.into(),
        scopes: vec!["openid".into(), "offline_access".into()],
        enforces_pkce: true,
        ..ProviderSettings::default()
    };
    let provider = Provider::new(acme(), settings).unwrap();
    Broker::new(store, Providers::new([provider]), Client::new(clock.clone()).unwrap(), clock.clone())
}

fn acme() -> ProviderId {
    "acme".parse().unwrap()
}

/// Runs `case` with each error at each call that it makes with none.
async fn at_each_call<F: Future<Output = u64> + Send + 'static>(case: impl Fn(Case, u64, &'static str) -> F) {
    run(case, |calls| ERRORS.iter().flat_map(|error| (1..=calls).map(move |call| (*error, call))).collect())
        .await;
}

/// Runs `case` at each call that it makes with no error, with one error after the other.
async fn at_each_call_in_turn<F: Future<Output = u64> + Send + 'static>(
    case: impl Fn(Case, u64, &'static str) -> F,
) {
    run(case, |calls| ERRORS.into_iter().cycle().zip(1..=calls).collect()).await;
}

async fn run<F: Future<Output = u64> + Send + 'static>(
    case: impl Fn(Case, u64, &'static str) -> F,
    cases: impl FnOnce(u64) -> Vec<((i32, &'static str), u64)>,
) {
    let rig = Rig::start().await;
    let calls = case(rig.case(0, libc::EIO), 0, "").await;
    assert!(calls > 10, "it uses the disk");
    let running = cases(calls).into_iter().zip(1..).map(|(((errno, hint), call), number)| {
        // In a task of its own, so that both processors have something to do.
        tokio::spawn(case(rig.case(number, errno), call, hint))
    });
    let mut ended = stream::iter(running).buffer_unordered(AT_ONCE);
    while let Some(case) = ended.next().await {
        case.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_on_a_failing_disk_spends_nothing_that_is_not_saved_and_the_next_one_goes_on() {
    at_each_call(|case, call, hint| async move {
        case.sign_in().await;
        let before = case.session().await;
        case.clock.advance(3600);
        case.fail_at(call);
        let asked = case.broker.token(&case.tenant, MINUTE).await;
        case.broker.drained().await;
        let calls = case.disk.calls();
        case.is_well_again();
        if let Err(error) = &asked {
            case.expect_told(&error.to_string(), hint);
            assert_eq!(case.counts().refreshes, 0, "{call}: nothing was sent");
            assert_eq!(case.session().await, before, "{call}: nothing was lost");
        }
        let next = case.broker.token(&case.tenant, MINUTE).await.unwrap();
        if let Ok(asked) = asked {
            assert_eq!(asked.access_token, next.access_token, "{call}");
        }
        let counts = case.counts();
        assert_eq!((counts.refreshes, counts.reuses), (1, 0), "{call}: {:?}", case.disk.struck());
        assert_eq!(case.session().await.unwrap().generation, 2);
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_on_a_failing_disk_spends_its_code_once_and_is_finished_by_the_next_try() {
    at_each_call(|case, call, hint| async move {
        case.fail_at(call);
        let started = match case.broker.start(&case.tenant, case.who).await {
            Ok(started) => started,
            Err(error) => {
                case.expect_told(&error.to_string(), hint);
                case.broker.start(&case.tenant, case.who).await.unwrap()
            }
        };
        let callback = case.callback(&started).await;
        if let Err(error) = case.finish(&callback).await {
            case.expect_told(&error.to_string(), hint);
            case.finish(&callback).await.unwrap();
        }
        let calls = case.disk.calls();
        case.is_well_again();
        let counts = case.counts();
        assert_eq!((counts.sign_ins, counts.reuses), (1, 0), "{call}: {:?}", case.disk.struck());
        let session = case.session().await.unwrap();
        let lease = case.broker.token(&case.tenant, MINUTE).await.unwrap();
        assert_eq!(lease.access_token, session.access_token);
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_on_a_disk_that_goes_on_failing_spends_nothing_or_is_kept_until_it_is_saved() {
    at_each_call_in_turn(|case, call, hint| async move {
        case.sign_in().await;
        let before = case.session().await;
        case.clock.advance(3600);
        case.fail_from(call);
        let (broker, tenant) = (case.broker.clone(), case.tenant.clone());
        let asked = case.through_it(async move { broker.token(&tenant, MINUTE).await }).await;
        let calls = case.disk.calls();
        case.broker.drained().await;
        if let Err(error) = &asked {
            assert!(error.to_string().contains(hint), "{call}: it does not say what to do: {error}");
            assert_eq!(case.counts().refreshes, 0, "{call}: nothing was sent");
            assert_eq!(case.session().await, before, "{call}: nothing was lost");
        }
        let mut next = case.broker.token(&case.tenant, MINUTE).await;
        if let (Err(_), Err(TokenError::Unavailable { code, .. })) = (&asked, &next) {
            // An intent that could not be taken back counts as sent: that costs a pause.
            assert_eq!(code, "ambiguous_no_answer", "{call}");
            case.clock.advance(10);
            next = case.broker.token(&case.tenant, MINUTE).await;
        }
        let next = next.unwrap();
        if let Ok(asked) = asked {
            assert_eq!(asked.access_token, next.access_token, "{call}");
        }
        let counts = case.counts();
        assert_eq!((counts.refreshes, counts.reuses), (1, 0), "{call}: {:?}", case.disk.struck());
        assert_eq!(case.session().await.unwrap().generation, 2);
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_on_a_disk_that_goes_on_failing_spends_nothing_or_is_finished_with_what_came() {
    at_each_call_in_turn(|case, call, hint| async move {
        let started = case.broker.start(&case.tenant, case.who).await.unwrap();
        let callback = case.callback(&started).await;
        case.fail_from(call);
        let (broker, who, pasted) = (case.broker.clone(), case.who, Pasted::parse(&callback).unwrap());
        let finished = case.through_it(async move { broker.finish(who, None, pasted).await }).await;
        let calls = case.disk.calls();
        if let Err(error) = finished {
            assert!(error.to_string().contains(hint), "{call}: it does not say what to do: {error}");
            if let Err(FinishError::CodeSpent(_)) = case.finish(&callback).await {
                // An intent that could not be taken back counts as sent: that costs another look at the link.
                assert_eq!(case.counts().sign_ins, 0, "{call}");
                let again = case.broker.start(&case.tenant, case.who).await.unwrap();
                case.finish(&case.callback(&again).await).await.unwrap();
            }
        }
        let counts = case.counts();
        assert_eq!((counts.sign_ins, counts.reuses), (1, 0), "{call}: {:?}", case.disk.struck());
        let session = case.session().await.unwrap();
        let lease = case.broker.token(&case.tenant, MINUTE).await.unwrap();
        assert_eq!(lease.access_token, session.access_token);
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_on_a_failing_disk_is_done_or_told_and_never_half() {
    at_each_call(|case, call, hint| async move {
        case.sign_in().await;
        let before = case.session().await;
        case.fail_at(call);
        let done = case.broker.logout(&case.tenant, Revocation::Keep).await;
        let calls = case.disk.calls();
        case.is_well_again();
        match done {
            Ok(_) => {}
            Err(error) => {
                case.expect_told(&error.to_string(), hint);
                let (struck, _) = case.disk.struck().unwrap();
                let left = case.session().await;
                // The rename stands, and its fsync failed: it may still be undone, which is why it is told as an error.
                assert!(left == before || (left.is_none() && struck == "fsync-folder"), "{call}: {struck}");
                let again = case.broker.logout(&case.tenant, Revocation::Keep).await;
                assert!(matches!(again, Ok(_) | Err(LogoutError::NoSession(_))), "{again:?}");
            }
        }
        assert_eq!(case.session().await, None);
        assert_eq!(case.counts().revoked, 0);
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_on_a_failing_disk_is_made_or_told_and_what_is_dropped_is_revoked_or_told() {
    for choice in ["switch", "keep"] {
        at_each_call(move |case, call, hint| async move {
            case.sign_in().await;
            let other = format!("other-{}", case.account);
            let started = case.broker.start(&case.tenant, case.who).await.unwrap();
            let callback = browser::sign_in(started.authorize_url.as_str(), &other).await;
            let finished = case.finish(&callback.url).await.unwrap();
            let Finished::Undecided(undecided) = finished else { panic!("it was taken: {finished:?}") };
            let choose = async || match choice {
                "switch" => case.broker.switch(&case.tenant, undecided.lineage).await.map(|_| None),
                _ => case
                    .broker
                    .keep(&case.tenant, undecided.lineage)
                    .await
                    .map(|kept| Some(kept.unchosen.grant)),
            };
            case.fail_at(call);
            let chosen = choose().await;
            let calls = case.disk.calls();
            case.is_well_again();
            let grant = match chosen {
                Ok(grant) => grant,
                Err(error) => {
                    case.expect_told(&error.to_string(), hint);
                    choose().await.unwrap()
                }
            };
            let account = case.session().await.unwrap().account;
            let holds = if choice == "switch" { &other } else { &case.account };
            assert_eq!(account, Some(format!("{holds}@example.com")), "{call}: {:?}", case.disk.struck());
            let revoked = case.server.events().of(&other).revoked;
            assert_eq!(revoked == 1, grant == Some(GrantEnd::Revoked), "{call}: {:?}", case.disk.struck());
            assert!(call > 0 || choice == "switch" || revoked == 1, "without an error it is revoked");
            assert_eq!(case.store.read(&case.tenant).await.unwrap().candidate, None);
            calls
        })
        .await;
    }
}
