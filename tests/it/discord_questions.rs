//! An agent waits for a token, and the bot asks its owner to sign in: the running program with workers.
//!
//! The agent may use two providers, and its owner is signed in at `other` alone. So the agent starts, and
//! the request for a token of `acme` needs a sign-in.

use serde_json::{Value, json};

use crate::{
    support::{
        authserver::{AuthServer, Reply},
        browser,
        discord::{Channel, MessageView, Options, Person},
        program::Running,
    },
    team::{Team, authserver, builtin_agent, enter, expect_messages, scripted_agent},
};

/// An agent that keeps its capability in a file.
const KEEP: &str = r#"printf %s "$THREADKEY_CAPABILITY" > capability; say kept; done_with end_turn"#;
/// A part of each open question.
const QUESTION: &str = "asks for your login at `acme`";
const AN_HOUR: i64 = 3600;

/// The sections of both providers, and of the agent.
fn sections(server: &AuthServer) -> (String, String) {
    let providers = format!("{}\n{}", server.config_toml("acme"), server.config_toml("other"));
    (providers, with_both(&scripted_agent(KEEP)))
}

/// The section of an agent that may use both providers.
fn with_both(agent: &str) -> String {
    agent.replace("providers = [\"acme\"]", "providers = [\"acme\", \"other\"]")
}

/// A team with a running bot, and alice signed in at `other`.
async fn scene() -> (AuthServer, Team, Running) {
    let server = authserver().await;
    let (providers, agent) = sections(&server);
    let team = Team::new(&providers, &agent).await;
    let bot = team.run().await;
    sign_in_at_other(&team, &team.alice).await;
    (server, team, bot)
}

async fn sign_in_at_other(team: &Team, user: &Person) {
    let started = user.command(&team.general, "auth start", &[("provider", "other")]).await;
    let link = started.link("Sign in to other").expect("a link");
    let callback = browser::sign_in(&link, &user.name).await;
    enter(&started, &callback.url).await.says("Signed in as").await;
}

/// A conversation of alice with a live agent: the thread, and the agent's capability.
async fn agent(team: &Team) -> (Channel, String) {
    let thread = team.ask(&team.alice, "keep it").await;
    thread.wait_for_text("kept").await;
    let capability = team.worker_file(&thread, "capability");
    (thread, capability)
}

