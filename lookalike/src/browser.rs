//! A user's web browser: opens the sign-in link, enters the account's name, and allows or denies.
//!
//! Each call is a fresh browser without cookies. It stops when the authorization server redirects
//! to the client's `redirect_uri`, and does not follow: a user would copy that address.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, Method, Response, header};
use url::Url;

const STEPS: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// The address that a sign-in ended at (RFC 6749 §4.1.2).
#[derive(Clone, Debug)]
pub struct Callback {
    /// The whole address.
    pub url: String,
    /// The authorization code.
    pub code: String,
    /// The `state` that the client sent.
    pub state: String,
    /// The issuer of the code (RFC 9207).
    pub iss: Option<String>,
}

/// The address that a refused sign-in ended at (RFC 6749 §4.1.2.1).
#[derive(Clone, Debug)]
pub struct Denial {
    /// The whole address.
    pub url: String,
    /// The error code, such as `access_denied`.
    pub error: String,
    /// A description for the developer.
    pub error_description: Option<String>,
    /// The `state` that the client sent.
    pub state: Option<String>,
    /// The issuer of the answer (RFC 9207).
    pub iss: Option<String>,
}

/// Signs in as `account` and allows the request. Panics if the provider refuses.
pub async fn sign_in(authorize_url: &str, account: &str) -> Callback {
    let url = walk(authorize_url, account, "allow").await;
    let mut query = parameters(&url);
    let mut take = |name: &str| query.remove(name);
    Callback {
        code: take("code").unwrap_or_else(|| panic!("the sign-in ended without a code: {url}")),
        state: take("state").unwrap_or_default(),
        iss: take("iss"),
        url: url.into(),
    }
}

/// Signs in as `account` and denies the request. Works for requests that the provider refuses by
/// itself, too.
pub async fn deny(authorize_url: &str, account: &str) -> Denial {
    let url = walk(authorize_url, account, "deny").await;
    let mut query = parameters(&url);
    let mut take = |name: &str| query.remove(name);
    Denial {
        error: take("error").unwrap_or_else(|| panic!("the sign-in was not refused: {url}")),
        error_description: take("error_description"),
        state: take("state"),
        iss: take("iss"),
        url: url.into(),
    }
}

/// Opens the page of a device code (RFC 8628 §3.3), with the code in its address, signs in as
/// `account`, and allows or denies the request. Returns the last page.
pub async fn enter_code(page: &str, account: &str, decision: &str) -> String {
    let start = Url::parse(page).unwrap_or_else(|error| panic!("not a page: {page}: {error}"));
    match walk_on(start, None, account, decision).await {
        End::Page(page) => page,
        End::Redirect(url) => panic!("the pages of a device code ended at {url}"),
    }
}

async fn walk(authorize_url: &str, account: &str, decision: &str) -> Url {
    let start = Url::parse(authorize_url)
        .unwrap_or_else(|error| panic!("not a sign-in link: {authorize_url}: {error}"));
    let redirect_uri = parameters(&start)
        .remove("redirect_uri")
        .unwrap_or_else(|| panic!("no redirect_uri in the sign-in link {authorize_url}"));
    match walk_on(start, Some(&redirect_uri), account, decision).await {
        End::Redirect(url) => url,
        End::Page(page) => panic!("{authorize_url} ended at a page without a form:\n{page}"),
    }
}

/// The end of a walk.
enum End {
    /// At the client's `redirect_uri`.
    Redirect(Url),
    /// At a page without a form.
    Page(String),
}

