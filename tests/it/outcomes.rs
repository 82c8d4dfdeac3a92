//! The outcome table, from the wire to the store: for each shape in which providers answer a refresh, how many requests go
//! out, what callers in two processes are told, and what is on record afterwards.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};
use threadkey::{
    broker::{Event, RefreshState, TokenError},
    session::{
        RetryKind,
        journal::{Answer, Intent, Spending},
    },
    store::{FileStore, FileStoreOptions, Purpose},
    sys::{disk::RealDisk, faults::Faults},
};

use crate::{
    broker::{ALICE, MINUTE, Rig, tenant},
    support::{authserver::Reply, program::Home},
};

/// Signed in, and the access token has ended.
async fn expired(grace: Duration) -> Rig {
    let rig = Rig::with(grace).await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig
}

/// Two processes ask at expiry. Gives what each was told, and how many requests that took.
async fn told(rig: &Rig) -> ([TokenError; 2], u64) {
    let before = rig.server.count();
    let first = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    let second = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    ([first, second], rig.server.count() - before)
}

/// This answer ends the session under this word: one request, and none after it by anybody, until a new sign-in.
async fn ends(reply: Reply, word: &str) {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([reply]);
    let (errors, requests) = told(&rig).await;
    for error in &errors {
        assert!(matches!(error, TokenError::Ended { code, .. } if code == word), "{word}: {error}");
    }
    assert_eq!(requests, 1, "{word}");
    let kept = rig.session(ALICE).await;
    assert_eq!(kept.refresh_token, before.refresh_token, "{word}: nothing is deleted");
    let ended = kept.ended.unwrap();
    assert_eq!((ended.code.as_str(), ended.at), (word, rig.clock.now()));
    assert!(ended.fingerprint.matches(&before.refresh_token.unwrap().fingerprint()), "{word}");
    rig.clock.advance(86_400);
    assert_eq!(told(&rig).await.1, 0, "{word}: a verdict is not asked for again");
    rig.sign_in(ALICE, "alice").await;
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.session(ALICE).await.ended, None, "{word}: a sign-in clears it");
}

/// This answer holds everybody back for so long, under this word: one request until then, one that works after it.
async fn holds_back(reply: impl FnOnce(i64) -> Reply, word: &str, seconds: std::ops::RangeInclusive<i64>) {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([reply(rig.clock.now())]);
    let (errors, requests) = told(&rig).await;
    for error in &errors {
        assert!(matches!(error, TokenError::Unavailable { code, .. } if code == word), "{word}: {error}");
    }
    assert_eq!(requests, 1, "{word}: it holds for all processes");
    let kept = rig.session(ALICE).await;
    let retry = kept.retry.unwrap();
    assert_eq!((retry.kind(), retry.attempts), (RetryKind::Unspent, 1), "{word}");
    let pause = retry.not_before - rig.clock.now();
    assert!(seconds.contains(&pause), "{word}: {pause} s");
    assert_eq!((kept.refresh_token, kept.generation, kept.ended), (before.refresh_token, 1, None), "{word}");
    rig.clock.set(retry.not_before - 1);
    assert_eq!(told(&rig).await.1, 0, "{word}: not a second too early");
    rig.clock.set(retry.not_before);
    let before = rig.server.count();
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.server.count() - before, 1, "{word}");
    assert_eq!(rig.session(ALICE).await.retry, None, "{word}");
    assert_eq!(rig.server.events().total.reuses, 0, "{word}");
}

/// What the one further request, once the access token has ended, comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The first one had not been processed.
    Renewed,
    /// The provider had rotated, and takes the second one for theft.
    Ended,
}

