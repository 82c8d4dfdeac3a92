//! Scopes that a resource demands beyond those of a session: `auth start --scope`.

use std::fmt;

use super::{Exit, Failure};
use crate::{broker::Broker, ids::Tenant, oauth::Publisher};

/// The reason why a text is not a scope (RFC 6749 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScopeError;

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scope has visible ASCII characters without quotes, backslashes and blanks; repeat --scope for several")
    }
}

impl std::error::Error for ScopeError {}

/// Reads one scope.
pub(super) fn parse_scope(text: &str) -> Result<String, ScopeError> {
    let is_allowed = |byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let is_scope = !text.is_empty() && text.bytes().all(is_allowed);
    is_scope.then(|| text.to_owned()).ok_or(ScopeError)
}

/// Makes the next sign-in ask for these scopes and those of the session together.
pub(super) async fn scopes(broker: &Broker, tenant: &Tenant, scopes: &[String]) -> Result<(), Failure> {
    if scopes.is_empty() {
        return Ok(());
    }
    let provider = &tenant.provider;
    let undiscovered = broker.providers().undiscovered(provider);
    if !undiscovered.is_some_and(|one| matches!(one.publisher, Publisher::Mcp(_))) {
        let text = format!(
            "--scope is for MCP servers, and providers.{provider} has no mcp: write the scopes into providers.{provider}.scopes"
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scopes.join(" "));
    match broker.insufficient_scope(tenant, &[challenge]).await? {
        Some(_) => Ok(()),
        None => {
            let text = format!(
                "{tenant} has these scopes already, so another sign-in changes nothing. If the server still refuses, ask its \
                 operator which account may use it"
            );
            Err(Failure::new(Exit::Usage, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_one_token_without_quotes_and_blanks() {
        for good in ["files:read", "https://api.example/auth", "a"] {
            assert_eq!(parse_scope(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "a\"", "a\\", "a\n", "ä"] {
            assert_eq!(parse_scope(bad), Err(ScopeError), "{bad:?}");
        }
    }
}
