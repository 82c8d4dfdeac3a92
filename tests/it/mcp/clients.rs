//! The clients that servers register: whose they are, how long they stay, and what they are used for.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use threadkey::{
    broker::{Broker, DEFAULT_MIN_TTL, Revocation},
    ids::Tenant,
    oauth::Providers,
    session::GrantKind,
    sys::clock::Clock,
};

use super::scripted::{
    ISSUER_AT, NOW, RESOURCE_AT, Scripted, begin, finish, issuer, process, registered, resource, sign_in,
    tenant, tokens, user,
};
use crate::fixtures;

const DAY: i64 = 86_400;

fn stored(folder: &tempfile::TempDir) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.path().join("store/auth.json")).unwrap()).unwrap()
}

fn client_keys(folder: &tempfile::TempDir) -> Vec<String> {
    stored(folder)["clients"].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn a_client_that_its_server_forgot_is_registered_once_more_and_serves_its_sessions() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    sign_in(&broker, 1).await;
    server.set(("/token", 401, "", json!({"error": "invalid_client"})));
    let link = begin(&broker, 2).await;
    assert_eq!(link["client_id"], "c-1");
    finish(&broker, 2, &link).await.expect_err("the server does not know the client");
    server.set(("/token", 200, "", tokens("a b")));
    for id in [2, 3] {
        assert_eq!(sign_in(&broker, id).await["client_id"], "c-2");
    }
    assert_eq!(server.requests("POST /register").len(), 2);

    // The session of the first client keeps it, in another process too.
    let other = server.process(folder.path(), &clock);
    clock.advance(3600);
    let before = server.requests("POST /token").len();
    other.token(&tenant(1), DEFAULT_MIN_TTL).await.unwrap();
    let refresh = server.requests("POST /token")[before].body.clone();
    assert!(
        refresh.contains("client_id=c-1") && refresh.contains("client_secret=secret-of-c-1"),
        "{refresh}"
    );
    other.logout(&tenant(1), Revocation::Revoke).await.unwrap();
    let revoked = server.requests("POST /revoke").pop().unwrap().body;
    assert!(
        revoked.contains("client_id=c-1") && revoked.contains("client_secret=secret-of-c-1"),
        "{revoked}"
    );
}

#[tokio::test]
async fn a_refresh_that_the_server_refuses_the_client_for_makes_the_next_start_register() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    sign_in(&broker, 1).await;
    clock.advance(3600);
    server.set(("/token", 401, "", json!({"error": "invalid_client"})));
    broker.token(&tenant(1), DEFAULT_MIN_TTL).await.expect_err("the server does not know the client");
    assert_eq!(begin(&broker, 2).await["client_id"], "c-2");
    assert!(broker.session(&tenant(1)).await.unwrap().is_some(), "it is no verdict on the session");
}

#[tokio::test]
async fn credentials_of_one_issuer_are_never_sent_to_another_one() {
    let (first, second) = (Scripted::confidential().await, Scripted::confidential().await);
    for (server, name) in [(&first, "first"), (&second, "second")] {
        // Both call the client alike.
        server.set((
            "/register",
            201,
            "",
            json!({"client_id": "c", "client_secret": format!("secret-{name}"), "token_endpoint_auth_method": "client_secret_post"}),
        ));
        let tokens = json!({"access_token": format!("access-{name}"), "refresh_token": format!("refresh-{name}"), "token_type": "Bearer", "expires_in": 3600});
        server.set(("/token", 200, "", tokens));
    }
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    sign_in(&first.process(folder.path(), &clock), 1).await;
    // The MCP server stays, and names another authorization server.
    first.set((
        RESOURCE_AT,
        200,
        "",
        json!({"resource": "{base}/mcp", "authorization_servers": [second.base]}),
    ));
    let broker = first.process(folder.path(), &clock);
    sign_in(&broker, 2).await;
    assert_eq!(second.requests("POST /register").len(), 1, "it registers anew");
    let exchange = second.requests("POST /token").pop().unwrap().body;
    assert!(exchange.contains("client_secret=secret-second"), "{exchange}");

    clock.advance(3600);
    broker.token(&tenant(1), DEFAULT_MIN_TTL).await.expect_err("its sign-in is bound to the first issuer");
    broker.token(&tenant(2), DEFAULT_MIN_TTL).await.unwrap();
    let _ = broker.logout(&tenant(1), Revocation::Revoke).await;
    let refresh = second.requests("POST /token").pop().unwrap().body;
    assert!(refresh.contains("refresh-second"), "{refresh}");
    for (server, foreign) in [(&second, "-first"), (&first, "-second")] {
        assert!(!server.everything().contains(foreign), "{}", server.everything());
    }
}

#[tokio::test]
async fn a_storm_of_starts_registers_once_in_a_process_and_one_client_is_kept_of_two() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    server.gather("/register", 2);
    let processes = [(); 2].map(|()| server.process(folder.path(), &clock));
    let starts = (1..=20).map(|id| {
        let broker: Broker = processes[usize::try_from(id).unwrap() % 2].clone();
        tokio::spawn(async move { begin(&broker, id).await["client_id"].clone() })
    });
    let mut used = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        used.push(start.await.unwrap());
    }
    assert_eq!(
        server.requests("POST /register").len(),
        2,
        "each process asked before the other had an answer"
    );
    let kept = stored(&folder)["clients"].as_object().unwrap().values().next().unwrap()["client_id"].clone();
    used.dedup();
    assert_eq!(used, [kept.as_str().unwrap()]);
    assert_eq!(client_keys(&folder).len(), 1);
}

