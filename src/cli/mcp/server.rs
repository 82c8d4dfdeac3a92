//! The HTTP side: the requests to the MCP server, with the owner's token.

use std::{path::Path, time::Duration};

use reqwest::{RequestBuilder, Response, StatusCode, header::WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;

use crate::{
    broker::{DEFAULT_MIN_TTL, Lease},
    cli::{
        Exit, Failure,
        token::{self, TokenContext},
    },
    ids::Tenant,
    net::{Outward, Trust},
    oauth::BearerChallenge,
};

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The longest answer that is not a stream, in bytes.
pub(super) const MAX_ANSWER: usize = 16 << 20;

/// The MCP server.
pub(super) struct Server<'a> {
    pub(super) http: reqwest::Client,
    pub(super) url: Url,
    login: Login<'a>,
}

/// The source of the token.
enum Login<'a> {
    /// The injecting proxy puts it in.
    Injected,
    /// The store.
    Stored(&'a TokenContext<'a>, &'a Tenant),
}

/// The reason why a request has no answer of the server.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The problem, and the next step.
    pub(super) text: String,
    /// The HTTP status.
    pub(super) status: Option<u16>,
    /// The stable code of threadkey's own answers.
    pub(super) code: Option<String>,
}

impl Trouble {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: None, code: None }
    }
}

/// The members of a problem (RFC 9457) that are read.
#[derive(Deserialize)]
struct Problem {
    code: Option<String>,
    detail: Option<String>,
    title: Option<String>,
}

impl<'a> Server<'a> {
    /// Returns the server behind a worker's socket.
    pub(super) fn on_socket(socket: &Path, path: &str) -> Result<Self, Failure> {
        let url = Url::parse(&format!("http://localhost{path}"))
            .map_err(|_| Failure::new(Exit::Usage, "the path of the MCP server is not that of a URL"))?;
        let http = client(&Trust::default(), |builder| builder.no_proxy().unix_socket(socket))?;
        Ok(Self { http, url, login: Login::Injected })
    }

    /// Returns the server at its own address, for a login of the store.
    pub(super) fn with_login(
        url: &Url,
        trust: &Trust,
        context: &'a TokenContext<'a>,
        tenant: &'a Tenant,
    ) -> Result<Self, Failure> {
        let http = client(trust, |builder| builder)?;
        Ok(Self { http, url: url.clone(), login: Login::Stored(context, tenant) })
    }

    /// Sends a request, and once more with a newer token if the server rejects the first one. Returns the
    /// answer to it, whatever its status.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        let Login::Stored(context, tenant) = self.login else { return self.once(request).await };
        let again = request.try_clone();
        let lease = lease(context, tenant, None).await?;
        let answer = self.once(request.bearer_auth(lease.access_token.expose())).await?;
        match again {
            Some(again) if answer.status() == StatusCode::UNAUTHORIZED => {
                drop(answer);
                let newer = self::lease(context, tenant, Some(&lease)).await?;
                self.once(again.bearer_auth(newer.access_token.expose())).await
            }
            _ => Ok(answer),
        }
    }

    async fn once(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        request.send().await.map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            match self.login {
                Login::Injected => {
                    Trouble::new(format!("threadkey cannot be reached ({cause}): is the bot running?"))
                }
                Login::Stored(..) => Trouble::new(format!(
                    "the MCP server cannot be reached ({cause}): try again, or run `threadkey doctor`"
                )),
            }
        })
    }

    /// Returns the reason of an answer without a message of the server.
    pub(super) async fn refusal(&self, answer: Response) -> (Trouble, String) {
        let status = answer.status();
        let is_problem = content_type(&answer) == "application/problem+json";
        let challenges: Vec<String> = answer
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        let body = body(answer).await.unwrap_or_default();
        let problem = is_problem.then(|| serde_json::from_str::<Problem>(&body).ok()).flatten();
        let code = problem.as_ref().and_then(|problem| problem.code.clone());
        let text = match problem.and_then(|problem| problem.detail.or(problem.title)) {
            Some(detail) => detail,
            None => self.status_text(status, &challenges),
        };
        (Trouble { text, status: Some(status.as_u16()), code }, body)
    }

    fn status_text(&self, status: StatusCode, challenges: &[String]) -> String {
        let challenge = BearerChallenge::find(challenges.iter().map(String::as_str));
        match (challenge.filter(BearerChallenge::is_insufficient_scope), &self.login) {
            (Some(challenge), Login::Stored(_, tenant)) => {
                // The scopes are the server's words, so they are no part of the command.
                format!(
                    "the MCP server demands more scopes ({}): run `threadkey auth start {} --as {} --scope SCOPE`",
                    challenge.scopes.join(" "),
                    tenant.provider,
                    tenant.principal
                )
            }
            (Some(challenge), Login::Injected) => format!(
                "the MCP server demands more scopes ({}): the owner of this conversation signs in again with `/auth start`",
                challenge.scopes.join(" ")
            ),
            (None, _) if status == StatusCode::UNAUTHORIZED => {
                "the MCP server rejects the token, and a new one too: sign in again, or check that this account may use the server".to_owned()
            }
            (None, _) => format!("the MCP server answered {status}"),
        }
    }
}

fn client(
    trust: &Trust,
    change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Internal, format!("the HTTP client cannot be built: {error}"))
    };
    let outward = Outward::from_environment().map_err(|error| failed(&error))?;
    // A redirect could carry the token to another server.
    let builder = outward
        .http_client(trust)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .user_agent(concat!("threadkey/", env!("CARGO_PKG_VERSION")));
    change(builder).build().map_err(|error| failed(&error))
}

async fn lease(
    context: &TokenContext<'_>,
    tenant: &Tenant,
    rejected: Option<&Lease>,
) -> Result<Lease, Trouble> {
    let rejected = rejected.map(|lease| lease.access_token.clone());
    let lease = token::get(context, tenant, DEFAULT_MIN_TTL, rejected).await;
    lease.map_err(|failure| {
        let code = match failure.exit {
            Exit::NoSession => Some("no_session".to_owned()),
            Exit::Ended => Some("session_ended".to_owned()),
            _ => None,
        };
        Trouble { text: failure.text, status: None, code }
    })
}

/// Returns the media type of an answer, without its parameters.
pub(super) fn content_type(answer: &Response) -> String {
    let value = answer.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads the body of an answer that is not a stream.
pub(super) async fn body(mut answer: Response) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_ANSWER => bytes.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                return Err(Trouble::new(format!("the answer is longer than {} MiB", MAX_ANSWER >> 20)));
            }
            Ok(None) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(_) => return Err(Trouble::new("the answer of the MCP server ended early: try again")),
        }
    }
}
