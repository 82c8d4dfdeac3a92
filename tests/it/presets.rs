//! Each preset against a scripted server in its vendor's place: the names of the vendor's hosts lead
//! through a proxy to loopback, so the requests are the very ones that the vendor would get.
//!
//! `presets/NAME.json` has the requests and answers of the vendor's documents, and names them.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use threadkey::{
    broker::{Broker, Polled, SignIn, StartOptions, TokenError, View},
    config::{Config, Variables},
    ids::Tenant,
    net::{Outward, Proxies},
    oauth::{Client, Pasted, Provider, preset_names},
    session::{GrantKind, Pending, Session},
    store::Store,
    sys::clock::Clock,
};
use url::Url;

use crate::{
    broker::{ALICE, MINUTE, NOW, open},
    support::{
        network::{Authority, Proxy, ProxyOptions},
        raw::{Accept, Connection, Ending, RawServer, Request, framed},
    },
};

/// The variable with the client's secret, and the secret.
const SECRET: (&str, &str) = ("PRESET_SECRET", "secret-1");

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    preset: String,
    sources: Vec<String>,
    /// The keys that the operator adds to the section.
    section: toml::Table,
    /// The parameters of the authorization request that are peculiar to the vendor.
    authorize: BTreeMap<String, String>,
    exchange: Expected,
    answer: Answer,
    session: Tokens,
    refresh: Option<Expected>,
    refresh_answer: Option<Answer>,
    refresh_session: Option<Tokens>,
    verdicts: Vec<Verdict>,
    /// The device grant, where the vendor offers it.
    device: Option<DeviceFixture>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFixture {
    sources: Vec<String>,
    /// More keys of the section. An empty text removes one.
    section: toml::Table,
    opening: Expected,
    opening_answer: Answer,
    /// The page where the user enters the code.
    page: String,
    poll: Expected,
    /// The address of the polls, if it is not the token endpoint.
    poll_endpoint: Option<String>,
    /// The answers to polls without tokens.
    answers: Vec<PollAnswer>,
    /// The poll's answer with a code, and the exchange of that code.
    code_answer: Option<Answer>,
    exchange: Option<Expected>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PollAnswer {
    status: u16,
    body: Value,
    /// `pending`, `slow_down`, `ambiguous`, or the word with which the sign-in ends.
    means: String,
}

/// A request that the vendor expects. Its body is one of both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    headers: BTreeMap<String, String>,
    form: Option<BTreeMap<String, String>>,
    json: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Tokens {
    access_token: String,
    refresh_token: Option<String>,
    /// Seconds; `None` for an unknown lifetime.
    expires_in: Option<i64>,
    token_type: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    status: u16,
    body: Value,
    outcome: String,
}

/// A vendor on loopback, and a broker with the preset.
struct Vendor {
    fixture: Fixture,
    server: RawServer,
    clock: Clock,
    store: Arc<dyn Store>,
    broker: Broker,
    provider: Arc<Provider>,
    tenant: Tenant,
    _proxy: Proxy,
    _folder: tempfile::TempDir,
}

impl Vendor {
    async fn start(fixture: &Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let provider = provider(fixture, folder.path().join("threadkey.toml"));
        let hosts: Vec<String> =
            provider.endpoints().filter_map(|endpoint| endpoint.host_str().map(str::to_owned)).collect();
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let acceptor = authority.issue(&names).acceptor();
        let accept: Accept = Arc::new(move |stream| {
            let acceptor = acceptor.clone();
            Box::pin(async move { Ok(Box::new(acceptor.accept(stream).await?) as Box<dyn Connection>) })
        });
        let server = RawServer::start_with("https://127.0.0.1", accept).await;
        let port = Url::parse(&server.token_endpoint()).unwrap().port().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let targets: Vec<String> = hosts.iter().map(|host| format!("{host}:443")).collect();
        let targets: Vec<_> = targets.iter().map(|target| (target.as_str(), address)).collect();
        let proxy = Proxy::start(ProxyOptions::default(), &targets).await;
        let variable = format!("http://{}", proxy.address());
        let proxies = Proxies::new(|name| (name == "HTTPS_PROXY").then(|| variable.clone()));
        let clock = Clock::fixed(NOW);
        let client = Client::through(Outward::new(proxies).unwrap(), clock.clone());
        let store = open(&folder.path().join("auth.json"), &clock);
        let tenant = Tenant { provider: provider.id().clone(), principal: ALICE };
        let providers = threadkey::oauth::Providers::new([Provider::clone(&provider)]);
        let broker = Broker::new(store.clone(), providers, client, clock.clone());
        let fixture = fixture.clone();
        Self { fixture, server, clock, store, broker, provider, tenant, _proxy: proxy, _folder: folder }
    }

    fn name(&self) -> &str {
        &self.fixture.preset
    }

    /// Answers the next request with this status, header lines and JSON.
    fn answer(&self, status: u16, headers: &BTreeMap<String, String>, body: &Value) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.server.answer(framed(status, &lines, body.to_string().as_bytes()), Ending::Close);
    }

    /// Starts a sign-in by device code, and checks the request and the view.
    async fn start_device(&self, device: &DeviceFixture) -> SignIn {
        let answer = &device.opening_answer;
        self.answer(answer.status, &answer.headers, &answer.body);
        let options = StartOptions { grant: Some(GrantKind::Device), ..StartOptions::default() };
        let started = self.broker.start_with(&self.tenant, ALICE, options).await;
        let started = started.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        let View::DeviceCode { user_code, verification_uri, .. } = &started.view else {
            panic!("{}: {:?}", self.name(), started.view)
        };
        assert_eq!((user_code.as_str(), verification_uri.as_str()), ("ABCD-1234", device.page.as_str()));
        let endpoint = self.provider.device_authorization_endpoint().unwrap().to_string();
        self.assert_request(&device.opening, &endpoint, &self.pending().await);
        started
    }

    async fn pending(&self) -> Pending {
        self.store.read(&self.tenant).await.unwrap().pending.unwrap()
    }

    /// Waits for the interval, polls, and checks the request.
    async fn poll(&self, device: &DeviceFixture, started: &SignIn) -> Polled {
        let pending = self.pending().await;
        let interval = pending.polling.as_ref().unwrap().interval;
        self.clock.advance(interval.into());
        let polled = self.broker.poll(&started.shown).await;
        let polled = polled.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        if !matches!(polled, Polled::Finished(_)) || device.exchange.is_none() {
            let token_endpoint = self.provider.token_endpoint().to_string();
            let endpoint = device.poll_endpoint.as_ref().unwrap_or(&token_endpoint);
            self.assert_request(&device.poll, endpoint, &pending);
        }
        polled
    }

    /// Signs in by device code: a poll too early, and one that returns the tokens.
    async fn sign_in_by_device(&self, device: &DeviceFixture) -> Pending {
        let started = self.start_device(device).await;
        let pending = self.pending().await;
        if let Some(code) = &device.code_answer {
            self.answer(code.status, &code.headers, &code.body);
        }
        let answer = &self.fixture.answer;
        self.answer(answer.status, &answer.headers, &answer.body);
        let polled = self.poll(device, &started).await;
        assert!(matches!(polled, Polled::Finished(_)), "{}: {polled:?}", self.name());
        if let Some(exchange) = &device.exchange {
            self.assert_request(exchange, self.provider.token_endpoint().as_str(), &pending);
        }
        pending
    }

    /// Starts a sign-in and checks its link. Then pastes the callback's address.
    async fn sign_in(&self) -> Pending {
        if let (Some(device), [GrantKind::Device]) = (&self.fixture.device, self.provider.grants()) {
            return self.sign_in_by_device(&device.clone()).await;
        }
        let started = self.broker.start(&self.tenant, ALICE).await.unwrap();
        let pending = self.store.read(&self.tenant).await.unwrap().pending.unwrap();
        let query: BTreeMap<_, _> = started.link().unwrap().query_pairs().into_owned().collect();
        for (name, value) in &self.fixture.authorize {
            assert_eq!(query.get(name), Some(value), "{}: {name}", self.name());
        }
        assert_eq!(query["state"], pending.state.expose());
        let answer = &self.fixture.answer;
        self.answer(answer.status, &answer.headers, &answer.body);
        let mut callback = Url::parse(&pending.redirect_uri).unwrap();
        callback.query_pairs_mut().append_pair("code", "CODE").append_pair("state", pending.state.expose());
        let pasted = Pasted::parse(callback.as_str()).unwrap();
        let finished = self.broker.finish(ALICE, Some(self.provider.id()), pasted).await;
        finished.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        pending
    }

    async fn session(&self) -> Session {
        self.store.read(&self.tenant).await.unwrap().session.unwrap()
    }

    async fn tokens(&self) -> Tokens {
        let session = self.session().await;
        let lifetime = session.expires_at - session.issued_at;
        Tokens {
            access_token: session.access_token.expose().to_owned(),
            refresh_token: session.refresh_token.as_ref().map(|token| token.expose().to_owned()),
            expires_in: (lifetime < 100 * 365 * 86_400).then_some(lifetime),
            token_type: threadkey::oauth::authentication_scheme(&session.token_type).to_owned(),
        }
    }

    /// Makes the access token due for a refresh, and asks for a token.
    async fn refresh(&self) -> Result<(), TokenError> {
        match self.fixture.session.expires_in {
            Some(lifetime) => {
                self.clock.advance(lifetime);
                self.broker.token(&self.tenant, MINUTE).await.map(drop)
            }
            None => {
                let token = self.session().await.access_token;
                self.broker.rejected(&self.tenant, &token).await.map(drop)
            }
        }
    }

    /// The newest request that is not one for the account.
    fn newest(&self) -> Request {
        let requests = self.server.requests();
        requests.into_iter().rev().find(|request| request.line.starts_with("POST ")).unwrap()
    }

    /// Asserts that a request is the expected one, to this endpoint.
    fn assert_request(&self, expected: &Expected, endpoint: &str, pending: &Pending) {
        let request = self.newest();
        let endpoint = Url::parse(endpoint).unwrap();
        assert_eq!(request.line, format!("POST {}", endpoint.path()), "{}", self.name());
        assert_eq!(request.headers["host"], endpoint.host_str().unwrap(), "{}", self.name());
        for (name, value) in &expected.headers {
            assert_eq!(request.headers.get(name), Some(value), "{}: {name}", self.name());
        }
        let has_secret = expected.headers.contains_key("authorization");
        assert_eq!(request.headers.contains_key("authorization"), has_secret, "{}", self.name());
        let client_id = self.provider.binding().client_id;
        let filled = |text: &str| match text {
            "VERIFIER" => pending.verifier.expose().to_owned(),
            "STATE" => pending.state.expose().to_owned(),
            "REDIRECT" => pending.redirect_uri.clone(),
            "CLIENT_ID" => client_id.clone(),
            "RT" => "rt-1".to_owned(),
            other => other.to_owned(),
        };
        if let Some(form) = &expected.form {
            let form = form.iter().map(|(name, value)| (name.clone(), filled(value))).collect();
            assert_eq!(request.form(), form, "{}", self.name());
        } else {
            let json: BTreeMap<String, Value> = serde_json::from_slice(&request.body).unwrap();
            let expected = expected.json.as_ref().expect("a request has a form or JSON");
            let expected: BTreeMap<String, Value> = expected
                .iter()
                .map(|(name, value)| {
                    (name.clone(), value.as_str().map_or(value.clone(), |text| filled(text).into()))
                })
                .collect();
            assert_eq!(json, expected, "{}", self.name());
        }
    }
}

