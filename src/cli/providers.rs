//! `threadkey providers`: the configured providers, and the presets for further ones.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Failure, json_line, print_notice};
use crate::oauth::{Preset, Provider, Providers, presets};

#[derive(Serialize)]
struct ListJson<'a> {
    configured: Vec<ProviderJson<'a>>,
    presets: Vec<PresetJson<'a>>,
}

#[derive(Serialize)]
struct ProviderJson<'a> {
    provider: &'a str,
    preset: Option<&'a str>,
    token_endpoint: &'a str,
    client_id: String,
    can_revoke: bool,
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
pub fn list(providers: &Providers, json: bool) -> Result<String, Failure> {
    let configured: Vec<_> = providers.usable().collect();
    let presets: Vec<_> = presets().collect();
    if json {
        return json_line(&ListJson {
            configured: configured.iter().map(|provider| provider_json(provider)).collect(),
            presets: presets.iter().map(preset_json).collect(),
        });
    }
    if configured.is_empty() {
        print_notice(
            "No provider is configured: add a section [providers.NAME] to the configuration. `threadkey doctor` names the file.",
        );
    }
    let mut text = String::new();
    let width = configured.iter().map(|provider| provider.id().as_str().len()).max().unwrap_or(0);
    for provider in configured {
        let _ = writeln!(text, "{:width$}  {}", provider.id().as_str(), provider.token_endpoint());
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

fn provider_json(provider: &Provider) -> ProviderJson<'_> {
    ProviderJson {
        provider: provider.id().as_str(),
        preset: provider.preset(),
        token_endpoint: provider.token_endpoint().as_str(),
        client_id: provider.binding().client_id,
        can_revoke: provider.can_revoke(),
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
