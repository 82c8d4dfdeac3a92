//! The two authorization servers of the tests behave as OAuth 2.0 requires, and as strictly as they
//! should.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use crate::support::browser::{self, Callback};
use crate::support::events::{Counts, Events, Outcome, fingerprint};

mod embedded;
mod npm;

const VERIFIER: &str = "a-code-verifier-of-the-tests-that-is-long-enough-0123456789";

/// A server, as far as a client knows it.
struct Endpoints {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: String,
    revocation_endpoint: String,
    client_id: String,
    redirect_uri: String,
}

/// The answer of a token endpoint.
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_else(|| {
            panic!("no {name} in the answer {} {}", self.status, self.body);
        })
    }

    fn expect_ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.body);
        self
    }

    fn expect_error(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.text("error")), (status, code));
    }
}

impl Endpoints {
    fn authorize_url(&self, change: impl Fn(&str, &str) -> Option<String>) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut url = Url::parse(&self.authorization_endpoint).expect("a valid address");
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", "openid offline_access"),
            ("state", "the-state"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ] {
            if let Some(value) = change(name, value) {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        url.into()
    }

    async fn allow(&self, account: &str) -> Callback {
        browser::sign_in(&self.authorize_url(as_it_is), account).await
    }

    async fn exchange(&self, code: &str, verifier: &str) -> Answer {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("client_id", &self.client_id),
            ("code_verifier", verifier),
        ])
        .await
    }

    async fn sign_in(&self, account: &str) -> Answer {
        let callback = self.allow(account).await;
        self.exchange(&callback.code, VERIFIER).await.expect_ok()
    }

    async fn refresh(&self, refresh_token: &str) -> Answer {
        self.token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
            ("client_id", &self.client_id),
        ])
        .await
    }

    async fn token(&self, form: &[(&str, &str)]) -> Answer {
        answer(client().post(&self.token_endpoint).form(form)).await.expect("the token endpoint answers")
    }

    async fn revoke(&self, token: &str) -> u16 {
        client()
            .post(&self.revocation_endpoint)
            .form(&[("token", token), ("client_id", &self.client_id)])
            .send()
            .await
            .expect("the revocation endpoint answers")
            .status()
            .as_u16()
    }

    async fn userinfo(&self, access_token: &str) -> Answer {
        answer(client().get(&self.userinfo_endpoint).bearer_auth(access_token))
            .await
            .expect("the userinfo endpoint answers")
    }
}

fn as_it_is(_name: &str, value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .build()
        .expect("the settings are constant and valid")
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.header("accept", "application/json").send().await?;
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

// === tests for both servers ===

async fn a_user_signs_in_and_is_named(endpoints: &Endpoints) {
    let callback = endpoints.allow("alice").await;
    assert_eq!(callback.state, "the-state");
    assert_eq!(callback.iss.as_deref(), Some(endpoints.issuer.as_str()));
    assert!(callback.url.starts_with(&endpoints.redirect_uri));
    let tokens = endpoints.exchange(&callback.code, VERIFIER).await.expect_ok();
    assert_eq!(tokens.text("scope"), "openid offline_access");
    let user = endpoints.userinfo(tokens.text("access_token")).await.expect_ok();
    assert_eq!(user.text("sub"), "alice");
    assert_eq!(user.text("email"), "alice@example.com");
    assert_eq!(endpoints.userinfo("made-up").await.status, 401);
}

async fn a_refresh_rotates_and_a_reuse_kills_the_family(endpoints: &Endpoints) {
    let first = endpoints.sign_in("alice").await;
    let second = endpoints.refresh(first.text("refresh_token")).await.expect_ok();
    assert_ne!(first.text("refresh_token"), second.text("refresh_token"));
    assert_ne!(first.text("access_token"), second.text("access_token"));
    let bystander = endpoints.sign_in("bob").await;

    let reuse = endpoints.refresh(first.text("refresh_token")).await;
    reuse.expect_error(400, "invalid_grant");
    let dead = endpoints.refresh(second.text("refresh_token")).await;
    dead.expect_error(400, "invalid_grant");
    assert_eq!(endpoints.userinfo(second.text("access_token")).await.status, 401);
    endpoints.refresh(bystander.text("refresh_token")).await.expect_ok();
}

fn the_log_shows_the_reuse(events: &Events) {
    let alice = Counts { sign_ins: 1, refreshes: 1, reuses: 1, revoked: 1, failed: 1 };
    let bob = Counts { sign_ins: 1, refreshes: 1, ..Counts::default() };
    assert_eq!(events.of("alice"), alice);
    assert_eq!(events.of("bob"), bob);
    assert_eq!(events.total.refreshes, 2);
    let outcomes: Vec<_> = events.requests.iter().map(|seen| seen.outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::SignedIn,
            Outcome::Refreshed,
            Outcome::SignedIn,
            Outcome::Reused,
            Outcome::Failed,
            Outcome::Refreshed,
        ]
    );
    let [signed_in, refreshed, _, reused, ..] = &events.requests[..] else {
        panic!("too few requests: {events:?}");
    };
    assert_eq!(refreshed.presented, signed_in.issued);
    assert_eq!(reused.presented, signed_in.issued);
    assert_eq!(reused.account.as_deref(), Some("alice"));
    assert_eq!(reused.error.as_deref(), Some("invalid_grant"));
}

