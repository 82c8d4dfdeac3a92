//! Programs of the operator at the token API: each key opens its own scope, and nothing else.

mod document;
mod metrics;
mod program;
mod tcp;

use serde_json::json;
use threadkey::{
    api::{KeyScope, KeySource, ListenSettings, OperatorKeySettings, Right},
    ids::{ConversationId, Principal, Snowflake},
    secret::{Scrubber, Secret},
};

use crate::api::{ALICE, Answer, BOB, Rig, assert_problem};

/// Opens everything.
pub(super) const ALL: &str = "key-of-all-0123456789abcdef0123456789";
/// Opens Alice's session.
const ALICES: &str = "key-of-alice-0123456789abcdef01234567";
/// Lists, and does nothing else.
const LISTS: &str = "key-that-lists-0123456789abcdef012345";
/// Has no principal and no provider.
const CLOSED: &str = "key-that-is-closed-0123456789abcdef01";

pub(super) fn key(
    name: &str,
    text: &str,
    principals: &[&str],
    providers: &[&str],
    rights: &[Right],
) -> OperatorKeySettings {
    let scope = KeyScope {
        principals: principals.iter().map(|text| text.parse().unwrap()).collect(),
        providers: providers.iter().map(|text| text.parse().unwrap()).collect(),
        rights: rights.iter().copied().collect(),
    };
    OperatorKeySettings { name: name.into(), source: KeySource::Variable(Secret::new(text)), scope }
}

pub(super) fn keys() -> Vec<OperatorKeySettings> {
    let usual: Vec<Right> = Right::usual().into_iter().collect();
    let every = [&usual[..], &[Right::Metrics]].concat();
    vec![
        key("all", ALL, &["*"], &["*"], &every),
        key("alice", ALICES, &["user:803"], &["acme"], &usual),
        key("lists", LISTS, &["user:*"], &["*"], &[Right::List]),
        key("closed", CLOSED, &[], &[], &usual),
    ]
}

pub(super) async fn rig(listen: Option<ListenSettings>) -> Rig {
    let rig = Rig::serving(keys(), listen).await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    rig.sign_in(Principal::User(BOB), "bob").await;
    rig
}

async fn get(rig: &Rig, path: &str, key: &str) -> Answer {
    rig.ask("GET", path, Some(key), "").await
}

#[tokio::test]
async fn a_key_gets_the_tokens_of_the_principals_that_it_covers() {
    let rig = rig(None).await;
    let hers = get(&rig, "/v1/token/acme?principal=user:803", ALICES).await;
    assert_eq!((hers.status, &hers.body["principal"]), (200, &json!("user:803")), "{hers:?}");
    assert!(hers.body.get("refresh_token").is_none());
    let token = hers.body["access_token"].as_str().unwrap();
    assert_eq!(Scrubber::of_process().clean(token), "[secret removed]");
    let alone = get(&rig, "/v1/token/acme?min_ttl=90", ALICES).await;
    assert_eq!(alone.body["principal"], "user:803", "the key covers one principal alone: {alone:?}");
    let his = get(&rig, "/v1/token/acme?principal=user:804", ALL).await;
    assert_eq!((his.status, &his.body["account"]), (200, &json!("bob@example.com")), "{his:?}");
    assert_problem(&get(&rig, "/v1/token/acme", ALL).await, 400, "invalid_request");
    let no_owner = get(&rig, "/v1/token/acme?principal=user:805&wait=300", ALL).await;
    assert_problem(&no_owner, 404, "no_session");
    assert_problem(
        &get(&rig, "/v1/token/acme?principal=user:803&wait=301", ALL).await,
        400,
        "invalid_request",
    );
    assert_problem(&get(&rig, "/v1/token/acme?principal=bob", ALL).await, 400, "invalid_request");
    assert_problem(&get(&rig, "/v1/token/other?principal=local", ALL).await, 404, "unknown_provider");
    assert_problem(&get(&rig, "/v1/token/acme?principal=local", ALL).await, 404, "no_session");
}

