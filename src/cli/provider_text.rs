//! The text of `threadkey providers`: one paragraph for each provider and preset, at most 100 columns
//! wide.

use std::{fmt::Write as _, time::Duration};

use super::{
    duration_text,
    provider_facts::{Configured, ScopeForm, preset_grants, preset_scope_form, preset_scopes, text_of},
};
use crate::{ids::UnixTime, oauth::Preset, session::LoginLimits};

/// The widest line, in columns. Only a longer word, such as a URL, makes it wider.
const COLUMNS: usize = 100;

/// Returns the text about the configured providers and the presets.
pub(super) fn text(configured: &[Configured], presets: &[Preset], now: UnixTime) -> String {
    let mut text = String::new();
    let width = configured.iter().map(|provider| provider.id.as_str().len()).max().unwrap_or(0);
    for provider in configured {
        add(&mut text, width, provider.id.as_str(), &about_provider(provider, now));
    }
    text.push_str(
        "\nPresets, each for a section with preset = \"NAME\" and the keys that it needs. The first grant is the\n\
         default; `grants` turns on the others, and `token_env` the token of the environment:\n\n",
    );
    let width = presets.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    for preset in presets {
        add(&mut text, width, &preset.name, &about_preset(preset));
    }
    text
}

/// Returns the lines about a configured provider.
fn about_provider(provider: &Configured, now: UnixTime) -> Vec<String> {
    let settings = provider.settings();
    let mut facts = vec![format!("grants: {}", provider.grants().join(", "))];
    let is_given = !settings.scopes.is_empty();
    // Without scopes of its own, a provider takes those that the server publishes.
    let is_known = is_given || provider.known.is_some();
    facts.extend(settings.scope_form.filter(|_| is_known).map(|form| scopes(form, is_given)));
    facts.extend(provider.can_revoke().map(revocation));
    facts.extend(ends(settings.limits));
    facts.extend(settings.keepalive.map(|every| format!("idle logins are refreshed after {}", span(every))));
    facts.extend(
        provider
            .environment
            .as_ref()
            .map(|token| format!("the token of {} goes before the session", token.variable)),
    );
    let mut lines = described(provider, now);
    lines.push(facts.join("; "));
    lines.extend(settings.terms);
    lines
}

/// Returns the lines about a preset.
fn about_preset(preset: &Preset) -> Vec<String> {
    let about = &preset.about;
    let is_given = !preset_scopes(preset).is_empty() || about.needs.iter().any(|key| key == "scopes");
    let mut facts = vec![
        format!("grants: {}", preset_grants(preset).join(", ")),
        scopes(preset_scope_form(preset), is_given),
        revocation(text_of(preset, "revocation_endpoint").is_some()),
    ];
    facts.extend(about.login_ends.as_ref().map(|time| format!("a login ends {time} after the sign-in")));
    facts.extend(about.idle_ends.as_ref().map(|time| format!("an idle login ends after {time}")));
    let mut lines = vec![format!("{}: {}", about.title, needs(preset)), facts.join("; ")];
    if !about.vendor_token_env.is_empty() {
        lines.push(format!("token_env may name {}", about.vendor_token_env.join(", ")));
    }
    lines.extend(about.register.as_ref().map(|page| format!("register a client at {page}")));
    lines.extend(about.terms.clone());
    lines
}

/// Describes the endpoints of a provider in lines: the address, and the server that publishes it with
/// the age of the fetch.
fn described(provider: &Configured, now: UnixTime) -> Vec<String> {
    if let Some(exchange) = &provider.exchange {
        return vec![format!("exchanges the tokens of {}", exchange.from())];
    }
    let publisher = provider.undiscovered.as_ref().map(|undiscovered| undiscovered.publisher.as_str());
    let address = provider.known.as_ref().map(|known| known.token_endpoint().to_string());
    let published = match (&provider.known, publisher) {
        (Some(known), Some(publisher)) => {
            let fetched_at = known.discovered().map_or(now, |found| found.fetched_at);
            let age = duration_text(now.saturating_sub(fetched_at));
            Some(format!("published by {publisher}, fetched {age} ago"))
        }
        (None, Some(publisher)) => Some(format!(
            "published by {publisher}, not fetched yet: `threadkey doctor` or a sign-in fetches it"
        )),
        (_, None) => None,
    };
    address.into_iter().chain(published).collect()
}

/// Returns the keys that the operator adds, in words.
fn needs(preset: &Preset) -> String {
    let risk = preset.about.risk.then_some("accept_terms_risk = true");
    let keys: Vec<&str> = preset.about.needs.iter().map(String::as_str).chain(risk).collect();
    if keys.is_empty() { "needs no more keys".to_owned() } else { format!("needs {}", keys.join(", ")) }
}

/// Returns the form of the scopes, in words.
fn scopes(form: ScopeForm<'_>, is_given: bool) -> String {
    if !is_given {
        return "scopes: none".to_owned();
    }
    let separator = if form.separator == "," { "commas" } else { "spaces" };
    let parameter = if form.parameter == "scope" { String::new() } else { format!(" in {}", form.parameter) };
    format!("scopes: with {separator}{parameter}")
}

fn revocation(can_revoke: bool) -> String {
    format!("revocation: {}", if can_revoke { "yes" } else { "no" })
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

/// Adds lines below each other, with the name before the first. A line that is too long is wrapped.
fn add(text: &mut String, width: usize, name: &str, lines: &[String]) {
    let mut name = name;
    for line in lines {
        let mut rest = String::new();
        for word in line.split(' ') {
            if !rest.is_empty() && width + 3 + rest.len() + word.len() > COLUMNS {
                let _ = writeln!(text, "{name:width$}  {rest}");
                (name, rest) = ("", String::new());
            }
            let blank = if rest.is_empty() { "" } else { " " };
            rest = format!("{rest}{blank}{word}");
        }
        let _ = writeln!(text, "{name:width$}  {rest}");
        name = "";
    }
}
