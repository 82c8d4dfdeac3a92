//! Presets: providers as data. `presets.toml` has a section for each, in the keys of a provider's
//! section of the configuration, and a few keys about the preset itself.
//!
//! A program start reads only the sections that the configuration names, because `threadkey token`
//! runs often. So each section stands by itself between two lines that begin with `[`.

use std::{collections::BTreeMap, net::Ipv6Addr};

use serde::Deserialize;

/// The text of all presets.
const PRESETS: &str = include_str!("presets.toml");

/// A preset: a provider's settings without the parts that only the operator knows.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Its name in the configuration.
    pub name: String,
    /// The facts for the operator.
    pub about: PresetInfo,
    /// The settings, in the keys of a provider's section.
    pub settings: toml::Table,
}

/// The facts about a preset that are no settings of a provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PresetInfo {
    /// The provider's name for people.
    pub title: String,
    /// The keys that the operator adds.
    pub needs: Vec<String>,
    /// The page at which a client is registered.
    pub register: Option<String>,
    /// Whether the preset uses a client that its vendor registered for its own program. Then it
    /// needs `accept_terms_risk`.
    pub risk: bool,
    /// The vendor's terms, in a sentence.
    pub terms: Option<String>,
    /// The variables from which the vendor's own tools take a token, the first of them first. They are
    /// suggestions for `token_env`: nothing is read unless a section names it.
    pub vendor_token_env: Vec<String>,
    /// The time from the sign-in after which the login ends, whatever happens, such as `30d`.
    pub login_ends: Option<String>,
    /// The time without a refresh after which the login ends, such as `90d`.
    pub idle_ends: Option<String>,
}

/// The reason why the placeholders of a preset cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// The preset needs the key.
    #[error("the preset {preset} needs {key}")]
    Missing {
        /// The preset.
        preset: String,
        /// `host` or `tenant`.
        key: &'static str,
    },
    /// The preset has no such placeholder.
    #[error("the preset {preset} has no {key}: remove it")]
    Unused {
        /// The preset.
        preset: String,
        /// `host` or `tenant`.
        key: &'static str,
    },
    /// The value cannot stand in a URL.
    #[error(
        "{key} must be letters, digits and the characters . - _ : /, as in {}",
        if *key == "host" { "id.example.com or id.example.com:8443/base" } else { "example or example/users" }
    )]
    Value {
        /// `host` or `tenant`.
        key: &'static str,
    },
}

impl PlaceholderError {
    /// The key that the error is about.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Missing { key, .. } | Self::Unused { key, .. } | Self::Value { key } => key,
        }
    }
}

/// The keys whose values replace `{host}` and `{tenant}` in the endpoints of a preset.
const PLACEHOLDERS: [&str; 2] = ["host", "tenant"];

/// The keys of a preset's section that are no settings of a provider.
const INFO: [&str; 6] = ["title", "needs", "register", "risk", "terms", "vendor_token_env"];

/// Returns the preset of this name.
pub fn preset(name: &str) -> Option<Preset> {
    sections().find(|(section, _)| *section == name).map(|(name, text)| parse(name, text))
}

/// Returns all presets, by name.
pub fn presets() -> impl Iterator<Item = Preset> {
    sections().map(|(name, text)| parse(name, text))
}

/// Returns the names of all presets.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    sections().map(|(name, _)| name)
}

/// Returns the name and the lines of each section.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    PRESETS.split("\n[").skip(1).filter_map(|section| section.split_once("]\n"))
}

fn parse(name: &str, text: &str) -> Preset {
    Preset::parse(name, text).expect("a test parses every section")
}

impl Preset {
    /// Reads the section of a preset.
    ///
    /// # Errors
    /// The fault of the text, or of a key about the preset itself. The settings are not checked.
    pub fn parse(name: &str, text: &str) -> Result<Self, toml::de::Error> {
        let mut settings: toml::Table = toml::from_str(text)?;
        let keys: Vec<String> = settings.keys().cloned().collect();
        let is_info = |key: &str| INFO.contains(&key);
        let about = keys.iter().filter(|key| is_info(key)).filter_map(|key| settings.remove_entry(key));
        let mut about: toml::Table = about.collect();
        for key in ["login_ends", "idle_ends"] {
            about.extend(settings.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        let about = PresetInfo::deserialize(about)?;
        Ok(Self { name: name.to_owned(), about, settings })
    }

    /// Returns the section of a provider: the keys of `own`, and for each missing one that of the
    /// preset, with the placeholders filled in.
    ///
    /// # Errors
    /// [`PlaceholderError`] about `host` or `tenant`.
    pub fn overlaid(&self, own: &toml::Table) -> Result<toml::Table, PlaceholderError> {
        let values = self.placeholder_values(own)?;
        let mut section = own.clone();
        for (key, value) in &self.settings {
            if !PLACEHOLDERS.contains(&key.as_str()) && !section.contains_key(key) {
                section.insert(key.clone(), filled(value, &values));
            }
        }
        Ok(section)
    }

    fn placeholder_values(
        &self,
        own: &toml::Table,
    ) -> Result<BTreeMap<&'static str, String>, PlaceholderError> {
        let preset = || self.name.clone();
        let mut values = BTreeMap::new();
        for key in PLACEHOLDERS {
            let given = own.get(key).and_then(toml::Value::as_str).filter(|given| !given.is_empty());
            let is_used = self
                .settings
                .values()
                .any(|value| value.as_str().is_some_and(|text| text.contains(&format!("{{{key}}}"))));
            let value = given.or_else(|| self.settings.get(key).and_then(toml::Value::as_str));
            match (is_used, value) {
                (true, Some(value)) if if key == "host" { is_host(value) } else { is_url_part(value) } => {
                    drop(values.insert(key, value.to_owned()))
                }
                (true, Some(_)) => return Err(PlaceholderError::Value { key }),
                (true, None) => return Err(PlaceholderError::Missing { preset: preset(), key }),
                (false, _) if given.is_some() => {
                    return Err(PlaceholderError::Unused { preset: preset(), key });
                }
                (false, _) => {}
            }
        }
        Ok(values)
    }
}

/// Whether a text can be part of an endpoint without changing its scheme, query or user info, or the
/// other parts of its path.
fn is_url_part(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:/".contains(&b);
    text.bytes().all(is_allowed) && text.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// Whether a text is a name or an address, with a port and a path where there is one. An IPv6 address
/// stands in brackets (RFC 3986 §3.2.2).
fn is_host(text: &str) -> bool {
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with([':', '/']);
    match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() && is_end(rest) => {
            let named = format!("v6{rest}");
            is_url_part(&named) && begins_with_host(&named)
        }
        _ => is_url_part(text) && begins_with_host(text),
    }
}

/// Whether a text begins with a name or an IPv4 address, and a port if there is a colon.
fn begins_with_host(text: &str) -> bool {
    let authority = text.split('/').next().unwrap_or_default();
    let is_host = url::Url::parse(&format!("https://{authority}/")).is_ok();
    is_host && authority.starts_with(|first: char| first.is_ascii_alphanumeric()) && !authority.ends_with(':')
}

fn filled(value: &toml::Value, values: &BTreeMap<&'static str, String>) -> toml::Value {
    match value {
        toml::Value::String(text) => {
            let fill =
                |text: String, (key, value): (&&str, &String)| text.replace(&format!("{{{key}}}"), value);
            toml::Value::String(values.iter().fold(text.clone(), fill))
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