/// This answer leaves it open whether the refresh token was spent: on record under this word, told in status, one request
/// and no other while the access token works.
async fn is_uncertain(reply: Reply, word: &str, then: Then) {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let before = rig.session(ALICE).await;
    rig.clock.advance(2700);
    rig.server.script([reply]);
    let sent = rig.server.count();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.broker.drained().await;
    for age in [2700, 3000, 3599] {
        rig.clock.set(before.issued_at + age);
        let other = rig.another();
        let lease = other.token(&tenant(ALICE), MINUTE).await.unwrap();
        other.drained().await;
        assert_eq!(lease.access_token, before.access_token, "{word}");
    }
    assert_eq!(rig.server.count(), sent + 1, "{word}: no blind replay");
    let kept = rig.session(ALICE).await;
    assert_eq!(
        (&kept.refresh_token, kept.generation, &kept.ended),
        (&before.refresh_token, 1, &None),
        "{word}"
    );
    let status = rig.another().status(&[ALICE]).await.unwrap().remove(0);
    assert_eq!(status.refresh, RefreshState::Uncertain(word.into()));
    rig.clock.set(before.issued_at + 3600);
    let asked = rig.another().token(&tenant(ALICE), MINUTE).await;
    assert_eq!(rig.server.count(), sent + 2, "{word}: only now there is no other way");
    match then {
        Then::Renewed => assert_eq!(asked.unwrap().generation, 2, "{word}"),
        Then::Ended => {
            let error = asked.unwrap_err();
            assert!(matches!(&error, TokenError::Ended { code, .. } if code == "invalid_grant"), "{error}");
        }
    }
}

fn raw(status: u16, content_type: &str, body: &str) -> Reply {
    let headers = vec![("content-type".into(), content_type.into())];
    Reply::Raw { status, headers, body: body.into() }
}

// === ended ===

#[tokio::test]
async fn invalid_grant_as_rfc_6749_has_it_ends_the_session() {
    let body = json!({"error": "invalid_grant", "error_description": "Token is not active"});
    ends(Reply::Json(400, body), "invalid_grant").await;
}

#[tokio::test]
async fn a_reused_token_told_by_a_nested_code_ends_the_session() {
    let error =
        json!({"message": "already used", "type": "invalid_request_error", "code": "refresh_token_reused"});
    ends(Reply::Json(401, json!({"error": error})), "refresh_token_reused").await;
}

#[tokio::test]
async fn a_verdict_told_by_a_nested_type_ends_the_session() {
    let body = json!({"type": "error", "error": {"type": "invalid_grant", "message": "gone"}});
    ends(Reply::Json(400, body), "invalid_grant").await;
}

#[tokio::test]
async fn an_error_in_an_answer_of_200_ends_the_session() {
    ends(Reply::Json(200, json!({"error": "bad_refresh_token"})), "bad_refresh_token").await;
}

#[tokio::test]
async fn a_401_that_says_token_expired_ends_the_session() {
    ends(Reply::Json(401, json!({"error": {"code": "token_expired"}})), "token_expired").await;
}

// === unspent ===

#[tokio::test]
async fn a_429_holds_everybody_back_for_the_seconds_that_it_names() {
    holds_back(|_| Reply::Status(429).retry_after(90), "http_429", 90..=90).await;
}

#[tokio::test]
async fn a_429_holds_everybody_back_until_the_date_that_it_names() {
    let until = |now: i64| {
        let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(now + 90).unwrap());
        let headers = vec![("retry-after".to_owned(), httpdate::fmt_http_date(date))];
        Reply::Raw { status: 429, headers, body: Vec::new() }
    };
    holds_back(until, "http_429", 90..=90).await;
}

#[tokio::test]
async fn a_503_with_a_page_of_html_holds_everybody_back_for_a_moment() {
    holds_back(|_| Reply::Html503, "http_503", 1..=2).await;
}

#[tokio::test]
async fn a_4xx_that_is_no_verdict_holds_everybody_back_and_ends_nothing() {
    holds_back(|_| raw(403, "text/html", "<h1>blocked</h1>"), "http_403", 1..=2).await;
}

#[tokio::test]
async fn a_503_holds_back_command_lines_too() {
    let server = crate::town::authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    sign_in(&home).await;
    home.set_offset(3600);
    server.script([Reply::Status(503).retry_after(600)]);
    let before = server.count();
    for _ in 0..3 {
        let ended = home.run(&["token", "acme"]).await;
        assert_eq!(ended.code, 5, "{ended:?}");
        assert!(ended.stderr.contains("http_503"), "{ended:?}");
    }
    assert_eq!(server.count() - before, 1, "Retry-After holds for all processes");
    home.set_offset(3600 + 601);
    assert_eq!(home.run(&["token", "acme"]).await.code, 0);
    assert_eq!(server.count() - before, 2);
}

async fn sign_in(home: &Home) {
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let link = started["authorize_url"].as_str().unwrap();
    let callback = crate::support::browser::sign_in(link, "alice").await;
    assert_eq!(home.run_with(&["auth", "code", "acme"], &callback.url).await.code, 0);
}

// === misconfigured ===