/// Reads the configuration with the preset and the operator's keys.
fn provider(fixture: &Fixture, path: PathBuf) -> Arc<Provider> {
    let mut section = fixture.section.clone();
    section.insert("preset".into(), fixture.preset.clone().into());
    section.insert("ca_file".into(), "ca.pem".into());
    let providers = toml::Table::from_iter([("vendor".to_owned(), toml::Value::Table(section))]);
    let config = toml::Table::from_iter([("providers".to_owned(), toml::Value::Table(providers))]);
    let variables: Variables =
        [("HOME", "/home/alice"), SECRET].map(|(name, value)| (name.into(), value.into())).into();
    let config = Config::parse(path, config.to_string(), &variables);
    let config = config.unwrap_or_else(|error| panic!("{}: {error}", fixture.preset));
    config.providers.get(&"vendor".parse().unwrap()).unwrap().clone()
}

fn fixtures() -> Vec<Fixture> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/presets");
    let mut fixtures: Vec<Fixture> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect();
    fixtures.sort_by(|one: &Fixture, other| one.preset.cmp(&other.preset));
    fixtures
}

#[tokio::test]
async fn every_preset_sends_the_requests_that_its_vendor_documents() {
    let fixtures = fixtures();
    let with_fixture: Vec<&str> = fixtures.iter().map(|fixture| fixture.preset.as_str()).collect();
    assert_eq!(with_fixture, preset_names().collect::<Vec<_>>(), "each preset has a fixture");
    for fixture in &fixtures {
        assert!(!fixture.sources.is_empty(), "{} names its public sources", fixture.preset);
        let vendor = Vendor::start(fixture).await;
        let pending = vendor.sign_in().await;
        let token_endpoint = vendor.provider.token_endpoint().to_string();
        let expected = match &fixture.device {
            Some(device) if fixture.section.get("grants") == device.section.get("grants") => &device.poll,
            _ => &fixture.exchange,
        };
        vendor.assert_request(expected, &token_endpoint, &pending);
        assert_eq!(vendor.tokens().await, fixture.session, "{}", vendor.name());
        let (Some(expected), Some(answer)) = (&fixture.refresh, &fixture.refresh_answer) else { continue };
        vendor.answer(answer.status, &answer.headers, &answer.body);
        vendor.refresh().await.unwrap_or_else(|error| panic!("{}: {error}", vendor.name()));
        vendor.assert_request(expected, vendor.provider.refresh_endpoint(), &pending);
        assert_eq!(Some(vendor.tokens().await), fixture.refresh_session, "{}", vendor.name());
    }
}

