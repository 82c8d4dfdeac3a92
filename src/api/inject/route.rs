//! A route: the upstream, the headers, and the requests that it forwards.

use axum::http::{HeaderName, HeaderValue, Method, header};
use url::Url;

use crate::{
    ids::{ProviderId, RouteName},
    net::Trust,
};

/// A route of the injecting proxy.
#[derive(Clone, Debug)]
pub struct InjectRoute {
    /// The name in `/inject/NAME`.
    pub name: RouteName,
    /// The provider whose tokens it puts in.
    pub provider: ProviderId,
    /// The scheme, the host and the path prefix of every forwarded request. It has neither a query nor
    /// a slash at its end.
    pub upstream: Url,
    /// The certificates that the upstream may have.
    pub trust: Trust,
    /// The place of the token.
    pub credential: Credential,
    /// The changes of a request's headers.
    pub headers: RouteHeaders,
    /// The methods that it forwards. Without one it forwards all.
    pub methods: Vec<Method>,
    /// The paths below which it forwards, after the path prefix of the upstream. Without one it forwards
    /// all.
    pub path_prefixes: Vec<String>,
}

/// The place of the token in a forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
    Bearer,
    /// `Authorization: Basic`, with the token as the password of this user (RFC 7617).
    Basic(String),
    /// The token alone is the value of this header.
    Header(HeaderName),
}

/// The changes of a request's headers.
#[derive(Clone, Debug, Default)]
pub struct RouteHeaders {
    /// Headers that every request has.
    pub fixed: Vec<(HeaderName, HeaderValue)>,
    /// Headers that a request gets if it has none of that name.
    pub default: Vec<(HeaderName, HeaderValue)>,
    /// Lists with commas, whose missing elements are added to the request's own ones.
    pub appended: Vec<(HeaderName, HeaderValue)>,
    /// Headers whose value is a claim of an access token in the form of a JWT, found by these names.
    pub claims: Vec<(HeaderName, Vec<String>)>,
}

/// Headers in which tools present their secret. None of them is forwarded.
pub(super) const CREDENTIALS: [HeaderName; 5] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("private-token"),
];

/// Headers of one connection (RFC 9110 §7.6.1), those of a proxy, and `Expect`, which the server has
/// answered. None of them is forwarded.
pub(super) const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::EXPECT,
];

impl Credential {
    /// Whether a header is one of those in which APIs take a key.
    pub fn is_usual(name: &HeaderName) -> bool {
        CREDENTIALS.contains(name) && name != header::AUTHORIZATION
    }
}

impl RouteHeaders {
    /// Whether the configuration may set a header: it is neither a credential nor a header of HTTP itself.
    pub fn may_set(name: &HeaderName) -> bool {
        let own = [header::HOST, header::CONTENT_LENGTH, header::TRAILER, header::COOKIE];
        !CREDENTIALS.contains(name) && !HOP_BY_HOP.contains(name) && !own.contains(name)
    }
}
