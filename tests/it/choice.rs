//! A sign-in as another account than the session's: nothing is replaced until its user has chosen.

mod command_line;
mod grants;

use std::time::Duration;

use threadkey::{
    broker::{ChoiceError, FinishError, Finished, GrantEnd, LoggedOut, Revocation, SignedIn, Undecided},
    ids::Principal,
    oauth::{Pasted, ProviderSettings},
    session::Entry,
};

use crate::{
    broker::{ALICE, BOB, MINUTE, NOW, Rig, open, settings, tenant, with_settings},
    support::{
        authserver::{LifeState, Reply},
        browser,
    },
};

/// Signs alice in, and then as bob; the second sign-in waits for a choice.
async fn undecided() -> (Rig, Undecided) {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let undecided = expect_undecided(rig.finish_as(ALICE, "bob").await);
    (rig, undecided)
}

/// Asserts that the sign-in waits for a choice.
#[track_caller]
pub(super) fn expect_undecided(finished: Finished) -> Undecided {
    match finished {
        Finished::Undecided(undecided) => undecided,
        Finished::SignedIn(done) => panic!("it was taken at once: {done:?}"),
    }
}

/// Asserts that the sign-in became the session.
#[track_caller]
pub(super) fn expect_signed_in(finished: Finished) -> SignedIn {
    match finished {
        Finished::SignedIn(done) => done,
        Finished::Undecided(undecided) => panic!("it waits for a choice: {undecided:?}"),
    }
}

/// Returns the states of an account's refresh tokens at the provider.
fn states(rig: &Rig, account: &str) -> Vec<LifeState> {
    rig.server.lives().into_iter().filter(|life| life.account == account).map(|life| life.state).collect()
}

#[tokio::test]
async fn a_sign_in_as_another_account_replaces_nothing_and_is_not_used() {
    let (rig, undecided) = undecided().await;
    assert_eq!(undecided.account.as_deref(), Some("bob@example.com"));
    assert_eq!(undecided.current.as_deref(), Some("alice@example.com"));
    assert_eq!(undecided.until, NOW + 900);
    let session = rig.session(ALICE).await;
    for _ in 0..2 {
        let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(lease.account.as_deref(), Some("alice@example.com"));
        assert_eq!(lease.access_token, session.access_token);
    }
    let status = rig.another().status(&[ALICE]).await.unwrap().remove(0);
    assert_eq!(status.account.as_deref(), Some("alice@example.com"));
    assert_eq!(status.undecided.unwrap().account.as_deref(), Some("bob@example.com"));
    rig.clock.advance(3000);
    rig.another().rejected(&tenant(ALICE), &session.access_token).await.unwrap();
    assert_eq!(rig.session(ALICE).await.account.as_deref(), Some("alice@example.com"));
    assert_eq!(states(&rig, "alice"), [LifeState::Spent, LifeState::Live]);
    assert_eq!(states(&rig, "bob"), [LifeState::Live], "nothing of bob's was spent");
}

#[tokio::test]
async fn a_switch_takes_effect_at_once_in_every_process() {
    let (rig, undecided) = undecided().await;
    let done = rig.broker.switch(&tenant(ALICE), undecided.lineage).await.unwrap();
    assert_eq!(done.account.as_deref(), Some("bob@example.com"));
    assert_eq!(done.replaced.as_deref(), Some("alice@example.com"));
    let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!((lease.account.as_deref(), lease.generation), (Some("bob@example.com"), 1));
    let others = rig.broker.switch(&tenant(BOB), undecided.lineage).await.map(drop);
    let late = rig.another().keep(&tenant(ALICE), undecided.lineage).await.map(drop);
    for gone in [others, late] {
        assert!(matches!(gone, Err(ChoiceError::Gone(_))), "{gone:?}");
    }
    // A second press of the same button is not an error: the choice is already in effect.
    rig.another().switch(&tenant(ALICE), undecided.lineage).await.unwrap();
    rig.expire();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(states(&rig, "bob"), [LifeState::Spent, LifeState::Live]);
    assert_eq!(states(&rig, "alice"), [LifeState::Live], "the old grant is left to its owner");
}

#[tokio::test]
async fn a_kept_session_stays_unchanged_and_the_new_grant_is_revoked() {
    let (rig, undecided) = undecided().await;
    let before = rig.session(ALICE).await;
    let kept = rig.another().keep(&tenant(ALICE), undecided.lineage).await.unwrap();
    assert_eq!(kept.account.as_deref(), Some("alice@example.com"));
    assert_eq!(kept.unchosen.grant, GrantEnd::Revoked);
    assert_eq!(states(&rig, "bob"), [LifeState::Revoked]);
    assert_eq!(states(&rig, "alice"), [LifeState::Live]);
    let after = rig.store.read(&tenant(ALICE)).await.unwrap();
    assert_eq!(after, Entry { session: Some(before), ..Entry::default() });
    let late = rig.broker.switch(&tenant(ALICE), undecided.lineage).await;
    assert!(matches!(late, Err(ChoiceError::Gone(_))), "{late:?}");
}