/// The fixtures of vendors with the device grant, each with the device keys of its section.
fn device_fixtures() -> impl Iterator<Item = (Fixture, DeviceFixture)> {
    fixtures().into_iter().filter_map(|mut fixture| {
        let device = fixture.device.clone()?;
        for (key, value) in &device.section {
            fixture.section.remove(key);
            if value.as_str() != Some("") {
                fixture.section.insert(key.clone(), value.clone());
            }
        }
        Some((fixture, device))
    })
}

#[tokio::test]
async fn every_vendor_with_device_codes_gets_the_requests_that_it_documents() {
    let mut count = 0;
    for (fixture, device) in device_fixtures() {
        assert!(!device.sources.is_empty(), "{} names its public sources", fixture.preset);
        let vendor = Vendor::start(&fixture).await;
        vendor.sign_in().await;
        assert_eq!(vendor.tokens().await, fixture.session, "{}", vendor.name());
        count += 1;
    }
    assert_eq!(count, 14);
}

#[tokio::test]
async fn every_answer_to_a_poll_that_a_vendor_documents_has_its_meaning() {
    for (fixture, device) in device_fixtures() {
        for answer in &device.answers {
            let vendor = Vendor::start(&fixture).await;
            let started = vendor.start_device(&device).await;
            let interval = vendor.pending().await.polling.unwrap().interval;
            vendor.answer(answer.status, &fixture.answer.headers, &answer.body);
            let polled = vendor.poll(&device, &started).await;
            let now = vendor.pending().await.polling.unwrap();
            let what = format!("{}: {} {} -> {polled:?}", fixture.preset, answer.status, answer.body);
            match (answer.means.as_str(), polled) {
                ("pending", Polled::Waiting(_)) => {
                    assert_eq!((now.interval, now.not_before), (interval, None))
                }
                ("slow_down", Polled::Waiting(_)) => assert_eq!(now.interval, interval + 5, "{what}"),
                ("ambiguous", Polled::Waiting(_)) => assert!(now.not_before.is_some(), "{what}"),
                (word, Polled::Ended(code)) => {
                    assert_eq!(word, code, "{what}");
                    assert_eq!(now.ended.as_deref(), Some(word), "{what}");
                }
                _ => panic!("{what}"),
            }
        }
    }
}