#[tokio::test]
async fn a_key_whose_scope_is_too_small_learns_nothing_about_sessions() {
    let rig = rig(None).await;
    let refused = [
        ("/v1/token/acme?principal=", ALICES, "not_entitled", ["user:804", "user:805"]),
        ("/v1/token/acme?principal=", LISTS, "not_entitled", ["user:804", "user:805"]),
        ("/v1/token/acme?principal=", CLOSED, "provider_not_allowed", ["user:804", "user:805"]),
        (
            "/v1/token/",
            ALICES,
            "provider_not_allowed",
            ["other?principal=user:803", "Not-A-Name?principal=user:803"],
        ),
    ];
    for (path, key, code, [one, other]) in refused {
        let [one, other] =
            [get(&rig, &format!("{path}{one}"), key).await, get(&rig, &format!("{path}{other}"), key).await];
        assert_problem(&one, 403, code);
        assert_eq!(one.body, other.body, "the same whether or not there is a session");
    }
    for principal in ["user:804", "user:805"] {
        let path = format!("/v1/sessions/acme/{principal}");
        for key in [ALICES, LISTS] {
            assert_problem(&rig.ask("DELETE", &path, Some(key), "").await, 403, "not_entitled");
        }
    }
    assert_problem(&get(&rig, "/metrics", ALICES).await, 403, "not_entitled");
    assert_problem(&get(&rig, "/v1/sessions", &ALL[1..]).await, 401, "unauthorized");
    assert_problem(&rig.ask("GET", "/v1/sessions", None, "").await, 401, "unauthorized");
}

#[tokio::test]
async fn a_worker_gets_no_session_and_no_metrics_by_its_capability() {
    let rig = rig(None).await;
    let worker = rig.worker(1, ALICE, None);
    for path in ["/v1/sessions", "/metrics"] {
        assert_problem(&rig.get(path, Some(&worker)).await, 403, "not_entitled");
    }
    let deleted = rig.ask("DELETE", "/v1/sessions/acme/user:803", Some(worker.expose()), "").await;
    assert_problem(&deleted, 403, "not_entitled");
    let other = rig.get("/v1/token/acme?principal=user:804", Some(&worker)).await;
    assert_problem(&other, 400, "invalid_request");
    assert_eq!(rig.get("/v1/token/acme", Some(&worker)).await.status, 200);
    rig.capabilities.revoke(ConversationId(Snowflake(1)));
    assert_problem(&rig.get("/v1/sessions", Some(&worker)).await, 401, "unauthorized");
}

