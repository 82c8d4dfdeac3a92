//! Mistakes that only the operator can mend: each is reported with its cause, and not as a pause.

use super::{ROUTES, Route, assert_says};
use crate::{
    support::{
        authserver::{AuthServer, Reply},
        browser,
    },
    team::{Team, authserver, team},
};

/// Asserts that the answer names the operator and no retry, and that Discord shows no address of the
/// configuration.
#[track_caller]
fn assert_is_the_operators(route: Route, answer: &str, on_discord: &str, in_a_terminal: &[&str]) {
    assert!(!answer.contains("in a moment"), "{route:?}: {answer}");
    match route {
        Route::Discord => {
            assert_says(answer, &[on_discord, "Only my operator can correct this"]);
            assert!(!answer.contains("providers.acme"), "{answer}");
        }
        Route::CommandLine => assert_says(answer, in_a_terminal),
    }
}

async fn with_token_endpoint(change: impl Fn(&str) -> String) -> (AuthServer, Team) {
    let server = authserver().await;
    let endpoint = server.token_endpoint();
    let config = server.config_toml("acme").replace(&endpoint, &change(&endpoint));
    (server, Team::new(&config, "").await)
}

#[tokio::test]
async fn a_wrong_token_path_is_reported_as_the_operators_mistake_and_costs_no_code() {
    let (_server, team) = with_token_endpoint(|right| format!("{right}s")).await;
    let _bot = team.run().await;
    for route in ROUTES {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        let answer = route.paste(&team, &callback.url, 2).await;
        let words = [
            "is most likely not the token endpoint of acme (http_404)",
            "must check providers.acme.token_endpoint",
        ];
        assert_is_the_operators(route, &answer, "a wrong address of acme (http_404)", &words);
        assert_says(&answer, &["our code was not used", "sign-in is still open"]);
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_refused_authorization_request_names_the_setting_of_the_operator() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    for route in ROUTES {
        for (error, setting) in [
            ("invalid_scope", "must check scopes of providers.acme"),
            ("unauthorized_client", "must check client_id"),
            ("invalid_request", "must check redirect_uri"),
        ] {
            let link = route.start(&team).await;
            let denial = browser::deny(&link, "alice").await;
            let answer = route.paste(&team, &denial.url.replace("access_denied", error), 2).await;
            let refused = format!("acme refuses threadkey's sign-in request ({error}");
            let on_discord = format!("refuses my request to sign you in ({error})");
            assert_is_the_operators(route, &answer, &on_discord, &[&refused, setting]);
        }
    }
    assert_eq!(server.count(), 0, "nothing was sent");
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_client_that_the_provider_refuses_is_the_operators_to_correct() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    for route in ROUTES {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        server.script([Reply::Json(401, serde_json::json!({"error": "invalid_client"}))]);
        let answer = route.paste(&team, &callback.url, 2).await;
        let words = [
            "acme refuses threadkey's client (invalid_client)",
            "must check client_id and the client secret",
        ];
        assert_is_the_operators(route, &answer, "acme refuses me as a client (invalid_client)", &words);
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_provider_that_does_not_resolve_is_named_with_its_cause() {
    // The resolver itself refuses a label of 64 letters, without a query to the network.
    let host = format!("{}.invalid", "x".repeat(64));
    let (_server, team) = with_token_endpoint(|_| format!("https://{host}/token")).await;
    let _bot = team.run().await;
    for route in ROUTES {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        let answer = route.paste(&team, &callback.url, 5).await;
        assert_says(&answer, &["reach", "our code was not used", "still open", "operator"]);
        let names_the_host = answer.contains(&host);
        assert_eq!(names_the_host, route == Route::CommandLine, "{route:?}: {answer}");
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn the_debug_log_shows_the_providers_answer_without_secrets() {
    let server = authserver().await;
    let home = crate::support::program::Home::new(&server.config_toml("acme"));
    let link = super::start(&home).await;
    let callback = browser::sign_in(&link, "alice").await;
    let page = format!("<title>Not here</title> you sent {}", callback.code);
    server.script([Reply::Json(404, serde_json::json!({"page": page}))]);
    let ended = home.run_in(&["auth", "code"], &callback.url, &[("THREADKEY_LOG", "debug")]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_says(&ended.stderr, &["the provider has answered", "status=404", "Not here", "you sent …"]);
    assert!(!ended.stderr.contains(&callback.code), "{ended:?}");
}
