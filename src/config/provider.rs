//! `[providers.NAME]`: a provider of OAuth tokens.

use std::time::Duration;

use super::{ConfigError, file::ProviderSection, secret, source::Source};
use crate::{
    ids::ProviderId,
    oauth::{Provider, ProviderError, ProviderSettings},
};

/// The provider that a section describes.
pub(super) fn settings(
    source: &Source<'_>,
    id: ProviderId,
    section: ProviderSection,
) -> Result<Provider, ConfigError> {
    let needed = |key: &'static str, value: Option<String>| {
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            source.about(&["providers", id.as_str(), key], format!("providers.{id} needs {key}"))
        })
    };
    let some = |value: Option<String>| value.filter(|value| !value.is_empty());
    let settings = ProviderSettings {
        issuer: some(section.issuer),
        authorization_endpoint: needed("authorization_endpoint", section.authorization_endpoint)?,
        token_endpoint: needed("token_endpoint", section.token_endpoint)?,
        revocation_endpoint: some(section.revocation_endpoint),
        userinfo_endpoint: some(section.userinfo_endpoint),
        client_id: needed("client_id", section.client_id)?,
        client_secret: secret::named(
            source,
            section.client_secret_env.as_deref(),
            section.client_secret_file.as_deref(),
            &["providers", id.as_str()],
            "client_secret",
        )?
        .transpose()
        .map_err(|what| source.about(&["providers", id.as_str(), "client_secret_env"], what))?,
        redirect_uri: needed("redirect_uri", section.redirect_uri)?,
        scopes: section.scopes,
        authorize_params: section.authorize_params,
        resource: some(section.resource),
        reuse_grace: section.reuse_grace.map_or(Duration::ZERO, |span| span.0),
        refresh_revokes_access: section.refresh_revokes_access,
        enforces_pkce: section.enforces_pkce,
    };
    Provider::new(id.clone(), settings).map_err(|error| match &error {
        ProviderError::Setting { key, .. } => {
            source.about(&["providers", id.as_str(), key], error.to_string())
        }
        ProviderError::Tls(_) => source.about(&["providers", id.as_str()], error.to_string()),
    })
}
