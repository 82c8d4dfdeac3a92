//! The errors of the transport, and the meaning of a server's refusal.

use http_auth::ChallengeRef;
use rmcp::{service::ClientInitializeError, transport::streamable_http_client::StreamableHttpError};

use crate::Error;

/// The reason why a request was not sent, or the server's refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The server's URL is neither `https` nor on loopback.
    #[error("{0} is no URL for a token: use https, or http on loopback")]
    UnsafeServer(String),
    /// The transport was given another origin than this client is for.
    #[error("no token was sent to {0}: this client is for another MCP server")]
    OtherServer(String),
    /// threadkey has no token.
    #[error(transparent)]
    NoToken(Error),
    /// The server wants scopes that the token does not have.
    #[error("{0}")]
    MissingScopes(#[source] MissingScopes),
    /// The inner HTTP client failed.
    #[error(transparent)]
    Http(Box<dyn std::error::Error + Send + Sync>),
}

/// A server's refusal that a user can answer: it demands scopes that the session does not have
/// (HTTP 403 with `insufficient_scope`, RFC 6750 §3.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the MCP server of {provider} demands {}: {}", self.names(), self.advice())]
#[non_exhaustive]
pub struct MissingScopes {
    /// The provider in threadkey's configuration.
    pub provider: String,
    /// The demanded scopes; empty if the server names none.
    pub scopes: Vec<String>,
    /// The server's own explanation, if it gives one. It is foreign text.
    pub description: Option<String>,
    /// The scopes that the next sign-in of the user requests: threadkey has noted the demand. `None` if
    /// it has not.
    pub next_sign_in: Option<Vec<String>>,
}

impl MissingScopes {
    fn names(&self) -> String {
        match self.scopes.as_slice() {
            [] => "scopes that it does not name".into(),
            [one] => format!("the scope {one}"),
            several => format!("the scopes {}", several.join(" ")),
        }
    }

    fn advice(&self) -> String {
        let Self { provider, scopes, next_sign_in, .. } = self;
        if next_sign_in.is_some() {
            return format!("its user must sign in again, on Discord by `/auth start {provider}`");
        }
        let options: String = scopes.iter().map(|scope| format!(" --scope {scope}")).collect();
        format!("sign in again with them, by `threadkey auth start {provider}{options}`")
    }

    /// Finds the refusal among the causes of an error of rmcp, such as `rmcp::ServiceError`.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        match TransportError::of(error)? {
            TransportError::MissingScopes(missing) => Some(missing),
            _ => None,
        }
    }
}

impl TransportError {
    /// Finds this error among the causes of an error of rmcp, such as `rmcp::ServiceError`.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(StreamableHttpError::Client(found)) =
                error.downcast_ref::<StreamableHttpError<Self>>()
            {
                return Some(found);
            }
            // rmcp names no source for an error during initialization.
            cause = match error.downcast_ref::<ClientInitializeError>() {
                Some(ClientInitializeError::TransportError { error, .. }) => Some(error),
                Some(ClientInitializeError::LegacyFallbackFailed { fallback, .. }) => Some(&**fallback),
                _ => error.source(),
            };
        }
        None
    }
}

/// Whether the server refused the token. rmcp has a variant for a 401 with a challenge. Without a
/// challenge it puts the status in front of a text.
pub(super) fn is_unauthorized<E>(error: &StreamableHttpError<E>) -> bool
where
    E: std::error::Error + Send + Sync + 'static,
{
    match error {
        StreamableHttpError::AuthRequired(_) => true,
        StreamableHttpError::UnexpectedServerResponse(text) => text.starts_with("HTTP 401 "),
        _ => false,
    }
}

/// Recognises the demand for scopes. Returns it with its challenge.
pub(super) fn missing_scopes<'a, E>(
    error: &'a StreamableHttpError<E>,
    provider: &str,
) -> Option<(MissingScopes, &'a str)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let StreamableHttpError::InsufficientScope(error) = error else { return None };
    let challenge = error.www_authenticate_header.as_str();
    Some((demanded(challenge, provider)?, challenge))
}

