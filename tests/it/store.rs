//! The file store's promises to several processes, also to processes that die.
//!
//! A child is this test program itself, started again for the one test
//! [`a_child_process_follows_its_orders`], with its task in the environment.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use threadkey::{
    ids::{Lineage, Tenant},
    secret::{AccessToken, RefreshToken, State},
    session::{
        Applied, Change, Grant, Session, Settlement,
        journal::{Answer, Found, Intent, Journal, MAX_BODY, Spending},
    },
    store::{FileStore, FileStoreOptions, Purpose, Store, StoreError, TenantLock, lock_probe},
    sys::{
        clock::Clock,
        disk::{Disk as _, Open, RealDisk},
        faults::FAULTS_VARIABLE,
        lock::{Lock, Mode},
        random,
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::fixtures;

const TASK: &str = "THREADKEY_TEST_STORE_TASK";
const NOW: i64 = 1_795_358_672;
const BODY: &[u8] = br#"{"access_token":"access-2","refresh_token":"refresh-2"}"#;

/// The number of tenants that each child signs in.
const SIGN_INS: u32 = 15;

fn open(path: &Path) -> FileStore {
    let path = path.join("auth.json");
    FileStore::open(&path, Clock::fixed(NOW), FileStoreOptions::default()).expect("a store")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn alice() -> Tenant {
    "codex/user:803".parse().expect("a tenant")
}

fn grant(number: u32) -> Grant {
    Grant {
        access_token: AccessToken::new(format!("access-{number}")),
        refresh_token: Some(RefreshToken::new(format!("refresh-{number}"))),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(Duration::from_secs(3600)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    }
}

async fn sign_in(store: &FileStore, tenant: &Tenant) -> Session {
    store.change(tenant, Change::Start(fixtures::pending(NOW))).await.expect("a start");
    let session = Box::new(Session::begin(Lineage(random::bytes()), grant(1), fixtures::binding(), NOW));
    fixtures::finish_sign_in(store, tenant, State::new("state"), session).await;
    store.read(tenant).await.expect("readable").session.expect("a session")
}

async fn session_of(store: &FileStore) -> Option<Session> {
    store.read(&alice()).await.expect("readable").session
}

async fn lock(store: &FileStore) -> TenantLock {
    store.try_lock(&alice(), Purpose::Refresh).await.expect("lockable").expect("free")
}

async fn journal(lock: &mut TenantLock) -> Journal {
    match lock.journal().await.expect("readable") {
        Found::Nothing => Journal::Empty,
        Found::Intended(intent) => Journal::Intended(intent),
        Found::Answered(found) => Journal::Answered(found.intent().clone(), found.answer().clone()),
    }
}

fn intent(session: &Session) -> Intent {
    Intent {
        spending: Spending::Refresh(session.refresh_target().expect("a refresh token")),
        at: NOW,
        token_endpoint: session.binding.token_endpoint.clone(),
    }
}

fn answer() -> Answer {
    Answer { status: 200, body: BODY.to_vec().into(), at: NOW, ..Answer::default() }
}

fn refreshed(session: &Session) -> Settlement {
    Settlement::Refreshed {
        target: session.refresh_target().expect("a refresh token"),
        grant: Box::new(grant(2)),
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it happens within a minute")
}

/// This program as a child process with a task.
pub(crate) struct Helper {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    pub(crate) fn start(task: &str, folder: &Path, faults: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args([
            "store::a_child_process_follows_its_orders",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ]);
        Self::run(command, task, folder, faults)
    }

    fn run(mut command: Command, task: &str, folder: &Path, faults: &str) -> Self {
        let mut child = command
            .env(TASK, format!("{task} {}", folder.display()))
            .env(FAULTS_VARIABLE, faults)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program starts");
        let input = child.stdin.take().expect("piped");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, input, lines }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs")
    }

    /// Reads the child's output up to the line `word`.
    pub(crate) async fn says(&mut self, word: &str) {
        let found = soon(async {
            while let Some(line) = self.lines.next_line().await.expect("UTF-8") {
                if line.trim() == word {
                    return true;
                }
            }
            false
        });
        assert!(found.await, "the child says {word:?} before it ends");
    }

    /// Kills the child with SIGKILL.
    async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Lets the child continue, and waits until it has exited with success.
    async fn finish(mut self) {
        // A child that waits for no word may be gone already.
        let _ = self.input.write_all(b"\n").await;
        let ended = soon(self.child.wait()).await.expect("a child");
        assert!(ended.success(), "{ended}");
    }

    /// Waits until the child has killed itself.
    async fn dies(mut self) {
        let ended = soon(self.child.wait()).await.expect("a child");
        assert_eq!(ended.signal(), Some(9), "it should have reached the fault: {ended}");
    }
}

/// Prints `word` for the parent and waits for its line.
async fn pause(word: &str) {
    println!("\n{word}");
    // The read ends when the parent writes or has died.
    let _ = tokio::io::stdin().read_u8().await;
}

#[tokio::test]
async fn a_child_process_follows_its_orders() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, folder) = task.split_once(' ').expect("a task and a folder");
    let folder = PathBuf::from(folder);
    let store = open(&folder);
    match task {
        "lock-global" | "lock-sign-in" => {
            let name = if task == "lock-global" { "global.lock" } else { "refresh/acme%2Flocal.signin.lock" };
            let path = folder.join(format!("auth.json.{name}"));
            let file = RealDisk::new().open(&path, Open::ReadWrite).expect("openable");
            let _held = Lock::acquire(file, Mode::Exclusive).expect("free");
            pause("locked").await;
        }
        "lock-refresh" => {
            let tenant = "acme/local".parse().expect("a tenant");
            let _held = store.try_lock(&tenant, Purpose::Refresh).await.expect("lockable").expect("free");
            pause("locked").await;
        }
        "lock" => {
            let _held = lock(&store).await;
            pause("locked").await;
        }
        "commit" => {
            let mut held = lock(&store).await;
            pause("locked").await;
            let session = session_of(&store).await.expect("a session");
            held.settle(refreshed(&session)).await.expect("writable");
        }
        "refresh" => {
            let session = session_of(&store).await.expect("a session");
            let mut held = lock(&store).await;
            let intended = held.intend(intent(&session)).await.expect("room");
            held.record(&intended.answered(answer())).await.expect("room");
            pause("recorded").await;
            held.settle(refreshed(&session)).await.expect("writable");
            held.clear().await.expect("writable");
        }
        "logout" => {
            store.change(&alice(), Change::Logout).await.expect("writable");
        }
        "full" => fill_the_disk(&store, &folder).await,
        "hold" => {
            let file = RealDisk::new().open(&folder.join("x.lock"), Open::ReadWrite).expect("open");
            let _held = Lock::acquire(file, Mode::Exclusive).expect("free");
            pause("locked").await;
        }
        number => {
            for n in 0..SIGN_INS {
                sign_in(&store, &format!("codex/user:{number}{n:02}").parse().expect("a tenant")).await;
            }
        }
    }
}

#[tokio::test]
async fn processes_that_change_the_store_at_once_lose_nothing_of_each_other() {
    let folder = folder();
    let children: Vec<_> = (1..=6).map(|n| Helper::start(&n.to_string(), folder.path(), "")).collect();
    for mut child in children {
        let ended = soon(child.child.wait()).await.expect("a child");
        assert!(ended.success(), "{ended}");
    }
    let entries = open(folder.path()).list().await.expect("readable");
    assert_eq!(entries.len() as u32, 6 * SIGN_INS);
    assert!(entries.values().all(|entry| entry.session.is_some() && entry.pending.is_none()));
}

#[tokio::test]
async fn a_lock_in_one_process_keeps_out_another_and_ends_with_kill_9() {
    let folder = folder();
    let store = open(folder.path());
    let mut child = Helper::start("lock", folder.path(), "");
    child.says("locked").await;
    assert!(store.try_lock(&alice(), Purpose::Refresh).await.expect("lockable").is_none());
    child.kill().await;
    drop(lock(&store).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_are_woken_by_another_process_s_commit_and_by_its_death() {
    let folder = folder();
    let store = Arc::new(open(folder.path()));
    sign_in(&store, &alice()).await;
    for (task, commits) in [("commit", true), ("lock", false)] {
        let before = session_of(&store).await.expect("a session").generation;
        let mut child = Helper::start(task, folder.path(), "");
        child.says("locked").await;
        let waiters: Vec<_> = (0..24)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    store.wait_unlocked(&alice()).await.expect("woken");
                    session_of(&store).await.expect("a session").generation
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        if commits {
            child.finish().await;
        } else {
            child.kill().await;
        }
        for waiter in waiters {
            let after = soon(waiter).await.expect("no panic");
            assert_eq!(after, before + u64::from(commits), "a woken waiter sees the commit");
        }
    }
}

#[tokio::test]
async fn an_answer_survives_kill_9_and_the_next_holder_commits_it() {
    let folder = folder();
    let store = open(folder.path());
    let session = sign_in(&store, &alice()).await;
    let mut child = Helper::start("refresh", folder.path(), "");
    child.says("recorded").await;
    child.kill().await;
    let mut held = lock(&store).await;
    assert_eq!(journal(&mut held).await, Journal::Answered(intent(&session), answer()));
    assert_eq!(held.settle(refreshed(&session)).await.expect("writable").applied, Applied::Done);
    held.clear().await.expect("writable");
    assert_eq!(session_of(&store).await.expect("a session").generation, 2);
}

#[tokio::test]
async fn kill_9_at_any_step_of_a_refresh_leaves_a_journal_of_all_known_facts() {
    let answered = |session: &Session| Journal::Answered(intent(session), answer());
    let intended = |session: &Session| Journal::Intended(intent(session));
    type Left<'a> = &'a dyn Fn(&Session) -> Journal;
    let cases: [(&str, Left<'_>); 8] = [
        ("kill-after:try-lock@.lock", &|_| Journal::Empty),
        ("kill-before:write@803.lock#1", &|_| Journal::Empty),
        // From here the request counts as sent, although it was not. That costs a wait and no
        // token.
        ("kill-before:reserve@803.lock", &intended),
        ("kill-before:fsync@803.lock#1", &intended),
        ("kill-after:fsync@803.lock#1", &intended),
        ("kill-before:write@803.lock#2", &intended),
        ("kill-after:write@803.lock#2", &answered),
        ("kill-after:fsync@803.lock#2", &answered),
    ];
    for (fault, left) in cases {
        let folder = folder();
        let store = open(folder.path());
        let session = sign_in(&store, &alice()).await;
        Helper::start("refresh", folder.path(), fault).dies().await;
        let mut held = lock(&store).await;
        assert_eq!(journal(&mut held).await, left(&session), "{fault}");
        held.clear().await.expect("writable");
        held.intend(intent(&session)).await.expect("the next goes on by itself");
    }
}

#[tokio::test]
async fn kill_9_at_any_step_of_a_change_leaves_the_old_store_or_the_new_one() {
    for (fault, is_new) in [
        ("kill-after:lock@.global.lock", false),
        ("kill-after:open@.tmp", false),
        ("kill-before:write@.tmp", false),
        ("kill-after:write@.tmp", false),
        ("kill-before:fsync@.tmp", false),
        ("kill-before:rename", false),
        ("kill-after:rename", true),
        ("kill-before:unlock@.global.lock", true),
    ] {
        let folder = folder();
        let store = open(folder.path());
        let session = sign_in(&store, &alice()).await;
        Helper::start("logout", folder.path(), fault).dies().await;
        let expected = if is_new { None } else { Some(session) };
        assert_eq!(session_of(&store).await, expected, "{fault}");
        soon(sign_in(&store, &alice())).await;
        let names =
            std::fs::read_dir(folder.path()).expect("a folder").map(|e| e.expect("an entry").file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort();
        names.retain(|name| name != "auth.json.refresh");
        assert_eq!(names, ["auth.json", "auth.json.global.lock"], "{fault}: the next writer tidies up");
    }
}

#[tokio::test]
async fn a_process_sees_the_lock_of_another_process_and_its_end() {
    let folder = folder();
    let path = folder.path().join("x.lock");
    assert!(!lock_probe(&path), "there is no file");
    let mut child = Helper::start("hold", folder.path(), "");
    child.says("locked").await;
    assert!(lock_probe(&path));
    child.kill().await;
    assert!(!lock_probe(&path));
}

/// Uses a real full disk: no intent can be written, no change happens, and reads still work.
async fn fill_the_disk(store: &FileStore, folder: &Path) {
    let session = sign_in(store, &alice()).await;
    drop(lock(store).await);
    // A background task frees the previous version of the file after the answer, but before the
    // next change. Once this change is answered, no more room becomes free.
    assert_eq!(store.change(&alice(), Change::Cancel(None)).await.expect("well").applied, Applied::Stale);
    let text = std::fs::read(folder.join("auth.json")).expect("readable");
    let filler = std::fs::File::create(folder.join("filler")).expect("room");
    let full =
        (0..).find_map(|_| std::io::Write::write_all(&mut &filler, &[7; 4096]).err()).expect("it gets full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let error = lock(store).await.intend(intent(&session)).await.expect_err("no room for an answer");
    assert!(error.to_string().contains("free some space"), "{error}");
    let error = store.change(&alice(), Change::Logout).await.expect_err("no room for the store");
    assert!(
        matches!(error, StoreError::Io { .. }) && error.to_string().contains("free some space"),
        "{error}"
    );
    assert_eq!(std::fs::read(folder.join("auth.json")).expect("readable"), text);
    assert_eq!(session_of(store).await, Some(session.clone()));
    drop(filler);
    std::fs::remove_file(folder.join("filler")).expect("ours");
    let mut held = lock(store).await;
    assert_eq!(journal(&mut held).await, Journal::Empty);
    let intended = held.intend(intent(&session)).await.expect("room again");
    // Other files cannot take the reserved room.
    let filler = std::fs::File::create(folder.join("filler")).expect("room");
    while std::io::Write::write_all(&mut &filler, &[7; 4096]).is_ok() {}
    held.record(&intended.answered(Answer { body: vec![7; MAX_BODY].into(), ..answer() }))
        .await
        .expect("the room was reserved");
    println!("\nit was full");
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_spent_and_nothing_is_lost() {
    let folder = folder();
    let script = r#"mount -t tmpfs -o size=1m,mode=0700 tmpfs "$0" && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(folder.path());
    command.arg(std::env::current_exe().expect("this program has a path"));
    command.args(["store::a_child_process_follows_its_orders", "--exact", "--nocapture", "--test-threads=1"]);
    let probe = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", r#"mount -t tmpfs tmpfs "$0""#])
        .arg(folder.path())
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "not tried on a real full disk: this user may not mount a tmpfs here; the faults of the unit tests stand in"
        );
        return;
    }
    let mut child = Helper::run(command, "full", folder.path(), "");
    child.says("it was full").await;
    child.finish().await;
}
