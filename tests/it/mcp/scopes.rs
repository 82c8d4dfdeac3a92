//! Scopes that a resource demands beyond the granted ones.

use serde_json::{Value, json};
use threadkey::{broker::Broker, sys::clock::Clock};

use super::scripted::{NOW, Scripted, begin, finish, sign_in, tenant, tokens};

fn challenge(scope: &str) -> Vec<String> {
    vec![format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"")]
}

/// Reports a demand. Returns the scopes of the next sign-in, if there should be one.
async fn demand(broker: &Broker, scope: &str) -> Option<String> {
    let scopes = broker.insufficient_scope(&tenant(1), &challenge(scope)).await.unwrap();
    scopes.map(|scopes| scopes.join(" "))
}

#[tokio::test]
async fn a_demand_that_one_process_reports_is_in_the_sign_in_of_another_process() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let bot = server.process(folder.path(), &clock);
    sign_in(&bot, 1).await;
    assert_eq!(demand(&bot, "a").await, None, "the token has it");
    assert_eq!(demand(&bot, "write a").await.as_deref(), Some("a b write"));
    let other = server.process(folder.path(), &clock);
    server.set(("/token", 200, "", tokens("a b write")));
    let link = begin(&other, 1).await;
    assert_eq!(link["scope"], "a b write offline_access");
    finish(&other, 1, &link).await.unwrap();
    let session = bot.session(&tenant(1)).await.unwrap().unwrap();
    assert!(session.demanded_scopes(NOW).is_empty(), "it is granted");
    assert_eq!(demand(&bot, "write").await, None);
}

#[tokio::test]
async fn a_demand_is_forgotten_after_an_hour() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    sign_in(&broker, 1).await;
    demand(&broker, "write").await.unwrap();
    clock.advance(3600);
    assert_eq!(begin(&broker, 1).await["scope"], "a b offline_access");
}

#[tokio::test]
async fn a_server_that_invents_a_scope_for_each_new_token_is_followed_three_times_an_hour() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    let mut granted = "a b".to_owned();
    sign_in(&broker, 1).await;
    for step in 1..=3 {
        let scope = format!("invented-{step}");
        demand(&broker, &scope).await.unwrap();
        granted = format!("{granted} {scope}");
        server.set(("/token", 200, "", tokens(&granted)));
        assert!(sign_in(&broker, 1).await["scope"].contains(&scope));
        clock.advance(60);
    }
    // Another process on the same store counts them too.
    let other = server.process(folder.path(), &clock);
    assert_eq!(demand(&other, "invented-4").await, None);
    assert!(!begin(&other, 1).await["scope"].contains("invented-4"));
    clock.advance(3600);
    assert!(demand(&other, "invented-4").await.unwrap().ends_with("invented-4"));
}

#[tokio::test]
async fn a_demand_of_very_many_or_very_long_scopes_changes_nothing() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    sign_in(&broker, 1).await;
    let many = (0..17).map(|i| format!("s{i}")).collect::<Vec<_>>().join(" ");
    let long = (0..4).map(|i| format!("{i}{}", "x".repeat(150))).collect::<Vec<_>>().join(" ");
    for scopes in [many, long] {
        assert_eq!(demand(&broker, &scopes).await, None);
    }
    assert_eq!(begin(&broker, 1).await["scope"], "a b offline_access");
}

#[tokio::test]
async fn a_challenge_of_another_host_leads_no_request_and_no_sign_in_there() {
    let (server, other) = (Scripted::confidential().await, Scripted::confidential().await);
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    sign_in(&broker, 1).await;
    let at = format!("{}/.well-known/oauth-protected-resource/mcp", other.base);
    for error in ["insufficient_scope", "invalid_token"] {
        let challenge = format!("Bearer error=\"{error}\", scope=\"write\", resource_metadata=\"{at}\"");
        broker.insufficient_scope(&tenant(1), &[challenge]).await.unwrap();
    }
    let again = server.process(folder.path(), &clock);
    let started = begin(&again, 1).await;
    assert_eq!(started["resource"], server.mcp());
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}

#[tokio::test]
async fn a_resource_whose_metadata_stand_on_another_host_is_not_used() {
    let (server, other) = (Scripted::confidential().await, Scripted::confidential().await);
    let theirs: Value = json!({"resource": other.mcp(), "authorization_servers": [other.base]});
    other.set(("/metadata", 200, "", theirs));
    server.set(("/mcp", 401, &format!("Bearer resource_metadata=\"{}/metadata\"", other.base), json!({})));
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    let error = broker.start(&tenant(1), super::scripted::user(1)).await.expect_err("another resource");
    assert!(error.to_string().contains("is not this server"), "{error}");
    assert_eq!(other.asked(), ["GET /metadata"], "nothing is registered there");
}
