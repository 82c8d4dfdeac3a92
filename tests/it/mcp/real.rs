//! The MCP server of the official SDK, from npm.

use std::{path::PathBuf, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};

use super::{home, link, start};
use crate::support::npm::{self, Files, program};

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
pub(super) struct Server {
    base: String,
    pub(super) url: String,
    _stdin: ChildStdin,
    _child: Child,
}

impl Server {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(super) async fn with(arguments: &[&str]) -> Self {
        let mut child = Command::new(program("node"))
            .arg(installed().await.1.join("server.mjs"))
            .args(arguments)
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

/// Opens the link as a browser does, and returns the address of the redirect.
pub(super) async fn redirected(authorize_url: &str) -> String {
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
    let tools = reqwest::Client::new()
        .post(&server.url)
        .bearer_auth(first.stdout.trim())
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#);
    let tools = tools.send().await.unwrap().text().await.unwrap();
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
