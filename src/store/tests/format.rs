//! The form of the file, and the errors of files that are no store.

use serde_json::{Value, json};

use super::*;
use crate::{
    secret::{DeviceCode, Fingerprint, IdToken, Nonce},
    session::{Ended, GrantKind, Polling, Rejected, Retry, UNKNOWN_EXPIRY},
    store::codec::{ChangedRecords, Document},
};

/// A record in which every optional field has a value.
fn full() -> Entry {
    let mut session = test_session(NOW, 3600);
    let fingerprint = Fingerprint::of("refresh-7");
    session.binding.resource = Some("https://api.example".into());
    session.subject = Some("sub-1".into());
    session.signed_in_by = Some("user:803".parse().expect("a principal"));
    session.id_token = Some(IdToken::new("id-token-1"));
    session.extra = [("instance_url".to_owned(), "https://eu.example".to_owned())].into();
    session.binding.revocation_endpoint = Some("https://id.example/revoke".into());
    session.binding.userinfo_endpoint = Some("https://id.example/userinfo".into());
    session.binding.probe_endpoint = Some("https://id.example/probe".into());
    session.rejected =
        Some(Rejected { fingerprint: Fingerprint::of("access-6"), at: NOW - 60, decided: true });
    session.retry = Some(Retry {
        set_at: NOW - 5,
        not_before: NOW + 5,
        attempts: 2,
        code: "ambiguous_timeout".into(),
        refused: None,
    });
    session.ended =
        Some(Ended { at: NOW - 1, code: "invalid_grant".into(), fingerprint, notified_at: Some(NOW) });
    let mut pending = pending("state-1");
    pending.nonce = Some(Nonce::new("nonce-1"));
    pending.lineage_seen = Some(session.lineage);
    pending.binding = session.binding.clone();
    pending.polling = Some(Polling {
        grant: GrantKind::Device,
        code: DeviceCode::new("device-1"),
        user_code: Some("ABCD-1234".into()),
        verification_uri: Some("https://id.example/device".into()),
        verification_uri_complete: Some("https://id.example/device?user_code=ABCD-1234".into()),
        binding_message: Some("threadkey for alice".into()),
        expires_at: NOW + 600,
        interval: 5,
        not_before: Some(NOW + 10),
        ended: Some("access_denied".into()),
    });
    Entry { session: Some(session), pending: Some(pending), candidate: None }
}

const FULL: &str = r#"{
  "version": 1,
  "sessions": {
    "codex/user:803": {
      "access_token": "access-7",
      "refresh_token": "refresh-7",
      "token_type": "Bearer",
      "scope": "read",
      "issued_at": 1795358672,
      "expires_at": 1795362272,
      "lineage": "07070707070707070707070707070707",
      "generation": 7,
      "account": "alice@example.com",
      "subject": "sub-1",
      "signed_in_by": "user:803",
      "id_token": "id-token-1",
      "extra": {
        "instance_url": "https://eu.example"
      },
      "issuer": "https://id.example",
      "token_endpoint": "https://id.example/token",
      "revocation_endpoint": "https://id.example/revoke",
      "userinfo_endpoint": "https://id.example/userinfo",
      "probe_endpoint": "https://id.example/probe",
      "client_id": "threadkey",
      "resource": "https://api.example",
      "rejected": {
        "fingerprint": "884db3c2eda8aa56b53ac6cc",
        "at": 1795358612,
        "decided": true
      },
      "retry": {
        "set_at": 1795358667,
        "not_before": 1795358677,
        "attempts": 2,
        "code": "ambiguous_timeout"
      },
      "ended": {
        "at": 1795358671,
        "code": "invalid_grant",
        "fingerprint": "70733995b14403143d062779",
        "notified_at": 1795358672
      }
    }
  },
  "pending": {
    "codex/user:803": {
      "verifier": "verifier-1",
      "state": "state-1",
      "nonce": "nonce-1",
      "redirect_uri": "http://127.0.0.1:1/callback",
      "created_at": 1795358672,
      "started_by": "local",
      "lineage_seen": "07070707070707070707070707070707",
      "issuer": "https://id.example",
      "token_endpoint": "https://id.example/token",
      "revocation_endpoint": "https://id.example/revoke",
      "userinfo_endpoint": "https://id.example/userinfo",
      "probe_endpoint": "https://id.example/probe",
      "client_id": "threadkey",
      "resource": "https://api.example",
      "scopes": [
        "read",
        "offline_access"
      ],
      "polling": {
        "grant": "device",
        "code": "device-1",
        "user_code": "ABCD-1234",
        "verification_uri": "https://id.example/device",
        "verification_uri_complete": "https://id.example/device?user_code=ABCD-1234",
        "binding_message": "threadkey for alice",
        "expires_at": 1795359272,
        "interval": 5,
        "not_before": 1795358682,
        "ended": "access_denied"
      }
    }
  },
  "clients": {}
}
"#;

