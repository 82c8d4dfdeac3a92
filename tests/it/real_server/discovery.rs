//! Discovery at the server by several processes.

use serde_json::Value;

use crate::{
    support::{
        browser,
        oidc::{Oidc, OidcOptions},
    },
    team::{Team, enter},
};

const TWO_DAYS: i64 = 2 * 24 * 60 * 60;

#[tokio::test]
async fn two_processes_discover_one_issuer_at_once_and_doctor_refreshes_it() {
    let options = OidcOptions { issuer_path: "/realms/two".into(), ..OidcOptions::default() };
    let oidc = Oidc::start(options).await;
    let (issuer, redirect_uri) = (oidc.issuer(), oidc.redirect_uri());
    let section = format!(
        "[providers.acme]\nissuer = {issuer:?}\nclient_id = \"threadkey\"\nredirect_uri = {redirect_uri:?}\n"
    );
    let team = Team::new(&section, "").await;
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
