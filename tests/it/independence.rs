//! Tenants are independent: a slow one delays no other, and a caller that gives up cancels nothing.

use std::time::Duration;

use threadkey::oauth::Pasted;
use tokio::time::timeout;

use super::broker::{ALICE, BOB, MINUTE, Rig, tenant};
use crate::support::{authserver::Reply, browser};

/// The bound of every wait; a test that reaches it fails.
const WAIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_refresh_does_not_wait_for_another_tenants_refresh() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.expire();
    rig.server.script([Reply::Hang]);
    let slow = rig.spawn_token_call(ALICE);
    rig.server.wait_for_held(1).await;
    for (broker, generation) in [(rig.broker.clone(), 2), (rig.another(), 3)] {
        let refreshed = timeout(WAIT, broker.token(&tenant(BOB), MINUTE)).await;
        assert_eq!(refreshed.expect("it waits for the other tenant").unwrap().generation, generation);
        rig.expire();
    }
    assert_eq!(rig.server.held(), 1, "the slow one is still in progress");
    rig.server.release();
    assert!(slow.await.unwrap().is_err(), "its answer was lost");
    assert_eq!(rig.server.events().of("bob").refreshes, 2);
}

#[tokio::test]
async fn a_caller_that_abandons_an_exchange_is_signed_in_nonetheless() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let pasted = Pasted::parse(&callback.url).unwrap();
    rig.server.hold();
    let broker = rig.broker.clone();
    let finishing = tokio::spawn(async move { broker.finish(ALICE, None, pasted).await });
    rig.server.wait_for_held(1).await;
    finishing.abort();
    assert!(finishing.await.unwrap_err().is_cancelled());
    rig.server.release();
    rig.broker.drained().await;
    assert_eq!(rig.session(ALICE).await.generation, 1);
    assert_eq!(rig.server.events().of("alice").sign_ins, 1);
}
