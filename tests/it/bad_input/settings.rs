//! Invalid configurations, Discord tokens and agents.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use serde_json::json;

use super::{Home, assert_fails, assert_says};
use crate::{
    support::{
        discord::{Discord, Options},
        program::Ended,
    },
    team::{Team, authserver, expect_messages},
};

const PROVIDER: &str = r#"[providers.acme]
authorization_endpoint = "https://id.acme.example/authorize"
token_endpoint = "https://id.acme.example/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
"#;

/// Asserts that every command reports an invalid configuration and creates no store.
async fn assert_invalid(config: &str, words: &[&str]) {
    let home = Home::new(config);
    for command in [&["run"][..], &["token", "acme"], &["auth", "status"], &["providers"]] {
        assert_fails(&home.run(command).await, 2, words);
    }
    let doctor = home.run(&["doctor"]).await;
    assert_eq!(doctor.code, 2, "{doctor:?}");
    assert_says(&doctor.stdout, words);
    assert!(!home.store().exists());
}

#[tokio::test]
async fn every_command_reports_an_unknown_key_with_its_place_and_a_suggestion() {
    let config = PROVIDER.replace("token_endpoint", "token_endpont");
    assert_invalid(
        &config,
        &["threadkey.toml, line 3, column 1:", "`token_endpont`", "did you mean `token_endpoint`?"],
    )
    .await;
}

#[tokio::test]
async fn an_http_endpoint_is_refused_with_its_place() {
    let config = PROVIDER.replace("https://id.acme.example/token", "http://id.acme.example/token");
    assert_invalid(&config, &["threadkey.toml, line 3", "token_endpoint", "write https"]).await;
}

#[tokio::test]
async fn a_secret_in_the_configuration_is_refused_and_not_shown() {
    let config = format!("{PROVIDER}client_secret = \"canary-secret\"\n");
    assert_invalid(&config, &["threadkey.toml, line 6", "client_secret_env"]).await;
    let ended = Home::new(&config).run(&["run"]).await;
    assert!(!ended.stderr.contains("canary"), "{ended:?}");
}

#[tokio::test]
async fn every_command_without_a_configuration_shows_the_smallest_one_and_its_place() {
    let home = Home::new("");
    std::fs::remove_file(home.path().join("threadkey.toml")).expect("it is there");
    let place = home.path().join("home/.config/threadkey/threadkey.toml").display().to_string();
    let words = [
        "there is no configuration",
        &place,
        "threadkey config init",
        "--config",
        "[providers.acme]",
        "token_env",
    ];
    for command in [&["run"][..], &["serve"], &["token", "acme"], &["auth", "start", "acme"]] {
        assert_fails(&without_a_named_file(&home, command).await, 2, &words);
    }
    let ended = home.run(&["--config", "nowhere.toml", "run"]).await;
    assert_fails(&ended, 2, &["there is no configuration at", "nowhere.toml", "--config names"]);
}

