//! The two sources of tokens beside a session: the environment, and an exchange (RFC 8693).
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, time::SystemTime};

use serde_json::{Value, json};

use crate::support::{
    program::{Ended, Home},
    raw::{self, Ending, RawServer},
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const VARIABLES: [(&str, &str); 2] = [("ACME_TOKEN", "env-token-1"), ("THREADKEY_LOG", "trace")];

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// A home with a provider at this endpoint, a session of `acme/local` there, and more configuration.
fn home(token_endpoint: &str, more: &str) -> Home {
    let home = Home::new(&format!(
        "[providers.acme]\nauthorization_endpoint = \"http://127.0.0.1:1/authorize\"\n\
         token_endpoint = \"{token_endpoint}\"\nclient_id = \"threadkey\"\n\
         redirect_uri = \"http://127.0.0.1:1/callback\"\n{more}"
    ));
    let session = json!({
        "access_token": "access-7", "refresh_token": "refresh-7", "token_type": "Bearer",
        "issued_at": now() - 600, "expires_at": now() + 3000, "lineage": "07070707070707070707070707070707",
        "generation": 7, "account": "alice@example.com", "token_endpoint": token_endpoint,
        "client_id": "threadkey",
    });
    let folder = home.store().parent().unwrap().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    let text = json!({"version": 1, "sessions": {"acme/local": session}}).to_string();
    std::fs::write(home.store(), text).unwrap();
    std::fs::set_permissions(home.store(), PermissionsExt::from_mode(0o600)).unwrap();
    home
}

async fn with_variable(home: &Home, arguments: &[&str], input: &str) -> Ended {
    home.run_in(arguments, input, &VARIABLES).await
}

fn parsed(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("no JSON: {ended:?}"))
}

#[tokio::test]
async fn a_token_of_the_environment_goes_before_the_session_and_is_never_stored() {
    let home = home("http://127.0.0.1:1/token", "token_env = [\"FIRST_TOKEN\", \"ACME_TOKEN\"]\n");
    let before = std::fs::read(home.store()).unwrap();
    assert_eq!(home.run(&["token", "acme"]).await.stdout, "access-7\n", "no variable is set");
    let raw = with_variable(&home, &["token", "acme"], "").await;
    assert_eq!((raw.code, raw.stdout.as_str()), (0, "env-token-1\n"), "{raw:?}");
    let json = parsed(&with_variable(&home, &["token", "acme", "--format", "json"], "").await);
    assert_eq!((&json["source"], &json["generation"]), (&json!("environment"), &json!(0)));
    let status = with_variable(&home, &["auth", "status"], "").await;
    assert!(status.stdout.contains("environment    ACME_TOKEN"), "{status:?}");
    assert!(status.stdout.contains("valid for"), "the session is shown beside it: {status:?}");
    let list = with_variable(&home, &["auth", "list"], "").await;
    assert!(list.stdout.contains("from ACME_TOKEN"), "{list:?}");
    assert_eq!(std::fs::read(home.store()).unwrap(), before);
    for shown in [&status.stdout, &status.stderr, &list.stdout, &raw.stderr] {
        assert!(!shown.contains("env-token-1"), "{shown}");
    }
}

#[tokio::test]
async fn a_logout_without_a_session_names_the_source_of_the_tokens() {
    let home = home("http://127.0.0.1:1/token", &format!("token_env = \"ACME_TOKEN\"\n{DOCS}"));
    let logged_out = home.run(&["auth", "logout", "acme", "--keep-grant"]).await;
    assert_eq!(logged_out.code, 0, "{logged_out:?}");
    let none = home.run(&["auth", "logout", "acme"]).await;
    assert!(none.code == 3 && none.stderr.contains("there is nothing to log out"), "{none:?}");
    let environment = with_variable(&home, &["auth", "logout", "acme"], "").await;
    assert!(environment.code == 3 && environment.stderr.contains("Unset it"), "{environment:?}");
    assert!(environment.stderr.contains("the variable ACME_TOKEN"), "{environment:?}");
    let exchange = home.run(&["auth", "logout", "docs-agent"]).await;
    assert!(exchange.code == 2 && exchange.stderr.contains("Log out at acme"), "{exchange:?}");
}

#[tokio::test]
async fn only_the_named_principals_get_the_token_of_the_environment() {
    let home = home("http://127.0.0.1:1/token", "token_env = \"ACME_TOKEN\"\n");
    let other = with_variable(&home, &["token", "acme", "--as", "user:803"], "").await;
    assert_eq!((other.code, other.stdout.as_str()), (3, ""), "{other:?}");
    let config = std::fs::read_to_string(home.path().join("threadkey.toml")).unwrap();
    home.configure(&(config + "token_env_for = [\"user:803\"]\n"));
    let other = with_variable(&home, &["token", "acme", "--as", "user:803"], "").await;
    assert_eq!(other.stdout, "env-token-1\n", "{other:?}");
    let local = with_variable(&home, &["token", "acme"], "").await;
    assert_eq!(local.stdout, "access-7\n", "the list replaces the default: {local:?}");
}

