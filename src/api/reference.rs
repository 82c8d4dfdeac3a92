//! The reference of the token API in Markdown, from its OpenAPI document.

use std::fmt::{self, Write};

use serde_json::{Map, Value};

use super::{problem::CODES, routes::document};

/// The statuses that each route has, which the routes do not repeat.
const EVERYWHERE: [&str; 4] = ["405", "414", "421", "431"];

/// Returns the text of `docs/api.md`.
pub fn reference() -> String {
    let document = serde_json::to_value(document()).unwrap_or_default();
    let mut text = String::new();
    // A `String` takes every text.
    let _ = write_reference(&mut text, &document);
    text
}

fn write_reference(text: &mut String, document: &Value) -> fmt::Result {
    writeln!(text, "# The token API\n")?;
    writeln!(
        text,
        "This file is made from the code; `GET /openapi.json` has the same as OpenAPI 3.1. [operators.md](operators.md) explains\n\
         operator keys, the TCP listener and the metrics.\n"
    )?;
    writeln!(text, "{}\n", string(&document["info"], "description"))?;
    writeln!(text, "A secret is sent as `Authorization: Bearer SECRET`:\n")?;
    for (name, scheme) in members(&document["components"]["securitySchemes"]) {
        writeln!(text, "- `{name}`: {}", string(scheme, "description"))?;
    }
    writeln!(text, "\n## Routes\n")?;
    writeln!(text, "Each route can also answer with {}: see [Errors](#errors).", EVERYWHERE.join(", "))?;
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            write_operation(text, path, method, operation)?;
        }
    }
    writeln!(text, "\n## Bodies")?;
    for (name, schema) in members(&document["components"]["schemas"]) {
        write_schema(text, name, schema)?;
    }
    writeln!(text, "\n## Errors\n")?;
    writeln!(text, "Each is a `Problem` as `application/problem+json`. 503 has the header `Retry-After`.\n")?;
    writeln!(text, "| status | code | meaning |\n| --- | --- | --- |")?;
    for code in CODES {
        writeln!(text, "| {} | `{}` | {} |", code.status, code.code, code.meaning)?;
    }
    Ok(())
}

fn write_operation(text: &mut String, path: &str, method: &str, operation: &Value) -> fmt::Result {
    writeln!(text, "\n### {} {path}\n", method.to_uppercase())?;
    let summary = string(operation, "summary");
    let description = string(operation, "description");
    let described = [summary, description].join(" ").replace('\n', " ");
    writeln!(text, "{}\n", described.trim())?;
    let secrets: Vec<String> =
        items(&operation["security"]).flat_map(members).map(|(name, _)| format!("`{name}`")).collect();
    let secrets = if secrets.is_empty() { "none".to_owned() } else { secrets.join(" or ") };
    writeln!(text, "- secret: {secrets}")?;
    for parameter in items(&operation["parameters"]) {
        let place = string(parameter, "in");
        writeln!(text, "- {place} `{}`: {}", string(parameter, "name"), string(parameter, "description"))?;
    }
    if let Some(body) = schema_of(&operation["requestBody"]) {
        writeln!(text, "- body: {body}")?;
    }
    for (status, response) in members(&operation["responses"]) {
        if EVERYWHERE.contains(&status.as_str()) {
            continue;
        }
        let description = string(response, "description");
        match schema_of(response).filter(|body| body != "`Problem`") {
            Some(body) => writeln!(text, "- {status}: {description} Body: {body}.")?,
            None => writeln!(text, "- {status}: {description}")?,
        }
    }
    Ok(())
}

fn write_schema(text: &mut String, name: &str, schema: &Value) -> fmt::Result {
    writeln!(text, "\n### {name}\n")?;
    let description = string(schema, "description").replace('\n', " ");
    if !description.is_empty() {
        writeln!(text, "{description}\n")?;
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> =
            words.iter().map(|word| format!("`{}`", word.as_str().unwrap_or_default())).collect();
        return writeln!(text, "One of {}.", words.join(", "));
    }
    writeln!(text, "| member | type | |\n| --- | --- | --- |")?;
    let required: Vec<&str> = items(&schema["required"]).filter_map(Value::as_str).collect();
    for (member, of_member) in members(&schema["properties"]) {
        let optional = if required.contains(&member.as_str()) { "" } else { ", may be absent" };
        let description = string(of_member, "description").replace('\n', " ");
        writeln!(text, "| `{member}` | {}{optional} | {description} |", kind(of_member))?;
    }
    Ok(())
}

/// The schema of a body, in words.
fn schema_of(body: &Value) -> Option<String> {
    let (media, content) = members(&body["content"]).next()?;
    let words = kind(&content["schema"]);
    Some(if media == "text/plain" { "text".to_owned() } else { words })
}

fn kind(schema: &Value) -> String {
    let named = |schema: &Value| schema["$ref"].as_str()?.rsplit('/').next().map(|name| format!("`{name}`"));
    if let Some(name) = named(schema).or_else(|| items(&schema["oneOf"]).find_map(named)) {
        return name;
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some(kind) => kind.to_owned(),
        None => "any".to_owned(),
    }
}

fn string<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
