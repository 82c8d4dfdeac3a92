//! Storms: many processes on a few sessions at oidc-provider, which rotates strictly, over several
//! expiries.
//!
//! # Faults
//!
//! - *Callers* are killed at random moments, alone or with their process group, in every other
//!   round. A caller is a `threadkey token`; the refresh runs in another process.
//! - In the second storm *senders* are killed too, at a failpoint before or after any step of a
//!   refresh.
//!
//! # Invariants
//!
//! - Deaths of callers cost nothing: each session has as many refreshes as expiries, no refresh
//!   token is used twice, and every surviving caller prints the stored token.
//! - The death of a sender with its request in progress is on record before another process sends,
//!   and callers get it reported. A refresh token is used a second time only after that. In each
//!   case the next callers continue unaided: to a token, or to the provider's verdict and a new
//!   sign-in.
//!
//! `THREADKEY_STORM=full` makes the first storm 64 processes × 10 expiries × 4 sessions, and the
//! second longer. `THREADKEY_STORM_SEED` repeats a run as far as the machine's scheduling allows.
//! The seed is printed.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tokio::process::Child;

use crate::support::{
    browser,
    oidc::{Oidc, OidcOptions},
    program::{Ended, Home, signal_process},
    random::Random,
};

/// One hour by the program's clock; oidc-provider's own clock moves by minutes at most.
const AN_HOUR: i64 = 3600;

/// The start of the storms, by the program's clock.
const BEGIN: i64 = 1_795_358_672;

/// The accounts that sign in, each for its own principal.
const ACCOUNTS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// The variable that repeats a run.
const SEED: &str = "THREADKEY_STORM_SEED";

fn is_full() -> bool {
    std::env::var("THREADKEY_STORM").is_ok_and(|form| form == "full")
}

/// A number below `bound`.
fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap()
}

/// Starts the provider and signs these accounts in.
async fn signed_in(logins: usize) -> (Oidc, Home) {
    let options = OidcOptions { access_token_ttl: Duration::from_secs(3600), ..OidcOptions::default() };
    let oidc = Oidc::start(options).await;
    let home = Home::new(&oidc.config_toml("acme"));
    home.set_time(BEGIN);
    for login in 0..logins {
        sign_in(&home, login).await;
    }
    (oidc, home)
}

fn principal(login: usize) -> String {
    format!("user:{}", 803 + login)
}

async fn sign_in(home: &Home, login: usize) {
    let user = principal(login);
    let started = home.run(&["auth", "start", "acme", "--json", "--as", &user]).await;
    assert_eq!(started.code, 0, "{started:?}");
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), ACCOUNTS[login]).await;
    let done = home.run_with(&["auth", "code", "acme", "--as", &user], &callback.url).await;
    assert_eq!(done.code, 0, "{done:?}");
}

async fn request_token(home: &Home, login: usize) -> Ended {
    home.run(&["token", "acme", "--as", &principal(login)]).await
}

fn stored_token(home: &Home, login: usize) -> String {
    let document: Value = serde_json::from_str(&std::fs::read_to_string(home.store()).unwrap()).unwrap();
    document["sessions"][format!("acme/{}", principal(login))]["access_token"].as_str().unwrap().to_owned()
}

/// Kills a process, or its whole group, after a random time; returns whether it was still alive.
async fn kill_later(mut child: Child, after: Duration, group: bool) -> bool {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    // The moment is random by the real clock; no assertion depends on it.
    tokio::time::sleep(after).await;
    if !matches!(child.try_wait(), Ok(Some(_))) {
        signal_process(if group { -id } else { id }, 9);
    }
    child.wait().await.unwrap().code().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_refresh_once_per_expiry_whichever_callers_die() {
    let (processes, expiries, logins) = if is_full() { (64, 10, 4) } else { (16, 3, 2) };
    let mut random = Random::from_variable(SEED);
    let (oidc, home) = signed_in(logins).await;
    // The delay is long enough for some callers to die while the request is in progress.
    oidc.set_token_delay(Duration::from_millis(150)).await;
    let mut deaths = 0;
    for round in 1..=expiries {
        home.set_time(BEGIN + round * (AN_HOUR + 60));
        let mut asking = Vec::new();
        let mut dying = Vec::new();
        for process in 0..processes * logins {
            let login = process % logins;
            let user = principal(login);
            let child = home.command(&["token", "acme", "--as", &user]).process_group(0).spawn().unwrap();
            // The first caller of each session lives, so that a refresh is requested.
            if round % 2 == 0 && process >= logins && below(&mut random, 2) == 0 {
                let after = Duration::from_millis(below(&mut random, 400) as u64);
                dying.push(tokio::spawn(kill_later(child, after, below(&mut random, 2) == 0)));
            } else {
                asking.push((login, child));
            }
        }
        let mut tokens: Vec<BTreeSet<String>> = vec![BTreeSet::new(); logins];
        for (login, child) in asking {
            let output = child.wait_with_output().await.unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "round {round}, {}: {stderr}", ACCOUNTS[login]);
            tokens[login].insert(String::from_utf8(output.stdout).unwrap().trim_end().to_owned());
        }
        for killed in dying {
            deaths += u32::from(killed.await.unwrap());
        }
        for (login, tokens) in tokens.iter().enumerate() {
            assert_eq!(*tokens, BTreeSet::from([stored_token(&home, login)]), "round {round}: the newest");
        }
        let events = oidc.events().await;
        for account in &ACCOUNTS[..logins] {
            let counts = events.of(account);
            assert_eq!(
                (i64::from(counts.refreshes), counts.reuses, counts.failed),
                (round, 0, 0),
                "{account}"
            );
        }
    }
    println!("callers: {deaths} died");
    let total = oidc.events().await.total;
    assert_eq!((i64::from(total.refreshes), total.reuses, total.revoked), (expiries * logins as i64, 0, 0));
}

