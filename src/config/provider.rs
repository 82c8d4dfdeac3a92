//! `[providers.NAME]`: a provider of OAuth tokens.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{
    ConfigError, environment,
    file::{Body, ProviderSection},
    secret::{SecretKeys, SecretReader},
    source::Source,
    trust,
};
use crate::{
    ids::ProviderId,
    net::{Reach, is_loopback},
    oauth::{
        BodyForm, ClientKey, DeviceForm, Provider, ProviderError, ProviderSettings, Publisher,
        RECOMMENDED_REDIRECT_URI, RequestForm, Undiscovered,
    },
    session::{GrantKind, LoginLimits},
    sys::secret_source::SecretSource,
};

/// The provider of a section.
#[expect(clippy::large_enum_variant, reason = "one is made for each provider, and moved a few times")]
pub(super) enum Configured {
    /// Its endpoints are written.
    Known(Provider),
    /// A server publishes its endpoints.
    Published(Undiscovered),
}

/// Builds the provider of a section.
pub(super) fn settings(
    source: &Source<'_>,
    secrets: &mut SecretReader<'_>,
    id: ProviderId,
    section: ProviderSection,
) -> Result<Configured, ConfigError> {
    let error_at = |key: &str, problem: String| source.error_at(&["providers", id.as_str(), key], problem);
    let optional = |value: Option<String>| value.filter(|value| !value.is_empty());
    let required = |key: &str, value: Option<String>| {
        optional(value).ok_or_else(|| error_at(key, format!("providers.{id} needs {key}")))
    };
    let has_preset = section.preset.as_ref().is_some_and(|preset| !preset.is_empty());
    for (key, value) in [("host", &section.host), ("tenant", &section.tenant)] {
        if !has_preset && value.as_ref().is_some_and(|value| !value.is_empty()) {
            let problem =
                format!("providers.{id}.{key} is only for a preset: add preset = \"…\", or remove {key}");
            return Err(error_at(key, problem));
        }
    }
    let (client_secret, client_key) = client_secrets(source, secrets, &id, &section)?;
    let environment = environment::token(source, &id, &section)?;
    for (key, is_given) in [
        ("audience", !section.audience.is_empty()),
        ("requested_token_type", section.requested_token_type.is_some()),
        ("requested_issuer", section.requested_issuer.is_some()),
    ] {
        if is_given {
            let problem = format!(
                "providers.{id}.{key} is only for a token exchange: add exchange_from = \"…\", or remove {key}"
            );
            return Err(error_at(key, problem));
        }
    }
    let request_form = RequestForm {
        token_params: section.token_params,
        token_headers: section.token_headers,
        token_request: body(section.token_request),
        refresh_request: section.refresh_request.map(body),
        revocation_request: body(section.revocation_request),
        refresh_endpoint: optional(section.refresh_endpoint),
        state_in_exchange: section.state_in_exchange,
        scope_in_refresh: section.scope_in_refresh,
        scope_separator: section.scope_separator.unwrap_or_else(|| " ".to_owned()),
        scope_parameter: section.scope_parameter.unwrap_or_else(|| "scope".to_owned()),
        pkce: section.pkce.unwrap_or(true),
    };
    let grants = section.grants.iter().map(|name| name.parse::<GrantKind>());
    let grants = grants
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error_at("grants", format!("providers.{id}.grants: {error}")))?;
    let has_code = grants.is_empty() || grants.contains(&GrantKind::Code);
    let device_form = DeviceForm {
        is_codex: match section.device_flow.as_deref().unwrap_or_default() {
            "" | "rfc8628" => false,
            "codex" => true,
            _ => {
                let problem = format!("providers.{id}.device_flow must be \"rfc8628\" or \"codex\"");
                return Err(error_at("device_flow", problem));
            }
        },
        scope_parameter: optional(section.device_scope_parameter),
    };
    let authorization_endpoint = optional(section.authorization_endpoint);
    let token_endpoint = optional(section.token_endpoint);
    let is_whole = (authorization_endpoint.is_some() || !has_code) && token_endpoint.is_some();
    let issuer = optional(section.issuer);
    let mcp = optional(section.mcp)
        .map(|text| server(&text).map_err(|what| error_at("mcp", format!("providers.{id}.mcp: {what}"))));
    let mcp = mcp.transpose()?;
    if mcp.is_some() && issuer.is_some() {
        let problem =
            format!("providers.{id} has mcp and issuer: the MCP server names its issuer, so remove one");
        return Err(error_at("issuer", problem));
    }
    let is_mcp = mcp.is_some();
    let by_issuer = || issuer.clone().filter(|_| !is_whole).map(Publisher::Issuer);
    let publisher = mcp.map(Publisher::Mcp).or_else(by_issuer);
    // Until it is asked for the endpoints, an issuer stands in for them.
    let is_by_issuer = matches!(publisher, Some(Publisher::Issuer(_)));
    let issuer_is_for = [
        ("authorization_endpoint", is_by_issuer && authorization_endpoint.is_none()),
        ("token_endpoint", is_by_issuer && token_endpoint.is_none()),
    ];
    let found = |key: &str, value: Option<String>, by_default: &str| match optional(value) {
        None if is_mcp => Ok(by_default.to_owned()),
        value => required(key, value),
    };
    let limits = (section.allow_private, section.discovery_hosts);
    if publisher.is_none() && limits != Default::default() {
        let key = if section.allow_private { "allow_private" } else { "discovery_hosts" };
        let problem = format!(
            "providers.{id}.{key} is only for a provider whose endpoints a server publishes: set issuer and remove its endpoints, or remove {key}"
        );
        return Err(error_at(key, problem));
    }
    let reach = match &publisher {
        Some(publisher) => Some(reach(publisher, limits).map_err(|what| {
            error_at("discovery_hosts", format!("providers.{id}.discovery_hosts: {what}"))
        })?),
        None => None,
    };
    let endpoint = |key: &str, value: Option<String>| match &publisher {
        Some(_) => Ok(value.unwrap_or_default()),
        // Only the code needs it.
        None if key == "authorization_endpoint" && !has_code => Ok(value.unwrap_or_default()),
        None => required_endpoint(key, value)
            .map_err(|problem| error_at(key, format!("providers.{id} {problem}"))),
    };
    let settings = ProviderSettings {
        preset: optional(section.preset),
        issuer,
        authorization_endpoint: endpoint("authorization_endpoint", authorization_endpoint)?,
        token_endpoint: endpoint("token_endpoint", token_endpoint)?,
        revocation_endpoint: optional(section.revocation_endpoint),
        userinfo_endpoint: optional(section.userinfo_endpoint),
        account_id_claim: optional(section.account_id_claim),
        probe_endpoint: optional(section.probe_endpoint),
        jwks_uri: optional(section.jwks_uri),
        id_token_issuer: optional(section.id_token_issuer),
        device_authorization_endpoint: optional(section.device_authorization_endpoint),
        backchannel_authentication_endpoint: optional(section.backchannel_authentication_endpoint),
        grants,
        device_form,
        login_hints: section.login_hints,
        client_id: found("client_id", section.client_id, "")?,
        client_auth: optional(section.client_auth),
        client_secret,
        client_key: client_key.map(Arc::new),
        request_form,
        paste_only: section.paste_only,
        redirect_uri: match optional(section.redirect_uri) {
            None if !has_code => String::new(),
            given => found("redirect_uri", given, RECOMMENDED_REDIRECT_URI)?,
        },
        redirect_any_port: section.redirect_any_port,
        environment,
        scopes: section.scopes,
        authorize_params: section.authorize_params,
        resource: optional(section.resource),
        token_path: optional(section.token_path),
        ended_errors: section.ended_errors,
        max_lifetime: section.max_lifetime.map(|longest| longest.0),
        reuse_grace: section.reuse_grace.map_or(Duration::ZERO, |grace| grace.0),
        refresh_revokes_access: section.refresh_revokes_access,
        login_limits: LoginLimits {
            login: section.login_ends.map(|time| time.0),
            idle: section.idle_ends.map(|time| time.0),
        },
        keepalive: section.keepalive.map(|time| time.0),
        enforces_pkce: section.enforces_pkce,
        formerly: section.formerly,
        trust: trust::with_file(source, &["providers", id.as_str()], section.ca_file.as_deref())?,
        reach,
        registers_client: is_mcp,
        discovered: None,
    };
    let configured = match publisher {
        None => Provider::new(id.clone(), settings).map(Configured::Known),
        Some(publisher) => {
            let undiscovered = Undiscovered { id: id.clone(), settings, publisher };
            undiscovered.check().map(|()| Configured::Published(undiscovered))
        }
    };
    configured.map_err(|error| match &error {
        ProviderError::Setting { key, what, .. } if issuer_is_for.contains(&(*key, true)) => {
            error_at("issuer", format!("providers.{id}.issuer: {what}"))
        }
        ProviderError::Setting { key, .. } => error_at(key, error.to_string()),
        ProviderError::Tls(_) => source.error_at(&["providers", id.as_str()], error.to_string()),
    })
}

