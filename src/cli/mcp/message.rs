//! JSON-RPC messages of the client, and the headers that mirror them.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// The member of `_meta` with the version of the protocol, from version 2026-07-28 on.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The first version without sessions.
const WITHOUT_SESSIONS: &str = "2026-07-28";

/// A message of the client.
#[derive(Debug)]
pub(super) struct Message {
    /// The line, without its end.
    pub(super) line: String,
    /// The id of a request, as JSON. A notification and a response have none that expects an answer.
    pub(super) id: Option<String>,
    /// The method of a request or a notification.
    pub(super) method: Option<String>,
    /// The parameters, or null.
    pub(super) params: Value,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(default)]
    params: Value,
}

impl Message {
    /// Reads a line. `None` if it is not JSON.
    pub(super) fn read(line: String) -> Option<Self> {
        if line.trim_start().starts_with('[') {
            serde_json::from_str::<&RawValue>(&line).ok()?;
            // A batch, as versions before 2025-06-18 allow. Its answers have their ids.
            return Some(Self { line, id: Some("null".into()), method: None, params: Value::Null });
        }
        let Envelope { id, method, params } = serde_json::from_str(&line).ok()?;
        let method = method.map(Cow::into_owned);
        let id = id.filter(|_| method.is_some()).map(|id| id.get().to_owned());
        Some(Self { id, method, params, line })
    }

    /// Returns the request that this message cancels.
    pub(super) fn cancels(&self) -> Option<String> {
        let is_cancelled = self.method.as_deref() == Some("notifications/cancelled");
        is_cancelled.then(|| self.params.get("requestId").map(Value::to_string)).flatten()
    }

    /// Returns the version of the protocol that the message itself names.
    pub(super) fn version(&self) -> Option<&str> {
        self.params.get("_meta")?.get(VERSION)?.as_str()
    }

    /// Whether the message is of a version in which a closed stream cancels its request.
    pub(super) fn has_no_session(&self) -> bool {
        self.version().is_some_and(|version| version >= WITHOUT_SESSIONS)
    }

    /// Returns the headers that mirror the message (2026-07-28). Earlier servers ignore them.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let Some(method) = &self.method else { return Vec::new() };
        let name = match method.as_str() {
            "tools/call" | "prompts/get" => self.params.get("name"),
            "resources/read" => self.params.get("uri"),
            _ => None,
        };
        let method = ("mcp-method", header_text(method));
        let name = name.and_then(Value::as_str).map(|name| ("mcp-name", header_text(name)));
        [Some(method), name].into_iter().flatten().collect()
    }
}

/// Returns a text as it stands in a header: as it is, or in Base64 where it could not be read back.
pub(super) fn header_text(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && text.trim() == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    if is_plain { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) }
}

/// Returns a message of a server on one line, or `None` if it is not JSON. A line end inside JSON is white
/// space.
pub(super) fn on_one_line(text: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(text).ok()?;
    Some(text.trim().replace(['\n', '\r'], " "))
}

/// Returns the id of a response, as JSON.
pub(super) fn response_id(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Option<&'a RawValue>,
    }
    let Response { id, method } = serde_json::from_str(text).ok()?;
    id.filter(|_| method.is_none()).map(|id| id.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> Message {
        Message::read(line.to_owned()).expect(line)
    }

    #[test]
    fn requests_notifications_responses_and_batches_are_told_apart() {
        assert_eq!(message(r#"{"id":"a","method":"ping"}"#).id.as_deref(), Some(r#""a""#));
        assert_eq!(message(r#"{"method":"notifications/initialized"}"#).id, None);
        assert_eq!(message(r#"{"id":7,"result":{}}"#).id, None);
        assert_eq!(message(r#"[{"id":7,"method":"ping"}]"#).id.as_deref(), Some("null"));
        for broken in ["", "{", "[1", "7", "\"a\""] {
            assert!(Message::read(broken.to_owned()).is_none(), "{broken}");
        }
        let cancel = message(r#"{"method":"notifications/cancelled","params":{"requestId":12}}"#);
        assert_eq!(cancel.cancels().as_deref(), Some("12"));
    }

    #[test]
    fn headers_mirror_the_message_and_cannot_be_split() {
        let call = message(r#"{"id":1,"method":"tools/call","params":{"name":"a\r\nb: c"}}"#);
        let expected =
            [("mcp-method", "tools/call".to_owned()), ("mcp-name", "=?base64?YQ0KYjogYw==?=".to_owned())];
        assert_eq!(call.headers(), expected);
        for (text, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(header_text(text), header);
        }
    }

    #[test]
    fn an_answer_on_several_lines_becomes_one_line() {
        let line = on_one_line("{\n  \"id\": 1,\r\n  \"result\": \"a\\nb\"\n}\n").expect("JSON");
        assert_eq!(line, "{   \"id\": 1,    \"result\": \"a\\nb\" }");
        assert_eq!(response_id(&line).as_deref(), Some("1"));
        assert_eq!(response_id(r#"{"id":1,"method":"sampling/createMessage"}"#), None);
        assert_eq!(on_one_line("<html>"), None);
    }
}
