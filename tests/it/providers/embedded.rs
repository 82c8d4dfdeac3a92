//! The tests' own authorization server, in this process.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::support::authserver::{AuthServer, CLIENT_ID, LifeState, Lifetimes, Options};

mod script;

async fn start() -> (AuthServer, Endpoints) {
    let server = AuthServer::start(Options::default()).await;
    let endpoints = Endpoints {
        issuer: server.issuer().to_owned(),
        authorization_endpoint: server.authorization_endpoint(),
        token_endpoint: server.token_endpoint(),
        userinfo_endpoint: server.userinfo_endpoint(),
        revocation_endpoint: server.revocation_endpoint(),
        client_id: CLIENT_ID.to_owned(),
        redirect_uri: server.callback_page(),
    };
    (server, endpoints)
}

#[tokio::test]
async fn the_embedded_server_signs_a_user_in_and_names_their_account() {
    let (server, endpoints) = start().await;
    a_user_signs_in_and_is_named(&endpoints).await;
    the_section_is_toml_with(&endpoints, &server.config_toml("acme"));
}

#[tokio::test]
async fn the_embedded_server_rotates_and_kills_the_family_on_reuse() {
    let (server, endpoints) = start().await;
    a_refresh_rotates_and_a_reuse_kills_the_family(&endpoints).await;
    the_log_shows_the_reuse(&server.events());

    let alice = server.lives().into_iter().filter(|life| life.account == "alice");
    let states: Vec<_> = alice.map(|life| (life.position, life.state)).collect();
    assert_eq!(states, [(0, LifeState::Reused), (1, LifeState::Revoked)]);
}

#[tokio::test]
async fn the_embedded_server_enforces_pkce_and_single_use_codes() {
    let (_server, endpoints) = start().await;
    a_wrong_verifier_is_refused(&endpoints).await;
    a_code_used_twice_revokes_what_it_gave(&endpoints).await;
    plain_or_no_pkce_is_refused(&endpoints).await;
}

#[tokio::test]
async fn the_embedded_server_accepts_a_denial_and_a_revocation() {
    let (server, endpoints) = start().await;
    a_user_can_deny(&endpoints).await;
    a_revoked_refresh_token_stops_working(&endpoints).await;
    assert_eq!(server.events().of("alice").revoked, 1);
}

#[tokio::test]
async fn the_embedded_server_holds_an_answer_back_after_it_has_rotated() {
    let (server, endpoints) = start().await;
    let tokens = endpoints.sign_in("alice").await;
    server.hold();
    let refresh_token = tokens.text("refresh_token").to_owned();
    let waiting = tokio::spawn(async move { endpoints.refresh(&refresh_token).await });
    server.wait_for_held(1).await;
    assert_eq!(server.held(), 1);
    assert_eq!(server.events().of("alice").refreshes, 1);
    assert!(!waiting.is_finished());
    server.release();
    waiting.await.expect("no panic").expect_ok();
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn the_embedded_server_processes_a_held_request_whose_sender_is_gone() {
    let (server, endpoints) = start().await;
    let tokens = endpoints.sign_in("alice").await;
    server.hold_before();
    let refresh_token = tokens.text("refresh_token").to_owned();
    let waiting = tokio::spawn(async move { endpoints.refresh(&refresh_token).await });
    server.wait_for_held(1).await;
    let events = server.events();
    assert_eq!(events.of("alice").refreshes, 0);
    let presented = events.requests.last().and_then(|seen| seen.presented.clone());
    assert_eq!(presented, Some(fingerprint(tokens.text("refresh_token"))));

    waiting.abort();
    assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
    server.release();
    assert_eq!(server.settled(2).await.of("alice").refreshes, 1);
}

#[tokio::test]
async fn the_embedded_server_serves_its_registered_client_and_redirect_uris_only() {
    let (server, endpoints) = start().await;
    let foreign = |which: &'static str, value: &'static str| {
        endpoints.authorize_url(move |name, was| Some(if name == which { value } else { was }.to_owned()))
    };
    for (url, words) in [
        (foreign("client_id", "somebody"), "client_id"),
        (foreign("redirect_uri", "http://127.0.0.1:1/other"), "redirect_uri"),
    ] {
        let page = client().get(url).send().await.expect("it answers");
        assert_eq!(page.status(), 400);
        assert!(page.text().await.expect("a page").contains(words));
    }
    let scope = browser::deny(&foreign("scope", "openid everything"), "alice").await;
    assert_eq!(scope.error, "invalid_scope");

    let tokens = endpoints.sign_in("alice").await;
    let refresh_token = tokens.text("refresh_token");
    for (form, status, code) in [
        (vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)], 401, "invalid_client"),
        (vec![("grant_type", "refresh_token"), ("client_id", CLIENT_ID)], 400, "invalid_request"),
        (vec![("grant_type", "password"), ("client_id", CLIENT_ID)], 400, "unsupported_grant_type"),
        (
            vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh_token),
                ("refresh_token", refresh_token),
                ("client_id", CLIENT_ID),
            ],
            400,
            "invalid_request",
        ),
        (
            vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh_token),
                ("client_id", CLIENT_ID),
                ("scope", "openid write"),
            ],
            400,
            "invalid_scope",
        ),
    ] {
        endpoints.token(&form).await.expect_error(status, code);
    }
    assert_eq!(server.events().of("alice").refreshes, 0);
    endpoints.refresh(refresh_token).await.expect_ok();
}

