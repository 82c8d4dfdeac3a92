//! The crash matrix: a program is killed (-9) before and after each step of its work, and the next
//! one continues unaided.
//!
//! The steps come from a recorded run of the same command, so a new system call joins by itself. A
//! read-only call (a stat, a read) changes nothing: a death before it equals a death after the
//! preceding step, and a death after it equals a death before the following step.
//! `THREADKEY_CRASH_MATRIX=full` kills at the read-only calls too.
//!
//! The expected result follows from the traces of the dead program: the journal's lines, the store,
//! and the provider's counts.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{collections::BTreeMap, fs, os::unix::process::ExitStatusExt as _, path::Path, process::Stdio};

use futures_util::{StreamExt as _, stream};
use threadkey::sys::clock::Clock;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    authserver::{self, AuthServer, Lifetimes},
    browser,
    program::{Ended, Home},
};

const AN_HOUR: i64 = 3600;

/// Longer than the pause that an intent without an answer causes, which is 2 s at most.
const A_PAUSE: i64 = 10;

/// Calls that change nothing.
const READ_ONLY_CALLS: [&str; 9] =
    ["access", "canonicalize", "fstat", "read", "readlink", "stat", "statfs", "statvfs", "statx"];

/// The number of cases that run at once.
const AT_ONCE: usize = 4;

const REFRESH: [&str; 7] =
    ["--config", "threadkey.toml", "__refresh", "--tenant", "acme/local", "--min-ttl", "60"];

/// A system call of a recorded run: its name, its path with the home as `~`, and its number among
/// the calls of that name and path, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    name: String,
    path: String,
    number: u32,
}

/// One user, with a folder and a program.
struct User {
    server: AuthServer,
    home: Home,
    account: String,
    now: i64,
}

/// The call at which a program is killed.
#[derive(Clone, Debug)]
pub(super) struct Death {
    when: &'static str,
    call: Call,
}

// === impl Call and Death ===

impl Call {
    pub(super) fn is_read_only(&self) -> bool {
        READ_ONLY_CALLS.contains(&self.name.as_str())
    }

    /// Whether it lists the folder of the journals.
    pub(super) fn looks_for_journals(&self) -> bool {
        self.name == "list" && self.path.ends_with(".refresh")
    }
}

impl Death {
    /// Whether the death precedes the earliest write of an answer, which is the second line of a
    /// journal.
    pub(super) fn comes_before_the_answer_is_written(&self) -> bool {
        let Call { name, path, number } = &self.call;
        let writes = name == "write" && path.ends_with(".lock");
        self.call.is_read_only() || (writes && *number == 2 && self.when == "kill-before")
    }

    pub(super) fn failpoint(&self, home: &Home) -> String {
        let Call { name, path, number } = &self.call;
        let path = path.replace('~', &home.path().to_string_lossy());
        format!("{}:{name}@{path}#{number}", self.when)
    }
}

/// Returns the recorded calls, in order.
pub(super) fn calls(record: &Path, home: &Home) -> Vec<Call> {
    let text = fs::read_to_string(record).expect("the run was recorded");
    let mut seen = BTreeMap::new();
    text.lines()
        .map(|line| {
            let (name, path) = line.split_once(' ').expect("a call and its path");
            let path = if path.ends_with(".tmp") {
                ".tmp".into()
            } else {
                path.replace(&*home.path().to_string_lossy(), "~")
            };
            let number = seen.entry((name.to_owned(), path.clone())).or_insert(0);
            *number += 1;
            Call { name: name.into(), path, number: *number }
        })
        .collect()
}

/// Returns every death in such a run that leaves a different state behind.
pub(super) fn deaths(calls: &[Call]) -> Vec<Death> {
    let full = std::env::var("THREADKEY_CRASH_MATRIX").is_ok_and(|form| form == "full");
    let mut deaths = Vec::new();
    let mut after_a_step = false;
    for call in calls {
        let counts = full || !call.is_read_only();
        if counts && !after_a_step {
            deaths.push(Death { when: "kill-before", call: call.clone() });
        }
        if counts {
            deaths.push(Death { when: "kill-after", call: call.clone() });
        }
        // Between two successive steps a program at most sends a request, and it makes a read-only
        // call before it writes.
        after_a_step = counts;
    }
    deaths
}

