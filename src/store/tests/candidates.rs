//! A sign-in that waits for a choice, in the file.

use serde_json::{Value, json};

use super::*;

/// A sign-in as somebody else than [`test_session`]'s.
fn bob() -> Session {
    let mut bob = test_session(NOW, 3600);
    bob.lineage = Lineage([8; 16]);
    bob.account = Some("bob@example.com".into());
    bob
}

/// A store with a session, and bob's sign-in as its candidate.
fn undecided() -> Fixture {
    let f = Fixture::new();
    f.put(text_with(
        &alice(),
        Entry { session: Some(test_session(NOW, 3600)), candidate: Some(bob()), ..Entry::default() },
    ));
    f
}

fn switch() -> Change {
    Change::Switch { lineage: bob().lineage }
}

#[tokio::test]
async fn a_candidate_is_written_as_a_session_is_and_reads_as_it_was() {
    let f = undecided();
    let value = f.value();
    let (session, candidate) = (&value["sessions"]["codex/user:803"], &value["candidates"]["codex/user:803"]);
    let members = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(session), members(candidate));
    assert_eq!(session["account"], "alice@example.com");
    assert_eq!(
        (&candidate["account"], &candidate["generation"], &candidate["lineage"]),
        (&json!("bob@example.com"), &json!(7), &json!("08080808080808080808080808080808"))
    );
    let read = f.healthy().read(&alice()).await.expect("readable");
    assert_eq!(read.candidate, Some(bob()));
    assert_eq!(f.store.change(&alice(), Change::Logout).await.expect("writable").applied, Applied::Done);
    assert_eq!((&f.value()["candidates"], &f.value()["sessions"]), (&json!({}), &json!({})));
}

#[tokio::test]
async fn a_store_without_candidates_gets_no_section_for_them() {
    let f = Fixture::new();
    f.sign_in().await;
    assert!(f.value().get("candidates").is_none());
    let text = f.text().replacen("\"sessions\"", "\"candidates\": {},\n  \"sessions\"", 1);
    f.put(&text);
    f.store.change(&alice(), Change::Start(pending("state-2"))).await.expect("writable");
    assert_eq!(f.value()["candidates"], json!({}));
}

#[tokio::test]
async fn unknown_fields_of_a_candidate_stay_with_its_grant_and_end_with_it() {
    let f = undecided();
    let mut value = f.value();
    value["candidates"]["codex/user:803"]["x_foreign"] = json!({"of": "bob"});
    value["sessions"]["codex/user:803"]["x_foreign"] = json!({"of": "alice"});
    value["candidates"]["later/team:9"] = value["candidates"]["codex/user:803"].clone();
    f.put(value.to_string());
    f.store.change(&alice(), Change::Start(pending("state-2"))).await.expect("writable");
    assert_eq!(f.value()["candidates"]["codex/user:803"]["x_foreign"]["of"], "bob");
    assert_eq!(f.store.change(&alice(), switch()).await.expect("writable").applied, Applied::Done);
    let after = f.value();
    assert_eq!(after["sessions"]["codex/user:803"]["x_foreign"]["of"], "bob", "{after}");
    assert_eq!(after["sessions"]["codex/user:803"]["account"], "bob@example.com");
    assert!(after["candidates"].get("codex/user:803").is_none());
    assert!(after["candidates"].get("later/team:9").is_some(), "another version's tenant is kept");
}

#[tokio::test]
async fn an_invalid_candidate_is_refused_with_its_line_and_the_file_stays_unchanged() {
    for (from, to, what) in [
        ("\"generation\": 7", "\"generation\": \"canary\"", "expected u64"),
        ("\"lineage\": \"08", "\"lineage\": \"canary", "expected a lineage"),
        ("\"token_type\"", "\"canary\"", "missing field `token_type`"),
        ("\"scope\"", "\"token_type\"", "in this object already"),
    ] {
        let f = undecided();
        let (sessions, candidates) = {
            let text = f.text();
            let at = text.find("\"candidates\"").expect("a section");
            (text[..at].to_owned(), text[at..].to_owned())
        };
        let text = sessions + &candidates.replacen(from, to, 1);
        f.put(&text);
        let line = 1 + text.find("\"candidates\"").map_or(0, |at| text[..at].matches('\n').count());
        let errors = [
            f.store.read(&alice()).await.map(drop).expect_err(from),
            f.store.change(&alice(), Change::Logout).await.map(drop).expect_err(from),
        ];
        for error in errors {
            assert!(matches!(&error, StoreError::Corrupt { line: at, .. } if *at > line), "{error:?}");
            let sentence = error.to_string();
            assert!(sentence.contains(what) && !sentence.contains("canary"), "{sentence}");
        }
        assert_eq!(f.text(), text);
    }
    let f = Fixture::new();
    f.put(r#"{"version": 1, "candidates": []}"#);
    assert!(matches!(f.store.read(&alice()).await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn each_write_drops_candidates_two_days_after_they_could_be_chosen() {
    for (issued_at, stays) in [
        (NOW, true),
        (NOW - 900 - 2 * DAY + 1, true),
        (NOW - 900 - 2 * DAY, false),
        (0, false),
        (-5, false),
        (NOW + 900 + 2 * DAY, true),
        (NOW + 901 + 2 * DAY, false),
    ] {
        let f = Fixture::new();
        let entry = Entry {
            session: Some(test_session(NOW, 3600)),
            candidate: Some(Session { issued_at, ..bob() }),
            ..Entry::default()
        };
        f.put(text_with(&"codex/user:1".parse().expect("a tenant"), entry));
        f.store.change(&alice(), Change::Start(pending("state-1"))).await.expect("writable");
        let kept = f.value()["candidates"].get("codex/user:1").is_some();
        assert_eq!(kept, stays, "signed in {} s from now", issued_at - NOW);
        assert!(f.value()["sessions"].get("codex/user:1").is_some());
    }
}
