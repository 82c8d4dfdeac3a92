//! Sign-ins without a link at a real authorization server: device codes and CIBA, from Discord and from
//! the command line.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::{
    support::{
        browser,
        discord::{Person, Reply},
        oidc::{Oidc, OidcOptions},
        program::{Home, signal_process},
    },
    team::Team,
};

const NO_AGENT: &str = "";

async fn oidc() -> Oidc {
    let access_token_ttl = std::time::Duration::from_secs(3600);
    Oidc::start(OidcOptions { access_token_ttl, ..OidcOptions::default() }).await
}

/// Runs `/auth start` for a device code; returns the answer and the page with the code.
pub(crate) async fn start_device(team: &Team, user: &Person) -> (Reply, String) {
    let options = [("provider", "acme"), ("grant", "device")];
    let started = user.command(&team.general, "auth start", &options).await;
    assert!(started.is_ephemeral(), "{started:?}");
    let text = started.embeds()[0].description.clone();
    assert!(text.contains("Enter only a code that you asked for here yourself"), "{text}");
    let page = started.link("Sign in to acme").unwrap_or_else(|| panic!("no page in the {started:?}"));
    let code = page.split_once("user_code=").map(|(_, code)| code.to_owned()).unwrap_or_default();
    assert!(!code.is_empty() && text.contains(&format!("`{code}`")), "{text}");
    (started, page)
}

/// A `threadkey auth start` that waits for the end of the sign-in.
pub(crate) struct Waiting {
    child: tokio::process::Child,
    stdout: BufReader<tokio::process::ChildStdout>,
}

impl Waiting {
    pub(crate) fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut child = home.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await.unwrap();
        line
    }

    pub(crate) async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits for its end; returns the exit code and its standard error.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
        (self.child.wait().await.unwrap().code(), stderr)
    }
}

#[tokio::test]
async fn a_device_code_on_discord_becomes_the_users_session_by_itself() {
    let oidc = oidc().await;
    let team = Team::new(&oidc.device_toml("acme"), NO_AGENT).await;
    let bot = team.run().await;
    let (started, page) = start_device(&team, &team.alice).await;
    browser::enter_code(&page, "alice", "allow").await;
    let done = started.says("Signed in as `alice@example.com`").await;
    assert!(done.buttons.is_empty(), "{done:?}");
    let (refused, page) = start_device(&team, &team.bob).await;
    browser::enter_code(&page, "bob", "deny").await;
    refused.says("the access was refused there").await;
    let (cancelled, _) = start_device(&team, &team.bob).await;
    team.bob.command(&team.general, "auth cancel", &[]).await;
    cancelled.says("was cancelled").await;
    assert!(!team.discord.everything_public().contains("user_code"), "the code is for its user alone");
    team.discord.assert_no_violations();
    let ended = bot.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let events = oidc.events().await;
    assert_eq!((events.total.reuses, events.total.revoked), (0, 0), "{events:?}");
}

#[tokio::test]
async fn a_bot_that_is_killed_in_mid_poll_finishes_the_sign_in_after_its_restart() {
    let oidc = oidc().await;
    let team = Team::new(&oidc.device_toml("acme"), NO_AGENT).await;
    let bot = team.run().await;
    let (_, page) = start_device(&team, &team.alice).await;
    // The poll is with the provider.
    oidc.hold_before().await;
    oidc.wait_for_held(1).await;
    bot.signal(9);
    bot.ended().await;
    oidc.release().await;
    browser::enter_code(&page, "alice", "allow").await;
    let bot = team.run().await;
    bot.says("signed in").await;
    let principal = team.alice.principal();
    let token = team.home.run(&["token", "acme", "--as", &principal]).await;
    assert_eq!(token.code, 0, "{token:?}");
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_device_code_on_the_command_line_is_waited_for_denied_or_cancelled() {
    let oidc = oidc().await;
    let home = Home::new(&oidc.device_toml("acme"));
    let start = ["auth", "start", "acme", "--grant", "device", "--json"];

    let mut denied = Waiting::start(&home, &start);
    let page = denied.json().await["verification_uri_complete"].as_str().unwrap().to_owned();
    browser::enter_code(&page, "alice", "deny").await;
    let (code, stderr) = denied.end().await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("the access was refused at acme"), "{stderr}");

    let mut cancelled = Waiting::start(&home, &start);
    cancelled.json().await;
    signal_process(cancelled.child.id().and_then(|id| i32::try_from(id).ok()).unwrap(), 2);
    let (code, stderr) = cancelled.end().await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("is cancelled"), "{stderr}");

    // Two commands poll the same sign-in, and both report its end.
    let mut one = Waiting::start(&home, &start);
    let shown = one.json().await;
    assert!(shown["expires_at"].is_i64() && shown["verification_uri"].is_string(), "{shown}");
    let mut other = Waiting::start(&home, &start[..5]);
    let page = other.line().await;
    assert_eq!(other.line().await.trim_end(), shown["user_code"].as_str().unwrap());
    browser::enter_code(page.trim_end(), "alice", "allow").await;
    for waiting in [one, other] {
        let (code, stderr) = waiting.end().await;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("Signed in at acme as alice@example.com"), "{stderr}");
    }
    let token = home.run(&["token", "acme"]).await;
    assert_eq!(token.code, 0, "{token:?}");
    let events = oidc.events().await;
    assert_eq!((events.total.reuses, events.total.revoked), (0, 0), "{events:?}");
}

