//! The middleware for reqwest, against the real token API and a server that takes live tokens alone.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Extensions, HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use reqwest::{Body, Request};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use threadkey_client::{Code, Error, middleware::Authorized};
use threadkey_lookalike::authserver::{AuthServer, Reply};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::rig::Rig;

/// A request that has arrived.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    method: Method,
    path: String,
    authorization: Option<String>,
    body: Bytes,
    status: u16,
}

#[derive(Default)]
struct Behaviour {
    seen: Vec<Seen>,
    refused: Vec<String>,
    refuses_all: bool,
    challenge: Option<&'static str>,
    redirect: Option<(u16, String)>,
}

/// An API that takes the live tokens of the authorization server.
struct Api {
    url: String,
    behaviour: Arc<Mutex<Behaviour>>,
    served: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.served.abort();
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Behaviour>>, AuthServer);

impl Api {
    async fn start(rig: &Rig) -> Self {
        let behaviour = Arc::new(Mutex::new(Behaviour { challenge: Some("Bearer"), ..Behaviour::default() }));
        let shared = Shared(behaviour.clone(), rig.authorization.clone());
        let router = Router::new().fallback(answer).with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, behaviour, served }
    }

    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.behaviour().seen.clone()
    }

    fn statuses(&self) -> Vec<u16> {
        self.seen().iter().map(|seen| seen.status).collect()
    }

    /// Refuses the token that the owner has now.
    async fn refuse(&self, rig: &Rig) {
        let token = rig.client().token("acme", None).await.unwrap();
        self.behaviour().refused.push(token.access_token.expose().to_owned());
    }
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Shared(behaviour, authorization) = shared;
    let mut behaviour = behaviour.lock().unwrap();
    let presented = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let token = presented.as_deref().and_then(|value| value.strip_prefix("Bearer "));
    let is_refused = |token: &str| behaviour.refuses_all || behaviour.refused.iter().any(|one| one == token);
    let is_live = token.is_some_and(|token| authorization.is_live(token) && !is_refused(token));
    let redirect = behaviour.redirect.clone().filter(|_| uri.path() == "/moved");
    let status = match &redirect {
        Some((status, _)) => StatusCode::from_u16(*status).unwrap(),
        None if is_live => StatusCode::OK,
        None => StatusCode::UNAUTHORIZED,
    };
    behaviour.seen.push(Seen {
        method,
        path: uri.path().to_owned(),
        authorization: presented.clone(),
        body,
        status: status.as_u16(),
    });
    let mut answer = (status, "the server's own text").into_response();
    if let Some((_, to)) = redirect {
        answer.headers_mut().insert(header::LOCATION, to.parse().unwrap());
    }
    if let Some(challenge) = behaviour.challenge.filter(|_| status == StatusCode::UNAUTHORIZED) {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
    }
    answer
}

/// A middleware that keeps the debug output of a request.
struct Looking(Arc<Mutex<String>>);

#[async_trait::async_trait]
impl Middleware for Looking {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        *self.0.lock().unwrap() = format!("{request:?}");
        next.run(request, extensions).await
    }
}

fn client(rig: &Rig, api: &Api) -> ClientWithMiddleware {
    let authorized = Authorized::new(rig.client(), "acme", &api.url).unwrap();
    ClientBuilder::new(reqwest::Client::new()).with(authorized).build()
}

fn streamed(text: &'static str) -> Body {
    Body::wrap_stream(stream::iter([Ok::<_, io::Error>(text)]))
}

#[tokio::test]
async fn requests_across_an_expiry_carry_live_tokens_alone() {
    let rig = Rig::signed_in().await;
    let api = Api::start(&rig).await;
    let client = client(&rig, &api);
    assert_eq!(client.get(&api.url).send().await.unwrap().status(), 200);
    rig.advance(Duration::from_secs(86_400));
    assert_eq!(client.post(&api.url).body(streamed("all of it")).send().await.unwrap().status(), 200);
    let seen = api.seen();
    assert_eq!(api.statuses(), [200, 200]);
    assert_ne!(seen[0].authorization, seen[1].authorization);
    assert_eq!(seen[1].body, "all of it");
}

