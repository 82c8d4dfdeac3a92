//! Documents that no well-meaning server sends, at each step from the MCP server to the registration.

use serde_json::{Value, json};

use super::{
    scripted::{Answer, ISSUER_AT, RESOURCE_AT, Scripted, issuer, registered, resource},
    start,
};

/// The addresses of the three documents, in the order of the requests.
const STEPS: [&str; 3] = [RESOURCE_AT, ISSUER_AT, "/register"];

fn usual(path: &str) -> Answer<'_> {
    match path {
        RESOURCE_AT => (path, 200, "", resource()),
        ISSUER_AT => (path, 200, "", issuer()),
        _ => (path, 201, "", registered()),
    }
}

/// Starts a sign-in where one step has this answer. Returns the error, and the requests.
async fn failed(step: &str, status: u16, head: &str, body: Value) -> (String, Vec<String>) {
    let server = Scripted::start(&STEPS.map(usual)).await;
    server.set((step, status, head, body));
    let refused = start(&server.home()).await;
    assert!(refused.code != 0 && refused.stdout.is_empty(), "{step}: {refused:?}");
    (refused.stderr, server.asked())
}

#[tokio::test]
async fn ten_megabytes_at_any_step_are_cut_off_with_the_name_of_their_host() {
    let large = json!({"pad": "x".repeat(10 * 1024 * 1024)});
    for step in STEPS {
        let (error, _) = failed(step, 200, "", large.clone()).await;
        assert!(error.contains("sends a document of more than 1 MiB"), "{step}: {error}");
    }
}

#[tokio::test]
async fn a_loop_of_redirects_at_any_step_ends_the_start() {
    for step in STEPS {
        let (error, asked) = failed(step, 307, &format!("location: {{base}}{step}"), json!({})).await;
        let expected = if step == "/register" { "redirects a POST" } else { "redirects in a loop" };
        assert!(error.contains(expected), "{step}: {error}");
        assert_eq!(asked.iter().filter(|line| line.ends_with(step)).count(), 1, "{asked:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_private_address_or_to_http_is_not_followed() {
    for (to, expected) in [
        ("https://10.0.0.1/metadata", "10.0.0.1"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("http://id.example/metadata", "http"),
    ] {
        for step in [RESOURCE_AT, ISSUER_AT] {
            let (error, _) = failed(step, 302, &format!("location: {to}"), json!({})).await;
            assert!(error.contains(expected), "{step} to {to}: {error}");
        }
    }
}

#[tokio::test]
async fn documents_that_name_private_addresses_or_http_lead_no_request_there() {
    for issuer_is in
        ["https://10.0.0.1", "https://[fd00::1]", "http://id.example", "ftp://id.example", "no url"]
    {
        let body = json!({"resource": "{base}/mcp", "authorization_servers": [issuer_is]});
        let (_, asked) = failed(RESOURCE_AT, 200, "", body).await;
        assert_eq!(asked, ["POST /mcp", "GET /.well-known/oauth-protected-resource/mcp"], "{issuer_is}");
    }
    for member in ["authorization_endpoint", "token_endpoint", "registration_endpoint"] {
        for endpoint in ["http://id.example/x", "javascript:alert(1)", "https://user@id.example/x", "no url"]
        {
            let mut body = issuer();
            body[member] = json!(endpoint);
            let (error, asked) = failed(ISSUER_AT, 200, "", body).await;
            assert!(!asked.contains(&"POST /register".to_owned()), "{member} {endpoint}: {asked:?}");
            assert!(!error.contains("panicked"), "{error}");
        }
    }
    let mut body = issuer();
    body["registration_endpoint"] = json!("https://10.0.0.1/register");
    let (error, _) = failed(ISSUER_AT, 200, "", body).await;
    assert!(error.contains("10.0.0.1"), "{error}");
}

#[tokio::test]
async fn an_answer_to_a_registration_without_a_usable_client_is_refused() {
    for (status, body) in [
        (201, json!({})),
        (201, json!([])),
        (201, json!({"client_id": ""})),
        (201, json!({"client_id": 5})),
        (201, json!({"client_id": "a\nb"})),
        (201, json!({"client_id": "x".repeat(2049)})),
        (
            201,
            json!({"client_id": "c", "client_secret": "x".repeat(4097), "token_endpoint_auth_method": "client_secret_post"}),
        ),
        (201, json!({"client_id": "c", "token_endpoint_auth_method": "x".repeat(2049)})),
        (403, json!({"error": "access_denied", "client_id": "c"})),
        (500, json!("no")),
    ] {
        let (error, _) = failed("/register", status, "", body.clone()).await;
        assert!(error.contains("does not register threadkey"), "{body}: {error}");
        assert!(error.contains("redirect URI http://127.0.0.1:28471/callback"), "{body}: {error}");
    }
}

#[tokio::test]
async fn metadata_of_wrong_types_end_the_start_with_the_member_that_is_wrong() {
    for (body, expected) in [
        (json!({"resource": 5, "authorization_servers": ["{base}"]}), "resource"),
        (json!({"resource": "{base}/mcp"}), "authorization_servers"),
        (json!({"resource": "{base}/mcp", "authorization_servers": []}), "authorization_servers"),
        (json!({"resource": "{base}/mcp", "authorization_servers": {"a": "b"}}), "authorization_servers"),
        (json!({"resource": "{base}/mcp/other", "authorization_servers": ["{base}"]}), "is not this server"),
    ] {
        let (error, _) = failed(RESOURCE_AT, 200, "", body.clone()).await;
        assert!(error.contains(expected), "{body}: {error}");
    }
    let wrong =
        json!({"issuer": "{base}/", "authorization_endpoint": "{base}/a", "token_endpoint": "{base}/t"});
    let (error, _) = failed(ISSUER_AT, 200, "", wrong).await;
    assert!(error.contains("names the issuer"), "{error}");
}
