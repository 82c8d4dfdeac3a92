//! MCP servers that demand OAuth: the official SDK's, signed in to from nothing but its URL, and
//! scripted ones for each branch of the specification.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

mod agents;
mod bad_input;
mod bridge;
mod callback;
mod clients;
pub(crate) mod real;
mod scopes;
mod scripted;
mod slow;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::scripted::{ISSUER_AT, RESOURCE_AT, Scripted, issuer, registered, resource};
use crate::support::program::{Ended, Home};

/// A home whose provider `linear` is this MCP server.
fn home(url: &str, more: &str) -> Home {
    Home::new(&format!("[providers.linear]\nmcp = \"{url}\"\n{more}"))
}

async fn start(home: &Home) -> Ended {
    home.run(&["auth", "start", "linear", "--json"]).await
}

/// Returns the parameters of the sign-in link.
fn link(started: &Ended) -> BTreeMap<String, String> {
    assert_eq!(started.code, 0, "{started:?}");
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let url = url::Url::parse(started["authorize_url"].as_str().unwrap()).unwrap();
    let mut parameters: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    parameters.insert("at".into(), url[..url::Position::AfterPath].to_owned());
    parameters
}

#[tokio::test]
async fn a_sign_in_at_an_mcp_server_asks_for_its_resource_and_all_its_scopes() {
    let server = Scripted::start(&[
        (RESOURCE_AT, 200, "", resource()),
        (ISSUER_AT, 200, "", issuer()),
        ("/register", 201, "", registered()),
    ])
    .await;
    let link = link(&start(&server.home()).await);
    assert_eq!(link["at"], format!("{}/authorize", server.base));
    assert_eq!(link["resource"], format!("{}/mcp", server.base));
    assert_eq!((link["client_id"].as_str(), link["scope"].as_str()), ("c-1", "a b offline_access"));
    let expected = [
        "POST /mcp",
        "GET /.well-known/oauth-protected-resource/mcp",
        "GET /.well-known/oauth-authorization-server",
        "POST /register",
    ];
    assert_eq!(server.asked(), expected);
}

#[tokio::test]
async fn a_challenge_names_the_metadata_and_the_scopes() {
    let server = Scripted::start(&[
        ("/mcp", 401, "Bearer scope=\"b\", resource_metadata=\"{base}/custom.json\"", json!({})),
        ("/custom.json", 200, "", resource()),
        (ISSUER_AT, 200, "", issuer()),
        ("/register", 201, "", registered()),
    ])
    .await;
    assert_eq!(link(&start(&server.home()).await)["scope"], "b offline_access");
    assert!(!server.asked().iter().any(|asked| asked.contains("oauth-protected-resource")));
}

#[tokio::test]
async fn a_second_start_uses_the_client_that_the_first_one_registered() {
    let server = Scripted::start(&[
        (RESOURCE_AT, 200, "", resource()),
        (ISSUER_AT, 200, "", issuer()),
        ("/register", 201, "", json!({"client_id": "c-1", "client_secret": "s3cr3t-of-c-1", "client_secret_expires_at": 0, "token_endpoint_auth_method": "client_secret_post"})),
    ])
    .await;
    let home = server.home();
    for _ in 0..2 {
        let started = start(&home).await;
        assert!(!format!("{started:?}").contains("s3cr3t"), "{started:?}");
        assert_eq!(link(&started)["client_id"], "c-1");
        home.run(&["auth", "cancel"]).await;
    }
    assert_eq!(server.asked().iter().filter(|asked| *asked == "POST /register").count(), 1);
    let store: Value = serde_json::from_str(&std::fs::read_to_string(home.store()).unwrap()).unwrap();
    let key = format!("{} http://127.0.0.1:28471/callback", server.base);
    assert_eq!(store["clients"][key]["client_secret"], "s3cr3t-of-c-1");
}

