//! The grants of sign-ins that no user chose.

use std::sync::Arc;

use threadkey::{
    broker::{Event, Kept, News},
    store::{FileStore, FileStoreOptions},
    sys::{disk::RealDisk, faults::Faults},
};

use super::*;

/// Waits until a choice has expired.
async fn lapsed(events: &mut tokio::sync::broadcast::Receiver<Event>) -> Kept {
    let lapsed = async {
        loop {
            if let Event::Lapsed(kept) = events.recv().await.unwrap() {
                return kept;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), lapsed).await.expect("the expiry is reported")
}

#[tokio::test]
async fn a_newer_sign_in_replaces_the_undecided_one_whose_grant_is_revoked() {
    let (rig, first) = undecided().await;
    let second = expect_undecided(rig.finish_as(ALICE, "carol").await);
    assert_eq!(second.account.as_deref(), Some("carol@example.com"));
    let dropped = second.dropped.unwrap();
    assert_eq!((dropped.account.as_deref(), dropped.grant), (Some("bob@example.com"), GrantEnd::Revoked));
    assert_eq!(states(&rig, "bob"), [LifeState::Revoked]);
    let late = rig.broker.switch(&tenant(ALICE), first.lineage).await;
    assert!(matches!(late, Err(ChoiceError::Gone(_))), "{late:?}");
    let own = expect_signed_in(rig.finish_as(ALICE, "alice").await);
    assert_eq!(own.dropped.unwrap().grant, GrantEnd::Revoked);
    assert_eq!(states(&rig, "carol"), [LifeState::Revoked]);
    assert!(rig.broker.undecided(&tenant(ALICE)).await.unwrap().is_none());
}

#[tokio::test]
async fn an_expired_choice_keeps_the_session_and_its_grant_is_revoked_and_reported() {
    let (rig, undecided) = undecided().await;
    let mut events = rig.broker.events();
    rig.clock.advance(899);
    assert_eq!(rig.broker.expire_undecided().await.unwrap(), Some(NOW + 900));
    assert!(rig.broker.undecided(&tenant(ALICE)).await.unwrap().is_some());
    rig.clock.advance(1);
    let late = rig.broker.switch(&tenant(ALICE), undecided.lineage).await;
    assert!(matches!(late, Err(ChoiceError::Gone(_))), "{late:?}");
    assert!(rig.broker.undecided(&tenant(ALICE)).await.unwrap().is_none(), "no user is asked any more");
    assert_eq!(states(&rig, "bob"), [LifeState::Live]);
    let broker = rig.broker.clone();
    let looking = tokio::spawn(async move { broker.expire_choices().await });
    let kept = lapsed(&mut events).await;
    looking.abort();
    assert_eq!(kept.account.as_deref(), Some("alice@example.com"));
    assert_eq!(kept.unchosen.grant, GrantEnd::Revoked);
    assert_eq!(states(&rig, "bob"), [LifeState::Revoked]);
    assert!(rig.store.read(&tenant(ALICE)).await.unwrap().candidate.is_none());
    assert_eq!(rig.session(ALICE).await.account.as_deref(), Some("alice@example.com"));
}

#[tokio::test]
async fn other_writers_drop_an_expired_choice_only_two_days_later() {
    let (rig, _) = undecided().await;
    rig.clock.advance(15 * 60 + 2 * 86_400 - 1);
    rig.broker.start(&tenant(BOB), BOB).await.unwrap();
    assert!(rig.store.read(&tenant(ALICE)).await.unwrap().candidate.is_some());
    rig.clock.advance(1);
    rig.broker.cancel(BOB, None).await.unwrap();
    assert!(rig.store.read(&tenant(ALICE)).await.unwrap().candidate.is_none());
}

#[tokio::test]
async fn a_broker_that_did_not_see_a_choice_open_waits_for_its_whole_time() {
    let (rig, _) = undecided().await;
    rig.clock.advance(900);
    let other = rig.another();
    assert_eq!(other.expire_undecided().await.unwrap(), Some(NOW + 1800), "its clock may be wrong");
    rig.clock.advance(899);
    assert_eq!(other.expire_undecided().await.unwrap(), Some(NOW + 1800));
    assert_eq!(states(&rig, "bob"), [LifeState::Live]);
    rig.clock.advance(1);
    assert_eq!(other.expire_undecided().await.unwrap(), None);
    other.drained().await;
    assert_eq!(states(&rig, "bob"), [LifeState::Revoked]);
}

#[tokio::test]
async fn each_of_several_expired_choices_is_revoked_and_reported_however_late() {
    let (rig, _) = undecided().await;
    rig.sign_in(BOB, "bea").await;
    expect_undecided(rig.finish_as(BOB, "carol").await);
    let mut events = rig.broker.events();
    rig.clock.advance(15 * 60 + 2 * 86_400);
    assert_eq!(rig.broker.expire_undecided().await.unwrap(), None);
    for _ in [ALICE, BOB] {
        assert_eq!(lapsed(&mut events).await.unchosen.grant, GrantEnd::Revoked);
    }
    assert_eq!(
        (states(&rig, "bob"), states(&rig, "carol")),
        (vec![LifeState::Revoked], vec![LifeState::Revoked])
    );
}

#[tokio::test]
async fn a_grant_that_cannot_be_revoked_is_reported_as_possibly_alive() {
    let (rig, undecided) = undecided().await;
    for endpoint in [None, Some("http://127.0.0.1:1/revoke".to_owned())] {
        let settings = ProviderSettings { revocation_endpoint: endpoint, ..settings(&rig.server) };
        let broker = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
        let lineage = match rig.broker.undecided(&tenant(ALICE)).await.unwrap() {
            Some(undecided) => undecided.lineage,
            None => expect_undecided(rig.finish_as(ALICE, "carol").await).lineage,
        };
        let kept = broker.keep(&tenant(ALICE), lineage).await.unwrap();
        assert_eq!(kept.unchosen.grant, GrantEnd::MayLiveOn);
    }
    assert_eq!(undecided.account.as_deref(), Some("bob@example.com"));
    assert_eq!((states(&rig, "bob"), states(&rig, "carol")), (vec![LifeState::Live], vec![LifeState::Live]));
}

#[tokio::test]
async fn a_grant_of_an_account_that_is_in_use_elsewhere_is_not_revoked() {
    let (rig, undecided) = undecided().await;
    rig.sign_in(BOB, "bob").await;
    let kept = rig.broker.keep(&tenant(ALICE), undecided.lineage).await.unwrap();
    assert_eq!(kept.unchosen.grant, GrantEnd::MayLiveOn);
    assert_eq!(rig.server.events().total.revoked, 0, "some providers end all grants of an account at once");
    let again = expect_undecided(rig.finish_as(ALICE, "bob").await);
    let newer = expect_undecided(rig.finish_as(ALICE, "bob").await);
    assert_ne!(newer.lineage, again.lineage);
    assert_eq!(newer.dropped.unwrap().grant, GrantEnd::MayLiveOn);
    assert_eq!(rig.server.events().total.revoked, 0);
}

#[tokio::test]
async fn a_grant_of_an_unknown_account_is_not_revoked_beside_a_session() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.server.script([Reply::Edit(|answer| drop(answer.as_object_mut().unwrap().remove("id_token")))]);
    let unknown = expect_undecided(rig.finish_as(ALICE, "alice").await);
    assert_eq!(unknown.account, None);
    let kept = rig.broker.keep(&tenant(ALICE), unknown.lineage).await.unwrap();
    assert_eq!(kept.unchosen.grant, GrantEnd::MayLiveOn);
    assert_eq!(rig.server.events().total.revoked, 0, "it may be the session's own account, as here");
}