/// The agent's request for a token, which waits for this time.
async fn request(team: &Team, capability: &str, wait: u32) -> (u16, Value) {
    team.api(capability, "GET", &format!("/v1/token/acme?wait={wait}"), "").await
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

/// Presses "Sign in", signs in, and pastes the address into the form.
async fn sign_in_by(question: &MessageView, user: &Person) {
    let card = user.press(question, "Sign in").await.message();
    assert!(card.is_ephemeral(), "{card:?}");
    let link = card.latest().await.link("Sign in to acme").expect("a link");
    let callback = browser::sign_in(&link, &user.name).await;
    enter(&card, &callback.url).await.says("Signed in as").await;
}

#[tokio::test]
async fn an_agents_request_asks_its_owner_once_and_returns_the_token_after_the_sign_in() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (second_thread, second) = agent(&team).await;
    let (one, two, three, ()) = tokio::join!(
        request(&team, &capability, 300),
        request(&team, &capability, 300),
        async {
            thread.wait_for_text(QUESTION).await;
            request(&team, &second, 300).await
        },
        async {
            let question = thread.wait_for_text(QUESTION).await;
            let text = question.all_text();
            assert!(text.contains("The agent `sh`") && text.contains(&team.alice.mention()), "{text}");
            assert!(!text.contains("http") && question.link("").is_none(), "the link is ephemeral: {text}");
            let sign_in = question.button("Sign in").and_then(|one| one.custom_id.clone()).expect("a button");
            let refused = team.bob.forge_press(&thread, question.id, &sign_in).await.message();
            assert!(refused.text().contains("belongs to another user"), "{refused:?}");
            sign_in_by(&question, &team.alice).await;
        }
    );
    for answer in [&one, &two, &three] {
        assert_eq!((answer.0, answer.1["principal"].as_str()), (200, Some(&*team.alice.principal())));
    }
    let outcome = thread.wait_for_text("You are signed in now.").await;
    assert!(outcome.buttons.is_empty(), "{outcome}");
    expect_messages(&thread, "asked for your login at `acme`", 1).await;
    assert!(
        second_thread.messages().iter().all(|one| !one.all_text().contains("your login")),
        "one question"
    );
    assert_eq!(request(&team, &capability, 300).await.0, 200, "a live session needs no question");
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_declined_question_ends_every_wait_and_is_not_repeated_for_an_hour() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (other_thread, other) = agent(&team).await;
    let (one, two, ()) = tokio::join!(
        request(&team, &capability, 300),
        async {
            thread.wait_for_text(QUESTION).await;
            request(&team, &other, 300).await
        },
        async {
            let question = thread.wait_for_text(QUESTION).await;
            // Both requests wait once the second one has been read.
            let custom_id =
                question.button("Decline").and_then(|one| one.custom_id.clone()).expect("a button");
            let refused = team.bob.forge_press(&thread, question.id, &custom_id).await.message();
            assert!(refused.text().contains("belongs to another user"), "{refused:?}");
            let outcome = team.alice.press(&question, "Decline").await.updated();
            assert!(outcome.text().contains("You declined"), "{outcome:?}");
            assert!(outcome.buttons().is_empty(), "{outcome:?}");
        }
    );
    for refused in [one, two, request(&team, &capability, 300).await, request(&team, &other, 300).await] {
        assert_eq!(code(&refused), (403, "authorization_denied"), "{refused:?}");
    }
    assert_eq!(code(&request(&team, &capability, 0).await), (404, "no_session"), "without wait as before");
    team.home.set_offset(AN_HOUR - 5);
    assert_eq!(code(&request(&team, &other, 300).await), (403, "authorization_denied"));
    expect_messages(&other_thread, "your login", 0).await;
    team.home.set_offset(AN_HOUR + 60);
    assert_eq!(code(&request(&team, &other, 1).await), (408, "authorization_timeout"));
    other_thread.wait_for_text(QUESTION).await;
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_question_outlives_its_wait_and_another_request_joins_it() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    for _ in 0..2 {
        let late = request(&team, &capability, 1).await;
        assert_eq!(code(&late), (408, "authorization_timeout"), "{late:?}");
    }
    expect_messages(&thread, QUESTION, 1).await;
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        sign_in_by(&thread.wait_for_text(QUESTION).await, &team.alice).await;
    });
    assert_eq!(answer.0, 200, "{answer:?}");
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_restart_ends_the_wait_and_keeps_the_question_with_its_buttons() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (ended, _) = tokio::join!(request(&team, &capability, 300), async {
        thread.wait_for_text(QUESTION).await;
        bot.stop().await
    });
    assert_eq!(code(&ended), (408, "authorization_timeout"), "the end of the program ends the wait");
    let bot = team.run().await;
    team.alice.says(&thread, "keep it again");
    expect_messages(&thread, "kept", 2).await;
    let capability = team.worker_file(&thread, "capability");
    let question = thread.wait_for_text(QUESTION).await;
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), sign_in_by(&question, &team.alice));
    assert_eq!(answer.0, 200, "{answer:?}");
    thread.wait_for_text("You are signed in now.").await;
    expect_messages(&thread, "asked for your login at `acme`", 1).await;
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_question_whose_sign_in_came_during_a_restart_shows_it_at_the_start() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    request(&team, &capability, 1).await;
    thread.wait_for_text(QUESTION).await;
    bot.stop().await;
    sign_in_on_the_command_line(&team).await;
    let bot = team.run().await;
    thread.wait_for_text("You are signed in now.").await;
    bot.stop().await;
}

/// Signs alice in at `acme` by another process.
async fn sign_in_on_the_command_line(team: &Team) {
    let principal = team.alice.principal();
    let started = team.home.run(&["auth", "start", "acme", "--json", "--as", &principal]).await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap_or_else(|_| panic!("{started:?}"));
    let link = started["authorize_url"].as_str().expect("a link");
    let callback = browser::sign_in(link, "alice").await;
    let finished = team.home.run_with(&["auth", "code", "--as", &principal], &callback.url).await;
    assert_eq!(finished.code, 0, "{finished:?}");
}

