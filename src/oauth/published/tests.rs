use serde_json::json;

use super::*;
use crate::{
    ids::ProviderId,
    net::{Reach, Trust},
    oauth::{Endpoint, provider::tests::settings},
    secret::Secret,
};

const ISSUER: &str = "https://id.example/tenant";

fn undiscovered(change: impl FnOnce(&mut ProviderSettings)) -> Undiscovered {
    let mut settings = ProviderSettings {
        issuer: Some(ISSUER.into()),
        client_id: "threadkey".into(),
        redirect_uri: settings().redirect_uri,
        trust: Trust::default(),
        reach: Some(Reach::default()),
        ..ProviderSettings::default()
    };
    change(&mut settings);
    Undiscovered { id: id(), settings, publisher: Publisher::Issuer(ISSUER.into()) }
}

fn id() -> ProviderId {
    "acme".parse().expect("a name")
}

/// A server's document, with changes.
fn document(changes: Value) -> Map<String, Value> {
    let mut document = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://id.example/tenant/authorize",
        "token_endpoint": "https://id.example/tenant/token",
        "revocation_endpoint": "https://id.example/tenant/revoke",
        "jwks_uri": "https://keys.example/tenant",
        "code_challenge_methods_supported": ["plain", "S256"],
        "scopes_supported": ["openid", "offline_access", "email"],
        "unknown": {"a": [1]},
    });
    let members = document.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        members.insert(name.clone(), value.clone());
    }
    members.clone()
}

fn read(changes: Value) -> Result<ServerMetadata, DiscoveryError> {
    let at = "https://id.example/.well-known/oauth-authorization-server/tenant".parse().expect("a URL");
    ServerMetadata::read(&document(changes), &at, ISSUER)
}

fn found(changes: Value) -> Discovered {
    let metadata = read(changes).expect("it can be read");
    Discovered { publisher: ISSUER.into(), fetched_at: 1, metadata, ..Discovered::default() }
}

fn completed(of: &Undiscovered, changes: Value) -> Result<Provider, DiscoveryError> {
    of.provider(found(changes))
}

#[test]
fn the_well_known_part_goes_before_the_path_and_then_after_it() {
    for (issuer, first, second) in [
        (
            "https://id.example",
            "https://id.example/.well-known/oauth-authorization-server",
            "https://id.example/.well-known/openid-configuration",
        ),
        (
            "https://id.example:8443/a/b/",
            "https://id.example:8443/.well-known/oauth-authorization-server/a/b",
            "https://id.example:8443/a/b/.well-known/openid-configuration",
        ),
    ] {
        let urls = metadata_urls(&issuer.parse().expect("a URL"));
        assert_eq!(urls.each_ref().map(Url::as_str), [first, second]);
    }
}

#[test]
fn published_endpoints_and_default_scopes_complete_a_provider() {
    let provider = completed(&undiscovered(|_| {}), json!({})).expect("it is whole");
    assert_eq!(provider.token_endpoint().as_str(), "https://id.example/tenant/token");
    assert_eq!(provider.issuer(), Some(ISSUER));
    assert_eq!(provider.scopes(), ["openid", "offline_access"]);
    assert!(provider.can_revoke() && !provider.has_userinfo() && !provider.requires_iss());
    let metadata = &provider.discovered().expect("published").metadata;
    assert_eq!(metadata.endpoint("jwks_uri"), Some("https://keys.example/tenant"));
    assert_eq!(provider.jwks_uri().map(Url::as_str), Some("https://keys.example/tenant"));
    let strict = completed(
        &undiscovered(|_| {}),
        json!({"authorization_response_iss_parameter_supported": true, "scopes_supported": null}),
    );
    let strict = strict.expect("it is whole");
    assert!(strict.requires_iss() && strict.scopes().is_empty());
}

#[test]
fn a_written_key_overrides_the_published_one() {
    let written = undiscovered(|settings| {
        settings.token_endpoint = "https://other.example/token".into();
        settings.userinfo_endpoint = Some("https://other.example/me".into());
        settings.scopes = vec!["read".into()];
    });
    // A published value that is not used is not judged.
    let provider = completed(&written, json!({"token_endpoint": "http://id.example/token"}));
    let provider = provider.expect("it is whole");
    assert_eq!(provider.token_endpoint().as_str(), "https://other.example/token");
    assert!(provider.has_userinfo());
    assert_eq!(provider.scopes(), ["read"]);
}

#[test]
fn an_issuer_that_is_not_the_same_text_is_refused_with_both_texts() {
    for issuer in ["https://id.example/tenant/", "https://ID.example/tenant", "https://evil.example", ""] {
        let error = read(json!({"issuer": issuer})).expect_err("another text").to_string();
        assert!(error.contains(&format!("the issuer {issuer:?}")), "{error}");
        assert!(error.contains(&format!("names {ISSUER:?}; both must be the same text")), "{error}");
    }
    assert!(matches!(read(json!({"issuer": 1})), Err(DiscoveryError::Issuer { .. })));
}

