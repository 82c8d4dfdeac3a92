//! reqwest with threadkey's tokens: [`Authorized`] is a middleware for [`reqwest_middleware`].
//!
//! Invariants:
//!
//! - Each request takes its token from threadkey, which refreshes ahead of the expiry. The middleware
//!   keeps no token.
//! - A token goes to the listed origins alone, over `https`, or over `http` on loopback. reqwest removes
//!   it before it follows a redirect to another origin.
//! - A 401 is reported once, and the request is sent once more if its body is whole in memory. A body
//!   that streams is gone after the first attempt, and the caller gets the server's 401.

use std::{sync::Arc, time::Duration};

use http::{
    Extensions, HeaderValue, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use url::{Origin, Position, Url};

use crate::{
    Client, Code, Error, Token,
    origin::{is_safe, without_secrets},
};

/// A middleware that presents a fresh token with each request to its origins.
///
/// ```
/// use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
/// use threadkey_client::{Client, Error, middleware::Authorized};
///
/// fn client() -> Result<ClientWithMiddleware, Error> {
///     let threadkey = Client::from_env()?;
///     let authorized = Authorized::new(threadkey, "acme", "https://api.acme.example")?;
///     Ok(ClientBuilder::new(reqwest::Client::new()).with(authorized).build())
/// }
///
/// async fn work(client: &ClientWithMiddleware) -> Result<(), reqwest_middleware::Error> {
///     match client.get("https://api.acme.example/v1/me").send().await {
///         Ok(answer) => println!("{}", answer.status()),
///         Err(error) => match Error::of(&error) {
///             Some(reason) if reason.needs_sign_in() => println!("sign in first: {reason}"),
///             Some(reason) => println!("there is no token: {reason}"),
///             None => return Err(error),
///         },
///     }
///     Ok(())
/// }
/// ```
///
/// A request to another origin passes without a token, and so does a request with an `Authorization`
/// header of its own. Middlewares that are attached later see the token in the header, which is marked
/// as sensitive.
#[derive(Clone, Debug)]
pub struct Authorized {
    tokens: Client,
    provider: Arc<str>,
    origins: Vec<Origin>,
    min_ttl: Option<Duration>,
}

impl Authorized {
    /// Presents the tokens of `provider` to the origin of this URL, such as `https://api.acme.example`.
    ///
    /// # Errors
    /// [`Error::UnsafeServer`] unless the URL is `https`, or `http` on loopback.
    pub fn new(tokens: Client, provider: &str, server: &str) -> Result<Self, Error> {
        Self { tokens, provider: provider.into(), origins: Vec::new(), min_ttl: None }.also_to(server)
    }

    /// Presents the tokens to the origin of this URL too, such as the server for uploads.
    ///
    /// # Errors
    /// Those of [`Authorized::new`].
    pub fn also_to(mut self, server: &str) -> Result<Self, Error> {
        let url = Url::parse(server).ok().filter(is_safe);
        let url = url.ok_or_else(|| Error::UnsafeServer(without_secrets(server)))?;
        self.origins.push(url.origin());
        Ok(self)
    }

    /// Takes tokens that live at least this long, for a server that reads a request late.
    #[must_use]
    pub fn min_ttl(self, min_ttl: Duration) -> Self {
        Self { min_ttl: Some(min_ttl), ..self }
    }
}

impl Error {
    /// Finds threadkey's error in an error of a client with this middleware.
    pub fn of(error: &reqwest_middleware::Error) -> Option<&Self> {
        match error {
            reqwest_middleware::Error::Middleware(error) => error.downcast_ref(),
            reqwest_middleware::Error::Reqwest(_) => None,
        }
    }
}

#[async_trait::async_trait]
impl Middleware for Authorized {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let is_ours = self.origins.contains(&request.url().origin());
        if !is_ours || request.headers().contains_key(AUTHORIZATION) {
            return next.run(request, extensions).await;
        }
        let token = self.tokens.token(&self.provider, self.min_ttl).await.map_err(no_token)?;
        let sent = Sent::of(&request);
        let again = request.try_clone();
        present(&mut request, &token)?;
        let answer = next.clone().run(request, extensions).await?;
        if !sent.is_rejected_by(&answer) {
            return Ok(answer);
        }
        let newer = self.tokens.rejected(&self.provider, &token.access_token).await;
        let Some(mut again) = again.filter(|_| sent.may_be_repeated(&answer)) else {
            // The report alone makes the caller's own next attempt work.
            return Ok(answer);
        };
        let newer = match newer {
            Ok(newer) => newer,
            // The server refuses every token, and its own answer has the reason.
            Err(Error::Refused { code: Code::RejectedAgain, .. }) => return Ok(answer),
            Err(error) => return Err(no_token(error)),
        };
        drop(answer);
        present(&mut again, &newer)?;
        next.run(again, extensions).await
    }
}

/// The target of a request, for the judgement of its answer.
struct Sent {
    url: Url,
    is_safe_method: bool,
}

impl Sent {
    fn of(request: &Request) -> Self {
        Self { url: request.url().clone(), is_safe_method: request.method().is_safe() }
    }

    /// Whether the answer rejects the token. After a redirect to another origin the answering server
    /// has not seen the token.
    fn is_rejected_by(&self, answer: &Response) -> bool {
        answer.status() == StatusCode::UNAUTHORIZED
            && answer.url().origin() == self.url.origin()
            && demands_bearer(answer)
    }

    /// Whether a second attempt does nothing twice. A server that redirects has acted on the request
    /// already, as after `303 See Other` to a POST.
    fn may_be_repeated(&self, answer: &Response) -> bool {
        let sent = &self.url[..Position::AfterQuery];
        self.is_safe_method || answer.url()[..Position::AfterQuery] == *sent
    }
}

/// Whether a 401 demands a bearer token (RFC 6750 §3). Some servers send no challenge, and some send
/// text that is none.
fn demands_bearer(answer: &Response) -> bool {
    let mut schemes = Vec::new();
    for value in answer.headers().get_all(WWW_AUTHENTICATE) {
        let Some(challenges) = value.to_str().ok().and_then(|text| http_auth::parse_challenges(text).ok())
        else {
            return true;
        };
        schemes.extend(challenges.iter().map(|challenge| challenge.scheme.to_ascii_lowercase()));
    }
    schemes.is_empty() || schemes.iter().any(|scheme| scheme == "bearer")
}

/// Puts the token into the request.
fn present(request: &mut Request, token: &Token) -> reqwest_middleware::Result<()> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.access_token.expose()));
    let mut value = value.map_err(|_| no_token(Error::Unknown("no header can carry its token".into())))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

fn no_token(error: Error) -> reqwest_middleware::Error {
    reqwest_middleware::Error::middleware(error)
}
