//! The pages of the listener in Chromium.

use super::Login;
use crate::{
    sign_in_pages::real_browser::{ALICE, ALLOW, DENY, shows},
    support::{
        authserver::{AuthServer, Options},
        chromium::Chromium,
        network::free_address,
        program::Home,
    },
};

#[tokio::test]
async fn in_chromium_login_shows_how_the_sign_in_ended() {
    // The listener has no TLS, so Chromium accepts no certificate.
    let Some(chromium) = Chromium::start(b"").await else { return };
    let redirect_uri = format!("http://{}/callback", free_address());
    let redirect_uris = vec![redirect_uri.clone()];
    let server = AuthServer::start(Options { redirect_uris, ..Options::default() }).await;
    let home = Home::new(&server.config_toml_for("acme", &redirect_uri));
    let profile = chromium.profile().await;

    let login = Login::start(&home, &[], &[]).await;
    let tab = profile.open(&login.link).await;
    tab.click(ALICE).await;
    tab.click_through(DENY).await;
    shows(&tab, "You are not signed in").await;
    assert_eq!(login.ended().await.code, 2);

    let login = Login::start(&home, &[], &[]).await;
    tab.go(&format!("{redirect_uri}?code=guessed&state=guessed")).await;
    shows(&tab, "This answer belongs to another sign-in").await;
    tab.go(&login.link).await;
    tab.click(ALICE).await;
    tab.click_through(ALLOW).await;
    shows(&tab, "Signed in at acme as alice@example.com").await;
    assert_eq!(login.ended().await.code, 0);
    chromium.close().await;
}