#[tokio::test]
async fn a_logout_drops_the_undecided_sign_in_and_revokes_it_too() {
    let (rig, undecided) = undecided().await;
    assert_eq!(rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap(), LoggedOut::LocallyOnly);
    assert_eq!(rig.store.read(&tenant(ALICE)).await.unwrap(), Entry::default());
    assert_eq!(rig.server.events().total.revoked, 0, "the user keeps the grants");
    let late = rig.broker.switch(&tenant(ALICE), undecided.lineage).await;
    assert!(matches!(late, Err(ChoiceError::Gone(_))), "it revives nothing: {late:?}");
    rig.sign_in(ALICE, "alice").await;
    expect_undecided(rig.finish_as(ALICE, "carol").await);
    assert_eq!(
        rig.broker.logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap(),
        LoggedOut::Revoked
    );
    assert_eq!(states(&rig, "carol"), [LifeState::Revoked]);
    assert_eq!(states(&rig, "alice").last(), Some(&LifeState::Revoked));
}

#[tokio::test]
async fn a_guild_sign_in_as_another_account_waits_for_a_choice_too() {
    let rig = Rig::start().await;
    let server = threadkey::ids::Snowflake(900);
    let guild = Principal::Guild(server);
    for account in ["team", "bob"] {
        let started = rig.broker.start(&tenant(guild), ALICE).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), account).await;
        let paste = Pasted::parse(&callback.url).unwrap();
        let finished = rig.broker.finish_in(ALICE, Some(server), None, paste).await.unwrap();
        if account == "bob" {
            assert_eq!(expect_undecided(finished).current.as_deref(), Some("team@example.com"));
        }
    }
    let lease = rig.broker.token(&tenant(guild), MINUTE).await.unwrap();
    assert_eq!(lease.account.as_deref(), Some("team@example.com"));
}

