//! The issuer of an answer (RFC 9207), denials and wrong browsers, with the server's own pages.

use reqwest::Method;

use super::{
    rows::{PUBLIC, server},
    session::stored,
    ways::{Chat, Terminal, type_digits, with_pages},
};
use crate::{sign_in_pages::send, support::browser, team::enter};

/// The callback without its `iss`, and with that of another server.
fn of_other_issuers(callback: &str) -> [(String, &'static str); 2] {
    let (before, iss) = callback.split_once("&iss=").unwrap_or_else(|| panic!("no iss in {callback}"));
    let rest = iss.split_once('&').map_or(String::new(), |(_, rest)| format!("&{rest}"));
    [
        (format!("{before}{rest}"), "does not name acme as its issuer"),
        (format!("{before}&iss=https%3A%2F%2Fevil.example{rest}"), "evil.example"),
    ]
}

#[tokio::test]
async fn auth_code_refuses_an_answer_of_no_or_another_issuer_and_takes_the_right_one() {
    let cell = Terminal::new(&PUBLIC, "iss-auth").await;
    let started = cell.home.run(&["auth", "start", "acme"]).await;
    let callback = browser::sign_in(started.stdout.trim(), &cell.account).await;
    for (url, words) in of_other_issuers(&callback.url) {
        let refused = cell.home.run_with(&["auth", "code"], &url).await;
        assert!(refused.code == 2 && refused.stderr.contains(words), "{refused:?}");
    }
    assert!(stored(&cell.home)["sessions"]["acme/local"].is_null());
    let done = cell.home.run_with(&["auth", "code"], &callback.url).await;
    assert_eq!(done.code, 0, "the code was not sent anywhere: {done:?}");
}

#[tokio::test]
async fn a_paste_on_discord_of_no_or_another_issuer_is_refused_and_the_right_one_taken() {
    let cell = Chat::new(&PUBLIC, "iss-paste").await;
    let (started, link) = cell.team.start(&cell.team.alice).await;
    let callback = browser::sign_in(&link, &cell.account).await;
    for (url, words) in of_other_issuers(&callback.url) {
        enter(&started, &url).await.says(words).await;
    }
    enter(&started, &callback.url).await.says("Signed in as").await;
    cell.stop().await;
}

#[tokio::test]
async fn our_pages_refuse_a_wrong_browser_and_a_second_use_of_the_servers_answer() {
    let (cell, site) = with_pages(&PUBLIC, "wrong-pages").await;
    let (started, link) = cell.team.start(&cell.team.alice).await;
    let (callback, cookie) = site.through_pages(&link, &cell.account).await;
    let wrong = send(Method::GET, &callback, None).await;
    assert!(wrong.status == 403 && wrong.text.contains("did not start the sign-in"), "{}", wrong.text);
    let page = send(Method::GET, &callback, Some(&cookie)).await;
    assert_eq!(page.status, 200, "the code was not sent anywhere: {}", page.text);
    assert_eq!(send(Method::GET, &callback, Some(&cookie)).await.status, 410);
    type_digits(&started, &page.digits()).await.says("Signed in as").await;
    cell.stop().await;
}

#[tokio::test]
async fn our_pages_end_a_sign_in_whose_answer_is_of_no_or_another_issuer() {
    let (cell, site) = with_pages(&PUBLIC, "iss-pages").await;
    for n in 0..2 {
        let (started, link) = cell.team.start(&cell.team.alice).await;
        let (callback, cookie) = site.through_pages(&link, &cell.account).await;
        let (foreign, _) = &of_other_issuers(&callback)[n];
        let refused = send(Method::GET, foreign, Some(&cookie)).await;
        assert!(refused.status == 400 && refused.text.contains("wrong_issuer"), "{}", refused.text);
        started.says("the answer did not come from `acme`").await;
        assert_eq!(send(Method::GET, &callback, Some(&cookie)).await.status, 404, "it has ended");
    }
    let used = server().events().await.requests;
    let used = used.iter().filter(|request| request.account.as_deref() == Some(&cell.account));
    assert_eq!(used.count(), 0, "no code was sent");
    cell.stop().await;
}

#[tokio::test]
async fn a_denial_on_the_servers_pages_ends_the_sign_in_on_our_page_and_on_discord() {
    let (cell, site) = with_pages(&PUBLIC, "denied-pages").await;
    let (started, link) = cell.team.start(&cell.team.alice).await;
    let (location, cookie) = site.open(&link).await;
    let denial = browser::deny(&location, &cell.account).await;
    let page = send(Method::GET, &denial.url, Some(&cookie)).await;
    assert!(page.status == 403 && page.text.contains("did not allow the access"), "{}", page.text);
    started.says("the access was denied at `acme`").await;
    cell.stop().await;
}