async fn a_wrong_verifier_is_refused(endpoints: &Endpoints) {
    let callback = endpoints.allow("alice").await;
    let wrong = VERIFIER.replace("tests", "thief");
    let refused = endpoints.exchange(&callback.code, &wrong).await;
    refused.expect_error(400, "invalid_grant");
}

async fn a_code_used_twice_revokes_what_it_gave(endpoints: &Endpoints) {
    let callback = endpoints.allow("alice").await;
    let tokens = endpoints.exchange(&callback.code, VERIFIER).await.expect_ok();
    let again = endpoints.exchange(&callback.code, VERIFIER).await;
    again.expect_error(400, "invalid_grant");
    let refresh = endpoints.refresh(tokens.text("refresh_token")).await;
    refresh.expect_error(400, "invalid_grant");
}

async fn a_user_can_deny(endpoints: &Endpoints) {
    let denial = browser::deny(&endpoints.authorize_url(as_it_is), "alice").await;
    assert_eq!(denial.error, "access_denied");
    assert_eq!(denial.state.as_deref(), Some("the-state"));
    assert_eq!(denial.iss.as_deref(), Some(endpoints.issuer.as_str()));
}

async fn plain_or_no_pkce_is_refused(endpoints: &Endpoints) {
    let none = endpoints
        .authorize_url(|name, value| (!name.starts_with("code_challenge")).then(|| value.to_owned()));
    assert_eq!(browser::deny(&none, "alice").await.error, "invalid_request");
    let plain = endpoints.authorize_url(|name, value| {
        Some(if name == "code_challenge_method" { "plain" } else { value }.to_owned())
    });
    assert_eq!(browser::deny(&plain, "alice").await.error, "invalid_request");
}

async fn a_revoked_refresh_token_stops_working(endpoints: &Endpoints) {
    let tokens = endpoints.sign_in("alice").await;
    assert_eq!(endpoints.revoke(tokens.text("refresh_token")).await, 200);
    let refused = endpoints.refresh(tokens.text("refresh_token")).await;
    refused.expect_error(400, "invalid_grant");
    assert_eq!(endpoints.userinfo(tokens.text("access_token")).await.status, 401);
}

fn the_section_is_toml_with(endpoints: &Endpoints, section: &str) {
    let parsed: toml::Table = section.parse().expect("valid TOML");
    let acme = &parsed["providers"]["acme"];
    assert_eq!(acme["issuer"].as_str(), Some(endpoints.issuer.as_str()));
    assert_eq!(acme["token_endpoint"].as_str(), Some(endpoints.token_endpoint.as_str()));
    assert_eq!(acme["scopes"].as_array().map(Vec::len), Some(2));
}
