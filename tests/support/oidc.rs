//! `oidc-provider` from npm, with strict rotation: the certified authorization server of the tests.
//!
//! [`Oidc::start`] runs `tests/provider/server.mjs` in Node.js. The npm packages are installed once
//! per lock file, into the target folder; test processes that start at once wait for the one that
//! installs. The server dies with its owner.

use std::path::Path;
use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::events::Events;

mod install;

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the first process may print nothing. Node.js 20 stops once in about a thousand starts, with
/// all its threads in a futex and before it listens. Another process is started then, and that is printed.
const FIRST_START_TIMEOUT: Duration = Duration::from_secs(20);
const WAIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(35);

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct OidcOptions {
    /// How long access tokens work: whole seconds, at least one.
    pub access_token_ttl: Duration,
    /// How long refresh tokens work: whole seconds, at least one.
    pub refresh_token_ttl: Duration,
    /// The public client that is registered.
    pub client_id: String,
    /// The path of the issuer, such as `/tenant`; empty for none.
    pub issuer_path: String,
    /// Whether there is a client for each way of authenticating, and registration and token exchange.
    pub every_client: bool,
    /// Its redirect URIs; the first is the one in [`Oidc::config_toml`].
    pub redirect_uris: Vec<String>,
}

impl Default for OidcOptions {
    fn default() -> Self {
        Self {
            access_token_ttl: Duration::from_secs(5),
            refresh_token_ttl: Duration::from_secs(86_400),
            client_id: "threadkey".into(),
            issuer_path: String::new(),
            every_client: false,
            redirect_uris: vec!["http://127.0.0.1:1/callback".into()],
        }
    }
}

/// A running `oidc-provider`. Dropping it ends the process.
pub struct Oidc {
    issuer: String,
    options: OidcOptions,
    client: Client,
    /// The server ends when this closes, also when this process is killed.
    _stdin: ChildStdin,
    _child: Child,
}

#[derive(Deserialize)]
struct Listening {
    issuer: String,
}

#[derive(Deserialize)]
struct Control {
    held: usize,
    held_before: usize,
    held_metadata: usize,
}

impl Oidc {
    /// Installs the packages if need be, starts the server, and waits until it listens.
    pub async fn start(options: OidcOptions) -> Self {
        let script = tokio::task::spawn_blocking(install::server_script)
            .await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        let started = match started(spawn(&script, &options), FIRST_START_TIMEOUT).await {
            Ok(started) => Ok(started),
            Err(state) => {
                eprintln!(
                    "Node.js stopped before oidc-provider listened, so another one is started: {state}"
                );
                started(spawn(&script, &options), START_TIMEOUT).await
            }
        };
        let (child, stdin, issuer) = started
            .unwrap_or_else(|state| panic!("oidc-provider printed nothing for {START_TIMEOUT:?}: {state}"));
        let client = Client::builder()
            .no_proxy()
            .timeout(ANSWER_LIMIT)
            // A connection ends with the runtime of the test that opened it.
            .pool_max_idle_per_host(0)
            .build()
            .expect("the settings are constant and valid");
        Self { issuer, options, client, _stdin: stdin, _child: child }
    }

    /// The issuer identifier, which is also the base of all addresses.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// RFC 6749 §3.1.
    pub fn authorization_endpoint(&self) -> String {
        format!("{}/auth", self.issuer)
    }