#[tokio::test]
async fn a_session_from_the_command_line_ends_the_wait_and_shows_in_the_question() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        thread.wait_for_text(QUESTION).await;
        sign_in_on_the_command_line(&team).await;
    });
    assert_eq!(answer.0, 200, "{answer:?}");
    let outcome = thread.wait_for_text("You are signed in now.").await;
    assert!(outcome.buttons.is_empty(), "{outcome}");
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_sign_in_that_the_owner_sees_already_is_question_enough() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (started, link) = team.start(&team.alice).await;
    let late = request(&team, &capability, 1).await;
    assert_eq!(code(&late), (408, "authorization_timeout"), "{late:?}");
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        let callback = browser::sign_in(&link, "alice").await;
        enter(&started, &callback.url).await.says("Signed in as").await;
    });
    assert_eq!(answer.0, 200, "{answer:?}");
    expect_messages(&thread, "your login", 0).await;
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_denial_at_the_provider_ends_the_wait_as_the_button_does() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        let question = thread.wait_for_text(QUESTION).await;
        let card = team.alice.press(&question, "Sign in").await.message();
        let link = card.latest().await.link("Sign in to acme").expect("a link");
        let denial = browser::deny(&link, "alice").await;
        enter(&card, &denial.url).await.says("access").await;
    });
    assert_eq!(code(&answer), (403, "authorization_denied"), "{answer:?}");
    thread.wait_for_text("The access was denied at `acme`").await;
    // The owner's own sign-in counts at any time.
    team.sign_in(&team.alice, "alice").await;
    assert_eq!(request(&team, &capability, 300).await.0, 200);
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn an_ended_session_is_asked_for_anew_and_the_new_one_is_returned() {
    let (server, team, bot) = scene().await;
    team.sign_in(&team.alice, "alice").await;
    let (thread, capability) = agent(&team).await;
    assert_eq!(request(&team, &capability, 300).await.0, 200);
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    team.home.set_offset(2 * AN_HOUR);
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        let question = thread.wait_for_text("your sign-in there has ended").await;
        sign_in_by(&question, &team.alice).await;
    });
    assert_eq!(answer.0, 200, "{answer:?}");
    thread.wait_for_text("You are signed in now.").await;
    bot.stop().await;
}

#[tokio::test]
async fn a_closed_thread_sends_the_question_to_the_owners_direct_messages() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    thread.lock();
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        let question = team.alice.dm().wait_for_text(QUESTION).await;
        assert!(question.all_text().contains(&format!("in <#{}>", thread.id)), "{question}");
        sign_in_by(&question, &team.alice).await;
    });
    assert_eq!(answer.0, 200, "{answer:?}");
    team.alice.dm().wait_for_text("You are signed in now.").await;
    bot.stop().await;
}

#[tokio::test]
async fn an_owner_who_loses_the_right_while_an_agent_waits_gets_neither_token_nor_sign_in() {
    let server = authserver().await;
    let (providers, agent_section) = sections(&server);
    let mut role = 0;
    let team = Team::with_rights(&providers, &agent_section, Options::default(), |guild, alice| {
        role = guild.role("people", 0);
        guild.give(alice, role);
        format!("allowed_guilds = [\"{}\"]\nallowed_roles = [{role}]\n", guild.id)
    })
    .await;
    let bot = team.run().await;
    sign_in_at_other(&team, &team.alice).await;
    let (thread, capability) = agent(&team).await;
    let (answer, ()) = tokio::join!(request(&team, &capability, 2), async {
        let question = thread.wait_for_text(QUESTION).await;
        team.alice.loses_roles(&team.guild);
        team.home.set_offset(61);
        let refused = team.alice.press(&question, "Sign in").await.message();
        assert!(refused.text().contains("not on my operator's lists"), "{refused:?}");
    });
    assert_eq!(code(&answer), (403, "not_entitled"), "{answer:?}");
    bot.stop().await;
}

