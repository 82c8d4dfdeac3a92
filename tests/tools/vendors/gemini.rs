//! Google's Gemini API: <https://ai.google.dev/api/generate-content>.

use axum::extract::{Path, Query};

use super::*;

fn error(status: StatusCode, name: &str, message: &str) -> Response {
    let body = json!({"error": {"code": status.as_u16(), "message": message, "status": name}});
    (status, axum::Json(body)).into_response()
}

pub(super) async fn call(
    State(shared): State<Arc<Shared>>,
    Path(call): Path<String>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !shared.is_authorized(&headers) || query.contains_key("key") {
        let problem = "Request had invalid authentication credentials.";
        return error(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", problem);
    }
    let checked = read(&headers, &body).and_then(|request| check(&request).map(|turn| (request, turn)));
    let (request, turn) = match checked {
        Ok(checked) => checked,
        Err(problem) => return error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &problem),
    };
    let tools = request["tools"].as_array().into_iter().flatten();
    let functions = tools.flat_map(|tool| tool["functionDeclarations"].as_array().into_iter().flatten());
    let has_shell = functions.into_iter().any(|function| function["name"] == "run_shell_command");
    let method = call.split_once(':').map(|(_, method)| method).unwrap_or_default();
    if method == "countTokens" {
        return axum::Json(json!({"totalTokens": 1})).into_response();
    }
    let config = &request["generationConfig"];
    let schema = ["responseJsonSchema", "responseSchema"].map(|name| &config[name]);
    let schema = schema.into_iter().find(|schema| schema.is_object());
    let reaction = schema.is_none().then(|| shared.react(&turn, has_shell));
    let part = match reaction {
        // Gemini CLI asks which model a prompt deserves.
        None => json!({"text": example(schema.unwrap_or(&Value::Null)).to_string()}),
        Some(Reaction::Call) => {
            let arguments = json!({"command": COMMAND, "description": "Prints a word"});
            json!({"functionCall": {"name": "run_shell_command", "args": arguments}})
        }
        Some(Reaction::Say(text)) => json!({"text": text}),
    };
    let answer = json!({
        "candidates": [{"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        "modelVersion": call.split(':').next(),
        "responseId": "response-1",
    });
    match (method, query.get("alt").map(String::as_str)) {
        ("generateContent", _) => axum::Json(answer).into_response(),
        ("streamGenerateContent", Some("sse")) => events([("", answer)]),
        ("streamGenerateContent", _) => axum::Json(json!([answer])).into_response(),
        _ => error(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such method"),
    }
}

/// Returns a value that a schema allows.
fn example(schema: &Value) -> Value {
    match schema["type"].as_str().unwrap_or_default().to_lowercase().as_str() {
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, schema)| (name.clone(), example(schema))).collect()
        }
        "integer" | "number" => 1.into(),
        "boolean" => true.into(),
        "array" => json!([]),
        _ => schema["enum"].get(0).cloned().unwrap_or_else(|| "none".into()),
    }
}

/// Checks a request, and returns the last part of its conversation.
fn check(request: &Value) -> Result<Turn, String> {
    let contents = request["contents"].as_array().filter(|contents| !contents.is_empty());
    let contents = contents.ok_or("contents is not specified")?;
    let last =
        contents.iter().rfind(|content| content["role"] == "user").ok_or("there is no user content")?;
    let parts = last["parts"].as_array().ok_or("parts must be an array")?;
    let outputs: Vec<_> = parts.iter().filter_map(|part| part.get("functionResponse")).collect();
    if outputs.is_empty() {
        return Ok(Turn::Prompt(texts(&last["parts"])));
    }
    let mut calls = contents.iter().flat_map(|content| content["parts"].as_array().into_iter().flatten());
    if calls.all(|part| part.get("functionCall").is_none()) {
        return Err("there is no function call before the function response".to_owned());
    }
    Ok(Turn::Output(outputs.iter().map(|output| texts(&output["response"])).collect()))
}
