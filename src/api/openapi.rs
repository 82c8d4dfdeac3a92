//! The OpenAPI document of the token API, and its reference in Markdown. Both come from the
//! attributes of the handlers, so the code and its documents have the same routes.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        Content, HeaderBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
        ResponseBuilder, Schema, Type,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::problem::{CODES, ProblemJson};

/// The scopes of the next sign-in.
#[derive(Serialize, ToSchema)]
pub(super) struct NextSignIn {
    /// Whether the challenge changed the scopes, so that a new sign-in helps.
    pub(super) sign_in: bool,
    /// The scopes of the next sign-in; empty if nothing changed.
    pub(super) scopes: Vec<String>,
}

/// The end of a grant at a logout.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document alone uses it: the handler reads the words")]
pub(super) enum GrantChoice {
    /// The provider is not asked to end it.
    Keep,
    /// The provider is asked to end it, whatever else uses the account.
    Revoke,
}

/// The document before the routes.
pub(super) fn base() -> OpenApi {
    let bearer = |text: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text));
        SecurityScheme::Http(scheme.build())
    };
    let components = utoipa::openapi::ComponentsBuilder::new()
        .security_scheme("capability", bearer("The capability of a live worker, on the Unix socket alone."))
        .security_scheme("operator_key", bearer("A key of [api.operator_keys]; its scope decides."))
        .schema("Problem", <ProblemJson<'_> as PartialSchema>::schema());
    let info = InfoBuilder::new()
        .title("threadkey token API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Fresh access tokens for workers and for programs of the operator. HTTP/1.1 on a Unix socket, and on TCP if the \
             operator asks for it. Times are Unix seconds. Every error is a problem of RFC 9457 with a stable code.",
        ))
        .license(Some(utoipa::openapi::LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build();
    OpenApiBuilder::new().info(info).components(Some(components.build())).build()
}

// === the errors ===

/// Declares the errors of some routes, by their codes.
macro_rules! problems_of {
    ($($(#[$doc:meta])* $name:ident: [$($code:literal),* $(,)?]),+ $(,)?) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                problems(&[$($code),*])
            }
        }
    )+};
}

problems_of! {
    /// Those of a route without a secret.
    Anyone: [],
    /// Those of `/readyz`.
    ReadyProblems: ["store_unavailable"],
    /// Those of `/metrics`.
    MetricsProblems: [
        "invalid_request", "unauthorized", "not_entitled", "store_unavailable", "too_many_requests",
    ],
    /// Those of the list of sessions.
    ListProblems: [
        "invalid_request", "unauthorized", "not_entitled", "store_unavailable", "too_many_requests",
    ],
    /// Those of a logout.
    LogoutProblems: [
        "invalid_request", "unauthorized", "provider_not_allowed", "not_entitled", "no_session", "account_in_use",
        "store_unavailable", "too_many_requests",
    ],
    /// Those of a request for a token.
    TokenProblems: [
        "invalid_request", "unauthorized", "provider_not_allowed", "raw_tokens_disabled", "not_entitled", "unknown_provider", "no_session",
        "authorization_denied", "authorization_timeout", "session_ended", "provider_misconfigured", "internal",
        "provider_unavailable", "refresh_in_progress", "rejected_again", "rights_unknown", "store_unavailable", "too_many_requests",
    ],
    /// Those of a report.
    ReportProblems: [
        "invalid_request", "unauthorized", "provider_not_allowed", "raw_tokens_disabled", "not_entitled", "unknown_provider", "no_session",
        "request_timeout", "session_ended", "content_too_large", "provider_misconfigured", "internal",
        "provider_unavailable", "refresh_in_progress", "rejected_again", "rights_unknown", "store_unavailable", "too_many_requests",
    ],
    /// Those of a challenge.
    ScopeProblems: [
        "invalid_request", "unauthorized", "provider_not_allowed", "not_entitled", "unknown_provider", "no_session",
        "request_timeout", "session_ended", "content_too_large", "provider_misconfigured", "internal",
        "provider_unavailable", "refresh_in_progress", "rights_unknown", "store_unavailable", "too_many_requests",
    ],
}

/// The errors that every request can meet.
const ALWAYS: [&str; 5] =
    ["invalid_request", "method_not_allowed", "origin_refused", "misdirected_request", "head_too_large"];

/// The responses with the given codes, by status.
fn problems(codes: &[&str]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in CODES.iter().filter(|code| codes.contains(&code.code) || ALWAYS.contains(&code.code)) {
        by_status.entry(code.status).or_default().push(format!("`{}`: {}.", code.code, code.meaning));
    }
    by_status
        .into_iter()
        .map(|(status, lines)| (status.to_string(), problem(status, &lines.join(" ")).into()))
        .collect()
}

fn problem(status: u16, description: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    let content = Content::new(Some(schema));
    let header = |kind: Type, text: &str| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        HeaderBuilder::new().schema(Some(Schema::Object(schema))).description(Some(text)).build()
    };
    let response =
        ResponseBuilder::new().description(description).content("application/problem+json", content);
    match status {
        401 => response.header("WWW-Authenticate", header(Type::String, "`Bearer`")),
        405 => response.header("Allow", header(Type::String, "The methods of the route.")),
        503 => response.header("Retry-After", header(Type::Integer, "The time to wait, in seconds.")),
        _ => response,
    }
    .build()
}
