//! The pages in Chromium, over TLS, beside the authorization server's own pages.
//!
//! With `THREADKEY_PICTURES=FOLDER` each page is also written as pictures, for a reader to look at.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use reqwest::Method;
use threadkey::{
    api::{CertificateFiles, Transport},
    sys::clock::Clock,
};

use super::Pages;
use crate::{
    discord_rig::Plan,
    support::{
        chromium::{Chromium, Profile, Tab},
        discord::Reply,
    },
};

const CONTINUE: &str = "button[type=submit]";
pub(crate) const ALICE: &str = "input[name=account][value=alice]";
pub(crate) const ALLOW: &str = "button[value=allow]";
pub(crate) const DENY: &str = "button[value=deny]";

/// The pages, served over TLS, and a Chromium that accepts their certificate.
struct Browsing {
    pages: Pages,
    chromium: Chromium,
    _certificate: tempfile::TempDir,
}

impl Browsing {
    async fn start() -> Option<Self> {
        Self::with(Plan::default()).await
    }

    async fn with(plan: Plan) -> Option<Self> {
        let key = KeyPair::generate().expect("a key");
        let chromium = Chromium::start(&key.subject_public_key_info()).await?;
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let files = CertificateFiles {
            certificate: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        write(&files.certificate, &certificate.pem());
        write(&files.key, &key.serialize_pem());
        let pages = Pages::served(plan, "https://localhost", Transport::Tls(files)).await;
        Some(Self { pages, chromium, _certificate: folder })
    }

    /// Opens the link in this profile, and presses its button. Returns at the provider's page.
    async fn at_provider(&self, profile: &Profile, link: &str) -> Tab {
        let tab = profile.open(link).await;
        tab.click_through(CONTINUE).await;
        assert!(tab.url().await.starts_with(self.pages.rig.server.issuer()), "{}", tab.url().await);
        tab
    }

    /// Starts a sign-in, and goes to the last page of it in this profile.
    async fn at_digits(&self, profile: &Profile) -> (Reply, Tab, String) {
        let (reply, link) = self.pages.link().await;
        let tab = self.at_provider(profile, &link).await;
        allow(&tab).await;
        (reply, tab, link)
    }
}

fn write(path: &Path, text: &str) {
    threadkey::sys::files::create_private(path, text.as_bytes()).expect("a file");
}

async fn allow(tab: &Tab) {
    tab.click(ALICE).await;
    tab.click_through(ALLOW).await;
}

/// The digits of the last page, as its reader sees them.
async fn digits(tab: &Tab) -> String {
    let shown = tab.eval("document.querySelector('.digits').innerText").await;
    shown.as_str().expect("digits").replace('\u{a0}', " ").trim().to_owned()
}

/// Asserts that the page shows this, in its own style, and fits on a small phone.
pub(crate) async fn shows(tab: &Tab, words: &str) {
    let text = tab.text().await;
    assert!(text.contains(words), "{words:?} is not on the page:\n{text}");
    let radius = tab.eval("getComputedStyle(document.querySelector('main')).borderTopLeftRadius").await;
    assert_eq!(radius, "12px", "the policy lets the style through");
    for width in [320, 390] {
        tab.width(width).await;
        let wide = tab.eval("document.documentElement.scrollWidth").await;
        assert_eq!(wide, width, "the page fits");
    }
    tab.pictures(words).await;
    tab.width(390).await;
}

#[tokio::test]
async fn in_chromium_the_user_who_started_signs_in_and_the_page_works_once() {
    let Some(all) = Browsing::start().await else { return };
    let browser = all.chromium.profile().await;
    let (reply, link) = all.pages.link().await;
    let tab = browser.open(&link).await;
    shows(&tab, "(@alice) started this sign-in on Discord in the server team").await;
    tab.click_through(CONTINUE).await;
    allow(&tab).await;
    shows(&tab, "Type these digits on Discord").await;
    let typed = digits(&tab).await;
    let second = browser.open(&link).await;
    shows(&second, "This page works once").await;
    let answer = all.pages.type_digits(&reply, &typed).await;
    assert!(answer.contains("Signed in as `alice@example.com`"), "{answer}");
    assert_eq!(all.pages.account().await.as_deref(), Some("alice@example.com"));
    tab.reload().await;
    shows(&tab, "not valid any more").await;
    assert!(!tab.text().await.contains("Not signed in"), "the user is signed in");
    all.chromium.close().await;
}

#[tokio::test]
async fn in_chromium_a_reload_of_the_digits_does_not_show_them_again() {
    let Some(all) = Browsing::start().await else { return };
    let (reply, tab, _) = all.at_digits(&all.chromium.profile().await).await;
    let typed = digits(&tab).await;
    tab.reload().await;
    shows(&tab, "This page works once").await;
    assert!(!tab.text().await.contains(&typed), "{}", tab.text().await);
    let answer = all.pages.type_digits(&reply, &typed).await;
    assert!(answer.contains("Signed in as"), "the reload took nothing away: {answer}");
    all.chromium.close().await;
}

#[tokio::test]
async fn in_chromium_a_browser_without_the_cookie_cannot_finish_a_sign_in() {
    let Some(all) = Browsing::start().await else { return };
    let (reply, link) = all.pages.link().await;
    let (right, wrong) = (all.chromium.profile().await, all.chromium.profile().await);
    let tab = all.at_provider(&right, &link).await;
    // The victim gets the provider's address, and allows the access.
    let victim = wrong.open(&tab.url().await).await;
    allow(&victim).await;
    shows(&victim, "This browser did not start the sign-in").await;
    let returned = victim.url().await;
    assert_eq!(all.pages.account().await, None);
    // The code is not spent: the right browser finishes with the same address.
    tab.go(&returned).await;
    let answer = all.pages.type_digits(&reply, &digits(&tab).await).await;
    assert!(answer.contains("Signed in as"), "{answer}");
    all.chromium.close().await;
}

#[tokio::test]
async fn in_chromium_a_link_that_is_open_elsewhere_is_refused() {
    let Some(all) = Browsing::start().await else { return };
    let (reply, link) = all.pages.link().await;
    let here = all.at_provider(&all.chromium.profile().await, &link).await;
    let there = all.chromium.profile().await.open(&link).await;
    there.click_through(CONTINUE).await;
    shows(&there, "already opened in another browser").await;
    allow(&here).await;
    let answer = all.pages.type_digits(&reply, &digits(&here).await).await;
    assert!(answer.contains("Signed in as"), "the first browser goes on: {answer}");
    all.chromium.close().await;
}

#[tokio::test]
async fn in_chromium_a_denial_ends_the_sign_in_on_the_page_and_on_discord() {
    let Some(all) = Browsing::start().await else { return };
    let (reply, link) = all.pages.link().await;
    let tab = all.at_provider(&all.chromium.profile().await, &link).await;
    tab.click(ALICE).await;
    tab.click_through(DENY).await;
    shows(&tab, "did not allow the access").await;
    reply.says("the access was denied at `acme`").await;
    all.chromium.close().await;
}

#[tokio::test]
async fn in_chromium_an_expired_link_asks_for_a_new_one() {
    let clock = Clock::fixed(1_795_358_672);
    let plan = Plan { clock: Some(clock.clone()), ..Plan::default() };
    let Some(all) = Browsing::with(plan).await else { return };
    let browser = all.chromium.profile().await;
    let (_, link) = all.pages.link().await;
    let open = browser.open(&link).await;
    clock.advance(60 * 60);
    shows(&browser.open(&link).await, "Otherwise type /auth start there to get a new link").await;
    open.click_through(CONTINUE).await;
    shows(&open, "This link is not valid any more").await;
    all.chromium.close().await;
}

#[tokio::test]
async fn in_chromium_a_link_works_after_previews_and_scanners_fetched_it() {
    let Some(all) = Browsing::start().await else { return };
    let (reply, link) = all.pages.link().await;
    let client = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .user_agent("Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)")
        .build()
        .expect("a client");
    for method in [Method::HEAD, Method::GET] {
        let preview = client.request(method, &link).send().await.expect("an answer");
        assert!(preview.status().is_success() && !preview.headers().contains_key("set-cookie"));
    }
    // A scanner loads the page as a browser does, and presses nothing.
    shows(&all.chromium.profile().await.open(&link).await, "(@alice) started this sign-in").await;
    let tab = all.at_provider(&all.chromium.profile().await, &link).await;
    allow(&tab).await;
    let answer = all.pages.type_digits(&reply, &digits(&tab).await).await;
    assert!(answer.contains("Signed in as"), "{answer}");
    all.chromium.close().await;
}
