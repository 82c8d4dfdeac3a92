//! Anthropic's Messages API: <https://platform.claude.com/docs/en/build-with-claude/streaming>.

use super::*;

fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
    (status, axum::Json(body)).into_response()
}

/// Checks the headers, and reads the request.
fn read_request(shared: &Shared, headers: &HeaderMap, body: &Bytes) -> Result<Value, Response> {
    if !shared.is_authorized(headers) {
        return Err(error(StatusCode::UNAUTHORIZED, "authentication_error", "invalid bearer token"));
    }
    let values = |name: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    if !values("anthropic-beta").split(',').any(|beta| beta.trim() == "oauth-2025-04-20") {
        let problem = "OAuth authentication is not supported without its beta header.";
        return Err(error(StatusCode::UNAUTHORIZED, "authentication_error", problem));
    }
    let invalid = |problem: &str| error(StatusCode::BAD_REQUEST, "invalid_request_error", problem);
    // Claude Code and the SDKs name different versions.
    let is_date = |text: &str| text.len() == 10 && text.chars().all(|c| c.is_ascii_digit() || c == '-');
    if !is_date(&values("anthropic-version")) {
        return Err(invalid("anthropic-version: header is required"));
    }
    let request = read(headers, body).map_err(|problem| invalid(&problem))?;
    if request["model"].as_str().is_none_or(str::is_empty) {
        return Err(invalid("model: Field required"));
    }
    if request["messages"].as_array().is_none_or(Vec::is_empty) {
        return Err(invalid("messages: at least one message is required"));
    }
    Ok(request)
}

pub(super) async fn count_tokens(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match read_request(&shared, &headers, &body) {
        Ok(_) => axum::Json(json!({"input_tokens": 1})).into_response(),
        Err(refused) => refused,
    }
}

pub(super) async fn messages(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request = match read_request(&shared, &headers, &body) {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    let turn = match check(&request) {
        Ok(turn) => turn,
        Err(problem) => return error(StatusCode::BAD_REQUEST, "invalid_request_error", &problem),
    };
    let has_shell = request["tools"].as_array().is_some_and(|tools| {
        tools.iter().any(|tool| ["Bash", "shell"].contains(&tool["name"].as_str().unwrap_or_default()))
    });
    let shell = request["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str());
    let shell = shell.into_iter().find(|name| ["Bash", "shell"].contains(name)).unwrap_or("Bash").to_owned();
    let (block, reason) = match shared.react(&turn, has_shell) {
        Reaction::Say(text) => (json!({"type": "text", "text": text}), "end_turn"),
        Reaction::Call => {
            let input = json!({"command": COMMAND, "description": "Prints a word"});
            (
                json!({"type": "tool_use", "id": shared.new_id("toolu"), "name": shell, "input": input}),
                "tool_use",
            )
        }
    };
    let usage = json!({"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
    let id = shared.new_id("msg");
    let message = |content: Value, reason: Value| {
        json!({"id": id, "type": "message", "role": "assistant", "model": request["model"], "content": content,
            "stop_reason": reason, "stop_sequence": null, "usage": usage})
    };
    if request["stream"] != true {
        return axum::Json(message(json!([block]), reason.into())).into_response();
    }
    let (begun, delta) = match block["type"].as_str() {
        Some("text") => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": block["text"]}))
        }
        _ => {
            let mut begun = block.clone();
            begun["input"] = json!({});
            (begun, json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}))
        }
    };
    let all = [
        json!({"type": "message_start", "message": message(json!([]), Value::Null)}),
        json!({"type": "content_block_start", "index": 0, "content_block": begun}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ];
    events(all.iter().map(|data| (data["type"].as_str().unwrap_or_default(), data.clone())))
}

/// Checks a request, and returns the last part of its conversation.
fn check(request: &Value) -> Result<Turn, String> {
    if request["max_tokens"].as_u64().is_none_or(|count| count == 0) {
        return Err("max_tokens: Field required".to_owned());
    }
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let blocks = |kind: &'static str| {
        let all = messages.iter().flat_map(|message| message["content"].as_array().into_iter().flatten());
        all.filter(move |block| block["type"] == kind)
    };
    for result in blocks("tool_result") {
        if !blocks("tool_use").any(|call| call["id"] == result["tool_use_id"]) {
            return Err(format!("there is no tool_use {}", result["tool_use_id"]));
        }
    }
    let last =
        messages.iter().rfind(|message| message["role"] == "user").ok_or("there is no user message")?;
    let results = last["content"].as_array().into_iter().flatten();
    let mut results = results.filter(|block| block["type"] == "tool_result").peekable();
    Ok(match results.peek() {
        Some(_) => Turn::Output(results.map(|block| texts(&block["content"])).collect()),
        None => Turn::Prompt(texts(&last["content"])),
    })
}
