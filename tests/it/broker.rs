//! The broker on a real file store, against the embedded authorization server: what is sent, how often, and what is kept.

use std::{sync::Arc, time::Duration};

use threadkey::{
    broker::{
        AccessState, Broker, Event, FinishError, Finished, Lease, LoggedOut, RefreshState, Revocation,
        SignedIn, TokenError,
    },
    ids::{Principal, ProviderId, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    secret::AccessToken,
    session::{Change, Entry, Session},
    store::{FileStore, FileStoreOptions, Purpose, Store},
    sys::clock::Clock,
};

use crate::{
    choice::taken,
    support::{
        authserver::{self, AuthServer, Lifetimes, Reply},
        browser,
    },
};

pub(super) const NOW: i64 = 1_795_358_672;
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const ALICE: Principal = Principal::User(Snowflake(803));
pub(super) const BOB: Principal = Principal::User(Snowflake(804));

/// One store and one server, and brokers on them: each broker stands for a process.
pub(super) struct Rig {
    pub(super) server: AuthServer,
    pub(super) clock: Clock,
    pub(super) store: Arc<dyn Store>,
    pub(super) path: std::path::PathBuf,
    pub(super) broker: Broker,
    grace: Duration,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::with(Duration::ZERO).await
    }

    pub(super) async fn with(grace: Duration) -> Self {
        let server = AuthServer::start(authserver::Options::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let clock = Clock::fixed(NOW);
        let store = open(&path, &clock);
        let broker = broker(&server, store.clone(), &clock, grace);
        Self { server, clock, store, path, broker, grace, _folder: folder }
    }

    /// Another process on the same store.
    pub(super) fn another(&self) -> Broker {
        broker(&self.server, open(&self.path, &self.clock), &self.clock, self.grace)
    }

    pub(super) async fn sign_in(&self, who: Principal, account: &str) -> SignedIn {
        taken(self.finish_as(who, account).await)
    }

    /// Signs in, whatever comes of it.
    pub(super) async fn finish_as(&self, who: Principal, account: &str) -> Finished {
        let started = self.broker.start(&tenant(who), who).await.unwrap();
        let callback = browser::sign_in(started.authorize_url.as_str(), account).await;
        self.broker.finish(who, None, Pasted::parse(&callback.url).unwrap()).await.unwrap()
    }

    pub(super) async fn session(&self, who: Principal) -> Session {
        self.store.read(&tenant(who)).await.unwrap().session.unwrap()
    }

    pub(super) fn ask_in_a_task(&self, who: Principal) -> tokio::task::JoinHandle<Result<Lease, TokenError>> {
        let broker = self.broker.clone();
        tokio::spawn(async move { broker.token(&tenant(who), MINUTE).await })
    }

    pub(super) fn expire(&self) {
        self.clock.advance(3600);
    }
}

pub(super) fn open(path: &std::path::Path, clock: &Clock) -> Arc<dyn Store> {
    Arc::new(FileStore::open(path, clock.clone(), FileStoreOptions::default()).unwrap())
}

pub(super) fn broker(server: &AuthServer, store: Arc<dyn Store>, clock: &Clock, grace: Duration) -> Broker {
    with_settings(ProviderSettings { reuse_grace: grace, ..settings(server) }, store, clock)
}

/// A broker for this provider.
pub(super) fn with_settings(settings: ProviderSettings, store: Arc<dyn Store>, clock: &Clock) -> Broker {
    let provider = Provider::new(acme(), settings).unwrap();
    Broker::new(store, Providers::new([provider]), Client::new(clock.clone()).unwrap(), clock.clone())
}

/// The embedded server as a provider, with access tokens of an hour.
pub(super) fn settings(server: &AuthServer) -> ProviderSettings {
    server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
    ProviderSettings {
        issuer: Some(server.issuer().into()),
        authorization_endpoint: server.authorization_endpoint(),
        token_endpoint: server.token_endpoint(),
        revocation_endpoint: Some(server.revocation_endpoint()),
        client_id: authserver::CLIENT_ID.into(),
        redirect_uri: authserver::PASTE_REDIRECT_URI.into(),
        scopes: vec!["openid".into(), "offline_access".into()],
        enforces_pkce: true,
        ..ProviderSettings::default()
    }
}

pub(super) fn acme() -> ProviderId {
    "acme".parse().unwrap()
}

pub(super) fn tenant(who: Principal) -> Tenant {
    Tenant::new(acme(), who)
}

#[tokio::test]
async fn a_fresh_token_causes_no_request() {
    let rig = Rig::start().await;
    let signed_in = rig.sign_in(ALICE, "alice").await;
    assert_eq!(signed_in.account.as_deref(), Some("alice@example.com"));
    let before = rig.server.count();
    for _ in 0..10 {
        rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    }
    assert_eq!(rig.server.count(), before);
}

#[tokio::test]
async fn at_expiry_all_who_ask_in_all_processes_cause_one_refresh_and_hold_the_same_token() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let brokers: Vec<Broker> = (0..6).map(|_| rig.another()).collect();
    rig.server.hold();
    let asking: Vec<_> = (0..48)
        .map(|i| {
            let broker = brokers[i % brokers.len()].clone();
            tokio::spawn(async move { broker.token(&tenant(ALICE), MINUTE).await.unwrap() })
        })
        .collect();
    rig.server.wait_for_held(1).await;
    rig.server.release();
    let mut tokens = std::collections::BTreeSet::new();
    for asked in asking {
        tokens.insert(asked.await.unwrap().access_token.expose().to_owned());
    }
    assert_eq!(tokens.len(), 1);
    let events = rig.server.events();
    assert_eq!((events.total.refreshes, events.total.reuses), (1, 0));
    assert_eq!(rig.session(ALICE).await.generation, 2);
}

