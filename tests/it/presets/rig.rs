//! The vendor's place: a scripted server on loopback, and a broker with the preset. The names of the
//! vendor's hosts lead through a proxy to the server, so the requests are the very ones that the vendor
//! would get.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use threadkey::{
    broker::{Broker, LoggedOut, Polled, Revocation, SignIn, StartOptions, TokenError, View},
    config::{Config, Variables},
    ids::Tenant,
    net::{Outward, Proxies},
    oauth::{Client, Pasted, Preset, Provider},
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

/// The headers that have nothing to do with the vendor.
const IN_EVERY_REQUEST: [&str; 5] = ["host", "content-length", "user-agent", "connection", "accept-encoding"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fixture {
    pub(super) preset: String,
    /// The section of a preset that is not in `presets.toml`.
    #[serde(skip)]
    pub(super) example: Option<String>,
    pub(super) sources: Vec<String>,
    /// The keys that the operator adds to the section.
    pub(super) section: toml::Table,
    /// The authorization request. A vendor without one has the device grant alone.
    pub(super) authorization: Option<Authorization>,
    pub(super) exchange: Option<Expected>,
    pub(super) answer: Answer,
    /// The text that users of this vendor paste, if it is not the callback's address.
    pub(super) paste: Option<String>,
    pub(super) session: Tokens,
    pub(super) refresh: Option<Expected>,
    pub(super) refresh_answer: Option<Answer>,
    pub(super) refresh_session: Option<Tokens>,
    pub(super) verdicts: Vec<Verdict>,
    /// The revocation at a logout, where the vendor has RFC 7009.
    pub(super) revocation: Option<Expected>,
    /// The device grant, where the vendor offers it.
    pub(super) device: Option<DeviceFixture>,
    /// CIBA, where the vendor offers it.
    pub(super) ciba: Option<DeviceFixture>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceFixture {
    pub(super) sources: Vec<String>,
    /// More keys of the section. An empty text removes one.
    pub(super) section: toml::Table,
    pub(super) opening: Expected,
    pub(super) opening_answer: Answer,
    /// The page where the user enters the code. CIBA has none.
    pub(super) page: Option<String>,
    pub(super) poll: Expected,
    /// The answers to polls without tokens.
    pub(super) answers: Vec<PollAnswer>,
    /// The poll's answer with a code, and the exchange of that code.
    pub(super) code_answer: Option<Answer>,
    pub(super) exchange: Option<Expected>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PollAnswer {
    pub(super) status: u16,
    pub(super) body: Value,
    /// `pending`, `slow_down`, `ambiguous`, or the word with which the sign-in ends.
    pub(super) means: String,
}

/// The whole authorization request: its method, its address, and each parameter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authorization {
    pub(super) request: String,
    pub(super) query: BTreeMap<String, String>,
}

/// A whole request that the vendor expects. Its body is one of both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// The method and the address.
    pub(super) request: String,
    /// Each header, but for those that every request has.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) form: Option<BTreeMap<String, String>>,
    pub(super) json: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Value,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokens {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    /// Seconds; `None` for an unknown lifetime.
    pub(super) expires_in: Option<i64>,
    pub(super) token_type: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verdict {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) outcome: String,
}

/// A vendor on loopback, and a broker with the preset.
pub(super) struct Vendor {
    pub(super) fixture: Fixture,
    pub(super) server: RawServer,
    pub(super) clock: Clock,
    pub(super) store: Arc<dyn Store>,
    pub(super) broker: Broker,
    pub(super) provider: Arc<Provider>,
    pub(super) tenant: Tenant,
    pub(super) _proxy: Proxy,
    pub(super) _folder: tempfile::TempDir,
}

impl Vendor {
    pub(super) async fn start(fixture: &Fixture) -> Self {
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

    pub(super) fn name(&self) -> &str {
        &self.fixture.preset
    }

    /// Answers the next request with this status, header lines and JSON.
    pub(super) fn answer(&self, status: u16, headers: &BTreeMap<String, String>, body: &Value) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.server.answer(framed(status, &lines, body.to_string().as_bytes()), Ending::Close);
    }

    /// Starts a sign-in by device code or by CIBA, and checks the request and the view.
    pub(super) async fn start_device(&self, device: &DeviceFixture) -> SignIn {
        let answer = &device.opening_answer;
        self.answer(answer.status, &answer.headers, &answer.body);
        let grant = if device.page.is_some() { GrantKind::Device } else { GrantKind::Ciba };
        let options = StartOptions { grant: Some(grant), ..StartOptions::default() };
        let started = self.broker.start_with(&self.tenant, ALICE, options).await;
        let started = started.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        match (&started.view, &device.page) {
            (View::DeviceCode { user_code, verification_uri, .. }, Some(page)) => {
                assert_eq!((user_code.as_str(), verification_uri.as_str()), ("ABCD-1234", page.as_str()));
            }
            (View::Elsewhere { binding_message }, None) => {
                assert_eq!(
                    Some(binding_message),
                    device.opening.form.as_ref().unwrap().get("binding_message")
                );
            }
            (view, _) => panic!("{}: {view:?}", self.name()),
        }
        self.assert_request(&device.opening, &self.pending().await);
        started
    }

    pub(super) async fn pending(&self) -> Pending {
        self.store.read(&self.tenant).await.unwrap().pending.unwrap()
    }

    /// Waits for the interval, polls, and checks the request.
    pub(super) async fn poll(&self, device: &DeviceFixture, started: &SignIn) -> Polled {
        let pending = self.pending().await;
        let interval = pending.polling.as_ref().unwrap().interval;
        self.clock.advance(interval.into());
        let polled = self.broker.poll(&started.shown).await;
        let polled = polled.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        if !matches!(polled, Polled::Finished(_)) || device.exchange.is_none() {
            self.assert_request(&device.poll, &pending);
        }
        polled
    }

    /// Signs in by device code: a poll too early, and one that returns the tokens.
    pub(super) async fn sign_in_by_device(&self, device: &DeviceFixture) -> Pending {
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
            self.assert_request(exchange, &pending);
        }
        pending
    }

    /// Starts a sign-in and checks its link, which is the authorization request. Then pastes the answer
    /// as users of this vendor do.
    pub(super) async fn sign_in(&self) -> Pending {
        if let (Some(device), [GrantKind::Device | GrantKind::Ciba]) =
            (&self.fixture.device, self.provider.grants())
        {
            return self.sign_in_by_device(&device.clone()).await;
        }
        let started = self.broker.start(&self.tenant, ALICE).await.unwrap();
        let pending = self.store.read(&self.tenant).await.unwrap().pending.unwrap();
        self.assert_link(started.link().unwrap(), &pending);
        let answer = &self.fixture.answer;
        self.answer(answer.status, &answer.headers, &answer.body);
        let mut callback = Url::parse(&pending.redirect_uri).unwrap();
        callback.query_pairs_mut().append_pair("code", "CODE").append_pair("state", pending.state.expose());
        let text = match &self.fixture.paste {
            Some(paste) => paste.replace("STATE", pending.state.expose()),
            None => callback.into(),
        };
        let pasted = Pasted::parse(&text).unwrap();
        let finished = self.broker.finish(ALICE, Some(self.provider.id()), pasted).await;
        finished.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        pending
    }

    /// Asserts that the link is the whole authorization request, and that no parameter stands in it twice.
    pub(super) fn assert_link(&self, link: &Url, pending: &Pending) {
        let expected = self.fixture.authorization.as_ref().expect("a vendor with links has their form");
        let mut address = link.clone();
        address.set_query(None);
        assert_eq!(format!("GET {address}"), expected.request, "{}", self.name());
        let pairs: Vec<(String, String)> = link.query_pairs().into_owned().collect();
        let query: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(pairs.len(), query.len(), "{}", self.name());
        let expected = expected.query.iter();
        let expected: BTreeMap<_, _> =
            expected.map(|(name, value)| (name.clone(), self.filled(value, pending))).collect();
        assert_eq!(query, expected, "{}", self.name());
    }

    /// Signs out, and checks the request for the end of the grant. A vendor without RFC 7009 gets none.
    pub(super) async fn log_out(&self, pending: &Pending) {
        let count = self.server.count();
        if self.fixture.revocation.is_some() {
            self.answer(200, &BTreeMap::new(), &Value::Null);
        }
        let done = self.broker.logout(&self.tenant, Revocation::Revoke).await.unwrap();
        match &self.fixture.revocation {
            Some(expected) => {
                assert_eq!(done, LoggedOut::Revoked, "{}", self.name());
                self.assert_request(expected, pending);
            }
            None => {
                assert!(matches!(done, LoggedOut::CannotRevoke(_)), "{}: {done:?}", self.name());
                assert_eq!(self.server.count(), count, "{}", self.name());
            }
        }
    }

    pub(super) async fn session(&self) -> Session {
        self.store.read(&self.tenant).await.unwrap().session.unwrap()
    }

    pub(super) async fn tokens(&self) -> Tokens {
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
    pub(super) async fn refresh(&self) -> Result<(), TokenError> {
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
    pub(super) fn newest(&self) -> Request {
        let requests = self.server.requests();
        requests.into_iter().rev().find(|request| request.line.starts_with("POST ")).unwrap()
    }

    /// Asserts that the newest request is the expected one: method, address, headers and body.
    pub(super) fn assert_request(&self, expected: &Expected, pending: &Pending) {
        let request = self.newest();
        let (method, address) = expected.request.split_once(' ').unwrap();
        let address = Url::parse(address).unwrap();
        assert_eq!(request.line, format!("{method} {}", address.path()), "{}", self.name());
        assert_eq!(request.headers["host"], address.host_str().unwrap(), "{}", self.name());
        let mut headers = request.headers.clone();
        headers.retain(|name, _| !IN_EVERY_REQUEST.contains(&name.as_str()));
        assert_eq!(headers, expected.headers, "{}: {}", self.name(), expected.request);
        if let Some(form) = &expected.form {
            let form = form.iter().map(|(name, value)| (name.clone(), self.filled(value, pending))).collect();
            assert_eq!(request.form(), form, "{}", self.name());
        } else {
            let json: BTreeMap<String, Value> = serde_json::from_slice(&request.body).unwrap();
            let expected = expected.json.as_ref().expect("a request has a form or JSON");
            let filled = |value: &Value| match value.as_str() {
                Some(text) => self.filled(text, pending).into(),
                None => value.clone(),
            };
            let expected: BTreeMap<String, Value> =
                expected.iter().map(|(name, value)| (name.clone(), filled(value))).collect();
            assert_eq!(json, expected, "{}", self.name());
        }
    }

    /// Returns a value of a fixture, with the values of this sign-in in place of its placeholders.
    pub(super) fn filled(&self, text: &str, pending: &Pending) -> String {
        match text {
            "VERIFIER" => pending.verifier.expose().to_owned(),
            "CHALLENGE" => URL_SAFE_NO_PAD.encode(Sha256::digest(pending.verifier.expose())),
            "STATE" => pending.state.expose().to_owned(),
            "NONCE" => pending.nonce.as_ref().unwrap().expose().to_owned(),
            "REDIRECT" => pending.redirect_uri.clone(),
            "CLIENT_ID" => self.provider.binding().client_id,
            "RT" => "rt-1".to_owned(),
            "TOKEN" => "at-1".to_owned(),
            other => other.to_owned(),
        }
    }
}

/// Reads the configuration with the preset and the operator's keys.
pub(super) fn provider(fixture: &Fixture, path: PathBuf) -> Arc<Provider> {
    let mut section = match &fixture.example {
        // It is in the documentation alone, so the section is the one that the preset would make.
        Some(block) => Preset::parse(&fixture.preset, block).unwrap().overlaid(&fixture.section).unwrap(),
        None => {
            let preset = ("preset".to_owned(), fixture.preset.clone().into());
            fixture.section.clone().into_iter().chain([preset]).collect()
        }
    };
    section.insert("ca_file".into(), "ca.pem".into());
    let providers = toml::Table::from_iter([("vendor".to_owned(), toml::Value::Table(section))]);
    let config = toml::Table::from_iter([("providers".to_owned(), toml::Value::Table(providers))]);
    let variables: Variables = [("HOME", "/home/alice"), ("GH_TOKEN", "gho-1"), SECRET]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    let config = Config::parse(path, config.to_string(), &variables);
    let config = config.unwrap_or_else(|error| panic!("{}: {error}", fixture.preset));
    config.providers.get(&"vendor".parse().unwrap()).unwrap().clone()
}

pub(super) fn fixtures() -> Vec<Fixture> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/presets");
    let mut fixtures: Vec<Fixture> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect();
    fixtures.sort_by(|one: &Fixture, other| one.preset.cmp(&other.preset));
    fixtures
}
