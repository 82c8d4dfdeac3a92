//! Conversations: the users whose messages count, the place of the answers, and the secrets that
//! never appear.

use crate::{
    discord_rig::{LIVE_TOKEN, Plan, Rig, snowflake},
    support::discord::{Channel, MessageView},
};

/// Answers with the question.
const ECHO: &str = r#"text=$(printf '%s' "$line" | sed -E 's/.*"text":"([^"]*)".*/\1/'); say "You said: $text"; done_with end_turn"#;

async fn heard(thread: &Channel, times: usize, text: &str) {
    let count = |seen: &[MessageView]| {
        (seen.iter().filter(|m| m.all_text().contains(text)).count() == times).then_some(())
    };
    thread.wait_for(count).await;
}

#[tokio::test]
async fn ask_opens_a_private_thread_that_accepts_only_its_owner() {
    let mut rig = Rig::talking(ECHO).await;
    let thread = rig.ask(&rig.alice, "first").await;
    assert!(thread.is_private());
    thread.wait_for_text("You said: first").await;
    assert_eq!(rig.bob.threads(&rig.general).len(), 0);
    rig.alice.says(&thread, "second");
    thread.wait_for_text("You said: second").await;
    let reply = rig.alice.command(&thread, "ask", &[("prompt", "third")]).await;
    assert!(!reply.is_ephemeral() && reply.text().contains("> third"), "{reply:?}");
    thread.wait_for_text("You said: third").await;
    for (command, options) in [
        ("ask", serde_json::json!([{"name": "prompt", "type": 3, "value": "from bob"}])),
        ("stop", serde_json::json!([])),
        ("new", serde_json::json!([])),
    ] {
        let data = serde_json::json!({"id": "1", "name": command, "type": 1, "options": options});
        let reply = rig.bob.forge_command(&thread, data).await.message();
        assert!(reply.is_ephemeral() && reply.text().contains("belongs to"), "{reply:?}");
    }
    rig.alice.says(&thread, "fourth");
    thread.wait_for_text("You said: fourth").await;
    assert!(!rig.alice.everything().contains("from bob"));
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_mention_opens_a_thread_and_a_direct_message_is_a_conversation() {
    let rig = Rig::talking(ECHO).await;
    rig.alice.says(&rig.general, "<@bot> from a mention");
    let thread = rig.alice.waits_for_threads(&rig.general, 1).await.pop().expect("a thread");
    thread.wait_for_text("You said: from a mention").await;
    assert!(thread.is_private() && thread.members().contains(&"alice".to_owned()));
    rig.alice.says(&rig.alice.dm(), "from a direct message");
    rig.alice.dm().wait_for_text("You said: from a direct message").await;
    let reply = rig.bob.command(&rig.bob.dm(), "ask", &[("prompt", "by command")]).await;
    assert!(reply.text().contains("> by command"));
    rig.bob.dm().wait_for_text("You said: by command").await;
    assert!(!rig.bob.everything().contains("You said: from"));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_thread_keeps_its_owner_after_a_restart() {
    let mut rig = Rig::talking(ECHO).await;
    let thread = rig.ask(&rig.alice, "before").await;
    thread.wait_for_text("You said: before").await;
    rig.stop().await;
    rig.run().await;
    rig.alice.says(&thread, "after");
    thread.wait_for_text("You said: after").await;
}

#[tokio::test]
async fn long_answers_become_several_messages_with_their_code_fences_whole() {
    let rig = Rig::talking(
        r#"say "Look:\\n\`\`\`rust\\n"; i=0; while [ $i -lt 300 ]; do say "let number_$i = $i;\\n"; i=$((i+1)); done; say "\`\`\`\\nThat was all."; done_with end_turn"#,
    )
    .await;
    let thread = rig.ask(&rig.alice, "write code").await;
    thread.wait_for_text("That was all.").await;
    let said: Vec<String> =
        thread.messages().iter().map(|m| m.text.clone()).filter(|text| text.contains("let number")).collect();
    assert!(said.len() >= 3, "{said:?}");
    for part in &said {
        assert!(part.encode_utf16().count() <= 2000);
        assert_eq!(part.matches("```").count() % 2, 0, "{part}");
    }
    let all = said.join("\n");
    assert!((0..300).all(|i| all.contains(&format!("let number_{i} = {i};"))));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn only_the_owner_answers_a_permission_question() {
    let rig = Rig::talking(
        r#"permit "delete everything"; case "$answer" in *'"yes"'*) say "allowed" ;; *) say "refused" ;; esac; done_with end_turn"#,
    )
    .await;
    let thread = rig.ask(&rig.alice, "go").await;
    let question = thread.wait_for_text("delete everything").await;
    let custom_id = question.button("Allow once").and_then(|b| b.custom_id.clone()).expect("a button");
    let forged = rig.bob.forge_press(&thread, question.id, &custom_id).await.message();
    assert!(forged.is_ephemeral() && forged.text().contains("another user"), "{forged:?}");
    let answer = rig.alice.press(&question, "Allow once").await.updated();
    assert!(answer.text().contains("Answered: Allow once") && answer.buttons().is_empty(), "{answer:?}");
    thread.wait_for_text("allowed").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_live_token_is_never_shown_in_any_form_of_the_agents_output() {
    let rig = Rig::talking(
        r#"say "It is live-token-"; say "0123456789abcdef, really"; tool "curl live-token-0123456789abcdef"; permit "use live-token-0123456789abcdef"; done_with end_turn"#,
    )
    .await;
    let thread = rig.ask(&rig.alice, "tell me").await;
    let question = thread.wait_for_text("for permission").await;
    rig.alice.press(&question, "Reject").await.updated();
    thread.wait_for_text("[secret removed], really").await;
    assert!(!rig.alice.everything().contains(LIVE_TOKEN));
    assert!(!rig.discord.everything_public().contains(LIVE_TOKEN), "not in any version either");
    assert!(!rig.discord.everything_public().contains("live-token"));
}

#[tokio::test]
async fn stop_ends_the_turn_and_new_begins_another_conversation() {
    let rig = Rig::talking(r#"say "working "; case "$line" in *quick*) done_with end_turn ;; esac"#).await;
    let thread = rig.ask(&rig.alice, "something long").await;
    thread.wait_for_text("working").await;
    rig.alice.says(&thread, "more");
    thread.wait_for_text("still working on the last prompt").await;
    let reply = rig.alice.command(&thread, "stop", &[]).await;
    assert_eq!(reply.text().trim(), "Stopping.");
    thread.wait_for_text("Stopped.").await;
    let reply = rig.alice.command(&thread, "stop", &[]).await;
    assert_eq!(reply.text().trim(), "Nothing is running.");
    let reply = rig.alice.command(&thread, "new", &[]).await;
    assert!(reply.text().contains("The agent was ended"), "{reply:?}");
    rig.alice.says(&thread, "quick");
    heard(&thread, 2, "working").await;
    let elsewhere = rig.alice.command(&rig.general, "stop", &[]).await;
    assert!(elsewhere.text().contains("no conversation with you here"), "{elsewhere:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn an_agent_that_dies_or_cannot_start_is_reported_in_the_thread() {
    let rig = Rig::talking("say 'so far'; exit 3").await;
    let thread = rig.ask(&rig.alice, "go").await;
    thread.wait_for_text("ended unexpectedly").await;
    rig.discord.assert_no_violations();
    let command = Some(vec!["/no/such/agent".to_owned()]);
    let rig = Rig::with(Plan { command, ..Plan::default() }).await;
    let thread = rig.ask(&rig.alice, "go").await;
    thread.wait_for_text("cannot be started").await;
    let rig = Rig::start().await;
    let reply = rig.alice.command(&rig.general, "ask", &[("prompt", "go")]).await;
    assert!(reply.text().contains("No agent is configured"), "{reply:?}");
}

#[tokio::test]
async fn missing_permissions_are_named_in_the_reply() {
    const CREATE_PRIVATE_THREADS: u64 = 1 << 36;
    let rig = Rig::talking(ECHO).await;
    rig.general.deny_bot(CREATE_PRIVATE_THREADS);
    let reply = rig.alice.command(&rig.general, "ask", &[("prompt", "go")]).await;
    assert!(reply.is_ephemeral() && reply.text().contains("**Create Private Threads**"), "{reply:?}");
    rig.alice.says(&rig.general, "<@bot> go");
    rig.general.wait_for_text("Create Private Threads").await;
    assert!(rig.alice.threads(&rig.general).is_empty());
}

#[tokio::test]
async fn the_allow_lists_apply_to_messages_and_mentions() {
    let mut rig = Rig::stopped(Plan { on_prompt: Some(ECHO), ..Plan::default() }).await;
    let role = rig.alice.give_role(&rig.guild, "people");
    let other = rig.guild.channel("other");
    rig.settings.allow_everyone = false;
    rig.settings.allowed_channels = vec![snowflake(rig.general.id)];
    rig.settings.allowed_roles = vec![snowflake(role)];
    rig.run().await;
    rig.bob.says(&rig.general, "<@bot> may I?");
    rig.alice.says(&other, "<@bot> and here?");
    rig.bob.says(&rig.bob.dm(), "or here?");
    let refused = rig.alice.command(&other, "ask", &[("prompt", "go")]).await;
    assert!(refused.text().contains("do not work in this channel"), "{refused:?}");
    let refused = rig.bob.command(&rig.bob.dm(), "ask", &[("prompt", "go")]).await;
    assert!(refused.text().contains("not on my operator's lists"), "{refused:?}");
    // A permitted user can still ask, also in the thread, which counts as its channel.
    let thread = rig.ask(&rig.alice, "here").await;
    thread.wait_for_text("You said: here").await;
    rig.alice.says(&thread, "again");
    thread.wait_for_text("You said: again").await;
    assert!(rig.bob.threads(&rig.general).is_empty() && rig.alice.threads(&other).is_empty());
    assert!(rig.bob.sees(&rig.bob.dm()).iter().all(|m| !m.all_text().contains("You said")));
}

#[tokio::test]
async fn new_lists_the_files_that_stay_and_removes_them_on_request() {
    let rig = Rig::talking(
        "n=10; while [ $n -lt 35 ]; do : > \"f$n\"; n=$((n+1)); done; : > '**@everyone**'; say \"$(ls | wc -l) files\"; done_with end_turn",
    )
    .await;
    let thread = rig.ask(&rig.alice, "go").await;
    thread.wait_for_text("26 files").await;
    let reply = rig.alice.command(&thread, "new", &[]).await.text();
    assert!(reply.contains("The agent was ended") && reply.contains("`f10`, `f11`"), "{reply}");
    assert!(reply.contains("`**@everyone**`") && reply.contains("and 6 more"), "{reply}");
    let reply = rig.alice.command(&thread, "new", &[("clean", "true")]).await.text();
    assert!(reply.contains("No agent was running") && reply.contains("Its files were removed"), "{reply}");
    let reply = rig.alice.command(&thread, "new", &[]).await.text();
    assert_eq!(reply, "No agent was running. Your next message starts one.");
    rig.discord.assert_no_violations();
}
