//! The parameters of tools that a server wants to see in headers: `x-mcp-header` (2026-07-28).

use std::collections::BTreeMap;

use serde_json::Value;

use super::message::header_text;

/// The greatest integer that a parameter may have: 2^53 - 1.
const MAX_INTEGER: i64 = (1 << 53) - 1;
/// How many tools are kept.
const MAX_TOOLS: usize = 4096;

/// The tools with such parameters, by name.
#[derive(Debug, Default)]
pub(super) struct Tools(BTreeMap<String, Vec<Mirrored>>);

/// A parameter: the names that lead to it, and its header.
#[derive(Debug, PartialEq, Eq)]
struct Mirrored {
    path: Vec<String>,
    header: String,
}

impl Tools {
    /// Takes the tools of a result of `tools/list`, and removes those whose definition is wrong from it.
    /// Returns their names.
    pub(super) fn learn(&mut self, result: &mut Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(tools) = result.get_mut("tools").and_then(Value::as_array_mut) else { return wrong };
        tools.retain(|tool| {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            let mut found = Vec::new();
            if let Some(schema) = tool.get("inputSchema")
                && !mirrored(schema, &mut Vec::new(), &mut found)
            {
                wrong.push(name.to_owned());
                return false;
            }
            if found.is_empty() {
                self.0.remove(name);
            } else if self.0.len() < MAX_TOOLS {
                self.0.insert(name.to_owned(), found);
            }
            true
        });
        wrong
    }

    /// Returns the headers of a call with these parameters.
    pub(super) fn headers(&self, params: &Value) -> Vec<(String, String)> {
        let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
        let all = self.0.get(name).into_iter().flatten();
        let header = |mirrored: &Mirrored| {
            let arguments = params.get("arguments")?;
            let value = mirrored.path.iter().try_fold(arguments, |value, name| value.get(name))?;
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return None,
            };
            Some((mirrored.header.clone(), header_text(&text)))
        };
        all.filter_map(header).collect()
    }
}

/// Finds the mirrored parameters of a schema. Returns false if a definition is wrong.
fn mirrored(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Mirrored>) -> bool {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return true };
    properties.iter().all(|(name, property)| {
        path.push(name.clone());
        let is_right = match property.get("x-mcp-header") {
            None => true,
            Some(header) => header.as_str().is_some_and(|header| add(header, property, path, found)),
        };
        let is_right = is_right && mirrored(property, path, found);
        path.pop();
        is_right
    })
}

fn add(header: &str, property: &Value, path: &[String], found: &mut Vec<Mirrored>) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let header = format!("mcp-param-{}", header.to_ascii_lowercase());
    let is_right = header.len() > "mcp-param-".len()
        && header.bytes().all(is_token)
        && matches!(property.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean"))
        && !found.iter().any(|other| other.header == header)
        && ["minimum", "maximum"].iter().all(|limit| {
            let limit = property.get(limit).and_then(Value::as_i64);
            limit.is_none_or(|limit| limit.abs() <= MAX_INTEGER)
        });
    if is_right {
        found.push(Mirrored { path: path.to_vec(), header });
    }
    is_right
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marked_parameters_are_mirrored_and_wrong_tools_removed() {
        let property = |kind: &str, header: &str| json!({"type": kind, "x-mcp-header": header});
        let schema = |properties: Value| json!({"type": "object", "properties": properties});
        let mut result = json!({"tools": [
            {"name": "sql", "inputSchema": schema(json!({
                "region": property("string", "Region"), "query": {"type": "string"},
                "deep": schema(json!({"n": property("integer", "N"), "b": property("boolean", "B")})),
            }))},
            {"name": "plain", "inputSchema": schema(json!({"a": {"type": "string"}}))},
            {"name": "empty", "inputSchema": schema(json!({"a": property("string", "")}))},
            {"name": "split", "inputSchema": schema(json!({"a": property("string", "A\r\nB")}))},
            {"name": "number", "inputSchema": schema(json!({"a": property("number", "A")}))},
            {"name": "twice", "inputSchema": schema(json!({"a": property("string", "A"), "b": property("string", "a")}))},
        ]});
        let mut tools = Tools::default();
        assert_eq!(tools.learn(&mut result), ["empty", "split", "number", "twice"]);
        assert_eq!(result["tools"].as_array().map(Vec::len), Some(2));
        let call =
            json!({"name": "sql", "arguments": {"region": "ü", "query": "x", "deep": {"n": -7, "b": null}}});
        let expected = [("mcp-param-region", "=?base64?w7w=?="), ("mcp-param-n", "-7")];
        assert_eq!(tools.headers(&call), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert!(tools.headers(&json!({"name": "plain", "arguments": {"a": "x"}})).is_empty());
    }
}