/// Reads the secret and the key of a section's client.
pub(super) fn client_secrets(
    source: &Source<'_>,
    secrets: &mut SecretReader<'_>,
    id: &ProviderId,
    section: &ProviderSection,
) -> Result<(Option<SecretSource>, Option<ClientKey>), ConfigError> {
    let error_at = |key: &str, problem: String| source.error_at(&["providers", id.as_str(), key], problem);
    let keys = ["providers", id.as_str()];
    let secret_key =
        if section.client_secret_file.is_some() { "client_secret_file" } else { "client_secret_env" };
    let client_secret = secrets.read(&SecretKeys {
        section: &keys,
        name: "client_secret",
        env: section.client_secret_env.as_deref(),
        file: section.client_secret_file.as_deref(),
        command: &section.client_secret_command,
    })?;
    let client_key = secrets.read(&SecretKeys {
        section: &keys,
        name: "client_key",
        env: None,
        file: section.client_key_file.as_deref(),
        command: &[],
    })?;
    let client_key = client_key.map(|key| {
        let pem = key.map_err(|missing| error_at("client_key_file", missing))?;
        let SecretSource::Known(pem) = pem else { unreachable!("a key has no command") };
        ClientKey::from_pem(&pem, section.client_key_id.clone().filter(|id| !id.is_empty()))
            .map_err(|what| error_at("client_key_file", format!("providers.{id}.client_key_file: {what}")))
    });
    let client_secret = client_secret.transpose().map_err(|missing| error_at(secret_key, missing))?;
    Ok((client_secret, client_key.transpose()?))
}