#[tokio::test]
async fn ciba_asks_the_user_elsewhere_with_the_name_of_the_discord_user() {
    let oidc = oidc().await;
    let provider = oidc.ciba_toml("acme", "{ local = \"carol\" }");
    let team = Team::new(&provider, NO_AGENT).await;
    let principal = team.alice.principal();
    let alice = principal.trim_start_matches("user:");
    let configured = std::fs::read_to_string(team.home.path().join("threadkey.toml")).unwrap();
    let hint = format!("{{ local = \"carol\", \"{alice}\" = \"alice@example.com\" }}");
    team.home.configure(&configured.replace("{ local = \"carol\" }", &hint));
    let bot = team.run().await;
    let started = team.alice.command(&team.general, "auth start", &[("provider", "acme")]).await;
    let text = &started.embeds()[0].description;
    assert!(started.is_ephemeral() && text.contains("threadkey for Alice"), "{text}");
    assert_eq!(oidc.decide_elsewhere("alice", "allow").await, "threadkey for Alice @alice");
    started.says("Signed in as `alice@example.com`").await;
    let unknown = team.bob.command(&team.general, "auth start", &[("provider", "acme")]).await;
    unknown.says("I do not know your name at `acme`").await;

    let mut denied = Waiting::start(&team.home, &["auth", "start", "acme"]);
    assert_eq!(denied.line().await, "threadkey for local\n");
    oidc.decide_elsewhere("carol", "deny").await;
    let (code, stderr) = denied.end().await;
    assert_eq!(code, Some(3), "{stderr}");
    let mut allowed = Waiting::start(&team.home, &["auth", "start", "acme", "--json"]);
    assert_eq!(allowed.json().await["binding_message"], "threadkey for local");
    oidc.decide_elsewhere("carol", "allow").await;
    let (code, stderr) = allowed.end().await;
    assert_eq!(code, Some(0), "{stderr}");
    team.discord.assert_no_violations();
    bot.stop().await;
}

#[tokio::test]
async fn the_issuer_alone_leads_to_a_device_code_and_to_ciba() {
    let oidc = oidc().await;
    let section = |name: &str, client_id: &str, more: &str| {
        format!("[providers.{name}]\nissuer = {:?}\nclient_id = {client_id:?}\n{more}", oidc.issuer())
    };
    let by_device = section("acme", oidc.client_id(), "grants = [\"device\"]\n");
    let by_ciba = section(
        "bank",
        &format!("{}-ciba", oidc.client_id()),
        "grants = [\"ciba\"]\nclient_secret_command = [\"echo\", \"ciba-secret\"]\nlogin_hints = { local = \"carol\" }\n",
    );
    let home = Home::new(&format!("{by_device}{by_ciba}"));
    let mut device = Waiting::start(&home, &["auth", "start", "acme", "--json"]);
    let page = device.json().await["verification_uri_complete"].as_str().unwrap().to_owned();
    browser::enter_code(&page, "alice", "allow").await;
    let mut ciba = Waiting::start(&home, &["auth", "start", "bank", "--json"]);
    assert_eq!(ciba.json().await["binding_message"], "threadkey for local");
    oidc.decide_elsewhere("carol", "allow").await;
    for (waiting, provider) in [(device, "acme"), (ciba, "bank")] {
        let (code, stderr) = waiting.end().await;
        assert_eq!(code, Some(0), "{provider}: {stderr}");
        let token = home.run(&["token", provider]).await;
        assert_eq!(token.code, 0, "{token:?}");
    }
}
