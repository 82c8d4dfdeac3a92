//! Users are isolated: no action of one user reaches another user's data.

use crate::{
    support::{browser, discord::Answer},
    team::{Team, authserver, enter, expect_messages, scripted_agent, team},
};

/// Returns the text of an immediate answer.
async fn words(answer: Answer) -> String {
    answer.message().latest().await.all_text()
}

#[tokio::test]
async fn another_users_buttons_forms_and_codes_do_nothing() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    let (alice, bob) = (&team.alice, &team.bob);
    let (his, link) = team.start(bob).await;
    let callback = browser::sign_in(&link, "bob").await;
    let before = team.stored();

    let button =
        his.view().button("Enter code").and_then(|button| button.custom_id.clone()).expect("a button");
    let message = his.view().id;
    let reply = words(alice.forge_press(&team.general, message, &button).await).await;
    assert_eq!(reply, "This button belongs to another user.");
    let filled = [("code", callback.url.as_str())];
    let reply = words(alice.forge_modal(&team.general, Some(message), &button, &filled).await).await;
    assert_eq!(reply, "This button belongs to another user.");
    for made_up in [format!("acme/{}", bob.principal()), "0".to_owned(), "x".repeat(100)] {
        let reply = words(alice.forge_press(&team.general, message, &made_up).await).await;
        assert!(reply.contains("This button no longer works"), "{reply}");
        let reply = words(alice.forge_modal(&team.general, None, &made_up, &filled).await).await;
        assert!(reply.contains("This button no longer works"), "{reply}");
    }
    let reply = team.paste(alice, &callback.url).await.text();
    assert!(reply.contains("you have no sign-in in progress"), "{reply}");
    let reply = alice.command(&team.general, "auth cancel", &[]).await.text();
    assert!(reply.contains("no sign-in in progress"), "{reply}");
    assert_eq!(server.count(), 0, "nothing was sent");
    assert_eq!(team.stored(), before, "his sign-in is as it was");

    // She has her own sign-in in progress, and his code still does not belong to it.
    let (hers, _) = team.start(alice).await;
    let reply = enter(&hers, &callback.url).await.text();
    assert!(reply.contains("belongs to another sign-in"), "{reply}");
    assert_eq!(server.count(), 0, "nothing was sent");

    enter(&his, &callback.url).await.says("Signed in as `bob@example.com`").await;
    let reply =
        alice.command(&team.general, "auth logout", &[("provider", "acme"), ("revoke", "true")]).await.text();
    assert!(reply.contains("not signed in"), "{reply}");
    let shared = [("provider", "acme"), ("shared", "true")];
    let reply = alice.command(&team.general, "auth start", &shared).await.text();
    assert!(reply.contains("Manage Server"), "{reply}");
    assert_eq!(server.events().total.revoked, 0);
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_user_sees_nothing_of_another_users_account() {
    let (_server, team) = team().await;
    let _bot = team.run().await;
    let (alice, bob) = (&team.alice, &team.bob);
    team.sign_in(bob, "bob").await;
    let thread = team.ask(bob, "which account is this?").await;
    expect_messages(&thread, "I hold **bob**'s login", 1).await;

    let status = alice.command(&team.general, "auth status", &[]).await.text();
    assert!(status.contains("not signed in anywhere"), "{status}");
    assert!(alice.threads(&team.general).is_empty(), "his thread is private");
    assert!(alice.sees(&thread).is_empty());
    let everything = alice.everything();
    for of_his in ["bob@example.com", "**bob**", "which account"] {
        assert!(!everything.contains(of_his), "{of_his}: {everything}");
    }
    assert!(
        !team.discord.everything_public().contains("bob@example.com"),
        "his account stood in ephemeral answers only"
    );

    team.sign_in(alice, "alice").await;
    let status = alice.command(&team.general, "auth status", &[]).await.text();
    assert!(status.contains("alice@example.com") && !status.contains("bob"), "{status}");
    let status = bob.command(&team.general, "auth status", &[]).await.text();
    assert!(status.contains("bob@example.com") && !status.contains("alice"), "{status}");
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn only_the_owner_of_a_conversation_prompts_stops_and_restarts_it() {
    let (server, team) = team().await;
    let _bot = team.run().await;
    let (alice, bob) = (&team.alice, &team.bob);
    team.sign_in(alice, "alice").await;
    team.sign_in(bob, "bob").await;
    let thread = team.ask(bob, "which account is this?").await;
    expect_messages(&thread, "I hold **bob**'s login", 1).await;

    // The server lets her into his thread.
    thread.add_member(alice);
    alice.says(&thread, "<@bot> which account is this?");
    expect_messages(&thread, "Only the owner's messages reach the agent", 1).await;
    let reply = alice.command(&thread, "ask", &[("prompt", "which account is this?")]).await.text();
    assert!(reply.contains("This conversation belongs to"), "{reply}");
    for command in ["stop", "new"] {
        let reply = alice.command(&thread, command, &[]).await.text();
        assert!(reply.contains("only its owner can do that"), "{reply}");
    }
    bob.says(&thread, "and now?");
    expect_messages(&thread, "I hold **bob**'s login", 2).await;
    expect_messages(&thread, "I hold **alice**'s login", 0).await;
    assert_eq!(server.events().total.refreshes, 0);
    team.discord.assert_no_violations();
}

/// An agent that writes its capability to a file.
const NOTES: &str = r#"printf %s "$THREADKEY_CAPABILITY" > capability; say noted; done_with end_turn"#;

#[tokio::test]
async fn a_capability_opens_only_its_own_principal_and_providers() {
    let server = authserver().await;
    let second = server.config_toml("other");
    let sections = format!("{}\n{second}", server.config_toml("acme"));
    let team = Team::new(&sections, &scripted_agent(NOTES)).await;
    let _bot = team.run().await;
    let (alice, bob) = (&team.alice, &team.bob);
    team.sign_in(alice, "alice").await;
    team.sign_in(bob, "bob").await;
    let (hers, his) = (team.ask(alice, "go").await, team.ask(bob, "go").await);
    expect_messages(&hers, "noted", 1).await;
    expect_messages(&his, "noted", 1).await;
    let (her_capability, his_capability) =
        (team.worker_file(&hers, "capability"), team.worker_file(&his, "capability"));
    assert_ne!(her_capability, his_capability);

    let (status, hers_now) = team.api(&her_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!((status, hers_now["principal"].as_str()), (200, Some(alice.principal().as_str())));
    assert_eq!(hers_now["account"], "alice@example.com");
    let (_, his_now) = team.api(&his_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(his_now["account"], "bob@example.com");

    let his_name = bob.principal();
    for path in [format!("/v1/token/acme?principal={his_name}"), format!("/v1/token/acme%2F{his_name}")] {
        let (status, problem) = team.api(&her_capability, "GET", &path, "").await;
        assert!((400..=404).contains(&status), "{path}: {status} {problem}");
        assert!(problem.get("access_token").is_none(), "{path}");
    }
    let (status, problem) = team.api(&her_capability, "GET", "/v1/token/other", "").await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("provider_not_allowed")), "{problem}");
    for path in ["/v1/sessions".to_owned(), format!("/v1/sessions/acme/{his_name}")] {
        let (status, problem) = team.api(&her_capability, "DELETE", &path, "").await;
        assert!((400..=405).contains(&status), "{path}: {status} {problem}");
    }
    for wrong in ["", "nonsense", &her_capability[1..]] {
        let (status, problem) = team.api(wrong, "GET", "/v1/token/acme", "").await;
        assert_eq!((status, problem["code"].as_str()), (401, Some("unauthorized")), "{problem}");
    }

    // Her report of his token changes nothing for him: she gets her own token.
    let sent = server.count();
    let body = serde_json::json!({"access_token": his_now["access_token"]}).to_string();
    let (status, answer) = team.api(&her_capability, "POST", "/v1/token/acme/rejected", &body).await;
    assert_eq!((status, &answer["access_token"]), (200, &hers_now["access_token"]));
    let (_, his_after) = team.api(&his_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(his_after["access_token"], his_now["access_token"]);
    assert_eq!(server.count(), sent);

    let reply = alice.command(&hers, "new", &[]).await.text();
    assert!(reply.contains("The agent was ended"), "{reply}");
    let (status, problem) = team.api(&her_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 401, "it ended with its worker: {problem}");
    team.discord.assert_no_violations();
}