#[test]
fn a_full_record_is_written_in_the_documented_form_and_reads_as_it_was() {
    let mut changed = ChangedRecords::default();
    changed.put(&alice(), full());
    let revised = Document::empty().revise(changed, Zeroizing::default());
    assert_eq!(revised.text(), FULL);
    let text = Zeroizing::new(FULL.as_bytes().to_vec());
    let again = Document::decode(Path::new("auth.json"), text).expect("a store");
    assert_eq!(again.records().get(&alice()), Some(&full()));
    assert!(revised.into_document(Arc::default()) == again);
}

#[tokio::test]
async fn every_field_of_a_full_record_disappears_from_the_file_with_its_value() {
    let f = Fixture::new();
    let mut least = full();
    let session = least.session.as_mut().expect("a session");
    let mut other = test_session(NOW, 3600);
    (other.refresh_token, other.scope, other.account) = (None, None, None);
    (other.binding.issuer, other.expires_at) = (None, UNKNOWN_EXPIRY);
    *session = other;
    let pending = least.pending.as_mut().expect("a sign-in");
    (pending.nonce, pending.lineage_seen, pending.binding) = (None, None, session.binding.clone());
    pending.polling = None;
    // Written on its own, and written over the full record: the same text.
    let alone = text_with(&alice(), least.clone());
    let mut changed = ChangedRecords::default();
    changed.put(&alice(), least);
    let full = Document::decode(&f.path(), Zeroizing::new(FULL.as_bytes().to_vec())).expect("a store");
    let revised = full.revise(changed, Zeroizing::default());
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(value(revised.text()), value(&alone));
    assert!(!alone.contains("extra") && alone.contains("\"expires_at\": 253402300799"), "{alone}");
}

#[tokio::test]
async fn optional_fields_without_a_value_are_absent() {
    let f = Fixture::new();
    let mut session = test_session(NOW, 3600);
    (session.refresh_token, session.scope, session.account) = (None, None, None);
    session.binding.issuer = None;
    sign_in(&f.store, &alice(), session).await;
    let session = f.value()["sessions"]["codex/user:803"].clone();
    let names: Vec<_> = session.as_object().expect("an object").keys().cloned().collect();
    let wanted = [
        "access_token",
        "token_type",
        "issued_at",
        "expires_at",
        "lineage",
        "generation",
        "token_endpoint",
        "client_id",
    ];
    assert_eq!(names, wanted);
    assert_eq!(f.value()["pending"], json!({}), "a finished sign-in is gone");
}

/// [`FULL`] with a foreign field in every object, and the paths to them.
fn foreign() -> (Value, Vec<&'static str>) {
    let mut value: Value = serde_json::from_str(FULL).expect("JSON");
    value["clients"] = json!({"https://id.example http://127.0.0.1:1/callback": {"client_id": "c-1"}});
    value["sessions"]["later/team:9"] = value["sessions"]["codex/user:803"].clone();
    let objects = vec![
        "",
        "/sessions/codex~1user:803",
        "/sessions/codex~1user:803/rejected",
        "/sessions/codex~1user:803/retry",
        "/sessions/codex~1user:803/ended",
        "/sessions/later~1team:9",
        "/pending/codex~1user:803",
        "/clients/https:~1~1id.example http:~1~1127.0.0.1:1~1callback",
    ];
    for path in &objects {
        let object = value.pointer_mut(path).and_then(Value::as_object_mut).expect(path);
        object.insert("x_foreign".into(), json!({"kept": [1, -2, 0.5, null, "ü"]}));
    }
    (value, objects)
}

#[tokio::test]
async fn unknown_fields_survive_a_change_at_every_level() {
    let f = Fixture::new();
    let (mut before, objects) = foreign();
    f.put(before.to_string());
    let session = f.store.read(&alice()).await.expect("readable").session.expect("a session");
    let change = Change::Notified(session.lineage);
    f.clock.advance(1);
    assert_eq!(f.store.change(&alice(), change).await.expect("writable").applied, Applied::Done);
    let after = f.value();
    for path in objects {
        assert_eq!(
            after.pointer(&format!("{path}/x_foreign")),
            before.pointer(&format!("{path}/x_foreign")),
            "{path}"
        );
    }
    before["sessions"]["codex/user:803"]["ended"]["notified_at"] = json!(NOW + 1);
    assert_eq!(after, before, "and nothing else changed");
}