#[tokio::test]
async fn a_rejected_token_of_the_environment_is_not_replaced_by_the_sessions() {
    let home = home("http://127.0.0.1:1/token", "token_env = \"ACME_TOKEN\"\n");
    let rejected = with_variable(&home, &["token", "acme", "--rejected", "-"], "env-token-1\n").await;
    assert_eq!((rejected.code, rejected.stdout.as_str()), (4, ""), "{rejected:?}");
    assert!(rejected.stderr.contains("the variable ACME_TOKEN"), "{rejected:?}");
    assert!(!rejected.stderr.contains("env-token-1"), "{rejected:?}");
    let other = with_variable(&home, &["token", "acme", "--rejected", "-"], "access-7\n").await;
    assert_eq!(other.stdout, "env-token-1\n", "{other:?}");
}

#[tokio::test]
async fn a_probed_token_of_the_environment_is_not_replaced_by_the_sessions() {
    let api = RawServer::start().await;
    let more = format!("token_env = \"ACME_TOKEN\"\nprobe_endpoint = \"{}\"\n", api.token_endpoint());
    let home = home("http://127.0.0.1:1/token", &more);
    api.answer(raw::json(401, "{}"), Ending::Close);
    let refused = with_variable(&home, &["token", "acme", "--probe"], "").await;
    assert_eq!((refused.code, refused.stdout.as_str()), (4, ""), "{refused:?}");
    assert!(refused.stderr.contains("the variable ACME_TOKEN"), "{refused:?}");
    assert_eq!(api.count(), 1);
}

#[tokio::test]
async fn a_wrong_token_env_is_refused_and_its_value_is_not_shown() {
    let secret = home("http://127.0.0.1:1/token", "token_env = \"ghp_canary0123\"\n");
    let refused = secret.run(&["token", "acme"]).await;
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("must be names of environment variables"), "{refused:?}");
    assert!(!refused.stderr.contains("canary"), "{refused:?}");
    let home = home("http://127.0.0.1:1/token", "token_env = \"ACME_TOKEN\"\n");
    let refused = home.run_in(&["token", "acme"], "", &[("ACME_TOKEN", "two canary words")]).await;
    assert!(refused.stderr.contains("the variable ACME_TOKEN"), "{refused:?}");
    assert!(refused.code == 2 && !refused.stderr.contains("canary"), "{refused:?}");
}

