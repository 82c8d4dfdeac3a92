//! Tokens in the journal of a sign-in that is gone: they are revoked, whatever the process that removed the
//! sign-in came to, and no session is taken for them.

use std::time::Duration;

use serde_json::json;
use threadkey::{
    broker::{Broker, Finished, LoggedOut, Revocation},
    ids::Tenant,
    oauth::{Client, Pasted, ProviderSettings, Providers, Publisher, Undiscovered},
    secret::Secret,
    session::{
        Change, Session,
        journal::{Answer, Intent, Spending},
    },
    store::Purpose,
    sys::clock::Clock,
};

use crate::{
    broker::{ALICE, MINUTE, Rig, open, settings, tenant, with_settings},
    crash_matrix::{journal, run_faulty},
    fixtures,
    support::{
        authserver::{AuthServer, LifeState, Lifetimes, Options},
        browser,
        program::Home,
        raw::{Ending, RawServer, json as answer},
    },
};

const DAY: i64 = 86_400;

/// A paste whose process was killed with the tokens in its journal.
struct Left {
    server: AuthServer,
    home: Home,
    clock: Clock,
}

impl Left {
    async fn behind() -> Self {
        let server = AuthServer::start(Options::default()).await;
        server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
        let left = Self {
            home: Home::new(&server.config_toml("acme")),
            server,
            clock: Clock::fixed(Clock::system().now()),
        };
        let callback = left.callback("alice").await;
        let death = "kill-after:fsync@local.signin.lock#2";
        assert_eq!(run_faulty(&left.home, &["auth", "code", "acme"], &callback, death).await, Some(9));
        assert_eq!((left.lines(), left.is_live("alice")), (2, true));
        left
    }

    /// Starts a sign-in, allows it, and returns the text to paste.
    async fn callback(&self, account: &str) -> String {
        let started = self.home.run(&["auth", "start", "acme", "--json"]).await;
        let started: serde_json::Value = serde_json::from_str(&started.stdout).unwrap();
        browser::sign_in(started["authorize_url"].as_str().unwrap(), account).await.url
    }

    fn settings(&self) -> ProviderSettings {
        ProviderSettings {
            userinfo_endpoint: Some(self.server.userinfo_endpoint()),
            ..fixtures::settings(&self.server)
        }
    }

    fn broker(&self) -> Broker {
        with_settings(self.settings(), open(&self.home.store(), &self.clock), &self.clock)
    }

    /// The death between the removal of the sign-in and the look at its journal.
    async fn remove_the_sign_in(&self) {
        let removed = open(&self.home.store(), &self.clock).change(&local(), Change::Cancel(None)).await;
        assert!(removed.unwrap().applied.took_effect());
    }

    fn lines(&self) -> usize {
        journal(&self.home, "acme%2Flocal.signin.lock")
    }

    fn is_live(&self, account: &str) -> bool {
        let lives = self.server.lives();
        lives.iter().any(|life| life.account == account && life.state == LifeState::Live)
    }
}

fn local() -> Tenant {
    "acme/local".parse().unwrap()
}

#[tokio::test]
async fn tokens_of_a_sign_in_whose_canceller_died_are_revoked_by_the_next_look() {
    let left = Left::behind().await;
    left.remove_the_sign_in().await;
    assert_eq!(left.broker().expire_undecided().await.unwrap(), None);
    assert_eq!((left.lines(), left.is_live("alice")), (0, false));
}

#[tokio::test]
async fn tokens_of_a_sign_in_whose_canceller_died_are_revoked_by_the_next_sign_in() {
    let left = Left::behind().await;
    left.remove_the_sign_in().await;
    let (broker, user) = (left.broker(), local().principal);
    let started = broker.start(&local(), user).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "bob").await;
    let finished = broker.finish(user, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert!(matches!(finished, Finished::SignedIn(_)));
    broker.drained().await;
    assert_eq!((left.is_live("alice"), left.is_live("bob")), (false, true));
}

#[tokio::test]
async fn a_cancel_while_another_process_holds_the_lock_leaves_no_grant() {
    let left = Left::behind().await;
    let (broker, store) = (left.broker(), open(&left.home.store(), &left.clock));
    let held = store.try_lock(&local(), Purpose::SignIn).await.unwrap().unwrap();
    assert_eq!(broker.cancel(local().principal, None).await.unwrap(), [local()]);
    broker.drained().await;
    let next = broker.expire_undecided().await.unwrap();
    assert_eq!((next, left.is_live("alice")), (Some(left.clock.now() + 60), true));
    drop(held);
    assert_eq!(broker.expire_undecided().await.unwrap(), None);
    assert_eq!((left.lines(), left.is_live("alice")), (0, false));
}