#[tokio::test]
async fn what_the_operator_has_to_mend_is_told_as_that_and_tried_slowly() {
    for (status, code) in [(401, "invalid_client"), (400, "unauthorized_client"), (400, "invalid_scope")] {
        let rig = expired(Duration::ZERO).await;
        rig.server.script([Reply::Json(status, json!({"error": code}))]);
        let (errors, requests) = told(&rig).await;
        for error in &errors {
            assert!(matches!(error, TokenError::Misconfigured { code: told, .. } if told == code), "{error}");
        }
        assert_eq!(requests, 1, "{code}");
        let retry = rig.session(ALICE).await.retry.unwrap();
        assert!((210..=390).contains(&(retry.not_before - rig.clock.now())), "{code}: {retry:?}");
        rig.clock.set(retry.not_before);
        rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_operator_has_to_mend_is_told_and_tried_slowly_also_when_the_token_is_in_doubt() {
    let rig = expired(Duration::ZERO).await;
    rig.server.script([Reply::Status(500), Reply::Json(401, json!({"error": "invalid_client"}))]);
    let (errors, _) = told(&rig).await;
    assert!(matches!(errors[1], TokenError::Unavailable { .. }), "{}", errors[1]);
    rig.clock.set(rig.session(ALICE).await.retry.unwrap().not_before);
    let (errors, requests) = told(&rig).await;
    for error in &errors {
        assert!(matches!(error, TokenError::Misconfigured { .. }), "{error}");
    }
    assert_eq!(requests, 1);
    let retry = rig.session(ALICE).await.retry.unwrap();
    assert_eq!(retry.kind(), RetryKind::Ambiguous, "what was in doubt stays in doubt");
    let pause = retry.not_before - rig.clock.now();
    assert!((420..=780).contains(&pause), "the second failure in a row: {pause} s");
}

// === ambiguous ===

#[tokio::test]
async fn a_500_after_a_rotation_is_uncertain_and_only_the_provider_ends_it() {
    is_uncertain(Reply::RotateThenStatus(500), "ambiguous_http_500", Then::Ended).await;
}

#[tokio::test]
async fn a_connection_closed_after_a_rotation_is_uncertain() {
    is_uncertain(Reply::RotateThenDrop, "ambiguous_reset", Then::Ended).await;
}

#[tokio::test]
async fn half_a_body_and_then_a_reset_is_uncertain() {
    is_uncertain(Reply::HalfBody, "ambiguous_reset", Then::Ended).await;
}

#[tokio::test]
async fn an_empty_body_of_200_is_uncertain() {
    is_uncertain(Reply::Status(200), "ambiguous_http_200", Then::Renewed).await;
}

#[tokio::test]
async fn json_that_is_cut_off_in_an_answer_of_200_is_uncertain() {
    let cut = raw(200, "application/json", r#"{"access_token":"cut of"#);
    is_uncertain(cut, "ambiguous_http_200", Then::Renewed).await;
}

#[tokio::test]
async fn a_504_of_a_gateway_is_uncertain() {
    is_uncertain(raw(504, "text/html", "<h1>gateway time-out</h1>"), "ambiguous_http_504", Then::Renewed)
        .await;
}

#[tokio::test]
async fn an_uncertain_refresh_at_expiry_waits_and_is_repeated_once() {
    let rig = expired(Duration::ZERO).await;
    rig.server.script([Reply::Drop]);
    let (errors, requests) = told(&rig).await;
    for error in &errors {
        let expected = |code: &str| code.starts_with("ambiguous_");
        assert!(matches!(error, TokenError::Unavailable { code, .. } if expected(code)), "{error}");
    }
    assert_eq!(requests, 1);
    rig.clock.set(rig.session(ALICE).await.retry.unwrap().not_before);
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.session(ALICE).await.retry, None);
}

#[tokio::test]
async fn within_the_grace_what_was_lost_is_asked_for_again_at_once_and_a_verdict_then_counts() {
    let lost = [Reply::Drop, Reply::Status(502), raw(200, "application/json", "{")];
    for reply in lost {
        let rig = expired(Duration::from_secs(30)).await;
        rig.server.script([reply]);
        let before = rig.server.count();
        rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(rig.server.count() - before, 2);
        assert_eq!(rig.session(ALICE).await.retry, None);
    }
    // A provider that does not keep to the grace that the configuration promises.
    let rig = expired(Duration::from_secs(30)).await;
    rig.server.script([Reply::RotateThenDrop]);
    let (errors, requests) = told(&rig).await;
    assert!(matches!(&errors[1], TokenError::Ended { code, .. } if code == "invalid_grant"), "{errors:?}");
    assert_eq!(requests, 2);
}

// === whose verdict, about what ===

#[tokio::test]
async fn a_verdict_is_about_the_token_that_was_sent_and_another_processes_success_clears_it() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    assert!(matches!(told(&rig).await, ([TokenError::Ended { .. }, TokenError::Ended { .. }], 1)));
    // Another program holds newer tokens of the same grant, and writes them beside the old verdict.
    let refresh_token = before.refresh_token.unwrap();
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.expose()),
        ("client_id", before.binding.client_id.as_str()),
    ];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(rig.server.token_endpoint()).form(&form).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let now = rig.clock.now();
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(&rig.path).unwrap()).unwrap();
    let session = &mut document["sessions"][tenant(ALICE).to_string()];
    session["access_token"] = answer["access_token"].clone();
    session["refresh_token"] = answer["refresh_token"].clone();
    session["generation"] = json!(2);
    session["issued_at"] = json!(now);
    session["expires_at"] = json!(now + 3600);
    let beside = rig.path.with_extension("new");
    std::fs::write(&beside, document.to_string()).unwrap();
    std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, &rig.path).unwrap();

    let adopted = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(adopted.access_token.expose(), answer["access_token"].as_str().unwrap());
    rig.expire();
    assert_eq!(rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap().generation, 3);
    assert_eq!(rig.session(ALICE).await.ended, None);
    assert_eq!(rig.server.events().total.reuses, 0);
}