#[tokio::test]
async fn every_verdict_that_a_vendor_documents_has_its_outcome() {
    for fixture in fixtures() {
        for verdict in &fixture.verdicts {
            let vendor = Vendor::start(&fixture).await;
            vendor.sign_in().await;
            vendor.answer(verdict.status, &fixture.answer.headers, &verdict.body);
            let result = vendor.refresh().await;
            let session = vendor.session().await;
            let code = session.retry.as_ref().map(|retry| retry.code.clone()).unwrap_or_default();
            let outcome = match &session.retry {
                _ if session.ended.is_some() => "ended",
                Some(retry) if retry.refused.is_some() => "stuck",
                _ if code.starts_with("ambiguous_") => "ambiguous",
                Some(_) if matches!(result, Err(TokenError::Misconfigured { .. })) => "misconfigured",
                _ => "unspent",
            };
            let what = format!("{}: {} {} -> {code}", fixture.preset, verdict.status, verdict.body);
            assert_eq!(outcome, verdict.outcome, "{what}");
        }
    }
}

#[tokio::test]
async fn a_client_secret_from_a_command_is_read_once_and_only_for_a_request() {
    let mut fixture = fixtures().into_iter().find(|fixture| fixture.preset == "zoom").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    let script = format!("echo x >> {}; echo secret-1", count.display());
    fixture.section.remove("client_secret_env");
    let command = ["sh", "-c", &script].map(toml::Value::from).to_vec();
    fixture.section.insert("client_secret_command".into(), command.into());
    let vendor = Vendor::start(&fixture).await;
    vendor.sign_in().await;
    vendor.broker.token(&vendor.tenant, Duration::ZERO).await.unwrap();
    let answer = fixture.refresh_answer.as_ref().unwrap();
    vendor.answer(answer.status, &answer.headers, &answer.body);
    vendor.refresh().await.unwrap();
    assert_eq!(vendor.newest().headers["authorization"], fixture.exchange.headers["authorization"]);
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
}

#[tokio::test]
async fn without_its_client_secret_a_session_is_kept_and_nothing_is_sent() {
    let mut fixture = fixtures().into_iter().find(|fixture| fixture.preset == "zoom").unwrap();
    let vendor = Vendor::start(&fixture).await;
    vendor.sign_in().await;
    let before = vendor.session().await;
    fixture.section.remove("client_secret_env");
    fixture
        .section
        .insert("client_secret_command".into(), vec![toml::Value::from("/no/such/program")].into());
    let without = provider(&fixture, vendor._folder.path().join("threadkey.toml"));
    let providers = threadkey::oauth::Providers::new([Provider::clone(&without)]);
    let client = Client::new(vendor.clock.clone()).unwrap();
    let broker = Broker::new(vendor.store.clone(), providers, client, vendor.clock.clone());
    vendor.clock.advance(4000);
    let error = broker.token(&vendor.tenant, MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::NoClientSecret { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    assert_eq!(vendor.session().await, before);
}
