//! Clocks that step by four hours either way, providers that tell no lifetime, and processes that are suspended in the middle
//! of something.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::time::Duration;

use serde_json::{Value, json};
use threadkey::{
    broker::{FinishError, TokenError},
    oauth::Pasted,
};

use crate::{
    broker::{ALICE, MINUTE, NOW, Rig, tenant},
    support::{
        authserver::{AuthServer, Reply},
        browser,
        program::{Home, signal_process},
    },
};

const FOUR_HOURS: i64 = 4 * 3600;

#[tokio::test]
async fn a_clock_step_ends_a_started_sign_in_in_words_and_blocks_no_new_one() {
    for step in [-FOUR_HOURS, FOUR_HOURS] {
        let rig = Rig::start().await;
        let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
        let callback = browser::sign_in(started.authorize_url.as_str(), "alice").await;
        rig.clock.advance(step);
        let late = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
        assert!(matches!(late, FinishError::Expired(_)), "{step}: {late}");
        let again = rig.another().start(&tenant(ALICE), ALICE).await.unwrap();
        assert!(!again.resumed && again.authorize_url != started.authorize_url, "{step}");
        rig.sign_in(ALICE, "alice").await;
        assert_eq!(rig.another().token(&tenant(ALICE), MINUTE).await.unwrap().generation, 1, "{step}");
    }
}

#[tokio::test]
async fn a_clock_step_ends_a_pause_instead_of_stretching_it() {
    for step in [-FOUR_HOURS, FOUR_HOURS] {
        let rig = Rig::start().await;
        rig.sign_in(ALICE, "alice").await;
        let refused = rig.session(ALICE).await.access_token;
        rig.server.script([Reply::Status(503).retry_after(600)]);
        let error = rig.broker.rejected(&tenant(ALICE), &refused).await.unwrap_err();
        assert!(matches!(error, TokenError::Unavailable { .. }), "{step}: {error}");
        rig.clock.advance(step);
        let renewed = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_ne!(renewed.access_token, refused, "{step}");
        assert_eq!(rig.session(ALICE).await.retry, None, "{step}");
    }
}

#[tokio::test]
async fn a_clock_step_does_not_stop_a_refused_token_from_being_replaced() {
    for step in [-FOUR_HOURS, FOUR_HOURS] {
        let rig = Rig::start().await;
        rig.sign_in(ALICE, "alice").await;
        let first = rig.session(ALICE).await.access_token;
        let second = rig.broker.rejected(&tenant(ALICE), &first).await.unwrap().access_token;
        rig.clock.advance(step);
        let third = rig.another().rejected(&tenant(ALICE), &second).await.unwrap().access_token;
        assert_ne!(third, second, "{step}");
        assert_eq!(rig.server.events().total.refreshes, 2, "{step}");
    }
}

#[tokio::test]
async fn a_clock_that_steps_to_and_fro_causes_one_refresh_for_each_end_and_no_more() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let refreshes = |rig: &Rig| rig.server.events().total.refreshes;
    for (now, expected) in
        [(NOW - FOUR_HOURS, 0), (NOW, 0), (NOW + FOUR_HOURS, 1), (NOW, 1), (NOW + FOUR_HOURS + 3600, 2)]
    {
        rig.clock.set(now);
        for _ in 0..5 {
            let other = rig.another();
            other.token(&tenant(ALICE), MINUTE).await.unwrap();
            other.drained().await;
        }
        assert_eq!(refreshes(&rig), expected, "at {}", now - NOW);
    }
    assert_eq!(rig.server.events().total.reuses, 0);
}

#[tokio::test]
async fn a_lifetime_of_zero_or_none_counts_as_an_hour_and_causes_no_request_after_request() {
    let edits: [fn(&mut Value); 3] = [
        |body| body["expires_in"] = json!(0),
        |body| body["expires_in"] = json!("0"),
        |body| drop(body.as_object_mut().and_then(|members| members.remove("expires_in"))),
    ];
    for edit in edits {
        let rig = Rig::start().await;
        rig.sign_in(ALICE, "alice").await;
        rig.expire();
        rig.server.script([Reply::Edit(edit)]);
        let lease = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(lease.expires_in, Duration::from_secs(3600));
        for _ in 0..10 {
            rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        }
        assert_eq!(rig.server.events().total.refreshes, 1);
    }
}

