//! The session that is found is the one in the file, or none is found.

use std::io::Read as _;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::store::codec::Document;

fn tenant() -> Tenant {
    "codex/local".parse().expect("a tenant")
}

/// A session that its generation identifies.
fn record(generation: u64) -> Value {
    json!({
        "access_token": "a", "token_type": "Bearer", "issued_at": 1, "expires_at": 2,
        "lineage": "07070707070707070707070707070707", "generation": generation,
        "token_endpoint": "https://id.example/token", "client_id": "threadkey",
        "retry": {"set_at": 0, "not_before": 0, "attempts": 2, "code": "é\u{1F511}"}, "later": {"x": [{"y": 1}]}
    })
}

fn store() -> Value {
    json!({
        "version": 1,
        "sessions": {
            "codex/user:1": record(1), "codex/local2": record(2), "codex/local": record(3), "codex/user:4": record(4)
        },
        "pending": {}, "clients": {}
    })
}

fn written(store: &Value) -> String {
    serde_json::to_string_pretty(store).expect("is JSON") + "\n"
}

/// Finds the session in this text, in windows of this many bytes.
fn find_in(text: &str, window: u64) -> Option<Session> {
    let mut rest = text.as_bytes();
    find_session(|_, bytes| rest.read(bytes), text.len() as u64, window, &tenant())
}

/// The generation that is found in this text.
fn found(text: &str) -> Option<u64> {
    let whole = find_in(text, text.len() as u64);
    for window in [1, 30, 1000] {
        assert_eq!(find_in(text, window), whole, "a window of {window} bytes:\n{text}");
    }
    whole.map(|session| session.generation)
}

#[test]
fn the_session_is_the_one_that_the_full_read_returns() {
    let text = written(&store());
    let whole = Document::decode("auth.json".as_ref(), Zeroizing::new(text.clone().into_bytes()));
    let found = find_in(&text, WINDOW);
    assert!(found.is_some());
    let whole = whole.expect("a store");
    assert_eq!(found, whole.records().get(&tenant()).and_then(|entry| entry.session.clone()));
}

#[test]
fn the_session_is_found_in_every_layout() {
    let text = written(&store());
    let wide = text.replace("  ", "        ");
    for layout in [
        serde_json::to_string(&store()).expect("is JSON"),
        wide.replace("        ", "\t"),
        wide.replace("        ", ""),
        text.replace('\n', "\r\n"),
        text.replace("\"codex/local\": {", "\"codex/local\" : {"),
        text.replace("\"codex/local\": {", "\"cod\\u0065x/local\": {"),
        text.replacen('{', "{\"x_first\": [{\"sessions\": {}}],", 1),
        text.replacen("\"sessions\"", "\"pending\": {}, \"sessions\"", 1),
        wide,
    ] {
        assert_eq!(found(&layout), Some(3), "{layout}");
    }
}

#[test]
fn a_session_elsewhere_in_the_file_is_not_found() {
    let other = |section: &str| {
        let mut store = store();
        store["sessions"].as_object_mut().expect("an object").remove("codex/local");
        store[section]["codex/local"] = record(9);
        written(&store)
    };
    for section in ["pending", "candidates", "clients", "later"] {
        assert_eq!(found(&other(section)), None, "{section}");
    }
    // A name in an object of another session, also where its indentation is that of a session.
    let mut nested = store();
    nested["sessions"]["codex/user:1"]["later"] = json!({"codex/local": record(9)});
    let nested = written(&nested);
    assert_eq!(found(&nested), Some(3));
    assert_eq!(found(&nested.replace("        \"codex/local\"", "    \"codex/local\"")), Some(3));
    // A text that holds all of it, its line ends escaped as JSON has them.
    let mut quoted = store();
    let record = serde_json::to_string_pretty(&record(9)).expect("is JSON");
    quoted["sessions"]["codex/user:1"]["account"] = format!("x\n    \"codex/local\": {record}").into();
    assert_eq!(found(&written(&quoted)), Some(3));
}

#[test]
fn all_other_files_are_left_to_the_full_read() {
    let text = written(&store());
    assert_eq!(found(&text), Some(3));
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let refused = [
        String::new(),
        "[]".into(),
        "{}".into(),
        with("\"version\": 1", "\"version\": 2"),
        with("\"version\": 1", "\"version\": 10"),
        with("\"version\": 1", "\"version\": \"1\""),
        with("\"version\": 1", "\"version\": 1, \"version\": 1"),
        with("\"version\": 1,", ""),
        with("\"version\": 1", "\"ver\u{17f}ion\": 1"),
        with("\"sessions\": {", "\"later\": {"),
        with("\"sessions\": {", "\"sessions\": {}, \"sessions\": {"),
        with("\"codex/local\"", "\"codex/nobody\""),
        with("\"generation\": 3", "\"generation\": \"3\""),
        with("\"generation\": 3", "\"generation\": 3, \"x\": {\"a\": 1, \"a\": 2}"),
        with("\"generation\": 3", "\"generation\": 3, \"generation\": 3"),
        with("\"codex/user:1\": {", "\"codex/user:1\": {,"),
        format!("{{\"sessions\": {{}}, {}", &text[1..]),
        text[..text.find("\"codex/user:4\"").expect("is there") - 20].to_owned(),
    ];
    for text in refused {
        assert_eq!(found(&text), None, "{text}");
    }
}

#[test]
fn damage_after_the_session_does_not_hide_it() {
    let text = written(&store());
    let end = text.find("\"codex/user:4\"").expect("is there");
    assert_eq!(found(&text[..end]), Some(3));
    assert_eq!(found(&format!("{}\"codex/local\": {{", &text[..end])), Some(3));
}

#[test]
fn the_text_after_the_window_of_the_session_is_not_read() {
    let mut many = store();
    for n in 0..200 {
        many["sessions"][format!("codex/user:{}", 100 + n)] = record(n);
    }
    let text = written(&many);
    let len = text.len() as u64;
    assert!(len > 2 * WINDOW, "{len} bytes");
    let mut rest = text.as_bytes();
    let session = find_session(|_, bytes| rest.read(bytes), len, WINDOW, &tenant());
    assert_eq!(session.map(|session| session.generation), Some(3));
    assert_eq!(rest.len() as u64, len - WINDOW);
}
