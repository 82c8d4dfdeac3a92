//! A newcomer's run of each grant: the configuration and the commands of the README, at a server that
//! stands in for the vendor.
#![expect(clippy::disallowed_methods, reason = "the test's own processes are not the program's")]

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Child,
};

use super::{User, block, blocks, replaced, step_5};
use crate::{
    mcp::real,
    support::{
        authserver::{AuthServer, Options, Reply},
        browser,
        oidc::{Oidc, OidcOptions},
        raw::{self, Ending, RawServer},
    },
};

/// Returns the block of configuration with this text.
fn config(with: &str) -> &'static str {
    blocks("toml").into_iter().find(|block| block.contains(with)).expect(with)
}

/// A command that waits for its user.
struct Waiting {
    child: Child,
    /// Its first line: a link, a page, or a message.
    first: String,
}

impl Waiting {
    async fn start(user: &User, script: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = user.shell(&format!("exec {script}"));
        let mut child = command.envs(variables.iter().copied()).spawn().expect("a shell");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut first = String::new();
        output.read_line(&mut first).await.expect("it is text");
        Self { child, first: first.trim().to_owned() }
    }

    /// Waits for its end. Returns its messages if it succeeds.
    async fn messages(mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut text).await.expect("it is text");
        let status = self.child.wait().await.expect("it ends");
        assert!(status.success(), "{}\n{text}", self.first);
        text
    }
}

/// Returns a redirect URI on a port that was free a moment ago. The README's own port may be in use by
/// another test.
fn redirect_uri() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://127.0.0.1:{}/callback", socket.local_addr().expect("an address").port())
}

async fn oidc(issuer_path: &str, redirect_uri: String) -> Oidc {
    let options = OidcOptions { redirect_uris: vec![redirect_uri], ..OidcOptions::default() };
    Oidc::start(OidcOptions { issuer_path: issuer_path.into(), ..options }).await
}

/// Opens the address of the last page, which the listener of `threadkey login` answers.
async fn open(url: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    client.get(url).send().await.expect("the listener answers").text().await.expect("a page")
}

#[tokio::test]
async fn the_readmes_run_of_a_device_code_signs_in() {
    let server = oidc("", redirect_uri()).await;
    let user = User::new();
    let issuer = format!("issuer = {:?}", server.issuer());
    user.configure(&replaced(
        config("grants = [\"device\"]"),
        &[("preset = \"github\"", &issuer), ("REPLACE-WITH-YOUR-CLIENT-ID", server.client_id())],
    ));
    let waiting = Waiting::start(&user, block("threadkey auth start github"), &[]).await;
    browser::enter_code(&waiting.first, "alice", "allow").await;
    let messages = waiting.messages().await;
    assert!(messages.contains("Enter only a code that you asked for yourself"), "{messages}");
    assert!(messages.contains("Signed in at github as alice@example.com."), "{messages}");
}

#[tokio::test]
async fn the_readmes_run_of_codexs_device_code_signs_in() {
    let server = RawServer::start().await;
    let at = |path: &str| server.token_endpoint().replace("/token", path);
    for (status, body) in [
        (200, json!({"device_auth_id": "da-1", "user_code": "F4KM-92TZX", "interval": "1"})),
        (403, json!({})),
        (200, json!({"authorization_code": "ac-1", "code_verifier": "v".repeat(43)})),
        (200, json!({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600})),
    ] {
        server.answer(raw::json(status, &body.to_string()), Ending::Close);
    }
    let user = User::new();
    user.configure(&format!(
        "{}\nauthorization_endpoint = {:?}\ntoken_endpoint = {:?}\nrevocation_endpoint = {:?}\n\
         device_authorization_endpoint = {:?}\n",
        config("openai-codex"),
        at("/authorize"),
        at("/token"),
        at("/revoke"),
        at("/deviceauth/usercode"),
    ));
    let waiting = Waiting::start(&user, block("threadkey auth start codex"), &[]).await;
    assert_eq!(waiting.first, at("/codex/device"));
    let messages = waiting.messages().await;
    assert!(messages.contains("enter the code F4KM-92TZX"), "{messages}");
    assert!(messages.contains("Signed in at codex"), "{messages}");
    assert_eq!(user.run("threadkey token codex", "").await, "at-1\n");
}

#[tokio::test]
async fn the_readmes_run_of_ciba_signs_in() {
    let server = oidc("", redirect_uri()).await;
    let user = User::new();
    let backchannel = format!("{}/backchannel", server.issuer());
    user.configure(&replaced(
        config("grants = [\"ciba\"]"),
        &[
            ("https://id.bank.example/bc-authorize", &backchannel),
            ("https://id.bank.example/token", &server.token_endpoint()),
            ("REPLACE-WITH-YOUR-CLIENT-ID", &format!("{}-ciba", server.client_id())),
        ],
    ));
    let secret = [("BANK_CLIENT_SECRET", "ciba-secret")];
    let waiting = Waiting::start(&user, block("threadkey auth start bank"), &secret).await;
    assert_eq!(waiting.first, "threadkey for local");
    assert_eq!(server.decide_elsewhere("operator", "allow").await, "threadkey for local");
    let messages = waiting.messages().await;
    assert!(messages.contains("Signed in at bank as operator@"), "{messages}");
}

