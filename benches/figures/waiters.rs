//! Processes that wait for another process's commit: how soon each holds the new token, and the
//! cost of the wait.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use threadkey::{
    secret::{AccessToken, RefreshToken},
    session::{Applied, Grant, Session, Settlement},
    store::{Purpose, Store, TenantLock},
};
use tokio::runtime::Builder;

use crate::lab::{Lab, Token, median, open, tenant};

/// The argument that makes this program a waiting process.
pub(crate) const ROLE: &str = "__wait";

const WAITERS: usize = 63;
const ROUNDS: u32 = 9;

/// How long the processes wait before the commit.
const CALM: Duration = Duration::from_millis(500);

pub(crate) fn measure() {
    let mut held = Vec::new();
    let mut last = Vec::new();
    let mut cpu = Vec::new();
    for _ in 0..ROUNDS {
        let (mut times, costs) = round();
        times.sort();
        held.push(times[times.len() / 2]);
        last.push(times[times.len() - 1]);
        cpu.extend(costs);
    }
    println!(
        "| {WAITERS} processes wait: the median one holds the token after the commit | {:.2?} | goal: 10 ms | {:.2} |",
        median(held.clone()),
        median(held).as_secs_f64() / 0.010
    );
    println!(
        "| … the last one | {:.2?} | goal: 10 ms | {:.2} |",
        median(last.clone()),
        median(last).as_secs_f64() / 0.010
    );
    let cpu = median(cpu);
    println!(
        "| … CPU of each, from waiting on to holding the token | {cpu:.2?} | the wait: {CALM:.2?} | {:.4} |",
        cpu.as_secs_f64() / CALM.as_secs_f64()
    );
}

/// Returns, for each waiting process, the time from the commit to its token, and its CPU time
/// during the wait.
fn round() -> (Vec<Duration>, Vec<Duration>) {
    let lab = Lab::new();
    lab.fill(1, Token::Expired);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = lab.store();
    let (mut lock, session) = runtime.block_on(async {
        let lock = store.try_lock(&tenant(), Purpose::Refresh).await.expect("lockable").expect("free");
        (lock, store.read(&tenant()).await.expect("readable").session.expect("a session"))
    });
    let mut children: Vec<_> = (0..WAITERS).map(|_| start(&lab.path())).collect();
    for (_, out) in &mut children {
        assert_eq!(line(out), "waiting");
    }
    std::thread::sleep(CALM);
    runtime.block_on(commit(&mut lock, &session));
    let committed = since_1970();
    drop(lock);
    let reported = children.into_iter().map(|(mut child, mut out)| {
        let line = line(&mut out);
        child.wait().expect("it ends");
        let (at, cpu) = line.split_once(' ').expect("two numbers");
        let nanos = |text: &str| Duration::from_nanos(text.parse().expect("a number"));
        (nanos(at).saturating_sub(committed), nanos(cpu))
    });
    reported.unzip()
}

async fn commit(lock: &mut TenantLock, session: &Session) {
    let grant = Grant {
        access_token: AccessToken::new("access-2"),
        refresh_token: Some(RefreshToken::new("refresh-2")),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(Duration::from_secs(3600)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    };
    let target = session.refresh_target().expect("a refresh token");
    let change = Settlement::Refreshed { target, grant: Box::new(grant) };
    assert_eq!(lock.settle(change).await.expect("writable").applied, Applied::Done);
}

type Out = BufReader<std::process::ChildStdout>;

fn start(path: &Path) -> (Child, Out) {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child =
        Command::new(program).arg(ROLE).arg(path).stdout(Stdio::piped()).spawn().expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    (child, out)
}

fn line(out: &mut Out) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

/// A waiting process. It reports when it waits, and when it holds a token of a later generation.
pub(crate) fn wait(path: &Path) {
    let store = open(path.to_owned());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let read =
            async || store.read(&tenant()).await.expect("readable").session.expect("a session").generation;
        let before = read().await;
        print_now("waiting");
        let cpu = cpu();
        while read().await == before {
            store.wait_unlocked(&tenant()).await.expect("the lock");
        }
        let held = since_1970();
        print_now(&format!("{} {}", held.as_nanos(), self::cpu().saturating_sub(cpu).as_nanos()));
    });
}

fn print_now(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).expect("the parent reads it");
}

/// The time on a clock that all processes share.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// The CPU time of all threads of this process, where the system reports it.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
