//! The public sign-in pages: the way back through the browser, from the link to the digits.

mod connections;
mod digits;
mod loads;
#[cfg(target_os = "linux")]
pub(crate) mod real_browser;
mod rights;
mod unconfirmed;

use std::{net::SocketAddr, sync::Arc};

use reqwest::{Method, StatusCode, header};
use threadkey::{
    api::{self, PublicSettings, Transport},
    broker::{Broker, OwnerRights, PublicUrl},
    ids::{Principal, Tenant},
    session::DIGIT_ATTEMPTS,
    sys::clock::Clock,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    discord_rig::{Plan, Rig, snowflake},
    support::{
        authserver::LifeState,
        browser::{self, Callback},
        discord::{Person, Reply},
        network::free_address,
    },
};

/// The rig, and its pages.
struct Pages {
    rig: Rig,
    url: String,
    address: SocketAddr,
    stop: CancellationToken,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The digits of the last page.
    pub(crate) fn digits(&self) -> String {
        let digits = self.text.split_once("class=\"digits\">").expect("digits").1;
        digits.split_once('<').expect("an end").0.replace("&nbsp;", " ")
    }
}

impl Pages {
    async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    /// Behind a proxy on this machine.
    async fn with(plan: Plan) -> Self {
        let proxy = Transport::Proxy(vec![std::net::Ipv4Addr::LOCALHOST.into()]);
        Self::served(plan, "http://127.0.0.1", proxy).await
    }

    /// At this scheme and host, and a free port.
    async fn served(plan: Plan, site: &str, transport: Transport) -> Self {
        Self::changed(plan, site, transport, |_| {}).await
    }

    /// As [`Pages::served`], with other settings of the bot.
    async fn changed(plan: Plan, site: &str, transport: Transport, change: impl FnOnce(&mut Rig)) -> Self {
        // The address is known before the socket is bound, because it is registered at the provider.
        let address = free_address();
        let url = format!("{site}:{}", address.port());
        let redirect_uris = vec![format!("{url}/oauth/callback")];
        let mut rig = Rig::stopped(Plan { redirect_uris, ..plan }).await;
        change(&mut rig);
        rig.run().await;
        let stop = serve(&rig.broker, Arc::new(rig.rights()), &url, address, transport).await;
        Self { rig, url, address, stop }
    }

