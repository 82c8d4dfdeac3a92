//! A typed command in the form of Discord's client, which sends only commands that the bot
//! registered.

use serde_json::{Value, json};

use super::rules::utf16;
use super::world::{Id, World};

const SUB_COMMAND: u64 = 1;
const SUB_COMMAND_GROUP: u64 = 2;

/// A typed command: its path (`auth start`), its options, and the option being typed if it is
/// autocompleted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Typed<'a> {
    pub path: &'a str,
    pub options: &'a [(&'a str, &'a str)],
    pub focused: Option<&'a str>,
}

impl World {
    /// The interaction data that the client would send, or why it would not.
    pub(crate) fn typed(&self, user: Id, channel: Id, typed: Typed<'_>) -> Result<Value, String> {
        if !self.can_see(user, channel) {
            return Err("this channel is hidden from them".into());
        }
        let mut names = typed.path.trim_start_matches('/').split_whitespace();
        let name = names.next().unwrap_or_default();
        let usable = self.commands_in(user, channel);
        let Some(command) = usable.iter().find(|command| command["name"] == name) else {
            let known: Vec<&str> = usable.iter().filter_map(|c| c["name"].as_str()).collect();
            return Err(format!("there is no command /{name} here, only {known:?}"));
        };
        let mut data = json!({"id": command["id"], "name": name, "type": 1});
        if let Some(guild) = command["guild_id"].as_str() {
            data["guild_id"] = json!(guild);
        }
        let names: Vec<&str> = names.collect();
        data["options"] = json!(branch(command, &names, typed)?);
        Ok(data)
    }
}

/// Follows the subcommands, then takes the options.
fn branch(level: &Value, names: &[&str], typed: Typed<'_>) -> Result<Vec<Value>, String> {
    let known = level["options"].as_array().cloned().unwrap_or_default();
    let nested = |option: &Value| matches!(option["type"].as_u64(), Some(SUB_COMMAND | SUB_COMMAND_GROUP));
    match names.split_first() {
        None if known.iter().any(nested) => Err(format!("/{} needs a subcommand", typed.path)),
        None => options(&known, typed),
        Some((name, rest)) => {
            let found = known.iter().filter(|o| nested(o)).find(|o| o["name"] == **name);
            let Some(found) = found else {
                return Err(format!("/{} has no subcommand {name:?}", typed.path));
            };
            let below = branch(found, rest, typed)?;
            Ok(vec![json!({"name": name, "type": found["type"], "options": below})])
        }
    }
}

fn options(known: &[Value], typed: Typed<'_>) -> Result<Vec<Value>, String> {
    for wanted in known.iter().filter(|o| o["required"] == true && typed.focused.is_none()) {
        if !typed.options.iter().any(|(name, _)| wanted["name"] == *name) {
            return Err(format!("the option {} is required", wanted["name"]));
        }
    }
    typed
        .options
        .iter()
        .map(|(name, text)| {
            let option = known
                .iter()
                .find(|option| option["name"] == *name)
                .ok_or_else(|| format!("/{} has no option {name:?}", typed.path))?;
            let focused = typed.focused == Some(*name);
            if focused {
                if option["autocomplete"] != true {
                    return Err(format!("the option {name:?} is not autocompleted"));
                }
                return Ok(json!({"name": name, "type": option["type"], "value": text, "focused": true}));
            }
            let value = value(option, text).map_err(|why| format!("option {name:?}: {why}"))?;
            Ok(json!({"name": name, "type": option["type"], "value": value}))
        })
        .collect()
}

fn value(option: &Value, text: &str) -> Result<Value, String> {
    let value = match option["type"].as_u64() {
        Some(3) => json!(text),
        Some(4) => json!(text.parse::<i64>().map_err(|e| e.to_string())?),
        Some(5) => json!(text.parse::<bool>().map_err(|e| e.to_string())?),
        Some(10) => json!(text.parse::<f64>().map_err(|e| e.to_string())?),
        other => return Err(format!("the look-alike types no option of type {other:?}")),
    };
    let choices = option["choices"].as_array().filter(|choices| !choices.is_empty());
    if choices.is_some_and(|choices| !choices.iter().any(|choice| choice["value"] == value)) {
        return Err(format!("{value} is none of the choices"));
    }
    let units = u64::try_from(utf16(text)).unwrap_or(u64::MAX);
    let (min, max) = (option["min_length"].as_u64(), option["max_length"].as_u64());
    let short = min.is_some_and(|min| units < min);
    // The client itself stops at 6,000 characters.
    if option["type"] == 3 && (short || units > max.unwrap_or(6_000)) {
        return Err(format!("{units} characters do not fit {min:?} to {max:?}"));
    }
    Ok(value)
}
