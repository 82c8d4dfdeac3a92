//! OpenAI's Responses API: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use super::*;

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body =
        json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}});
    (status, axum::Json(body)).into_response()
}

fn unauthorized() -> Response {
    error(StatusCode::UNAUTHORIZED, "invalid_api_key", "Incorrect API key provided.")
}

pub(super) async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.is_authorized(&headers) {
        return unauthorized();
    }
    let model = json!({"id": "gpt-5", "object": "model", "created": 1_700_000_000, "owned_by": "openai"});
    axum::Json(json!({"object": "list", "data": [model]})).into_response()
}

pub(super) async fn responses(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !shared.is_authorized(&headers) {
        return unauthorized();
    }
    let checked = read(&headers, &body).and_then(|request| check(&request).map(|turn| (request, turn)));
    let (request, turn) = match checked {
        Ok(checked) => checked,
        Err(problem) => return error(StatusCode::BAD_REQUEST, "invalid_request", &problem),
    };
    let shell = shell_call(&shared, &request);
    let (item, is_text) = match shared.react(&turn, shell.is_some()) {
        Reaction::Call => (shell.unwrap_or_default(), false),
        Reaction::Say(text) => {
            let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
            let item = json!({"type": "message", "id": shared.new_id("msg"), "role": "assistant", "status": "completed", "content": [part]});
            (item, true)
        }
    };
    let id = shared.new_id("resp");
    let whole = response(&id, &request, "completed", &[item.clone()]);
    if request["stream"] != true {
        return axum::Json(whole).into_response();
    }
    let mut begun = item.clone();
    begun["status"] = "in_progress".into();
    begun[if is_text { "content" } else { "arguments" }] = if is_text { json!([]) } else { "".into() };
    let first = response(&id, &request, "in_progress", &[]);
    let mut all = vec![
        ("response.created", json!({"response": first})),
        ("response.in_progress", json!({"response": first})),
        ("response.output_item.added", json!({"output_index": 0, "item": begun})),
    ];
    if is_text {
        let place = json!({"item_id": item["id"], "output_index": 0, "content_index": 0});
        let part = &item["content"][0];
        let mut empty = part.clone();
        empty["text"] = "".into();
        all.extend([
            ("response.content_part.added", with(&place, json!({"part": empty}))),
            ("response.output_text.delta", with(&place, json!({"delta": part["text"], "logprobs": []}))),
            ("response.output_text.done", with(&place, json!({"text": part["text"], "logprobs": []}))),
            ("response.content_part.done", with(&place, json!({"part": part}))),
        ]);
    } else {
        let place = json!({"item_id": item["id"], "output_index": 0});
        let arguments = &item["arguments"];
        let done = json!({"arguments": arguments, "name": item["name"]});
        all.extend([
            ("response.function_call_arguments.delta", with(&place, json!({"delta": arguments}))),
            ("response.function_call_arguments.done", with(&place, done)),
        ]);
    }
    all.push(("response.output_item.done", json!({"output_index": 0, "item": item})));
    all.push(("response.completed", json!({"response": whole})));
    events(
        all.into_iter().enumerate().map(|(number, (kind, data))| {
            (kind, with(&data, json!({"type": kind, "sequence_number": number})))
        }),
    )
}

/// Returns an object with the members of both.
fn with(one: &Value, other: Value) -> Value {
    let mut all = one.clone();
    if let (Some(all), Value::Object(other)) = (all.as_object_mut(), other) {
        all.extend(other);
    }
    all
}

/// Checks a request, and returns the last part of its conversation.
fn check(request: &Value) -> Result<Turn, String> {
    if request["model"].as_str().is_none_or(str::is_empty) {
        return Err("model is missing".to_owned());
    }
    if let Some(text) = request["input"].as_str() {
        return Ok(Turn::Prompt(text.to_owned()));
    }
    let items = request["input"].as_array().filter(|items| !items.is_empty()).ok_or("input is empty")?;
    let calls = items.iter().filter(|item| item["type"] == "function_call").map(|item| &item["call_id"]);
    let calls: Vec<_> = calls.collect();
    let outputs = items.iter().filter(|item| item["type"] == "function_call_output");
    for output in outputs.clone() {
        if !calls.contains(&&output["call_id"]) {
            return Err(format!("there is no function call {}", output["call_id"]));
        }
    }
    let is_users = |item: &&Value| item["role"] == "user" || item["type"] == "function_call_output";
    let last = items.iter().rev().find(is_users).ok_or("there is no user message")?;
    Ok(match last["type"].as_str() {
        Some("function_call_output") => Turn::Output(texts(&last["output"])),
        _ => Turn::Prompt(texts(&last["content"])),
    })
}

/// Returns a call of the offered shell tool.
fn shell_call(shared: &Shared, request: &Value) -> Option<Value> {
    let names = request["tools"].as_array()?.iter().filter_map(|tool| tool["name"].as_str());
    let name = names.into_iter().find(|name| ["exec_command", "shell_command", "shell"].contains(name))?;
    let arguments = match name {
        "exec_command" => json!({"cmd": COMMAND}),
        "shell_command" => json!({"command": COMMAND}),
        _ => json!({"command": ["sh", "-c", COMMAND]}),
    };
    Some(json!({
        "type": "function_call", "id": shared.new_id("fc"), "call_id": shared.new_id("call"), "name": name, "status": "completed",
        "arguments": arguments.to_string(),
    }))
}

fn response(id: &str, request: &Value, status: &str, output: &[Value]) -> Value {
    let usage = json!({
        "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2,
    });
    json!({
        "id": id, "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
        "incomplete_details": null, "instructions": null, "metadata": {}, "model": request["model"], "output": output,
        "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": if status == "completed" { usage } else { Value::Null },
    })
}
