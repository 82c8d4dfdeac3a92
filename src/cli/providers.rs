//! `threadkey providers`: the configured providers, and the presets for further ones.
//!
//! [`list`] collects the facts once, for the JSON form and for the text.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{Failure, json_line, print_notice, provider_text};
use crate::{
    ids::{ProviderId, UnixTime},
    oauth::{EnvironmentToken, Exchange, Preset, Provider, Providers, Undiscovered, preset, presets},
    session::{GrantKind, LoginLimits},
};

#[derive(Serialize)]
struct ListJson<'a> {
    configured: Vec<ProviderJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    presets: Vec<PresetJson<'a>>,
}

#[derive(Serialize)]
struct ProviderJson<'a> {
    provider: &'a str,
    preset: Option<&'a str>,
    /// The issuer or URL that publishes the endpoints. Absent if they are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a str>,
    /// The time of the fetch, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    discovered_at: Option<UnixTime>,
    /// `null` as long as the endpoints are not known.
    token_endpoint: Option<&'a str>,
    client_id: &'a str,
    grants: Vec<&'static str>,
    /// The provider whose tokens are exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_from: Option<&'a str>,
    /// The variable with the token of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_env: Option<&'a str>,
    scopes: Vec<&'a str>,
    #[serde(flatten)]
    scope_form: Option<ScopeForm<'a>>,
    /// `null` as long as the endpoints are not known.
    can_revoke: Option<bool>,
    /// The address that answers 401 to a dead access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_endpoint: Option<&'a str>,
    accept_terms_risk: bool,
    terms: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    login_ends: Option<u64>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ends: Option<u64>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    keepalive: Option<u64>,
}

#[derive(Serialize)]
struct PresetJson<'a> {
    preset: &'a str,
    title: &'a str,
    /// The keys that a section adds.
    needs: &'a [String],
    /// The grants that the vendor offers. The first is the default, and `grants` of a section turns the
    /// others on.
    grants: Vec<&'static str>,
    scopes: Vec<&'a str>,
    #[serde(flatten)]
    scope_form: ScopeForm<'a>,
    can_revoke: bool,
    probe_endpoint: Option<&'a str>,
    /// The variables from which the vendor's own tools take a token.
    vendor_token_env: &'a [String],
    register: Option<&'a str>,
    accept_terms_risk: bool,
    terms: Option<&'a str>,
    login_ends: Option<&'a str>,
    idle_ends: Option<&'a str>,
}

/// The form of the scopes in an authorization request.
#[derive(Clone, Copy, Serialize)]
pub(super) struct ScopeForm<'a> {
    #[serde(rename = "scope_parameter")]
    pub(super) parameter: &'a str,
    #[serde(rename = "scope_separator")]
    pub(super) separator: &'a str,
}

/// A configured provider, and its endpoints if they are known.
pub(super) struct Configured {
    pub(super) id: ProviderId,
    pub(super) known: Option<Arc<Provider>>,
    pub(super) undiscovered: Option<Arc<Undiscovered>>,
    pub(super) exchange: Option<Arc<Exchange>>,
    pub(super) environment: Option<EnvironmentToken>,
}

/// The facts about a provider that the configuration has, discovered or not.
pub(super) struct Settings<'a> {
    preset: Option<&'a str>,
    client_id: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) scope_form: Option<ScopeForm<'a>>,
    pub(super) limits: LoginLimits,
    pub(super) keepalive: Option<Duration>,
    pub(super) terms: Option<String>,
}

/// Returns the list of the configured providers and of the presets, as text or as JSON.
///
/// # Errors
/// When the list has no JSON form.
pub fn list(providers: &Providers, now: UnixTime, json: bool) -> Result<String, Failure> {
    let configured = providers.ids().map(|id| Configured {
        id: id.clone(),
        known: providers.get(id),
        undiscovered: providers.undiscovered(id),
        exchange: providers.exchange(id),
        environment: providers.environment(id),
    });
    let configured: Vec<_> = configured.collect();
    let presets: Vec<_> = presets().collect();
    if json {
        return json_line(&ListJson {
            configured: configured.iter().map(provider_json).collect(),
            presets: presets.iter().map(preset_json).collect(),
        });
    }
    if configured.is_empty() {
        print_notice(
            "No provider is configured: add a section [providers.NAME] to the configuration. `threadkey doctor` names the file.",
        );
    }
    Ok(provider_text::text(&configured, &presets, now))
}

// === impl Configured ===

