//! Rights in the running program: closed by default, checked at each token, ended by events.

use serde_json::Value;

use crate::{
    support::{
        discord::{Channel, Options, Trouble, permission},
        program::Running,
        upstream::{Part, Upstream},
    },
    team::{Team, authserver, scripted_agent},
};

/// An agent that keeps its capability in a file.
const KEEP: &str = r#"printf %s "$THREADKEY_CAPABILITY" > capability; say kept; done_with end_turn"#;

/// A team whose members may use the bot if they have the role `people`.
async fn team(members_intent: bool, agent: &str) -> (crate::support::authserver::AuthServer, Team, u64) {
    let server = authserver().await;
    let options = Options { guild_members_intent: members_intent, ..Options::default() };
    let mut role = 0;
    let team = Team::with_rights(&server.config_toml("acme"), agent, options, |guild, alice| {
        role = guild.role("people", 0);
        guild.give(alice, role);
        format!("allowed_guilds = [\"{}\"]\nallowed_roles = [{role}]\n", guild.id)
    })
    .await;
    (server, team, role)
}

/// A conversation of alice with a live agent: the thread, and the agent's capability.
async fn agent(team: &Team) -> (Channel, String) {
    let thread = team.ask(&team.alice, "keep it").await;
    thread.wait_for_text("kept").await;
    let capability = team.worker_file(&thread, "capability");
    (thread, capability)
}

async fn token(team: &Team, capability: &str) -> (u16, Value) {
    team.api(capability, "GET", "/v1/token/acme", "").await
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

/// Waits until the capability is void.
async fn is_void(team: &Team, capability: &str) {
    let void = async { while token(team, capability).await.0 != 401 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), void).await.expect("the agent is ended");
}

