//! Several agents: the choice of a conversation, and its life.

use serde_json::json;

use crate::{
    discord_rig::{Plan, Rig},
    support::discord::{Channel, Person},
};

const NAME: &str = r#"say "This is $AGENT."; done_with end_turn"#;

async fn rig() -> Rig {
    Rig::with(Plan { on_prompt: Some(NAME), agents: vec!["codex", "claude"], ..Plan::default() }).await
}

/// Types `/ask` with an agent, and gives the thread that is opened.
async fn ask_for(rig: &Rig, who: &Person, agent: &str) -> Channel {
    let before = who.threads(&rig.general).len();
    let options = [("prompt", "go"), ("agent", agent)];
    let reply = who.command(&rig.general, "ask", &options).await;
    assert!(reply.text().contains("Your conversation: <#"), "{}", reply.text());
    who.waits_for_threads(&rig.general, before + 1).await.pop().expect("a thread")
}

#[tokio::test]
async fn a_thread_is_with_the_agent_that_its_owner_chose_or_with_the_default() {
    let mut rig = rig().await;
    let default = rig.ask(&rig.alice, "go").await;
    default.wait_for_text("This is codex.").await;
    let chosen = ask_for(&rig, &rig.alice, "claude").await;
    chosen.wait_for_text("This is claude.").await;
    // Another default changes no conversation.
    rig.stop().await;
    rig.set_agents(r#"say "Again $AGENT."; done_with end_turn"#, &["claude", "codex"]);
    rig.run().await;
    rig.alice.says(&default, "again");
    default.wait_for_text("Again codex.").await;
    rig.alice.says(&chosen, "again");
    chosen.wait_for_text("Again claude.").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn the_agent_of_a_conversation_changes_with_new_alone() {
    let mut rig = rig().await;
    let thread = rig.ask(&rig.alice, "go").await;
    thread.wait_for_text("This is codex.").await;
    let options = [("prompt", "go"), ("agent", "claude")];
    let refused = rig.alice.command(&thread, "ask", &options).await;
    assert!(refused.is_ephemeral());
    assert_eq!(
        refused.text(),
        "This conversation is with `codex`. `/new agent:claude` starts it again with `claude`, or use `/ask` in another channel."
    );
    let reply = rig.alice.command(&thread, "new", &[("agent", "claude")]).await;
    assert!(
        reply.text().starts_with("The agent was ended. Your next message starts `claude`"),
        "{}",
        reply.text()
    );
    rig.alice.says(&thread, "who?");
    thread.wait_for_text("This is claude.").await;
    // Direct messages have one channel, so their agent is kept too.
    let direct = rig.bob.dm();
    let reply = rig.bob.command(&direct, "new", &[("agent", "claude")]).await;
    assert_eq!(reply.text(), "No agent was running. Your next message starts `claude`.");
    rig.stop().await;
    rig.run().await;
    rig.bob.says(&direct, "who?");
    direct.wait_for_text("This is claude.").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_wrong_or_removed_agent_is_named_with_the_ones_that_are_there() {
    let mut rig = rig().await;
    for (agent, answer) in [
        ("clade", "There is no agent `clade` here. Did you mean `claude`?"),
        ("x", "There is no agent `x` here. There are: `claude`, `codex`."),
    ] {
        let reply = rig.alice.command(&rig.general, "ask", &[("prompt", "go"), ("agent", agent)]).await;
        assert!(reply.is_ephemeral());
        assert_eq!(reply.text(), answer);
    }
    let thread = ask_for(&rig, &rig.alice, "claude").await;
    thread.wait_for_text("This is claude.").await;
    rig.stop().await;
    rig.set_agents(NAME, &["codex"]);
    rig.run().await;
    rig.alice.says(&thread, "still there?");
    thread.wait_for_text("with the agent claude, which is no longer configured").await;
    let reply = rig.alice.command(&thread, "new", &[("agent", "codex")]).await;
    assert!(reply.text().contains("Your next message starts `codex`"), "{}", reply.text());
    rig.alice.says(&thread, "and now?");
    thread.wait_for_text("This is codex.").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn agents_are_offered_only_where_there_are_several() {
    let several = rig().await;
    let offered = several.alice.autocomplete(&several.general, "ask", "agent", "c").await;
    assert_eq!(offered.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["claude", "codex"]);
    let one = Rig::talking(NAME).await;
    let offered = one.alice.try_autocomplete(&one.general, "ask", "agent", "c").await;
    assert!(offered.is_err(), "the option is not registered: {offered:?}");
    let data = json!({"id": "1", "name": "ask", "type": 1, "options": [
        {"name": "prompt", "type": 3, "value": "go"}, {"name": "agent", "type": 3, "value": "claude"},
    ]});
    let reply = one.alice.forge_command(&one.general, data).await.message();
    assert_eq!(reply.text(), "There is only one agent here. Leave `agent` out.");
}