#[tokio::test]
async fn a_token_is_replaced_before_the_demanded_life_is_over() {
    let rig = Rig::signed_in().await;
    let api = Api::start(&rig).await;
    let life = rig.client().token("acme", None).await.unwrap().expires_in.unsigned_abs();
    let authorized = Authorized::new(rig.client(), "acme", &api.url).unwrap();
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(authorized.min_ttl(Duration::from_secs(life / 2)))
        .build();
    client.get(&api.url).send().await.unwrap();
    rig.advance(Duration::from_secs(life / 2 + 60));
    client.get(&api.url).send().await.unwrap();
    let seen = api.seen();
    assert_eq!(api.statuses(), [200, 200]);
    assert_ne!(seen[0].authorization, seen[1].authorization);
}

#[tokio::test]
async fn a_refused_request_is_sent_once_more_with_its_whole_body() {
    let rig = Rig::signed_in().await;
    for challenge in
        [None, Some("Bearer error=\"invalid_token\""), Some("Basic realm=\"x\", Bearer"), Some("?,=")]
    {
        let api = Api::start(&rig).await;
        api.behaviour().challenge = challenge;
        api.refuse(&rig).await;
        let before = rig.authorization.count();
        let request = client(&rig, &api).post(&api.url).header("x-kept", "1").body("all of it");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{challenge:?}");
        assert_eq!(api.statuses(), [401, 200], "{challenge:?}");
        assert!(api.seen().iter().all(|seen| seen.body == "all of it" && seen.method == "POST"));
        assert_eq!(rig.authorization.count(), before + 1, "one refresh");
        rig.advance(Duration::from_secs(700));
    }
}

#[tokio::test]
async fn a_streamed_body_is_never_sent_twice_and_its_401_is_reported() {
    let rig = Rig::signed_in().await;
    let api = Api::start(&rig).await;
    api.refuse(&rig).await;
    let client = client(&rig, &api);
    let answer = client.put(&api.url).body(streamed("all of it")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.text().await.unwrap(), "the server's own text");
    assert_eq!(api.statuses(), [401]);
    let again = client.put(&api.url).body(streamed("all of it")).send().await.unwrap();
    assert_eq!(again.status(), 200, "the report has brought a newer token");
    assert_eq!(api.seen()[1].body, "all of it");
}

#[tokio::test]
async fn a_server_that_refuses_every_token_gets_two_requests_and_keeps_its_answer() {
    let rig = Rig::signed_in().await;
    let api = Api::start(&rig).await;
    api.behaviour().refuses_all = true;
    let client = client(&rig, &api);
    assert_eq!(client.get(&api.url).send().await.unwrap().status(), 401);
    assert_eq!(api.statuses(), [401, 401]);
    // threadkey has no other token now: rejected_again.
    let answer = client.get(&api.url).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
    assert_eq!(answer.text().await.unwrap(), "the server's own text");
    assert_eq!(api.statuses(), [401, 401, 401]);
}

#[tokio::test]
async fn a_401_that_demands_another_scheme_is_no_report() {
    let rig = Rig::signed_in().await;
    let api = Api::start(&rig).await;
    api.behaviour().challenge = Some("Basic realm=\"x\", DPoP algs=\"ES256\"");
    api.refuse(&rig).await;
    let before = rig.authorization.count();
    assert_eq!(client(&rig, &api).get(&api.url).send().await.unwrap().status(), 401);
    assert_eq!((api.statuses(), rig.authorization.count()), (vec![401], before));
}

#[tokio::test]
async fn an_authorization_of_the_program_itself_is_left_alone() {
    let rig = Rig::start().await;
    let api = Api::start(&rig).await;
    let request = client(&rig, &api).get(&api.url).header(header::AUTHORIZATION, "Basic own");
    assert_eq!(request.send().await.unwrap().status(), 401);
    let seen = api.seen();
    assert_eq!((seen.len(), seen[0].authorization.as_deref()), (1, Some("Basic own")));
}