#[tokio::test]
async fn a_former_member_gets_no_token_after_a_minute_and_the_agent_ends() {
    let (_server, team, _) = team(false, &scripted_agent(KEEP)).await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let (thread, capability) = agent(&team).await;
    assert_eq!(token(&team, &capability).await.0, 200);
    team.guild.leave(&team.alice);
    team.home.set_offset(61);
    let refused = token(&team, &capability).await;
    assert_eq!(code(&refused), (403, "not_entitled"), "{refused:?}");
    thread.wait_for_text("The agent was ended").await;
    is_void(&team, &capability).await;
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn with_the_members_intent_each_event_that_ends_a_right_ends_the_agent_at_once() {
    let (_server, team, role) = team(true, &scripted_agent(KEEP)).await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    type End = fn(&Team, u64);
    let ends: [(&str, End); 4] = [
        ("the member leaves", |team, _| team.guild.leave(&team.alice)),
        ("the member is banned", |team, _| team.guild.ban(&team.alice)),
        ("the member loses the role", |team, _| team.alice.loses_roles(&team.guild)),
        ("the role is deleted", |team, role| team.guild.delete_role(role)),
    ];
    for (name, end) in ends {
        let (thread, capability) = agent(&team).await;
        assert_eq!(token(&team, &capability).await.0, 200, "{name}");
        end(&team, role);
        thread.wait_for_text("The agent was ended").await;
        is_void(&team, &capability).await;
        team.guild.join(&team.alice);
        team.guild.give(&team.alice, role);
    }
    bot.stop().await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn the_removal_of_the_bot_from_a_server_ends_its_agents_and_an_outage_does_not() {
    let (_server, team, _) = team(false, &scripted_agent(KEEP)).await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let (_, capability) = agent(&team).await;
    team.guild.becomes_unavailable();
    assert_eq!(token(&team, &capability).await.0, 200);
    team.guild.remove_bot();
    is_void(&team, &capability).await;
    bot.stop().await;
}

#[tokio::test]
async fn while_discord_is_unreachable_tokens_are_given_for_15_minutes_and_then_503() {
    let (_server, team, _) = team(false, &scripted_agent(KEEP)).await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let (_, capability) = agent(&team).await;
    team.discord.trouble("GET", "/members/", Trouble::status(503), u32::MAX);
    team.home.set_offset(120);
    assert_eq!(token(&team, &capability).await.0, 200, "the last answer counts");
    team.home.set_offset(1000);
    let unknown = token(&team, &capability).await;
    assert_eq!(code(&unknown), (503, "rights_unknown"), "{unknown:?}");
    team.discord.calm();
    team.home.set_offset(1010);
    assert_eq!(token(&team, &capability).await.0, 200);
    bot.stop().await;
}

#[tokio::test]
async fn a_former_member_loses_the_shared_login_and_keeps_an_own_one() {
    let server = authserver().await;
    let shares = scripted_agent(KEEP).replace("root = ", "shared = true\nroot = ");
    let team = Team::new(&server.config_toml("acme"), &shares).await;
    let bot = team.run().await;
    team.sign_in_shared("team").await;
    let (_, capability) = agent(&team).await;
    let shared = token(&team, &capability).await;
    assert_eq!((shared.0, shared.1["principal"].as_str()), (200, Some(&*format!("guild:{}", team.guild.id))));
    team.guild.leave(&team.alice);
    team.home.set_offset(61);
    let refused = token(&team, &capability).await;
    assert_eq!(code(&refused), (404, "no_session"), "{refused:?}");
    bot.stop().await;
}

/// An agent that streams by the injecting proxy, and reports curl's exit code.
const STREAM: &str = r#"
curl -sN -o body -H "Authorization: Bearer $KEY" "$BASE/stream"
say "curl ended with $?"; done_with end_turn"#;

#[tokio::test]
async fn an_open_stream_of_a_real_agent_ends_with_its_owners_login_or_membership() {
    let server = std::sync::Arc::new(authserver().await);
    let of = server.clone();
    let upstream = Upstream::start(move |token| of.is_live(token)).await;
    let agent = format!(
        "{}\n[agent.env]\nBASE = \"{{inject:acme}}\"\nKEY = \"{{inject_secret}}\"\n[inject.acme]\nupstream = {:?}\n",
        scripted_agent(STREAM),
        upstream.base()
    );
    let members =
        |guild: &crate::support::discord::Guild, _: &_| format!("allowed_guilds = [\"{}\"]\n", guild.id);
    let team = Team::with_rights(&server.config_toml("acme"), &agent, Options::default(), members).await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let parts = upstream.stream();
    let thread = team.ask(&team.alice, "stream").await;
    upstream.wait_until(|seen| seen.len() == 1).await;
    parts.send(Part::Bytes("data: one\n\n")).expect("it streams");
    let options = [("provider", "acme"), ("keep_grant", "true")];
    team.alice.command(&team.general, "auth logout", &options).await;
    // 18 is a transfer that ended early.
    thread.wait_for_text("curl ended with 18").await;
    upstream.wait_for_ended(1).await;

    team.sign_in(&team.alice, "alice").await;
    let parts = upstream.stream();
    team.alice.says(&thread, "stream");
    upstream.wait_until(|seen| seen.len() == 2).await;
    parts.send(Part::Bytes("data: one\n\n")).expect("it streams");
    // No event reports this, and the agent asks for no token.
    team.guild.leave(&team.alice);
    team.home.set_offset(70);
    upstream.wait_for_ended(2).await;
    thread.wait_for_text("The agent was ended").await;
    bot.stop().await;
}

/// Runs a bot that has this configuration besides its token, and returns its log at the connection.
async fn starts(team: &Team, more: &[(&str, &str)]) -> (Running, String) {
    let bot = team.run_with(more).await;
    let log = bot.stderr();
    (bot, log)
}

#[tokio::test]
async fn a_configuration_without_lists_starts_closed_and_names_the_line_to_add() {
    let server = authserver().await;
    let agent = scripted_agent(r#"test -s "$HOME/token.json" && say "$FILLED"; done_with end_turn"#)
        + "\n[agent.env]\nFILLED = \"user {user}\"\n\n[agent.files]\n\"token.json\" = '\"{token:acme}\"'\n";
    let closed = |_: &_, _: &_| String::new();
    let team = Team::with_rights(&server.config_toml("acme"), &agent, Options::default(), closed).await;
    team.discord.owned_by(&team.alice);
    let (bot, log) = starts(&team, &[]).await;
    assert!(log.contains("rights: closed: only the application's owner alice may use the bot"), "{log}");
    assert!(log.contains("WARN") && log.contains("allow_everyone = true"), "{log}");
    let refused = team.bob.command(&team.general, "auth status", &[]).await;
    assert!(refused.text().contains("I am closed"), "{refused:?}");
    team.sign_in(&team.alice, "alice").await;
    let thread = team.ask(&team.alice, "go").await;
    thread.wait_for_text(&format!("user {}", team.alice.id)).await;
    let doctor = team.home.run_in(&["doctor"], "", &[("DISCORD_TOKEN", &Options::default().token)]).await;
    let line = doctor.stdout.lines().find(|line| line.contains("rights")).expect("a finding");
    assert!(
        line.starts_with("warn") && line.contains("owner alice") && line.contains("allow_everyone"),
        "{line}"
    );
    assert!(doctor.stdout.contains("Server Members is off"), "{doctor:?}");
    bot.stop().await;
    team.discord.assert_no_violations();
    // The line from the log opens the bot, here by its variable.
    let (bot, log) = starts(&team, &[("THREADKEY_DISCORD__ALLOW_EVERYONE", "true")]).await;
    assert!(log.contains("rights: open to everyone"), "{log}");
    let allowed = team.bob.command(&team.general, "auth status", &[]).await;
    assert!(allowed.text().contains("not signed in anywhere"), "{allowed:?}");
    bot.stop().await;
}

#[tokio::test]
async fn a_member_of_the_applications_team_may_use_a_closed_bot_until_the_team_changes() {
    let server = authserver().await;
    let closed = |_: &_, _: &_| String::new();
    let agent = scripted_agent(KEEP);
    let team = Team::with_rights(&server.config_toml("acme"), &agent, Options::default(), closed).await;
    team.discord.owned_by_team("Builders", &[(&team.alice, true), (&team.bob, false)]);
    let bot = team.run().await;
    let allowed = team.alice.command(&team.alice.dm(), "auth status", &[]).await;
    assert!(allowed.text().contains("not signed in anywhere"), "{allowed:?}");
    let invited = team.bob.command(&team.general, "auth status", &[]).await;
    assert!(invited.text().contains("I am closed"), "{invited:?}");
    team.discord.owned_by_team("Builders", &[(&team.bob, true)]);
    team.home.set_offset(61);
    let former = team.alice.command(&team.alice.dm(), "auth status", &[]).await;
    assert!(former.text().contains("I am closed"), "{former:?}");
    bot.stop().await;
}

#[tokio::test]
async fn a_hidden_channel_ends_the_right_of_its_members_at_once() {
    let server = authserver().await;
    let agent_section = scripted_agent(KEEP);
    let mut channel = None;
    let team =
        Team::with_rights(&server.config_toml("acme"), &agent_section, Options::default(), |guild, alice| {
            let listed = guild.channel("listed");
            let role = guild.role("people", permission::VIEW_CHANNEL);
            guild.give(alice, role);
            let lists = format!("allowed_channels = [\"{}\"]\n", listed.id);
            channel = Some(listed);
            lists
        })
        .await;
    let listed = channel.expect("a channel");
    let bot = team.run().await;
    let refused = team.alice.command(&team.general, "auth status", &[]).await;
    assert!(refused.text().contains("do not work in this channel"), "{refused:?}");
    let direct = team.alice.command(&team.alice.dm(), "auth status", &[]).await;
    assert!(direct.text().contains("not signed in anywhere"), "{direct:?}");
    listed.hide_from(team.alice.id);
    let hidden = async {
        loop {
            let direct = team.alice.command(&team.alice.dm(), "auth status", &[]).await;
            if direct.text().contains("not on my operator's lists") {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), hidden).await.expect("the event counts at once");
    bot.stop().await;
    team.discord.assert_no_violations();
}
