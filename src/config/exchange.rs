//! `exchange_from` of a provider's section: its tokens come from the sign-in at another provider.

use std::{collections::BTreeSet, sync::Arc};

use super::{ConfigError, file::ProviderSection, provider, secret::SecretReader, source::Source};
use crate::{
    ids::ProviderId,
    oauth::{Exchange, ExchangeSettings, ProviderError, no_provider_among},
};

/// Builds the exchange of a section.
pub(super) fn settings(
    source: &Source<'_>,
    secrets: &mut SecretReader<'_>,
    id: &ProviderId,
    section: ProviderSection,
) -> Result<Exchange, ConfigError> {
    let error_at = |key: &str, problem: String| source.error_at(&["providers", id.as_str(), key], problem);
    let given = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    let elsewhere = [
        ("preset", given(&section.preset)),
        ("issuer", given(&section.issuer)),
        ("authorization_endpoint", given(&section.authorization_endpoint)),
        ("token_endpoint", given(&section.token_endpoint)),
        ("revocation_endpoint", given(&section.revocation_endpoint)),
        ("userinfo_endpoint", given(&section.userinfo_endpoint)),
        ("probe_endpoint", given(&section.probe_endpoint)),
        ("redirect_uri", given(&section.redirect_uri)),
        ("token_env", !section.token_env.is_empty()),
    ];
    let from = section.exchange_from.clone().unwrap_or_default();
    if let Some((key, _)) = elsewhere.into_iter().find(|(_, is_given)| *is_given) {
        let problem = format!(
            "providers.{id}.{key}: a provider with exchange_from has no sign-in and no endpoints of its own; the token of {from} goes \
             to the token endpoint of {from} alone. Remove {key}"
        );
        return Err(error_at(key, problem));
    }
    let from = from
        .parse::<ProviderId>()
        .map_err(|error| error_at("exchange_from", format!("providers.{id}.exchange_from: {error}")))?;
    let (client_secret, client_key) = provider::client_secrets(source, secrets, id, &section)?;
    let optional = |value: Option<String>| value.filter(|value| !value.is_empty());
    let settings = ExchangeSettings {
        from,
        audience: section.audience,
        resource: optional(section.resource).into_iter().collect(),
        scopes: section.scopes,
        requested_token_type: optional(section.requested_token_type),
        requested_issuer: optional(section.requested_issuer),
        token_params: section.token_params,
        client_id: optional(section.client_id),
        client_auth: optional(section.client_auth),
        client_secret,
        client_key: client_key.map(Arc::new),
    };
    Exchange::new(id.clone(), settings).map_err(|error| match &error {
        ProviderError::Setting { key, .. } => error_at(key, error.to_string()),
        ProviderError::Tls(_) => source.error_at(&["providers", id.as_str()], error.to_string()),
    })
}

/// Checks that the provider with the sign-in exists and has one.
pub(super) fn check_sources(
    source: &Source<'_>,
    exchanges: &[Exchange],
    with_sign_in: &BTreeSet<ProviderId>,
) -> Result<(), ConfigError> {
    let Some(wrong) = exchanges.iter().find(|exchange| !with_sign_in.contains(exchange.from())) else {
        return Ok(());
    };
    let (id, from) = (wrong.id(), wrong.from());
    let problem = if exchanges.iter().any(|other| other.id() == from) {
        format!(
            "providers.{id}.exchange_from: {from} has no sign-in of its own: name the provider at which users sign in"
        )
    } else {
        let known = with_sign_in.iter().map(ProviderId::as_str);
        format!("providers.{id}.exchange_from: {}", no_provider_among(from.as_str(), known))
    };
    Err(source.error_at(&["providers", id.as_str(), "exchange_from"], problem))
}
