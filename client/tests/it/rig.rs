//! An authorization server, the token API with a session of its owner, and an MCP server.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};
use threadkey::{
    agent::{Capabilities, Conversation, Holder},
    api::{self, ApiSettings},
    broker::{Broker, WithoutBot, WorkerTokens},
    ids::{ConversationId, Principal, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers, Publisher, Undiscovered},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};
use threadkey_client::Capability;
use threadkey_lookalike::{
    authserver::{self, AuthServer, Lifetimes},
    browser,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::npm;

const NOW: i64 = 1_795_358_672;
const OWNER: Snowflake = Snowflake(803);

pub(crate) struct Rig {
    pub(crate) authorization: AuthServer,
    pub(crate) socket: PathBuf,
    pub(crate) capability: Capability,
    clock: Clock,
    broker: Broker,
    served: JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Rig {
    /// Starts the token API. Its owner is not signed in.
    pub(crate) async fn start() -> Self {
        // The server's clock runs on while threadkey's stands still. Its tokens outlive a slow machine.
        let lifetimes = Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() };
        let options = authserver::Options { lifetimes, ..authserver::Options::default() };
        let authorization = AuthServer::start(options).await;
        let folder = tempfile::Builder::new().prefix("tk").tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let path = folder.path().join("auth.json");
        let store = FileStore::open(&path, clock.clone(), FileStoreOptions::default()).unwrap();
        let settings = ProviderSettings {
            authorization_endpoint: authorization.authorization_endpoint(),
            token_endpoint: authorization.token_endpoint(),
            probe_endpoint: Some(authorization.userinfo_endpoint()),
            client_id: authserver::CLIENT_ID.into(),
            redirect_uri: authserver::PASTE_REDIRECT_URI.into(),
            scopes: vec!["openid".into(), "offline_access".into()],
            ..ProviderSettings::default()
        };
        let provider = Provider::new("acme".parse().unwrap(), settings.clone()).unwrap();
        let client = Client::new(clock.clone()).unwrap();
        let signs_in = Providers::new([provider.clone()]);
        let broker = Broker::new(Arc::new(store.clone()), signs_in, client.clone(), clock.clone());
        // To the API it is an MCP server, whose metadata are known.
        let publisher = Publisher::Mcp("https://mcp.example/mcp".parse().unwrap());
        let undiscovered = Undiscovered { id: "acme".parse().unwrap(), settings, publisher };
        let known = Providers::with_undiscovered([], [undiscovered]);
        known.discovered(provider);
        let serving = Broker::new(Arc::new(store), known, client, clock.clone());
        let socket = folder.path().join("run/threadkey.sock");
        let bound = api::bind(&ApiSettings { socket: socket.clone(), ..ApiSettings::default() }).unwrap();
        let capabilities = Arc::new(Capabilities::new());
        let id = ConversationId(Snowflake(1));
        let conversation = Conversation { id, owner: OWNER, shared_guild: None, agent: None };
        let capability =
            capabilities.issue(Holder { conversation, providers: vec!["acme".parse().unwrap()] });
        let tokens = WorkerTokens::new(serving.clone(), Arc::new(WithoutBot));
        let served = api::serve(bound, serving, capabilities, tokens, CancellationToken::new());
        Self {
            authorization,
            socket,
            capability: Capability::new(capability.expose()),
            clock,
            broker,
            served: tokio::spawn(served),
            folder,
        }
    }

    pub(crate) async fn signed_in() -> Self {
        let rig = Self::start().await;
        rig.sign_in().await;
        rig
    }

    pub(crate) async fn sign_in(&self) {
        let owner = Principal::User(OWNER);
        let tenant = Tenant::new("acme".parse().unwrap(), owner);
        let started = self.broker.start(&tenant, owner).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
        self.broker.finish(owner, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    }

    /// Lets the time pass for threadkey and the authorization server.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by.as_secs().try_into().unwrap());
        self.authorization.advance(by);
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The owner's session.
    pub(crate) async fn session(&self) -> threadkey::session::Session {
        let tenant = Tenant::new("acme".parse().unwrap(), Principal::User(OWNER));
        self.broker.session(&tenant).await.unwrap().expect("the owner is signed in")
    }

    pub(crate) fn client(&self) -> threadkey_client::Client {
        threadkey_client::Client::socket(&self.socket, self.capability.clone())
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// A server of the official SDK in a process of its own. The process ends with this value.
pub(crate) struct McpServer {
    pub(crate) url: String,
    http: reqwest::Client,
    _process: Child,
}

impl McpServer {
    pub(crate) async fn start(rig: &Rig) -> Self {
        let (_, scripts) = tokio::task::spawn_blocking(|| {
            npm::install(
                &[
                    ("package.json", include_str!("../server/package.json")),
                    ("package-lock.json", include_str!("../server/package-lock.json")),
                ],
                &[("server.mjs", include_str!("../server/server.mjs"))],
            )
        })
        .await
        .unwrap();
        let mut process = Command::new(npm::program("node"))
            .arg(scripts.join("server.mjs"))
            .arg(rig.authorization.userinfo_endpoint())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the server prints its port");
        Self { url: format!("http://127.0.0.1:{port}"), http: reqwest::Client::new(), _process: process }
    }

    pub(crate) async fn control(&self, order: &str, body: Value) {
        let request = self.http.post(format!("{}/control/{order}", self.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        request.send().await.unwrap().error_for_status().unwrap();
    }

    pub(crate) async fn refuse(&self, token: &threadkey_client::AccessToken) {
        self.control("refuse", json!({ "token": token.expose() })).await;
    }

    /// The requests so far: method, status and fingerprint of the token.
    pub(crate) async fn log(&self) -> Vec<(String, u64, String)> {
        let answer = self.http.get(format!("{}/control/log", self.url)).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let entries = answer["log"].as_array().unwrap().iter();
        entries
            .map(|e| (text(e, "method"), e["status"].as_u64().unwrap_or_default(), text(e, "token")))
            .collect()
    }

    /// Waits until the server has sent the head of this many answers to `GET`, and returns their tokens.
    pub(crate) async fn wait_for_streams(&self, count: usize) -> Vec<String> {
        loop {
            let log = self.log().await;
            let open = log.into_iter().filter(|(method, status, _)| method == "GET" && *status == 200);
            let tokens: Vec<_> = open.map(|(_, _, token)| token).collect();
            if tokens.len() >= count {
                return tokens;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
