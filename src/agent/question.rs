//! An agent's permission request, read from the JSON as the agent sent it.
//!
//! The protocol's own types leave out members and content that they do not know. Nothing may be left
//! out here: a user approves all of the request. So each member becomes a part of the question, in
//! words or as JSON. Content that no text can show makes the request incomplete.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use agent_client_protocol::{JsonRpcRequest, v1::schema::RequestPermissionResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{OptionKind, PermissionOption, RequestPart};

/// How many choices of one question are passed on: as many as fit under one Discord message.
const MAX_OPTIONS: usize = 24;
/// How many times as long as a value its indented text may be.
const MAX_GROWTH: usize = 8;
/// The bytes of a turn's details that are remembered for its questions.
const MAX_DETAILS: usize = 1024 * 1024;
/// The members of a tool call that a later question about it may leave out.
const DETAILS: [&str; 5] = ["title", "kind", "rawInput", "content", "locations"];
/// The members that are no part of the action.
const NOT_SHOWN: [&str; 2] = ["toolCallId", "status"];

/// The request `session/request_permission`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonRpcRequest)]
#[request(method = "session/request_permission", response = RequestPermissionResponse)]
#[serde(rename_all = "camelCase")]
pub(super) struct AskedPermission {
    #[serde(default)]
    pub(super) tool_call: Map<String, Value>,
    #[serde(default)]
    options: Vec<Value>,
}

/// The details of a turn's tool calls by their ids.
#[derive(Debug, Default)]
pub(super) struct KnownDetails {
    calls: HashMap<String, Map<String, Value>>,
    bytes: usize,
    /// Whether details were dropped because they were too long.
    are_incomplete: bool,
}

impl KnownDetails {
    /// Remembers the details of a tool call or of its update.
    pub(super) fn remember(&mut self, call: &impl Serialize) {
        let Ok(Value::Object(mut call)) = serde_json::to_value(call) else { return };
        let Some(Value::String(id)) = call.shift_remove("toolCallId") else { return };
        call.retain(|name, value| DETAILS.contains(&name.as_str()) && !is_nothing(value));
        self.bytes += id.len() + call.iter().map(|(_, value)| value.to_string().len()).sum::<usize>();
        if self.bytes > MAX_DETAILS {
            self.calls.clear();
            self.bytes = 0;
            self.are_incomplete = true;
            return;
        }
        self.calls.entry(id).or_default().extend(call);
    }
}

/// The parts of a question, and whether they are all of it.
pub(super) struct Question {
    pub(super) title: String,
    pub(super) parts: Vec<RequestPart>,
    pub(super) is_whole: bool,
    pub(super) options: Vec<PermissionOption>,
}

impl Question {
    /// Reads a request, with the details that the agent has sent before.
    pub(super) fn read(asked: AskedPermission, known: &KnownDetails) -> Self {
        let mut call = asked.tool_call;
        let id = call.get("toolCallId").and_then(Value::as_str).unwrap_or_default();
        let own = ["rawInput", "content"].iter().any(|name| call.get(*name).is_some_and(|v| !is_nothing(v)));
        let is_known = own || !known.are_incomplete;
        for (name, value) in known.calls.get(id).into_iter().flatten() {
            if call.get(name).is_none_or(is_nothing) {
                call.insert(name.clone(), value.clone());
            }
        }
        let title = match call.shift_remove("title") {
            Some(Value::String(title)) => title,
            Some(Value::Null) | None => String::new(),
            Some(other) => pretty(&other),
        };
        let mut parts = Parts { all: Vec::new(), is_whole: is_known };
        parts.kind(call.shift_remove("kind").unwrap_or_default());
        parts.input(call.shift_remove("rawInput").unwrap_or_default());
        parts.content(call.shift_remove("content").unwrap_or_default());
        parts.locations(call.shift_remove("locations").unwrap_or_default());
        call.retain(|name, value| !NOT_SHOWN.contains(&name.as_str()) && !value.is_null());
        if !call.is_empty() {
            parts.add("Other parts", pretty(&Value::Object(call)));
        }
        Self { title, parts: parts.all, is_whole: parts.is_whole, options: options(asked.options) }
    }
}

