//! The way back through our pages, where each MCP server has a redirect URI of its own.

use std::net::Ipv4Addr;

use reqwest::{StatusCode, header};
use serde_json::json;
use threadkey::{
    api::{self, PublicSettings, Transport},
    broker::{Broker, Opener, PublicUrl, WayBack},
    ids::Tenant,
    oauth::Providers,
    sys::clock::Clock,
};
use tokio_util::sync::CancellationToken;

use super::scripted::{ISSUER_AT, NOW, Scripted, issuer, process, user};

/// The pages of a process with two MCP servers: `linear`, and `other`.
struct Pages {
    linear: Scripted,
    other: Scripted,
    broker: Broker,
    url: String,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Pages {
    async fn start() -> Self {
        let (linear, other) = (Scripted::confidential().await, Scripted::confidential().await);
        let folder = tempfile::tempdir().unwrap();
        let mut second = other.undiscovered();
        second.id = "other".parse().unwrap();
        let providers = Providers::with_undiscovered([], [linear.undiscovered(), second]);
        let broker = process(providers, folder.path(), &Clock::fixed(NOW));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let url = format!("http://{listen}");
        let public = PublicUrl::parse(&url).unwrap();
        broker.set_public_url(public.clone());
        let transport = Transport::Proxy(vec![Ipv4Addr::LOCALHOST.into()]);
        let settings = PublicSettings { url: public, listen, transport, client_document: None };
        let bound = api::bind_pages(settings).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(api::serve_pages(
            bound,
            broker.clone(),
            std::sync::Arc::new(threadkey::broker::WithoutBot),
            stop.clone(),
        ));
        Self { linear, other, broker, url, stop, _folder: folder }
    }

    /// Starts a sign-in and presses the button of its page. Returns the redirect URI, the state and the
    /// cookie.
    async fn opened(&self, provider: &str) -> (String, String, String) {
        let tenant = Tenant::new(provider.parse().unwrap(), user(1));
        let opener = Opener { user: "ada".to_owned(), server: None };
        let started = self.broker.start_by(&tenant, user(1), WayBack::Browser(opener)).await.unwrap();
        let page = client().post(started.link().unwrap().as_str()).send().await.unwrap();
        assert_eq!(page.status(), StatusCode::SEE_OTHER);
        let text = |name| page.headers()[name].to_str().unwrap().to_owned();
        let cookie = text(header::SET_COOKIE).split(';').next().unwrap().to_owned();
        let location = url::Url::parse(&text(header::LOCATION)).unwrap();
        let value = |name: &str| location.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        (value("redirect_uri"), value("state"), cookie)
    }

    async fn answer(&self, at: &str, query: &str, cookie: &str) -> (StatusCode, String) {
        let request = client().get(format!("{at}?{query}")).header(header::COOKIE, cookie);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

#[tokio::test]
async fn an_answer_counts_only_at_the_redirect_uri_of_its_own_provider() {
    let pages = Pages::start().await;
    let callback = |id: &str| format!("{}/oauth/callback{id}", pages.url);
    for wrong in [callback("/other"), callback("")] {
        let (redirect_uri, state, cookie) = pages.opened("linear").await;
        assert_eq!(redirect_uri, callback("/linear"));
        // The server at `other` sent the browser on to `linear`, to get its code.
        let (status, text) = pages.answer(&wrong, &format!("code=c-1&state={state}"), &cookie).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains("wrong_callback"), "{text}");
        let query = format!("code=c-1&state={state}");
        let (status, _) = pages.answer(&redirect_uri, &query, &cookie).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "the sign-in is over");
    }
    for server in [&pages.linear, &pages.other] {
        assert!(server.requests("POST /token").is_empty());
    }
    let (redirect_uri, state, cookie) = pages.opened("linear").await;
    let (status, text) = pages.answer(&redirect_uri, &format!("code=c-1&state={state}"), &cookie).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let sent = pages.linear.requests("POST /token").pop().unwrap().body;
    assert!(sent.contains("callback%2Flinear"), "{sent}");
}

#[tokio::test]
async fn an_answer_without_the_promised_issuer_is_refused_by_the_page() {
    let pages = Pages::start().await;
    let mut metadata = issuer();
    metadata["authorization_response_iss_parameter_supported"] = json!(true);
    pages.linear.set((ISSUER_AT, 200, "", metadata));
    for iss in [String::new(), "&iss=https%3A%2F%2Fevil.example".to_owned()] {
        let (redirect_uri, state, cookie) = pages.opened("linear").await;
        let query = format!("code=c-1&state={state}{iss}");
        let (status, text) = pages.answer(&redirect_uri, &query, &cookie).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains("wrong_issuer") && !text.contains("evil"), "{text}");
    }
    assert!(pages.linear.requests("POST /token").is_empty());
    let (redirect_uri, state, cookie) = pages.opened("linear").await;
    let query = format!("code=c-1&state={state}&iss={}", pages.linear.base);
    assert_eq!(pages.answer(&redirect_uri, &query, &cookie).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_unknown_callback_and_its_odd_forms_are_no_page_and_change_nothing() {
    let pages = Pages::start().await;
    let (redirect_uri, state, cookie) = pages.opened("linear").await;
    for path in
        ["/oauth/callback/", "/oauth/callback/LINEAR", "/oauth/callback/linear/", "/oauth/callback/a%2Fb"]
    {
        let (status, text) =
            pages.answer(&format!("{}{path}", pages.url), &format!("code=c&state={state}"), &cookie).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {text}");
    }
    let head = client().head(&redirect_uri).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::METHOD_NOT_ALLOWED);
    let answered = pages.answer(&redirect_uri, &format!("code=c-1&state={state}"), &cookie).await;
    assert_eq!(answered.0, StatusCode::OK, "{}", answered.1);
}