/// Puts the inner client's error into ours.
pub(super) fn translated<E>(error: StreamableHttpError<E>) -> StreamableHttpError<TransportError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    use StreamableHttpError as S;
    match error {
        S::InsufficientScope(error) => S::InsufficientScope(error),
        S::Client(error) => S::Client(TransportError::Http(Box::new(error))),
        // rmcp has rules for each error, so they keep their variants.
        S::Sse(error) => S::Sse(error),
        S::Io(error) => S::Io(error),
        S::HttpStatus(error) => S::HttpStatus(error),
        S::UnexpectedEndOfStream => S::UnexpectedEndOfStream,
        S::UnexpectedServerResponse(text) => S::UnexpectedServerResponse(text),
        S::ResponseBodyTooLarge { max_size } => S::ResponseBodyTooLarge { max_size },
        S::UnexpectedContentType(found) => S::UnexpectedContentType(found),
        S::ServerDoesNotSupportSse => S::ServerDoesNotSupportSse,
        S::ServerDoesNotSupportDeleteSession => S::ServerDoesNotSupportDeleteSession,
        S::TokioJoinError(error) => S::TokioJoinError(error),
        S::Deserialize(error) => S::Deserialize(error),
        S::TransportChannelClosed => S::TransportChannelClosed,
        S::MissingSessionIdInResponse => S::MissingSessionIdInResponse,
        S::AuthRequired(error) => S::AuthRequired(error),
        S::ReservedHeaderConflict(name) => S::ReservedHeaderConflict(name),
        S::SessionExpired => S::SessionExpired,
        S::SessionRecoveryTimeout => S::SessionRecoveryTimeout,
        S::ReinitializationFailed(error) => S::ReinitializationFailed(error),
        S::ControlRequestTimeout => S::ControlRequestTimeout,
        // A variant of a newer rmcp, or of a feature of it.
        other => S::Client(TransportError::Http(Box::new(other))),
    }
}

/// Reads the challenge of a 403. `None` if it is about something else than scopes.
fn demanded(header: &str, provider: &str) -> Option<MissingScopes> {
    let challenges = http_auth::parse_challenges(header).ok()?;
    let bearer = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"))?;
    (parameter(bearer, "error")? == "insufficient_scope").then(|| MissingScopes {
        provider: provider.to_owned(),
        scopes: parameter(bearer, "scope").unwrap_or_default().split_whitespace().map(Into::into).collect(),
        description: parameter(bearer, "error_description"),
        next_sign_in: None,
    })
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.to_unescaped())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_for_scopes_is_found_among_several_challenges() {
        let header = r#"Basic realm="x", Bearer error="insufficient_scope", scope="files:read files:write", error_description="more \"please\"""#;
        let missing = demanded(header, "acme").expect("it demands scopes");
        assert_eq!(missing.scopes, ["files:read", "files:write"]);
        assert_eq!(missing.description.as_deref(), Some("more \"please\""));
        let text = missing.to_string();
        assert!(text.contains("the scopes files:read files:write: sign in again"), "{text}");
        assert!(
            text.ends_with("`threadkey auth start acme --scope files:read --scope files:write`"),
            "{text}"
        );
        let noted = MissingScopes { next_sign_in: Some(vec!["files:read".into()]), ..missing };
        assert!(noted.to_string().ends_with("on Discord by `/auth start acme`"), "{noted}");
    }

    #[test]
    fn another_refusal_is_no_demand_for_scopes() {
        for header in [r#"Bearer error="invalid_token""#, "Bearer", r#"Basic realm="x""#, "\"", ""] {
            assert_eq!(demanded(header, "acme"), None, "{header}");
        }
    }

    #[test]
    fn a_demand_without_names_has_no_scopes() {
        let missing = demanded("Bearer error=insufficient_scope", "acme").expect("it demands scopes");
        assert_eq!(missing.scopes, [""; 0]);
    }
}
