//! One forwarded request: the checks, the token, and the replay after a 401.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header},
};
use futures_util::StreamExt as _;
use hyper::body::Body as _;

use super::{
    body::{Attempt, RequestBody},
    client::{Answer, Upstream},
    headers, presented,
    served_worker::ServedWorker,
    target,
};
use crate::{
    api::problem::Problem,
    broker::{DEFAULT_MIN_TTL, Entitlement, GrantInUse, Lease, TokenError, WorkerTokenError},
    secret::Secret,
    session::Ended,
};

/// A request that is allowed.
pub(super) struct Forwarding<'a> {
    pub(super) upstream: &'a Upstream,
    /// The path at which the route is served.
    pub(super) base: &'a str,
    /// The path after `base`.
    pub(super) rest: &'a str,
    /// The live secret of the request, unless the worker's own process needs none.
    pub(super) secret: Option<Secret>,
}

impl Forwarding<'_> {
    /// Forwards the request, and returns the answer with its body still to come.
    pub(super) async fn run(
        self,
        worker: &ServedWorker,
        request: Request<Body>,
    ) -> Result<Response<Body>, Problem> {
        let route = &self.upstream.route;
        let (mut parts, body) = request.into_parts();
        self.check_method(&parts.method, &parts.headers)?;
        let query = parts.uri.query().and_then(|query| match &self.secret {
            Some(secret) => presented::remaining_query(query, secret),
            None => Some(query.to_owned()),
        });
        let uri = target::forwarded(route, self.rest, query.as_deref())?;
        let is_empty = body.is_end_stream() && parts.headers.contains_key(header::CONTENT_LENGTH);
        headers::prepare(&mut parts.headers, &route.headers, &self.upstream.own);
        if is_empty {
            // The client writes no length for a body that it does not see, and some servers demand one.
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if worker.secrets.are_in(&parts.method, &parts.headers, &uri) {
            return Err(Problem::invalid_request(
                "a secret of this agent is in the method, the URL or a header that would be forwarded: send the one of the injecting proxy as a credential alone, and the capability to the token API alone",
            ));
        }
        let entitlement = worker.tokens.entitlement_of(&worker.serves, &route.provider).await?;
        let lease = entitlement.token(DEFAULT_MIN_TTL).await?;
        let grant = GrantInUse::of(&lease);
        let right = worker.grants.begin(grant.clone());
        // The session may have changed since it gave the token. Each later change finds the request.
        worker.tokens.check_grant(&worker.serves, &grant).await?;
        let body =
            RequestBody::new(body, worker.budget.clone(), self.upstream.own.clone(), worker.secrets.clone());
        let head = Head { method: parts.method, uri, headers: parts.headers };
        let answered = self.answer(worker, &entitlement, &head, &lease, &body);
        let answer = tokio::select! {
            biased;
            // The connection to the upstream is dropped with the request.
            () = right.ended() => return Err(worker.grants.reason(&grant).await.into()),
            answer = answered => answer?,
        };
        body.forget();
        if answer.status() == StatusCode::FORBIDDEN {
            report_scope(worker, &entitlement, &answer);
        }
        let (mut parts, body) = answer.into_parts();
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        headers::prepare_answer(&mut parts.headers, route, self.base, &head.uri);
        let body = Body::new(right.bound(body));
        let is_endless = head.method == Method::GET && is_of_mcp(&head.headers);
        Ok(Response::from_parts(parts, if is_endless { until_shutdown(body, worker) } else { body }))
    }

    /// Sends the request with a token, and once more if the upstream rejects that one.
    async fn answer(
        &self,
        worker: &ServedWorker,
        entitlement: &Entitlement<'_>,
        head: &Head,
        lease: &Lease,
        body: &RequestBody,
    ) -> Result<Response<Answer>, Problem> {
        let answer = self.send(head, lease, body.first(), body).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Box::pin(self.replay(worker, entitlement, head, lease, body, answer)).await;
        }
        Ok(answer)
    }

    fn check_method(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let route = &self.upstream.route;
        let refused = [Method::CONNECT, Method::TRACE].contains(method);
        if refused || !route.methods.is_empty() && !route.methods.contains(method) {
            let allowed = route.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            return Err(Problem::method_not_forwarded(route.name.as_str(), &allowed));
        }
        // Another upgrade, such as that to HTTP/2, is optional for the caller (RFC 9110 §7.8).
        let is_websocket = headers
            .get_all(header::UPGRADE)
            .iter()
            .any(|value| value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("websocket")));
        if is_websocket { Err(Problem::no_upgrade()) } else { Ok(()) }
    }

    /// Sends one attempt, and once more on a new connection if the upstream has closed the kept one.
    async fn send(
        &self,
        head: &Head,
        lease: &Lease,
        attempt: Attempt,
        body: &RequestBody,
    ) -> Result<Response<Answer>, Problem> {
        let route = &self.upstream.route;
        let mut answered = self.upstream.send(self.request(head, lease, attempt)?).await;
        if let Err(error) = &answered
            && head.method.is_idempotent()
            && error.was_closed_before
            && let Some(attempt) = body.again()
        {
            tracing::debug!(route = %route.name, "an upstream had closed a kept connection");
            answered = self.upstream.send_anew(self.request(head, lease, attempt)?).await;
        }
        match answered {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                tracing::warn!(route = %route.name, "an upstream switched protocols unasked");
                Err(Problem::upstream_unavailable(route.name.as_str()))
            }
            Ok(answer) => Ok(answer),
            Err(_) if body.has_secret() => Err(Problem::invalid_request(
                "a secret of this agent is in a trailer: send the one of the injecting proxy as a credential alone, and the capability to the token API alone",
            )),
            Err(_) if body.is_broken() => Err(Problem::invalid_request("the body ended too early")),
            Err(error) => {
                let reason = reason(&error);
                tracing::warn!(route = %route.name, reason, "an upstream of the injecting proxy gave no answer");
                Err(Problem::upstream_unavailable(route.name.as_str()))
            }
        }
    }

    /// Returns a request with the token.
    fn request(&self, head: &Head, lease: &Lease, attempt: Attempt) -> Result<Request<Attempt>, Problem> {
        let route = &self.upstream.route;
        let has_unknown_length = !attempt.is_end_stream() && attempt.size_hint().exact().is_none();
        let mut request = Request::new(attempt);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        if !headers::put_in(request.headers_mut(), route, &lease.access_token) {
            tracing::error!(route = %route.name, "the access token cannot stand in a header");
            return Err(Problem::upstream_unavailable(route.name.as_str()));
        }
        if has_unknown_length {
            // The client sends no body of unknown length with GET or HEAD unless this demands it.
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
        }
        Ok(request)
    }

    /// Reports the rejected token, and sends the request again with a newer one. The caller gets the
    /// upstream's own 401 if no newer token can be had now: the endpoint may refuse every token. It
    /// gets that 401 as well if the body is not kept whole and so cannot be sent again.
    async fn replay(
        &self,
        worker: &ServedWorker,
        entitlement: &Entitlement<'_>,
        head: &Head,
        lease: &Lease,
        body: &RequestBody,
        answer: Response<Answer>,
    ) -> Result<Response<Answer>, Problem> {
        let Some(attempt) = body.again() else {
            let (tokens, serves) = (worker.tokens.clone(), worker.serves.clone());
            let (provider, token) = (self.upstream.route.provider.clone(), lease.access_token.clone());
            tokio::spawn(async move {
                let reported = async {
                    tokens.entitlement_of(&serves, &provider).await?.rejected_by_upstream(&token).await
                };
                if let Err(error) = reported.await {
                    tracing::debug!(%error, "a rejected token has no successor yet");
                }
            });
            return Ok(answer);
        };
        let newer = match entitlement.rejected_by_upstream(&lease.access_token).await {
            Ok(newer) => newer,
            // The provider has ended the session: its user has to sign in.
            Err(WorkerTokenError::Token(error)) if is_ended(&error) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "a rejected token has no successor now");
                return Ok(answer);
            }
        };
        drop(answer);
        self.send(head, &newer, attempt, body).await
    }
}