#[tokio::test]
async fn the_end_of_a_worker_ends_its_wait_and_leaves_the_question() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        thread.wait_for_text(QUESTION).await;
        team.alice.command(&thread, "new", &[]).await;
    });
    assert_eq!(code(&answer), (401, "unauthorized"), "{answer:?}");
    let question = thread.wait_for_text(QUESTION).await;
    sign_in_by(&question, &team.alice).await;
    thread.wait_for_text("You are signed in now.").await;
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn the_built_in_agent_goes_on_after_its_owners_sign_in() {
    let server = authserver().await;
    let (providers, _) = sections(&server);
    let team = Team::new(&providers, &with_both(&builtin_agent(&server.userinfo_endpoint()))).await;
    let bot = team.run().await;
    sign_in_at_other(&team, &team.alice).await;
    let thread = team.ask(&team.alice, "which account is this?").await;
    sign_in_by(&thread.wait_for_text(QUESTION).await, &team.alice).await;
    thread.wait_for_text("I hold **alice**'s login").await;
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn the_command_waits_in_a_worker_and_elsewhere_names_the_way_to_sign_in() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let socket = team.socket().display().to_string();
    let worker = [("THREADKEY_SOCKET", &*socket), ("THREADKEY_CAPABILITY", &*capability)];
    let (printed, ()) =
        tokio::join!(team.home.run_in(&["token", "acme", "--wait", "5m"], "", &worker), async {
            sign_in_by(&thread.wait_for_text(QUESTION).await, &team.alice).await
        });
    assert!(printed.code == 0 && !printed.stdout.trim().is_empty(), "{printed:?}");
    let outside = team.home.run(&["token", "acme", "--wait", "5m"]).await;
    assert!(outside.code == 3 && outside.stderr.contains("threadkey auth start"), "{outside:?}");
    let too_long = team.home.run(&["token", "acme", "--wait", "6m"]).await;
    assert!(too_long.code == 2 && too_long.stderr.contains("5m at most"), "{too_long:?}");
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_former_member_of_a_sharing_server_is_asked_once_for_an_own_sign_in() {
    let server = authserver().await;
    let shares = scripted_agent(KEEP).replace("root = ", "shared = true\nroot = ");
    let team = Team::new(&server.config_toml("acme"), &shares).await;
    let bot = team.run().await;
    team.sign_in_shared("team").await;
    let (thread, capability) = agent(&team).await;
    assert_eq!(request(&team, &capability, 300).await.0, 200, "the server's login serves a member");
    team.guild.leave(&team.alice);
    team.home.set_offset(61);
    for _ in 0..2 {
        let late = request(&team, &capability, 1).await;
        assert_eq!(code(&late), (408, "authorization_timeout"), "{late:?}");
        // A change of the store makes the bot compare the question with it.
        team.start(&team.bob).await;
    }
    expect_messages(&thread, QUESTION, 1).await;
    bot.stop().await;
}

#[tokio::test]
async fn a_question_whose_thread_was_deleted_is_asked_in_the_thread_of_the_next_request() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    let (second_thread, second) = agent(&team).await;
    assert_eq!(code(&request(&team, &capability, 1).await), (408, "authorization_timeout"));
    thread.wait_for_text(QUESTION).await;
    thread.delete();
    let (answer, ()) = tokio::join!(request(&team, &second, 300), async {
        sign_in_by(&second_thread.wait_for_text(QUESTION).await, &team.alice).await;
    });
    assert_eq!(answer.0, 200, "{answer:?}");
    second_thread.wait_for_text("You are signed in now.").await;
    bot.stop().await;
}

#[tokio::test]
async fn an_owner_whom_no_message_reaches_is_asked_again_after_a_minute() {
    let (_server, team, bot) = scene().await;
    let (thread, capability) = agent(&team).await;
    team.discord.fail("POST", "", 403, json!({"code": 50013, "message": "Missing Permissions"}), 1000);
    for _ in 0..2 {
        let refused = request(&team, &capability, 300).await;
        assert_eq!(code(&refused), (404, "no_session"), "{refused:?}");
        let detail = refused.1["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("cannot be asked") && detail.contains("direct messages"), "{detail}");
    }
    team.discord.calm();
    // Within the minute no message is tried, so an owner who can be reached again is not.
    team.home.set_offset(30);
    assert_eq!(code(&request(&team, &capability, 1).await), (404, "no_session"));
    team.home.set_offset(91);
    let (answer, ()) = tokio::join!(request(&team, &capability, 300), async {
        sign_in_by(&thread.wait_for_text(QUESTION).await, &team.alice).await;
    });
    assert_eq!(answer.0, 200, "{answer:?}");
    bot.stop().await;
}
