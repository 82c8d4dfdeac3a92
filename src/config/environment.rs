//! `token_env` of a provider's section: a token from an environment variable.

use std::ffi::OsStr;

use super::{ConfigError, file::ProviderSection, secret, source::Source};
use crate::{
    ids::{Principal, ProviderId},
    oauth::EnvironmentToken,
    secret::{AccessToken, Scrubber},
};

/// Returns the token of the first variable that is set, for the principals that the section names.
pub(super) fn token(
    source: &Source<'_>,
    id: &ProviderId,
    section: &ProviderSection,
) -> Result<Option<EnvironmentToken>, ConfigError> {
    let error_at = |key: &str, problem: String| source.error_at(&["providers", id.as_str(), key], problem);
    if section.token_env.iter().any(|name| name.is_empty() || !secret::is_variable_name(name)) {
        // The text does not repeat the value: it may be the token itself.
        let problem = format!(
            "providers.{id}.token_env must be names of environment variables, such as GH_TOKEN, not the token itself"
        );
        return Err(error_at("token_env", problem));
    }
    if section.token_env.is_empty() && !section.token_env_for.is_empty() {
        let problem =
            format!("providers.{id}.token_env_for is only for token_env: add it, or remove token_env_for");
        return Err(error_at("token_env_for", problem));
    }
    let principals = section.token_env_for.iter().map(|name| name.parse::<Principal>());
    let principals = principals
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error_at("token_env_for", format!("providers.{id}.token_env_for: {error}")))?;
    let principals = if principals.is_empty() { vec![Principal::Local] } else { principals };
    for variable in &section.token_env {
        let Some(value) = source.variables.get(OsStr::new(variable)) else { continue };
        let value = value.to_str().map(str::trim).unwrap_or("\0");
        if value.is_empty() {
            continue;
        }
        // RFC 6750 §2.1: a token is visible ASCII.
        if !value.bytes().all(|b| b.is_ascii_graphic()) {
            let problem = format!(
                "the variable {variable}, which providers.{id}.token_env names, holds no token: a token is one word of ASCII characters"
            );
            return Err(error_at("token_env", problem));
        }
        Scrubber::of_process().keep(value);
        let (variable, token) = (variable.clone(), AccessToken::new(value));
        return Ok(Some(EnvironmentToken { variable, token, principals }));
    }
    Ok(None)
}