#[tokio::test]
async fn a_sign_in_saved_after_its_expiry_is_reported_as_expired_and_replaces_nothing() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    // The first write starts the sign-in; the second one would save it.
    let disk = Arc::new(RealDisk::with(Faults::parse("rename:ENOSPC#2")));
    let store = FileStore::on_disk(disk, &rig.path, rig.clock.clone(), FileStoreOptions::default()).unwrap();
    let broker = with_settings(settings(&rig.server), Arc::new(store), &rig.clock);
    let mut events = broker.events();
    let started = broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "bob").await;
    let finishing = {
        let broker = broker.clone();
        tokio::spawn(async move { broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await })
    };
    while !matches!(events.recv().await.unwrap(), Event::SaveFailed(_)) {}
    rig.clock.advance(26 * 60);
    let finished = finishing.await.unwrap();
    assert_eq!(rig.session(ALICE).await.account.as_deref(), Some("alice@example.com"));
    assert!(matches!(finished, Err(FinishError::Expired(..))), "{finished:?}");
    assert_eq!(lapsed(&mut events).await.unchosen.grant, GrantEnd::Revoked);
    assert_eq!(states(&rig, "bob"), [LifeState::Revoked]);
}

#[tokio::test]
async fn a_broker_takes_no_news_from_the_store_of_a_sign_in_that_it_is_finishing() {
    let (rig, _) = undecided().await;
    // This server accepts the revocation of bob's grant and does not answer it.
    let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let revocation_endpoint = Some(format!("http://{}/revoke", slow.local_addr().unwrap()));
    let formerly = vec![rig.server.revocation_endpoint()];
    let settings = ProviderSettings { revocation_endpoint, formerly, ..settings(&rig.server) };
    let broker = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
    let mut events = broker.events();
    let started = broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let finishing = {
        let (broker, paste) = (broker.clone(), Pasted::parse(&callback.url).unwrap());
        tokio::spawn(async move { broker.finish(ALICE, None, paste).await })
    };
    let (revoking, _) = slow.accept().await.unwrap();
    let here = broker.sign_in_progress(&started.shown).await.unwrap();
    assert!(here.news.is_none() && here.next.is_some(), "{here:?}");
    let elsewhere = rig.another().sign_in_progress(&started.shown).await.unwrap();
    assert!(matches!(elsewhere.news, Some(News::SignedIn(_))), "{elsewhere:?}");
    drop(revoking);
    let done = expect_signed_in(finishing.await.unwrap().unwrap());
    assert_eq!(done.dropped.unwrap().account.as_deref(), Some("bob@example.com"));
    assert!(matches!(events.recv().await, Ok(Event::SignedIn(_))));
    assert!(matches!(events.recv().await, Ok(Event::SignInConcluded(of)) if of == tenant(ALICE)));
    let after = broker.sign_in_progress(&started.shown).await.unwrap();
    assert!(matches!(after.news, Some(News::SignedIn(_))), "{after:?}");
}