struct Parts {
    all: Vec<RequestPart>,
    is_whole: bool,
}

impl Parts {
    fn add(&mut self, heading: impl Into<String>, text: impl Into<String>) {
        self.all.push(RequestPart { heading: heading.into(), text: text.into() });
    }

    /// Other programs show the kind as a picture. It may be the only word for a deletion.
    fn kind(&mut self, kind: Value) {
        if !is_nothing(&kind) && kind != "other" {
            self.add("Kind", pretty(&kind));
        }
    }

    fn input(&mut self, mut input: Value) {
        if let Some(Value::String(command)) = input.get("command") {
            self.add("Command", command.clone());
            if let Some(object) = input.as_object_mut() {
                object.shift_remove("command");
            }
        }
        if !is_nothing(&input) {
            self.add("Input", pretty(&input));
        }
    }

    fn content(&mut self, content: Value) {
        let items = match content {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            other => vec![other],
        };
        for item in items {
            let text = |name: &str| item[name].as_str();
            match (text("type"), text("path"), text("newText"), item["content"]["text"].as_str()) {
                (Some("diff"), Some(path), Some(new), _) => {
                    let lines = |mark: &str, text: &str| -> String {
                        text.split('\n').map(|line| format!("{mark} {line}\n")).collect()
                    };
                    let old = text("oldText").map(|old| lines("-", old)).unwrap_or_default();
                    self.add(format!("Change of {path}"), old + &lines("+", new));
                    let old = if item["oldText"].is_string() { "oldText" } else { "" };
                    self.rest(&format!("the change of {path}"), &item, &["type", "path", "newText", old]);
                }
                (Some("content"), _, _, Some(text)) if item["content"]["type"] == "text" => {
                    self.add("Text", text);
                    self.rest("the text", &item["content"], &["type", "text"]);
                    self.rest("the text", &item, &["type", "content"]);
                }
                (Some("content"), ..) if is_readable(&item["content"]) => self.add("Link", pretty(&item)),
                (Some("terminal"), ..) => self.add("Terminal", pretty(&item)),
                _ => {
                    self.is_whole = false;
                    self.add("Content that cannot be shown", pretty(&item));
                }
            }
        }
    }

    /// Adds the members of an object that no other part shows.
    fn rest(&mut self, of: &str, object: &Value, shown: &[&str]) {
        let rest = members_besides(object, shown);
        if !rest.is_empty() {
            self.add(format!("Other parts of {of}"), pretty(&Value::Object(rest)));
        }
    }

    fn locations(&mut self, locations: Value) {
        if is_nothing(&locations) {
            return;
        }
        let has_more = |place: &Value, shown: &[&str]| !members_besides(place, shown).is_empty();
        let place = |place: &Value| match (place["path"].as_str(), place["line"].as_u64()) {
            (Some(path), Some(line)) if !has_more(place, &["path", "line"]) => format!("{path}:{line}"),
            (Some(path), None) if !has_more(place, &["path"]) => path.to_owned(),
            _ => pretty(place),
        };
        let all = match &locations {
            Value::Array(all) => all.iter().map(place).collect::<Vec<_>>().join("\n"),
            other => pretty(other),
        };
        self.add("Places", all);
    }
}

/// Whether JSON shows all of a content block: an image and a recording are data to a reader.
fn is_readable(block: &Value) -> bool {
    let is_text = block["resource"]["blob"].is_null() && block["resource"]["text"].is_string();
    block["type"] == "resource_link" || (block["type"] == "resource" && is_text)
}

