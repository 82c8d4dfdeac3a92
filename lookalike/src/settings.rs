//! Pieces of threadkey.toml.

/// A `[providers.NAME]` section with written-out endpoints. The values are addresses and names of
/// our own, so that TOML has nothing to escape in them.
pub fn provider_section(name: &str, settings: &[(&str, &str)], scopes: &[&str]) -> String {
    let mut section = format!("[providers.{name}]\n");
    for (key, value) in settings {
        section.push_str(&format!("{key} = {value:?}\n"));
    }
    section.push_str(&format!("scopes = {scopes:?}\n"));
    // Both servers refuse an exchange without the right verifier.
    section.push_str("enforces_pkce = true\n");
    section
}
