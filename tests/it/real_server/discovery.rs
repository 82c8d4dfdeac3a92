//! Discovery at the server by several processes.

use serde_json::Value;

use super::session::stored;
use crate::{
    support::{
        browser,
        oidc::{Oidc, OidcOptions},
    },
    team::{Team, enter},
};

const TWO_DAYS: i64 = 2 * 24 * 60 * 60;

async fn start() -> (Oidc, Team) {
    let hour = std::time::Duration::from_secs(3600);
    let options =
        OidcOptions { issuer_path: "/realms/two".into(), access_token_ttl: hour, ..OidcOptions::default() };
    let oidc = Oidc::start(options).await;
    let (issuer, redirect_uri) = (oidc.issuer(), oidc.redirect_uri());
    let section = format!(
        "[providers.acme]\nissuer = {issuer:?}\nclient_id = \"threadkey\"\nredirect_uri = {redirect_uri:?}\n"
    );
    let team = Team::new(&section, "").await;
    (oidc, team)
}

#[tokio::test]
async fn two_processes_discover_one_issuer_at_once_and_doctor_refreshes_it() {
    let (oidc, team) = start().await;
    let issuer = oidc.issuer().to_owned();
    oidc.hold_metadata().await;
    // The bot fetches at its start, and the command for its sign-in.
    let bot = team.run().await;
    oidc.wait_for_held(1).await;
    let started = tokio::join!(team.home.run(&["auth", "start", "acme", "--json"]), async {
        oidc.wait_for_held(2).await;
        oidc.release().await;
    });
    let started: Value = serde_json::from_str(&started.0.stdout).unwrap_or_else(|_| panic!("{started:?}"));
    let (shown, link) = team.start(&team.alice).await;
    for (link, account) in [(started["authorize_url"].as_str().unwrap(), "bob"), (&link, "alice")] {
        assert!(link.starts_with(&oidc.authorization_endpoint()), "{link}");
        let callback = browser::sign_in(link, account).await;
        if account == "alice" {
            enter(&shown, &callback.url).await.says("Signed in as `alice@example.com`").await;
        } else {
            let done = team.home.run_with(&["auth", "code"], &callback.url).await;
            assert_eq!(done.code, 0, "{done:?}");
        }
    }
    assert_eq!(oidc.held().await, 0, "neither process fetches again");
    assert_eq!(bot.stop().await.code, 0);

    team.home.set_offset(TWO_DAYS);
    let doctor = team.home.run(&["doctor"]).await;
    let refreshed = format!("{issuer} publishes {issuer}/token; the metadata of before was 2 d");
    assert!(doctor.stdout.contains(&refreshed), "{doctor:?}");
    drop(oidc);
    let started = team.home.run(&["auth", "start", "acme", "--as", "user:1"]).await;
    assert_eq!(started.code, 0, "the server is away, and its metadata is here: {started:?}");
}

#[tokio::test]
async fn published_keys_that_change_are_followed_by_a_running_bot_and_the_command_line() {
    let (oidc, team) = start().await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let before = stored(&team.home)["sessions"][format!("acme/{}", team.alice.principal())].clone();
    oidc.rotate_keys().await;
    team.sign_in(&team.alice, "alice").await;
    let after = stored(&team.home)["sessions"][format!("acme/{}", team.alice.principal())].clone();
    assert_ne!(before["id_token"], after["id_token"]);
    let started = team.home.run(&["auth", "start", "acme"]).await;
    let callback = browser::sign_in(started.stdout.trim(), "bob").await;
    let done = team.home.run_with(&["auth", "code"], &callback.url).await;
    assert_eq!(done.code, 0, "{done:?}");
    // The refresh brings an id token by the new key, for the same account.
    team.home.set_offset(3590);
    for (principal, account) in [(team.alice.principal(), "alice"), ("local".to_owned(), "bob")] {
        let token = team.home.run(&["token", "acme", "--as", &principal]).await;
        assert_eq!(token.code, 0, "{token:?}");
        let session = &stored(&team.home)["sessions"][format!("acme/{principal}")];
        assert_eq!((&session["subject"], &session["generation"]), (&account.into(), &2.into()));
        assert_eq!(oidc.events().await.of(account).refreshes, 1);
    }
    assert_eq!(bot.stop().await.code, 0);
}
