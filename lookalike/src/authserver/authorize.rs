//! The authorization endpoint (RFC 6749 §3.1): checks the request, asks the user, and redirects
//! them with a code.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use url::Url;

use super::grants::Grant;
use super::shared::{Shared, secret};
use super::{CLIENT_ID, pages};

/// The scopes that a client may ask for.
pub(super) const SCOPES: [&str; 6] = ["openid", "profile", "email", "offline_access", "read", "write"];

const OPEN_PAGES: usize = 1_000;

/// Authorization requests without an answer from the user, by the secret in the page.
#[derive(Default)]
pub(super) struct OpenPages {
    opened: u64,
    requests: BTreeMap<u64, (String, Request)>,
}

/// A valid authorization request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub redirect_uri: String,
    pub state: Option<String>,
    pub scopes: Vec<String>,
    code_challenge: String,
    nonce: Option<String>,
}

impl OpenPages {
    fn open(&mut self, request: Request) -> String {
        if self.requests.len() == OPEN_PAGES {
            self.requests.pop_first();
        }
        let id = secret("page");
        self.opened += 1;
        self.requests.insert(self.opened, (id.clone(), request));
        id
    }

    fn find(&self, id: &str) -> Option<(u64, &Request)> {
        self.requests
            .iter()
            .find(|(_, (open, _))| open == id)
            .map(|(number, (_, request))| (*number, request))
    }
}

/// `GET /authorize`: the page that asks.
pub(super) async fn page(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    match check(&shared, query.unwrap_or_default().as_bytes()) {
        Ok(request) => {
            let id = shared.lock().pages.open(request.clone());
            pages::authorize(StatusCode::OK, &id, &request, None)
        }
        Err(Problem::Page(words)) => {
            pages::message(StatusCode::BAD_REQUEST, "This link does not work", &words)
        }
        Err(Problem::Redirect(target)) => see_other(&target),
    }
}

/// `POST /authorize`: the user's answer.
pub(super) async fn decide(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.get(name).map_or("", |value| value.trim());
    let now_ms = shared.now_ms();
    let mut inner = shared.lock();
    let found = inner.pages.find(field("request"));
    let Some((number, request)) = found.map(|(number, request)| (number, request.clone())) else {
        let words = "It was answered already, or it is too old. Start the sign-in again.";
        return pages::message(StatusCode::BAD_REQUEST, "This page is used up", words);
    };
    if field("decision") != "allow" {
        inner.pages.requests.remove(&number);
        let target = denied(&shared.issuer, &request, "access_denied", "the user denied the request");
        return see_other(&target);
    }
    let typed = field("login").to_lowercase();
    let account = if typed.is_empty() { field("account").to_owned() } else { typed };
    if !is_account(&account) {
        let words =
            "Say who you are: choose a name, or type one of up to 32 letters, digits, dots and dashes.";
        return pages::authorize(StatusCode::BAD_REQUEST, field("request"), &request, Some(words));
    }
    inner.pages.requests.remove(&number);
    drop(inner);
    see_other(&allowed(&shared, &request, account, now_ms))
}

/// Returns the address at which the browser ends if `account` allows the valid request of `query`.
/// No page is shown.
pub(super) fn allow(shared: &Shared, query: &str, account: &str) -> String {
    let request = check(shared, query.as_bytes());
    let request = request.unwrap_or_else(|_| panic!("this server refuses the request {query}"));
    allowed(shared, &request, account.to_owned(), shared.now_ms())
}

fn allowed(shared: &Shared, request: &Request, account: String, now_ms: i64) -> String {
    let grant = Grant {
        account,
        redirect_uri: request.redirect_uri.clone(),
        scopes: request.scopes.clone(),
        code_challenge: request.code_challenge.clone(),
        nonce: request.nonce.clone(),
    };
    let code = shared.lock().ledger.allow(grant, now_ms);
    shared.changed();
    let mut answer = vec![("code", code.as_str())];
    answer.extend(request.state.as_deref().map(|state| ("state", state)));
    answer.push(("iss", &shared.issuer));
    with_query(&request.redirect_uri, &answer)
}

enum Problem {
    /// The request names no safe redirect address (RFC 6749 §4.1.2.1). The page shows the error.
    Page(String),
    /// An error for the client.
    Redirect(String),
}

fn check(shared: &Shared, query: &[u8]) -> Result<Request, Problem> {
    let mut fields = BTreeMap::new();
    let mut twice = None;
    for (name, value) in url::form_urlencoded::parse(query).into_owned() {
        if !value.is_empty() && fields.insert(name.clone(), value).is_some() {
            twice = Some(name);
        }
    }
    let field = |name: &str| fields.get(name).map(String::as_str);
    if field("client_id") != Some(CLIENT_ID) {
        let words = format!("The client_id {:?} is not registered.", field("client_id"));
        return Err(Problem::Page(words));
    }
    let redirect_uri = field("redirect_uri").unwrap_or_default();
    if !shared.redirect_uris.iter().any(|uri| uri == redirect_uri) {
        let words = format!("The redirect_uri {redirect_uri:?} is not registered for this client.");
        return Err(Problem::Page(words));
    }
    let request = Request {
        redirect_uri: redirect_uri.to_owned(),
        state: field("state").map(str::to_owned),
        scopes: field("scope").map(|scope| scope.split(' ').map(str::to_owned).collect()).unwrap_or_default(),
        code_challenge: field("code_challenge").unwrap_or_default().to_owned(),
        nonce: field("nonce").map(str::to_owned),
    };
    let refused = |code, words: &str| {
        let target = denied(&shared.issuer, &request, code, words);
        Err(Problem::Redirect(target))
    };
    if let Some(name) = twice {
        return refused("invalid_request", &format!("{name} came twice"));
    }
    match field("response_type") {
        Some("code") => {}
        Some(_) => return refused("unsupported_response_type", "only code is served here"),
        None => return refused("invalid_request", "response_type is missing"),
    }
    if field("code_challenge_method") != Some("S256") || !is_s256(&request.code_challenge) {
        let words = "PKCE is required: a code_challenge with code_challenge_method=S256";
        return refused("invalid_request", words);
    }
    let unknown = |scope: &String| !SCOPES.contains(&scope.as_str());
    if let Some(scope) = request.scopes.iter().find(|scope| unknown(scope)) {
        return refused("invalid_scope", &format!("no such scope: {scope:?}"));
    }
    Ok(request)
}

fn denied(issuer: &str, request: &Request, code: &str, words: &str) -> String {
    let mut answer = vec![("error", code), ("error_description", words)];
    answer.extend(request.state.as_deref().map(|state| ("state", state)));
    answer.push(("iss", issuer));
    with_query(&request.redirect_uri, &answer)
}

fn with_query(redirect_uri: &str, answer: &[(&str, &str)]) -> String {
    let mut url = Url::parse(redirect_uri)
        .unwrap_or_else(|error| panic!("registered redirect_uri {redirect_uri}: {error}"));
    url.query_pairs_mut().extend_pairs(answer);
    url.into()
}

fn see_other(target: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, target)]).into_response()
}

fn is_s256(challenge: &str) -> bool {
    challenge.len() == 43
        && challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_account(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}
