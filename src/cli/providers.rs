//! `threadkey providers`: the configured providers, and the presets for further ones.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Failure, duration_text, json_line, print_notice};
use crate::{
    ids::{ProviderId, UnixTime},
    oauth::{Preset, Provider, Providers, Undiscovered, preset, presets},
    session::LoginLimits,
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
        let settings = provider.settings();
        let mut facts = vec![format!("grants: {}", grants(true).join(", "))];
        facts.extend(ends(settings.limits));
        facts.extend(
            settings.keepalive.map(|every| format!("idle logins are refreshed after {}", span(every))),
        );
        let _ = writeln!(text, "{:width$}  {}", "", facts.join("; "));
        if let Some(terms) = settings.terms {
            let _ = writeln!(text, "{:width$}  {terms}", "");
        }
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

/// The facts about a provider that the configuration has, discovered or not.
struct Settings<'a> {
    preset: Option<&'a str>,
    client_id: &'a str,
    limits: LoginLimits,
    keepalive: Option<Duration>,
    terms: Option<String>,
}

impl Configured {
    fn settings(&self) -> Settings<'_> {
        let (known, own) = (self.known.as_deref(), self.undiscovered.as_deref().map(|one| &one.settings));
        let preset_name = known.and_then(Provider::preset).or(own.and_then(|own| own.preset.as_deref()));
        Settings {
            preset: preset_name,
            client_id: known
                .map(Provider::client_id)
                .or(own.map(|own| own.client_id.as_str()))
                .unwrap_or_default(),
            limits: known
                .map(|known| *known.login_limits())
                .or(own.map(|own| own.login_limits))
                .unwrap_or_default(),
            keepalive: known.and_then(Provider::keepalive).or(own.and_then(|own| own.keepalive)),
            terms: preset_name.and_then(preset).and_then(|preset| preset.about.terms),
        }
    }
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

fn provider_json(provider: &Configured) -> ProviderJson<'_> {
    let (known, settings) = (provider.known.as_deref(), provider.settings());
    ProviderJson {
        provider: provider.id.as_str(),
        preset: settings.preset,
        publisher: provider.undiscovered.as_ref().map(|undiscovered| undiscovered.publisher.as_str()),
        discovered_at: known.and_then(Provider::discovered).map(|found| found.fetched_at),
        token_endpoint: known.map(|known| known.token_endpoint().as_str()),
        client_id: settings.client_id,
        can_revoke: known.is_some_and(Provider::can_revoke),
        grants: grants(true),
        terms: settings.terms,
        login_ends: settings.limits.login.map(|time| time.as_secs()),
        idle_ends: settings.limits.idle.map(|time| time.as_secs()),
        keepalive: settings.keepalive.map(|time| time.as_secs()),
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