/// Whether a request is of the Model Context Protocol.
fn is_of_mcp(headers: &HeaderMap) -> bool {
    ["mcp-protocol-version", "mcp-session-id"].iter().any(|name| headers.contains_key(*name))
}

/// Ends a body when the shutdown begins. The stream of an MCP server's own messages has no end of its
/// own, and the shutdown waits for all others.
fn until_shutdown(body: Body, worker: &ServedWorker) -> Body {
    Body::from_stream(body.into_data_stream().take_until(worker.shutdown.clone().cancelled_owned()))
}

/// Whether the provider has ended the session. A report alone, without a refresh token, ends none.
fn is_ended(error: &TokenError) -> bool {
    matches!(error, TokenError::Ended { code, .. } if code != Ended::REJECTED)
}

/// The head of a request as it is forwarded, without the token.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// Reports the challenges of an upstream that demands more scopes (RFC 6750 §3.1), in a task of its
/// own. The answer itself goes on to the caller.
fn report_scope(worker: &ServedWorker, entitlement: &Entitlement<'_>, answer: &Response<Answer>) {
    let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE).iter();
    let challenges: Vec<String> =
        challenges.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
    if !challenges.iter().any(|challenge| challenge.contains("insufficient_scope")) {
        return;
    }
    let (tokens, serves) = (worker.tokens.clone(), worker.serves.clone());
    let provider = entitlement.tenant().provider.clone();
    tokio::spawn(async move {
        let report = async {
            let entitlement = tokens.entitlement_of(&serves, &provider).await?;
            entitlement.insufficient_scope(&challenges).await
        };
        let reported: Result<_, WorkerTokenError> = report.await;
        if let Err(error) = reported {
            tracing::debug!(%error, "a demand for more scopes could not be noted");
        }
    });
}

/// Returns the innermost cause of a failed request, which names the host and the next step.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
