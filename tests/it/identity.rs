//! The account of a sign-in at a real provider that signs its id tokens and rotates its keys.

use std::time::Duration;

use serde_json::Value;

use crate::{
    support::{
        browser,
        oidc::{Oidc, OidcOptions},
        program::{Ended, Home},
        raw::{self, Ending, RawServer},
    },
    team::{Team, builtin_agent},
};

async fn provider() -> Oidc {
    Oidc::start(OidcOptions { access_token_ttl: Duration::from_secs(3600), ..OidcOptions::default() }).await
}

/// Returns the provider's section, with its keys at `jwks_uri`.
fn section(oidc: &Oidc, jwks_uri: &str) -> String {
    format!("{}jwks_uri = {jwks_uri:?}\n", oidc.config_toml("acme"))
}

/// Signs in as this account from the command line.
async fn sign_in(home: &Home, account: &str) -> Ended {
    let started = home.run(&["auth", "start", "acme"]).await;
    let callback = browser::sign_in(started.stdout.trim(), account).await;
    home.run_with(&["auth", "code"], &callback.url).await
}

/// Returns the stored session of a tenant.
fn session(stored: &str, tenant: &str) -> Value {
    let store: Value = serde_json::from_str(stored).unwrap();
    store["sessions"][tenant].clone()
}

fn stored(home: &Home) -> String {
    #[expect(clippy::disallowed_methods, reason = "the test's own read of the file is not the program's")]
    std::fs::read_to_string(home.store()).unwrap()
}

#[tokio::test]
async fn the_command_line_proves_the_account_by_the_providers_keys_across_a_rotation() {
    let oidc = provider().await;
    let home = Home::new(&section(&oidc, &oidc.jwks_uri()));
    for generation in ["first", "second"] {
        let ended = sign_in(&home, "alice").await;
        assert_eq!(ended.code, 0, "{generation}: {ended:?}");
        let session = session(&stored(&home), "acme/local");
        assert_eq!(session["account"], "alice@example.com");
        assert_eq!((&session["subject"], &session["issuer"]), (&"alice".into(), &oidc.issuer().into()));
        assert!(session["id_token"].as_str().is_some_and(|token| token.split('.').count() == 3));
        oidc.rotate_keys().await;
    }
    let other = sign_in(&home, "bob").await;
    assert!(other.stderr.contains("You signed in as bob@example.com"), "{other:?}");
    assert_eq!(session(&stored(&home), "acme/local")["subject"], "alice", "nothing was replaced");
}

#[tokio::test]
async fn the_command_line_refuses_an_id_token_that_other_keys_signed() {
    let (oidc, other) = (provider().await, provider().await);
    let home = Home::new(&section(&oidc, &other.jwks_uri()));
    let refused = sign_in(&home, "alice").await;
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
    for words in ["an id token that is refused", "its key (`kid`)", "The operator must check jwks_uri"] {
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    assert_eq!(session(&stored(&home), "acme/local"), Value::Null);
}

#[tokio::test]
async fn a_running_bot_follows_a_rotation_of_the_providers_keys() {
    let oidc = provider().await;
    let team = Team::new(&section(&oidc, &oidc.jwks_uri()), &builtin_agent(&oidc.userinfo_endpoint())).await;
    let bot = team.run().await;
    for (user, account) in [(&team.alice, "alice"), (&team.bob, "bob")] {
        let (_, link) = team.start(user).await;
        let callback = browser::sign_in(&link, account).await;
        team.paste(user, &callback.url).await.says(&format!("Signed in as `{account}@example.com")).await;
        let tenant = format!("acme/user:{}", user.id);
        assert_eq!(session(&team.stored(), &tenant)["subject"], account);
        oidc.rotate_keys().await;
    }
    // The next minute has not come, so the bot does not ask again for the third key.
    let (_, link) = team.start(&team.alice).await;
    let callback = browser::sign_in(&link, "alice").await;
    team.paste(&team.alice, &callback.url).await.says("an id token that is refused").await;
    assert_eq!(bot.stop().await.code, 0);
}

#[tokio::test]
async fn a_sign_in_is_finished_although_the_keys_cannot_be_fetched() {
    let (oidc, keys) = (provider().await, RawServer::start().await);
    keys.answer(raw::json(503, "{}"), Ending::Close);
    let home = Home::new(&section(&oidc, &keys.token_endpoint()));
    let ended = sign_in(&home, "alice").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("check providers.acme.jwks_uri"), "{ended:?}");
    let session = session(&stored(&home), "acme/local");
    // The userinfo endpoint names the account over TLS. No signature proves it, so no id token is kept.
    assert_eq!((&session["subject"], &session["id_token"]), (&"alice".into(), &Value::Null));
    assert!(session["refresh_token"].is_string());
}
