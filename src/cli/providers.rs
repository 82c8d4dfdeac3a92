//! `threadkey providers`: the configured providers, and the presets for further ones.
//!
//! [`list`] collects the facts once, for the JSON form and for the text.

use serde::Serialize;

use super::{
    Failure, json_line, print_notice,
    provider_facts::{Configured, ScopeForm, preset_grants, preset_scope_form, preset_scopes, text_of},
    provider_text,
};
use crate::{
    ids::UnixTime,
    oauth::{Preset, Provider, Providers, presets},
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
