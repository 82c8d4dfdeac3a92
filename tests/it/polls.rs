//! Sign-ins that are polled: device codes (RFC 8628) and CIBA, on a real file store, against a server
//! that answers with scripted bytes. The clock is set; no test waits for an interval.

#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use threadkey::{
    agent::Conversation,
    broker::{
        Broker, FinishError, News, OwnerRights, Polled, RightsError, SignIn, Standing, StartError,
        StartOptions, View,
    },
    ids::{Principal, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    secret::Secret,
    session::{
        Change, Entry, GrantKind, Polling,
        journal::{Answer, Intent, Spending},
    },
    store::{Purpose, Store},
    sys::clock::Clock,
};

use crate::{
    broker::{ALICE, BOB, MINUTE, NOW, open, tenant},
    support::raw::{Ending, RawServer, framed},
};

/// A provider with all grants, and brokers on one store; each broker stands for a process.
struct Rig {
    server: RawServer,
    clock: Clock,
    store: Arc<dyn Store>,
    path: std::path::PathBuf,
    broker: Broker,
    _folder: tempfile::TempDir,
}

fn broker(server: &RawServer, store: Arc<dyn Store>, clock: &Clock) -> Broker {
    with_settings(settings(server), store, clock)
}

fn settings(server: &RawServer) -> ProviderSettings {
    let at = |path: &str| server.token_endpoint().replace("/token", path);
    ProviderSettings {
        authorization_endpoint: at("/authorize"),
        token_endpoint: at("/token"),
        device_authorization_endpoint: Some(at("/device")),
        backchannel_authentication_endpoint: Some(at("/bc")),
        grants: vec![GrantKind::Device, GrantKind::Code, GrantKind::Ciba],
        login_hints: BTreeMap::from([("803".to_owned(), "alice@example.com".to_owned())]),
        client_id: "threadkey".into(),
        client_secret: Some(Secret::new("secret-1").into()),
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        scopes: vec!["read".into()],
        enforces_pkce: true,
        ..ProviderSettings::default()
    }
}

fn with_settings(settings: ProviderSettings, store: Arc<dyn Store>, clock: &Clock) -> Broker {
    let provider = Provider::new(tenant(ALICE).provider, settings).unwrap();
    Broker::new(store, Providers::new([provider]), Client::new(clock.clone()).unwrap(), clock.clone())
}

impl Rig {
    async fn start() -> Self {
        let server = RawServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let clock = Clock::fixed(NOW);
        let store = open(&path, &clock);
        let broker = broker(&server, store.clone(), &clock);
        Self { server, clock, store, path, broker, _folder: folder }
    }

    /// Another process on the same store.
    fn another(&self) -> Broker {
        broker(&self.server, open(&self.path, &self.clock), &self.clock)
    }

    fn answer(&self, status: u16, body: &Value) {
        let body = body.to_string();
        let json = "content-type: application/json\r\n";
        self.server.answer(framed(status, json, body.as_bytes()), Ending::Close);
    }

    fn answer_error(&self, word: &str) {
        self.answer(400, &json!({"error": word}));
    }

    fn answer_tokens(&self) {
        self.answer(
            200,
            &json!({"access_token": "at-1", "refresh_token": "rt-1", "token_type": "Bearer", "expires_in": 3600}),
        );
    }

    fn answer_device_code(&self, expires_in: i64) {
        self.answer(
            200,
            &json!({
                "device_code": "dc-1", "user_code": "ABCD-1234", "verification_uri": "https://id.example/device",
                "verification_uri_complete": "https://id.example/device?user_code=ABCD-1234",
                "expires_in": expires_in, "interval": 5,
            }),
        );
    }

    async fn start_device(&self) -> SignIn {
        self.answer_device_code(600);
        self.broker.start(&tenant(ALICE), ALICE).await.unwrap()
    }

    async fn entry(&self) -> Entry {
        self.store.read(&tenant(ALICE)).await.unwrap()
    }

    async fn polling(&self) -> Polling {
        self.entry().await.pending.unwrap().polling.unwrap()
    }

