//! `preset` of a provider's section: fills in the keys that the section leaves out.

use toml::{Table, Value};

use super::ConfigError;
use crate::{
    ids::closest,
    oauth::{Preset, preset, preset_names},
    session::GrantKind,
};

/// Completes each section of a provider that names a preset. `error_at` makes the error about a key.
pub(super) fn apply(
    table: &mut Table,
    error_at: impl Fn(&[&str], String) -> ConfigError,
) -> Result<(), ConfigError> {
    let Some(Value::Table(providers)) = table.get_mut("providers") else { return Ok(()) };
    for (id, section) in providers.iter_mut() {
        let Value::Table(own) = section else { continue };
        let Some(name) = own.get("preset").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            continue;
        };
        let error = |key: &str, problem: String| error_at(&["providers", id, key], problem);
        let preset = preset(name).ok_or_else(|| error("preset", unknown(id, name)))?;
        check_terms(own, &preset).map_err(|problem| error("accept_terms_risk", problem))?;
        let overlaid = preset
            .overlaid(own)
            .map_err(|problem| error(problem.key(), format!("providers.{id}: {problem}")))?;
        check_needs(&overlaid, &preset)
            .map_err(|problem| error("preset", format!("providers.{id}: {problem}")))?;
        let mut overlaid = overlaid;
        // A vendor's client has one redirect URI, and does not take that of our public pages.
        if !own.contains_key("redirect_uri")
            && overlaid.contains_key("redirect_uri")
            && !overlaid.contains_key("paste_only")
        {
            overlaid.insert("paste_only".to_owned(), Value::Boolean(true));
        }
        *own = overlaid;
    }
    Ok(())
}

fn unknown(id: &str, name: &str) -> String {
    let shown: String = name.chars().take(64).collect();
    let similar = closest(name, preset_names()).map(|similar| format!(" Did you mean {similar:?}?"));
    format!(
        "providers.{id}.preset: there is no preset {shown:?}.{} `threadkey providers` lists the presets",
        similar.unwrap_or_default()
    )
}

/// Refuses a vendor's own client, unless the operator accepts the risk.
fn check_terms(own: &Table, preset: &Preset) -> Result<(), String> {
    let is_accepted = own.get("accept_terms_risk").and_then(Value::as_bool).unwrap_or(false);
    if !preset.about.risk || is_accepted {
        return Ok(());
    }
    Err(format!(
        "the preset {:?} uses a client that its vendor made for its own program. {} If you take that risk, add accept_terms_risk = true",
        preset.name,
        preset.about.terms.as_deref().unwrap_or_default()
    ))
}

/// Whether a section offers the sign-in by a code, which it does unless its grants omit it.
fn offers_code(section: &Table) -> bool {
    let grants = section.get("grants").and_then(Value::as_array);
    grants.is_none_or(|grants| grants.iter().any(|grant| grant.as_str() == Some(GrantKind::Code.name())))
}

/// Names a key that only the operator knows and that is missing.
fn check_needs(section: &Table, preset: &Preset) -> Result<(), String> {
    let is_set = |need: &str| match need {
        "client_secret" => {
            ["client_secret_env", "client_secret_file", "client_secret_command", "client_key_file"]
                .iter()
                .any(|key| section.contains_key(*key))
        }
        // Only the code comes back to an address.
        "redirect_uri" => section.contains_key("redirect_uri") || !offers_code(section),
        need => section.contains_key(need),
    };
    let Some(missing) = preset.about.needs.iter().find(|need| !is_set(need)) else { return Ok(()) };
    let key = if missing == "client_secret" { "client_secret_env" } else { missing };
    let register = preset.about.register.as_ref();
    let register = register.map(|page| format!(" You register a client at {page}.")).unwrap_or_default();
    Err(format!("the preset {:?} needs {key}.{register}", preset.name))
}
