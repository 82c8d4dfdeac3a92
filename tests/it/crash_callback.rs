//! The process that serves the callback is killed (-9) before and after each step of its exchange. The
//! code is spent once; the grant is not lost, and not in use without its digits. See
//! [`crash_matrix`](crate::crash_matrix).
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{os::unix::process::ExitStatusExt as _, sync::Arc, time::Duration};

use reqwest::StatusCode;
use serde_json::Value;
use threadkey::{
    broker::{Broker, FinishError, Opener, PublicUrl, Restored, StartOptions, WayBack, WithoutBot},
    ids::{Principal, Snowflake, Tenant},
    oauth::{Client, Provider, ProviderSettings, Providers},
    secret::{Digits, Secret, State},
    session::{
        DIGIT_ATTEMPTS,
        journal::{Answer, Intent, Spending},
    },
    store::{FileStore, FileStoreOptions},
    sys::{clock::Clock, disk::RealDisk, faults::Faults},
};
use url::Url;

use crate::{
    cli::{OPERATOR, OPERATOR_KEY},
    crash_matrix::{Call, Death, calls, deaths, each, journal},
    fixtures,
    support::{
        authserver::{AuthServer, LifeState, Lifetimes, Options},
        browser,
        network::free_address,
        program::{Home, Running},
    },
};

const ALICE: Principal = Principal::User(Snowflake(803));
const TOKEN: [&str; 4] = ["token", "acme", "--as", "user:803"];
const STATUS: [&str; 5] = ["auth", "status", "--as", "user:803", "--json"];

/// A sign-in whose user has allowed the access, and whose browser is about to come back.
struct Case {
    server: AuthServer,
    home: Home,
    url: String,
    cookie: String,
    callback: String,
}

/// The next process after the death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The user loads the page again.
    Reload,
    /// An agent requests a token first.
    Token,
    /// No page is loaded in time.
    Expiry,
}

impl Case {
    async fn begin() -> Self {
        let address = free_address();
        let url = format!("http://{address}");
        let redirect_uris = vec![format!("{url}/oauth/callback")];
        let server = AuthServer::start(Options { redirect_uris, ..Options::default() }).await;
        server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
        let pages =
            format!("[api]\npublic_url = {url:?}\npublic_listen = \"{address}\"\nbehind_proxy = true\n");
        let home = Home::new(&(server.config_toml("acme") + &pages + OPERATOR));
        let case = Self { server, home, url, cookie: String::new(), callback: String::new() };
        let broker = case.broker();
        let opener = Opener { user: "alice".into(), server: None };
        let options = StartOptions { way_back: WayBack::Browser(opener), ..StartOptions::default() };
        let started = broker.start_with(&tenant(), ALICE, options).await.expect("a sign-in");
        let id = started.link().expect("a link").path().trim_start_matches("/start/").to_owned();
        let opened = broker.open_start(&id, "", &WithoutBot).await.expect("it opens");
        let cookie = format!("{}={}", opened.cookie, opened.value.expose());
        let callback = browser::sign_in(opened.location.as_str(), "alice").await.url;
        Self { cookie, callback, ..case }
    }

    /// A broker of this process on the same store.
    fn broker(&self) -> Broker {
        self.faulty_broker("", Clock::system())
    }

    fn faulty_broker(&self, faults: &str, clock: Clock) -> Broker {
        let disk = Arc::new(RealDisk::with(Faults::parse(faults)));
        let store = FileStore::on_disk(disk, &self.home.store(), clock.clone(), FileStoreOptions::default());
        let settings = ProviderSettings {
            userinfo_endpoint: Some(self.server.userinfo_endpoint()),
            ..fixtures::settings(&self.server)
        };
        let provider = Provider::new(tenant().provider, settings).expect("a provider");
        let client = Client::new(clock.clone()).expect("a client");
        let broker =
            Broker::new(Arc::new(store.expect("a store")), Providers::new([provider]), client, clock);
        broker.set_public_url(PublicUrl::parse(&self.url).expect("an address"));
        broker
    }

    async fn serve(&self, faults: &str) -> Running {
        let serving = self.home.start(&["serve"], &[("THREADKEY_TEST_FAILPOINTS", faults), OPERATOR_KEY]);
        serving.says("the sign-in pages are served").await;
        serving
    }

    /// Loads the callback. Returns `None` if the process dies meanwhile.
    async fn load(&self) -> Option<(StatusCode, String)> {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let page = client.get(&self.callback).header("cookie", &self.cookie).send().await.ok()?;
        Some((page.status(), page.text().await.ok()?))
    }