    /// Serves the same pages by another process. Returns its own address, without a path.
    async fn another_process(&self) -> (Broker, String) {
        let (broker, address) = (self.rig.another_broker(), free_address());
        let proxy = Transport::Proxy(vec![std::net::Ipv4Addr::LOCALHOST.into()]);
        serve(&broker, Arc::new(self.rig.rights()), &self.url, address, proxy).await;
        (broker, format!("http://{address}"))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Starts alice's sign-in. Returns its message and its link.
    async fn link(&self) -> (Reply, String) {
        self.link_at("acme").await
    }

    async fn link_at(&self, provider: &str) -> (Reply, String) {
        self.link_of(&self.rig.alice, provider, false).await
    }

    async fn link_of(&self, who: &Person, provider: &str, is_shared: bool) -> (Reply, String) {
        let shared = [("provider", provider), ("shared", "true")];
        let options = if is_shared { &shared[..] } else { &shared[..1] };
        let reply = who.command(&self.rig.general, "auth start", options).await;
        let link = reply.link(&format!("Sign in to {provider}")).expect("a link");
        assert!(link.starts_with(&self.url("/start/")) && link.len() < 60, "{link}");
        (reply, link)
    }

    /// Opens a link and presses its button. Returns the cookie and the provider's page.
    async fn open(&self, link: &str) -> (String, String) {
        let opened = send(Method::POST, link, None).await;
        assert_eq!(opened.status, StatusCode::SEE_OTHER, "{}", opened.text);
        let text = |name| opened.headers[name].to_str().expect("a text").to_owned();
        let cookie = text("set-cookie");
        assert!(cookie.starts_with("__Host-threadkey-"), "{cookie}");
        for part in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        (cookie.split(';').next().expect("a pair").to_owned(), text("location"))
    }

    /// Goes the whole way as this account. Returns the message, the cookie, the callback and its page.
    async fn digits(&self, account: &str) -> (Reply, String, String, String) {
        self.digits_at("acme", account).await
    }

    async fn digits_at(&self, provider: &str, account: &str) -> (Reply, String, String, String) {
        let (reply, link) = self.link_at(provider).await;
        let (cookie, callback) = self.at_callback(&link, account).await;
        let page = send(Method::GET, &callback.url, Some(&cookie)).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        assert!(!page.text.contains(&callback.code) && !page.text.contains(&callback.state));
        let digits = page.digits();
        (reply, cookie, callback.url, digits)
    }

    /// Opens a link and allows the access. Returns the cookie, and the callback that no browser has
    /// loaded yet.
    async fn at_callback(&self, link: &str, account: &str) -> (String, Callback) {
        let (cookie, location) = self.open(link).await;
        let callback = browser::sign_in(&location, account).await;
        assert!(callback.url.starts_with(&self.url("/oauth/callback?")), "{}", callback.url);
        (cookie, callback)
    }

    async fn type_digits(&self, reply: &Reply, digits: &str) -> String {
        let modal = reply.press("Enter digits").await.modal();
        let answer = modal.submit(&[("code", digits)]).await.message();
        answer.latest().await.all_text()
    }

    fn tenant(&self) -> Tenant {
        self.tenant_at("acme")
    }

    fn tenant_at(&self, provider: &str) -> Tenant {
        Tenant::new(provider.parse().expect("a name"), self.alice())
    }

    fn alice(&self) -> Principal {
        Principal::User(snowflake(self.rig.alice.id))
    }

    /// The number of grants that work at the provider.
    fn live_grants(&self) -> usize {
        self.rig.server.lives().iter().filter(|life| life.state == LifeState::Live).count()
    }

    async fn account(&self) -> Option<String> {
        let lease = self.rig.broker.token(&self.tenant(), std::time::Duration::ZERO).await;
        lease.ok()?.account
    }

    /// The state of the only grant, once it is no longer usable.
    async fn grant_ends(&self) {
        let ended = async {
            while self.live_grants() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.expect("the grant is revoked");
    }
}

/// Digits that are not these.
fn other_than(digits: &str) -> &'static str {
    if digits.starts_with('0') { "100000" } else { "000000" }
}

async fn serve(
    broker: &Broker,
    rights: Arc<dyn OwnerRights>,
    url: &str,
    address: SocketAddr,
    transport: Transport,
) -> CancellationToken {
    let url = PublicUrl::parse(url).expect("an address");
    broker.set_public_url(url.clone());
    let settings = PublicSettings { url, listen: address, transport, client_document: None };
    let bound = api::bind_pages(settings).await.expect("a free port");
    let stop = CancellationToken::new();
    tokio::spawn(api::serve_pages(bound, broker.clone(), rights, stop.clone()));
    stop
}

pub(crate) async fn send(method: Method, url: &str, cookie: Option<&str>) -> Answer {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client");
    let mut request = client.request(method, url);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let policy = headers["content-security-policy"].to_str().expect("a policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["referrer-policy"], "same-origin");
    Answer { status, headers, text: response.text().await.expect("a text") }
}

#[tokio::test]
async fn the_user_who_started_signs_in_with_the_digits_of_the_page() {
    let pages = Pages::start().await;
    let (reply, _, _, digits) = pages.digits("alice").await;
    assert_eq!(pages.account().await, None, "nothing is in use before the digits");
    let answer = pages.type_digits(&reply, &digits).await;
    assert!(answer.contains("Signed in as `alice@example.com`"), "{answer}");
    assert_eq!(pages.account().await.as_deref(), Some("alice@example.com"));
    assert!(!pages.rig.discord.everything_public().contains("alice@"));
}

#[tokio::test]
async fn a_preview_changes_nothing_and_the_page_names_user_and_server() {
    let pages = Pages::start().await;
    let (_, link) = pages.link().await;
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let preview = send(method, &link, None).await;
        assert_eq!(preview.status, StatusCode::OK);
        assert!(!preview.headers.contains_key("set-cookie"));
    }
    let page = send(Method::GET, &link, None).await.text;
    assert!(page.contains("alice") && page.contains("<strong>team</strong>"), "{page}");
    pages.open(&link).await;
}

#[tokio::test]
async fn a_link_works_in_the_first_browser_alone() {
    let pages = Pages::start().await;
    let (_, link) = pages.link().await;
    let (cookie, location) = pages.open(&link).await;
    let other = send(Method::POST, &link, None).await;
    assert_eq!(other.status, StatusCode::FORBIDDEN);
    assert!(other.text.contains("another browser"), "{}", other.text);
    let again = send(Method::POST, &link, Some(&cookie)).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "the same browser may go back");
    let callback = browser::sign_in(&location, "alice").await;
    for cookie in [None, Some("__Host-threadkey-x=1")] {
        let wrong = send(Method::GET, &callback.url, cookie).await;
        assert_eq!(wrong.status, StatusCode::FORBIDDEN);
        assert!(wrong.text.contains("did not start the sign-in"), "{}", wrong.text);
    }
    let right = send(Method::GET, &callback.url, Some(&cookie)).await;
    assert_eq!(right.status, StatusCode::OK, "the wrong browser has not used the code up");
}