#[tokio::test]
async fn a_token_reaches_listed_origins_alone_even_by_a_redirect() {
    let rig = Rig::signed_in().await;
    let (api, other) = (Api::start(&rig).await, Api::start(&rig).await);
    let client = client(&rig, &api);
    assert_eq!(client.get(&other.url).send().await.unwrap().status(), 401);
    api.behaviour().redirect = Some((307, format!("{}/elsewhere", other.url)));
    let before = rig.authorization.count();
    let answer = client.post(format!("{}/moved", api.url)).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(other.seen().len(), 2);
    assert!(other.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", other.seen());
    assert_eq!(
        (api.statuses(), rig.authorization.count()),
        (vec![307], before),
        "the other server's 401 is no report"
    );
    let both = Authorized::new(rig.client(), "acme", &api.url).unwrap().also_to(&other.url).unwrap();
    let client = ClientBuilder::new(reqwest::Client::new()).with(both).build();
    assert_eq!(client.get(&other.url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_was_redirected_is_repeated_only_if_it_changes_nothing() {
    let rig = Rig::signed_in().await;
    let api = Api::start(&rig).await;
    api.behaviour().redirect = Some((303, "/result".into()));
    api.refuse(&rig).await;
    let client = client(&rig, &api);
    let moved = format!("{}/moved", api.url);
    assert_eq!(client.post(&moved).body("order").send().await.unwrap().status(), 401);
    assert_eq!(api.statuses(), [303, 401], "the order was taken, and is not sent again");
    rig.advance(Duration::from_secs(700));
    api.refuse(&rig).await;
    assert_eq!(client.get(&moved).send().await.unwrap().status(), 200);
    assert_eq!(api.statuses(), [303, 401, 303, 401, 303, 200]);
}

#[tokio::test]
async fn an_error_of_threadkey_keeps_its_type_and_sends_nothing() {
    let rig = Rig::start().await;
    let api = Api::start(&rig).await;
    let client = client(&rig, &api);
    let error = client.get(&api.url).send().await.unwrap_err();
    assert!(Error::of(&error).unwrap().needs_sign_in(), "{error}");
    assert!(api.seen().is_empty());
    rig.sign_in().await;
    api.refuse(&rig).await;
    rig.authorization.script([Reply::StatusRetryAfter(503, 7)]);
    let error = client.get(&api.url).send().await.unwrap_err();
    let Some(Error::Refused { code, retry_after, .. }) = Error::of(&error) else { panic!("{error:?}") };
    assert_eq!((code, retry_after), (&Code::ProviderUnavailable, &Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn an_unreachable_server_is_an_error_of_reqwest_itself() {
    let rig = Rig::signed_in().await;
    let absent = ClientBuilder::new(reqwest::Client::new())
        .with(Authorized::new(rig.client(), "acme", "http://127.0.0.1:1").unwrap())
        .build();
    let error = absent.get("http://127.0.0.1:1").send().await.unwrap_err();
    assert!(Error::of(&error).is_none() && error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn a_token_shows_in_no_debug_output_of_its_request() {
    let rig = Rig::signed_in().await;
    let api = Api::start(&rig).await;
    let shown = Arc::new(Mutex::new(String::new()));
    let token = rig.client().token("acme", None).await.unwrap();
    let authorized = Authorized::new(rig.client(), "acme", &api.url).unwrap();
    assert!(!format!("{authorized:?}").contains(rig.capability.expose()));
    let client =
        ClientBuilder::new(reqwest::Client::new()).with(authorized).with(Looking(shown.clone())).build();
    client.get(&api.url).send().await.unwrap();
    let shown = shown.lock().unwrap().clone();
    assert!(shown.contains("authorization") && !shown.contains(token.access_token.expose()), "{shown}");
}

#[tokio::test]
async fn a_server_without_tls_outside_this_machine_is_refused() {
    let rig = Rig::start().await;
    for bad in [
        "http://api.example",
        "ftp://127.0.0.1/",
        "http://10.0.0.1/",
        "api",
        "http://user:canary@api.example/?q=canary",
    ] {
        let error = Authorized::new(rig.client(), "acme", bad).unwrap_err();
        assert!(matches!(error, Error::UnsafeServer(_)) && !error.to_string().contains("canary"), "{error}");
    }
    let good = Authorized::new(rig.client(), "acme", "https://api.example/v1").unwrap();
    assert!(good.also_to("http://api.example").is_err());
}
