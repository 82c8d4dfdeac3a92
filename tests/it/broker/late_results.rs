//! Results that arrive late, and journals left by dead processes.

use std::sync::{Arc, Mutex};

use threadkey::{
    broker::{Event, LoggedOut, RefreshState, Revocation, TokenError},
    oauth::Pasted,
    session::{
        Applied, Entry, Settlement,
        journal::{Answer, Intent, Spending},
    },
    store::Purpose,
};

use super::{ALICE, MINUTE, NOW, Rig, tenant};
use crate::support::{
    authserver::{self, Moment},
    browser,
};

#[tokio::test]
async fn a_late_refresh_revives_no_logged_out_session_and_is_revoked() {
    let (rig, asking) = Rig::with_a_held_refresh().await;
    let done = rig.broker.logout(&tenant(ALICE), Revocation::Revoke).await.unwrap();
    assert_eq!(done, LoggedOut::Revoked);
    let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::NoSession(_)), "at once: {error}");
    rig.server.release();
    assert!(matches!(asking.await.unwrap(), Err(TokenError::NoSession(_))));
    rig.broker.drained().await;
    assert_eq!(rig.store.read(&tenant(ALICE)).await.unwrap(), Entry::default());
    assert!(
        rig.server.lives().iter().all(|life| life.state != authserver::LifeState::Live),
        "{:?}",
        rig.server.lives()
    );
}

#[tokio::test]
async fn tokens_that_arrive_after_a_logout_are_revoked_unless_the_grant_is_kept() {
    for revocation in [Revocation::Revoke, Revocation::UnlessShared, Revocation::Keep] {
        let (rig, asking) = Rig::with_a_held_refresh().await;
        let revoked = Arc::new(Mutex::new(Vec::new()));
        let seen = revoked.clone();
        rig.server.watch(move |moment| {
            if let Moment::Revoked { token } = moment {
                seen.lock().unwrap().push(token.to_owned());
            }
        });
        let refresh_token = rig.session(ALICE).await.refresh_token.unwrap();
        rig.broker.logout(&tenant(ALICE), revocation).await.unwrap();
        rig.server.release();
        assert!(matches!(asking.await.unwrap(), Err(TokenError::NoSession(_))));
        rig.broker.drained().await;
        let revoked = revoked.lock().unwrap().clone();
        match revocation {
            Revocation::Revoke | Revocation::UnlessShared => {
                assert_eq!(revoked.len(), 2, "the stored token, and the late one");
                assert_eq!(revoked[0], refresh_token.expose());
                assert_ne!(revoked[1], revoked[0]);
            }
            Revocation::Keep => assert!(revoked.is_empty(), "{revoked:?}"),
        }
    }
}

#[tokio::test]
async fn a_logout_whose_caller_leaves_revokes_the_grant_before_the_drain_ends() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let mut events = rig.broker.events();
    let alice = tenant(ALICE);
    tokio::select! {
        biased;
        event = events.recv() => assert!(matches!(event, Ok(Event::LoggedOut(_))), "{event:?}"),
        done = rig.broker.logout(&alice, Revocation::Revoke) => panic!("the caller leaves first: {done:?}"),
    }
    rig.broker.drained().await;
    let lives = rig.server.lives();
    assert!(lives.iter().all(|life| life.state != authserver::LifeState::Live), "{lives:?}");
}

#[tokio::test]
async fn a_late_refresh_does_not_overwrite_a_newer_sign_in() {
    let (rig, asking) = Rig::with_a_held_refresh().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let broker = rig.broker.clone();
    let paste = Pasted::parse(&callback.url).unwrap();
    let finishing = tokio::spawn(async move { broker.finish(ALICE, None, paste).await });
    rig.server.wait_for_held(2).await;
    rig.server.release();
    finishing.await.unwrap().unwrap();
    let _ = asking.await.unwrap();
    rig.broker.drained().await;
    let newest = rig.server.lives().into_iter().filter(|life| life.family == 2).collect::<Vec<_>>();
    assert_eq!(newest.len(), 1, "the new grant's refresh token was not spent: {newest:?}");
    let kept = rig.session(ALICE).await.refresh_token.unwrap();
    assert_eq!(kept.fingerprint().as_str()[..12], newest[0].fingerprint[..12]);
    assert_eq!(rig.server.events().total.reuses, 0);
}

#[tokio::test]
async fn an_answer_in_a_dead_processes_journal_is_committed_and_nothing_is_sent() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let session = rig.session(ALICE).await;
    let spent = session.refresh_target().unwrap();
    {
        let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
        let token_endpoint = rig.server.token_endpoint();
        let intended = lock
            .intend(Intent { spending: Spending::Refresh(spent), at: NOW, token_endpoint })
            .await
            .unwrap();
        let body = br#"{"access_token":"saved","refresh_token":"saved-too","expires_in":"3600"}"#.to_vec();
        let at = rig.clock.now();
        lock.record(&intended.answered(Answer { status: 200, body: body.into(), at, ..Answer::default() }))
            .await
            .unwrap();
    }
    let sent = rig.server.count();
    let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.access_token.expose(), "saved");
    assert_eq!(rig.server.count(), sent);
    let after = rig.session(ALICE).await;
    assert_eq!(after.refresh_token.unwrap().expose(), "saved-too");
}

#[tokio::test]
async fn an_intent_without_an_answer_is_reported_as_uncertain() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(3000);
    let spent = rig.session(ALICE).await.refresh_target().unwrap();
    {
        let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
        let token_endpoint = rig.server.token_endpoint();
        lock.intend(Intent { spending: Spending::Refresh(spent), at: NOW, token_endpoint }).await.unwrap();
    }
    let sent = rig.server.count();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.broker.drained().await;
    assert_eq!(rig.server.count(), sent);
    let status = rig.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert_eq!(status.refresh, RefreshState::Uncertain("ambiguous_no_answer".into()));
}

#[tokio::test]
async fn an_answered_exchange_of_a_dead_process_is_finished_by_the_next_caller() {
    let rig = Rig::start().await;
    rig.leave_an_answered_exchange(ALICE, "alice@example.com").await;
    let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.access_token.expose(), "saved");
    assert_eq!(lease.account.as_deref(), Some("alice@example.com"));
    assert_eq!(rig.server.count(), 0);
}

#[tokio::test]
async fn the_store_refuses_a_change_for_an_outdated_revision() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let old = rig.session(ALICE).await;
    rig.expire();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
    let change = Settlement::End { target: old.refresh_target().unwrap(), code: "invalid_grant".into() };
    assert_eq!(lock.settle(change).await.unwrap().applied, Applied::Stale);
    assert_eq!(rig.session(ALICE).await.ended, None);
}