async fn walk_on(start: Url, redirect_uri: Option<&str>, account: &str, decision: &str) -> End {
    let from = start.clone();
    let mut browser = Browser::new();
    let mut response = browser.send(Method::GET, start, None).await;
    for _ in 0..STEPS {
        let here = response.url().clone();
        if response.status().is_redirection() {
            let target = location(&response);
            if redirect_uri.is_some_and(|redirect_uri| ends_at(&target, redirect_uri)) {
                return End::Redirect(target);
            }
            response = browser.send(Method::GET, target, None).await;
            continue;
        }
        let status = response.status();
        let page = response.text().await.unwrap_or_default();
        let form = Form::first(&page);
        if form.is_none() && redirect_uri.is_none() {
            return End::Page(page);
        }
        let Some(form) = form.filter(|_| status.is_success()) else {
            panic!("{here} answered {status} and no form:\n{page}");
        };
        let action = here
            .join(&form.action)
            .unwrap_or_else(|error| panic!("{here} has a form to {:?}: {error}", form.action));
        let body = form.filled(account, decision);
        response = browser.send(Method::POST, action, Some(body)).await;
    }
    panic!("no end to the pages after {STEPS} steps, starting at {from}");
}

fn location(response: &Response) -> Url {
    let here = response.url();
    let value = response
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_else(|| panic!("{here} redirects nowhere"));
    here.join(value).unwrap_or_else(|error| panic!("{here} redirects to {value:?}: {error}"))
}

fn ends_at(target: &Url, redirect_uri: &str) -> bool {
    let mut bare = target.clone();
    bare.set_query(None);
    bare.as_str() == redirect_uri
}

fn parameters(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

/// One browser profile: an HTTP client and its cookies, keyed by authority, path and name.
struct Browser {
    client: Client,
    cookies: BTreeMap<(String, String, String), String>,
}

impl Browser {
    fn new() -> Self {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .expect("the settings are constant and valid");
        Self { client, cookies: BTreeMap::new() }
    }

    async fn send(&mut self, method: Method, url: Url, form: Option<String>) -> Response {
        let mut request = self.client.request(method, url.clone()).header(header::ACCEPT, "text/html");
        if let Some(cookies) = self.cookies_for(&url) {
            request = request.header(header::COOKIE, cookies);
        }
        if let Some(form) = form {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        }
        let response =
            request.send().await.unwrap_or_else(|error| panic!("the browser cannot reach {url}: {error:?}"));
        for value in response.headers().get_all(header::SET_COOKIE) {
            self.remember(&url, value.to_str().unwrap_or_default());
        }
        response
    }

    fn cookies_for(&self, url: &Url) -> Option<String> {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .filter(|((authority, path, _), _)| {
                authority == url.authority() && url.path().starts_with(path.as_str())
            })
            .map(|((_, _, name), value)| format!("{name}={value}"))
            .collect();
        (!cookies.is_empty()).then(|| cookies.join("; "))
    }

    fn remember(&mut self, url: &Url, set_cookie: &str) {
        let mut parts = set_cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let mut path = "/";
        let mut dead = value.is_empty();
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) if key.eq_ignore_ascii_case("path") => path = value,
                Some((key, "0")) if key.eq_ignore_ascii_case("max-age") => dead = true,
                _ => {}
            }
        }
        let key = (url.authority().to_owned(), path.to_owned(), name.to_owned());
        if dead {
            self.cookies.remove(&key);
        } else {
            self.cookies.insert(key, value.to_owned());
        }
    }
}

/// The first form of a page, as far as a sign-in needs it.
struct Form {
    action: String,
    hidden: Vec<(String, String)>,
    asks_who: bool,
}

impl Form {
    fn first(page: &str) -> Option<Self> {
        let (tag, rest) = page.split_once("<form")?.1.split_once('>')?;
        let inside = rest.split_once("</form>")?.0;
        let inputs: Vec<&str> = inside
            .split("<input")
            .skip(1)
            .filter_map(|input| input.split_once('>').map(|(tag, _)| tag))
            .collect();
        let hidden = inputs
            .iter()
            .filter(|input| attribute(input, "type").as_deref() == Some("hidden"))
            .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)))
            .collect();
        let asks_who = inputs.iter().any(|input| attribute(input, "name").as_deref() == Some("login"));
        Some(Self { action: attribute(tag, "action")?, hidden, asks_who })
    }

    fn filled(self, account: &str, decision: &str) -> String {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(self.hidden);
        if self.asks_who {
            body.append_pair("login", account);
        }
        // A page that only asks for the name has nothing to deny: its one button continues.
        body.append_pair("decision", decision);
        body.finish()
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0;
    Some(
        value
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&"),
    )
}
