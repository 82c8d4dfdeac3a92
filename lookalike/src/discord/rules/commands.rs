//! The rules for command definitions.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Checked, length, list, utf16};

const SUB_COMMAND: u64 = 1;
const SUB_COMMAND_GROUP: u64 = 2;

/// A whole set of commands, as in a bulk overwrite.
pub(crate) fn commands(given: &[Value]) -> Checked {
    if given.len() > 100 {
        return Err(format!("{} commands; Discord takes 100", given.len()));
    }
    let mut names = BTreeSet::new();
    for command in given {
        let shown = &command["name"];
        let kind = command["type"].as_u64().unwrap_or(1);
        if !names.insert((kind, shown.as_str().unwrap_or_default())) {
            return Err(format!("two commands are named {shown}"));
        }
        one(command, kind).map_err(|why| format!("command {shown}: {why}"))?;
    }
    Ok(())
}

fn one(command: &Value, kind: u64) -> Checked {
    match kind {
        1 => {
            name(&command["name"])?;
            length("description", &command["description"], 1, 100)?;
            options(list(command, "options"), 0)?;
        }
        2 | 3 => {
            length("name", &command["name"], 1, 32)?;
            if command["description"].as_str().is_some_and(|text| !text.is_empty()) {
                return Err("a user or message command has no description".into());
            }
        }
        other => return Err(format!("the type {other}")),
    }
    let size = characters(command);
    if size > 8000 {
        return Err(format!("{size} characters in names, descriptions and values; Discord takes 8000"));
    }
    Ok(())
}

/// `^[-_'\p{L}\p{N}\p{sc=Deva}\p{sc=Thai}]{1,32}$`, in lower case where there is one.
fn name(name: &Value) -> Checked {
    let text = name.as_str().unwrap_or_default();
    let allowed = |c: char| {
        let script = ('\u{900}'..='\u{97f}').contains(&c) || ('\u{e00}'..='\u{e7f}').contains(&c);
        c.is_alphanumeric() || matches!(c, '-' | '_' | '\'') || script
    };
    let count = text.chars().count();
    if !(1..=32).contains(&count) || !text.chars().all(allowed) || text.to_lowercase() != text {
        return Err(format!("{name} is not a name that Discord takes"));
    }
    Ok(())
}

fn options(given: &[Value], depth: u8) -> Checked {
    if given.len() > 25 {
        return Err(format!("{} options; Discord takes 25", given.len()));
    }
    let mut names = BTreeSet::new();
    let mut optional_seen = false;
    let nested = |option: &Value| matches!(option["type"].as_u64(), Some(SUB_COMMAND | SUB_COMMAND_GROUP));
    let branches = given.iter().filter(|option| nested(option)).count();
    if branches != 0 && branches != given.len() {
        return Err("subcommands and plain options side by side".into());
    }
    for option in given {
        let shown = &option["name"];
        name(shown)?;
        length("an option's description", &option["description"], 1, 100)?;
        if !names.insert(shown.as_str().unwrap_or_default()) {
            return Err(format!("two options are named {shown}"));
        }
        match (option["type"].as_u64(), depth) {
            (Some(SUB_COMMAND), 0 | 1) => options(list(option, "options"), 2)?,
            (Some(SUB_COMMAND_GROUP), 0) => options(list(option, "options"), 1)?,
            (Some(3..=11), 0 | 2) => {
                let required = option["required"].as_bool().unwrap_or(false);
                if required && optional_seen {
                    return Err(format!("the required option {shown} after an optional one"));
                }
                optional_seen |= !required;
                choices(option)?;
            }
            (kind, _) => return Err(format!("option {shown} of type {kind:?} cannot stand here")),
        }
    }
    Ok(())
}

fn choices(option: &Value) -> Checked {
    let given = list(option, "choices");
    if !given.is_empty() && option["autocomplete"].as_bool().unwrap_or(false) {
        return Err(format!("option {} has both choices and autocomplete", option["name"]));
    }
    super::choices(given)
}

fn characters(part: &Value) -> usize {
    let own: usize = ["name", "description"].iter().map(|key| part[*key].as_str().map_or(0, utf16)).sum();
    let choices: usize = list(part, "choices")
        .iter()
        .map(|choice| choice["name"].as_str().map_or(0, utf16) + choice["value"].as_str().map_or(0, utf16))
        .sum();
    own + choices + list(part, "options").iter().map(characters).sum::<usize>()
}
