//! MCP over HTTP with threadkey's tokens: [`Authorized`] is an HTTP client for rmcp.
//!
//! Invariants:
//!
//! - Each request takes its token from threadkey. rmcp holds neither an access token nor a refresh
//!   token, and a transport that lives for days outlives every token.
//! - A token goes to one origin, over `https`, or over `http` on loopback.
//! - A 401 is reported once and the request is sent once more. The server has refused the first one
//!   before it did anything.

mod error;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::streamable_http_client::{
        SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
        StreamableHttpResponseLimits,
    },
};
use sse_stream::Sse;
use url::Url;

pub use error::{MissingScopes, TransportError};

use crate::{
    Client, Error,
    origin::{is_safe, without_secrets},
};

/// An HTTP client for rmcp that presents a fresh token with each request.
///
/// `C` sends the requests, such as `reqwest::Client` with rmcp's feature
/// `transport-streamable-http-client-reqwest`. The transport's own `auth_header` is ignored.
///
/// ```
/// use rmcp::transport::{
///     StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
/// };
/// use threadkey_client::{Client, mcp::Authorized};
///
/// # fn transport() -> Result<(), Box<dyn std::error::Error>> {
/// let server = "https://mcp.example/mcp";
/// let http = Authorized::new(reqwest::Client::new(), Client::from_env()?, "example", server)?;
/// let transport = StreamableHttpClientTransport::with_client(
///     http,
///     StreamableHttpClientTransportConfig::with_uri(server),
/// );
/// # let _ = transport;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Authorized<C> {
    inner: C,
    tokens: Client,
    provider: Arc<str>,
    server: Arc<Url>,
    min_ttl: Option<Duration>,
}

impl<C> Authorized<C> {
    /// Presents the tokens of `provider` to the MCP server at this URL, and to no other origin.
    ///
    /// # Errors
    /// [`TransportError::UnsafeServer`] unless the URL is `https`, or `http` on loopback.
    pub fn new(inner: C, tokens: Client, provider: &str, server: &str) -> Result<Self, TransportError> {
        let url = Url::parse(server).ok().filter(is_safe);
        let server = url.ok_or_else(|| TransportError::UnsafeServer(without_secrets(server)))?;
        Ok(Self { inner, tokens, provider: provider.into(), server: Arc::new(server), min_ttl: None })
    }

    /// Asks for tokens that live at least this long, for a server that reads a request late.
    #[must_use]
    pub fn min_ttl(self, min_ttl: Duration) -> Self {
        Self { min_ttl: Some(min_ttl), ..self }
    }

    /// Sends a request with a token, and once more with another token after a 401. Reports a demand for
    /// scopes to threadkey, so that the next sign-in requests them.
    async fn with_token<T, E, F>(
        &self,
        uri: &str,
        send: impl Fn(String) -> F + Send,
    ) -> Result<T, StreamableHttpError<TransportError>>
    where
        E: std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, StreamableHttpError<E>>> + Send,
    {
        let is_ours = Url::parse(uri).is_ok_and(|uri| uri.origin() == self.server.origin());
        if !is_ours {
            return Err(client_error(TransportError::OtherServer(without_secrets(uri))));
        }
        let token = self.tokens.token(&self.provider, self.min_ttl).await.map_err(no_token)?;
        let answer = match send(token.access_token.expose().to_owned()).await {
            Err(error) if error::is_unauthorized(&error) => {
                let rejected = self.tokens.rejected(&self.provider, &token.access_token).await;
                let token = rejected.map_err(no_token)?;
                send(token.access_token.expose().to_owned()).await
            }
            answer => answer,
        };
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some((mut missing, challenge)) = error::missing_scopes(&error, &self.provider) else {
            return Err(error::translated(error));
        };
        // The server's refusal stands, whether the report arrives or not.
        let reported = self.tokens.insufficient_scope(&self.provider, &[challenge]).await;
        missing.next_sign_in = reported.ok().flatten();
        Err(client_error(TransportError::MissingScopes(missing)))
    }
}

fn no_token(error: Error) -> StreamableHttpError<TransportError> {
    client_error(TransportError::NoToken(error))
}

fn client_error(error: TransportError) -> StreamableHttpError<TransportError> {
    StreamableHttpError::Client(error)
}

type Answer<T> = Result<T, StreamableHttpError<TransportError>>;
type Events = BoxStream<'static, Result<Sse, SseError>>;
type Headers = HashMap<HeaderName, HeaderValue>;

/// rmcp calls the methods with limits; the others are theirs with rmcp's usual limits.
impl<C: StreamableHttpClient + Sync> StreamableHttpClient for Authorized<C> {
    type Error = TransportError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        headers: Headers,
    ) -> Answer<StreamableHttpPostResponse> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, None, headers, limits).await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        headers: Headers,
        max_event: usize,
    ) -> Answer<StreamableHttpPostResponse> {
        let send = |token| {
            let (uri, message, session, headers) =
                (uri.clone(), message.clone(), session_id.clone(), headers.clone());
            let post = C::post_message_with_max_sse_event_size;
            post(&self.inner, uri, message, session, Some(token), headers, max_event)
        };
        self.with_token(&uri, send).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Answer<StreamableHttpPostResponse> {
        let send = |token| {
            let (uri, message, session, headers) =
                (uri.clone(), message.clone(), session_id.clone(), headers.clone());
            let post = C::post_message_with_response_limits;
            post(&self.inner, uri, message, session, Some(token), headers, limits)
        };
        self.with_token(&uri, send).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        headers: Headers,
    ) -> Answer<()> {
        let send =
            |token| self.inner.delete_session(uri.clone(), session_id.clone(), Some(token), headers.clone());
        self.with_token(&uri, send).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        headers: Headers,
    ) -> Answer<Events> {
        let send = |token| {
            let (session, last) = (session_id.clone(), last_event_id.clone());
            self.inner.get_stream(uri.clone(), session, last, Some(token), headers.clone())
        };
        self.with_token(&uri, send).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        headers: Headers,
        max_event: usize,
    ) -> Answer<Events> {
        let send = |token| {
            let (uri, session, last, headers) =
                (uri.clone(), session_id.clone(), last_event_id.clone(), headers.clone());
            let get = C::get_stream_with_max_sse_event_size;
            get(&self.inner, uri, session, last, Some(token), headers, max_event)
        };
        self.with_token(&uri, send).await
    }
}