    /// How many polls were sent.
    fn polls(&self) -> usize {
        self.server.forms().iter().filter(|form| form.contains_key("grant_type")).count()
    }

    /// Leaves the journal of a process that died in a poll, after its answer or before.
    async fn leave_a_poll(&self, answer: Option<&Value>) {
        self.leave_a_poll_of(&tenant(ALICE), answer).await;
    }

    async fn leave_a_poll_of(&self, tenant: &Tenant, answer: Option<&Value>) {
        let pending = self.store.read(tenant).await.unwrap().pending.unwrap();
        let mut lock = self.store.try_lock(tenant, Purpose::SignIn).await.unwrap().unwrap();
        let code = pending.polling.unwrap().code.fingerprint();
        let spending = Spending::Code { state: pending.state.fingerprint(), code };
        let at = self.clock.now();
        let intent = Intent { spending, at, token_endpoint: self.server.token_endpoint() };
        let intended = lock.intend(intent).await.unwrap();
        if let Some(body) = answer {
            let body = body.to_string().into_bytes().into();
            let answer = Answer { status: 200, body, at, ..Answer::default() };
            lock.record(&intended.answered(answer)).await.unwrap();
        }
    }
}

fn waits(polled: &Polled) -> i64 {
    match polled {
        Polled::Waiting(due) => *due,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_device_code_is_shown_polled_at_its_interval_and_becomes_the_session() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    let View::DeviceCode { user_code, verification_uri, verification_uri_complete } = &started.view else {
        panic!("{:?}", started.view)
    };
    assert_eq!((user_code.as_str(), verification_uri.as_str()), ("ABCD-1234", "https://id.example/device"));
    assert!(verification_uri_complete.as_ref().unwrap().as_str().ends_with("?user_code=ABCD-1234"));
    assert_eq!(started.expires_at, NOW + 600);
    let again = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    assert!(again.resumed && rig.server.count() == 1, "the same code is shown, and no other is asked for");
    assert_eq!(waits(&rig.broker.poll(&started.shown).await.unwrap()), NOW + 5);
    assert_eq!(rig.polls(), 0, "a poll before the interval is not sent");
    for sent in 1..=2 {
        rig.clock.advance(5);
        rig.answer_error("authorization_pending");
        assert_eq!(waits(&rig.broker.poll(&started.shown).await.unwrap()), NOW + 5 * sent + 5);
        assert_eq!(waits(&rig.another().poll(&started.shown).await.unwrap()), NOW + 5 * sent + 5);
    }
    assert_eq!(rig.polls(), 2, "another process keeps the same pace");
    rig.clock.advance(5);
    rig.answer_tokens();
    let polled = rig.broker.poll(&started.shown).await.unwrap();
    assert!(matches!(polled, Polled::Finished(_)), "{polled:?}");
    let session = rig.entry().await.session.unwrap();
    assert_eq!((session.access_token.expose(), session.signed_in_by), ("at-1", Some(ALICE)));
    assert!(matches!(rig.broker.poll(&started.shown).await.unwrap(), Polled::Gone));
    assert_eq!(rig.polls(), 3);
}

#[tokio::test]
async fn slow_down_lengthens_the_interval_for_every_process() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    rig.clock.advance(5);
    rig.answer_error("slow_down");
    assert_eq!(waits(&rig.broker.poll(&started.shown).await.unwrap()), NOW + 15);
    assert_eq!(rig.polling().await.interval, 10);
    rig.clock.advance(5);
    assert_eq!(waits(&rig.another().poll(&started.shown).await.unwrap()), NOW + 15);
    rig.clock.advance(5);
    rig.answer(400, &json!({"error": "slow_down", "interval": 30}));
    assert_eq!(waits(&rig.another().poll(&started.shown).await.unwrap()), NOW + 45, "the named one counts");
    assert_eq!(rig.polls(), 2);
}