    fn is_live(&self) -> bool {
        self.server.lives().iter().any(|life| life.state == LifeState::Live)
    }

    fn stored(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.home.store()).expect("a store")).expect("it parses")
    }

    /// Digits that are not those of the page.
    fn wrong_digits(&self) -> Digits {
        let pending = &self.stored()["pending"]["acme/user:803"];
        let state = State::new(pending["state"].as_str().expect("a state"));
        let right = pending["browser"]["unconfirmed"]["digits"].as_str().expect("digits").to_owned();
        let digits = |text: &str| Digits::parse(text).expect("six digits");
        let zeros = digits("000000");
        if zeros.fingerprint(&state).as_str() == right { digits("100000") } else { zeros }
    }

    fn awaits_digits(&self) -> bool {
        self.stored()["pending"]["acme/user:803"]["browser"]["unconfirmed"].is_object()
    }

    /// The number of exchanges that the provider has seen.
    fn sent(&self) -> u64 {
        self.server.count()
    }
}

fn tenant() -> Tenant {
    Tenant::new("acme".parse().expect("a name"), ALICE)
}

/// The calls of one load of the callback.
async fn recorded() -> Vec<Call> {
    let case = Case::begin().await;
    let record = case.home.path().join("calls");
    let serving = case.serve(&format!("record:{}", record.display())).await;
    let before = calls(&record, &case.home).len();
    let (status, page) = case.load().await.expect("a page");
    assert_eq!(status, StatusCode::OK, "{page}");
    let mut calls = calls(&record, &case.home).split_off(before);
    // The process looks for the journals of earlier ones at a time of its own: before the pages are served,
    // or at any step of the callback.
    calls.retain(|call| !call.looks_for_journals());
    assert_eq!(serving.stop().await.code, 0);
    assert!(calls.iter().filter(|call| !call.is_read_only()).count() > 5, "it does something: {calls:?}");
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_killed_at_any_step_spends_its_code_once_and_loses_no_grant() {
    let deaths = deaths(&recorded().await);
    each(deaths, |_, death| async move {
        for next in [Next::Reload, Next::Token, Next::Expiry] {
            callback(&Case::begin().await, &death, next).await;
        }
    })
    .await;
}

async fn callback(case: &Case, death: &Death, next: Next) {
    let serving = case.serve(&death.failpoint(&case.home)).await;
    // The page may leave before the last step: it does not wait for the release of a lock.
    let (page, status) = tokio::join!(case.load(), serving.status());
    assert_eq!(status.signal(), Some(9), "{death:?} was not met: {page:?}");
    let (sent, lines) = (case.sent(), journal(&case.home, "acme%2Fuser%3A803.signin.lock"));
    let committed = case.awaits_digits();
    assert!(sent == 0 || lines > 0 || committed, "{death:?}: the request is on record");
    let lost = sent == 1 && lines == 1 && !committed;
    assert!(!lost || death.comes_before_the_answer_is_written(), "{death:?}: the answer was written down");
    let holds_grant = committed || lines == 2;
    if next == Next::Expiry {
        return expires(case, death, holds_grant).await;
    }
    if next == Next::Token {
        assert_eq!(case.home.run(&TOKEN).await.code, 3, "{death:?}: no token without the digits");
        assert_eq!(case.home.run(&STATUS).await.code, 0);
        assert_eq!(case.is_live(), sent == 1, "{death:?}: an agent's call ends no grant");
    }
    let serving = case.serve("").await;
    let (status, page) = case.load().await.expect("a page");
    if committed {
        assert_eq!(status, StatusCode::GONE, "{death:?}: {page}");
        assert!(case.is_live() && case.awaits_digits(), "{death:?}: the grant waits for its digits");
    } else if lines == 1 {
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{death:?}: {page}");
        assert!(page.contains("code_spent"), "{death:?}: {page}");
    } else {
        assert_eq!(status, StatusCode::OK, "{death:?}: {page}");
        assert_eq!(case.home.run(&TOKEN).await.code, 3, "{death:?}: no token without the digits");
        let digits = page.split_once("class=\"digits\">").expect("digits").1.split_once('<').expect("an end");
        let digits = Digits::parse(&digits.0.replace("&nbsp;", " ")).expect("six digits");
        let confirmed = case.broker().confirm_in(ALICE, None, None, &digits).await.expect("they fit");
        assert!(confirmed.is_some(), "{death:?}");
        assert_eq!(case.home.run(&TOKEN).await.code, 0, "{death:?}: the grant is in use");
    }
    assert_eq!(case.sent(), u64::from(sent == 1 || lines != 1), "{death:?}: the code was sent once");
    assert_eq!(serving.stop().await.code, 0);
    assert_eq!(case.server.events().of("alice").reuses, 0, "{death:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_or_a_cancel_revokes_the_grant_that_a_dead_callback_left_in_its_journal() {
    for is_denial in [true, false] {
        let case = Case::begin().await;
        let serving = case.serve("kill-after:fsync@803.signin.lock#2").await;
        assert!(case.load().await.is_none());
        assert_eq!(serving.status().await.signal(), Some(9));
        assert_eq!((journal(&case.home, "acme%2Fuser%3A803.signin.lock"), case.is_live()), (2, true));
        let broker = case.broker();
        if is_denial {
            let callback = Url::parse(&case.callback).expect("an address");
            let state = callback.query_pairs().find(|(name, _)| name == "state").expect("a state").1;
            let callback = Url::parse(&format!("{}/oauth/callback", case.url)).expect("an address");
            let query = format!("error=access_denied&state={state}");
            let denied = broker.browser_returned(&callback, &query, &case.cookie, &WithoutBot, || {}).await;
            denied.expect_err("it is refused");
        } else {
            broker.cancel(ALICE, None).await.expect("a store");
        }
        broker.drained().await;
        assert!(!case.is_live(), "denial: {is_denial}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_took_effect_without_becoming_durable_revokes_its_grant() {
    for end in ["cancel", "digits", "expiry"] {
        let case = Case::begin().await;
        let serving = case.serve("").await;
        case.load().await.expect("a page");
        assert!(case.awaits_digits() && case.is_live(), "{end}");
        assert_eq!(serving.stop().await.code, 0);
        let digits = case.wrong_digits();
        let clock = Clock::system();
        let late = Clock::fixed(clock.now() + 25 * 60 * 60);
        let clock = if end == "expiry" { late } else { clock };
        let broker = case.faulty_broker("fsync-folder:EIO#1", clock);
        match end {
            "cancel" => assert_eq!(broker.cancel(ALICE, None).await.expect("a store").len(), 1),
            "expiry" => drop(broker.expire_undecided().await.expect("a store")),
            _ => {
                let healthy = case.broker();
                for _ in 1..DIGIT_ATTEMPTS {
                    healthy.confirm_in(ALICE, None, None, &digits).await.expect_err("they are wrong");
                }
                let error = broker.confirm_in(ALICE, None, None, &digits).await.expect_err("they are wrong");
                assert!(matches!(error, FinishError::DigitsUsedUp { is_revoked: true, .. }), "{error:?}");
            }
        }
        broker.drained().await;
        assert!(!case.is_live() && !case.awaits_digits(), "{end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_answer_of_a_sign_in_by_the_browser_waits_for_a_reload() {
    let case = Case::begin().await;
    let broker = case.broker();
    let text = case.stored()["pending"]["acme/user:803"]["state"].as_str().expect("a state").to_owned();
    let state = State::new(text).fingerprint();
    let clock = Clock::system();
    let token_endpoint = case.server.token_endpoint();
    let spending = Spending::Code { state, code: Secret::new("c-1").fingerprint() };
    let body = r#"{"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600}"#;
    let answer =
        Answer { status: 200, body: body.as_bytes().to_vec().into(), at: clock.now(), ..Answer::default() };
    let intent = Intent { spending, at: clock.now(), token_endpoint };
    let restored = broker.restore(&tenant(), intent, answer).await;
    assert!(matches!(restored, Ok(Restored::AwaitsReload)), "{restored:?}");
    assert_eq!(journal(&case.home, "acme%2Fuser%3A803.signin.lock"), 2, "it waits in the journal");
}

/// A process that runs when the time is over revokes the grant, wherever it waited.
async fn expires(case: &Case, death: &Death, holds_grant: bool) {
    case.home.set_offset(25 * 60 * 60);
    let sent = case.sent();
    let serving = case.serve("").await;
    if holds_grant {
        let ended = async {
            while case.is_live() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap_or_else(|_| {
            panic!("{death:?}: the grant lives on:\n{}", serving.stderr());
        });
    }
    assert_eq!(case.home.run(&TOKEN).await.code, 3, "{death:?}");
    assert_eq!(case.load().await.expect("a page").0, StatusCode::NOT_FOUND, "{death:?}");
    assert_eq!(case.sent(), sent, "{death:?}: the code is not sent again");
    assert_eq!(serving.stop().await.code, 0);
}
