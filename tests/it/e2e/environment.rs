//! Workers whose token comes from a variable of the bot.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::time::Duration;

use serde_json::Value;

use crate::{
    support::{
        authserver::{AuthServer, CLIENT_ID},
        browser,
        program::Home,
    },
    team::{Team, authserver, builtin_agent, expect_messages},
};

/// Returns an access token of this account, from a sign-in elsewhere.
async fn token_of(server: &AuthServer, account: &str) -> String {
    let home = Home::new(&server.config_toml("acme"));
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).expect("JSON");
    let callback = browser::sign_in(started["authorize_url"].as_str().expect("a link"), account).await;
    let ended = home.run_with(&["auth", "code", "acme"], &callback.url).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    home.run(&["token", "acme"]).await.stdout.trim().to_owned()
}

#[tokio::test]
async fn a_worker_gets_the_token_of_a_variable_for_the_named_user_alone() {
    let server = authserver().await;
    let token = token_of(&server, "alice").await;
    let team = Team::new(&server.config_toml("acme"), &builtin_agent(&server.userinfo_endpoint())).await;
    let file = team.home.path().join("threadkey.toml");
    let config = std::fs::read_to_string(file).expect("a configuration");
    let client = format!("client_id = \"{CLIENT_ID}\"\n");
    let source =
        format!("{client}token_env = \"ACME_TOKEN\"\ntoken_env_for = [\"user:{}\"]\n", team.alice.id);
    assert!(config.contains(&client), "{config}");
    team.home.configure(&config.replace(&client, &source));
    let bot = team.run_with(&[("ACME_TOKEN", &token)]).await;

    let thread = team.ask(&team.alice, "hello").await;
    expect_messages(&thread, "I hold **alice**'s login at **acme**", 1).await;
    let others = team.bob.command(&team.general, "ask", &[("prompt", "hello")]).await;
    others.says("Sign in to acme").await;

    // A variable cannot be refreshed, so a dead token is the operator's to replace.
    server.advance(Duration::from_secs(2 * 3600));
    team.alice.says(&thread, "and now?");
    expect_messages(&thread, "ACME_TOKEN", 1).await;
    let stored = std::fs::read_to_string(team.home.store()).unwrap_or_default();
    assert!(!stored.contains(&token), "the token is never stored");
    let ended = bot.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains(&token), "no log shows the token");
}
