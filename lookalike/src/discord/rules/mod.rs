//! Discord's limits. Each check returns a sentence that names the broken limit.

mod commands;

use std::collections::BTreeSet;

use serde_json::Value;

pub(super) use commands::commands;

/// The result of a check: the fault, as a sentence.
pub(super) type Checked = Result<(), String>;

/// Text lengths count UTF-16 units.
pub(super) fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn length(what: &str, value: &Value, min: usize, max: usize) -> Result<usize, String> {
    let units = value.as_str().map_or(0, utf16);
    if units < min || units > max {
        return Err(format!("{what} has {units} UTF-16 units; Discord takes {min} to {max}"));
    }
    Ok(units)
}

/// A message's text, embeds and components.
pub(super) fn message(content: &str, embeds: &Value, components: &Value) -> Checked {
    let units = utf16(content);
    if units > 2000 {
        return Err(format!("content has {units} UTF-16 units; Discord takes 2000"));
    }
    let embeds = embeds.as_array().map_or(&[] as &[Value], Vec::as_slice);
    if embeds.len() > 10 {
        return Err(format!("{} embeds; Discord takes 10", embeds.len()));
    }
    let mut total = 0;
    for embed in embeds {
        total += self::embed(embed)?;
    }
    if total > 6000 {
        return Err(format!("the embeds have {total} characters together; Discord takes 6000"));
    }
    rows(components.as_array().map_or(&[], Vec::as_slice))
}

fn embed(embed: &Value) -> Result<usize, String> {
    let mut total = length("embed title", &embed["title"], 0, 256)?;
    total += length("embed description", &embed["description"], 0, 4096)?;
    total += length("embed footer", &embed["footer"]["text"], 0, 2048)?;
    total += length("embed author", &embed["author"]["name"], 0, 256)?;
    let fields = list(embed, "fields");
    if fields.len() > 25 {
        return Err(format!("an embed with {} fields; Discord takes 25", fields.len()));
    }
    for field in fields {
        total += length("embed field name", &field["name"], 1, 256)?;
        total += length("embed field value", &field["value"], 1, 1024)?;
    }
    let empty = ["title", "description", "fields", "image", "thumbnail", "footer", "author", "video"]
        .iter()
        .all(|key| embed[*key].is_null() || embed[*key].as_array().is_some_and(Vec::is_empty));
    if empty { Err("an embed with nothing in it".into()) } else { Ok(total) }
}

fn rows(rows: &[Value]) -> Checked {
    if rows.len() > 5 {
        return Err(format!("{} action rows; Discord takes 5", rows.len()));
    }
    let mut ids = BTreeSet::new();
    for row in rows {
        if row["type"].as_u64() != Some(1) {
            return Err(format!("a top-level component of type {}, not an action row", row["type"]));
        }
        let parts = list(row, "components");
        if parts.is_empty() || parts.len() > 5 {
            return Err(format!("an action row with {} components; Discord takes 1 to 5", parts.len()));
        }
        for part in parts {
            match part["type"].as_u64() {
                Some(2) => button(part)?,
                Some(3 | 5..=8) if parts.len() == 1 => select(part)?,
                other => return Err(format!("component type {other:?} cannot stand here")),
            }
            unique(part, &mut ids)?;
        }
    }
    Ok(())
}

fn unique(part: &Value, ids: &mut BTreeSet<String>) -> Checked {
    match part["custom_id"].as_str() {
        Some(id) if !ids.insert(id.to_owned()) => Err(format!("custom_id {id:?} stands twice")),
        _ => Ok(()),
    }
}

fn button(button: &Value) -> Checked {
    length("button label", &button["label"], 0, 80)?;
    if button["label"].as_str().unwrap_or_default().is_empty() && button["emoji"].is_null() {
        return Err("a button with neither label nor emoji".into());
    }
    let (url, custom_id) = (&button["url"], &button["custom_id"]);
    match button["style"].as_u64() {
        Some(1..=4) if url.is_null() => length("button custom_id", custom_id, 1, 100).map(|_| ()),
        Some(1..=4) => Err("a button with a url that is not of the link style".into()),
        Some(5) if custom_id.is_null() => {
            length("button url", url, 1, 512)?;
            let text = url.as_str().unwrap_or_default();
            let parsed = url::Url::parse(text).map_err(|e| format!("button url {text:?}: {e}"))?;
            match parsed.scheme() {
                "http" | "https" | "discord" => Ok(()),
                other => Err(format!("button url with the scheme {other:?}")),
            }
        }
        Some(5) => Err("a link button with a custom_id".into()),
        style => Err(format!("a button with the style {style:?}")),
    }
}

fn select(select: &Value) -> Checked {
    length("select custom_id", &select["custom_id"], 1, 100)?;
    length("select placeholder", &select["placeholder"], 0, 150)?;
    let options = list(select, "options");
    if options.len() > 25 || (select["type"] == 3 && options.is_empty()) {
        return Err(format!("a select with {} options; Discord takes 1 to 25", options.len()));
    }
    options.iter().try_for_each(|option| {
        length("select option label", &option["label"], 1, 100)?;
        length("select option value", &option["value"], 1, 100)?;
        length("select option description", &option["description"], 0, 100).map(|_| ())
    })
}

/// A modal: title, custom_id, one text input in each of 1 to 5 rows.
pub(super) fn modal(data: &Value) -> Checked {
    length("modal title", &data["title"], 1, 45)?;
    length("modal custom_id", &data["custom_id"], 1, 100)?;
    let rows = list(data, "components");
    if rows.is_empty() || rows.len() > 5 {
        return Err(format!("a modal with {} rows; Discord takes 1 to 5", rows.len()));
    }
    let mut ids = BTreeSet::new();
    for row in rows {
        let [input] = list(row, "components") else {
            return Err("a modal's row holds exactly one text input".into());
        };
        if row["type"].as_u64() != Some(1) || input["type"].as_u64() != Some(4) {
            return Err("a modal takes action rows with text inputs".into());
        }
        text_input(input)?;
        unique(input, &mut ids)?;
    }
    Ok(())
}

fn text_input(input: &Value) -> Checked {
    length("text input custom_id", &input["custom_id"], 1, 100)?;
    length("text input label", &input["label"], 1, 45)?;
    length("text input placeholder", &input["placeholder"], 0, 100)?;
    length("text input value", &input["value"], 0, 4000)?;
    let bounded = |key: &str, min: u64| input[key].as_u64().is_none_or(|given| (min..=4000).contains(&given));
    if !bounded("min_length", 0) || !bounded("max_length", 1) {
        return Err("a text input's min_length or max_length is out of 0 to 4000".into());
    }
    match input["style"].as_u64() {
        Some(1 | 2) => Ok(()),
        style => Err(format!("a text input with the style {style:?}")),
    }
}

/// Autocomplete choices: at most 25, names of 1 to 100, string values of at most 100.
pub(super) fn choices(choices: &[Value]) -> Checked {
    if choices.len() > 25 {
        return Err(format!("{} choices; Discord takes 25", choices.len()));
    }
    choices.iter().try_for_each(|choice| {
        length("choice name", &choice["name"], 1, 100)?;
        if choice["value"].is_string() {
            length("choice value", &choice["value"], 0, 100)?;
        }
        Ok(())
    })
}

/// A thread's name.
pub(super) fn thread_name(name: &Value) -> Checked {
    length("thread name", name, 1, 100).map(|_| ())
}
