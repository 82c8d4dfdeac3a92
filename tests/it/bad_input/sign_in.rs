//! Wrong pastes by users, and providers that do not answer.

use std::time::Duration;

use serde_json::Value;

use super::{ROUTES, Route, assert_fails, assert_says, start};
use crate::{
    support::{browser, program::Home},
    team::{AN_HOUR, Team, authserver, expect_messages, team},
};

#[tokio::test]
async fn a_wrong_code_is_reported_and_the_sign_in_stays_open() {
    let (_server, team) = team().await;
    let _bot = team.run().await;
    for route in ROUTES {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = without_the_count(&team);
        let wrong = callback.url.replace(&callback.code, "a-wrong-code");
        let answer = route.paste(&team, &wrong, 2).await;
        assert_says(
            &answer,
            &["acme does not accept that code (invalid_grant)", "Your sign-in is still open"],
        );
        for nothing in [link.as_str(), "http://127.0.0.1:1/callback"] {
            let answer = route.paste(&team, nothing, 2).await;
            assert_says(&answer, &["that address contains no code", "paste the address of the page"]);
        }
        assert_eq!(without_the_count(&team), before, "{route:?}");
        route.finish(&team, &callback.url, "alice").await;
    }
    team.discord.assert_no_violations();
}

/// The store without the number of wrong codes, which each refused code raises.
fn without_the_count(team: &Team) -> Value {
    let mut store: Value = serde_json::from_str(&team.stored()).expect("it is JSON");
    for (_, pending) in store["pending"].as_object_mut().into_iter().flatten() {
        pending.as_object_mut().expect("a sign-in").remove("wrong_codes");
    }
    store
}