#[tokio::test]
async fn a_caller_that_gives_up_cancels_nothing() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.hold();
    let asking = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    rig.server.release();
    rig.broker.drained().await;
    assert_eq!(rig.session(ALICE).await.generation, 2);
    assert_eq!(rig.server.events().total.refreshes, 1);
}

#[tokio::test]
async fn one_slow_login_delays_no_other() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.expire();
    rig.server.hold();
    let slow = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
    // Bob signs out and in again, and changes the store, while Alice's refresh is under way.
    rig.broker.logout(&tenant(BOB), Revocation::Keep).await.unwrap();
    rig.broker.start(&tenant(BOB), BOB).await.unwrap();
    rig.server.release();
    slow.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_sign_in_does_not_wait_for_a_refresh_under_way() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.script([Reply::Hang]);
    let stuck = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
    rig.sign_in(ALICE, "alice").await;
    rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap();
    rig.server.release();
    assert!(stuck.await.unwrap().is_err(), "its grant is gone");
}

#[tokio::test]
async fn trouble_deletes_nothing_and_holds_everybody_back() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let before = rig.session(ALICE).await;
    rig.expire();
    rig.server.script([Reply::Status(503).retry_after(7)]);
    let sent = rig.server.count();
    let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(
        matches!(&error, TokenError::Unavailable { retry_after, .. } if retry_after.as_secs() == 7),
        "{error}"
    );
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error}");
    assert_eq!(rig.server.count(), sent + 1, "Retry-After holds for all processes");
    let kept = rig.session(ALICE).await;
    assert_eq!((&kept.refresh_token, kept.generation), (&before.refresh_token, before.generation));
    rig.clock.advance(7);
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.session(ALICE).await.retry, None);
}

#[tokio::test]
async fn an_uncertain_refresh_is_on_record_and_not_repeated_while_the_access_token_works() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(3000);
    rig.server.script([Reply::Drop]);
    let first = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.broker.drained().await;
    let sent = rig.server.count();
    let status = rig.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert!(matches!(&status.refresh, RefreshState::Uncertain(code) if code.starts_with("ambiguous_")));
    assert!(matches!(status.access, AccessState::Valid(_)));
    rig.clock.advance(590);
    let again = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(again.access_token, first.access_token);
    assert_eq!(rig.server.count(), sent, "no blind replay");
    rig.clock.advance(10);
    let renewed = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_ne!(renewed.access_token, first.access_token);
    assert_eq!(rig.server.count(), sent + 1);
}

#[tokio::test]
async fn within_the_grace_of_the_provider_an_uncertain_refresh_is_repeated_at_once() {
    let rig = Rig::with(Duration::from_secs(30)).await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.script([Reply::Status(500)]);
    let sent = rig.server.count();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.server.count(), sent + 2);
    rig.expire();
    rig.server.script([Reply::Status(500), Reply::Drop, Reply::Drop, Reply::Drop]);
    let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error}");
    assert_eq!(rig.server.count(), sent + 4, "once, not for ever");
}