#[tokio::test]
async fn the_refresh_token_is_the_stored_one_whatever_a_process_has_seen_before() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let old_hand = rig.another();
    old_hand.token(&tenant(ALICE), MINUTE).await.unwrap();
    for generation in 2..=4 {
        rig.expire();
        rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        rig.expire();
        let renewed = old_hand.token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(renewed.generation, 2 * generation - 1);
    }
    let events = rig.server.events().total;
    assert_eq!((events.refreshes, events.reuses), (6, 0));
}

#[tokio::test]
async fn a_running_process_sees_a_new_sign_in_and_a_logout_of_another_at_its_next_request() {
    let rig = Rig::start().await;
    let other = rig.another();
    let error = other.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::NoSession(_)), "{error}");
    rig.sign_in(ALICE, "alice").await;
    let first = other.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.sign_in(ALICE, "alice").await;
    let second = other.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_ne!(second.access_token, first.access_token);
    rig.broker.logout(&tenant(ALICE), threadkey::broker::Revocation::Keep).await.unwrap();
    let error = other.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::NoSession(_)), "{error}");
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([Reply::Json(200, json!({"access_token": "renewed", "expires_in": 3600}))]);
    assert_eq!(rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap().access_token.expose(), "renewed");
    let after = rig.session(ALICE).await;
    assert_eq!((after.refresh_token, after.generation), (before.refresh_token, 2));
    rig.expire();
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn the_owner_is_told_once_of_a_verdict_that_a_command_line_process_heard() {
    let (server, town) = crate::town::town().await;
    let bot = town.run().await;
    town.sign_in(&town.alice, "alice").await;
    town.home.set_offset(3600);
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    let principal = town.alice.principal();
    let heard = town.home.run(&["token", "acme", "--as", &principal]).await;
    assert_eq!(heard.code, 4, "{heard:?}");
    let told = town.alice.dm().wait_for_text("has ended").await;
    assert!(told.button("Sign in again").is_some(), "{told}");
    bot.says("the person of an ended session was told").await;
    // Whatever else makes it look again, they are not told again.
    town.alice.command(&town.general, "auth status", &[]).await.latest().await;
    assert_eq!(town.home.run(&["token", "acme", "--as", &principal]).await.code, 4);
    assert_eq!(bot.stop().await.code, 0);
    let times =
        town.alice.sees(&town.alice.dm()).iter().filter(|m| m.all_text().contains("has ended")).count();
    assert_eq!(times, 1);
    let stored: Value = serde_json::from_str(&town.stored()).unwrap();
    let session = &stored["sessions"][format!("acme/{principal}")];
    assert!(session["ended"]["notified_at"].is_i64(), "{}", session["ended"]);
}

