//! `threadkey providers`: the configured providers, and the presets for further ones.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{Failure, json_line, print_notice};
use crate::{
    oauth::{Preset, Provider, Providers, Publisher, Undiscovered, preset, presets},
    session::LoginLimits,
};

#[derive(Serialize)]
struct ListJson<'a> {
    configured: Vec<ProviderJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undiscovered: Vec<UndiscoveredJson<'a>>,
    presets: Vec<PresetJson<'a>>,
}

#[derive(Serialize)]
struct ProviderJson<'a> {
    provider: &'a str,
    preset: Option<&'a str>,
    token_endpoint: &'a str,
    client_id: String,
    can_revoke: bool,
    grants: Vec<&'static str>,
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

/// A provider whose endpoints a server publishes, before they are known.
#[derive(Serialize)]
struct UndiscoveredJson<'a> {
    provider: &'a str,
    preset: Option<&'a str>,
    publisher: String,
}

#[derive(Serialize)]
struct PresetJson<'a> {
    preset: &'a str,
    title: &'a str,
    /// The keys that a section adds.
    needs: &'a [String],
    grants: Vec<&'static str>,
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
    let undiscovered: Vec<_> = providers
        .ids()
        .filter(|id| providers.get(id).is_none())
        .filter_map(|id| providers.undiscovered(id))
        .collect();
    let presets: Vec<_> = presets().collect();
    if json {
        return json_line(&ListJson {
            configured: configured.iter().map(|provider| provider_json(provider)).collect(),
            undiscovered: undiscovered.iter().map(|one| undiscovered_json(one)).collect(),
            presets: presets.iter().map(preset_json).collect(),
        });
    }
    if configured.is_empty() && undiscovered.is_empty() {
        print_notice(
            "No provider is configured: add a section [providers.NAME] to the configuration. `threadkey doctor` names the file.",
        );
    }
    let mut text = String::new();
    let width = providers.ids().map(|id| id.as_str().len()).max().unwrap_or(0);
    for provider in configured {
        let _ = writeln!(text, "{:width$}  {}", provider.id().as_str(), provider.token_endpoint());
        let mut facts = vec![format!("grants: {}", grants(true).join(", "))];
        facts.extend(ends(*provider.login_limits()));
        facts.extend(
            provider.keepalive().map(|every| format!("idle logins are refreshed after {}", span(every))),
        );
        let _ = writeln!(text, "{:width$}  {}", "", facts.join("; "));
        if let Some(terms) = provider.preset().and_then(preset).and_then(|preset| preset.about.terms) {
            let _ = writeln!(text, "{:width$}  {terms}", "");
        }
    }
    for one in undiscovered {
        let _ = writeln!(
            text,
            "{:width$}  endpoints not yet known: {}",
            one.id.as_str(),
            publisher(&one.publisher)
        );
    }
    text.push_str("\nPresets, each for a section with preset = \"NAME\" and the keys that it needs:\n\n");
    let width = presets.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    for preset in &presets {
        let _ = writeln!(text, "{:width$}  {}: {}", preset.name, preset.about.title, needs(preset));
        let mut facts = vec![format!(
            "grants: {}",
            grants(preset.settings.contains_key("authorization_endpoint")).join(", ")
        )];
        let about = &preset.about;
        facts.extend(about.login_ends.as_ref().map(|time| format!("a login ends {time} after the sign-in")));
        facts.extend(about.idle_ends.as_ref().map(|time| format!("an idle login ends after {time}")));
        let _ = writeln!(text, "{:width$}  {}", "", facts.join("; "));
        if let Some(terms) = &about.terms {
            let _ = writeln!(text, "{:width$}  {terms}", "");
        }
    }
    Ok(text)
}

/// The grants that a sign-in can use (RFC 6749 §4.1, and its refresh).
fn grants(has_code: bool) -> Vec<&'static str> {
    has_code.then_some("authorization_code").into_iter().collect()
}

/// The known ends of a provider's logins, in words.
fn ends(limits: LoginLimits) -> impl Iterator<Item = String> {
    let login = limits.login.map(|time| format!("a login ends {} after the sign-in", span(time)));
    let idle = limits.idle.map(|time| format!("an idle login ends after {}", span(time)));
    login.into_iter().chain(idle)
}

/// A time in the largest unit of the configuration that fits.
fn span(time: Duration) -> String {
    match time.as_secs() {
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s => format!("{s}s"),
    }
}

fn publisher(publisher: &Publisher) -> String {
    match publisher {
        Publisher::Issuer(issuer) => issuer.clone(),
        Publisher::Mcp(url) => url.to_string(),
    }
}

fn undiscovered_json(one: &Undiscovered) -> UndiscoveredJson<'_> {
    UndiscoveredJson {
        provider: one.id.as_str(),
        preset: one.settings.preset.as_deref(),
        publisher: publisher(&one.publisher),
    }
}

fn provider_json(provider: &Provider) -> ProviderJson<'_> {
    ProviderJson {
        provider: provider.id().as_str(),
        preset: provider.preset(),
        token_endpoint: provider.token_endpoint().as_str(),
        client_id: provider.binding().client_id,
        can_revoke: provider.can_revoke(),
        grants: grants(true),
        terms: provider.preset().and_then(preset).and_then(|preset| preset.about.terms),
        login_ends: provider.login_limits().login.map(|time| time.as_secs()),
        idle_ends: provider.login_limits().idle.map(|time| time.as_secs()),
        keepalive: provider.keepalive().map(|time| time.as_secs()),
    }
}

fn preset_json(preset: &Preset) -> PresetJson<'_> {
    PresetJson {
        preset: &preset.name,
        title: &preset.about.title,
        needs: &preset.about.needs,
        grants: grants(preset.settings.contains_key("authorization_endpoint")),
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