#[tokio::test]
async fn a_second_use_of_the_callback_shows_no_digits() {
    let pages = Pages::start().await;
    let (reply, cookie, url, digits) = pages.digits("alice").await;
    let again = send(Method::GET, &url, Some(&cookie)).await;
    assert_eq!(again.status, StatusCode::GONE);
    assert!(!again.text.contains(&digits.replace(' ', "&nbsp;")));
    pages.type_digits(&reply, &digits).await;
    assert_eq!(send(Method::GET, &url, Some(&cookie)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn three_wrong_entries_revoke_the_grant() {
    let pages = Pages::start().await;
    let (reply, _, _, digits) = pages.digits("alice").await;
    let wrong = other_than(&digits);
    for left in (1..DIGIT_ATTEMPTS).rev() {
        let answer = pages.type_digits(&reply, wrong).await;
        assert!(
            answer.contains(&if left == 1 { "one attempt".to_owned() } else { format!("{left} attempts") }),
            "{answer}"
        );
    }
    let code = [("code", wrong), ("provider", "acme")];
    let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &code).await.text();
    assert!(answer.contains("is dropped, and its access has ended"), "{answer}");
    pages.grant_ends().await;
    assert_eq!(pages.account().await, None);
    let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &[("code", &digits)]).await.text();
    assert!(answer.contains("Not signed in"), "the right digits come too late: {answer}");
}

#[tokio::test]
async fn a_denial_is_shown_at_once_on_the_page_and_on_discord() {
    let pages = Pages::start().await;
    let (reply, link) = pages.link().await;
    let (cookie, location) = pages.open(&link).await;
    let denial = browser::deny(&location, "alice").await;
    let page = send(Method::GET, &denial.url, Some(&cookie)).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.text.contains("did not allow the access (access_denied"), "{}", page.text);
    reply.says("the access was denied at `acme`").await;
    assert_eq!(send(Method::GET, &denial.url, Some(&cookie)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_pasted_address_of_our_own_callback_is_refused_with_the_reason() {
    let pages = Pages::start().await;
    let (_, link) = pages.link().await;
    let (cookie, location) = pages.open(&link).await;
    let callback = browser::sign_in(&location, "alice").await;
    let paste = [("code", callback.url.as_str())];
    let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &paste).await.text();
    assert!(answer.contains("a pasted address could be another user's"), "{answer}");
    assert_eq!(send(Method::GET, &callback.url, Some(&cookie)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn digits_survive_a_restart_of_the_bot_and_work_in_another_process() {
    let mut pages = Pages::start().await;
    let (_, _, _, digits) = pages.digits("alice").await;
    pages.rig.stop().await;
    pages.stop.cancel();
    pages.rig.broker = pages.rig.another_broker();
    pages.rig.run().await;
    let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &[("code", &digits)]).await.text();
    assert!(answer.contains("Signed in as `alice@example.com`"), "{answer}");
}

#[tokio::test]
async fn a_grant_without_digits_in_time_is_revoked() {
    let clock = Clock::fixed(1_795_358_672);
    let pages = Pages::with(Plan { clock: Some(clock.clone()), ..Plan::default() }).await;
    let (_, _, _, digits) = pages.digits("alice").await;
    clock.advance(15 * 60);
    pages.rig.broker.expire_undecided().await.expect("a store");
    pages.grant_ends().await;
    let answer = pages.rig.alice.command(&pages.rig.general, "auth code", &[("code", &digits)]).await.text();
    assert!(answer.contains("Not signed in"), "{answer}");
}

#[tokio::test]
async fn another_account_waits_for_its_choice_after_the_digits() {
    let pages = Pages::start().await;
    let (reply, _, _, digits) = pages.digits("alice").await;
    pages.type_digits(&reply, &digits).await;
    let (reply, _, _, digits) = pages.digits("bob").await;
    let answer = pages.type_digits(&reply, &digits).await;
    assert!(answer.contains("You signed in as `bob@example.com`, but `acme` is connected"), "{answer}");
    assert_eq!(pages.account().await.as_deref(), Some("alice@example.com"));
}

#[tokio::test]
async fn cancelling_a_sign_in_that_waits_for_digits_revokes_its_grant() {
    let pages = Pages::start().await;
    pages.digits("alice").await;
    pages.rig.alice.command(&pages.rig.general, "auth cancel", &[]).await;
    pages.grant_ends().await;
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_and_nothing_of_the_token_api_is_served() {
    let pages = Pages::start().await;
    let (_, link) = pages.link().await;
    for path in [
        "/",
        "/v1/token/acme",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/oauth/client.json",
        "/start/",
        "/start/x/y",
        "/start/unknown",
        "/oauth/callback/x",
    ] {
        let answer = send(Method::GET, &pages.url(path), None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    for (method, url) in [
        (Method::PUT, link.clone()),
        (Method::DELETE, link.clone()),
        (Method::POST, pages.url("/oauth/callback?code=c&state=s")),
        (Method::HEAD, pages.url("/oauth/callback?code=c&state=s")),
    ] {
        let answer = send(method.clone(), &url, None).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {url}");
        assert!(answer.headers.contains_key("allow"));
    }
    for query in ["", "?code=c", "?state=s&state=s&code=c"] {
        let answer = send(Method::GET, &pages.url(&format!("/oauth/callback{query}")), None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_does_not_open_a_sign_in() {
    let pages = Pages::start().await;
    let (_, link) = pages.link().await;
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.post(&link).header(name, value).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}");
    }
    pages.open(&link).await;
}

#[tokio::test]
async fn silent_connections_and_huge_heads_do_not_keep_others_out() {
    let pages = Pages::start().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(pages.address).await.expect("a connection"));
    }
    assert_eq!(send(Method::GET, &pages.url("/start/x"), None).await.status, StatusCode::NOT_FOUND);
    let mut huge = TcpStream::connect(pages.address).await.expect("a connection");
    let head = format!("GET /start/{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(64 * 1024));
    let _ = huge.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = huge.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
}
