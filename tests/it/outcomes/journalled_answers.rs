//! Answers that waited in a journal because their process died before it committed them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use threadkey::{
    oauth::Pasted,
    session::journal::{Answer, Intent, Spending},
    store::{FileStore, FileStoreOptions, Purpose},
    sys::{disk::RealDisk, faults::Faults},
};

use super::expired;
use crate::{
    broker::{ALICE, MINUTE, Rig, settings, tenant, with_settings},
    support::{authserver::Reply, browser},
};

fn unread(rig: &Rig) -> PathBuf {
    rig.path.with_file_name("auth.json.refresh").join("acme%2Fuser%3A803.unread")
}

/// Leaves a process that died with this answer in its journal, for the present session.
async fn died_with(rig: &Rig, body: &Value) {
    let session = rig.session(ALICE).await;
    let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
    let at = rig.clock.now();
    let spending = Spending::Refresh(session.refresh_target().unwrap());
    let intended =
        lock.intend(Intent { spending, at, token_endpoint: rig.server.token_endpoint() }).await.unwrap();
    let body = body.to_string().into_bytes().into();
    lock.record(&intended.answered(Answer { status: 200, body, at, ..Answer::default() })).await.unwrap();
}

#[tokio::test]
async fn the_life_of_a_token_from_a_journal_counts_from_its_answer() {
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
async fn a_paste_whose_process_died_is_committed_once_its_time_is_over() {
    let rig = Rig::start().await;
    rig.leave_an_answered_exchange(ALICE, "alice").await;
    let end = rig.broker.expire_undecided().await.unwrap().expect("the end of the sign-in");
    rig.clock.advance(end - rig.clock.now());
    let held = rig.store.try_lock(&tenant(ALICE), Purpose::SignIn).await.unwrap().unwrap();
    assert_eq!(rig.broker.expire_undecided().await.unwrap(), Some(end + 60), "it looks again");
    drop(held);
    assert_eq!(rig.broker.expire_undecided().await.unwrap(), None);
    assert_eq!(rig.session(ALICE).await.access_token.expose(), "saved");
}

#[tokio::test]
async fn a_code_that_was_not_accepted_is_counted_once_if_the_journal_was_not_emptied() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let disk = Arc::new(RealDisk::with(Faults::parse("truncate@803.signin.lock:EIO#1")));
    let store = FileStore::on_disk(disk, &rig.path, rig.clock.clone(), FileStoreOptions::default()).unwrap();
    let faulty = with_settings(settings(&rig.server), Arc::new(store), &rig.clock);
    let before = rig.server.count();
    rig.server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    for broker in [&faulty, &rig.broker] {
        let paste = Pasted::parse(&callback.url).unwrap();
        broker.finish(ALICE, None, paste).await.unwrap_err();
    }
    let pending = rig.store.read(&tenant(ALICE)).await.unwrap().pending.unwrap();
    assert_eq!(pending.wrong_codes.map(|wrong| wrong.times), Some(1));
    assert_eq!(rig.server.count(), before + 1);
}

#[tokio::test]
async fn a_token_that_expired_in_the_journal_is_not_served_and_is_refreshed() {
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

#[tokio::test]
async fn an_answer_without_a_readable_token_is_kept_until_the_next_refresh_succeeds() {
    let rig = expired(Duration::ZERO).await;
    rig.server.script([Reply::Json(200, json!({"message": "the-token-is-elsewhere"}))]);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(unread(&rig).exists());
    rig.clock.advance(3600);
    rig.server.script([Reply::Json(200, json!({"access_token": "new", "refresh_token": "newer"}))]);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert!(!unread(&rig).exists());
}

#[tokio::test]
async fn an_unreadable_answer_that_cannot_be_copied_stays_in_the_journal() {
    let rig = expired(Duration::ZERO).await;
    let disk = Arc::new(RealDisk::with(Faults::parse("open@.unread.tmp:ENOSPC#1")));
    let store = FileStore::on_disk(disk, &rig.path, rig.clock.clone(), FileStoreOptions::default()).unwrap();
    let broker = with_settings(settings(&rig.server), Arc::new(store), &rig.clock);
    rig.server.script([Reply::Json(200, json!({"message": "the-token-is-elsewhere"}))]);
    let before = rig.server.count();
    broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(!unread(&rig).exists());
    rig.clock.advance(3600);
    // The next refresh keeps it first, and sends nothing before.
    broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(unread(&rig).exists());
    assert_eq!(rig.server.count(), before + 1);
}

#[tokio::test]
async fn an_unreadable_answer_for_a_session_that_was_logged_out_leaves_no_file() {
    let rig = expired(Duration::ZERO).await;
    rig.server.script([Reply::Json(200, json!({"message": "the-token-is-elsewhere"}))]);
    rig.server.hold();
    let caller = rig.broker.clone();
    let waiting = tokio::spawn(async move { caller.token(&tenant(ALICE), MINUTE).await });
    rig.server.wait_for_held(1).await;
    rig.broker.logout(&tenant(ALICE), threadkey::broker::Revocation::Keep).await.unwrap();
    rig.server.release();
    waiting.await.unwrap().unwrap_err();
    rig.broker.drained().await;
    assert!(!unread(&rig).exists());
}
