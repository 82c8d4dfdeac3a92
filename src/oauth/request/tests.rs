use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base64::Engine as _;
use futures_util::FutureExt as _;

use super::*;
use crate::{
    oauth::{
        BodyForm, ClientKey, ProviderSettings, RequestForm,
        provider::tests::{provider, settings},
    },
    session::test_session,
};

const NOW: UnixTime = 1_795_358_672;

/// The example of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn with(change: impl FnOnce(&mut ProviderSettings)) -> Provider {
    let mut settings = settings();
    change(&mut settings);
    provider(settings)
}

fn pending(provider: &Provider) -> Pending {
    let mut pending = provider.begin(Principal::Local, None, NOW);
    pending.verifier = CodeVerifier::new(VERIFIER);
    pending.state = State::new("the-state");
    pending.nonce = pending.nonce.map(|_| Nonce::new("the-nonce"));
    pending
}

/// Returns the credentials of a provider whose secret needs no command.
pub(in crate::oauth) fn credentials(provider: &Provider) -> Credentials {
    provider.credentials(NOW).now_or_never().expect("it waits for nothing").expect("the secret is known")
}

fn exchange(provider: &Provider, pending: Pending, code: &str) -> Result<TokenRequest, Withheld> {
    provider.exchange(&Locked::for_tests(pending), &AuthorizationCode::new(code), &credentials(provider))
}

fn refresh(provider: &Provider, session: &Session) -> Result<Option<TokenRequest>, Withheld> {
    provider.refresh(&Locked::for_tests(session.clone()), &credentials(provider))
}

fn revoke(provider: &Provider, session: &Session) -> Result<RevocationRequest, Withheld> {
    provider.revoke(session, &credentials(provider))
}

fn body(request: &TokenRequest) -> &str {
    std::str::from_utf8(request.0.body()).expect("a form is ASCII")
}

fn header<'a>(request: &'a TokenRequest, name: &str) -> Option<&'a str> {
    Some(request.0.headers().get(name)?.to_str().expect("ASCII"))
}

fn query(url: &Url) -> BTreeMap<String, String> {
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let count = pairs.len();
    let query: BTreeMap<_, _> = pairs.into_iter().collect();
    assert_eq!(query.len(), count, "no parameter twice (RFC 6749 §3.1): {url}");
    query
}

#[test]
fn the_authorization_request_is_rfc_6749_with_pkce_s256() {
    let provider = provider(settings());
    let url = provider.authorize_url(&pending(&provider));
    assert_eq!(
        url.as_str(),
        format!(
            "https://id.example/authorize?response_type=code&client_id=threadkey&state=the-state\
             &code_challenge={CHALLENGE}&code_challenge_method=S256\
             &redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&scope=openid+offline_access\
             &nonce=the-nonce"
        )
    );
}

#[test]
fn extra_parameters_and_the_resource_are_in_the_authorization_request() {
    let provider = with(|s| {
        s.authorization_endpoint = "https://id.example/authorize?tenant=7".into();
        s.scopes = vec!["read".into()];
        s.resource = Some("https://mcp.example/mcp".into());
        s.authorize_params = BTreeMap::from([("access_type".into(), "offline & on".into())]);
    });
    let query = query(&provider.authorize_url(&pending(&provider)));
    assert_eq!(query["tenant"], "7");
    assert_eq!(query["access_type"], "offline & on");
    assert_eq!(query["resource"], "https://mcp.example/mcp");
    assert!(!query.contains_key("nonce"), "a nonce belongs to openid");
}

#[test]
fn the_link_of_a_sign_in_is_the_same_on_each_call() {
    let provider = provider(settings());
    let pending = provider.begin(Principal::Local, None, NOW);
    assert_eq!(provider.authorize_url(&pending), provider.authorize_url(&pending));
    assert!(
        !provider.authorize_url(&pending).as_str().contains(pending.verifier.expose()),
        "the verifier stays here"
    );
}

#[test]
fn verifier_state_and_nonce_are_random_and_never_equal() {
    let provider = provider(settings());
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let pending = provider.begin(Principal::Local, None, NOW);
        let nonce = pending.nonce.as_ref().expect("openid was asked for");
        for secret in [pending.verifier.expose(), pending.state.expose(), nonce.expose()] {
            assert!(secret.len() >= 43, "256 bits");
            assert!(seen.insert(secret.to_owned()), "a secret was minted twice");
        }
        assert_eq!((pending.created_at, &pending.binding), (NOW, &provider.binding()));
    }
}