#[tokio::test]
async fn a_refusal_and_an_expired_code_end_the_sign_in_and_are_reported() {
    for word in ["access_denied", "expired_token", "invalid_grant", "unauthorized_client"] {
        let rig = Rig::start().await;
        let started = rig.start_device().await;
        rig.clock.advance(5);
        rig.answer_error(word);
        let polled = rig.broker.poll(&started.shown).await.unwrap();
        assert!(matches!(&polled, Polled::Ended(code) if code == word), "{polled:?}");
        let news = rig.another().sign_in_progress(&started.shown).await.unwrap().news;
        assert!(matches!(&news, Some(News::Ended { code }) if code == word), "{news:?}");
        rig.clock.advance(600);
        assert!(!matches!(rig.broker.poll(&started.shown).await.unwrap(), Polled::Finished(_)));
        assert_eq!(rig.polls(), 1, "a sign-in that has ended is not polled");
        let next = rig.start_device().await;
        assert!(!next.resumed, "another one can begin");
    }
}

#[tokio::test]
async fn a_code_that_is_never_approved_is_not_polled_after_its_end() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    rig.clock.advance(600);
    assert!(matches!(rig.broker.poll(&started.shown).await.unwrap(), Polled::Gone));
    assert_eq!(rig.polls(), 0);
    // A code for hours ends with the sign-in.
    rig.answer_device_code(86_400);
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    assert_eq!(started.expires_at, rig.clock.now() + 900);
}

#[tokio::test]
async fn a_cancelled_sign_in_is_not_polled_and_its_late_tokens_are_dropped() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    rig.clock.advance(5);
    rig.leave_a_poll(Some(&json!({"access_token": "at-1", "refresh_token": "rt-1"}))).await;
    rig.broker.cancel(ALICE, None).await.unwrap();
    assert!(matches!(rig.broker.poll(&started.shown).await.unwrap(), Polled::Gone));
    assert_eq!((rig.polls(), rig.entry().await.session), (0, None));
}

#[tokio::test]
async fn an_answer_of_a_dead_poller_is_committed_and_nothing_is_sent() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    rig.clock.advance(5);
    rig.leave_a_poll(Some(&json!({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600})))
        .await;
    let polled = rig.another().poll(&started.shown).await.unwrap();
    assert!(matches!(polled, Polled::Finished(_)), "{polled:?}");
    assert_eq!(rig.polls(), 0);
    assert_eq!(rig.entry().await.session.unwrap().refresh_token.unwrap().expose(), "rt-1");
}

#[tokio::test]
async fn a_caller_for_a_token_commits_the_answer_of_a_dead_poller() {
    let rig = Rig::start().await;
    rig.start_device().await;
    rig.clock.advance(5);
    rig.leave_a_poll(Some(&json!({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600})))
        .await;
    let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.access_token.expose(), "at-1");
    assert_eq!(rig.polls(), 0);
}

#[tokio::test]
async fn a_poll_without_an_answer_is_repeated_after_twice_the_interval() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    rig.clock.advance(5);
    rig.leave_a_poll(None).await;
    assert_eq!(waits(&rig.another().poll(&started.shown).await.unwrap()), NOW + 15);
    rig.clock.advance(10);
    rig.answer_tokens();
    let polled = rig.another().poll(&started.shown).await.unwrap();
    assert!(matches!(polled, Polled::Finished(_)), "{polled:?}");
    assert_eq!(rig.polls(), 1);
}

#[tokio::test]
async fn an_overloaded_provider_gets_fewer_polls_and_ends_nothing() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    rig.clock.advance(5);
    for (status, body) in [(503, json!({})), (429, json!({})), (500, json!({"error": "access_denied"}))] {
        rig.answer(status, &body);
        let due = waits(&rig.broker.poll(&started.shown).await.unwrap());
        assert_eq!(due, rig.clock.now() + 10, "{status}");
        rig.clock.advance(10);
    }
    rig.answer_tokens();
    let polled = rig.broker.poll(&started.shown).await.unwrap();
    assert!(matches!(polled, Polled::Finished(_)), "{polled:?}");
}

