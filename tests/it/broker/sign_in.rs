//! Signing in, from the link to the session.

use std::sync::Arc;

use threadkey::{
    agent::{Conversation, Holder},
    broker::{Broker, FinishError, Revocation, WithoutBot, WorkerTokens},
    ids::{ConversationId, Principal, ProviderId, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, Providers},
    session::Entry,
};

use super::{ALICE, BOB, Rig, acme, tenant};
use crate::{
    choice::expect_signed_in,
    support::{
        authserver::{self, Reply},
        browser,
    },
};

#[tokio::test]
async fn a_sign_in_does_not_wait_for_a_refresh_in_progress() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.script([Reply::Hang]);
    let stuck = rig.spawn_token_call(ALICE);
    rig.server.wait_for_held(1).await;
    rig.sign_in(ALICE, "alice").await;
    rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap();
    rig.server.release();
    assert!(stuck.await.unwrap().is_err(), "its grant is gone");
}

#[tokio::test]
async fn a_sign_in_survives_a_restart_and_only_its_starter_can_finish_it() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let again = rig.another().start(&tenant(ALICE), ALICE).await.unwrap();
    assert!(again.resumed && again.link().unwrap() == started.link().unwrap());
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let foreign = rig.broker.finish(BOB, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
    assert!(matches!(foreign, FinishError::NothingPending { .. }), "{foreign}");
    let done = rig.another().finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert_eq!(expect_signed_in(done).account.as_deref(), Some("alice@example.com"));
    let twice = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
    assert!(matches!(twice, FinishError::AlreadyDone { .. }), "{twice}");
    assert_eq!(rig.server.events().total.revoked, 0, "the second use of a code was never sent");
}

#[tokio::test]
async fn a_paste_with_a_wrong_state_or_issuer_is_refused_before_any_request() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let finish = async |paste: String| {
        rig.broker.finish(ALICE, None, Pasted::parse(&paste).unwrap()).await.unwrap_err()
    };
    let wrong_state = callback.url.replace(&callback.state, "another-state");
    assert!(matches!(finish(wrong_state).await, FinishError::StateMismatch));
    let wrong_issuer = format!(
        "{}?code={}&state={}&iss=https://evil.example",
        authserver::PASTE_REDIRECT_URI,
        callback.code,
        callback.state
    );
    assert!(matches!(finish(wrong_issuer).await, FinishError::IssuerMismatch { .. }));
    assert_eq!(rig.server.count(), 0);
    let wrong_code = format!("nonsense#{}", callback.state);
    assert!(matches!(finish(wrong_code).await, FinishError::Refused { .. }));
    let done = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert!(expect_signed_in(done).renews, "the sign-in had stayed open");
}

#[tokio::test]
async fn the_state_of_a_paste_picks_the_sign_in_whatever_provider_is_named() {
    let rig = Rig::start().await;
    let other: ProviderId = "other".parse().unwrap();
    let settings = super::settings(&rig.server);
    let providers = [acme(), other.clone()].map(|id| Provider::new(id, settings.clone()).unwrap());
    let client = Client::new(rig.clock.clone()).unwrap();
    let broker = Broker::new(rig.store.clone(), Providers::new(providers), client, rig.clock.clone());
    let tenants = [tenant(ALICE), Tenant::new(other.clone(), ALICE)];
    let mut pastes = Vec::new();
    for tenant in &tenants {
        let started = broker.start(tenant, ALICE).await.unwrap();
        pastes.push(browser::sign_in(started.link().unwrap().as_str(), "alice").await);
    }
    let bare = Pasted::parse(&pastes[0].code).unwrap();
    let error = broker.finish(ALICE, None, bare).await.unwrap_err();
    assert!(matches!(&error, FinishError::Ambiguous(ids) if ids.len() == 2), "{error}");
    for (named, index) in [(None, 1), (Some(&other), 0)] {
        let paste = Pasted::parse(&pastes[index].url).unwrap();
        let done = broker.finish(ALICE, named, paste).await.unwrap();
        assert_eq!(expect_signed_in(done).tenant, tenants[index]);
    }
}

#[tokio::test]
async fn a_logout_without_a_session_leaves_the_pending_sign_in_alone() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let error = rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap_err();
    assert!(error.to_string().contains("nothing to log out"), "{error}");
    let again = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    assert_eq!(again.link().unwrap(), started.link().unwrap());
}

#[tokio::test]
async fn an_expired_sign_in_is_refused_and_a_new_one_begins() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    rig.clock.advance(15 * 60);
    let late = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
    assert!(matches!(late, FinishError::Expired(..)), "{late}");
    assert_eq!(rig.server.count(), 0);
    assert!(!rig.broker.start(&tenant(ALICE), ALICE).await.unwrap().resumed);
}

#[tokio::test]
async fn a_cancelled_sign_in_drops_a_late_answer() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    rig.server.hold();
    let broker = rig.broker.clone();
    let paste = Pasted::parse(&callback.url).unwrap();
    let finishing = tokio::spawn(async move { broker.finish(ALICE, None, paste).await });
    rig.server.wait_for_held(1).await;
    assert_eq!(rig.broker.cancel(ALICE, None).await.unwrap(), [tenant(ALICE)]);
    rig.server.release();
    assert!(matches!(finishing.await.unwrap(), Err(FinishError::Superseded(_))));
    assert_eq!(rig.store.read(&tenant(ALICE)).await.unwrap(), Entry::default());
}

#[tokio::test]
async fn a_worker_uses_the_guild_session_only_if_shared_and_its_user_has_none() {
    let rig = Rig::start().await;
    let (alice, guild) = (Snowflake(803), Snowflake(900));
    let shared = Principal::Guild(guild);
    let started = rig.broker.start(&tenant(shared), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "team").await;
    let pasted = || Pasted::parse(&callback.url).unwrap();
    let error = rig.broker.finish(ALICE, None, pasted()).await.unwrap_err();
    assert!(matches!(error, FinishError::ManagersOnly(_)), "{error}");
    rig.broker.finish_in(ALICE, Some(guild), None, pasted()).await.unwrap();
    let tokens = WorkerTokens::new(rig.broker.clone(), Arc::new(WithoutBot));
    let holder = |shared_guild| Holder {
        conversation: Conversation {
            id: ConversationId(Snowflake(1)),
            owner: alice,
            shared_guild,
            agent: None,
        },
        providers: vec![acme()],
    };
    let (member, stranger) = (holder(Some(guild)), holder(None));
    assert_eq!(tokens.entitlement(&member, &acme()).await.unwrap().tenant(), &tenant(shared));
    assert_eq!(tokens.entitlement(&stranger, &acme()).await.unwrap().tenant(), &tenant(ALICE));
    assert!(WorkerTokens::uses(&rig.broker, &member, &tenant(shared)).await.unwrap());
    assert!(!WorkerTokens::uses(&rig.broker, &stranger, &tenant(shared)).await.unwrap());
    rig.sign_in(ALICE, "alice").await;
    assert_eq!(tokens.entitlement(&member, &acme()).await.unwrap().tenant(), &tenant(ALICE));
    assert!(!WorkerTokens::uses(&rig.broker, &member, &tenant(shared)).await.unwrap());
}