/// Runs the program with this fault; returns the signal that ended it, if any.
pub(super) async fn run_faulty(home: &Home, arguments: &[&str], input: &str, faults: &str) -> Option<i32> {
    let mut command = home.command(arguments);
    command.env("THREADKEY_TEST_FAILPOINTS", faults).stdin(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // The program may be killed before it reads.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.expect("the program ends");
    output.status.signal()
}

/// Runs the program to its end, and returns its calls.
pub(super) async fn record(home: &Home, arguments: &[&str], input: &str) -> Vec<Call> {
    let record = home.path().join("calls");
    let signal = run_faulty(home, arguments, input, &format!("record:{}", record.display())).await;
    assert_eq!(signal, None);
    let calls = calls(&record, home);
    assert!(calls.iter().filter(|call| !call.is_read_only()).count() > 5, "it does something: {calls:?}");
    calls
}

/// Runs the program to its death.
pub(super) async fn die(home: &Home, arguments: &[&str], input: &str, death: &Death) {
    let signal = run_faulty(home, arguments, input, &death.failpoint(home)).await;
    assert_eq!(signal, Some(9), "{death:?} was not met");
}

/// Returns the number of lines of a journal: none, the intent, or the intent and the answer.
pub(super) fn journal(home: &Home, name: &str) -> usize {
    let path = home.store().with_file_name("auth.json.refresh").join(name);
    let text = fs::read(path).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count()
}

async fn server() -> AuthServer {
    let server = AuthServer::start(authserver::Options::default()).await;
    let access_token = std::time::Duration::from_secs(3600);
    server.set_lifetimes(Lifetimes { access_token, ..Lifetimes::default() });
    server
}

// === impl User ===

impl User {
    fn new(server: &AuthServer, account: impl Into<String>) -> Self {
        let home = Home::new(&server.config_toml("acme"));
        // The clock stands still between the steps, so a slow machine meets the pauses too.
        let now = Clock::system().now();
        home.set_time(now);
        Self { server: server.clone(), home, account: account.into(), now }
    }

    /// Starts a sign-in, allows it, and returns the address to paste.
    async fn callback(&self) -> String {
        let started = self.home.run(&["auth", "start", "acme", "--json"]).await;
        assert_eq!(started.code, 0, "{started:?}");
        let started: serde_json::Value = serde_json::from_str(&started.stdout).unwrap();
        browser::sign_in(started["authorize_url"].as_str().unwrap(), &self.account).await.url
    }

    async fn paste(&self, callback: &str) -> Ended {
        self.home.run_with(&["auth", "code", "acme"], callback).await
    }

    async fn sign_in(&self) {
        let callback = self.callback().await;
        let done = self.paste(&callback).await;
        assert_eq!(done.code, 0, "{done:?}");
    }

    async fn token(&self) -> Ended {
        self.home.run(&["token", "acme"]).await
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        self.home.set_time(self.now);
    }

    async fn record(&self, arguments: &[&str], input: &str) -> Vec<Call> {
        record(&self.home, arguments, input).await
    }

    async fn die(&self, arguments: &[&str], input: &str, death: &Death) {
        die(&self.home, arguments, input, death).await;
    }

    fn journal(&self, name: &str) -> usize {
        journal(&self.home, name)
    }

    fn store(&self) -> serde_json::Value {
        let Ok(text) = fs::read(self.home.store()) else { return serde_json::Value::Null };
        serde_json::from_slice(&text).expect("the store parses, always")
    }

    fn leftovers(&self) -> usize {
        let folder = self.home.store();
        let names = fs::read_dir(folder.parent().unwrap()).unwrap();
        names.filter(|name| name.as_ref().unwrap().path().extension().is_some_and(|end| end == "tmp")).count()
    }

    fn generation(&self) -> u64 {
        self.store()["sessions"]["acme/local"]["generation"].as_u64().unwrap_or_default()
    }
}

/// Runs all cases, several at once.
pub(super) async fn each<F: Future<Output = ()> + Send + 'static>(
    deaths: Vec<Death>,
    case: impl Fn(usize, Death) -> F,
) {
    let cases = deaths.into_iter().enumerate().map(|(number, death)| tokio::spawn(case(number, death)));
    let mut ended = stream::iter(cases).buffer_unordered(AT_ONCE);
    while let Some(case) = ended.next().await {
        case.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_killed_at_any_step_spends_its_code_once_and_keeps_its_answer() {
    let server = server().await;
    let model = User::new(&server, "model");
    let callback = model.callback().await;
    let deaths = deaths(&model.record(&["auth", "code", "acme"], &callback).await);
    each(deaths, |number, death| {
        let user = User::new(&server, format!("user-{number}"));
        async move { exchange(&user, &death).await }
    })
    .await;
}

async fn exchange(user: &User, death: &Death) {
    let counts = || user.server.events().of(&user.account);
    let callback = user.callback().await;
    user.die(&["auth", "code", "acme"], &callback, death).await;
    let (sent, journal) = (counts().sign_ins, user.journal("acme%2Flocal.signin.lock"));
    let committed = user.generation() == 1;
    assert!(sent == 0 || journal > 0 || committed, "{death:?}: the request is on record");
    let next = user.token().await;
    if committed || journal == 2 {
        assert_eq!(next.code, 0, "{death:?}: the grant is there: {next:?}");
    } else {
        assert_eq!(next.code, 3, "{death:?}: {next:?}");
        let again = user.paste(&callback).await;
        if journal == 1 {
            // The code may have been sent, and its result is unknown.
            assert!(again.stderr.contains("no answer came back"), "{death:?}: {again:?}");
            user.sign_in().await;
        } else {
            assert_eq!(again.code, 0, "{death:?}: the code is as good as before: {again:?}");
        }
        assert_eq!(user.token().await.code, 0, "{death:?}");
    }
    let lost = u32::from(journal == 1 && !committed && sent == 1);
    assert!(
        lost == 0 || death.comes_before_the_answer_is_written(),
        "{death:?}: the answer was written down"
    );
    assert_eq!((counts().sign_ins, counts().reuses), (1 + lost, 0), "{death:?}");
    assert_eq!((user.leftovers(), user.generation()), (0, 1), "{death:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_killed_at_any_step_lets_the_next_caller_take_its_answer_or_refresh() {
    let server = server().await;
    let mut model = User::new(&server, "model");
    model.sign_in().await;
    model.pass(AN_HOUR);
    let deaths = deaths(&model.record(&REFRESH, "{}\n").await);
    // Each user dies at some of the steps, one after the other, in refreshes that start with an
    // empty journal.
    let queue: Vec<_> = (0..AT_ONCE)
        .map(|first| deaths.iter().skip(first).step_by(AT_ONCE).cloned().collect::<Vec<_>>())
        .enumerate()
        .map(|(number, deaths)| {
            let mut user = User::new(&server, format!("user-{number}"));
            tokio::spawn(async move {
                user.sign_in().await;
                for death in deaths {
                    user.pass(AN_HOUR);
                    refresh(&mut user, &death).await;
                }
            })
        })
        .collect();
    for user in queue {
        user.await.unwrap();
    }
}

async fn refresh(user: &mut User, death: &Death) {
    let (server, account) = (user.server.clone(), user.account.clone());
    let counts = move || server.events().of(&account);
    let (before, generation) = (counts(), user.generation());
    user.die(&REFRESH, "{}\n", death).await;
    let (sent, journal) = (counts().refreshes - before.refreshes, user.journal("acme%2Flocal.lock"));
    let committed = user.generation() == generation + 1;
    assert!(sent == 0 || journal > 0 || committed, "{death:?}: the request is on record");
    let next = user.token().await;
    if committed || journal != 1 {
        assert_eq!(next.code, 0, "{death:?}: {next:?}");
        assert_eq!(counts().refreshes, before.refreshes + 1, "{death:?}: once");
        assert_eq!(counts().reuses, before.reuses, "{death:?}");
    } else {
        let in_time = sent == 0 || death.comes_before_the_answer_is_written();
        assert!(in_time, "{death:?}: the answer was written down");
        assert_eq!(next.code, 5, "{death:?}: not followed at once: {next:?}");
        let status = user.home.run(&["auth", "status", "--json"]).await;
        assert!(status.stdout.contains("ambiguous_no_answer"), "{death:?}: {status:?}");
        assert_eq!(counts().refreshes, before.refreshes + sent, "{death:?}");
        user.pass(A_PAUSE);
        let later = user.token().await;
        if sent == 0 {
            assert_eq!((later.code, counts().reuses), (0, before.reuses), "{death:?}: {later:?}");
        } else {
            // This provider has no grace: its verdict arrives once, and a new sign-in is the only
            // remedy.
            assert_eq!(later.code, 4, "{death:?}: {later:?}");
            assert_eq!(user.token().await.code, 4, "{death:?}");
            assert_eq!(counts().reuses, before.reuses + 1, "{death:?}: one verdict is enough");
            user.sign_in().await;
        }
    }
    if user.journal("acme%2Flocal.lock") > 0 {
        // An entry about an outdated state stays until the next refresh, which drops it.
        user.pass(AN_HOUR);
    }
    assert_eq!((user.token().await.code, user.journal("acme%2Flocal.lock")), (0, 0), "{death:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_killed_at_any_step_lets_the_next_one_create_the_store() {
    const START: [&str; 4] = ["auth", "start", "acme", "--json"];
    let server = server().await;
    let calls = User::new(&server, "model").record(&START, "").await;
    assert!(calls.iter().any(|call| call.name == "mkdir"), "the folders are made too: {calls:?}");
    each(deaths(&calls), |number, death| {
        let user = User::new(&server, format!("user-{number}"));
        async move {
            user.die(&START, "", &death).await;
            user.store();
            let next = user.home.run(&START).await;
            assert_eq!(next.code, 0, "{death:?}: {next:?}");
            assert!(user.store()["pending"]["acme/local"].is_object(), "{death:?}");
            let cancelled = user.home.run(&["auth", "cancel", "acme"]).await;
            assert_eq!((cancelled.code, user.leftovers()), (0, 0), "{death:?}: {cancelled:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cleanup_of_temp_files_killed_at_any_step_is_completed_by_the_next_writer() {
    const CANCEL: [&str; 3] = ["auth", "cancel", "acme"];
    async fn with_leftovers(server: &AuthServer, account: String) -> User {
        let user = User::new(server, account);
        user.callback().await;
        for name in [".auth.json.0123456789abcdef.tmp", ".auth.json.fedcba9876543210.tmp"] {
            fs::write(user.home.store().with_file_name(name), "{\"version\": 1, \"sess").unwrap();
        }
        user
    }
    let server = server().await;
    let model = with_leftovers(&server, "model".into()).await;
    let calls = model.record(&CANCEL, "").await;
    assert_eq!(calls.iter().filter(|call| call.name == "remove").count(), 2, "{calls:?}");
    assert!(calls.iter().any(|call| call.name == "list"), "{calls:?}");
    each(deaths(&calls), |number, death| {
        let server = server.clone();
        async move {
            let user = with_leftovers(&server, format!("user-{number}")).await;
            user.die(&CANCEL, "", &death).await;
            assert!(user.store().is_object(), "{death:?}: the store is whole");
            let next = user.home.run(&["auth", "start", "acme", "--json"]).await;
            assert_eq!(next.code, 0, "{death:?}: {next:?}");
            let next = user.home.run(&CANCEL).await;
            assert!(next.stderr.contains("is cancelled"), "{death:?}: {next:?}");
            assert_eq!(user.leftovers(), 0, "{death:?}");
        }
    })
    .await;
}