fn form(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An answer of RFC 8693 §2.2.1.
fn answer(token: &str) -> Vec<u8> {
    let body = json!({
        "access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 600,
        "scope": "docs:read", "refresh_token": "canary-refresh",
    });
    raw::json(200, &body.to_string())
}

const DOCS: &str = "[providers.docs-agent]\nexchange_from = \"acme\"\naudience = [\"docs\"]\n\
                    resource = \"https://docs.example.com/\"\nscopes = [\"docs:read\"]\n";

#[tokio::test]
async fn an_exchange_sends_the_request_of_rfc_8693_and_stores_nothing() {
    let server = RawServer::start().await;
    server.answer(answer("docs-token-1"), Ending::Close);
    let home = home(&server.token_endpoint(), DOCS);
    let before = std::fs::read(home.store()).unwrap();
    let token = home.run_in(&["token", "docs-agent", "--format", "json"], "", &VARIABLES).await;
    let json = parsed(&token);
    assert_eq!((&json["access_token"], &json["source"]), (&json!("docs-token-1"), &json!("exchange")));
    assert_eq!((&json["provider"], &json["scope"]), (&json!("docs-agent"), &json!("docs:read")));
    assert!((1..=600).contains(&json["expires_in"].as_i64().unwrap()), "{json}");
    let expected = form(&[
        ("grant_type", EXCHANGE),
        ("subject_token", "access-7"),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("audience", "docs"),
        ("resource", "https://docs.example.com/"),
        ("scope", "docs:read"),
        ("client_id", "threadkey"),
    ]);
    assert_eq!(server.forms(), [expected], "and no refresh token");
    assert!(!server.requests()[0].headers.contains_key("authorization"), "the client is public");
    assert_eq!(std::fs::read(home.store()).unwrap(), before);
    for secret in ["docs-token-1", "access-7", "canary-refresh"] {
        assert!(!token.stderr.contains(secret), "{token:?}");
    }
    let status = home.run(&["auth", "status"]).await;
    assert!(status.stdout.contains("in return for that of acme/local"), "{status:?}");
    let start = home.run(&["auth", "start", "docs-agent"]).await;
    assert_eq!(start.code, 2);
    assert!(start.stderr.contains("Sign in at acme"), "{start:?}");
}

#[tokio::test]
async fn an_exchange_for_keycloaks_identity_brokering_has_its_shape() {
    let server = RawServer::start().await;
    server.answer(answer("github-token"), Ending::Close);
    let brokered = "[providers.github]\nexchange_from = \"acme\"\nrequested_issuer = \"github\"\n\
                    client_id = \"agents\"\nclient_secret_env = \"AGENTS_SECRET\"\nclient_auth = \"post\"\n";
    let home = home(&server.token_endpoint(), brokered);
    let token = home.run_in(&["token", "github"], "", &[("AGENTS_SECRET", "secret-1")]).await;
    assert_eq!(token.stdout, "github-token\n", "{token:?}");
    let expected = form(&[
        ("grant_type", EXCHANGE),
        ("subject_token", "access-7"),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("requested_issuer", "github"),
        ("client_id", "agents"),
        ("client_secret", "secret-1"),
    ]);
    assert_eq!(server.forms(), [expected]);
}

#[tokio::test]
async fn a_failed_exchange_names_its_mender_and_keeps_the_session() {
    for (status, body, code, text) in [
        (400, r#"{"error":"invalid_target"}"#, 2, "must check audience and resource of providers.docs-agent"),
        (401, r#"{"error":"invalid_client"}"#, 2, "client_id and the client secret of providers.docs-agent"),
        (400, r#"{"error":"invalid_grant"}"#, 2, "does not take the access token of acme/local"),
        (503, "", 5, "try again in"),
    ] {
        let server = RawServer::start().await;
        server.answer(raw::json(status, body), Ending::Close);
        let home = home(&server.token_endpoint(), DOCS);
        let before = std::fs::read(home.store()).unwrap();
        let refused = home.run(&["token", "docs-agent"]).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (code, ""), "{body}: {refused:?}");
        assert!(refused.stderr.contains(text), "{body}: {refused:?}");
        assert_eq!(std::fs::read(home.store()).unwrap(), before);
    }
}

#[tokio::test]
async fn a_session_bound_elsewhere_is_never_exchanged() {
    let (bound, other) = (RawServer::start().await, RawServer::start().await);
    let home = home(&bound.token_endpoint(), DOCS);
    let config = std::fs::read_to_string(home.path().join("threadkey.toml")).unwrap();
    home.configure(&config.replace(&bound.token_endpoint(), &other.token_endpoint()));
    let refused = home.run(&["token", "docs-agent"]).await;
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("binding_changed"), "{refused:?}");
    assert_eq!((bound.count(), other.count()), (0, 0));
}

#[tokio::test]
async fn a_token_by_exchange_that_a_resource_rejected_is_not_handed_out_again() {
    let server = RawServer::start().await;
    for token in ["docs-token-1", "docs-token-2"] {
        server.answer(answer(token), Ending::Close);
    }
    let home = home(&server.token_endpoint(), DOCS);
    let again = home.run_with(&["token", "docs-agent", "--rejected", "-"], "docs-token-1\n").await;
    assert_eq!((again.code, again.stdout.as_str()), (5, ""), "the server returns the same one: {again:?}");
    let other = home.run_with(&["token", "docs-agent", "--rejected", "-"], "docs-token-1\n").await;
    assert_eq!(other.stdout, "docs-token-2\n", "{other:?}");
}

#[tokio::test]
async fn an_exchange_without_a_sign_in_names_the_sign_in_that_it_needs() {
    let home = Home::new(
        "[providers.acme]\nauthorization_endpoint = \"http://127.0.0.1:1/authorize\"\n\
         token_endpoint = \"http://127.0.0.1:1/token\"\nclient_id = \"threadkey\"\n\
         redirect_uri = \"http://127.0.0.1:1/callback\"\n[providers.docs-agent]\nexchange_from = \"acme\"\n",
    );
    let refused = home.run(&["token", "docs-agent"]).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("`threadkey auth start acme`"), "{refused:?}");
}

#[test]
fn an_exchange_has_no_endpoint_of_its_own_and_needs_a_provider_with_a_sign_in() {
    let check = |section: &str| {
        let text = format!(
            "[providers.acme]\nauthorization_endpoint = \"https://id.example.com/a\"\n\
             token_endpoint = \"https://id.example.com/t\"\nclient_id = \"threadkey\"\n\
             redirect_uri = \"http://127.0.0.1:28471/callback\"\n[providers.docs]\n{section}"
        );
        let variables = [("HOME".into(), "/home/alice".into())].into_iter().collect();
        threadkey::config::Config::parse("/etc/threadkey.toml".into(), text, &variables)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(check("exchange_from = \"acme\"\n"), Ok(()));
    for (section, text) in [
        (
            "exchange_from = \"acme\"\ntoken_endpoint = \"https://evil.example/t\"\n",
            "token endpoint of acme alone",
        ),
        ("exchange_from = \"acne\"\n", "there is no provider acne in the configuration; did you mean acme?"),
        ("exchange_from = \"docs\"\n", "no sign-in of its own"),
        ("exchange_from = \"acme\"\nclient_auth = \"post\"\n", "client_id"),
        ("exchange_from = \"acme\"\ntoken_params = { subject_token = \"x\" }\n", "threadkey sets"),
        ("exchange_from = \"acme\"\nresource = \"docs\"\n", "absolute URI"),
    ] {
        let error = check(section).expect_err(section);
        assert!(error.contains(text), "{section}: {error}");
    }
}
