use super::*;
use crate::{
    net::Trust,
    oauth::{AnswerRules, RequestForm, settings::RESERVED},
};

/// Returns the settings of a public client, with every optional setting except the resource.
pub(in crate::oauth) fn settings() -> ProviderSettings {
    ProviderSettings {
        environment: None,
        redirect_any_port: false,
        preset: None,
        issuer: Some("https://id.example".into()),
        authorization_endpoint: "https://id.example/authorize".into(),
        token_endpoint: "https://id.example/token".into(),
        revocation_endpoint: Some("https://id.example/revoke".into()),
        userinfo_endpoint: Some("https://id.example/userinfo".into()),
        probe_endpoint: None,
        device_authorization_endpoint: Some("https://id.example/device".into()),
        backchannel_authentication_endpoint: Some("https://id.example/bc".into()),
        grants: vec![GrantKind::Code, GrantKind::Device, GrantKind::Ciba],
        device_form: DeviceForm::default(),
        login_hints: BTreeMap::new(),
        jwks_uri: None,
        id_token_issuer: None,
        client_id: "threadkey".into(),
        client_auth: None,
        client_secret: None,
        client_key: None,
        request_form: RequestForm::default(),
        redirect_uri: "http://localhost:1455/auth/callback".into(),
        paste_only: false,
        scopes: vec!["openid".into(), "offline_access".into()],
        authorize_params: BTreeMap::new(),
        resource: None,
        account_id_claim: None,
        token_path: None,
        ended_errors: Vec::new(),
        max_lifetime: None,
        reuse_grace: Duration::from_secs(30),
        enforces_pkce: true,
        formerly: Vec::new(),
        trust: Trust::default(),
        refresh_revokes_access: false,
        reach: None,
        registers_client: false,
        discovered: None,
        login_limits: LoginLimits::default(),
        keepalive: None,
    }
}

pub(in crate::oauth) fn provider(settings: ProviderSettings) -> Provider {
    Provider::new(id(), settings).expect("these settings are right")
}

fn id() -> ProviderId {
    "acme".parse().expect("a provider id")
}

