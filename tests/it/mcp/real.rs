//! The MCP server of the official SDK, from npm.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use threadkey::{
    api::{self, CertificateFiles, PublicSettings, Transport},
    broker::PublicUrl,
    ids::{Principal, Tenant},
    oauth::{Providers, RECOMMENDED_REDIRECT_URI, mcp::client_document},
    sys::files::replace_private,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};

use super::{home, link, scripted::undiscovered, start};
use crate::{
    discord_rig::{Plan, Rig, snowflake},
    support::npm::{self, Files, program},
};

const PACKAGE: Files = &[
    ("package.json", include_str!("../../mcp/package.json")),
    ("package-lock.json", include_str!("../../mcp/package-lock.json")),
];
const SCRIPTS: Files = &[
    ("server.mjs", include_str!("../../mcp/server.mjs")),
    ("agent.mjs", include_str!("../../mcp/agent.mjs")),
];

/// The folders of the package and of the scripts.
pub(super) async fn installed() -> (PathBuf, PathBuf) {
    tokio::task::spawn_blocking(|| npm::install(PACKAGE, SCRIPTS)).await.unwrap()
}

/// A running server. It ends when this is dropped.
pub(crate) struct Server {
    base: String,
    pub(crate) url: String,
    _stdin: ChildStdin,
    _child: Child,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[], &[]).await
    }

    pub(super) async fn with(arguments: &[&str], variables: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(program("node"))
            .arg(installed().await.1.join("server.mjs"))
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| listening[name].as_str().unwrap().to_owned();
        Self { base: text("base"), url: text("url"), _stdin: child.stdin.take().unwrap(), _child: child }
    }

    /// Asks the test's own part of the server.
    pub(super) async fn get(&self, path: &str) -> Value {
        let text = reqwest::get(format!("{}/{path}", self.base)).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Makes the test's own part of the server do something.
    pub(super) async fn post(&self, path: &str) {
        let answer = reqwest::Client::new().post(format!("{}/{path}", self.base)).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    pub(super) async fn log(&self, what: &str) -> Vec<Value> {
        let log = self.get("log").await.as_array().unwrap().clone();
        log.into_iter().filter(|entry| entry["what"] == what).collect()
    }
}

/// Asks the server for its tools with this token.
async fn tools(server: &Server, token: &str) -> String {
    let request = reqwest::Client::new()
        .post(&server.url)
        .bearer_auth(token)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#);
    request.send().await.unwrap().text().await.unwrap()
}

/// Opens the link as a browser does, and returns the address of the redirect.
pub(crate) async fn redirected(authorize_url: &str) -> String {
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = browser.get(authorize_url).send().await.unwrap();
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_real_mcp_server_is_signed_in_to_from_nothing_but_its_url() {
    let server = Server::start().await;
    let home = home(&server.url, "");
    let none = home.run(&["token", "linear"]).await;
    assert_eq!(none.code, 3, "{none:?}");
    let started = start(&home).await;
    assert_eq!(link(&started)["scope"], "mcp:tools offline_access");
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = redirected(started["authorize_url"].as_str().unwrap()).await;
    let done = home.run_with(&["auth", "code"], &callback).await;
    assert_eq!(done.code, 0, "{done:?}");
    let first = home.run(&["token", "linear"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    let tools = tools(&server, first.stdout.trim()).await;
    assert!(tools.contains("greet"), "{tools}");

    let rejected = home.run_with(&["token", "linear", "--rejected", "-"], first.stdout.trim()).await;
    assert!(rejected.code == 0 && rejected.stdout != first.stdout, "{rejected:?}");
    for what in ["authorize", "exchange", "refresh"] {
        assert_eq!(server.log(what).await[0]["resource"], server.url, "{what}");
    }
    let registered = server.log("register").await;
    assert_eq!(registered.len(), 1);
    assert_eq!(registered[0]["client"]["application_type"].as_str().unwrap_or("native"), "native");
}

#[tokio::test]
async fn a_real_mcp_server_is_signed_in_to_by_the_listener_of_login() {
    let server = Server::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let redirect_uri = format!("http://{}/callback", free.local_addr().unwrap());
    drop(free);
    let home = home(&server.url, &format!("redirect_uri = \"{redirect_uri}\"\n"));
    let mut login = home.command(&["login", "linear"]).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(login.stdout.take().unwrap()).lines();
    let link = lines.next_line().await.unwrap().unwrap();
    let callback = redirected(&link).await;
    assert!(callback.starts_with(&redirect_uri), "{callback}");
    let page = reqwest::Client::builder().no_proxy().build().unwrap().get(&callback).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let mut stderr = String::new();
    login.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
    assert!(login.wait().await.unwrap().success(), "{stderr}");
    let token = home.run(&["token", "linear"]).await;
    assert!(tools(&server, token.stdout.trim()).await.contains("greet"));
    let registered = server.log("register").await;
    assert_eq!(registered[0]["client"]["redirect_uris"], json!([redirect_uri]));
}

/// Starts alice's sign-in at `linear`. Returns the link of its message.
async fn link_on_discord(rig: &Rig) -> String {
    let reply = rig.alice.command(&rig.general, "auth start", &[("provider", "linear")]).await;
    reply.link("Sign in to linear").expect("a link")
}

async fn code_on_discord(rig: &Rig, code: &str) -> String {
    rig.alice.command(&rig.general, "auth code", &[("code", code)]).await.text()
}

async fn token_of_alice(rig: &Rig) -> String {
    let tenant = Tenant::new("linear".parse().unwrap(), Principal::User(snowflake(rig.alice.id)));
    rig.broker.token(&tenant, Duration::ZERO).await.unwrap().access_token.expose().to_owned()
}

fn plan(server: &Server) -> Plan {
    let providers = Providers::with_undiscovered([], [undiscovered(&server.url)]);
    Plan { providers: Some(providers), ..Plan::default() }
}

#[tokio::test]
async fn a_real_mcp_server_is_signed_in_to_through_discord_by_a_registered_client() {
    let server = Server::start().await;
    let rig = Rig::with(plan(&server)).await;
    let callback = redirected(&link_on_discord(&rig).await).await;
    let answer = code_on_discord(&rig, &callback).await;
    assert!(answer.contains("Signed in"), "{answer}");
    assert!(tools(&server, &token_of_alice(&rig).await).await.contains("greet"));
    assert_eq!(server.log("register").await.len(), 1);
    assert!(!rig.discord.everything_public().contains(&callback));
}

#[tokio::test]
async fn a_real_mcp_server_is_signed_in_to_through_discord_by_our_metadata_document() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let files =
        CertificateFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    replace_private(&files.certificate, certificate.pem().as_bytes()).unwrap();
    replace_private(&files.key, key.serialize_pem().as_bytes()).unwrap();
    let server = Server::with(&["--documents"], &[("NODE_EXTRA_CA_CERTS", &files.certificate)]).await;
    let mut rig = Rig::stopped(plan(&server)).await;

    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let url = PublicUrl::parse(&format!("https://localhost:{}", listen.port())).unwrap();
    let id = url.client_document();
    let callback = url.callback_of(&"linear".parse().unwrap());
    let redirects = [RECOMMENDED_REDIRECT_URI, callback.as_str()];
    let document = client_document(id.as_str(), url.as_url().as_str(), &redirects);
    rig.broker.set_public_url(url.clone());
    let settings = PublicSettings {
        url,
        listen,
        transport: Transport::Tls(files),
        client_document: Some(std::sync::Arc::new(document)),
    };
    let bound = api::bind_pages(settings).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    tokio::spawn(api::serve_pages(
        bound,
        rig.broker.clone(),
        std::sync::Arc::new(threadkey::broker::WithoutBot),
        stop,
    ));
    rig.run().await;

    let browser = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .add_root_certificate(reqwest::Certificate::from_der(certificate.der()).unwrap())
        .build()
        .unwrap();
    let opened = browser.post(link_on_discord(&rig).await).send().await.unwrap();
    assert_eq!(opened.status(), StatusCode::SEE_OTHER);
    let header = |name| opened.headers()[name].to_str().unwrap().to_owned();
    let returned = redirected(&header(header::LOCATION)).await;
    assert!(returned.starts_with(callback.as_str()), "{returned}");
    let cookie = header(header::SET_COOKIE).split(';').next().unwrap().to_owned();
    let page = browser.get(&returned).header(header::COOKIE, cookie).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    let digits =
        page.split_once("class=\"digits\">").unwrap().1.split_once('<').unwrap().0.replace("&nbsp;", " ");
    let answer = code_on_discord(&rig, &digits).await;
    assert!(answer.contains("Signed in"), "{answer}");
    assert!(tools(&server, &token_of_alice(&rig).await).await.contains("greet"));
    assert!(server.log("register").await.is_empty(), "the document needs no registration");
    assert_eq!(server.log("document").await[0]["document"]["client_id"], id.as_str());
}