#[tokio::test]
async fn a_client_that_no_session_uses_is_removed_when_it_is_as_old_as_ended_sessions() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    sign_in(&broker, 1).await;
    assert_eq!(stored(&folder)["clients"].as_object().unwrap().len(), 1);
    let sweep = async || {
        let sweeper = broker.clone();
        let sweeper =
            tokio::spawn(async move { sweeper.sweep_ended(Duration::from_secs(90 * 86_400)).await });
        let mut changes = broker.changes();
        let swept = async {
            while !client_keys(&folder).is_empty() {
                changes.next().await;
            }
        };
        let is_swept = tokio::time::timeout(Duration::from_secs(2), swept).await.is_ok();
        sweeper.abort();
        is_swept
    };
    clock.advance(100 * DAY);
    assert!(!sweep().await, "a session is bound to it");
    broker.logout(&tenant(1), Revocation::Revoke).await.unwrap();
    clock.set(NOW + 90 * DAY - 1);
    assert!(!sweep().await, "it is not old enough");
    clock.set(NOW + 90 * DAY);
    assert!(!sweep().await, "a late answer may need it for a day");
    clock.set(NOW + 91 * DAY);
    assert!(sweep().await);
    assert_eq!(sign_in(&broker, 1).await["client_id"], "c-2");
}

#[tokio::test]
async fn a_server_that_names_a_new_issuer_each_time_registers_six_clients_an_hour() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    let mut refused = String::new();
    for id in 1..=8 {
        let issuer_of = format!("{{base}}/{id}");
        let mut metadata = issuer();
        metadata["issuer"] = json!(issuer_of);
        server.set((&format!("{ISSUER_AT}/{id}"), 200, "", metadata));
        let named = json!({"resource": "{base}/mcp", "authorization_servers": [issuer_of]});
        server.set((RESOURCE_AT, 200, "", named));
        if let Err(error) = broker.start(&tenant(id), user(id)).await {
            refused = error.to_string();
        }
        // The next start discovers anew.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
    }
    assert!(refused.contains("six clients were registered within an hour"), "{refused}");
    assert_eq!(client_keys(&folder).len(), 6);
}

#[tokio::test]
async fn an_exchange_is_asked_for_by_the_client_that_the_sign_in_registered() {
    let server = Scripted::confidential().await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let exchange = fixtures::exchange("reports", "linear");
    let providers = Providers::with_exchanges([], [server.undiscovered()], [exchange]);
    let broker = process(providers, folder.path(), &clock);
    sign_in(&broker, 1).await;
    let reports = Tenant::new("reports".parse().unwrap(), user(1));
    broker.token(&reports, DEFAULT_MIN_TTL).await.unwrap();
    let asked = server.requests("POST /token").pop().unwrap().body;
    assert!(asked.contains("token-exchange") && asked.contains("subject_token=access-1"), "{asked}");
    assert!(asked.contains("client_id=c-1") && asked.contains("client_secret=secret-of-c-1"), "{asked}");
}

#[tokio::test]
async fn a_device_code_is_asked_for_and_polled_by_the_client_that_was_registered() {
    let server = Scripted::confidential().await;
    let mut metadata = issuer();
    metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    metadata["device_authorization_endpoint"] = json!("{base}/device");
    server.set((ISSUER_AT, 200, "", metadata));
    let device = json!({"device_code": "device-1", "user_code": "AB-CD", "verification_uri": "{base}/activate", "expires_in": 600, "interval": 1});
    server.set(("/device", 200, "", device));
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let mut undiscovered = server.undiscovered();
    undiscovered.settings.grants = vec![GrantKind::Device];
    let broker = process(Providers::with_undiscovered([], [undiscovered]), folder.path(), &clock);
    let started = broker.start(&tenant(1), user(1)).await.unwrap();
    let asked = server.requests("POST /device").pop().unwrap().body;
    assert!(asked.contains("client_id=c-1") && asked.contains("client_secret=secret-of-c-1"), "{asked}");
    clock.advance(10);
    let ended = broker.poll(&started.shown).await;
    assert!(ended.is_ok(), "{:?}", ended.err());
    let polled = server.requests("POST /token").pop().unwrap().body;
    assert!(polled.contains("client_id=c-1") && polled.contains("client_secret=secret-of-c-1"), "{polled}");
    assert!(polled.contains("device_code=device-1"), "{polled}");
}

#[tokio::test]
async fn a_server_without_metadata_documents_registers_the_callback_of_its_provider_alone() {
    let server = Scripted::start(&[
        (RESOURCE_AT, 200, "", resource()),
        (ISSUER_AT, 200, "", issuer()),
        ("/register", 201, "", registered()),
    ])
    .await;
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = Arc::new(server.process(folder.path(), &clock));
    broker.set_public_url(threadkey::broker::PublicUrl::parse("https://keys.example").unwrap());
    let opener = threadkey::broker::Opener { user: "ada".to_owned(), server: None };
    let way_back = threadkey::broker::WayBack::Browser(opener);
    broker.start_by(&tenant(1), user(1), way_back).await.unwrap();
    let asked: Value = serde_json::from_str(&server.requests("POST /register")[0].body).unwrap();
    assert_eq!(asked["redirect_uris"], json!(["https://keys.example/oauth/callback/linear"]));
    assert_eq!(asked["application_type"], "web");
    assert_eq!(client_keys(&folder), [format!("{} https://keys.example/oauth/callback/linear", server.base)]);
}
