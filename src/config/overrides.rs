//! `THREADKEY_SECTION__KEY`: the environment over the file.
//!
//! Two underscores part the names; names are lower case, but for those of `agent.env`. In a provider's name `-` and `.` are
//! written `_`. A list is a TOML list, or its items with commas between.

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{ConfigError, Place, Variables, file::File, words::in_words};

const PREFIX: &str = "THREADKEY_";

/// One variable that sets one key.
#[derive(Debug)]
pub(super) struct Override {
    pub(super) variable: String,
    pub(super) key: Vec<String>,
    value: Value,
}

/// All of them, each checked by itself, so that the wrong one can be named.
pub(super) fn find(variables: &Variables, file: &File) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let Some(key) = key(&name[PREFIX.len()..], file) else { continue };
        let wrong = |what: String| ConfigError::Invalid { place: Place::Variable(name.to_owned()), what };
        let text = value.to_str().ok_or_else(|| wrong("its value is no UTF-8".into()))?;
        let value = fitting(&key, text).map_err(wrong)?;
        found.push(Override { variable: name.to_owned(), key, value });
    }
    Ok(found)
}

/// Puts it over what the file says.
pub(super) fn put(table: &mut Table, one: &Override) -> Result<(), ConfigError> {
    let mut table = table;
    let Some((last, way)) = one.key.split_last() else { return Ok(()) };
    for part in way {
        let next = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
        table = next.as_table_mut().ok_or_else(|| ConfigError::Invalid {
            place: Place::Variable(one.variable.clone()),
            what: format!("`{part}` is no section"),
        })?;
    }
    table.insert(last.clone(), one.value.clone());
    Ok(())
}

/// The key that a variable names; `None` for variables that are no overrides, such as `THREADKEY_LOG`.
fn key(rest: &str, file: &File) -> Option<Vec<String>> {
    let mut parts = rest.splitn(3, "__");
    let section = parts.next()?.to_lowercase();
    let second = parts.next()?;
    let Some(third) = parts.next() else { return Some(vec![section, second.to_lowercase()]) };
    if section == "agent" && second.eq_ignore_ascii_case("env") {
        return Some(vec![section, "env".into(), third.to_owned()]);
    }
    let mut key = vec![section, second.to_lowercase()];
    if key[0] == "providers" {
        key[1] = provider(&key[1], file);
    }
    key.extend(third.split("__").map(str::to_lowercase));
    Some(key)
}

/// The provider that the file has under that name, with `-` and `.` for `_`.
fn provider(named: &str, file: &File) -> String {
    let written = |id: &str| id.replace(['-', '.'], "_");
    let mut ids = file.providers.keys().map(|name| name.0.as_str());
    ids.find(|id| written(id) == named).unwrap_or(named).to_owned()
}

/// The text as the first of these that the key takes: a string, a TOML value, a list of what stands between the commas.
fn fitting(key: &[String], text: &str) -> Result<Value, String> {
    let string = Value::String(text.to_owned());
    let error = match check(key, &string) {
        Ok(()) => return Ok(string),
        Err(error) => error,
    };
    let literal = toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut t| t.remove("v"));
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let list = Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    for candidate in literal.into_iter().chain([list]) {
        if check(key, &candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(in_words(&error))
}

fn check(key: &[String], value: &Value) -> Result<(), String> {
    let nested = key.iter().rev().fold(value.clone(), |inner, part| {
        let mut table = Table::new();
        table.insert(part.clone(), inner);
        Value::Table(table)
    });
    File::deserialize(nested).map(drop).map_err(|error| error.message().to_owned())
}