#[tokio::test]
async fn a_second_paste_of_the_code_reports_that_the_choice_is_open() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "bob").await;
    let paste = || Pasted::parse(&callback.url).unwrap();
    expect_undecided(rig.broker.finish(ALICE, None, paste()).await.unwrap());
    let sent = rig.server.count();
    let again = rig.another().finish(ALICE, None, paste()).await.unwrap_err();
    assert!(matches!(&again, FinishError::AwaitsChoice { account: Some(a), .. } if a == "bob@example.com"));
    assert!(again.to_string().contains("waits for your choice"), "{again}");
    let foreign = rig.another().finish(BOB, None, paste()).await.unwrap_err();
    assert!(matches!(foreign, FinishError::NothingPending { .. }), "{foreign}");
    assert_eq!(rig.server.count(), sent);
}

#[tokio::test]
async fn a_sign_in_not_known_to_be_another_account_replaces_and_is_reported() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let lineage = rig.session(ALICE).await.lineage;
    assert_eq!(expect_signed_in(rig.finish_as(ALICE, "alice").await).replaced, None, "the same account");
    assert_ne!(rig.session(ALICE).await.lineage, lineage);
    rig.server.script([Reply::Edit(|answer| drop(answer.as_object_mut().unwrap().remove("id_token")))]);
    let unknown = expect_undecided(rig.finish_as(ALICE, "bob").await);
    assert_eq!((unknown.account, unknown.current.as_deref()), (None, Some("alice@example.com")));
    let unknown = rig.broker.switch(&tenant(ALICE), unknown.lineage).await.unwrap();
    assert_eq!((unknown.account, unknown.replaced.as_deref()), (None, Some("alice@example.com")));
    assert_eq!(
        expect_signed_in(rig.finish_as(ALICE, "alice").await).replaced,
        None,
        "its account was unknown"
    );
    rig.expire();
    rig.server.script([Reply::Json(400, serde_json::json!({"error": "invalid_grant"}))]);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    let over = expect_signed_in(rig.finish_as(ALICE, "bob").await);
    assert_eq!(over.replaced.as_deref(), Some("alice@example.com"), "it had ended");
}

#[tokio::test]
async fn an_unnamed_account_is_requested_from_userinfo_before_the_sign_in_is_saved() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    for (userinfo, known) in
        [(rig.server.userinfo_endpoint(), true), ("http://127.0.0.1:1/userinfo".into(), false)]
    {
        let settings = ProviderSettings {
            userinfo_endpoint: Some(userinfo),
            scopes: vec!["offline_access".into()],
            ..settings(&rig.server)
        };
        let broker = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
        let started = broker.start(&tenant(ALICE), ALICE).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), "bob").await;
        let finished = broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
        // An account that cannot be found may be another one, so the user chooses as well.
        let undecided = expect_undecided(finished);
        assert_eq!(undecided.account.as_deref(), known.then_some("bob@example.com"));
        assert_eq!(rig.session(ALICE).await.account.as_deref(), Some("alice@example.com"));
    }
}

/// Serves a userinfo endpoint that is overloaded at the first request, and then names bob.
async fn overloaded_userinfo() -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/userinfo", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let body = r#"{"sub":"bob","email":"bob@example.com","email_verified":true}"#;
        let named = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        for answer in ["HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", &named] {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 4096]).await;
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    endpoint
}

#[tokio::test]
async fn an_overloaded_userinfo_endpoint_is_asked_once_more_before_accounts_are_compared() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let settings = ProviderSettings {
        userinfo_endpoint: Some(overloaded_userinfo().await),
        scopes: vec!["offline_access".into()],
        ..settings(&rig.server)
    };
    let broker = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
    let started = broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "bob").await;
    let finished = broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert_eq!(expect_undecided(finished).account.as_deref(), Some("bob@example.com"));
}

#[tokio::test]
async fn an_answered_exchange_of_a_dead_process_waits_for_a_choice_too() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let callback = rig.leave_an_answered_exchange(ALICE, "bob").await;
    let sent = rig.server.count();
    let finished = rig.another().finish(ALICE, None, Pasted::parse(&callback).unwrap()).await.unwrap();
    assert_eq!(expect_undecided(finished).account.as_deref(), Some("bob"));
    assert_eq!(rig.server.count(), sent, "nothing was sent again");
    assert_eq!(rig.session(ALICE).await.account.as_deref(), Some("alice@example.com"));
}

#[tokio::test]
async fn a_sign_in_whose_code_is_pasted_in_the_last_second_survives_other_writes() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    rig.clock.advance(15 * 60 - 1);
    rig.server.hold();
    let broker = rig.broker.clone();
    let paste = Pasted::parse(&callback.url).unwrap();
    let finishing = tokio::spawn(async move { broker.finish(ALICE, None, paste).await });
    rig.server.wait_for_held(1).await;
    rig.clock.advance(185);
    rig.another().start(&tenant(BOB), BOB).await.unwrap();
    rig.server.release();
    expect_signed_in(finishing.await.unwrap().unwrap());
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
}