#[tokio::test]
async fn a_code_that_has_expired_is_reported_and_the_link_gives_another() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    for route in ROUTES {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = without_the_count(&team);
        server.advance(Duration::from_secs(601));
        let answer = route.paste(&team, &callback.url, 2).await;
        assert_says(
            &answer,
            &["does not accept that code", "codes are short-lived", "follow the link again"],
        );
        assert_eq!(without_the_count(&team), before, "{route:?}");
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&team, &callback.url, "alice").await;
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_sign_in_older_than_fifteen_minutes_is_refused_and_a_new_one_begins() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    let mut links = Vec::new();
    for route in ROUTES {
        let link = route.start(&team).await;
        links.push((route, browser::sign_in(&link, "alice").await, link));
    }
    team.home.set_offset(15 * 60);
    for (route, callback, _) in &links {
        let answer = route.paste(&team, &callback.url, 3).await;
        assert_says(&answer, &["has expired (it was open for 15 minutes)", "start a new one"]);
    }
    assert_eq!(server.count(), 0, "nothing was sent");
    for (route, _, old) in links {
        let link = route.start(&team).await;
        assert_ne!(link, old);
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&team, &callback.url, "alice").await;
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn another_users_code_is_refused_before_any_request_and_still_works_for_them() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    let (_, his_link) = team.start(&team.bob).await;
    let his = browser::sign_in(&his_link, "bob").await;
    for route in ROUTES {
        let answer = route.paste(&team, &his.url, 3).await;
        assert_says(&answer, &["you have no sign-in in progress", "begin with /auth start"]);
        route.start(&team).await;
        let before = team.stored();
        let answer = route.paste(&team, &his.url, 2).await;
        assert_says(&answer, &["that code belongs to another sign-in", "use the newest link"]);
        assert_eq!(team.stored(), before, "{route:?}");
    }
    assert_eq!(server.count(), 0, "nothing was sent");
    team.paste(&team.bob, &his.url).await.says("Signed in as `bob@example.com`").await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_code_that_was_used_before_is_reported_and_costs_no_session() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    for route in ROUTES {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&team, &callback.url, "alice").await;
        let (before, sent) = (team.stored(), server.count());
        let answer = route.paste(&team, &callback.url, 2).await;
        assert_says(&answer, &["you are signed in as alice@example.com", "a code works once"]);
        assert_eq!((team.stored(), server.count()), (before, sent), "{route:?}");
    }
    assert_eq!((server.events().total.reuses, server.events().total.revoked), (0, 0));
    assert_eq!(team.home.run(&["token", "acme"]).await.code, 0);
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_state_or_an_issuer_that_does_not_match_is_refused_before_any_request() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    for route in ROUTES {
        let sent = server.count();
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = team.stored();
        let other_state = callback.url.replace(&callback.state, "another-state");
        let answer = route.paste(&team, &other_state, 2).await;
        assert_says(&answer, &["its state does not match", "use the newest link"]);
        let base = callback.url.split('?').next().expect("an address");
        let iss = "iss=https://evil.example";
        let other_issuer = format!("{base}?code={}&state={}&{iss}", callback.code, callback.state);
        let answer = route.paste(&team, &other_issuer, 2).await;
        assert_says(&answer, &["https://evil.example", server.issuer(), "nothing was sent"]);
        assert_eq!((team.stored(), server.count()), (before, sent), "{route:?}");
        route.finish(&team, &callback.url, "alice").await;
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_denied_consent_is_reported_and_the_link_can_be_followed_again() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    for route in ROUTES {
        let sent = server.count();
        let link = route.start(&team).await;
        let denial = browser::deny(&link, "alice").await;
        let before = team.stored();
        let answer = route.paste(&team, &denial.url, 2).await;
        assert_says(&answer, &["the sign-in was not allowed (access_denied", "start again"]);
        assert_eq!((team.stored(), server.count()), (before, sent), "{route:?}");
        assert_eq!(route.start(&team).await, link);
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&team, &callback.url, "alice").await;
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn an_unknown_provider_is_reported_with_the_configured_ones() {
    let (_server, team) = team().await;
    let _bot = team.run().await;
    for command in [&["auth", "start", "acne"][..], &["token", "acne"]] {
        let ended = team.home.run(command).await;
        assert_fails(&ended, 2, &["there is no provider acne", "did you mean acme?"]);
    }
    let ended = team.home.run(&["auth", "start", "Not A Name!"]).await;
    assert_fails(&ended, 2, &["Not A Name!"]);
    let answer = team.alice.command(&team.general, "auth start", &[("provider", "acne")]).await.text();
    assert_says(&answer, &["There is no provider `acne`. Did you mean `acme`?", "Known providers: `acme`"]);
    assert!(!team.home.store().exists(), "nothing was begun");
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_costs_no_code() {
    let server = authserver().await;
    // Browsers reach the provider; the program does not.
    let down = server.config_toml("acme").replace(&server.token_endpoint(), "http://127.0.0.1:1/token");
    let team = Team::new(&down, "").await;
    let _bot = team.run().await;
    for route in ROUTES {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = team.stored();
        for _ in 0..2 {
            let answer = route.paste(&team, &callback.url, 5).await;
            assert_says(
                &answer,
                &["reach", "acme", "(connect", "our code was not used", "still open", "operator"],
            );
            assert_eq!(team.stored(), before, "{route:?}");
        }
    }
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_provider_that_is_down_at_expiry_costs_no_session() {
    let (server, team) = team().await;
    let bot = team.run().await;
    for (route, account) in [(Route::CommandLine, "local"), (Route::Discord, "alice")] {
        let link = route.start(&team).await;
        let callback = browser::sign_in(&link, account).await;
        route.finish(&team, &callback.url, account).await;
    }
    let thread = team.ask(&team.alice, "which account is this?").await;
    expect_messages(&thread, "I hold **alice**'s login", 1).await;
    let tokens = |text: &str| -> Vec<serde_json::Value> {
        let store: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        let sessions = store["sessions"].as_object().expect("an object").values();
        sessions.map(|session| session["refresh_token"].clone()).collect()
    };
    let before = tokens(&team.stored());
    assert_eq!(before.len(), 2);

    drop(server);
    team.home.set_offset(AN_HOUR);
    let ended = team.home.run(&["token", "acme"]).await;
    assert_fails(&ended, 5, &["acme cannot refresh acme/local now", "the session is kept", "Try again in"]);
    team.alice.says(&thread, "and now?");
    expect_messages(&thread, "threadkey gives me no token: acme cannot refresh", 1).await;
    let answer = team.alice.command(&team.general, "auth status", &[]).await.text();
    assert_says(&answer, &["alice@example.com", "Access token: expired", "Last error", "nothing was lost"]);
    let ended = team.home.run(&["auth", "status"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(bot.stop().await.code, 0);
    assert_eq!(tokens(&team.stored()), before);
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn the_command_line_lets_only_the_starter_of_a_sign_in_finish_it() {
    let server = authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    let link = start(&home).await;
    let callback = browser::sign_in(&link, "alice").await;
    let ended = home.run_with(&["auth", "code", "--as", "user:7"], &callback.url).await;
    assert_fails(&ended, 3, &["you have no sign-in in progress"]);
    assert_eq!(server.count(), 0);
    let ended = home.run_with(&["auth", "code"], "  \n").await;
    assert_fails(&ended, 2, &["that was empty"]);
    let ended = home.run_with(&["auth", "code"], &"x".repeat(20_000)).await;
    assert_fails(&ended, 2, &["too long for a code"]);
    let ended = home.run_with(&["auth", "code"], &callback.url).await;
    assert_eq!(ended.code, 0, "{ended:?}");
}
