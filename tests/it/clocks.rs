//! Clocks that step by four hours either way, and providers that send no lifetime or a very short
//! one.

use serde_json::{Value, json};
use threadkey::{
    broker::{FinishError, TokenError},
    ids::{Principal, Snowflake},
    oauth::Pasted,
    session::UNKNOWN_EXPIRY,
    sys::clock::Clock,
};

use crate::{
    broker::{ALICE, BOB, MINUTE, NOW, Rig, open, settings, tenant, with_settings},
    support::{authserver::Reply, browser},
};

const FOUR_HOURS: i64 = 4 * 3600;
const CAROL: Principal = Principal::User(Snowflake(7));

#[tokio::test]
async fn a_clock_step_expires_a_started_sign_in_and_blocks_no_new_one() {
    for step in [-FOUR_HOURS, FOUR_HOURS] {
        let rig = Rig::start().await;
        let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
        rig.clock.advance(step);
        let late = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
        assert!(matches!(late, FinishError::Expired(..)), "{step}: {late}");
        let again = rig.another().start(&tenant(ALICE), ALICE).await.unwrap();
        assert!(!again.resumed && again.link().unwrap() != started.link().unwrap(), "{step}");
        rig.sign_in(ALICE, "alice").await;
        assert_eq!(rig.another().token(&tenant(ALICE), MINUTE).await.unwrap().generation, 1, "{step}");
    }
}

#[tokio::test]
async fn a_process_whose_clock_is_hours_off_drops_no_sign_in_of_others() {
    for step in [-FOUR_HOURS, FOUR_HOURS] {
        let rig = Rig::start().await;
        rig.sign_in(ALICE, "alice").await;
        rig.finish_as(ALICE, "bob").await;
        let waiting = rig.broker.undecided(&tenant(ALICE)).await.unwrap().expect("bob waits for a choice");
        let started = rig.broker.start(&tenant(BOB), BOB).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), "bea").await;
        let wrong = Clock::fixed(NOW + step);
        let other = with_settings(settings(&rig.server), open(&rig.path, &wrong), &wrong);
        // It writes, looks for choices that have expired, and writes a sign-in of its own.
        other.start(&tenant(CAROL), CAROL).await.unwrap();
        other.expire_undecided().await.unwrap();
        other.cancel(CAROL, None).await.unwrap();
        other.expire_undecided().await.unwrap();
        other.drained().await;
        let paste = Pasted::parse(&callback.url).unwrap();
        rig.broker.finish(BOB, None, paste).await.unwrap_or_else(|error| panic!("{step}: {error}"));
        rig.broker.switch(&tenant(ALICE), waiting.lineage).await.unwrap();
        assert_eq!(rig.server.events().total.revoked, 0, "{step}");
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
        let refreshed = rig.another().rejected(&tenant(ALICE), &refused).await.unwrap();
        assert_ne!(refreshed.access_token, refused, "{step}");
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
async fn a_clock_that_steps_back_and_forth_causes_one_refresh_per_step() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let refreshes = |rig: &Rig| rig.server.events().total.refreshes;
    // After a step back the rest of the token's life is unknown. After a step forward the token has
    // expired.
    for (now, expected) in
        [(NOW, 0), (NOW - FOUR_HOURS, 1), (NOW, 2), (NOW + FOUR_HOURS, 3), (NOW, 4), (NOW + 60, 4)]
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
async fn a_lifetime_of_zero_or_none_is_unknown_and_causes_no_refresh_loop() {
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
        assert_eq!(lease.expires_at, UNKNOWN_EXPIRY);
        for _ in 0..10 {
            rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        }
        assert_eq!(rig.server.events().total.refreshes, 1);
    }
}

#[tokio::test]
async fn tokens_of_a_few_seconds_are_each_used_for_half_of_their_life() {
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
