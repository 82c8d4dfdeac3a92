use super::*;
use crate::broker::StartError;

#[test]
fn an_error_without_a_session_names_the_sign_in_command() {
    let words = |tenant: &str| TokenError::NoSession(tenant.parse().expect("a tenant")).to_string();
    assert_eq!(words("acme/local"), "acme/local is not signed in: sign in with `threadkey auth start acme`");
    assert_eq!(
        words("acme/user:5"),
        "acme/user:5 is not signed in: sign in with `/auth start` on Discord, or `threadkey auth start acme --as user:5` in a terminal"
    );
    assert!(words("acme/guild:9").contains("`/auth start` and `shared` on Discord"));
    let tenant = "acme/guild:9".parse().expect("a tenant");
    let busy = StartError::Busy { tenant, until: 1_795_358_672 }.to_string();
    assert!(busy.ends_with("ends by itself within 15 minutes: try again then"), "{busy}");
}

#[test]
fn an_operators_mistake_names_its_setting_and_no_retry() {
    let tenant: Tenant = "acme/local".parse().expect("a tenant");
    for (code, setting) in [
        ("invalid_client", "client_id and the client secret"),
        ("invalid_scope", "scopes"),
        ("invalid_request", "redirect_uri"),
        ("invalid_target", "resource"),
    ] {
        let text = TokenError::Misconfigured { tenant: tenant.clone(), code: code.into() }.to_string();
        assert!(text.contains(&format!("The operator must check {setting}")), "{text}");
    }
    let unavailable = |code: &str| {
        let retry_after = Duration::from_secs(5);
        TokenError::Unavailable { tenant: tenant.clone(), code: code.into(), retry_after }.to_string()
    };
    for code in ["http_404", "http_405", "ambiguous_http_302", "ambiguous_http_200"] {
        assert!(unavailable(code).contains("must check providers.acme.token_endpoint"), "{code}");
    }
    assert!(unavailable("dns").contains("the operator must check the network"), "{}", unavailable("dns"));
    for code in ["http_429", "http_503", "ambiguous_timeout", "ambiguous_http_500"] {
        assert!(unavailable(code).ends_with("the session is kept. Try again in 5 s"), "{code}");
    }
}
