//! Answers that waited in a journal because their process died before it committed them.

use std::time::Duration;

use serde_json::{Value, json};
use threadkey::{
    session::journal::{Answer, Intent, Spending},
    store::Purpose,
};

use super::expired;
use crate::{
    broker::{ALICE, MINUTE, Rig, tenant},
    support::authserver::Reply,
};

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