#[tokio::test]
async fn the_embedded_server_lets_tokens_and_codes_expire_by_its_own_clock() {
    let (server, endpoints) = start().await;
    server.set_lifetimes(Lifetimes {
        code: Duration::from_secs(60),
        access_token: Duration::from_secs(600),
        refresh_token: Duration::from_secs(6_000),
    });
    let late = endpoints.allow("alice").await;
    let tokens = endpoints.sign_in("alice").await;
    assert_eq!(tokens.body["expires_in"], 600);
    server.advance(Duration::from_secs(60));
    let refused = endpoints.exchange(&late.code, VERIFIER).await;
    refused.expect_error(400, "invalid_grant");
    endpoints.userinfo(tokens.text("access_token")).await.expect_ok();
    server.advance(Duration::from_secs(540));
    assert_eq!(endpoints.userinfo(tokens.text("access_token")).await.status, 401);
    server.advance(Duration::from_secs(5_400));
    let refused = endpoints.refresh(tokens.text("refresh_token")).await;
    refused.expect_error(400, "invalid_grant");
    assert_eq!(server.lives()[0].state, LifeState::Expired);
    assert_eq!(server.events().of("alice").revoked, 0);
}

#[tokio::test]
async fn lives_and_events_announce_that_they_changed() {
    let (server, endpoints) = start().await;
    let tokens = endpoints.sign_in("alice").await;
    let mut changes = server.changes();
    changes.mark_unchanged();
    endpoints.refresh(tokens.text("refresh_token")).await.expect_ok();
    let announced = tokio::time::timeout(Duration::from_secs(30), changes.changed()).await;
    announced.expect("within the bound").expect("the server lives");
    let lives = server.lives();
    let states: Vec<_> = lives.iter().map(|life| life.state).collect();
    assert_eq!(states, [LifeState::Spent, LifeState::Live]);
    assert_eq!(lives[0].family, lives[1].family);
    assert!(lives[0].spent_ms.is_some_and(|spent| spent >= lives[0].born_ms));
}

#[tokio::test]
async fn the_callback_page_is_the_one_that_operators_can_host() {
    let (server, endpoints) = start().await;
    let callback = endpoints.allow("alice").await;
    for query in [callback.url.clone(), format!("{}?error=access_denied", server.callback_page())] {
        let page = client().get(query).send().await.expect("it answers").text().await.expect("a page");
        assert_eq!(page, include_str!("../../../deploy/callback.html"));
    }
}

#[test]
fn the_callback_page_loads_nothing_and_runs_only_its_own_script() {
    let page = include_str!("../../../deploy/callback.html");
    for tag in ["style", "script"] {
        let (_, rest) = page.split_once(&format!("<{tag}>")).expect("one such element");
        let (body, rest) = rest.split_once(&format!("</{tag}>")).expect("an end");
        assert!(!rest.contains(&format!("<{tag}")), "a second {tag}");
        let hash = STANDARD.encode(Sha256::digest(body));
        assert!(page.contains(&format!("{tag}-src 'sha256-{hash}'")), "the hash of {tag} is {hash}");
    }
    assert!(page.contains("content=\"default-src 'none';"));
    for word in ["http:", "https:", "src=", "href=", "fetch(", "innerHTML", "<form", "<img", "<link"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[tokio::test]
async fn the_metadata_names_the_endpoints_that_are_served() {
    let (server, endpoints) = start().await;
    let url = format!("{}/.well-known/oauth-authorization-server", server.issuer());
    let metadata = answer(client().get(url)).await.expect("it answers").expect_ok();
    assert_eq!(metadata.text("issuer"), server.issuer());
    assert_eq!(metadata.text("token_endpoint"), endpoints.token_endpoint);
    assert_eq!(metadata.text("authorization_endpoint"), endpoints.authorization_endpoint);
    assert_eq!(metadata.body["code_challenge_methods_supported"], serde_json::json!(["S256"]));
}

#[tokio::test]
async fn the_id_token_names_the_user_and_carries_the_nonce() {
    let (server, endpoints) = start().await;
    let url = format!("{}&nonce=n-1", endpoints.authorize_url(as_it_is));
    let callback = browser::sign_in(&url, "dora").await;
    let tokens = endpoints.exchange(&callback.code, VERIFIER).await.expect_ok();
    let payload = tokens.text("id_token").split('.').nth(1).expect("three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    let claims: Value = serde_json::from_slice(&payload).expect("JSON");
    assert_eq!(claims["sub"], "dora");
    assert_eq!(claims["nonce"], "n-1");
    assert_eq!(claims["iss"], server.issuer());
    assert_eq!(claims["aud"], CLIENT_ID);
}
