//! What one person does gets nothing of another's.

use crate::{
    support::{browser, discord::Answer},
    town::{Town, authserver, enter, said, scripted_agent, town},
};

/// The words of an answer that came at once.
async fn words(answer: Answer) -> String {
    answer.message().latest().await.all_text()
}

#[tokio::test]
async fn anothers_buttons_forms_and_codes_do_nothing() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    let (alice, bob) = (&town.alice, &town.bob);
    let (his, link) = town.start(bob).await;
    let callback = browser::sign_in(&link, "bob").await;
    let before = town.stored();

    let button =
        his.view().button("Enter code").and_then(|button| button.custom_id.clone()).expect("a button");
    let message = his.view().id;
    let told = words(alice.forge_press(&town.general, message, &button).await).await;
    assert_eq!(told, "This button is for somebody else.");
    let filled = [("code", callback.url.as_str())];
    let told = words(alice.forge_modal(&town.general, Some(message), &button, &filled).await).await;
    assert_eq!(told, "This button is for somebody else.");
    for made_up in [format!("acme/{}", bob.principal()), "0".to_owned(), "x".repeat(100)] {
        let told = words(alice.forge_press(&town.general, message, &made_up).await).await;
        assert!(told.contains("no longer know this button"), "{told}");
        let told = words(alice.forge_modal(&town.general, None, &made_up, &filled).await).await;
        assert!(told.contains("no longer know this button"), "{told}");
    }
    let told = town.paste(alice, &callback.url).await.text();
    assert!(told.contains("you have no sign-in under way"), "{told}");
    let told = alice.command(&town.general, "auth cancel", &[]).await.text();
    assert!(told.contains("no sign-in under way"), "{told}");
    assert_eq!(server.count(), 0, "nothing was sent");
    assert_eq!(town.stored(), before, "his sign-in is as it was");

    // With a sign-in of her own under way, his code is still not hers.
    let (hers, _) = town.start(alice).await;
    let told = enter(&hers, &callback.url).await.text();
    assert!(told.contains("belongs to another sign-in"), "{told}");
    assert_eq!(server.count(), 0, "nothing was sent");

    enter(&his, &callback.url).await.says("Signed in as `bob@example.com`").await;
    let told =
        alice.command(&town.general, "auth logout", &[("provider", "acme"), ("revoke", "true")]).await.text();
    assert!(told.contains("not signed in"), "{told}");
    let shared = [("provider", "acme"), ("shared", "true")];
    let told = alice.command(&town.general, "auth start", &shared).await.text();
    assert!(told.contains("Manage Server"), "{told}");
    assert_eq!(server.events().total.revoked, 0);
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn nothing_that_one_person_sees_tells_of_anothers_login() {
    let (_server, town) = town().await;
    let _bot = town.run().await;
    let (alice, bob) = (&town.alice, &town.bob);
    town.sign_in(bob, "bob").await;
    let thread = town.ask(bob, "whose login is this?").await;
    said(&thread, "I hold **bob**'s login", 1).await;

    let status = alice.command(&town.general, "auth status", &[]).await.text();
    assert!(status.contains("signed in nowhere"), "{status}");
    assert!(alice.threads(&town.general).is_empty(), "his thread is private");
    assert!(alice.sees(&thread).is_empty());
    let everything = alice.everything();
    for of_his in ["bob@example.com", "**bob**", "whose login"] {
        assert!(!everything.contains(of_his), "{of_his}: {everything}");
    }
    assert!(
        !town.discord.everything_public().contains("bob@example.com"),
        "his account stood in ephemeral answers only"
    );

    town.sign_in(alice, "alice").await;
    let status = alice.command(&town.general, "auth status", &[]).await.text();
    assert!(status.contains("alice@example.com") && !status.contains("bob"), "{status}");
    let status = bob.command(&town.general, "auth status", &[]).await.text();
    assert!(status.contains("bob@example.com") && !status.contains("alice"), "{status}");
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn only_its_owner_prompts_stops_and_renews_a_conversation() {
    let (server, town) = town().await;
    let _bot = town.run().await;
    let (alice, bob) = (&town.alice, &town.bob);
    town.sign_in(alice, "alice").await;
    town.sign_in(bob, "bob").await;
    let thread = town.ask(bob, "whose login is this?").await;
    said(&thread, "I hold **bob**'s login", 1).await;

    // Somebody lets her into his thread.
    thread.add_member(alice);
    alice.says(&thread, "<@bot> whose login is this?");
    said(&thread, "only their messages reach the agent", 1).await;
    let told = alice.command(&thread, "ask", &[("prompt", "whose login is this?")]).await.text();
    assert!(told.contains("This conversation belongs to"), "{told}");
    for command in ["stop", "new"] {
        let told = alice.command(&thread, command, &[]).await.text();
        assert!(told.contains("only they can do that"), "{told}");
    }
    bob.says(&thread, "and now?");
    said(&thread, "I hold **bob**'s login", 2).await;
    said(&thread, "I hold **alice**'s login", 0).await;
    assert_eq!(server.events().total.refreshes, 0);
    town.discord.assert_no_violations();
}

/// An agent that writes its capability down.
const NOTES: &str = r#"printf %s "$THREADKEY_CAPABILITY" > capability; say noted; done_with end_turn"#;

#[tokio::test]
async fn a_capability_opens_only_its_own_principal_and_providers() {
    let server = authserver().await;
    let second = server.config_toml("other");
    let sections = format!("{}\n{second}", server.config_toml("acme"));
    let town = Town::new(&sections, &scripted_agent(NOTES)).await;
    let _bot = town.run().await;
    let (alice, bob) = (&town.alice, &town.bob);
    town.sign_in(alice, "alice").await;
    town.sign_in(bob, "bob").await;
    let (hers, his) = (town.ask(alice, "go").await, town.ask(bob, "go").await);
    said(&hers, "noted", 1).await;
    said(&his, "noted", 1).await;
    let (her_capability, his_capability) =
        (town.worker_file(&hers, "capability"), town.worker_file(&his, "capability"));
    assert_ne!(her_capability, his_capability);

    let (status, hers_now) = town.api(&her_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!((status, hers_now["principal"].as_str()), (200, Some(alice.principal().as_str())));
    assert_eq!(hers_now["account"], "alice@example.com");
    let (_, his_now) = town.api(&his_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(his_now["account"], "bob@example.com");

    let his_name = bob.principal();
    for path in [format!("/v1/token/acme?principal={his_name}"), format!("/v1/token/acme%2F{his_name}")] {
        let (status, problem) = town.api(&her_capability, "GET", &path, "").await;
        assert!((400..=404).contains(&status), "{path}: {status} {problem}");
        assert!(problem.get("access_token").is_none(), "{path}");
    }
    let (status, problem) = town.api(&her_capability, "GET", "/v1/token/other", "").await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("provider_not_allowed")), "{problem}");
    for path in ["/v1/sessions".to_owned(), format!("/v1/sessions/acme/{his_name}")] {
        let (status, problem) = town.api(&her_capability, "DELETE", &path, "").await;
        assert!((400..=405).contains(&status), "{path}: {status} {problem}");
    }
    for wrong in ["", "nonsense", &her_capability[1..]] {
        let (status, problem) = town.api(wrong, "GET", "/v1/token/acme", "").await;
        assert_eq!((status, problem["code"].as_str()), (401, Some("unauthorized")), "{problem}");
    }

    // What she says of his token changes nothing for him: she is given her own.
    let sent = server.count();
    let body = serde_json::json!({"access_token": his_now["access_token"]}).to_string();
    let (status, answer) = town.api(&her_capability, "POST", "/v1/token/acme/rejected", &body).await;
    assert_eq!((status, &answer["access_token"]), (200, &hers_now["access_token"]));
    let (_, his_after) = town.api(&his_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(his_after["access_token"], his_now["access_token"]);
    assert_eq!(server.count(), sent);

    let told = alice.command(&hers, "new", &[]).await.text();
    assert!(told.contains("The agent was ended"), "{told}");
    let (status, problem) = town.api(&her_capability, "GET", "/v1/token/acme", "").await;
    assert_eq!(status, 401, "it ended with its worker: {problem}");
    town.discord.assert_no_violations();
}