#[test]
fn a_published_endpoint_that_breaks_the_rules_is_refused_by_name() {
    for bad in [
        "http://id.example/token",
        "http://127.0.0.1/token",
        "ftp://id.example/",
        "/token",
        "",
        "https://user@id.example/token",
        "https://id.example/token#x",
        "javascript:alert(1)",
    ] {
        for member in ["authorization_endpoint", "token_endpoint", "revocation_endpoint", "jwks_uri"] {
            let error = completed(&undiscovered(|_| {}), json!({ member: bad })).expect_err(bad);
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("{ISSUER} publishes {member} with an unusable value")),
                "{text}"
            );
        }
    }
    for wrong in [
        json!({"token_endpoint": 1}),
        json!({"scopes_supported": "openid"}),
        json!({"code_challenge_methods_supported": [1]}),
    ] {
        assert!(matches!(read(wrong), Err(DiscoveryError::Member { .. })));
    }
    let missing =
        completed(&undiscovered(|_| {}), json!({"token_endpoint": null})).expect_err("it is missing");
    assert_eq!(
        missing.to_string(),
        format!("{ISSUER} publishes no token_endpoint. Write token_endpoint into the provider's section")
    );
}

#[test]
fn a_server_without_s256_is_refused_unless_pkce_is_off() {
    for methods in [json!(null), json!([]), json!(["plain"]), json!(["s256"])] {
        let changes = json!({"code_challenge_methods_supported": methods});
        let error = completed(&undiscovered(|_| {}), changes.clone()).expect_err("no S256");
        assert!(matches!(error, DiscoveryError::NoS256 { .. }), "{error}");
        let without = undiscovered(|settings| {
            settings.request_form.pkce = false;
            settings.client_secret = Some(Secret::new("s3cr3t").into());
        });
        assert!(completed(&without, changes).is_ok());
    }
}

#[test]
fn the_client_authenticates_in_a_way_that_the_server_accepts() {
    let secret =
        |settings: &mut ProviderSettings| settings.client_secret = Some(Secret::new("s3cr3t").into());
    let chosen = |methods: Value| {
        let metadata =
            read(json!({"token_endpoint_auth_methods_supported": methods})).expect("it can be read");
        undiscovered(secret).client_auth(&metadata)
    };
    assert_eq!(chosen(json!(null)), Ok(Some("basic".into())));
    assert_eq!(chosen(json!(["client_secret_post", "client_secret_basic"])), Ok(Some("basic".into())));
    assert_eq!(chosen(json!(["none", "client_secret_post"])), Ok(Some("post".into())));
    let refused = chosen(json!(["private_key_jwt", "none"])).expect_err("no secret is accepted").to_string();
    assert!(refused.contains("accepts clients by private_key_jwt, none alone"), "{refused}");
    let metadata = read(json!({"token_endpoint_auth_methods_supported": ["client_secret_basic"]}));
    let metadata = metadata.expect("it can be read");
    assert_eq!(undiscovered(|_| {}).client_auth(&metadata), Ok(None), "a public client stays one");
    let written = undiscovered(|settings| {
        secret(settings);
        settings.client_auth = Some("post".into());
    });
    assert_eq!(written.client_auth(&metadata), Ok(Some("post".into())));
}

#[test]
fn settings_are_checked_before_the_metadata_is_known() {
    assert!(undiscovered(|_| {}).check().is_ok());
    let keyless = undiscovered(|settings| settings.client_id = "REPLACE-WITH-YOUR-ID".into());
    assert!(keyless.check().expect_err("a placeholder").to_string().starts_with("providers.acme.client_id"));
    let apart = undiscovered(|settings| {
        settings.request_form.refresh_endpoint = Some("https://id.example/refresh".into());
    });
    assert!(apart.check().is_ok(), "it is compared with the published token endpoint");
}

#[test]
fn a_session_keeps_the_token_endpoint_that_was_published_at_its_sign_in() {
    let of = undiscovered(|_| {});
    let before = found(json!({}));
    let bound = of.provider(before.clone()).expect("it is whole").binding();
    let mut now = found(json!({"token_endpoint": "https://new.example/token"}));
    now.remember(&before);
    assert_eq!(now.earlier_token_endpoints, ["https://id.example/tenant/token"]);
    let provider = of.provider(now.clone()).expect("it is whole");
    let destination = provider.destination(&bound, Endpoint::Token).expect("it was published");
    assert_eq!(destination.as_str(), "https://id.example/tenant/token");
    let new = provider.destination(&provider.binding(), Endpoint::Token).expect("it is published");
    assert_eq!(new.as_str(), "https://new.example/token");
    let mut stranger = bound.clone();
    stranger.token_endpoint = "https://never.example/token".into();
    assert!(provider.destination(&stranger, Endpoint::Token).is_err());
    // The operator lists it, and the session follows.
    let listed = undiscovered(|settings| settings.formerly = vec!["https://id.example/tenant/token".into()]);
    let followed = listed.provider(now).expect("it is whole");
    let followed = followed.destination(&bound, Endpoint::Token).expect("it is listed").clone();
    assert_eq!(followed.as_str(), "https://new.example/token");
}

#[test]
fn an_earlier_endpoint_of_another_issuer_is_not_remembered() {
    let mut now = found(json!({"token_endpoint": "https://new.example/token"}));
    let mut other = found(json!({}));
    other.metadata.issuer = "https://other.example".into();
    now.remember(&other);
    assert!(now.earlier_token_endpoints.is_empty());
    // A server that goes back and forth leaves no doubles.
    let before = found(json!({}));
    now.remember(&before);
    let mut back = found(json!({}));
    back.remember(&now);
    assert_eq!(back.earlier_token_endpoints, ["https://new.example/token"]);
}