#[tokio::test]
async fn the_readmes_run_of_login_signs_in() {
    let redirect_uri = redirect_uri();
    let redirect_uris = vec![redirect_uri.clone()];
    let server = AuthServer::start(Options { redirect_uris, ..Options::default() }).await;
    let user = User::new();
    user.configure(&step_5(&server).replace("http://127.0.0.1:28471/callback", &redirect_uri));
    let waiting = Waiting::start(&user, block("threadkey login gitlab"), &[]).await;
    let page = open(&browser::sign_in(&waiting.first, "alice").await.url).await;
    assert!(page.contains("Signed in at gitlab as alice@example.com."), "{page}");
    let messages = waiting.messages().await;
    assert!(messages.contains("Signed in at gitlab as alice@example.com."), "{messages}");
}

#[tokio::test]
async fn the_readmes_run_with_a_token_of_the_environment_prints_it() {
    let user = User::new();
    let config = config("token_env = [\"GH_TOKEN\", \"GITHUB_TOKEN\"]");
    user.configure(&replaced(config, &[("REPLACE-WITH-YOUR-CLIENT-ID", "client-1")]));
    let script = format!("export GH_TOKEN=token-of-ci\n{}", block("threadkey token github"));
    let printed = user.run(&script, "").await;
    assert!(printed.starts_with("token-of-ci\n"), "{printed}");
    assert!(printed.contains("environment    GH_TOKEN"), "{printed}");
}

#[tokio::test]
async fn the_readmes_run_of_an_exchange_prints_the_token_of_the_service() {
    let server = AuthServer::start(Options::default()).await;
    let user = User::new();
    user.configure(&format!("{}\n{}", server.config_toml("acme"), config("exchange_from")));
    let commands: Vec<&str> = block("threadkey auth start acme").lines().collect();
    let started = user.run(commands[0], "").await;
    let link = started.lines().find(|line| line.starts_with("http")).expect("a link");
    let callback = browser::sign_in(link, "alice").await;
    user.run(commands[1], &callback.url).await;
    let issued_type = "urn:ietf:params:oauth:token-type:access_token";
    server.script([Reply::Json(
        200,
        json!({"access_token": "docs-1", "issued_token_type": issued_type, "token_type": "Bearer", "expires_in": 300}),
    )]);
    assert_eq!(user.run(commands[2], "").await, "docs-1\n");
    let status = user.run("threadkey auth status", "").await;
    assert!(status.contains("docs-agent/local") && status.contains("exchange"), "{status}");
}

#[tokio::test]
async fn the_readmes_run_from_an_issuer_sets_up_and_signs_in() {
    let redirect_uri = redirect_uri();
    let server = oidc("/tenant", redirect_uri.clone()).await;
    let user = User::new();
    let script = replaced(
        block("threadkey config init"),
        &[
            ("https://id.acme.example/tenant", server.issuer()),
            ("YOUR-CLIENT-ID", server.client_id()),
            ("http://127.0.0.1:28471/callback", &redirect_uri),
        ],
    );
    let commands: Vec<&str> = script.lines().collect();
    user.run(commands[0], "").await;
    let checked = user.run(commands[1], "").await;
    assert!(checked.contains(&format!("{} publishes", server.issuer())), "{checked}");
    let waiting = Waiting::start(&user, commands[2], &[]).await;
    open(&browser::sign_in(&waiting.first, "alice").await.url).await;
    assert!(waiting.messages().await.contains("Signed in at acme as "));
    assert_eq!(user.run(commands[3], "").await.lines().count(), 1);
}

#[tokio::test]
async fn the_readmes_run_of_an_mcp_server_signs_in_from_its_url() {
    let server = real::Server::start().await;
    let user = User::new();
    let section = replaced(config("mcp = \"https://"), &[("https://mcp.linear.app/mcp", &server.url)]);
    user.configure(&format!("{section}\nredirect_uri = {:?}\n", redirect_uri()));
    let commands: Vec<&str> = block("threadkey login linear").lines().collect();
    let waiting = Waiting::start(&user, commands[0], &[]).await;
    open(&real::redirected(&waiting.first).await).await;
    let messages = waiting.messages().await;
    assert!(messages.contains("Signed in at linear."), "{messages}");
    assert_eq!(user.run(commands[1], "").await.lines().count(), 1);
}
