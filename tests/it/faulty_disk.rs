//! A disk that fails at any one call of a refresh, a sign-in or a logout: nothing is spent that
//! cannot be saved, and nothing is lost.
//!
//! Each case has its own user, its own program and one fault. Either its N-th call fails once, or
//! all calls from it on fail until the disk recovers. A run on a healthy disk counts the calls, so
//! that each call has its turn.

mod case;
mod disk;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use threadkey::{
    broker::{FinishError, Finished, GrantEnd, LogoutError, Revocation, TokenError},
    oauth::Pasted,
};

use self::case::{Case, Rig};
use crate::support::browser;

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

/// The number of cases that run at once.
const AT_ONCE: usize = 16;

/// Runs `case` with each error at each of the calls that it makes without a fault.
async fn at_each_call<F: Future<Output = u64> + Send + 'static>(case: impl Fn(Case, u64, &'static str) -> F) {
    run(case, |calls| ERRORS.iter().flat_map(|error| (1..=calls).map(move |call| (*error, call))).collect())
        .await;
}

/// Runs `case` at each of the calls that it makes without a fault, with one error after the other.
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
        // Each case is a task, so that both processors work.
        tokio::spawn(case(rig.case(number, errno), call, hint))
    });
    let mut ended = stream::iter(running).buffer_unordered(AT_ONCE);
    while let Some(case) = ended.next().await {
        case.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_on_a_failing_disk_spends_nothing_unsaved_and_the_next_one_continues() {
    at_each_call(|case, call, hint| async move {
        case.sign_in().await;
        let before = case.session().await;
        case.clock.advance(3600);
        case.fail_at(call);
        let first = case.broker.token(&case.tenant, MINUTE).await;
        case.broker.drained().await;
        let calls = case.disk.calls();
        case.recover();
        if let Err(error) = &first {
            case.expect_actionable(&error.to_string(), hint);
            case.expect_untouched(&before, call).await;
        }
        let next = case.broker.token(&case.tenant, MINUTE).await.unwrap();
        case.expect_one_refresh(first, &next, call).await;
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_on_a_failing_disk_spends_its_code_once_and_the_next_try_finishes_it() {
    at_each_call(|case, call, hint| async move {
        case.fail_at(call);
        let started = match case.broker.start(&case.tenant, case.principal).await {
            Ok(started) => started,
            Err(error) => {
                case.expect_actionable(&error.to_string(), hint);
                case.broker.start(&case.tenant, case.principal).await.unwrap()
            }
        };
        let callback = case.callback(&started).await;
        if let Err(error) = case.finish(&callback).await {
            case.expect_actionable(&error.to_string(), hint);
            case.finish(&callback).await.unwrap();
        }
        let calls = case.disk.calls();
        case.recover();
        case.expect_one_sign_in(call).await;
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_on_a_disk_that_keeps_failing_spends_nothing_or_is_kept_until_saved() {
    at_each_call_in_turn(|case, call, hint| async move {
        case.sign_in().await;
        let before = case.session().await;
        case.clock.advance(3600);
        case.fail_from(call);
        let (broker, tenant) = (case.broker.clone(), case.tenant.clone());
        let first = case.run_until_recovery(async move { broker.token(&tenant, MINUTE).await }).await;
        let calls = case.disk.calls();
        case.broker.drained().await;
        if let Err(error) = &first {
            assert!(error.to_string().contains(hint), "{call}: the error names no remedy: {error}");
            case.expect_untouched(&before, call).await;
        }
        let mut next = case.broker.token(&case.tenant, MINUTE).await;
        if let (Err(_), Err(TokenError::Unavailable { code, .. })) = (&first, &next) {
            // An intent that could not be taken back counts as sent, and that costs a pause.
            assert_eq!(code, "ambiguous_no_answer", "{call}");
            case.clock.advance(10);
            next = case.broker.token(&case.tenant, MINUTE).await;
        }
        case.expect_one_refresh(first, &next.unwrap(), call).await;
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_on_a_disk_that_keeps_failing_spends_nothing_or_keeps_its_answer() {
    at_each_call_in_turn(|case, call, hint| async move {
        let started = case.broker.start(&case.tenant, case.principal).await.unwrap();
        let callback = case.callback(&started).await;
        case.fail_from(call);
        let (broker, principal, pasted) =
            (case.broker.clone(), case.principal, Pasted::parse(&callback).unwrap());
        let finished =
            case.run_until_recovery(async move { broker.finish(principal, None, pasted).await }).await;
        let calls = case.disk.calls();
        if let Err(error) = finished {
            assert!(error.to_string().contains(hint), "{call}: the error names no remedy: {error}");
            if let Err(FinishError::CodeSpent(_)) = case.finish(&callback).await {
                // An intent that could not be taken back counts as sent, so the user has to follow
                // the link again.
                assert_eq!(case.counts().sign_ins, 0, "{call}");
                let again = case.broker.start(&case.tenant, case.principal).await.unwrap();
                case.finish(&case.callback(&again).await).await.unwrap();
            }
        }
        case.expect_one_sign_in(call).await;
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_on_a_failing_disk_is_done_or_reported_and_never_half_done() {
    at_each_call(|case, call, hint| async move {
        case.sign_in().await;
        let before = case.session().await;
        case.fail_at(call);
        let done = case.broker.logout(&case.tenant, Revocation::Keep).await;
        let calls = case.disk.calls();
        case.recover();
        match done {
            Ok(_) => {}
            Err(error) => {
                case.expect_actionable(&error.to_string(), hint);
                let (failed_call, _) = case.disk.failed_call().unwrap();
                let left = case.session().await;
                // The rename is done and its fsync failed, so it may still be undone; therefore it
                // is reported as an error.
                assert!(
                    left == before || (left.is_none() && failed_call == "fsync-folder"),
                    "{call}: {failed_call}"
                );
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
async fn a_choice_on_a_failing_disk_is_made_or_reported_and_so_is_its_revocation() {
    for choice in ["switch", "keep"] {
        at_each_call(move |case, call, hint| async move {
            case.sign_in().await;
            let other = format!("other-{}", case.account);
            let started = case.broker.start(&case.tenant, case.principal).await.unwrap();
            let callback = browser::sign_in(started.link().unwrap().as_str(), &other).await;
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
            case.recover();
            let grant = match chosen {
                Ok(grant) => grant,
                Err(error) => {
                    case.expect_actionable(&error.to_string(), hint);
                    choose().await.unwrap()
                }
            };
            let account = case.session().await.unwrap().account;
            let holds = if choice == "switch" { &other } else { &case.account };
            assert_eq!(
                account,
                Some(format!("{holds}@example.com")),
                "{call}: {:?}",
                case.disk.failed_call()
            );
            let revoked = case.server.events().of(&other).revoked;
            assert_eq!(
                revoked == 1,
                grant == Some(GrantEnd::Revoked),
                "{call}: {:?}",
                case.disk.failed_call()
            );
            assert!(call > 0 || choice == "switch" || revoked == 1, "without an error it is revoked");
            assert_eq!(case.store.read(&case.tenant).await.unwrap().candidate, None);
            calls
        })
        .await;
    }
}