#[tokio::test]
async fn a_fraction_in_an_unknown_field_survives_to_its_last_digit() {
    let f = Fixture::new();
    // An inexact parser reads these numbers as their neighbours. In tests, other crates enable the
    // exact parser in any case. So the fuzz target `store`, which is built like the program, also
    // begins with these numbers.
    let fractions = ["0.9719863718547629", "-0.12489148443491327", "1.2345678901234568e-300"];
    f.put(FULL.replacen("\"version\": 1", &format!("\"x\": [{}], \"version\": 1", fractions.join(", ")), 1));
    let session = f.store.read(&alice()).await.expect("readable").session.expect("a session");
    let change = Change::Notified(session.lineage);
    assert_eq!(f.store.change(&alice(), change).await.expect("writable").applied, Applied::Done);
    for fraction in fractions {
        assert!(f.text().contains(fraction), "{fraction} became another: {}", f.text());
    }
}

#[tokio::test]
async fn a_refresh_keeps_unknown_fields_and_a_new_grant_begins_without_them() {
    let f = Fixture::new();
    f.put(foreign().0.to_string());
    let session = f.store.read(&alice()).await.expect("readable").session.expect("a session");
    let mut held = lock(&f.store).await;
    let spent = session.refresh_target().expect("a refresh token");
    assert_eq!(held.settle(refreshed(spent, 8)).await.expect("writable").applied, Applied::Done);
    let ours = |value: &Value| value["sessions"]["codex/user:803"].clone();
    assert!(ours(&f.value()).get("x_foreign").is_some());
    assert!(ours(&f.value()).get("retry").is_none(), "a success ends the backoff");

    let mut next = test_session(NOW, 3600);
    next.lineage = Lineage([8; 16]);
    sign_in(&f.store, &alice(), next).await;
    assert!(
        ours(&f.value()).get("x_foreign").is_none(),
        "what was said of the old grant is not true of the new one"
    );
    assert!(
        f.value()["sessions"]["later/team:9"].get("x_foreign").is_some(),
        "other tenants are not touched"
    );
}

#[tokio::test]
async fn a_tenant_that_this_version_does_not_know_is_kept_and_not_listed() {
    let f = Fixture::new();
    f.put(foreign().0.to_string());
    let listed: Vec<_> = f.store.list().await.expect("readable").keys().cloned().collect();
    assert_eq!(listed, [alice()]);
    assert_eq!(f.store.change(&alice(), Change::Logout).await.expect("writable").applied, Applied::Done);
    assert!(f.value()["sessions"].get("later/team:9").is_some());
    assert!(f.value()["sessions"].get("codex/user:803").is_none());
}

#[tokio::test]
async fn each_write_drops_sign_ins_two_days_after_they_could_be_finished() {
    for (created_at, stays) in [
        (NOW, true),
        (NOW - 900 - 2 * DAY + 1, true),
        (NOW - 900 - 2 * DAY, false),
        (0, false),
        (NOW + 900 + 2 * DAY, true),
        (NOW + 901 + 2 * DAY, false),
    ] {
        let f = Fixture::new();
        let mut old = pending("state-old");
        old.created_at = created_at;
        let entry = Entry { pending: Some(old), ..Entry::default() };
        f.put(text_with(&"codex/user:1".parse().expect("a tenant"), entry));
        f.store.change(&alice(), Change::Start(pending("state-1"))).await.expect("writable");
        let kept = f.value()["pending"].get("codex/user:1").is_some();
        assert_eq!(kept, stays, "created {} s from now", created_at - NOW);
        assert!(f.value()["pending"].get("codex/user:803").is_some());
    }
}