#[tokio::test]
async fn tokens_beside_an_error_word_are_not_taken_for_a_pending_answer() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    rig.clock.advance(5);
    rig.answer(
        200,
        &json!({"error": "authorization_pending", "access_token": "at-1", "refresh_token": "rt-1"}),
    );
    waits(&rig.broker.poll(&started.shown).await.unwrap());
    let unread = std::fs::read_dir(rig.path.with_file_name("auth.json.refresh")).unwrap();
    let names: Vec<_> = unread.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.ends_with(".unread")), "{names:?}");
}

#[tokio::test]
async fn a_storm_of_pollers_sends_one_poll_per_interval_and_one_gets_the_tokens() {
    let rig = Rig::start().await;
    let started = rig.start_device().await;
    for (round, last) in [(1, false), (2, true)] {
        rig.clock.advance(5);
        if last {
            rig.answer_tokens()
        } else {
            rig.answer_error("authorization_pending")
        }
        let pollers: Vec<_> = (0..8)
            .map(|_| {
                let (broker, shown) = (rig.another(), started.shown.clone());
                tokio::spawn(async move { broker.poll(&shown).await.unwrap() })
            })
            .collect();
        let mut finished = 0;
        for poller in pollers {
            finished += usize::from(matches!(poller.await.unwrap(), Polled::Finished(_)));
        }
        assert_eq!((rig.polls(), finished), (round, usize::from(last)));
    }
    assert!(rig.entry().await.session.is_some());
}

#[tokio::test]
async fn the_bot_polls_a_sign_in_that_an_earlier_process_started() {
    let rig = Rig::start().await;
    rig.start_device().await;
    rig.clock.advance(5);
    rig.answer_tokens();
    let bot = rig.another();
    let mut events = bot.events();
    let polling =
        tokio::spawn(
            async move { bot.poll_sign_ins(std::sync::Arc::new(threadkey::broker::WithoutBot)).await },
        );
    let event = events.recv().await;
    assert!(matches!(event, Ok(threadkey::broker::Event::SignedIn(_))), "{event:?}");
    polling.abort();
    assert_eq!(rig.polls(), 1);
}

#[tokio::test]
async fn the_bot_commits_the_answer_of_a_dead_poller_after_the_end_of_its_code() {
    let rig = Rig::start().await;
    rig.start_device().await;
    rig.clock.advance(599);
    let tokens = json!({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600});
    rig.leave_a_poll(Some(&tokens)).await;
    rig.clock.advance(60);
    let bot = rig.another();
    let mut events = bot.events();
    let polling =
        tokio::spawn(async move { bot.poll_sign_ins(Arc::new(threadkey::broker::WithoutBot)).await });
    let event = tokio::time::timeout(MINUTE, events.recv()).await.expect("the bot looks at it");
    assert!(matches!(event, Ok(threadkey::broker::Event::SignedIn(_))), "{event:?}");
    polling.abort();
    assert_eq!(rig.polls(), 0);
}

#[tokio::test]
async fn the_grant_of_a_dead_poller_is_revoked_if_its_starter_lost_the_right() {
    let rig = Rig::start().await;
    rig.answer_device_code(600);
    let shared: Tenant = "acme/guild:9".parse().unwrap();
    let endpoint = rig.server.token_endpoint().replace("/token", "/revoke");
    let settings = ProviderSettings { revocation_endpoint: Some(endpoint), ..settings(&rig.server) };
    let bot = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
    bot.start(&shared, ALICE).await.unwrap();
    rig.clock.advance(599);
    let tokens = json!({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600});
    rig.leave_a_poll_of(&shared, Some(&tokens)).await;
    rig.clock.advance(60);
    let (sent, looking) = (rig.server.count(), bot.clone());
    let polling = tokio::spawn(async move { looking.poll_sign_ins(Arc::new(NoManagers)).await });
    rig.answer(200, &json!({}));
    rig.server.answered(sent + 1).await;
    polling.abort();
    bot.drained().await;
    assert_eq!(rig.server.forms().last().unwrap()["token"], "rt-1");
    assert_eq!(rig.store.read(&shared).await.unwrap(), Entry::default());
}

