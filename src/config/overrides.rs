//! `THREADKEY_SECTION__KEY`: environment variables override the file.
//!
//! Two underscores separate the names. Names are lower case, except those of `agent.env` and `agents.NAME.env`. In a
//! provider's name `-` and `.` become `_`. A list is a TOML list, or its items separated by commas.

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{ConfigError, Place, Variables, diagnostics::explain, file::File};

const PREFIX: &str = "THREADKEY_";

/// A variable that sets one key.
#[derive(Debug)]
pub(super) struct Override {
    pub(super) variable: String,
    pub(super) key: Vec<String>,
    value: Value,
}

/// Returns all overrides. Each is checked separately, so that an error names its variable.
pub(super) fn find(variables: &Variables, file: &File) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let Some(key) = key_path(&name[PREFIX.len()..], file) else { continue };
        let invalid =
            |problem: String| ConfigError::Invalid { place: Place::Variable(name.to_owned()), problem };
        let text = value.to_str().ok_or_else(|| invalid("the value is not UTF-8".into()))?;
        let value = parse_value(&key, text).map_err(invalid)?;
        found.push(Override { variable: name.to_owned(), key, value });
    }
    Ok(found)
}

/// Sets the key in the table of the file.
pub(super) fn apply(table: &mut Table, setting: &Override) -> Result<(), ConfigError> {
    let mut table = table;
    let Some((last, sections)) = setting.key.split_last() else { return Ok(()) };
    for section in sections {
        let next = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        table = next.as_table_mut().ok_or_else(|| ConfigError::Invalid {
            place: Place::Variable(setting.variable.clone()),
            problem: format!("`{section}` is not a section"),
        })?;
    }
    table.insert(last.clone(), setting.value.clone());
    Ok(())
}

/// Returns the key that a variable sets, or `None` for another variable, such as `THREADKEY_LOG`.
fn key_path(name: &str, file: &File) -> Option<Vec<String>> {
    let mut parts = name.splitn(3, "__");
    let section = parts.next()?.to_lowercase();
    let second = parts.next()?;
    let Some(third) = parts.next() else { return Some(vec![section, second.to_lowercase()]) };
    if section == "agent" && second.eq_ignore_ascii_case("env") {
        return Some(vec![section, "env".into(), third.to_owned()]);
    }
    if section == "agents"
        && let Some((env, variable)) =
            third.split_once("__").filter(|(key, _)| key.eq_ignore_ascii_case("env"))
    {
        let name = agent_name(&second.to_lowercase(), file);
        return Some(vec![section, name, env.to_lowercase(), variable.to_owned()]);
    }
    let mut key = vec![section, second.to_lowercase()];
    match key[0].as_str() {
        "providers" => key[1] = provider_id(&key[1], file),
        "agents" => key[1] = agent_name(&key[1], file),
        _ => {}
    }
    key.extend(third.split("__").map(str::to_lowercase));
    Some(key)
}

/// Returns the provider of the file with this name in a variable, where `_` stands for `-` and `.`
/// too.
fn provider_id(name: &str, file: &File) -> String {
    let in_variables = |id: &str| id.replace(['-', '.'], "_");
    let mut ids = file.providers.keys().map(|id| id.0.as_str());
    ids.find(|id| in_variables(id) == name).unwrap_or(name).to_owned()
}

/// Returns the agent of the file with this name in a variable, where `_` stands for `-` too.
fn agent_name(name: &str, file: &File) -> String {
    let mut names = file.agents.keys().map(|key| key.0.as_str());
    names.find(|known| known.replace('-', "_") == name).unwrap_or(name).to_owned()
}

/// Parses the text as the first form that the key accepts: a string, a TOML value, a list with
/// commas.
fn parse_value(key: &[String], text: &str) -> Result<Value, String> {
    let string = Value::String(text.to_owned());
    let error = match check(key, &string) {
        Ok(()) => return Ok(string),
        Err(error) => error,
    };
    let toml_value = toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut t| t.remove("v"));
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let list = Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    for value in toml_value.into_iter().chain([list]) {
        if check(key, &value).is_ok() {
            return Ok(value);
        }
    }
    Err(explain(&error))
}

/// Checks that a file with this value alone is accepted. The error is the parser's.
fn check(key: &[String], value: &Value) -> Result<(), String> {
    let nested = key.iter().rev().fold(value.clone(), |inner, part| {
        let mut table = Table::new();
        table.insert(part.clone(), inner);
        Value::Table(table)
    });
    File::deserialize(nested).map(drop).map_err(|error| error.message().to_owned())
}
