use std::{sync::Arc, time::Duration};

use rmcp::{
    ClientHandler, RoleClient,
    model::CallToolRequestParams,
    service::{ClientInitializeError, NotificationContext, RunningService, ServiceExt as _},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::json;
use threadkey_client::mcp::{Authorized, MissingScopes, TransportError};
use tokio::sync::Notify;

use crate::rig::{McpServer, Rig};

/// A client that counts the announcements of its server.
#[derive(Clone, Default)]
struct Listener(Arc<Notify>);

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.notify_one();
    }
}

type Connected = RunningService<RoleClient, Listener>;

async fn connect(rig: &Rig, url: String) -> Result<(Connected, Listener), ClientInitializeError> {
    let http = Authorized::new(reqwest::Client::new(), rig.client(), "acme", &url).unwrap();
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let listener = Listener::default();
    let transport = StreamableHttpClientTransport::with_client(http, config);
    Ok((listener.clone().serve(transport).await?, listener))
}

async fn greet(client: &Connected) -> Result<String, rmcp::ServiceError> {
    let result = client.call_tool(CallToolRequestParams::new("greet")).await?;
    Ok(format!("{result:?}"))
}

#[tokio::test]
async fn a_connection_outlives_its_token_without_a_refused_request() {
    let rig = Rig::signed_in().await;
    let server = McpServer::start(&rig).await;
    let (client, _) = connect(&rig, format!("{}/mcp", server.url)).await.unwrap();
    assert!(greet(&client).await.unwrap().contains("hello"));
    rig.advance(Duration::from_secs(86_400));
    assert!(greet(&client).await.unwrap().contains("hello"));
    let log = server.log().await;
    let mut tokens: Vec<_> = log.iter().filter(|(method, ..)| method == "POST").map(|e| &e.2).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 2, "{log:?}");
    assert!(log.iter().all(|(_, status, _)| *status != 401), "{log:?}");
}

#[tokio::test]
async fn a_refused_token_is_reported_and_the_request_sent_once_more() {
    let rig = Rig::signed_in().await;
    let server = McpServer::start(&rig).await;
    let (client, _) = connect(&rig, format!("{}/mcp", server.url)).await.unwrap();
    let before = rig.authorization.count();
    server.refuse(&rig.client().token("acme", None).await.unwrap().access_token).await;
    assert!(greet(&client).await.unwrap().contains("hello"));
    assert!(greet(&client).await.unwrap().contains("hello"));
    assert_eq!(rig.authorization.count(), before + 1, "one refresh");
    let log = server.log().await;
    let refused = log.iter().filter(|(method, status, _)| method == "POST" && *status == 401);
    assert_eq!(refused.count(), 1, "{log:?}");
}

#[tokio::test]
async fn a_refusal_without_a_challenge_is_answered_in_the_same_way() {
    let rig = Rig::signed_in().await;
    let server = McpServer::start(&rig).await;
    let (client, _) = connect(&rig, format!("{}/bare", server.url)).await.unwrap();
    server.refuse(&rig.client().token("acme", None).await.unwrap().access_token).await;
    assert!(greet(&client).await.unwrap().contains("hello"));
}

#[tokio::test]
async fn a_server_that_refuses_every_token_is_asked_twice_and_no_more() {
    let rig = Rig::signed_in().await;
    let server = McpServer::start(&rig).await;
    let (client, _) = connect(&rig, format!("{}/mcp", server.url)).await.unwrap();
    server.wait_for_streams(1).await;
    server.control("refuse-all", json!({})).await;
    let before = server.log().await.len();
    let error = greet(&client).await.unwrap_err();
    assert!(error.to_string().contains("Auth required"), "{error}");
    let log = server.log().await.split_off(before);
    assert_eq!(
        log.iter().filter(|(method, status, _)| method == "POST" && *status == 401).count(),
        2,
        "{log:?}"
    );
}

#[tokio::test]
async fn a_stream_of_events_that_ends_is_opened_again_with_a_fresh_token() {
    let rig = Rig::signed_in().await;
    let server = McpServer::start(&rig).await;
    let (_client, listener) = connect(&rig, format!("{}/mcp", server.url)).await.unwrap();
    server.wait_for_streams(1).await;
    rig.advance(Duration::from_secs(86_400));
    server.control("end-streams", json!({})).await;
    let tokens = server.wait_for_streams(2).await;
    assert_ne!(tokens[0], tokens[1]);
    server.control("announce", json!({})).await;
    listener.0.notified().await;
}

#[tokio::test]
async fn a_demand_for_scopes_reaches_the_program_with_the_scopes() {
    let rig = Rig::signed_in().await;
    let server = McpServer::start(&rig).await;
    let error = connect(&rig, format!("{}/scoped", server.url)).await.err().expect("a scope is missing");
    let missing = MissingScopes::of(&error).unwrap_or_else(|| panic!("another error: {error:?}"));
    assert_eq!(
        (&*missing.provider, &*missing.scopes),
        ("acme", &["files:read".into(), "files:write".into()][..])
    );
    let session = rig.session().await;
    assert_eq!(session.demanded_scopes(rig.now()), ["files:read", "files:write"], "threadkey notes them");
    let next = missing.next_sign_in.as_deref().expect("threadkey has noted the demand");
    for scope in ["openid", "files:read", "files:write"] {
        assert!(next.iter().any(|one| one == scope), "{next:?}");
    }
    assert_eq!(server.log().await.len(), 1, "a demand for scopes is no reason for another token");
}

#[tokio::test]
async fn a_missing_session_reaches_the_program_before_any_request() {
    let rig = Rig::start().await;
    let server = McpServer::start(&rig).await;
    let error = connect(&rig, format!("{}/mcp", server.url)).await.err().expect("nobody has signed in");
    let Some(TransportError::NoToken(error)) = TransportError::of(&error) else { panic!("{error:?}") };
    assert!(error.needs_sign_in(), "{error}");
    assert!(server.log().await.is_empty());
}

#[tokio::test]
async fn a_token_goes_to_its_own_server_alone_and_never_over_open_http() {
    let rig = Rig::signed_in().await;
    let new = |url: &str| Authorized::new(reqwest::Client::new(), rig.client(), "acme", url);
    for bad in
        ["http://mcp.example/mcp", "ftp://127.0.0.1/", "http://10.0.0.1/", "mcp", "http://localhost.example/"]
    {
        assert!(matches!(new(bad), Err(TransportError::UnsafeServer(_))), "{bad}");
    }
    for good in
        ["https://mcp.example/mcp", "http://localhost:1/mcp", "http://127.0.0.1:1/", "http://[::1]:1/"]
    {
        assert!(new(good).is_ok(), "{good}");
    }
    let server = McpServer::start(&rig).await;
    let http = new("https://mcp.example/mcp").unwrap();
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", server.url));
    let transport = StreamableHttpClientTransport::with_client(http, config);
    let error = ().serve(transport).await.expect_err("another server");
    assert!(matches!(TransportError::of(&error), Some(TransportError::OtherServer(_))), "{error:?}");
    assert!(server.log().await.is_empty());
}