#[tokio::test]
async fn a_servers_grant_that_no_bot_finishes_is_revoked_before_its_sign_in_is_swept() {
    let rig = Rig::start().await;
    rig.answer_device_code(600);
    let shared: Tenant = "acme/guild:9".parse().unwrap();
    let endpoint = rig.server.token_endpoint().replace("/token", "/revoke");
    let settings = ProviderSettings { revocation_endpoint: Some(endpoint), ..settings(&rig.server) };
    let serving = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
    serving.start(&shared, ALICE).await.unwrap();
    rig.clock.advance(599);
    let tokens = json!({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600});
    rig.leave_a_poll_of(&shared, Some(&tokens)).await;
    rig.clock.advance(86_400);
    let sent = rig.server.count();
    serving.expire_undecided().await.unwrap();
    assert_eq!(rig.server.count(), sent, "a bot may still come and finish it");
    rig.clock.advance(2 * 86_400);
    rig.answer(200, &json!({}));
    assert_eq!(serving.expire_undecided().await.unwrap(), None);
    assert_eq!(rig.server.forms().last().unwrap()["token"], "rt-1");
    assert_eq!(rig.server.count(), sent + 1);
}

/// The process between the poll that returned a code and the answer to its exchange.
#[derive(Clone, Copy, Debug)]
enum Exchanging {
    Unanswered,
    Unreadable,
    Dead,
}

#[tokio::test]
async fn a_code_of_the_codex_flow_is_sent_once_however_its_exchange_ended() {
    for ended in [Exchanging::Unanswered, Exchanging::Unreadable, Exchanging::Dead] {
        let rig = Rig::start().await;
        let device_form = threadkey::oauth::DeviceForm { is_codex: true, ..Default::default() };
        let settings = ProviderSettings { device_form, ..settings(&rig.server) };
        let codex = with_settings(settings, open(&rig.path, &rig.clock), &rig.clock);
        rig.answer(200, &json!({"device_auth_id": "da-1", "user_code": "AB-12", "interval": "5"}));
        let started = codex.start(&tenant(ALICE), ALICE).await.unwrap();
        rig.clock.advance(5);
        let code = json!({"authorization_code": "c-1", "code_verifier": "v-1"});
        match ended {
            Exchanging::Unanswered | Exchanging::Unreadable => {
                rig.answer(200, &code);
                match ended {
                    Exchanging::Unreadable => rig.answer(200, &json!({"odd": "tokens"})),
                    _ => rig.server.answer("", Ending::Drop),
                }
                let polled = codex.poll(&started.shown).await.unwrap();
                assert!(
                    matches!(&polled, Polled::Ended(code) if code == "code_spent"),
                    "{ended:?}: {polled:?}"
                );
            }
            Exchanging::Dead => {
                let state = rig.entry().await.pending.unwrap().state.fingerprint();
                let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::SignIn).await.unwrap().unwrap();
                let spending = Spending::Code { state, code: Secret::new("c-1").fingerprint() };
                let token_endpoint = rig.server.token_endpoint();
                lock.intend(Intent { spending, at: rig.clock.now(), token_endpoint }).await.unwrap();
            }
        }
        let sent = rig.server.count();
        rig.clock.advance(120);
        rig.answer(200, &code);
        rig.answer_tokens();
        let polled = codex.poll(&started.shown).await.unwrap();
        assert!(matches!(&polled, Polled::Ended(code) if code == "code_spent"), "{ended:?}: {polled:?}");
        assert_eq!(rig.server.count(), sent, "{ended:?}: nothing is sent");
    }
}

#[tokio::test]
async fn a_paste_for_a_polled_sign_in_is_refused_and_nothing_is_sent() {
    let rig = Rig::start().await;
    rig.start_device().await;
    let error = rig.broker.finish(ALICE, None, Pasted::parse("some-code").unwrap()).await.unwrap_err();
    assert!(matches!(error, FinishError::NoCodeNeeded(_)), "{error}");
    assert_eq!(rig.polls(), 0);
}

