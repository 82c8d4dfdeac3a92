//! What people paste that is wrong, and providers that are not there.

use std::time::Duration;

use super::{ROUTES, Route, assert_fails, assert_says, start};
use crate::{
    support::{browser, program::Home},
    town::{AN_HOUR, Town, authserver, said, town},
};

#[tokio::test]
async fn a_wrong_code_is_told_and_the_sign_in_stays_open() {
    let (_server, town) = town().await;
    let _bot = town.run().await;
    for route in ROUTES {
        let link = route.start(&town).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = town.stored();
        let wrong = callback.url.replace(&callback.code, "a-wrong-code");
        let told = route.paste(&town, &wrong, 2).await;
        assert_says(&told, &["acme does not take that code (invalid_grant)", "Your sign-in is still open"]);
        for nothing in [link.as_str(), "http://127.0.0.1:1/callback"] {
            let told = route.paste(&town, nothing, 2).await;
            assert_says(&told, &["that address carries no code", "paste the address of the page"]);
        }
        assert_eq!(town.stored(), before, "{route:?}");
        route.finish(&town, &callback.url, "alice").await;
    }
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_code_that_has_expired_at_the_provider_is_told_and_the_link_gives_another() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    for route in ROUTES {
        let link = route.start(&town).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = town.stored();
        server.advance(Duration::from_secs(601));
        let told = route.paste(&town, &callback.url, 2).await;
        assert_says(&told, &["does not take that code", "codes are short-lived", "follow the link again"]);
        assert_eq!(town.stored(), before, "{route:?}");
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&town, &callback.url, "alice").await;
    }
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_sign_in_older_than_fifteen_minutes_is_told_and_a_new_one_begins() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    let mut links = Vec::new();
    for route in ROUTES {
        let link = route.start(&town).await;
        links.push((route, browser::sign_in(&link, "alice").await, link));
    }
    town.home.set_offset(15 * 60);
    for (route, callback, _) in &links {
        let told = route.paste(&town, &callback.url, 3).await;
        assert_says(&told, &["was open for 15 minutes and is over", "start a new one"]);
    }
    assert_eq!(server.count(), 0, "nothing was sent");
    for (route, _, old) in links {
        let link = route.start(&town).await;
        assert_ne!(link, old);
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&town, &callback.url, "alice").await;
    }
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn another_persons_code_is_told_before_anything_is_sent_and_still_works_for_them() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    let (_, his_link) = town.start(&town.bob).await;
    let his = browser::sign_in(&his_link, "bob").await;
    for route in ROUTES {
        let told = route.paste(&town, &his.url, 3).await;
        assert_says(&told, &["you have no sign-in under way", "begin with /auth start"]);
        route.start(&town).await;
        let before = town.stored();
        let told = route.paste(&town, &his.url, 2).await;
        assert_says(&told, &["that code belongs to another sign-in", "use the newest link"]);
        assert_eq!(town.stored(), before, "{route:?}");
    }
    assert_eq!(server.count(), 0, "nothing was sent");
    town.paste(&town.bob, &his.url).await.says("Signed in as `bob@example.com`").await;
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_code_that_was_used_before_is_told_and_costs_nobody_the_session() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    for route in ROUTES {
        let link = route.start(&town).await;
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&town, &callback.url, "alice").await;
        let (before, sent) = (town.stored(), server.count());
        let told = route.paste(&town, &callback.url, 2).await;
        assert_says(&told, &["you are signed in as alice@example.com", "a code works once"]);
        assert_eq!((town.stored(), server.count()), (before, sent), "{route:?}");
    }
    assert_eq!((server.events().total.reuses, server.events().total.revoked), (0, 0));
    assert_eq!(town.home.run(&["token", "acme"]).await.code, 0);
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_state_or_an_issuer_that_does_not_match_is_refused_before_anything_is_sent() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    for route in ROUTES {
        let sent = server.count();
        let link = route.start(&town).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = town.stored();
        let other_state = callback.url.replace(&callback.state, "another-state");
        let told = route.paste(&town, &other_state, 2).await;
        assert_says(&told, &["its state does not match", "use the newest link"]);
        let base = callback.url.split('?').next().expect("an address");
        let iss = "iss=https://evil.example";
        let other_issuer = format!("{base}?code={}&state={}&{iss}", callback.code, callback.state);
        let told = route.paste(&town, &other_issuer, 2).await;
        assert_says(&told, &["https://evil.example", server.issuer(), "nothing was sent"]);
        assert_eq!((town.stored(), server.count()), (before, sent), "{route:?}");
        route.finish(&town, &callback.url, "alice").await;
    }
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_denied_consent_is_told_and_the_link_can_be_followed_again() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    for route in ROUTES {
        let sent = server.count();
        let link = route.start(&town).await;
        let denial = browser::deny(&link, "alice").await;
        let before = town.stored();
        let told = route.paste(&town, &denial.url, 2).await;
        assert_says(&told, &["the sign-in was not allowed (access_denied", "start again"]);
        assert_eq!((town.stored(), server.count()), (before, sent), "{route:?}");
        assert_eq!(route.start(&town).await, link);
        let callback = browser::sign_in(&link, "alice").await;
        route.finish(&town, &callback.url, "alice").await;
    }
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn an_unknown_provider_is_told_with_those_that_there_are() {
    let (_server, town) = town().await;
    let _bot = town.run().await;
    for command in [&["auth", "start", "acne"][..], &["token", "acne"]] {
        let ended = town.home.run(command).await;
        assert_fails(&ended, 2, &["there is no provider acne", "threadkey providers"]);
    }
    let ended = town.home.run(&["auth", "start", "Not A Name!"]).await;
    assert_fails(&ended, 2, &["Not A Name!"]);
    let told = town.alice.command(&town.general, "auth start", &[("provider", "acne")]).await.text();
    assert_says(&told, &["There is no provider `acne`", "Known providers: `acme`"]);
    assert!(!town.home.store().exists(), "nothing was begun");
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_costs_no_code() {
    let server = authserver().await;
    // People get there; the program does not.
    let down = server.config_toml("acme").replace(&server.token_endpoint(), "http://127.0.0.1:1/token");
    let town = Town::new(&down, "").await;
    let _bot = town.run().await;
    for route in ROUTES {
        let link = route.start(&town).await;
        let callback = browser::sign_in(&link, "alice").await;
        let before = town.stored();
        for _ in 0..2 {
            let told = route.paste(&town, &callback.url, 5).await;
            assert_says(
                &told,
                &["acme cannot finish the sign-in just now", "your code was not used", "still open"],
            );
            assert_eq!(town.stored(), before, "{route:?}");
        }
    }
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_provider_that_is_down_at_expiry_costs_no_session() {
    let (server, town) = town().await;
    let bot = town.run().await;
    for (route, account) in [(Route::CommandLine, "local"), (Route::Discord, "alice")] {
        let link = route.start(&town).await;
        let callback = browser::sign_in(&link, account).await;
        route.finish(&town, &callback.url, account).await;
    }
    let thread = town.ask(&town.alice, "whose login is this?").await;
    said(&thread, "I hold **alice**'s login", 1).await;
    let tokens = |text: &str| -> Vec<serde_json::Value> {
        let store: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        let sessions = store["sessions"].as_object().expect("an object").values();
        sessions.map(|session| session["refresh_token"].clone()).collect()
    };
    let before = tokens(&town.stored());
    assert_eq!(before.len(), 2);

    drop(server);
    town.home.set_offset(AN_HOUR);
    let ended = town.home.run(&["token", "acme"]).await;
    assert_fails(&ended, 5, &["acme cannot renew acme/local just now", "it is kept", "Try again in"]);
    town.alice.says(&thread, "and now?");
    said(&thread, "threadkey gives me no token: acme cannot renew", 1).await;
    let told = town.alice.command(&town.general, "auth status", &[]).await.text();
    assert_says(&told, &["alice@example.com", "Access token: expired", "Last error", "nothing was lost"]);
    let ended = town.home.run(&["auth", "status"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(bot.stop().await.code, 0);
    assert_eq!(tokens(&town.stored()), before);
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn on_the_command_line_too_only_who_started_a_sign_in_can_finish_it() {
    let server = authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    let link = start(&home).await;
    let callback = browser::sign_in(&link, "alice").await;
    let ended = home.run_with(&["auth", "code", "--as", "user:7"], &callback.url).await;
    assert_fails(&ended, 3, &["you have no sign-in under way"]);
    assert_eq!(server.count(), 0);
    let ended = home.run_with(&["auth", "code"], "  \n").await;
    assert_fails(&ended, 2, &["that was empty"]);
    let ended = home.run_with(&["auth", "code"], &"x".repeat(20_000)).await;
    assert_fails(&ended, 2, &["too long for a code"]);
    let ended = home.run_with(&["auth", "code"], &callback.url).await;
    assert_eq!(ended.code, 0, "{ended:?}");
}