#[tokio::test]
async fn the_list_has_the_sessions_in_scope_and_no_token() {
    let rig = rig(None).await;
    rig.sign_in(Principal::Local, "carol").await;
    let all = get(&rig, "/v1/sessions", ALL).await;
    let principals = |answer: &Answer| -> Vec<String> {
        let sessions = answer.body["sessions"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
        let own = sessions.iter().filter(|session| session["provider"] == "acme");
        own.map(|session| session["principal"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(principals(&all), ["user:803", "user:804", "local"]);
    assert_eq!(principals(&get(&rig, "/v1/sessions", LISTS).await), ["user:803", "user:804"]);
    assert_eq!(principals(&get(&rig, "/v1/sessions", ALICES).await), ["user:803"]);
    assert!(principals(&get(&rig, "/v1/sessions", CLOSED).await).is_empty());
    let hers = &all.body["sessions"][0];
    assert_eq!((&hers["provider"], &hers["state"]), (&json!("acme"), &json!("ready")), "{hers}");
    assert_eq!((&hers["account"], &hers["generation"]), (&json!("alice@example.com"), &json!(1)));
    assert!(hers["expires_at"].as_i64() > hers["issued_at"].as_i64(), "{hers}");
    for principal in [Principal::User(ALICE), Principal::User(BOB)] {
        let tenant = threadkey::ids::Tenant::new("acme".parse().unwrap(), principal);
        let session = rig.broker.session(&tenant).await.unwrap().unwrap();
        let text = all.body.to_string();
        assert!(!text.contains(session.access_token.expose()));
        assert!(!text.contains(session.refresh_token.unwrap().expose()));
    }
}

#[tokio::test]
async fn a_deleted_session_is_revoked_and_serves_no_token() {
    let rig = rig(None).await;
    let path = "/v1/sessions/acme/user:803";
    let revoked = rig.ask("DELETE", path, Some(ALICES), "").await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    assert_eq!(revoked.body["principal"], "user:803");
    assert_problem(&rig.ask("DELETE", path, Some(ALICES), "").await, 404, "no_session");
    assert_problem(&get(&rig, "/v1/token/acme", ALICES).await, 404, "no_session");
    let kept = rig.ask("DELETE", "/v1/sessions/acme/user:804?grant=keep", Some(ALL), "").await;
    assert_eq!((kept.status, &kept.body["grant"]), (200, &json!("kept")), "{kept:?}");
    let odd = rig.ask("DELETE", "/v1/sessions/acme/user:804?grant=perhaps", Some(ALL), "").await;
    assert_problem(&odd, 400, "invalid_request");
}

#[tokio::test]
async fn an_account_with_two_sessions_is_revoked_only_by_choice() {
    let rig = rig(None).await;
    rig.sign_in(Principal::Local, "alice").await;
    let path = "/v1/sessions/acme/user:803";
    let asked = rig.ask("DELETE", path, Some(ALICES), "").await;
    assert_problem(&asked, 409, "account_in_use");
    assert!(!asked.body.to_string().contains("local"), "the key does not cover the other session");
    let chosen = rig.ask("DELETE", &format!("{path}?grant=revoke"), Some(ALICES), "").await;
    assert_eq!(chosen.status, 200, "{chosen:?}");
}

#[tokio::test]
async fn a_token_that_an_operator_reports_is_replaced_by_one_refresh() {
    let rig = rig(None).await;
    let first = get(&rig, "/v1/token/acme", ALICES).await.body["access_token"].clone();
    let body = json!({ "access_token": first }).to_string();
    let path = "/v1/token/acme/rejected?principal=user:803";
    let second = rig.ask("POST", path, Some(ALICES), &body).await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_ne!(second.body["access_token"], first);
    let again = rig.ask("POST", path, Some(ALL), &body).await;
    assert_eq!(again.body["access_token"], second.body["access_token"]);
    assert_eq!(rig.server.events().of("alice").refreshes, 1);
    assert_problem(&rig.ask("POST", path, Some(LISTS), &body).await, 403, "not_entitled");
}

#[tokio::test]
async fn an_operator_key_forces_one_refresh_in_ten_minutes() {
    let rig = rig(None).await;
    let token = async || get(&rig, "/v1/token/acme", ALICES).await.body["access_token"].clone();
    let report = async |key, token| {
        let body = json!({ "access_token": token }).to_string();
        rig.ask("POST", "/v1/token/acme/rejected?principal=user:803", Some(key), &body).await
    };
    assert_eq!(report(ALICES, token().await).await.status, 200);
    // The pause of a minute for all reporters together is over.
    rig.clock.advance(120);
    let current = token().await;
    let refreshes = || rig.server.events().of("alice").refreshes;
    let before = refreshes();
    assert_problem(&report(ALICES, current.clone()).await, 503, "rejected_again");
    assert_eq!(refreshes(), before);
    assert_eq!(report(ALL, current).await.status, 200, "another key has reports of its own");
    assert_eq!(refreshes(), before + 1);
    rig.clock.advance(480);
    assert_eq!(report(ALICES, token().await).await.status, 200);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is the operator who replaces the file")]
async fn a_key_that_is_replaced_during_a_refresh_gets_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, ALICES).unwrap();
    let mut settings = key("alice", ALICES, &["user:803"], &["acme"], &[Right::Tokens]);
    settings.source = KeySource::File(file.clone());
    let rig = Rig::serving(vec![settings], None).await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    rig.clock.advance(86_400);
    rig.server.hold();
    let replacing = async {
        rig.server.wait_for_held(1).await;
        std::fs::write(&file, ALL).unwrap();
        rig.operators.reload().await;
        rig.server.release();
    };
    let (answer, ()) = tokio::join!(get(&rig, "/v1/token/acme", ALICES), replacing);
    assert_problem(&answer, 401, "unauthorized");
    assert_eq!(get(&rig, "/v1/token/acme", ALL).await.status, 200, "the new key opens the new token");
}
