//! The facts that `threadkey providers` lists, for its text and its JSON.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    ids::ProviderId,
    oauth::{EnvironmentToken, Exchange, Preset, Provider, Undiscovered, preset},
    session::{GrantKind, LoginLimits},
};

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
    pub(super) preset: Option<&'a str>,
    pub(super) client_id: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) scope_form: Option<ScopeForm<'a>>,
    pub(super) limits: LoginLimits,
    pub(super) keepalive: Option<Duration>,
    pub(super) terms: Option<String>,
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
