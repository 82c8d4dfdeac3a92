use super::*;
use crate::oauth::{
    Discovered, ProviderSettings,
    provider::{self, tests::provider},
};

const ENDPOINTS: [Endpoint; 4] = [Endpoint::Token, Endpoint::Revocation, Endpoint::Userinfo, Endpoint::Probe];

fn settings() -> ProviderSettings {
    let probe_endpoint = Some("https://id.example/probe".into());
    ProviderSettings { probe_endpoint, ..provider::tests::settings() }
}

fn with(change: impl FnOnce(&mut ProviderSettings)) -> Provider {
    let mut settings = settings();
    change(&mut settings);
    provider(settings)
}

/// The settings with this endpoint in place of one of them.
fn moved(endpoint: Endpoint, to: &str) -> ProviderSettings {
    let mut settings = settings();
    match endpoint {
        Endpoint::Token => settings.token_endpoint = to.into(),
        Endpoint::Revocation => settings.revocation_endpoint = Some(to.into()),
        Endpoint::Userinfo => settings.userinfo_endpoint = Some(to.into()),
        Endpoint::Probe => settings.probe_endpoint = Some(to.into()),
    }
    settings
}

fn goes(provider: &Provider, bound: &Binding, endpoint: Endpoint) -> Option<String> {
    provider.destination(bound, endpoint).ok().map(Url::to_string)
}

#[test]
fn a_secret_goes_to_the_bound_endpoints_and_no_other() {
    let bound = with(|_| {}).binding();
    for endpoint in ENDPOINTS {
        let there = goes(&with(|_| {}), &bound, endpoint);
        assert!(there.is_some_and(|there| there.starts_with("https://id.example/")), "{endpoint}");
        for foreign in ["https://evil.example/x", "https://id.example/other", "http://127.0.0.1:1/x"] {
            let changed = provider(moved(endpoint, foreign));
            assert_eq!(goes(&changed, &bound, endpoint), None, "{endpoint} {foreign}");
        }
    }
}

#[test]
fn another_client_or_token_endpoint_gets_no_secret_at_any_endpoint() {
    let bound = with(|_| {}).binding();
    for changed in
        [with(|s| s.client_id = "another".into()), provider(moved(Endpoint::Token, "https://evil.example/t"))]
    {
        for endpoint in ENDPOINTS {
            let withheld = changed.destination(&bound, endpoint).expect_err("nothing is sent");
            assert!(
                withheld.to_string().contains("https://id.example/token for client threadkey"),
                "{withheld}"
            );
        }
    }
}

#[test]
fn a_former_endpoint_of_the_same_issuer_leads_to_the_present_one() {
    let bound = with(|_| {}).binding();
    let everything_moved = |issuer: Option<&str>| {
        with(|s| {
            s.formerly = ["token", "revoke", "userinfo", "probe"]
                .map(|path| format!("https://id.example/{path}"))
                .into();
            s.token_endpoint = "https://new.example/token".into();
            s.revocation_endpoint = Some("https://new.example/revoke".into());
            s.userinfo_endpoint = Some("https://new.example/userinfo".into());
            s.probe_endpoint = Some("https://new.example/probe".into());
            s.issuer = issuer.map(str::to_owned);
        })
    };
    for issuer in [None, Some("https://id.example")] {
        let present = ENDPOINTS.map(|endpoint| goes(&everything_moved(issuer), &bound, endpoint));
        let expected =
            ["token", "revoke", "userinfo", "probe"].map(|path| Some(format!("https://new.example/{path}")));
        assert_eq!(present, expected);
    }
    for endpoint in ENDPOINTS {
        assert_eq!(goes(&everything_moved(Some("https://evil.example")), &bound, endpoint), None);
    }
    let only_token = with(|s| {
        s.formerly = vec!["https://id.example/token".into()];
        s.token_endpoint = "https://new.example/token".into();
        s.revocation_endpoint = Some("https://new.example/revoke".into());
    });
    assert!(goes(&only_token, &bound, Endpoint::Token).is_some());
    assert_eq!(goes(&only_token, &bound, Endpoint::Revocation), None, "it is bound to another one");
}

#[test]
fn a_session_without_a_bound_endpoint_takes_one_on_the_token_endpoints_server_alone() {
    let mut bound = with(|_| {}).binding();
    (bound.revocation_endpoint, bound.userinfo_endpoint, bound.probe_endpoint) = (None, None, None);
    for endpoint in [Endpoint::Revocation, Endpoint::Userinfo, Endpoint::Probe] {
        assert!(goes(&with(|_| {}), &bound, endpoint).is_some(), "{endpoint}");
        for foreign in
            ["https://evil.example/x", "https://id.example:8443/x", "https://id.example.evil.example/x"]
        {
            let withheld = provider(moved(endpoint, foreign)).destination(&bound, endpoint).cloned();
            let expected = Withheld::Unbound { endpoint, now: foreign.into() };
            assert_eq!(withheld, Err(expected), "{endpoint} {foreign}");
        }
    }
    let none = with(|s| s.userinfo_endpoint = None).destination(&bound, Endpoint::Userinfo).cloned();
    assert_eq!(none, Err(Withheld::NotConfigured(Endpoint::Userinfo)));
}

#[test]
fn a_session_without_a_bound_probe_takes_the_one_of_its_preset_alone() {
    let with_probe = |token_endpoint: &str, probe: &str| {
        with(|s| {
            s.token_endpoint = token_endpoint.into();
            s.probe_endpoint = Some(probe.into());
        })
    };
    let (token, probe) =
        ("https://auth.openai.com/oauth/token", "https://chatgpt.com/backend-api/wham/usage");
    let early = |provider: &Provider| Binding { probe_endpoint: None, ..provider.binding() };
    let codex = with_probe(token, probe);
    assert_eq!(goes(&codex, &early(&codex), Endpoint::Probe).as_deref(), Some(probe));
    for other in [
        with_probe(token, "https://chatgpt.com/backend-api/other"),
        with_probe(token, "https://api.anthropic.com/api/oauth/profile"),
        with_probe("https://id.example/token", probe),
    ] {
        assert_eq!(goes(&other, &early(&other), Endpoint::Probe), None, "{other:?}");
    }
}

#[test]
fn a_former_endpoint_is_checked_like_any_other_endpoint() {
    let mut settings = settings();
    settings.formerly = vec!["http://id.example/token".into()];
    let error = Provider::new("acme".parse().expect("an id"), settings).expect_err("it is not https");
    assert!(error.to_string().starts_with("providers.acme.formerly: http would show secrets"), "{error}");
}

#[test]
fn a_published_change_moves_no_token_to_another_servers_revocation_or_userinfo() {
    let was = provider(settings());
    let bound =
        Binding { revocation_endpoint: None, userinfo_endpoint: None, probe_endpoint: None, ..was.binding() };
    let now = with(|settings| {
        let earlier_token_endpoints = vec![settings.token_endpoint.clone()];
        settings.token_endpoint = "https://new.example/token".into();
        settings.revocation_endpoint = Some("https://new.example/revoke".into());
        settings.userinfo_endpoint = Some("https://new.example/userinfo".into());
        let published = Discovered { earlier_token_endpoints, ..Discovered::default() };
        settings.discovered = Some(std::sync::Arc::new(published));
    });
    assert_eq!(goes(&now, &bound, Endpoint::Token), Some(was.token_endpoint().to_string()));
    assert_eq!(goes(&now, &bound, Endpoint::Revocation), None);
    assert_eq!(goes(&now, &bound, Endpoint::Userinfo), None);
}