    /// RFC 6749 §3.2.
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer)
    }

    /// OpenID Connect Core §5.3; answers `sub`, `name` and `email`.
    pub fn userinfo_endpoint(&self) -> String {
        format!("{}/me", self.issuer)
    }

    /// RFC 7009.
    pub fn revocation_endpoint(&self) -> String {
        format!("{}/token/revocation", self.issuer)
    }

    /// The section with the device grant (RFC 8628) beside the code.
    pub fn device_toml(&self, name: &str) -> String {
        let section = self.config_toml(name);
        format!(
            "{section}grants = [\"code\", \"device\"]\ndevice_authorization_endpoint = \"{}/device/auth\"\n",
            self.issuer
        )
    }

    /// The section of the confidential client with CIBA alone. `hints` is a TOML table.
    pub fn ciba_toml(&self, name: &str, hints: &str) -> String {
        let section = super::settings::provider_section(
            name,
            &[
                ("issuer", self.issuer()),
                ("token_endpoint", &self.token_endpoint()),
                ("backchannel_authentication_endpoint", &format!("{}/backchannel", self.issuer)),
                ("revocation_endpoint", &self.revocation_endpoint()),
                ("userinfo_endpoint", &self.userinfo_endpoint()),
                ("client_id", &format!("{}-ciba", self.client_id())),
            ],
            &["openid", "offline_access"],
        );
        format!(
            "{section}grants = [\"ciba\"]\nclient_secret_command = [\"echo\", \"ciba-secret\"]\nlogin_hints = {hints}\n"
        )
    }

    /// Decides as this account on its other screen. Returns the message that it showed.
    pub async fn decide_elsewhere(&self, account: &str, decision: &str) -> String {
        let url = format!("{}/elsewhere?account={account}&decision={decision}", self.issuer);
        let shown: Value = read(self.client.post(url)).await;
        shown["binding_message"].as_str().unwrap_or_default().to_owned()
    }

    /// The public client that is registered.
    pub fn client_id(&self) -> &str {
        &self.options.client_id
    }

    /// The redirect URI of [`config_toml`](Self::config_toml).
    pub fn redirect_uri(&self) -> &str {
        &self.options.redirect_uris[0]
    }

    /// The `[providers.NAME]` section of threadkey.toml for this server.
    pub fn config_toml(&self, name: &str) -> String {
        super::settings::provider_section(
            name,
            &[
                ("issuer", self.issuer()),
                ("authorization_endpoint", &self.authorization_endpoint()),
                ("token_endpoint", &self.token_endpoint()),
                ("revocation_endpoint", &self.revocation_endpoint()),
                ("userinfo_endpoint", &self.userinfo_endpoint()),
                ("client_id", self.client_id()),
                ("redirect_uri", self.redirect_uri()),
            ],
            &["openid", "offline_access"],
        )
    }

    /// The log of the token endpoint until now.
    pub async fn events(&self) -> Events {
        self.get("/events").await
    }

    /// As [`events`](Self::events), once at least `count` token requests are decided.
    pub async fn settled(&self, count: usize) -> Events {
        let what = format!("{count} decided token requests");
        bounded(&what, self.get(&format!("/events?settled={count}"))).await
    }

    /// From now on the token endpoint processes requests, rotation included, and holds its answers
    /// back.
    pub async fn hold(&self) {
        self.control(json!({"hold": true})).await;
    }

    /// From now on the token endpoint accepts requests and processes none.
    pub async fn hold_before(&self) {
        self.control(json!({"hold_before": true})).await;
    }

    /// From now on the server holds requests for its metadata back.
    pub async fn hold_metadata(&self) {
        self.control(json!({"hold_metadata": true})).await;
    }

    /// Ends all holds and releases every held request, also if its sender is gone.
    pub async fn release(&self) {
        self.control(json!({"hold": false, "hold_before": false, "hold_metadata": false})).await;
    }

    /// How many requests are held now.
    pub async fn held(&self) -> usize {
        let control: Control = self.get("/control").await;
        control.held + control.held_before + control.held_metadata
    }

    /// Waits until at least `count` requests are held.
    pub async fn wait_for_held(&self, count: usize) {
        let what = format!("{count} held requests");
        let _: Control = bounded(&what, self.get(&format!("/control?held={count}"))).await;
    }

    /// Delays every answer of the token endpoint.
    pub async fn set_token_delay(&self, delay: Duration) {
        self.control(json!({"token_delay_ms": delay.as_millis() as u64})).await;
    }

    /// The public keys (RFC 7517 §5).
    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.issuer)
    }

    /// Signs id tokens with a new key from now on, and publishes that key alone. The log begins anew.
    pub async fn rotate_keys(&self) {
        self.control(json!({"rotate_keys": true})).await;
    }

    /// Loses a client that registered itself, as a server does that expires them.
    pub async fn forget_client(&self, client_id: &str) {
        self.control(json!({"forget_client": client_id})).await;
    }

    /// Sets the lifetime of access tokens from now on: whole seconds, at least one.
    pub async fn set_access_token_ttl(&self, ttl: Duration) {
        self.control(json!({"access_token_ttl": ttl.as_secs()})).await;
    }

    /// The private key of the client `-NAME` in PEM, where there is [every client](OidcOptions).
    pub async fn client_key(&self, name: &str) -> String {
        let keys: std::collections::BTreeMap<String, String> = self.get("/client-keys").await;
        keys.get(name).unwrap_or_else(|| panic!("no client signs with {name}")).clone()
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let url = format!("{}{path}", self.issuer);
        read(self.client.get(url)).await
    }

    async fn control(&self, change: Value) {
        let url = format!("{}/control", self.issuer);
        let _: Control = read(self.client.post(url).body(change.to_string())).await;
    }
}