#[tokio::test]
async fn another_grant_replaces_the_sign_in_and_an_absent_one_is_named() {
    let rig = Rig::start().await;
    let device = rig.start_device().await;
    let by_code = StartOptions { grant: Some(GrantKind::Code), ..StartOptions::default() };
    let code = rig.broker.start_with(&tenant(ALICE), ALICE, by_code).await.unwrap();
    assert!(code.link().is_some() && !code.resumed);
    assert!(matches!(rig.broker.poll(&device.shown).await.unwrap(), Polled::Gone));
    assert_eq!(rig.polls(), 0);
}

#[tokio::test]
async fn an_unusable_answer_to_a_start_begins_nothing() {
    let good = json!({"device_code": "d", "user_code": "AB", "verification_uri": "https://id.example/d"});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for (status, body, part) in [
        (400, json!({"error": "unauthorized_client"}), "unauthorized_client"),
        (404, json!({}), "http_404"),
        (200, json!({"error": "device_flow_disabled"}), "http_200"),
        (200, with("device_code", Value::Null), "device_code"),
        (200, with("user_code", "A`B\n**x**".into()), "user_code"),
        (200, with("user_code", "A".repeat(100).into()), "user_code"),
        (200, with("verification_uri", "javascript:alert(1)".into()), "verification_uri"),
        (200, with("verification_uri", "http://id.example/d".into()), "verification_uri"),
        (200, with("verification_uri", "https://user:pass@id.example/d".into()), "verification_uri"),
    ] {
        let rig = Rig::start().await;
        rig.answer(status, &body);
        let error = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap_err();
        assert!(matches!(&error, StartError::NotBegun { problem, .. } if problem.contains(part)), "{error}");
        assert_eq!(rig.entry().await, Entry::default());
    }
}

#[tokio::test]
async fn odd_numbers_of_a_provider_are_bounded() {
    for (interval, expires_in, pause, ends) in [
        (json!("7"), json!("60"), 7, 60),
        (json!(0), json!(600.5), 5, 601),
        (json!(-3), json!(-1), 5, 900),
        (json!(1e12), json!(null), 60, 900),
    ] {
        let rig = Rig::start().await;
        rig.answer(
            200,
            &json!({
                "device_code": "dc-1", "user_code": "AB", "verification_uri": "https://id.example/d",
                "interval": interval, "expires_in": expires_in,
            }),
        );
        let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
        assert_eq!((rig.polling().await.interval, started.expires_at), (pause, NOW + ends));
    }
}

// CIBA.

fn by_ciba() -> StartOptions {
    let user_name = Some("alice`<@1>".to_owned());
    StartOptions { grant: Some(GrantKind::Ciba), user_name, ..StartOptions::default() }
}