#[test]
fn a_public_client_exchanges_its_code_with_its_id_in_the_body() {
    let provider = with(|s| s.resource = Some("https://mcp.example/mcp".into()));
    let request = exchange(&provider, pending(&provider), "c+/=de").expect("it is bound here");
    assert_eq!(request.to_string(), "POST https://id.example/token");
    assert_eq!(
        body(&request),
        format!(
            "grant_type=authorization_code&code=c%2B%2F%3Dde&code_verifier={VERIFIER}&client_id=threadkey\
             &redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback\
             &resource=https%3A%2F%2Fmcp.example%2Fmcp"
        )
    );
    assert_eq!(header(&request, "accept"), Some("application/json"));
    assert_eq!(header(&request, "content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(header(&request, "authorization"), None);
}

#[test]
fn a_public_client_refreshes_with_its_id_and_without_a_scope() {
    let request = refresh(&provider(settings()), &test_session(NOW, 3600)).expect("it is bound here");
    let request = request.expect("it has a refresh token");
    assert_eq!(request.to_string(), "POST https://id.example/token");
    assert_eq!(body(&request), "grant_type=refresh_token&refresh_token=refresh-7&client_id=threadkey");
}

#[test]
fn a_refresh_names_the_resource_that_the_token_was_issued_for() {
    let mut session = test_session(NOW, 3600);
    session.binding.resource = Some("https://mcp.example/mcp".into());
    let request =
        refresh(&provider(settings()), &session).expect("it is bound here").expect("it has a token");
    assert!(body(&request).ends_with("&resource=https%3A%2F%2Fmcp.example%2Fmcp"), "{}", body(&request));
}

#[test]
fn a_confidential_client_authenticates_by_basic_with_both_parts_form_encoded() {
    let provider = with(|s| s.client_secret = Some(Secret::new("p:ss w/rd").into()));
    let request = refresh(&provider, &test_session(NOW, 3600)).expect("bound").expect("has a token");
    assert_eq!(body(&request), "grant_type=refresh_token&refresh_token=refresh-7");
    let expected = base64::engine::general_purpose::STANDARD.encode("threadkey:p%3Ass+w%2Frd");
    assert_eq!(header(&request, "authorization"), Some(format!("Basic {expected}").as_str()));
}

#[test]
fn without_a_refresh_token_there_is_no_refresh() {
    let mut session = test_session(NOW, 3600);
    session.refresh_token = None;
    assert!(refresh(&provider(settings()), &session).expect("bound").is_none());
}

#[test]
fn a_token_or_code_goes_only_to_the_endpoint_and_client_that_issued_it() {
    let session = test_session(NOW, 3600);
    let at_home = provider(settings());
    for moved in [
        with(|s| s.token_endpoint = "https://elsewhere.example/token".into()),
        with(|s| s.client_id = "another".into()),
    ] {
        let changed = refresh(&moved, &session).expect_err("it is bound elsewhere");
        let was = "the sign-in is bound to https://id.example/token for client threadkey, and the configuration now names ";
        assert!(changed.to_string().starts_with(was), "{changed}");
        assert_eq!(exchange(&moved, pending(&at_home), "code").expect_err("it is bound elsewhere"), changed);
        assert_eq!(revoke(&moved, &session).expect_err("it is bound elsewhere"), changed);
    }
}

#[test]
fn a_revocation_names_the_refresh_token_or_else_the_access_token() {
    let provider = provider(settings());
    let mut session = test_session(NOW, 3600);
    let request = revoke(&provider, &session).expect("it can revoke").0;
    assert_eq!(request.to_string(), "POST https://id.example/revoke");
    assert_eq!(body(&request), "token=refresh-7&token_type_hint=refresh_token&client_id=threadkey");
    session.refresh_token = None;
    let request = revoke(&provider, &session).expect("it can revoke").0;
    assert_eq!(body(&request), "token=access-7&token_type_hint=access_token&client_id=threadkey");
    let none = revoke(&with(|s| s.revocation_endpoint = None), &session).expect_err("it cannot revoke");
    assert_eq!(none, Withheld::NotConfigured(Endpoint::Revocation));
}

#[test]
fn revocation_works_over_http_on_loopback() {
    let provider = with(|s| s.revocation_endpoint = Some("http://127.0.0.1:8080/revoke?a=b".into()));
    let mut session = test_session(NOW, 3600);
    session.binding = provider.binding();
    let request = revoke(&provider, &session).expect("it can revoke").0;
    assert_eq!(request.0.uri(), "http://127.0.0.1:8080/revoke?a=b");
}

#[test]
fn a_damaged_sign_in_still_makes_a_request_and_the_provider_refuses_it() {
    let provider = provider(settings());
    let mut pending = pending(&provider);
    pending.verifier = CodeVerifier::new("short");
    pending.redirect_uri = "no url".into();
    let query = query(&provider.authorize_url(&pending));
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["redirect_uri"], provider.redirect_uri());
    assert!(exchange(&provider, pending.clone(), "code").is_ok());
}

#[test]
fn a_request_prints_its_method_and_url_and_no_secret() {
    let provider = with(|s| {
        s.client_secret = Some(Secret::new("s3cr3t").into());
        s.token_endpoint = "https://id.example/token?key=s3cr3t".into();
    });
    let mut session = test_session(NOW, 3600);
    session.binding = provider.binding();
    session.refresh_token = Some(crate::secret::RefreshToken::new("s3cr3t"));
    let request = refresh(&provider, &session).expect("bound").expect("has a token");
    assert_eq!(
        format!("{request:?} {request}"),
        "TokenRequest(POST https://id.example/token) POST https://id.example/token"
    );
    let captured = Captured(Box::new(request.0));
    assert_eq!(format!("{captured:?} {captured}"), "Captured(…) the request was captured");
}

/// A change of the request form of the settings.
fn in_form(change: impl FnOnce(&mut RequestForm)) -> Provider {
    with(|s| change(&mut s.request_form))
}

fn json(request: &TokenRequest) -> serde_json::Value {
    assert_eq!(header(request, "content-type"), Some("application/json"));
    serde_json::from_slice(request.0.body()).expect("JSON")
}

#[test]
fn a_json_body_has_the_parameters_of_the_form() {
    let provider = in_form(|form| {
        form.token_request = BodyForm::Json;
        form.state_in_exchange = true;
        form.token_params = BTreeMap::from([("expires_in".into(), "31536000".into())]);
    });
    let request = exchange(&provider, pending(&provider), "c+/=de").expect("bound");
    assert_eq!(
        json(&request),
        serde_json::json!({
            "grant_type": "authorization_code", "code": "c+/=de", "code_verifier": VERIFIER, "client_id": "threadkey",
            "redirect_uri": "http://localhost:1455/auth/callback", "state": "the-state", "expires_in": "31536000",
        })
    );
    let request = refresh(&provider, &test_session(NOW, 3600)).expect("bound").expect("a token");
    assert_eq!(
        json(&request),
        serde_json::json!({
            "grant_type": "refresh_token", "refresh_token": "refresh-7", "client_id": "threadkey",
            "expires_in": "31536000",
        })
    );
    let revocation = revoke(&provider, &test_session(NOW, 3600)).expect("it can revoke").0;
    assert_eq!(header(&revocation, "content-type"), Some("application/x-www-form-urlencoded"));
}

#[test]
fn a_refresh_can_have_a_body_and_an_endpoint_of_its_own() {
    let provider = in_form(|form| {
        form.refresh_request = Some(BodyForm::Json);
        form.refresh_endpoint = Some("https://id.example/refresh".into());
        form.token_headers = BTreeMap::from([("X-Device".into(), "threadkey".into())]);
    });
    let request = exchange(&provider, pending(&provider), "code").expect("bound");
    assert_eq!(request.to_string(), "POST https://id.example/token");
    assert_eq!(header(&request, "content-type"), Some("application/x-www-form-urlencoded"));
    let request = refresh(&provider, &test_session(NOW, 3600)).expect("bound").expect("a token");
    assert_eq!(request.to_string(), "POST https://id.example/refresh");
    assert_eq!(json(&request)["refresh_token"], "refresh-7");
    assert_eq!(header(&request, "x-device"), Some("threadkey"));
}

#[test]
fn scopes_and_pkce_follow_the_providers_form() {
    let provider = with(|s| {
        s.client_secret = Some(Secret::new("s3cr3t").into());
        s.request_form.scope_separator = ",".into();
        s.request_form.scope_parameter = "user_scope".into();
        s.request_form.pkce = false;
    });
    let query = query(&provider.authorize_url(&pending(&provider)));
    assert_eq!(query["user_scope"], "openid,offline_access");
    assert!(!query.contains_key("scope") && !query.contains_key("code_challenge"), "{query:?}");
    let request = exchange(&provider, pending(&provider), "code").expect("bound");
    assert!(!body(&request).contains("code_verifier"), "{}", body(&request));
}

#[test]
fn a_client_that_posts_its_secret_has_it_in_the_body_and_in_no_header() {
    let provider = with(|s| {
        s.client_secret = Some(Secret::new("p:ss w/rd").into());
        s.client_auth = Some("post".into());
    });
    let secret = "client_secret=p%3Ass+w%2Frd";
    let requests = [
        refresh(&provider, &test_session(NOW, 3600)).expect("bound").expect("a token"),
        exchange(&provider, pending(&provider), "code").expect("bound"),
        revoke(&provider, &test_session(NOW, 3600)).expect("it can revoke").0,
    ];
    for request in requests {
        assert!(body(&request).contains(secret) && body(&request).contains("client_id=threadkey"));
        assert_eq!(header(&request, "authorization"), None);
    }
}

#[test]
fn a_client_with_a_key_signs_an_assertion_for_each_request() {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let provider = with(|s| {
        let pem = Secret::new(pair.serialize_pem());
        s.client_key = Some(Arc::new(ClientKey::from_pem(&pem, Some("key-1".into())).expect("a key")));
    });
    let requests = [
        refresh(&provider, &test_session(NOW, 3600)).expect("bound").expect("a token"),
        exchange(&provider, pending(&provider), "code").expect("bound"),
        revoke(&provider, &test_session(NOW, 3600)).expect("it can revoke").0,
    ];
    let mut ids = BTreeSet::new();
    for request in requests {
        assert_eq!(header(&request, "authorization"), None);
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(request.0.body()).into_owned().collect();
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!(form["client_id"], "threadkey");
        let claims = form["client_assertion"].split('.').nth(1).expect("a JWT");
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64");
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!((&claims["aud"], &claims["exp"]), (&"https://id.example".into(), &(NOW + 60).into()));
        assert!(ids.insert(claims["jti"].to_string()), "an assertion is used once (RFC 7523 §3)");
    }
}
