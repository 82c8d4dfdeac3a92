//! `oidc-provider` from npm.

use super::*;
use crate::support::oidc::{Oidc, OidcOptions};

async fn start() -> (Oidc, Endpoints) {
    let oidc = Oidc::start(OidcOptions::default()).await;
    let endpoints = Endpoints {
        issuer: oidc.issuer().to_owned(),
        authorization_endpoint: oidc.authorization_endpoint(),
        token_endpoint: oidc.token_endpoint(),
        userinfo_endpoint: oidc.userinfo_endpoint(),
        revocation_endpoint: oidc.revocation_endpoint(),
        client_id: oidc.client_id().to_owned(),
        redirect_uri: oidc.redirect_uri().to_owned(),
    };
    (oidc, endpoints)
}

#[tokio::test]
async fn oidc_provider_signs_a_user_in_and_names_their_account() {
    let (oidc, endpoints) = start().await;
    a_user_signs_in_and_is_named(&endpoints).await;
    the_section_is_toml_with(&endpoints, &oidc.config_toml("acme"));
}

#[tokio::test]
async fn oidc_provider_rotates_and_kills_the_family_on_reuse() {
    let (oidc, endpoints) = start().await;
    a_refresh_rotates_and_a_reuse_kills_the_family(&endpoints).await;
    the_log_shows_the_reuse(&oidc.events().await);
}

#[tokio::test]
async fn oidc_provider_enforces_pkce_and_single_use_codes() {
    let (_oidc, endpoints) = start().await;
    a_wrong_verifier_is_refused(&endpoints).await;
    a_code_used_twice_revokes_what_it_gave(&endpoints).await;
    plain_or_no_pkce_is_refused(&endpoints).await;
}

#[tokio::test]
async fn oidc_provider_accepts_a_denial_and_a_revocation() {
    let (oidc, endpoints) = start().await;
    a_user_can_deny(&endpoints).await;
    a_revoked_refresh_token_stops_working(&endpoints).await;
    assert_eq!(oidc.events().await.of("alice").revoked, 1);
}

#[tokio::test]
async fn oidc_provider_holds_an_answer_back_after_it_has_rotated() {
    let (oidc, endpoints) = start().await;
    let tokens = endpoints.sign_in("alice").await;
    oidc.hold().await;
    let refresh_token = tokens.text("refresh_token").to_owned();
    let waiting = tokio::spawn(async move { endpoints.refresh(&refresh_token).await });
    oidc.wait_for_held(1).await;
    assert_eq!(oidc.held().await, 1);
    assert_eq!(oidc.events().await.of("alice").refreshes, 1);
    assert!(!waiting.is_finished());
    oidc.release().await;
    waiting.await.expect("no panic").expect_ok();
    assert_eq!(oidc.held().await, 0);
}

#[tokio::test]
async fn oidc_provider_processes_a_held_request_whose_sender_is_gone() {
    let (oidc, endpoints) = start().await;
    let tokens = endpoints.sign_in("alice").await;
    oidc.hold_before().await;
    let refresh_token = tokens.text("refresh_token").to_owned();
    let waiting = tokio::spawn(async move { endpoints.refresh(&refresh_token).await });
    oidc.wait_for_held(1).await;
    let events = oidc.events().await;
    assert_eq!(events.of("alice").refreshes, 0);
    let presented = events.requests.last().and_then(|seen| seen.presented.clone());
    assert_eq!(presented, Some(fingerprint(tokens.text("refresh_token"))));

    waiting.abort();
    assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
    oidc.release().await;
    assert_eq!(oidc.settled(2).await.of("alice").refreshes, 1);
}
