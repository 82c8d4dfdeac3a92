//! `threadkey providers`: the configured providers, and the presets for further ones.

use std::{fmt::Write as _, sync::Arc};

use serde::Serialize;

use super::{Failure, duration_text, json_line, print_notice};
use crate::{
    ids::{ProviderId, UnixTime},
    oauth::{Preset, Provider, Providers, Undiscovered, presets},
};

#[derive(Serialize)]
struct ListJson<'a> {
    configured: Vec<ProviderJson<'a>>,
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
    can_revoke: bool,
}

/// A configured provider, and its endpoints if they are known.
struct Configured {
    id: ProviderId,
    known: Option<Arc<Provider>>,
    undiscovered: Option<Arc<Undiscovered>>,
}

#[derive(Serialize)]
struct PresetJson<'a> {
    preset: &'a str,
    title: &'a str,
    /// The keys that a section adds.
    needs: &'a [String],
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
    let mut text = String::new();
    let width = configured.iter().map(|provider| provider.id.as_str().len()).max().unwrap_or(0);
    for provider in &configured {
        let _ = writeln!(text, "{:width$}  {}", provider.id.as_str(), described(provider, now));
    }
    text.push_str("\nPresets, each for a section with preset = \"NAME\" and the keys that it needs:\n\n");
    let width = presets.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    for preset in &presets {
        let _ = writeln!(text, "{:width$}  {}: {}", preset.name, preset.about.title, needs(preset));
        if let Some(terms) = &preset.about.terms {
            let _ = writeln!(text, "{:width$}  {terms}", "");
        }
    }
    Ok(text)
}

/// Describes the endpoints of a provider: the address, the server that publishes it, and its age.
fn described(provider: &Configured, now: UnixTime) -> String {
    let publisher = provider.undiscovered.as_ref().map(|undiscovered| undiscovered.publisher.as_str());
    match (&provider.known, publisher) {
        (Some(known), None) => known.token_endpoint().to_string(),
        (Some(known), Some(publisher)) => {
            let fetched_at = known.discovered().map_or(now, |found| found.fetched_at);
            let age = duration_text(now.saturating_sub(fetched_at));
            format!("{}, published by {publisher}, fetched {age} ago", known.token_endpoint())
        }
        (None, Some(publisher)) => {
            format!("published by {publisher}, not fetched yet: `threadkey doctor` or a sign-in fetches it")
        }
        (None, None) => String::new(),
    }
}

fn provider_json(provider: &Configured) -> ProviderJson<'_> {
    let (known, undiscovered) = (provider.known.as_deref(), provider.undiscovered.as_deref());
    let settings = undiscovered.map(|undiscovered| &undiscovered.settings);
    ProviderJson {
        provider: provider.id.as_str(),
        preset: known.and_then(Provider::preset).or(settings.and_then(|settings| settings.preset.as_deref())),
        publisher: undiscovered.map(|undiscovered| undiscovered.publisher.as_str()),
        discovered_at: known.and_then(Provider::discovered).map(|found| found.fetched_at),
        token_endpoint: known.map(|known| known.token_endpoint().as_str()),
        client_id: known
            .map(Provider::client_id)
            .or(settings.map(|settings| settings.client_id.as_str()))
            .unwrap_or_default(),
        can_revoke: known.is_some_and(Provider::can_revoke),
    }
}

fn preset_json(preset: &Preset) -> PresetJson<'_> {
    PresetJson {
        preset: &preset.name,
        title: &preset.about.title,
        needs: &preset.about.needs,
        register: preset.about.register.as_deref(),
        accept_terms_risk: preset.about.risk,
        terms: preset.about.terms.as_deref(),
        login_ends: preset.about.login_ends.as_deref(),
        idle_ends: preset.about.idle_ends.as_deref(),
    }
}

/// Returns the keys that the operator adds, in words.
fn needs(preset: &Preset) -> String {
    let risk = preset.about.risk.then_some("accept_terms_risk = true");
    let keys: Vec<&str> = preset.about.needs.iter().map(String::as_str).chain(risk).collect();
    if keys.is_empty() { "needs no more keys".to_owned() } else { format!("needs {}", keys.join(", ")) }
}
