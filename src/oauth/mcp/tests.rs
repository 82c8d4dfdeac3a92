//! The rules on examples of the specification and of servers.

use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

fn list(text: &str) -> Vec<String> {
    scope_list(text)
}

#[test]
fn metadata_are_looked_for_at_the_path_and_then_at_the_root() {
    let urls =
        |server| resource_metadata_urls(&url(server)).into_iter().map(String::from).collect::<Vec<_>>();
    let root = "https://mcp.example:8443/.well-known/oauth-protected-resource";
    assert_eq!(urls("https://mcp.example:8443"), [root]);
    assert_eq!(urls("https://mcp.example:8443/public/mcp/"), [format!("{root}/public/mcp"), root.to_owned()]);
    assert_eq!(urls("https://mcp.example:8443/mcp?a=b"), [format!("{root}/mcp?a=b"), root.to_owned()]);
}

#[test]
fn the_metadata_of_an_issuer_are_looked_for_in_the_order_of_mcp() {
    let urls = |issuer| issuer_metadata_urls(&url(issuer)).into_iter().map(String::from).collect::<Vec<_>>();
    assert_eq!(
        urls("https://id.example/tenant1"),
        [
            "https://id.example/.well-known/oauth-authorization-server/tenant1",
            "https://id.example/.well-known/openid-configuration/tenant1",
            "https://id.example/tenant1/.well-known/openid-configuration",
        ]
    );
    assert_eq!(
        urls("https://id.example"),
        [
            "https://id.example/.well-known/oauth-authorization-server",
            "https://id.example/.well-known/openid-configuration",
        ]
    );
}

#[test]
fn metadata_of_another_resource_are_refused() {
    let server = url("https://mcp.example/team/mcp");
    for own in [
        "https://mcp.example/team/mcp",
        "https://MCP.example/team/mcp/",
        "https://mcp.example/team",
        "https://mcp.example",
    ] {
        assert!(is_resource_of(own, &server), "{own}");
    }
    for other in [
        "https://evil.example/team/mcp",
        "http://mcp.example/team/mcp",
        "https://mcp.example:444/team/mcp",
        "https://mcp.example/tea",
        "https://mcp.example/team/mcp/deeper",
        "https://mcp.example/team/mcp?x=1",
        "https://mcp.example/team/mcp#x",
        "https://mcp.example@evil.example/team/mcp",
        "https://user@mcp.example/team/mcp",
        "mcp.example",
        "",
    ] {
        assert!(!is_resource_of(other, &server), "{other}");
    }
    let document =
        json!({"resource": "https://evil.example/\u{1b}mcp", "authorization_servers": ["https://a"]});
    let read = ProtectedResource::read(document.as_object().expect("an object"), &server);
    assert_eq!(read, Err(ResourceError::OtherResource("https://evil.example/mcp".into())));
}

#[test]
fn metadata_without_an_authorization_server_are_refused() {
    let server = url("https://mcp.example/mcp");
    let read = |document: Value| ProtectedResource::read(document.as_object().expect("an object"), &server);
    for servers in [json!([]), json!([5]), json!("https://id.example"), Value::Null] {
        let document = json!({"resource": server.as_str(), "authorization_servers": servers});
        assert_eq!(read(document), Err(ResourceError::Missing("authorization_servers")));
    }
    let document = json!({"resource": server.as_str(), "authorization_servers": ["https://id.example", 5], "scopes_supported": ["a", "b c", 5]});
    let expected = ProtectedResource {
        resource: server.to_string(),
        authorization_servers: vec!["https://id.example".into()],
        scopes: Some(list("a b c")),
    };
    assert_eq!(read(document), Ok(expected));
}

#[test]
fn the_canonical_uri_has_no_slash_of_an_empty_path() {
    for (server, canonical) in [
        ("https://MCP.example/", "https://mcp.example"),
        ("https://mcp.example:8443", "https://mcp.example:8443"),
        ("https://mcp.example/server/mcp", "https://mcp.example/server/mcp"),
        ("https://mcp.example/mcp/#a", "https://mcp.example/mcp/"),
    ] {
        assert_eq!(canonical_uri(&url(server)), canonical);
    }
    assert_eq!(own_issuer(&url("https://mcp.example:8443/mcp")), "https://mcp.example:8443");
}

#[test]
fn the_client_is_chosen_in_the_order_of_the_specification() {
    let endpoint = || Some(url("https://id.example/register"));
    let document = Some("https://keys.example/oauth/client.json");
    assert_eq!(choose_client(true, document, true, endpoint()), ClientChoice::Configured);
    assert_eq!(
        choose_client(false, document, true, endpoint()),
        ClientChoice::Document("https://keys.example/oauth/client.json".into())
    );
    let register = ClientChoice::Register(url("https://id.example/register"));
    assert_eq!(choose_client(false, document, false, endpoint()), register);
    assert_eq!(choose_client(false, None, true, endpoint()), register);
    assert_eq!(choose_client(false, document, false, None), ClientChoice::Ask);
}

#[test]
fn scopes_come_from_the_challenge_else_from_the_resource() {
    let supported = list("mcp:basic mcp:read");
    assert_eq!(choose_scopes(&list("mcp:read"), Some(&supported), &[], &[]), ["mcp:read"]);
    assert_eq!(choose_scopes(&[], Some(&supported), &[], &[]), supported);
    assert!(choose_scopes(&[], None, &list("other"), &[]).is_empty());
    let offline = list("offline_access mcp:read");
    assert_eq!(choose_scopes(&list("mcp:read"), None, &offline, &[]), ["mcp:read", "offline_access"]);
    let granted = list("mcp:basic offline_access");
    assert_eq!(
        choose_scopes(&list("mcp:write"), None, &offline, &granted),
        ["mcp:basic", "offline_access", "mcp:write"]
    );
}

#[test]
fn a_registration_names_its_type_its_method_and_both_grants() {
    let native = registration("http://127.0.0.1:28471/callback", "none", &list("a b"));
    let native: Value = serde_json::from_slice(&native).expect("JSON");
    assert_eq!(
        native,
        json!({
            "client_name": "threadkey", "redirect_uris": ["http://127.0.0.1:28471/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "none", "application_type": "native", "scope": "a b"
        })
    );
    let web = registration("https://keys.example/oauth/callback", "client_secret_post", &[]);
    let web: Value = serde_json::from_slice(&web).expect("JSON");
    assert_eq!((&web["application_type"], web.get("scope")), (&json!("web"), None));
}

#[test]
fn a_public_client_is_preferred_where_the_server_allows_it() {
    let method = |supported: &str| choose_auth_method(Some(&list(supported)));
    assert_eq!(method("client_secret_post none client_secret_basic"), "none");
    assert_eq!(method("client_secret_post client_secret_basic"), "client_secret_basic");
    assert_eq!(method("client_secret_post"), "client_secret_post");
    assert_eq!(method("private_key_jwt"), "client_secret_basic");
    assert_eq!(choose_auth_method(None), "client_secret_basic");
}

#[test]
fn the_client_document_names_its_own_address() {
    let id = "https://keys.example/oauth/client.json";
    let document = client_document(id, "https://keys.example", &["https://keys.example/oauth/callback"]);
    assert_eq!(document["client_id"], id);
    assert_eq!(document["redirect_uris"], json!(["https://keys.example/oauth/callback"]));
    assert_eq!(document["token_endpoint_auth_method"], "none");
    assert!(
        document["grant_types"].as_array().is_some_and(|grants| grants.contains(&json!("refresh_token")))
    );
}