#[tokio::test]
async fn a_verdict_ends_the_session_tells_once_and_leaves_the_access_token_its_rest() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let mut events = rig.broker.events();
    rig.clock.advance(3590);
    let refused = serde_json::json!({"error": "invalid_grant"});
    rig.server.script([Reply::Json(400, refused)]);
    let lease = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.expires_in, Duration::from_secs(10));
    assert!(matches!(events.recv().await, Ok(Event::Ended { code, .. }) if code == "invalid_grant"));
    let sent = rig.server.count();
    rig.clock.advance(10);
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended { .. }), "{error}");
    assert_eq!(rig.server.count(), sent);
    let untold = rig.another().ended_unnotified().await.unwrap();
    assert_eq!(untold.len(), 1);
    rig.broker.notified(&untold[0].0, &untold[0].1).await.unwrap();
    assert!(rig.broker.ended_unnotified().await.unwrap().is_empty());
    rig.sign_in(ALICE, "alice").await;
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_refused_is_the_operators_problem_and_ends_nothing() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.script([Reply::Json(401, serde_json::json!({"error": "invalid_client"}))]);
    for _ in 0..2 {
        let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
        assert!(matches!(error, TokenError::Misconfigured { .. }), "{error}");
    }
    rig.clock.advance(3600);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn an_early_401_adopts_what_a_sibling_has_before_it_refreshes_and_forces_one_refresh_at_most() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let first = rig.session(ALICE).await.access_token;
    let sent = rig.server.count();
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (broker, token) = (rig.another(), first.clone());
            tokio::spawn(async move { broker.rejected(&tenant(ALICE), &token).await.unwrap() })
        })
        .collect();
    let mut tokens = Vec::new();
    for asked in asking {
        tokens.push(asked.await.unwrap().access_token);
    }
    assert!(tokens.iter().all(|token| *token == tokens[0] && *token != first));
    assert_eq!(rig.server.count(), sent + 1);
    let adopted = rig.broker.rejected(&tenant(ALICE), &AccessToken::new("older")).await.unwrap();
    assert_eq!(adopted.access_token, tokens[0]);
    let error = rig.broker.rejected(&tenant(ALICE), &tokens[0]).await.unwrap_err();
    assert!(matches!(&error, TokenError::Unavailable { code, .. } if code == "rejected_again"), "{error}");
    assert_eq!(rig.server.count(), sent + 1);
    rig.clock.advance(60);
    rig.broker.rejected(&tenant(ALICE), &tokens[0]).await.unwrap();
    assert_eq!(rig.server.count(), sent + 2);
}

#[tokio::test]
async fn a_late_refresh_does_not_revive_a_logout_and_is_revoked_where_that_was_asked() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.hold();
    let asking = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
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
async fn a_late_refresh_does_not_overwrite_a_newer_sign_in() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.hold();
    let asking = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.authorize_url.as_str(), "alice").await;
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
async fn an_answer_that_a_dead_process_left_in_the_journal_is_committed_and_nothing_is_sent() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let session = rig.session(ALICE).await;
    let spent = session.to_spend().unwrap();
    {
        use threadkey::session::journal::{Answer, Intent, Spending};
        let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
        let token_endpoint = rig.server.token_endpoint();
        lock.intend(&Intent { spending: Spending::Refresh(spent), at: NOW, token_endpoint }).await.unwrap();
        let body = br#"{"access_token":"saved","refresh_token":"saved-too","expires_in":"3600"}"#.to_vec();
        let at = rig.clock.now();
        lock.record(&Answer { status: 200, retry_after: None, body: body.into(), at }).await.unwrap();
    }
    let sent = rig.server.count();
    let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.access_token.expose(), "saved");
    assert_eq!(rig.server.count(), sent);
    let after = rig.session(ALICE).await;
    assert_eq!(after.refresh_token.unwrap().expose(), "saved-too");
}

#[tokio::test]
async fn an_intent_without_an_answer_is_told_as_uncertain() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(3000);
    let spent = rig.session(ALICE).await.to_spend().unwrap();
    {
        use threadkey::session::journal::{Intent, Spending};
        let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
        let token_endpoint = rig.server.token_endpoint();
        lock.intend(&Intent { spending: Spending::Refresh(spent), at: NOW, token_endpoint }).await.unwrap();
    }
    let sent = rig.server.count();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.broker.drained().await;
    assert_eq!(rig.server.count(), sent);
    let status = rig.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert_eq!(status.refresh, RefreshState::Uncertain("ambiguous_no_answer".into()));
}

#[tokio::test]
async fn a_refresh_token_goes_only_where_it_came_from() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let elsewhere = AuthServer::start(authserver::Options::default()).await;
    let moved = broker(&elsewhere, rig.store.clone(), &rig.clock, Duration::ZERO);
    let error = moved.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(&error, TokenError::Ended { code, .. } if code == "binding_changed"), "{error}");
    assert_eq!(elsewhere.count(), 0);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_sign_in_survives_a_restart_and_only_its_starter_can_finish_it() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let again = rig.another().start(&tenant(ALICE), ALICE).await.unwrap();
    assert!(again.resumed && again.authorize_url == started.authorize_url);
    let callback = browser::sign_in(started.authorize_url.as_str(), "alice").await;
    let foreign = rig.broker.finish(BOB, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
    assert!(matches!(foreign, FinishError::NothingPending { .. }), "{foreign}");
    let done = rig.another().finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert_eq!(taken(done).account.as_deref(), Some("alice@example.com"));
    let twice = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
    assert!(matches!(twice, FinishError::AlreadyDone { .. }), "{twice}");
    assert_eq!(rig.server.events().total.revoked, 0, "the second use of a code was never sent");
}