/// Runs the program in the home's folder, where no variable names the configuration.
async fn without_a_named_file(home: &Home, arguments: &[&str]) -> Ended {
    let mut command = home.command(arguments);
    let output = command.env_remove("THREADKEY_CONFIG").output().await.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
    let code = output.status.code().expect("it ends by itself");
    Ended { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[tokio::test]
async fn a_configuration_in_the_current_folder_is_used_only_if_it_is_named() {
    let home = Home::new(&format!("[discord]\ntoken_env = \"UNRELATED\"\n{PROVIDER}"));
    let place = home.path().join("threadkey.toml").display().to_string();
    let ended = without_a_named_file(&home, &["auth", "status"]).await;
    let words = ["there is no configuration", &format!("{place} is not read by itself"), "--config"];
    assert_fails(&ended, 2, &words);
    let ended = without_a_named_file(&home, &["--config", "threadkey.toml", "providers"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");

    let own = home.path().join("home/.config/threadkey");
    std::fs::create_dir_all(&own).expect("it can be made");
    std::fs::write(own.join("threadkey.toml"), PROVIDER.replace("acme", "own")).expect("it can be written");
    let ended = without_a_named_file(&home, &["providers"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("own") && !ended.stdout.contains("acme"), "{ended:?}");
    let line = format!("{place} is not used; the configuration is {}", own.join("threadkey.toml").display());
    assert!(ended.stderr.contains(&line) && ended.stderr.lines().count() == 1, "{ended:?}");
}

#[tokio::test]
async fn a_configuration_that_others_can_write_is_used_only_if_an_option_names_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new(PROVIDER);
    let path = home.path().join("threadkey.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("it is ours");
    let words = ["is not used: other users can write it", "chmod go-w", "--config"];
    assert_fails(&home.run(&["providers"]).await, 2, &words);
    assert_eq!(home.run(&["--config", "threadkey.toml", "providers"]).await.code, 0);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    assert_eq!(home.run(&["providers"]).await.code, 0);
}

/// Returns the lines of doctor's answer with this verdict.
fn lines<'a>(ended: &'a Ended, verdict: &str) -> Vec<&'a str> {
    ended.stdout.lines().filter(|line| line.starts_with(verdict)).collect()
}

#[tokio::test]
async fn doctor_reports_each_fault_of_a_path_or_a_name_with_its_remedy() {
    let home = Home::new("");
    std::fs::write(home.path().join("file"), "x").expect("it can be written");
    let local = PROVIDER.replace("https://id.acme.example", "http://127.0.0.1:1");
    let store = "[store]\npath = \"state/auth.json\"\n";
    let agent = |lines: &str| {
        format!(
            "{store}{local}[agent]\nproviders = [\"acme\"]\nisolation = \"none\"\nroot = \"workers\"\n{lines}"
        )
    };
    for (config, name, remedy) in [
        (format!("{store}[api]\nsocket = \"file\"\n{local}"), "socket", "is not a socket"),
        (format!("{store}[api]\nsocket = \"file/s\"\n{local}"), "socket", "Check api.socket"),
        (agent("command = [\"no-such-program\"]"), "agent command", "Run `command -v no-such-program`"),
        (agent("command = [\"/bin/no-such-program\"]"), "agent command", "Correct its path in agent.command"),
        (agent("command = [\"threadkey\", \"agent\"]"), "agent variables", "Add THREADKEY_AGENT_PROVIDER"),
        (
            format!("{store}{local}client_secret_command = [\"no-such-program\"]\n"),
            "client secret",
            "it cannot be started",
        ),
        (agent("command = [\"/bin/sh\"]\nread = [\"nowhere\"]"), "agent read", "Correct agent.read"),
        (agent("command = [\"/bin/sh\"]").replace("workers", "file/w"), "agent folders", "another folder"),
        (format!("{store}{}", PROVIDER), "network acme", "Check its spelling in the configuration"),
    ] {
        home.configure(&config);
        let ended = home.run(&["doctor"]).await;
        let failures = lines(&ended, "FAIL");
        assert!(
            failures.iter().any(|line| line.contains(name) && line.contains(remedy)),
            "{name}: {ended:?}"
        );
        assert_ne!(ended.code, 0, "{ended:?}");
    }
    home.configure(&agent("command = [\"/bin/sh\", \"/no/such/script\"]"));
    let warned = home.run(&["doctor"]).await;
    assert_eq!(warned.code, 0, "{warned:?}");
    assert!(lines(&warned, "warn").iter().any(|line| line.contains("/no/such/script")), "{warned:?}");
    assert!(lines(&warned, "warn").iter().any(|line| line.contains("ERR_UNSAFE_PORT")), "{warned:?}");
}

#[tokio::test]
async fn doctor_names_the_way_of_each_tool_and_warns_of_its_program_and_host() {
    let home = Home::new("");
    let bin = home.path().join("bin");
    std::fs::create_dir_all(&bin).expect("it can be made");
    std::os::unix::fs::symlink("/bin/sh", bin.join("gh")).expect("it can be made");
    let local = PROVIDER.replace("https://id.acme.example", "http://127.0.0.1:1");
    let tool = |name: &str, host: &str| format!("{name} = {{ provider = \"acme\", base_url = \"{host}\" }}");
    home.configure(&format!(
        "{local}[agent]\nproviders = [\"acme\"]\nisolation = \"none\"\n[agents.one]\ncommand = [\"/bin/sh\"]\n\
         env = {{ PATH = \"{}\" }}\ntools = {{ {}, {}, {} }}\n[agents.one.files]\n\".acme/token\" = \"{{token:acme}}\"\n",
        bin.display(),
        tool("gh", "http://127.0.0.1:1"),
        tool("codex", "https://tools.acme.invalid/v1"),
        tool("netrc", "http://127.0.0.1:1"),
    ));
    let ended = home.run(&["doctor"]).await;
    let has = |verdict: &str, words: &str| lines(&ended, verdict).iter().any(|line| line.contains(words));
    for (verdict, words) in [
        ("ok", "one: gh gets the token of acme by a file that stays fresh"),
        ("ok", "one: netrc gets the token of acme by a file"),
        ("warn", "one: no program of the tool codex (codex, codex-acp) is in the agent's PATH"),
        ("ok", "one: below HOME, while the owner is signed in: .acme/token"),
        ("FAIL", "network tool codex"),
        ("warn", "network acme, tool gh, tool netrc"),
    ] {
        assert!(has(verdict, words), "{verdict} {words}: {ended:?}");
    }
}

#[tokio::test]
async fn a_wrong_placeholder_or_socket_path_is_refused_by_each_command() {
    let agent = "[agent]\ncommand = [\"x\"]\nproviders = [\"acme\"]\n[agent.env]\nKEY = \"{tokn:acme}\"\n";
    assert_invalid(
        &format!("{PROVIDER}{agent}"),
        &["threadkey.toml, line 10", "did you mean {token:PROVIDER}?"],
    )
    .await;
    let socket = format!("[api]\nsocket = \"/run/{}/s\"\n{PROVIDER}", "d".repeat(130));
    assert_invalid(&socket, &["threadkey.toml, line 2", "set a shorter api.socket"]).await;
    let placeholder = PROVIDER.replace("\"threadkey\"", "\"REPLACE-WITH-YOUR-APPLICATION-ID\"");
    assert_invalid(&placeholder, &["threadkey.toml, line 4", "is still the placeholder"]).await;
}

#[tokio::test]
async fn a_missing_discord_token_is_reported_with_the_name_of_its_variable() {
    let home = Home::new(&format!("[discord]\ntoken_env = \"DISCORD_TOKEN\"\n{PROVIDER}"));
    let developer_portal = "https://discord.com/developers/applications";
    let words = ["the variable DISCORD_TOKEN", "discord.token_env", "is not set", developer_portal];
    assert_fails(&home.run(&["run"]).await, 2, &words);
    home.configure(PROVIDER);
    assert_fails(&home.run(&["run"]).await, 2, &["discord.token_env is not set", developer_portal]);
    assert_eq!(home.run(&["auth", "status"]).await.code, 0, "other commands need no token");
}

#[tokio::test]
async fn a_refused_discord_token_ends_the_bot_with_the_way_to_mend_it() {
    let discord = Discord::start(Options::default()).await;
    let api_base = discord.api_base();
    let home =
        Home::new(&format!("[discord]\ntoken_env = \"DISCORD_TOKEN\"\napi_base = {api_base:?}\n{PROVIDER}"));
    let ended = home.start(&["run"], &[("DISCORD_TOKEN", "canary-of-another-bot")]).ended().await;
    assert_fails(&ended, 2, &["Discord refuses the bot token", "developer portal", "discord.token_env"]);
    assert!(!ended.stderr.contains("canary"), "{ended:?}");
    assert_eq!(discord.gateway_sessions(), (0, 0));
}

#[tokio::test]
async fn an_api_base_without_a_gateway_is_an_error_without_a_fallback() {
    let discord = Discord::start(Options::default()).await;
    let (api_base, token) = (discord.api_base(), Options::default().token);
    let home =
        Home::new(&format!("[discord]\ntoken_env = \"DISCORD_TOKEN\"\napi_base = {api_base:?}\n{PROVIDER}"));
    discord.fail("GET", "/gateway", 404, json!({"message": "404: Not Found", "code": 0}), 100);
    let ended = home.start(&["run"], &[("DISCORD_TOKEN", &token)]).ended().await;
    assert_fails(&ended, 2, &["names no gateway", "does not fall back to Discord's own", &api_base]);
    assert_eq!(discord.gateway_sessions(), (0, 0));
}

/// Asserts that a bot with this agent reports its failure, with these words, in the thread of a
/// user.
async fn assert_reported_in_the_thread(command: &str, words: &[&str]) {
    let server = authserver().await;
    let agent = format!("[agent]\ncommand = {command}\nproviders = [\"acme\"]\nroot = \"workers\"\n");
    let town = Team::new(&server.config_toml("acme"), &agent).await;
    let bot = town.run().await;
    town.sign_in(&town.alice, "alice").await;
    let before = town.stored();
    let thread = town.ask(&town.alice, "which account is this?").await;
    expect_messages(&thread, "The agent could not be started", 1).await;
    town.alice.says(&thread, "and now?");
    expect_messages(&thread, "The agent could not be started", 2).await;
    let report = thread.messages().pop().expect("a report").all_text().replace('\\', "");
    assert_says(&report, words);
    assert_eq!(town.stored(), before);
    let status = town.alice.command(&town.general, "auth status", &[]).await.text();
    assert_says(&status, &["alice@example.com"]);
    town.discord.assert_no_violations();
    assert_eq!(bot.stop().await.code, 0);
}

#[tokio::test]
async fn a_missing_agent_program_is_reported_in_the_thread() {
    assert_reported_in_the_thread("[\"no-such-agent\"]", &["no-such-agent", "Check agent.command"]).await;
}

#[tokio::test]
async fn an_agent_that_dies_at_start_is_reported_in_the_thread_with_its_last_output() {
    let command = r#"["/bin/sh", "-c", "echo no model is configured >&2; exit 3"]"#;
    let words = ["ended before it was ready", "exit", "3", "no model is configured", "speaks ACP"];
    assert_reported_in_the_thread(command, &words).await;
}