/// Returns the key and the sentence of the error for changed settings.
fn refused(change: impl FnOnce(&mut ProviderSettings)) -> (&'static str, String) {
    let mut settings = settings();
    change(&mut settings);
    let error = Provider::new(id(), settings).expect_err("these settings are wrong");
    let sentence = error.to_string();
    match error {
        ProviderError::Setting { provider, key, .. } => {
            assert_eq!(provider, id());
            assert!(sentence.starts_with(&format!("providers.acme.{key}: ")), "{sentence}");
            (key, sentence)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_sign_in_binds_the_client_and_every_endpoint_that_gets_its_secrets() {
    let provider = provider(settings());
    assert_eq!(
        provider.binding(),
        Binding {
            issuer: Some("https://id.example".into()),
            token_endpoint: "https://id.example/token".into(),
            revocation_endpoint: Some("https://id.example/revoke".into()),
            userinfo_endpoint: Some("https://id.example/userinfo".into()),
            probe_endpoint: None,
            client_id: "threadkey".into(),
            resource: None,
        }
    );
    assert_eq!(provider.redirect_uri(), "http://localhost:1455/auth/callback");
    assert_eq!(provider.reuse_grace(), Duration::from_secs(30));
    assert!(provider.can_revoke() && provider.has_userinfo() && !provider.refresh_revokes_access());
}

#[test]
fn http_is_accepted_on_loopback_only() {
    for good in
        ["http://127.0.0.1:8080/token", "http://127.9.9.9/token", "http://[::1]:1/t", "http://localhost/t"]
    {
        let mut settings = settings();
        settings.token_endpoint = good.into();
        settings.redirect_uri = good.into();
        assert!(Provider::new(id(), settings).is_ok(), "{good}");
    }
    for bad in [
        "http://id.example/token",
        "http://10.0.0.1/token",
        "http://127.0.0.1.example/token",
        "http://localhost.example/token",
        "http://[::ffff:10.0.0.1]/token",
        "http://0.0.0.0/token",
    ] {
        let (key, sentence) = refused(|s| s.token_endpoint = bad.into());
        assert_eq!(key, "token_endpoint");
        assert!(sentence.contains("write https"), "{bad}: {sentence}");
    }
}

#[test]
fn every_url_is_checked_under_its_own_key() {
    let bad = "http://id.example/x";
    assert_eq!(refused(|s| s.authorization_endpoint = bad.into()).0, "authorization_endpoint");
    assert_eq!(refused(|s| s.token_endpoint = bad.into()).0, "token_endpoint");
    assert_eq!(refused(|s| s.revocation_endpoint = Some(bad.into())).0, "revocation_endpoint");
    assert_eq!(refused(|s| s.userinfo_endpoint = Some(bad.into())).0, "userinfo_endpoint");
    assert_eq!(refused(|s| s.probe_endpoint = Some(bad.into())).0, "probe_endpoint");
    assert_eq!(refused(|s| s.redirect_uri = bad.into()).0, "redirect_uri");
    assert_eq!(refused(|s| s.issuer = Some(bad.into())).0, "issuer");
    assert_eq!(refused(|s| s.issuer = Some("https://id.example/?x=1".into())).0, "issuer");
    assert_eq!(refused(|s| s.resource = Some("not a uri".into())).0, "resource");
    assert_eq!(refused(|s| s.resource = Some("https://api.example/#f".into())).0, "resource");
}

#[test]
fn an_invalid_endpoint_is_refused_with_advice_how_to_correct_it() {
    for (bad, hint) in [
        ("", "missing"),
        ("id.example/token", "in full"),
        ("https://id.example/token\n", "white space"),
        ("ftp://id.example/token", "https://"),
        ("urn:ietf:wg:oauth:2.0:oob", "https://"),
        ("https://id.example/token#here", "remove the #"),
        ("https://user@id.example/token", "remove them"),
        ("https://:s3cr3t@id.example/token", "remove them"),
        (&format!("https://id.example/{}", "x".repeat(70_000)), "shorten"),
    ] {
        let (_, sentence) = refused(|s| s.token_endpoint = bad.into());
        assert!(sentence.contains(hint), "{sentence}");
        assert!(!sentence.contains("s3cr3t") && sentence.len() < 400, "{sentence}");
    }
}

#[test]
fn a_parameter_of_the_protocol_cannot_be_overridden() {
    for name in RESERVED {
        let (key, sentence) = refused(|s| drop(s.authorize_params.insert(name.into(), "x".into())));
        assert_eq!(key, "authorize_params");
        assert!(sentence.contains(name), "{sentence}");
        let (key, _) =
            refused(|s| s.authorization_endpoint = format!("https://id.example/authorize?{name}=x"));
        assert_eq!(key, "authorization_endpoint");
    }
    assert_eq!(refused(|s| drop(s.authorize_params.insert(String::new(), "x".into()))).0, "authorize_params");
}

#[test]
fn a_token_request_keeps_its_own_parameters_and_headers_in_any_case() {
    for name in ["grant_type", "Grant_Type", "CODE", "client_ID", ""] {
        let (key, _) = refused(|s| drop(s.request_form.token_params.insert(name.into(), "x".into())));
        assert_eq!(key, "token_params", "{name}");
    }
    for name in [
        "authorization",
        "Host",
        "CONTENT-TYPE",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "Accept-Encoding",
        "expect",
        "a b",
    ] {
        let (key, _) = refused(|s| drop(s.request_form.token_headers.insert(name.into(), "x".into())));
        assert_eq!(key, "token_headers", "{name}");
    }
    let (_, sentence) = refused(|s| {
        s.request_form.token_headers = ["X-Device", "x-device"].map(|name| (name.into(), "x".into())).into();
    });
    assert!(sentence.contains("x-device stands here twice"), "{sentence}");
    assert!(
        refused(|s| drop(s.authorize_params.insert("State".into(), "x".into()))).1.contains("State itself")
    );
}

#[test]
fn the_settings_for_answers_are_checked_and_become_rules() {
    for bad in ["", ".", "a..b", "data."] {
        assert_eq!(refused(|s| s.token_path = Some(bad.into())).0, "token_path", "{bad:?}");
        assert_eq!(refused(|s| s.account_id_claim = Some(bad.into())).0, "account_id_claim", "{bad:?}");
    }
    for bad in ["", "Invalid Token!", "a\nb", &"x".repeat(65)] {
        assert_eq!(refused(|s| s.ended_errors = vec![bad.into()]).0, "ended_errors", "{bad:?}");
    }
    assert_eq!(refused(|s| s.max_lifetime = Some(Duration::from_secs(59))).0, "max_lifetime");
    let mut settings = settings();
    settings.token_path = Some("data.tokens".into());
    settings.ended_errors = vec!["Access_Denied".into(), "700082".into()];
    settings.max_lifetime = Some(Duration::from_secs(60));
    let provider = provider(settings);
    let binding = Binding { client_id: "of the sign-in".into(), ..provider.binding() };
    let rules = AnswerRules {
        client_id: "of the sign-in".into(),
        token_path: vec!["data".into(), "tokens".into()],
        ended_errors: vec!["access_denied".into(), "700082".into()],
        max_lifetime: Some(Duration::from_secs(60)),
        pkce_binds_code: true,
        issuer: binding.issuer.clone(),
        has_keys: false,
        subject: None,
    };
    assert_eq!(provider.answer_rules(&binding), rules);
}

#[test]
fn client_id_secret_and_scopes_are_checked() {
    assert_eq!(refused(|s| s.client_id = String::new()).0, "client_id");
    assert_eq!(refused(|s| s.client_id = "a\nb".into()).0, "client_id");
    for placeholder in [
        "REPLACE-WITH-YOUR-APPLICATION-ID",
        "the Application ID from GitLab",
        "<client_id>",
        "YOUR_ID",
        "xxxx",
    ] {
        assert!(refused(|s| s.client_id = placeholder.into()).1.contains("placeholder"), "{placeholder}");
    }
    for id in
        ["threadkey", "todo-app", "a b c", "https://id.example/client.json", "app_EMoamEEZ73f0CkXaXp7hrann"]
    {
        provider(ProviderSettings { client_id: id.into(), ..settings() });
    }
    assert_eq!(refused(|s| s.client_secret = Some(crate::secret::Secret::new("").into())).0, "client_secret");
    for bad in ["", "read write", "a\"b", "a\\b", "ä"] {
        assert_eq!(refused(|s| s.scopes = vec!["read".into(), bad.into()]).0, "scopes", "{bad:?}");
    }
}

#[test]
fn debug_does_not_show_the_client_secret() {
    let mut settings = settings();
    settings.client_secret = Some(crate::secret::Secret::new("s3cr3t-canary").into());
    let shown = format!("{settings:?} {:?}", provider(settings.clone()));
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn a_probe_goes_to_its_own_endpoint_or_to_userinfo() {
    let probe = |settings| {
        let provider = Provider::new("acme".parse().expect("an id"), settings).expect("a provider");
        provider.probe_endpoint().map(Url::to_string)
    };
    assert_eq!(probe(settings()).as_deref(), Some("https://id.example/userinfo"));
    let own = Some("https://api.example/me".to_owned());
    assert_eq!(probe(ProviderSettings { probe_endpoint: own.clone(), ..settings() }), own);
    assert_eq!(probe(ProviderSettings { userinfo_endpoint: None, ..settings() }), None);
}