#[tokio::test]
async fn what_does_not_belong_to_the_sign_in_is_refused_before_anything_is_sent() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.authorize_url.as_str(), "alice").await;
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
    assert!(taken(done).renews, "the sign-in had stayed open");
}

#[tokio::test]
async fn a_logout_without_a_session_leaves_the_sign_in_under_way_alone() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let error = rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap_err();
    assert!(error.to_string().contains("nothing to log out"), "{error}");
    let again = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    assert_eq!(again.authorize_url, started.authorize_url);
}

#[tokio::test]
async fn an_expired_sign_in_is_told_and_a_new_one_begins() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.authorize_url.as_str(), "alice").await;
    rig.clock.advance(15 * 60);
    let late = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap_err();
    assert!(matches!(late, FinishError::Expired(_)), "{late}");
    assert_eq!(rig.server.count(), 0);
    assert!(!rig.broker.start(&tenant(ALICE), ALICE).await.unwrap().resumed);
}

#[tokio::test]
async fn a_cancelled_sign_in_drops_what_comes_back_late() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.authorize_url.as_str(), "alice").await;
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
async fn an_exchange_whose_process_died_after_the_answer_is_finished_by_the_next_who_asks() {
    let rig = Rig::start().await;
    rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let pending = rig.store.read(&tenant(ALICE)).await.unwrap().pending.unwrap();
    {
        use threadkey::{
            secret::AuthorizationCode,
            session::journal::{Answer, Intent, Spending},
        };
        let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::SignIn).await.unwrap().unwrap();
        let code = AuthorizationCode::new("the-code").fingerprint();
        let spending = Spending::Code { state: pending.state.fingerprint(), code };
        lock.intend(&Intent { spending, at: NOW, token_endpoint: rig.server.token_endpoint() })
            .await
            .unwrap();
        let nonce = pending.nonce.as_ref().map_or("", |nonce| nonce.expose());
        let claims =
            serde_json::json!({"aud": authserver::CLIENT_ID, "nonce": nonce, "email": "alice@example.com"});
        let body = serde_json::json!({"access_token": "saved", "refresh_token": "saved-too", "expires_in": 3600, "id_token": unsigned(&claims)});
        let body = body.to_string().into_bytes().into();
        lock.record(&Answer { status: 200, retry_after: None, body, at: NOW }).await.unwrap();
    }
    let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.access_token.expose(), "saved");
    assert_eq!(lease.account.as_deref(), Some("alice@example.com"));
    assert_eq!(rig.server.count(), 0);
}

#[tokio::test]
async fn nothing_is_spent_where_nothing_can_be_saved() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let sent = rig.server.count();
    let blocked =
        rig.path.with_file_name("auth.json.refresh").join(format!("{}.lock", tenant(ALICE).file_name()));
    // The lock file cannot be opened for writing any more: a folder is in its place.
    put_a_folder_in_the_place_of(&blocked);
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Store(_)), "{error}");
    assert_eq!(rig.server.count(), sent);
}

#[tokio::test]
async fn a_worker_of_a_person_without_a_session_uses_the_servers_only_where_that_is_shared() {
    let rig = Rig::start().await;
    let (alice, guild) = (Snowflake(803), Snowflake(900));
    let shared = Principal::Guild(guild);
    let started = rig.broker.start(&tenant(shared), ALICE).await.unwrap();
    let callback = browser::sign_in(started.authorize_url.as_str(), "team").await;
    rig.broker.finish(ALICE, Some(&acme()), Pasted::parse(&callback.url).unwrap()).await.unwrap();
    assert_eq!(rig.broker.resolve(&acme(), alice, Some(guild)).await.unwrap(), tenant(shared));
    assert_eq!(rig.broker.resolve(&acme(), alice, None).await.unwrap(), tenant(ALICE));
    rig.sign_in(ALICE, "alice").await;
    assert_eq!(rig.broker.resolve(&acme(), alice, Some(guild)).await.unwrap(), tenant(ALICE));
}

#[tokio::test]
async fn the_store_refuses_a_change_for_a_state_that_is_gone() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let old = rig.session(ALICE).await;
    rig.expire();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
    let change = Change::End { spent: old.to_spend().unwrap(), code: "invalid_grant".into() };
    assert_eq!(lock.commit(change).await.unwrap(), threadkey::session::Applied::Stale);
    assert_eq!(rig.session(ALICE).await.ended, None);
}

#[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
fn put_a_folder_in_the_place_of(file: &std::path::Path) {
    let _ = std::fs::remove_file(file);
    std::fs::create_dir_all(file).unwrap();
}

pub(super) fn unsigned(claims: &serde_json::Value) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims.to_string()))
}