impl Configured {
    pub(super) fn settings(&self) -> Settings<'_> {
        let (known, own) = (self.known.as_deref(), self.undiscovered.as_deref().map(|one| &one.settings));
        let preset_name = known.and_then(Provider::preset).or(own.and_then(|own| own.preset.as_deref()));
        let known_form = known.map(Provider::scope_form);
        let own_form = own.map(|own| &own.request_form);
        let own_form = own_form.map(|form| (form.scope_parameter.as_str(), form.scope_separator.as_str()));
        let scope_form = known_form.or(own_form);
        Settings {
            preset: preset_name,
            client_id: known
                .map(Provider::client_id)
                .or(own.map(|own| own.client_id.as_str()))
                .unwrap_or_default(),
            scopes: known.map(Provider::scopes).or(own.map(|own| own.scopes.as_slice())).unwrap_or_default(),
            scope_form: scope_form.map(|(parameter, separator)| ScopeForm { parameter, separator }),
            limits: known
                .map(|known| *known.login_limits())
                .or(own.map(|own| own.login_limits))
                .unwrap_or_default(),
            keepalive: known.and_then(Provider::keepalive).or(own.and_then(|own| own.keepalive)),
            terms: preset_name.and_then(preset).and_then(|preset| preset.about.terms),
        }
    }

    /// Returns the grants of a sign-in, and the other sources of tokens.
    pub(super) fn grants(&self) -> Vec<&'static str> {
        let own = self.undiscovered.as_deref().map(|one| one.settings.grants.as_slice());
        let of_code = own.map(|own| if own.is_empty() { &[GrantKind::Code][..] } else { own });
        let sign_in = self.known.as_deref().map(Provider::grants).or(of_code).unwrap_or_default();
        let exchange = self.exchange.is_some().then_some("token_exchange");
        let environment = self.environment.is_some().then_some("environment_token");
        sign_in.iter().copied().map(grant_name).chain(exchange).chain(environment).collect()
    }

    /// Whether a logout can revoke the grant (RFC 7009). `None` as long as the endpoints are not known.
    pub(super) fn can_revoke(&self) -> Option<bool> {
        self.known.as_deref().map(Provider::can_revoke)
    }
}

// === presets ===

/// Returns the grants whose endpoints a preset has, the default first, and the environment where the
/// vendor's own tools know a variable.
pub(super) fn preset_grants(preset: &Preset) -> Vec<&'static str> {
    let needs_endpoint = |grant: &GrantKind| match grant {
        GrantKind::Code => "authorization_endpoint",
        GrantKind::Device => "device_authorization_endpoint",
        GrantKind::Ciba => "backchannel_authentication_endpoint",
    };
    let offered = GrantKind::ALL.into_iter();
    let offered = offered.filter(|grant| preset.settings.contains_key(needs_endpoint(grant)));
    let environment = (!preset.about.vendor_token_env.is_empty()).then_some("environment_token");
    offered.map(grant_name).chain(environment).collect()
}

pub(super) fn preset_scopes(preset: &Preset) -> Vec<&str> {
    let scopes = preset.settings.get("scopes").and_then(toml::Value::as_array);
    scopes.into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

pub(super) fn preset_scope_form(preset: &Preset) -> ScopeForm<'_> {
    let setting = |key: &str, default| text_of(preset, key).unwrap_or(default);
    ScopeForm { parameter: setting("scope_parameter", "scope"), separator: setting("scope_separator", " ") }
}

/// Returns a text among the settings of a preset. The endpoint of a server of the operator's own has
/// placeholders.
pub(super) fn text_of<'a>(preset: &'a Preset, key: &str) -> Option<&'a str> {
    preset.settings.get(key).and_then(toml::Value::as_str)
}

/// Returns the name of a grant in the words of OAuth (RFC 6749 §4.1, RFC 8628, CIBA Core).
fn grant_name(grant: GrantKind) -> &'static str {
    match grant {
        GrantKind::Code => "authorization_code",
        GrantKind::Device => "device_code",
        GrantKind::Ciba => "ciba",
    }
}

// === JSON ===

fn provider_json(provider: &Configured) -> ProviderJson<'_> {
    let (known, settings) = (provider.known.as_deref(), provider.settings());
    ProviderJson {
        provider: provider.id.as_str(),
        preset: settings.preset,
        publisher: provider.undiscovered.as_ref().map(|undiscovered| undiscovered.publisher.as_str()),
        discovered_at: known.and_then(Provider::discovered).map(|found| found.fetched_at),
        token_endpoint: known.map(|known| known.token_endpoint().as_str()),
        client_id: settings.client_id,
        grants: provider.grants(),
        exchange_from: provider.exchange.as_ref().map(|exchange| exchange.from().as_str()),
        token_env: provider.environment.as_ref().map(|token| token.variable.as_str()),
        scopes: settings.scopes.iter().map(String::as_str).collect(),
        scope_form: settings.scope_form,
        can_revoke: provider.can_revoke(),
        probe_endpoint: known.and_then(Provider::probe_endpoint).map(url::Url::as_str),
        accept_terms_risk: settings.terms.is_some(),
        terms: settings.terms,
        login_ends: settings.limits.login.map(|time| time.as_secs()),
        idle_ends: settings.limits.idle.map(|time| time.as_secs()),
        keepalive: settings.keepalive.map(|time| time.as_secs()),
    }
}

fn preset_json(preset: &Preset) -> PresetJson<'_> {
    let about = &preset.about;
    PresetJson {
        preset: &preset.name,
        title: &about.title,
        needs: &about.needs,
        grants: preset_grants(preset),
        scopes: preset_scopes(preset),
        scope_form: preset_scope_form(preset),
        can_revoke: preset.settings.contains_key("revocation_endpoint"),
        probe_endpoint: text_of(preset, "probe_endpoint").or_else(|| text_of(preset, "userinfo_endpoint")),
        vendor_token_env: &about.vendor_token_env,
        register: about.register.as_deref(),
        accept_terms_risk: about.risk,
        terms: about.terms.as_deref(),
        login_ends: about.login_ends.as_deref(),
        idle_ends: about.idle_ends.as_deref(),
    }
}
