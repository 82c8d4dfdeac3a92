//! The reasons why a provider's endpoints are not known.

use super::DocumentError;

/// The reason why a provider's endpoints are not known. Each text names the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// No document could be fetched.
    #[error("{0}")]
    Document(DocumentError),
    /// The document belongs to another issuer, or to none.
    #[error(
        "{document} names the issuer {published:?}, and the configuration names {expected:?}; both must be the same text. Correct issuer in the provider's section"
    )]
    Issuer {
        /// The address of the document.
        document: String,
        /// The published issuer.
        published: String,
        /// The configured one.
        expected: String,
    },
    /// The document lacks a member that threadkey needs.
    #[error("{publisher} publishes no {member}. Write {member} into the provider's section")]
    Missing {
        /// The issuer.
        publisher: String,
        /// The member.
        member: &'static str,
    },
    /// A member has a value that cannot be used.
    #[error(
        "{publisher} publishes {member} with an unusable value ({problem}). Write {member} into the provider's section, or ask the operator of {publisher}"
    )]
    Member {
        /// The issuer.
        publisher: String,
        /// The member.
        member: String,
        /// The fault.
        problem: String,
    },
    /// The server does not publish that it supports S256.
    #[error(
        "{publisher} does not publish that it supports PKCE with S256 (code_challenge_methods_supported), so a stolen code would be usable. If it does support it, write authorization_endpoint and token_endpoint into the provider's section; if not, set pkce = false and a client secret there"
    )]
    NoS256 {
        /// The issuer.
        publisher: String,
    },
    /// The server accepts no way of authentication that the configured client has.
    #[error(
        "{publisher} accepts clients by {} alone, and the configured client has {has}. Configure the client so, or set client_auth in the provider's section",
        methods.join(", ")
    )]
    ClientAuth {
        /// The issuer.
        publisher: String,
        /// The published ways.
        methods: Vec<String>,
        /// The client's credentials in words.
        has: &'static str,
    },
    /// A setting does not fit the published metadata.
    #[error("{0}")]
    Setting(String),
    /// The metadata of an MCP server (RFC 9728) cannot be used.
    #[error(
        "the metadata of {server} at {document} is not used: {problem}. Correct mcp in the provider's section, or ask the operator of {server}"
    )]
    Resource {
        /// The MCP server.
        server: String,
        /// The address of its metadata.
        document: String,
        /// The fault.
        problem: ResourceError,
    },
    /// The server and its authorization servers took too long together.
    #[error(
        "{server} and its authorization servers took longer than 30 s together. Try again later; if they stay slow, ask the operator of {server}"
    )]
    TooSlow {
        /// The MCP server.
        server: String,
    },
    /// Neither an MCP server nor its origin names an authorization server.
    #[error(
        "{server} names no authorization server, and its origin is none. Check mcp in the provider's section; if the server needs no sign-in, it needs no provider"
    )]
    NoAuthorizationServer {
        /// The MCP server.
        server: String,
    },
    /// The server has no client of threadkey, and registers none.
    #[error(
        "{issuer} knows no client of threadkey and registers none by itself. Register one there with the redirect URI {redirect_uri}, and write its client_id into providers.{provider}"
    )]
    NoClient {
        /// The authorization server.
        issuer: String,
        /// The redirect URI of the client.
        redirect_uri: String,
        /// The provider's name.
        provider: crate::ids::ProviderId,
    },
    /// The server refused to register a client.
    #[error(
        "{issuer} does not register threadkey ({code}). Register a client there with the redirect URI {redirect_uri}, and write its client_id into providers.{provider}"
    )]
    RegistrationRefused {
        /// The authorization server.
        issuer: String,
        /// The error code, or the status.
        code: String,
        /// The redirect URI of the client.
        redirect_uri: String,
        /// The provider's name.
        provider: crate::ids::ProviderId,
    },
}

impl DiscoveryError {
    /// Whether the cause may end by itself. Otherwise the operator must act.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Document(error) => match error {
                DocumentError::Unreachable(cause) => cause.may_end(),
                DocumentError::TooSlow { .. } | DocumentError::Broken { .. } => true,
                DocumentError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
                DocumentError::Refused { .. }
                | DocumentError::TooLarge { .. }
                | DocumentError::Redirect { .. }
                | DocumentError::NotJson { .. } => false,
            },
            Self::TooSlow { .. } => true,
            _ => false,
        }
    }
}

/// The reason why the metadata of a resource are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// The document describes another resource (RFC 9728 §3.3).
    #[error("they describe the resource {0}, which is not this server (RFC 9728 §3.3)")]
    OtherResource(String),
    /// A required member is missing, or has a wrong type.
    #[error("they have no {0} (RFC 9728 §2)")]
    Missing(&'static str),
}
