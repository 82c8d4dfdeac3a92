//! Checks requests and answers against Discord's own OpenAPI description, where that file lies
//! beside the repository. Validators are built once per route, from the parts that the route needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::description::Description;
use super::routes::Matched;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/discord/openapi.json");

/// Method, path template, and the status of an answer (0: the request).
type Key = (&'static str, &'static str, u16);

/// The description, and the validators built so far.
pub struct OpenApi {
    document: &'static Value,
    validators: Mutex<BTreeMap<Key, Option<Arc<Validator>>>>,
}

impl OpenApi {
    /// Reads the description, once per process. Without the file this is `None`, and one line on
    /// stderr reports it.
    pub fn load() -> Option<Self> {
        static DOCUMENT: OnceLock<Option<Value>> = OnceLock::new();
        let document = DOCUMENT.get_or_init(read).as_ref()?;
        Some(Self { document, validators: Mutex::default() })
    }

    /// Whether Discord describes this endpoint.
    pub fn knows(&self, method: &str, template: &str) -> bool {
        self.document["paths"][template].get(method.to_ascii_lowercase()).is_some()
    }

    fn operation(&self, matched: &Matched) -> &'static Value {
        &self.document["paths"][matched.template][matched.method.to_ascii_lowercase()]
    }

    fn validator(&self, key: Key, schema: &Value) -> Option<Arc<Validator>> {
        let mut built = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        built
            .entry(key)
            .or_insert_with(|| {
                (!schema.is_null()).then(|| {
                    let whole = json!({"allOf": [schema], "components": parts(self.document, schema)});
                    Arc::new(
                        jsonschema::options()
                            .offline()
                            .build(&whole)
                            .expect("Discord's description is valid JSON Schema"),
                    )
                })
            })
            .clone()
    }
}

impl Description for OpenApi {
    fn faults_of_request(&self, matched: &Matched, body: &Value, query: &str) -> Vec<String> {
        let operation = self.operation(matched);
        let mut faults = check_query(operation, query);
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if let Some(validator) = self.validator((matched.method, matched.template, 0), schema) {
            let body = with_number_permissions(body);
            faults.extend(validator.iter_errors(&body).map(|e| format!("body {}: {e}", e.instance_path())));
        } else if !body.is_null() {
            faults.push("a body where Discord expects none".into());
        }
        faults
    }

    fn faults_of_answer(&self, matched: &Matched, status: u16, body: &Value) -> Vec<String> {
        let Some(described) = self.operation(matched)["responses"].get(status.to_string()) else {
            return vec![format!("Discord does not answer {status} here")];
        };
        let schema = &described["content"]["application/json"]["schema"];
        match self.validator((matched.method, matched.template, status), schema) {
            Some(validator) => {
                validator.iter_errors(body).map(|e| format!("answer {}: {e}", e.instance_path())).collect()
            }
            None => Vec::new(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads its own reference material")]
fn read() -> Option<Value> {
    let Ok(text) = std::fs::read_to_string(PATH) else {
        eprintln!("Discord's openapi.json is not beside the repository: bodies are not checked");
        return None;
    };
    Some(serde_json::from_str(&text).expect("openapi.json is JSON"))
}

/// The components that a schema needs, directly or through others.
fn parts(document: &Value, schema: &Value) -> Value {
    let mut wanted = BTreeSet::new();
    let mut todo = references(schema);
    while let Some(name) = todo.pop() {
        if wanted.insert(name.clone()) {
            todo.extend(references(&document["components"]["schemas"][&name]));
        }
    }
    let schemas: Map<String, Value> = wanted
        .into_iter()
        .map(|name| {
            let schema = document["components"]["schemas"][&name].clone();
            (name, schema)
        })
        .collect();
    json!({"schemas": schemas})
}

fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(map) => {
            let own = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|reference| reference.strip_prefix("#/components/schemas/"));
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Discord takes permission fields as decimal strings too, and serenity sends them so; its
/// description knows numbers only.
fn with_number_permissions(body: &Value) -> Value {
    match body {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let number = value.as_str().and_then(|text| text.parse::<u64>().ok());
                match number {
                    Some(bits) if key == "default_member_permissions" => (key.clone(), json!(bits)),
                    _ => (key.clone(), with_number_permissions(value)),
                }
            })
            .collect(),
        Value::Array(list) => list.iter().map(with_number_permissions).collect(),
        other => other.clone(),
    }
}

fn check_query(operation: &Value, query: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let known: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let parameter = known.iter().find(|p| p["name"] == *name && p["in"] == "query");
        let Some(parameter) = parameter else {
            wrong.push(format!("query: Discord knows no parameter {name:?} here"));
            continue;
        };
        let fits = match parameter["schema"]["type"].as_str() {
            Some("integer") => value.parse::<i64>().is_ok(),
            Some("boolean") => value == "true" || value == "false",
            _ => true,
        };
        if !fits {
            wrong.push(format!("query: {name}={value} is not of the described type"));
        }
    }
    wrong
}