async fn read<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> T {
    let response =
        request.send().await.unwrap_or_else(|error| panic!("oidc-provider does not answer: {error:?}"));
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("oidc-provider answered {status}: {error}: {text}"))
}

async fn bounded<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, wait).await.unwrap_or_else(|_| panic!("waited {WAIT:?} in vain for {what}"))
}

/// Waits until a server listens. Returns it with its issuer, or the state of a process that printed nothing.
async fn started(mut child: Child, within: Duration) -> Result<(Child, ChildStdin, String), String> {
    let stdin = child.stdin.take().expect("it was asked for at the start");
    let stdout = child.stdout.take().expect("it was asked for at the start");
    match tokio::time::timeout(within, first_line(stdout)).await {
        Ok(issuer) => Ok((child, stdin, issuer)),
        Err(_) => Err(state_of(&child)),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test server is a process")]
fn spawn(script: &Path, options: &OidcOptions) -> Child {
    let node = install::program("node");
    let mut command = tokio::process::Command::new(&node);
    command
        // V8's own threads can wait for the main one while that waits for them, and then the server never starts.
        .arg("--single-threaded")
        .arg(script)
        .arg(format!("--access-token-ttl={}", options.access_token_ttl.as_secs()))
        .arg(format!("--refresh-token-ttl={}", options.refresh_token_ttl.as_secs()))
        .arg(format!("--client-id={}", options.client_id))
        .arg(format!("--issuer-path={}", options.issuer_path))
        .args(options.every_client.then_some("--every-client"))
        .args(options.redirect_uris.iter().map(|uri| format!("--redirect-uri={uri}")))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .env("NODE_NO_WARNINGS", "1")
        .kill_on_drop(true);
    command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", node.display()))
}

/// Describes a process that hangs: its state, and the place in the kernel where it waits.
#[expect(clippy::disallowed_methods, reason = "a test reads /proc, and waits for nothing there")]
fn state_of(child: &Child) -> String {
    let Some(pid) = child.id() else { return "it has ended".to_owned() };
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let lines = status.lines().filter(|line| line.starts_with("State") || line.starts_with("Threads"));
    format!("{} in {}", lines.collect::<Vec<_>>().join(", "), read("wchan"))
}

/// Reads the line with the address of the server, and discards the rest of the output.
async fn first_line(stdout: ChildStdout) -> String {
    let mut lines = BufReader::new(stdout).lines();
    let line = match lines.next_line().await {
        Ok(Some(line)) => line,
        other => panic!("oidc-provider ended before it listened; see its errors above ({other:?})"),
    };
    let listening: Listening =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("oidc-provider printed {line:?}: {error}"));
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    listening.issuer
}