#[tokio::test]
async fn ciba_names_the_user_from_the_operators_map_and_polls_to_the_session() {
    let rig = Rig::start().await;
    rig.answer(200, &json!({"auth_req_id": "ar-1", "expires_in": 120, "interval": 2}));
    let started = rig.broker.start_with(&tenant(ALICE), ALICE, by_ciba()).await.unwrap();
    let View::Elsewhere { binding_message } = &started.view else { panic!("{:?}", started.view) };
    assert_eq!(binding_message, "threadkey for alice@1");
    let opening = &rig.server.forms()[0];
    let expected = [
        ("scope", "openid read"),
        ("login_hint", "alice@example.com"),
        ("binding_message", "threadkey for alice@1"),
        ("client_id", "threadkey"),
    ];
    assert_eq!(*opening, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let basic = "Basic dGhyZWFka2V5OnNlY3JldC0x";
    assert_eq!(rig.server.requests()[0].headers["authorization"], basic);
    rig.clock.advance(2);
    rig.answer_error("authorization_pending");
    assert_eq!(waits(&rig.broker.poll(&started.shown).await.unwrap()), NOW + 4);
    rig.clock.advance(2);
    rig.answer_tokens();
    let polled = rig.broker.poll(&started.shown).await.unwrap();
    assert!(matches!(polled, Polled::Finished(_)), "{polled:?}");
    let poll = &rig.server.forms()[2];
    assert_eq!(poll["grant_type"], "urn:openid:params:grant-type:ciba");
    assert_eq!(poll["auth_req_id"], "ar-1");
}

#[tokio::test]
async fn ciba_asks_for_no_user_whose_name_it_does_not_know() {
    let rig = Rig::start().await;
    let error = rig.broker.start_with(&tenant(BOB), BOB, by_ciba()).await.unwrap_err();
    assert!(matches!(error, StartError::NoLoginHint { user, .. } if user == BOB), "{error}");
    assert_eq!(rig.server.count(), 0);
}

#[tokio::test]
async fn ciba_ends_by_each_of_its_words() {
    for (word, ends) in [("slow_down", false), ("expired_token", true), ("access_denied", true)] {
        let rig = Rig::start().await;
        rig.answer(200, &json!({"auth_req_id": "ar-1", "expires_in": 120}));
        let started = rig.broker.start_with(&tenant(ALICE), ALICE, by_ciba()).await.unwrap();
        rig.clock.advance(5);
        rig.answer_error(word);
        let polled = rig.broker.poll(&started.shown).await.unwrap();
        assert_eq!(matches!(&polled, Polled::Ended(code) if code == word), ends, "{polled:?}");
    }
}

#[tokio::test]
async fn ciba_takes_the_subject_of_the_users_own_earlier_session() {
    let rig = Rig::start().await;
    rig.answer_device_code(600);
    let started = rig.broker.start(&tenant(BOB), BOB).await.unwrap();
    rig.clock.advance(5);
    rig.answer_tokens();
    rig.broker.poll(&started.shown).await.unwrap();
    let error = rig.broker.start_with(&tenant(BOB), BOB, by_ciba()).await.unwrap_err();
    assert!(matches!(error, StartError::NoLoginHint { .. }), "{error}");
    let set = |member: &str, value: &str| {
        let mut text: Value = serde_json::from_str(&std::fs::read_to_string(&rig.path).unwrap()).unwrap();
        text["sessions"][tenant(BOB).to_string()][member] = value.into();
        std::fs::write(&rig.path, text.to_string()).unwrap();
    };
    // An answer of userinfo alone does not prove it.
    set("subject", "sub-bob");
    let error = rig.broker.start_with(&tenant(BOB), BOB, by_ciba()).await.unwrap_err();
    assert!(matches!(error, StartError::NoLoginHint { .. }), "{error}");
    // The subject of a verified id token.
    set("id_token", "x.y.z");
    rig.answer(200, &json!({"auth_req_id": "ar-1"}));
    rig.broker.start_with(&tenant(BOB), BOB, by_ciba()).await.unwrap();
    assert_eq!(rig.server.forms().last().unwrap()["login_hint"], "sub-bob");
    let cancel = rig.store.change(&tenant(BOB), Change::Cancel(None)).await.unwrap();
    assert!(cancel.applied.took_effect());
}

/// Users who manage no server.
struct NoManagers;

#[async_trait::async_trait]
impl OwnerRights for NoManagers {
    async fn of(&self, _: &Conversation) -> Result<Standing, RightsError> {
        unreachable!("no conversation asks")
    }

    async fn of_principal(&self, _: Principal) -> Result<(), RightsError> {
        Ok(())
    }

    async fn manages(&self, _: Snowflake, _: Snowflake) -> Result<(), RightsError> {
        Err(RightsError::NotEntitled)
    }
}

#[tokio::test]
async fn a_servers_sign_in_is_cancelled_when_its_starter_no_longer_manages_the_server() {
    let rig = Rig::start().await;
    rig.answer_device_code(600);
    let shared: Tenant = "acme/guild:9".parse().unwrap();
    let started = rig.broker.start(&shared, ALICE).await.unwrap();
    rig.clock.advance(5);
    let bot = rig.another();
    let polling = tokio::spawn(async move { bot.poll_sign_ins(std::sync::Arc::new(NoManagers)).await });
    let mut changes = rig.broker.changes();
    while rig.broker.sign_in_progress(&started.shown).await.unwrap().news.is_none() {
        changes.next().await;
    }
    polling.abort();
    let news = rig.broker.sign_in_progress(&started.shown).await.unwrap().news;
    assert!(matches!(news, Some(News::Cancelled)), "{news:?}");
    assert_eq!(rig.polls(), 0);
}