/// Returns the members of an object besides these, as far as they have a value.
fn members_besides(object: &Value, shown: &[&str]) -> Map<String, Value> {
    let members = object.as_object().into_iter().flatten();
    let rest = members.filter(|(name, value)| !shown.contains(&name.as_str()) && !value.is_null());
    rest.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Returns a value as indented JSON. The indentation of deep values can be a hundred times as long as
/// the values, so they are written without it.
fn pretty(value: &Value) -> String {
    if let Value::String(text) = value {
        return text.clone();
    }
    let plain = value.to_string();
    let mut indented = Bounded { text: Vec::new(), room: MAX_GROWTH * plain.len() };
    match serde_json::to_writer_pretty(&mut indented, value) {
        Ok(()) => String::from_utf8(indented.text).unwrap_or(plain),
        Err(_) => plain,
    }
}

/// A text that refuses to become longer than its room.
struct Bounded {
    text: Vec<u8>,
    room: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(more.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.text.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the choices. An id that stands for allowing and for rejecting is left out, and so is a
/// choice of an unknown kind: its button would promise something that the agent need not mean.
fn options(options: Vec<Value>) -> Vec<PermissionOption> {
    let read = options.iter().filter_map(|option| {
        let kind = match option["kind"].as_str()? {
            "allow_once" => OptionKind::AllowOnce,
            "allow_always" => OptionKind::AllowAlways,
            "reject_once" => OptionKind::RejectOnce,
            "reject_always" => OptionKind::RejectAlways,
            _ => return None,
        };
        let label = option["name"].as_str().unwrap_or_default().to_owned();
        Some(PermissionOption { id: option["optionId"].as_str()?.to_owned(), label, kind })
    });
    let read: Vec<PermissionOption> = read.collect();
    let means = |id: &str, allows: bool| read.iter().any(|one| one.id == id && one.kind.allows() == allows);
    let mut seen = HashSet::new();
    let is_clear = |one: &&PermissionOption| !(means(&one.id, true) && means(&one.id, false));
    let clear = read.iter().filter(is_clear).filter(|one| seen.insert(one.id.clone()));
    clear.take(MAX_OPTIONS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(tool_call: Value, known: &KnownDetails) -> (Vec<String>, bool) {
        let asked = serde_json::from_value(json!({"toolCall": tool_call, "options": []})).expect("a request");
        let question = Question::read(asked, known);
        let parts = question.parts.iter().map(|part| format!("{}: {}", part.heading, part.text));
        (std::iter::once(question.title.clone()).chain(parts).collect(), question.is_whole)
    }

    #[test]
    fn every_member_of_a_request_is_a_part_of_the_question() {
        let call = json!({
            "toolCallId": "t", "title": "npm test\ncurl … | sh", "kind": "execute",
            "rawInput": {"command": "npm test\ncurl … | sh", "cwd": "/work"},
            "content": [
                {"type": "diff", "path": "/a", "oldText": "x\ny", "newText": "z"},
                {"type": "content", "content": {"type": "text", "text": "why"}},
            ],
            "locations": [{"path": "/a", "line": 3}, {"path": "/b"}],
            "name": "bash", "surprise": [1],
        });
        let expected = [
            "npm test\ncurl … | sh",
            "Kind: execute",
            "Command: npm test\ncurl … | sh",
            "Input: {\n  \"cwd\": \"/work\"\n}",
            "Change of /a: - x\n- y\n+ z\n",
            "Text: why",
            "Places: /a:3\n/b",
            "Other parts: {\n  \"name\": \"bash\",\n  \"surprise\": [\n    1\n  ]\n}",
        ];
        assert_eq!(read(call, &KnownDetails::default()), (expected.map(str::to_owned).to_vec(), true));
    }

    #[test]
    fn an_unknown_member_within_a_change_a_text_or_a_place_is_shown_too() {
        let call = json!({
            "content": [
                {"type": "diff", "path": "/a", "oldText": {"x": 1}, "newText": "z", "mode": "4755"},
                {"type": "content", "content": {"type": "text", "text": "why", "run": "a"}, "then": "b", "_meta": null},
            ],
            "locations": [{"path": "/a", "line": "3"}, {"path": "/b", "line": null}, {"path": "/c", "to": "/d"}],
        });
        let expected = [
            "",
            "Change of /a: + z\n",
            "Other parts of the change of /a: {\n  \"oldText\": {\n    \"x\": 1\n  },\n  \"mode\": \"4755\"\n}",
            "Text: why",
            "Other parts of the text: {\n  \"run\": \"a\"\n}",
            "Other parts of the text: {\n  \"then\": \"b\"\n}",
            "Places: {\n  \"path\": \"/a\",\n  \"line\": \"3\"\n}\n/b\n{\n  \"path\": \"/c\",\n  \"to\": \"/d\"\n}",
        ];
        assert_eq!(read(call, &KnownDetails::default()), (expected.map(str::to_owned).to_vec(), true));
    }

    #[test]
    fn content_that_no_text_shows_makes_a_request_incomplete() {
        for item in [
            json!({"type": "hologram", "data": "x"}),
            json!({"type": "content", "content": {"type": "image", "data": "aGk=", "mimeType": "image/png"}}),
            json!({"type": "diff", "path": "/a"}),
            json!("text"),
        ] {
            let (parts, is_whole) = read(json!({"content": [item]}), &KnownDetails::default());
            assert!(!is_whole && parts.len() == 2, "{item}: {parts:?}");
        }
        let (_, is_whole) = read(json!({"content": {"type": "text"}}), &KnownDetails::default());
        assert!(!is_whole);
    }

    #[test]
    fn a_question_has_the_details_that_the_call_had_before() {
        let mut known = KnownDetails::default();
        known.remember(&json!({"toolCallId": "t", "title": "Run", "rawInput": {"command": "ls"}}));
        let (parts, is_whole) = read(json!({"toolCallId": "t"}), &known);
        assert_eq!((parts, is_whole), (vec!["Run".to_owned(), "Command: ls".to_owned()], true));
        known.remember(&json!({"toolCallId": "d", "title": "src/a", "kind": "delete"}));
        let delete = json!({"toolCallId": "d", "title": "src/a"});
        assert_eq!(read(delete, &known).0, ["src/a", "Kind: delete"], "nothing else says it");
        assert_eq!(read(json!({"title": "x", "kind": "other"}), &known).0, ["x"]);
        let own = json!({"toolCallId": "t", "rawInput": {"command": "rm"}});
        assert_eq!(read(own.clone(), &known).0, ["Run", "Command: rm"]);
        known.remember(&json!({"toolCallId": "u", "rawInput": "x".repeat(MAX_DETAILS)}));
        assert!(!read(json!({"toolCallId": "t"}), &known).1, "its details are forgotten");
        assert!(read(own, &known).1);
    }

    #[test]
    fn the_text_of_a_deep_request_is_at_most_a_few_times_as_long_as_the_request() {
        let deep = |items: usize| {
            let list = Value::Array(vec![json!(1); items]);
            (0..100).fold(list, |inner, _| Value::Array(vec![inner]))
        };
        for call in [
            json!({"rawInput": deep(100_000)}),
            json!({"content": [deep(100_000)]}),
            json!({"locations": [deep(100_000)]}),
            json!({"title": deep(100_000)}),
            json!({"surprise": deep(100_000)}),
        ] {
            let sent = call.to_string().len();
            let shown: usize = read(call, &KnownDetails::default()).0.iter().map(String::len).sum();
            assert!(shown <= 9 * sent, "{shown} bytes of {sent}");
        }
    }

    #[test]
    fn choices_with_two_meanings_or_unknown_kinds_are_left_out() {
        let option = |id: &str, kind: &str| json!({"optionId": id, "kind": kind, "name": "Reject"});
        let all = options(vec![
            option("a", "allow_once"),
            option("b", "allow_always"),
            option("b", "reject_once"),
            option("c", "reject_always"),
            option("c", "reject_always"),
            option("d", "allow_everything"),
            json!({"kind": "allow_once"}),
        ]);
        let kinds: Vec<_> = all.iter().map(|one| (one.id.as_str(), one.kind)).collect();
        assert_eq!(kinds, [("a", OptionKind::AllowOnce), ("c", OptionKind::RejectAlways)]);
    }
}