/// The steps at which a sender may die. Only after the fourth is the provider's result unknown.
const FAILPOINTS: [&str; 9] = [
    "kill-after:try-lock@803.lock",
    "kill-before:write@803.lock",
    "kill-before:reserve@803.lock",
    "kill-before:write@803.lock#2",
    "kill-after:write@803.lock#2",
    "kill-after:fsync@803.lock#2",
    "kill-before:rename",
    "kill-after:rename",
    "kill-before:truncate@803.lock",
];

const LOSS: usize = 3;

#[tokio::test]
async fn senders_killed_at_any_step_leave_their_losses_on_record_and_nothing_stuck() {
    let rounds = if is_full() { 60 } else { 6 };
    let mut random = Random::from_variable(SEED);
    let (oidc, home) = signed_in(1).await;
    let mut now = BEGIN;
    let (mut losses, mut refreshes) = (0, 0);
    for round in 0..rounds {
        now += AN_HOUR + 60;
        home.set_time(now);
        // Each run has at least one loss and one other death; the rest is random.
        let first = if round == 0 { LOSS } else { below(&mut random, FAILPOINTS.len()) };
        let asking: Vec<Child> = (0..6)
            .map(|caller| {
                let mut command = home.command(&["token", "acme", "--as", &principal(0)]);
                if caller < 3 {
                    let failpoint = if caller == 0 { first } else { below(&mut random, FAILPOINTS.len()) };
                    command.env("THREADKEY_TEST_FAILPOINTS", FAILPOINTS[failpoint]);
                }
                command.spawn().unwrap()
            })
            .collect();
        for child in asking {
            let output = child.wait_with_output().await.unwrap();
            assert!(matches!(output.status.code(), Some(0 | 4 | 5)), "round {round}: {output:?}");
        }
        if is_refreshed(&home, &mut now).await {
            refreshes += 1;
            assert_eq!(
                request_token(&home, 0).await.stdout.trim_end(),
                stored_token(&home, 0),
                "round {round}"
            );
        } else {
            losses += 1;
            sign_in(&home, 0).await;
        }
        let counts = oidc.events().await.of(ACCOUNTS[0]);
        assert_eq!(counts.reuses, losses, "round {round}: a second use only after a loss on record");
    }
    println!("senders: {losses} losses, {refreshes} refreshes in {rounds} rounds");
}

/// Lets the next callers continue until there is a token (true) or the provider's verdict (false).
/// A verdict counts only if the uncertainty about the refresh token was on record before it.
async fn is_refreshed(home: &Home, now: &mut i64) -> bool {
    let mut on_record = false;
    for _ in 0..5 {
        let status = home.run(&["auth", "status", "--json", "--as", &principal(0)]).await;
        on_record |= status.stdout.contains("ambiguous_");
        let result = request_token(home, 0).await;
        on_record |= result.stderr.contains("ambiguous_");
        match result.code {
            0 => return true,
            4 => {
                assert!(on_record, "a loss that was on no record: {result:?}, {status:?}");
                assert!(result.stderr.contains("sign in again"), "{result:?}");
                return false;
            }
            5 => {}
            _ => panic!("{result:?}"),
        }
        // Longer than the longest pause after a few tries.
        *now += 30;
        home.set_time(*now);
    }
    panic!("stuck: no token and no verdict");
}