#[tokio::test]
async fn tokens_of_a_few_seconds_are_each_used_for_half_of_their_lives() {
    for lifetime in [1, 2, 5, 10] {
        let rig = Rig::start().await;
        rig.sign_in(ALICE, "alice").await;
        rig.expire();
        for n in 1..=3 {
            let body = json!({"access_token": format!("short-{n}"), "expires_in": lifetime});
            rig.server.script([Reply::Json(200, body)]);
            let sent = rig.server.count();
            for _ in 0..10 {
                let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
                assert_eq!(lease.access_token.expose(), format!("short-{n}"), "{lifetime} s");
            }
            assert_eq!(rig.server.count(), sent + 1, "{lifetime} s");
            rig.clock.advance(lifetime);
        }
    }
}

// === suspended processes ===

/// Signed in with the embedded server, the access token ended, and the provider keeps its answers back.
async fn held() -> (AuthServer, Home) {
    let server = crate::town::authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), "alice").await;
    assert_eq!(home.run_with(&["auth", "code", "acme"], &callback.url).await.code, 0);
    home.set_offset(3600);
    server.hold();
    (server, home)
}

/// Waits until as many detached processes refresh in this folder, and gives their ids in order of their birth.
async fn refreshing(home: &Home, count: usize) -> Vec<i32> {
    let look = async {
        loop {
            let found = detached(home);
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), look).await;
    found.unwrap_or_else(|_| panic!("waited in vain for {count} refreshing processes"))
}

fn detached(home: &Home) -> Vec<i32> {
    let folder = home.path().to_string_lossy().into_owned();
    let ids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let refreshes = |id: &i32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(&folder) && line.contains("__refresh")
    };
    let mut found: Vec<i32> = ids.filter(refreshes).collect();
    found.sort_unstable();
    found
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_sender_suspended_in_mid_refresh_goes_on_after_hours_and_nobody_sends_a_second_request() {
    let (server, home) = held().await;
    let caller = home.command(&["token", "acme"]).spawn().unwrap();
    server.wait_for_held(1).await;
    let sender = refreshing(&home, 1).await[0];
    signal_process(sender, 19);
    server.release();
    let waiter = home.command(&["token", "acme"]).spawn().unwrap();
    refreshing(&home, 2).await;
    home.set_offset(3600 + 60);
    let status = home.run(&["auth", "status", "--json"]).await;
    assert!(status.stdout.contains(r#""state":"expired""#), "reading waits for nobody: {status:?}");
    assert_eq!(server.count(), 2, "the exchange of the code and one refresh");
    signal_process(sender, 18);
    let (caller, waiter) = tokio::join!(caller.wait_with_output(), waiter.wait_with_output());
    let (caller, waiter) = (caller.unwrap(), waiter.unwrap());
    assert!(caller.status.success() && waiter.status.success(), "{caller:?} {waiter:?}");
    assert_eq!(caller.stdout, waiter.stdout);
    let events = server.events().total;
    assert_eq!((events.refreshes, events.reuses), (1, 0));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_suspended_waiter_holds_up_nobody_and_has_the_new_token_when_it_wakes() {
    let (server, home) = held().await;
    let caller = home.command(&["token", "acme"]).spawn().unwrap();
    server.wait_for_held(1).await;
    let sender = refreshing(&home, 1).await[0];
    let waiter = home.command(&["token", "acme"]).spawn().unwrap();
    let sleeper = refreshing(&home, 2).await.into_iter().find(|id| *id != sender).unwrap();
    signal_process(sleeper, 19);
    server.release();
    let caller = caller.wait_with_output().await.unwrap();
    assert!(caller.status.success(), "{caller:?}");
    let next = home.run(&["token", "acme"]).await;
    assert_eq!((next.code, next.stdout.as_bytes()), (0, &caller.stdout[..]));
    signal_process(sleeper, 18);
    let waiter = waiter.wait_with_output().await.unwrap();
    assert!(waiter.status.success(), "{waiter:?}");
    assert_eq!(waiter.stdout, caller.stdout);
    let events = server.events().total;
    assert_eq!((events.refreshes, events.reuses), (1, 0));
}