/// Checks the URL of an MCP server.
fn server(text: &str) -> Result<Url, &'static str> {
    let Ok(url) = Url::parse(text) else {
        return Err("it is not a URL: write it in full, as in https://mcp.example.com/mcp");
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => {
            return Err(
                "it must begin with https:// (http is allowed only for 127.0.0.1, [::1] and localhost)",
            );
        }
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("it must have no user name, no password and no fragment");
    }
    Ok(url)
}

/// Returns the addresses that discovery may reach: public ones, and more if the section allows them.
fn reach(publisher: &Publisher, (allow_private, hosts): (bool, Vec<String>)) -> Result<Reach, String> {
    let mut reach = Reach::default().with_private(allow_private);
    // A wrong URL is an error of its own key.
    if let Ok(url) = Url::parse(publisher.as_str()) {
        reach = reach.listing_host_of(&url);
    }
    for host in hosts {
        let url = Url::parse(&format!("https://{host}/")).ok();
        let is_host = |url: &Url| url.path() == "/" && url.port().is_none() && url.username().is_empty();
        match url.filter(is_host) {
            Some(url) if !host.contains(['/', '?', '#', '@']) => reach = reach.listing_host_of(&url),
            _ => return Err(format!("{host:?} is not a host: write a name alone, as in \"id.example.com\"")),
        }
    }
    Ok(reach)
}

fn required_endpoint(key: &str, value: Option<String>) -> Result<String, String> {
    value.ok_or_else(|| format!(
            "needs {key}, or issuer if the provider publishes its endpoints, or a preset (`threadkey providers` lists them)"
        ))
}

fn body(body: Body) -> BodyForm {
    match body {
        Body::Form => BodyForm::Form,
        Body::Json => BodyForm::Json,
    }
}
