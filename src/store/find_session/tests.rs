//! What is found is what the file says, and what only looks like it is not found.

use serde_json::{Value, json};

use super::*;
use crate::store::codec::Document;

fn tenant() -> Tenant {
    "codex/local".parse().expect("a tenant")
}

/// A session whose generation tells it from others.
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

/// The generation that is found in this text, seen through a window of this many bytes.
fn found_in(text: &str, window: usize) -> Option<u64> {
    let read = |offset: u64, bytes: &mut [u8]| {
        let rest = text.as_bytes().get(usize::try_from(offset).expect("small")..).unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    };
    session(read, window, &tenant()).map(|session| session.generation)
}

fn found(text: &str) -> Option<u64> {
    found_in(text, WINDOW)
}

#[test]
fn it_is_the_session_that_the_whole_file_has() {
    let text = written(&store());
    let whole = Document::decode("auth.json".as_ref(), text.as_bytes()).expect("a store");
    let read = |_: u64, bytes: &mut [u8]| {
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    };
    let glanced = session(read, text.len(), &tenant());
    assert!(glanced.is_some(), "it is found");
    assert_eq!(glanced, whole.entry(&tenant()).session);
}

#[test]
fn others_that_write_a_member_a_line_are_understood() {
    let wide = written(&store()).replace("  ", "        ");
    assert_eq!(found(&wide), Some(3));
    assert_eq!(found(&wide.replace("        ", "\t")), Some(3));
    assert_eq!(found(&wide.replace("  ", "")), Some(3), "no indentation");
}

#[test]
fn a_small_window_sees_the_same_or_nothing() {
    let text = written(&store());
    let mut seen = 0;
    for window in 0..=text.len() {
        let found = found_in(&text, window);
        assert!(matches!(found, None | Some(3)), "{found:?} through {window} bytes");
        seen += usize::from(found.is_some());
    }
    assert!(seen > text.len() / 2, "{seen} windows of {} are large enough", text.len());
}

#[test]
fn what_only_looks_like_the_session_is_not_taken_for_it() {
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
    assert_eq!(found(&written(&quoted)), None, "a brace within a line is left to the whole reading");
}

#[test]
fn whatever_is_not_plainly_a_session_found_is_left_to_the_whole_reading() {
    let text = written(&store());
    assert_eq!(found(&text), Some(3));
    let without = |what: &str, instead: &str| {
        assert!(text.contains(what), "{what}");
        text.replace(what, instead)
    };
    let refused = [
        String::new(),
        "[]".into(),
        "{}".into(),
        serde_json::to_string(&store()).expect("is JSON"),
        without("\"version\": 1", "\"version\": 2"),
        without("\"version\": 1", "\"version\": 10"),
        without("\"version\": 1,", ""),
        without("\"version\": 1", "\"verſion\": 1"),
        without("\"sessions\": {", "\"later\": {"),
        without("\"generation\": 3", "\"generation\": \"3\""),
        without("\"codex/local\": {", "\"cod\\u0065x/local\": {"),
        without("\"codex/local\": {", "\"codex/local\" : {"),
        without("\n", "\r\n"),
        text[..text.find("\"codex/user:4\"").expect("is there") - 8].to_owned(),
    ];
    for text in refused {
        assert_eq!(found(&text), None, "{text}");
    }
    let fails = |_: u64, _: &mut [u8]| Err(io::Error::other("EIO"));
    assert_eq!(session(fails, WINDOW, &tenant()), None);
}

#[test]
fn the_session_is_found_whatever_is_wrong_behind_it() {
    let text = written(&store());
    let end = text.find("\"codex/user:4\"").expect("is there");
    assert_eq!(found(&text[..end]), Some(3));
    assert_eq!(found(&format!("{}\"codex/local\": {{", &text[..end])), Some(3));
}