#[tokio::test]
async fn what_a_grace_allows_to_repeat_is_never_repeated_with_the_token_of_a_newer_sign_in() {
    let rig = expired(Duration::from_secs(30)).await;
    rig.server.script([Reply::Hang]);
    let asking = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
    rig.sign_in(ALICE, "alice").await;
    rig.server.release();
    let lease = asking.await.unwrap().unwrap();
    rig.broker.drained().await;
    let kept = rig.session(ALICE).await;
    assert_eq!((kept.generation, &kept.access_token), (1, &lease.access_token), "it is fresh");
    assert_eq!(rig.server.events().total.refreshes, 0);
}

// === what callers and disks do meanwhile ===

#[tokio::test]
async fn a_refresh_that_takes_longer_than_a_caller_waits_is_told_as_that_and_costs_no_second_one() {
    let rig = expired(Duration::ZERO).await;
    let elsewhere = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
    let sent = rig.server.count();
    tokio::time::pause();
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, TokenError::InProgress(_)), "not taken for a missing sign-in: {error}");
    assert_eq!(rig.server.count(), sent);
    drop(elsewhere);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.server.events().total.refreshes, 1);
}

#[tokio::test]
async fn a_save_that_fails_is_told_while_the_journal_serves_and_is_made_good_later() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    // The first write of the store after the answer: a full disk.
    let disk = Arc::new(RealDisk::with(Faults::parse("rename:ENOSPC#1")));
    let store = FileStore::on_disk(disk, &rig.path, rig.clock.clone(), FileStoreOptions::default()).unwrap();
    let unlucky = crate::broker::broker(&rig.server, Arc::new(store), &rig.clock, Duration::ZERO);
    let mut events = unlucky.events();
    let lease = unlucky.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert!(matches!(events.recv().await, Ok(Event::SaveFailed(of)) if of == tenant(ALICE)));
    assert_ne!(lease.access_token, before.access_token);
    assert_eq!(rig.session(ALICE).await.generation, 1, "it is not in the store yet");
    unlucky.drained().await;
    let saved = rig.session(ALICE).await;
    assert_eq!((saved.generation, &saved.access_token), (2, &lease.access_token));
    rig.expire();
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    let events = rig.server.events().total;
    assert_eq!((events.refreshes, events.reuses), (2, 0));
}

#[tokio::test]
async fn an_uncertain_refresh_that_is_given_up_after_the_grace_is_not_repeated_at_once() {
    let rig = expired(Duration::from_secs(30)).await;
    rig.server.script([Reply::RotateThenDrop]);
    rig.server.hold_before();
    let before = rig.server.count();
    let asking = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
    rig.clock.advance(31);
    rig.server.release();
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(&error, TokenError::Unavailable { code, .. } if code == "ambiguous_reset"), "{error}");
    assert_eq!(rig.server.count() - before, 1);
    assert_eq!(rig.server.events().total.reuses, 0, "the provider takes it for theft by now");
}

/// A process that died with this answer in its journal, for the session as it is.
async fn died_with(rig: &Rig, body: &Value) {
    let session = rig.session(ALICE).await;
    let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
    let at = rig.clock.now();
    let spending = Spending::Refresh(session.to_spend().unwrap());
    lock.intend(&Intent { spending, at, token_endpoint: rig.server.token_endpoint() }).await.unwrap();
    let body = body.to_string().into_bytes().into();
    lock.record(&Answer { status: 200, retry_after: None, body, at }).await.unwrap();
}

#[tokio::test]
async fn the_life_of_a_token_that_waited_in_a_journal_is_counted_from_its_answer_on() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.server.count();
    let body = json!({"access_token": "waited", "refresh_token": "waited too", "expires_in": 3600});
    died_with(&rig, &body).await;
    rig.clock.advance(3000);
    let lease = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.access_token.expose(), "waited");
    assert_eq!(lease.expires_in, Duration::from_secs(600));
    assert_eq!(rig.server.count(), before);
}

#[tokio::test]
async fn a_token_whose_life_was_over_in_the_journal_is_not_served_and_its_refresh_token_is_used() {
    let rig = expired(Duration::ZERO).await;
    died_with(&rig, &json!({"access_token": "waited", "refresh_token": "waited too", "expires_in": 3600}))
        .await;
    rig.clock.advance(3600);
    rig.server.script([Reply::Json(200, json!({"access_token": "new", "refresh_token": "newer"}))]);
    let lease = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.access_token.expose(), "new");
    let sent = rig.server.requests();
    assert_eq!(sent.last().unwrap().form["refresh_token"], "waited too");
}