#[tokio::test]
async fn an_expired_client_secret_is_replaced_by_a_new_registration() {
    let server = Scripted::start(&[
        (RESOURCE_AT, 200, "", resource()),
        (ISSUER_AT, 200, "", issuer()),
        ("/register", 201, "", json!({"client_id": "c-1", "client_secret": "s", "client_secret_expires_at": 1, "token_endpoint_auth_method": "client_secret_post"})),
    ])
    .await;
    let home = server.home();
    for _ in 0..2 {
        assert_eq!(start(&home).await.code, 0);
    }
    assert_eq!(server.asked().iter().filter(|asked| *asked == "POST /register").count(), 2);
}

#[tokio::test]
async fn metadata_that_do_not_fit_the_mcp_server_end_the_start_with_advice() {
    let other_resource = json!({"resource": "https://evil.example/mcp", "authorization_servers": ["{base}"]});
    let other_issuer = json!({"issuer": "https://evil.example", "authorization_endpoint": "{base}/a", "token_endpoint": "{base}/t"});
    let http_issuer = json!({"resource": "{base}/mcp", "authorization_servers": ["http://id.example"]});
    let mut no_registration = issuer();
    no_registration.as_object_mut().unwrap().remove("registration_endpoint");
    for (resource_is, issuer_is, status, expected) in [
        (other_resource, issuer(), 201, "is not this server"),
        (resource(), other_issuer, 201, "names the issuer \"https://evil.example\""),
        (http_issuer, issuer(), 201, "https"),
        (resource(), no_registration, 201, "write its client_id into providers.linear"),
        (resource(), issuer(), 400, "does not register threadkey (invalid_redirect_uri)"),
    ] {
        let server = Scripted::start(&[
            (RESOURCE_AT, 200, "", resource_is),
            (ISSUER_AT, 200, "", issuer_is),
            ("/register", status, "", json!({"error": "invalid_redirect_uri", "client_id": "c"})),
        ])
        .await;
        let refused = start(&server.home()).await;
        assert!(refused.code != 0 && refused.stderr.contains(expected), "{expected}: {refused:?}");
        assert_eq!(refused.stdout, "");
    }
}

#[tokio::test]
async fn a_server_without_resource_metadata_is_its_own_authorization_server() {
    let with_metadata =
        Scripted::start(&[(ISSUER_AT, 200, "", issuer()), ("/register", 201, "", registered())]).await;
    assert_eq!(link(&start(&with_metadata.home()).await)["client_id"], "c-1");
    let without = Scripted::start(&[("/register", 201, "", registered())]).await;
    let link = link(&start(&without.home()).await);
    assert_eq!(link["at"], format!("{}/authorize", without.base));
    assert_eq!(link["resource"], format!("{}/mcp", without.base));
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_neither_used_nor_shown() {
    let mut metadata = issuer();
    metadata["authorization_response_iss_parameter_supported"] = json!(true);
    let server = Scripted::start(&[
        (RESOURCE_AT, 200, "", resource()),
        (ISSUER_AT, 200, "", metadata),
        ("/register", 201, "", registered()),
    ])
    .await;
    let home = server.home();
    let link = link(&start(&home).await);
    let at = |more: String| format!("http://127.0.0.1:28471/callback?state={}&{more}", link["state"]);
    for wrong in [
        "code=code-1".to_owned(),
        "code=code-1&iss=https://evil.example".to_owned(),
        format!("code=code-1&iss={}/", server.base),
        "error=access_denied&error_description=call-evil&iss=https://evil.example".to_owned(),
        "error=access_denied&error_description=call-evil".to_owned(),
    ] {
        let refused = home.run_with(&["auth", "code"], &at(wrong.clone())).await;
        assert!(refused.code != 0 && !refused.stderr.contains("call-evil"), "{wrong}: {refused:?}");
        assert!(!refused.stderr.contains("access_denied"), "{wrong}: {refused:?}");
    }
    assert!(!server.asked().contains(&"POST /token".to_owned()));
    let denied = format!("error=access_denied&error_description=by-alice&iss={}", server.base);
    let denied = home.run_with(&["auth", "code"], &at(denied)).await;
    assert!(denied.stderr.contains("by-alice"), "{denied:?}");
}