#[tokio::test]
async fn a_grant_waits_in_its_journal_until_the_endpoints_are_known() {
    let left = Left::behind().await;
    let issuer = "https://127.0.0.1:1".to_owned();
    let settings = ProviderSettings {
        issuer: Some(issuer.clone()),
        authorization_endpoint: String::new(),
        token_endpoint: String::new(),
        ..left.settings()
    };
    let unknown = Undiscovered { id: local().provider, settings, publisher: Publisher::Issuer(issuer) };
    let providers = Providers::with_undiscovered([], [unknown]);
    let client = Client::new(left.clock.clone()).unwrap();
    let store = open(&left.home.store(), &left.clock);
    let early = Broker::new(store, providers, client, left.clock.clone());
    assert_eq!(early.cancel(local().principal, None).await.unwrap(), [local()]);
    assert_eq!(early.expire_undecided().await.unwrap(), Some(left.clock.now() + 60));
    assert_eq!((left.lines(), left.is_live("alice")), (2, true));
    assert_eq!(left.broker().expire_undecided().await.unwrap(), None);
    assert_eq!((left.lines(), left.is_live("alice")), (0, false));
}

#[tokio::test]
async fn a_grant_stays_in_its_journal_until_the_provider_answers_for_a_day() {
    let left = Left::behind().await;
    left.remove_the_sign_in().await;
    let settings = ProviderSettings {
        revocation_endpoint: Some("http://127.0.0.1:1/revoke".to_owned()),
        ..left.settings()
    };
    let broker = with_settings(settings, open(&left.home.store(), &left.clock), &left.clock);
    assert_eq!(broker.expire_undecided().await.unwrap(), Some(left.clock.now() + 60));
    assert_eq!((left.lines(), left.is_live("alice")), (2, true), "the next look asks again");
    left.clock.advance(DAY + 3600);
    assert_eq!(broker.expire_undecided().await.unwrap(), None);
    assert_eq!(left.lines(), 0, "the provider never answers");
}

#[tokio::test]
async fn a_session_whose_journal_was_not_emptied_is_not_revoked_after_its_refresh() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let first: Session = rig.session(ALICE).await;
    rig.clock.advance(3600);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::SignIn).await.unwrap().unwrap();
    let (state, code) = (Secret::new("a state").fingerprint(), Secret::new("a code").fingerprint());
    let at = first.signed_in_at.unwrap();
    let token_endpoint = rig.server.token_endpoint();
    let intent = Intent { spending: Spending::Code { state, code }, at, token_endpoint };
    let intended = lock.intend(intent).await.unwrap();
    let body = json!({
        "access_token": first.access_token.expose(), "refresh_token": first.refresh_token.unwrap().expose(),
        "expires_in": 3600,
    });
    let body = body.to_string().into_bytes().into();
    lock.record(&intended.answered(Answer { status: 200, body, at, ..Answer::default() })).await.unwrap();
    drop(lock);
    assert_eq!(rig.broker.expire_undecided().await.unwrap(), None);
    rig.broker.drained().await;
    assert!(rig.server.lives().iter().any(|life| life.state == LifeState::Live), "the session lives on");
    assert!(rig.store.sign_in_journals().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_logout_asks_again_when_the_provider_does_not_answer_the_revocation() {
    let (rig, revoking) = (Rig::start().await, RawServer::start().await);
    let endpoint = revoking.token_endpoint().replace("/token", "/revoke");
    let settings = ProviderSettings { revocation_endpoint: Some(endpoint), ..settings(&rig.server) };
    let broker = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
    let started = broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let finished = broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert!(matches!(finished, Finished::SignedIn(_)));
    revoking.answer(answer(503, "{}"), Ending::Close);
    revoking.answer(answer(200, "{}"), Ending::Close);
    let done = broker.logout(&tenant(ALICE), Revocation::Revoke).await.unwrap();
    assert_eq!((done, revoking.count()), (LoggedOut::Revoked, 2));
}

#[tokio::test]
async fn a_logout_that_keeps_the_grant_leaves_nothing_to_revoke() {
    let left = Left::behind().await;
    let callback = left.callback("alice").await;
    assert_eq!(left.home.run_with(&["auth", "code", "acme"], &callback).await.code, 0);
    // A second sign-in of the same account dies, and its user logs out and keeps the grant.
    let callback = left.callback("alice").await;
    let death = "kill-after:fsync@local.signin.lock#2";
    assert_eq!(run_faulty(&left.home, &["auth", "code", "acme"], &callback, death).await, Some(9));
    assert_eq!(left.lines(), 2);
    let broker = left.broker();
    assert_eq!(broker.logout(&local(), Revocation::Keep).await.unwrap(), LoggedOut::LocallyOnly);
    broker.drained().await;
    assert_eq!(broker.expire_undecided().await.unwrap(), None);
    assert_eq!((left.lines(), left.is_live("alice")), (0, true));
}