#[tokio::test]
async fn an_invalid_store_is_refused_with_its_line_without_values_and_stays_unchanged() {
    let broken = |from: &str, to: &str| FULL.replacen(from, to, 1).into_bytes();
    let cases: Vec<(&str, Vec<u8>, usize, &str)> = vec![
        ("zero length", vec![], 1, "empty"),
        ("white space", b" \n\n".to_vec(), 3, "EOF"),
        ("zeros", vec![0; 512], 1, "expected value"),
        ("cut off", FULL.as_bytes()[..700].to_vec(), 23, "EOF"),
        ("something behind it", format!("{FULL}}}").into_bytes(), 82, "trailing characters"),
        ("a byte order mark", format!("\u{FEFF}{FULL}").into_bytes(), 1, "byte order mark"),
        ("not UTF-8", [&FULL.as_bytes()[..30], b"\xff\xfe"].concat(), 3, "UTF-8"),
        ("a list", b"[]".to_vec(), 1, "expected an object"),
        ("no version", broken("\"version\": 1,", ""), 81, "missing field `version`"),
        ("version 0", broken("\"version\": 1", "\"version\": 0"), 2, "expected a version from 1"),
        ("version text", broken("\"version\": 1", "\"version\": \"canary\""), 2, "expected u64"),
        ("sessions null", b"{\"version\": 1,\n\"sessions\": null}".to_vec(), 2, "expected an object"),
        (
            "a session that is text",
            broken("{\n      \"access_token\"", "\"canary\", \"x\": {\n\"access_token\""),
            4,
            "expected an object",
        ),
        ("a token that is a number", broken("\"access-7\"", "4711"), 5, "expected a string"),
        ("a time that is text", broken("1795362272", "\"canary, expected x\""), 10, "expected i64"),
        ("a generation below zero", broken("\"generation\": 7", "\"generation\": -7"), 12, "expected u64"),
        ("a bad lineage", broken("07070707", "canary"), 11, "expected a lineage"),
        ("a missing lineage", broken("\"lineage\"", "\"canary\""), 44, "missing field `lineage`"),
        ("a bad fingerprint", broken("884d", "canary"), 28, "expected a fingerprint"),
        ("a bad principal", broken("\"local\"", "\"canary\""), 53, "expected a principal"),
        ("a field twice", broken("\"scope\"", "\"token_type\""), 8, "in this object already"),
        ("a tenant twice", broken("\"pending\": {", "\"sessions\": {"), 46, "in this object already"),
        (
            "a number too large",
            broken("\"clients\": {}", "\"canary\": 123456789012345678901"),
            80,
            "too large",
        ),
    ];
    for (name, text, line, what) in cases {
        let f = Fixture::new();
        f.put(&text);
        let errors = [
            f.store.read(&alice()).await.map(drop).expect_err(name),
            f.store.list().await.map(drop).expect_err(name),
            f.store.change(&alice(), Change::Start(pending("state-1"))).await.map(drop).expect_err(name),
            f.store.try_lock(&alice(), Purpose::Refresh).await.map(drop).expect_err(name),
        ];
        for error in errors {
            let sentence = error.to_string();
            assert!(
                matches!(&error, StoreError::Corrupt { line: at, .. } if *at == line),
                "{name}: {error:?}"
            );
            assert!(sentence.contains(what), "{name}: {sentence}");
            assert!(sentence.contains("auth.json"), "{name}: {sentence}");
            for secret in ["canary", "4711", "access-7", "refresh-7", "12345678901"] {
                assert!(!format!("{sentence} {error:?}").contains(secret), "{name}: {sentence}");
            }
        }
        assert_eq!(fs::read(f.path()).expect("there"), text, "{name}");
    }
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_read_and_never_written() {
    let f = Fixture::new();
    let text = FULL.replacen("\"version\": 1", "\"version\": 2", 1);
    f.put(&text);
    assert_eq!(f.store.read(&alice()).await.expect("readable"), full());
    let errors = [
        f.store.change(&alice(), Change::Logout).await.map(drop).expect_err("newer"),
        f.store.try_lock(&alice(), Purpose::Refresh).await.map(drop).expect_err("nothing is spent for it"),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::Newer { version: 2, .. }), "{error}");
    }
    assert_eq!(f.text(), text);
    f.put(r#"{"version": 2, "sessions": []}"#);
    let error = f.store.read(&alice()).await.expect_err("another form");
    assert!(matches!(error, StoreError::Newer { version: 2, .. }), "newer, not corrupt: {error}");
}

#[tokio::test]
async fn the_name_that_serde_json_uses_internally_is_kept_like_any_unknown_field() {
    for value in ["5", r#""[1, 2]""#, r#""no JSON""#] {
        let f = Fixture::new();
        let session = f.sign_in().await;
        let foreign = format!(r#""x_foreign": [{{"$serde_json::private::RawValue": {value}}}]"#);
        f.put(f.text().replacen(r#""access_token""#, &format!(r#"{foreign}, "access_token""#), 1));
        let mut lock = lock(&f.store).await;
        let spent = session.refresh_target().expect("a refresh token");
        assert_eq!(lock.settle(refreshed(spent, 8)).await.expect(value).applied, Applied::Done);
        let packed: String = f.text().split_whitespace().collect();
        assert!(packed.contains(&foreign.replace(' ', "")), "{value}: {packed}");
    }
}
