//! The presets of `[inject.NAME]`.

use toml::{Table, Value};

use super::ConfigError;
use crate::ids::closest;

/// The upstreams, with a section for each preset.
const UPSTREAMS: &str = include_str!("../oauth/upstreams.toml");

fn upstreams() -> Table {
    UPSTREAMS.parse().expect("a test parses the file")
}

/// Completes each section that names a preset. `error_at` makes the error about a key.
pub(super) fn apply(
    table: &mut Table,
    error_at: impl Fn(&[&str], String) -> ConfigError,
) -> Result<(), ConfigError> {
    let Some(Value::Table(routes)) = table.get_mut("inject") else { return Ok(()) };
    for (name, section) in routes.iter_mut() {
        let Value::Table(own) = section else { continue };
        let Some(preset) = own.get("preset").and_then(Value::as_str).filter(|preset| !preset.is_empty())
        else {
            continue;
        };
        let presets = upstreams();
        let Some(Value::Table(keys)) = presets.get(preset) else {
            let shown: String = preset.chars().take(64).collect();
            let known = || presets.keys().map(String::as_str);
            let hint = match closest(&shown, known()) {
                Some(similar) => format!("did you mean {similar:?}?"),
                None => format!("the presets are: {}", known().collect::<Vec<_>>().join(", ")),
            };
            let problem = format!("inject.{name}.preset: there is no preset {shown:?}; {hint}");
            return Err(error_at(&["inject", name, "preset"], problem));
        };
        for (key, value) in keys {
            if !own.contains_key(key) {
                own.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(())
}
