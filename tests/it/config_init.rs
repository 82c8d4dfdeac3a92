//! `threadkey config init` and `config check`, with the real program in an empty home.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use crate::{
    pastes::{CTRL_C, Shell},
    support::program::{Ended, Home, path},
};

/// The options of a whole configuration.
const GITLAB: [&str; 14] = [
    "config",
    "init",
    "--preset",
    "gitlab",
    "--name",
    "work",
    "--set",
    "client_id=x\"y",
    "--set",
    "redirect_uri=http://127.0.0.1:1/callback",
    "--set",
    "scopes=openid profile",
    "--agent",
    "threadkey agent",
];

/// Runs the program on a file that does not exist yet.
async fn run(home: &Home, arguments: &[&str]) -> Ended {
    let named = ["--config", "new/threadkey.toml"];
    home.run(&named.iter().chain(arguments).copied().collect::<Vec<_>>()).await
}

fn written(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("new/threadkey.toml")).expect("it was written")
}

#[tokio::test]
async fn config_init_writes_a_private_configuration_that_is_valid() {
    let home = Home::new("");
    let ended = run(&home, &GITLAB).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let path = home.path().join("new/threadkey.toml");
    assert_eq!(Path::new(ended.stdout.trim()), path);
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let config: toml::Table = toml::from_str(&written(&home)).expect("TOML");
    let work = &config["providers"]["work"];
    assert_eq!(work["client_id"].as_str(), Some("x\"y"));
    assert_eq!(work["scopes"].as_array().map(Vec::len), Some(2));
    assert_eq!(config["discord"]["token_env"].as_str(), Some("DISCORD_TOKEN"));
    let checked = run(&home, &["config", "check"]).await;
    assert_eq!((checked.code, checked.stdout.trim().ends_with("is valid")), (0, true), "{checked:?}");
    let again = run(&home, &GITLAB).await;
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.stderr.contains("exists already, and nothing was written"), "{again:?}");
}

#[tokio::test]
async fn config_init_without_a_terminal_names_the_missing_option_and_writes_nothing() {
    let home = Home::new("");
    for (arguments, missing) in [
        (&["config", "init"][..], "--preset PRESET"),
        (&["config", "init", "--preset", "gitlab"], "--set client_id=…"),
        (&["config", "init", "--preset", "openai-codex"], "--accept-terms-risk"),
        (
            &["config", "init", "--preset", "gitlap"],
            "there is no preset \"gitlap\". Did you mean \"gitlab\"?",
        ),
        (&["config", "init", "--preset", "gitlab", "--name", "My P"], "\"My P\" is not a provider name"),
        (&["config", "init", "--preset", "gitlab", "--set", "nonsense"], "--set takes KEY=VALUE"),
        (
            &["config", "init", "--preset", "xai", "--accept-terms-risk", "--set", "clientid=x"],
            "did you mean `client_id`?",
        ),
    ] {
        let ended = run(&home, arguments).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(missing), "{missing}: {ended:?}");
        assert!(!home.path().join("new").exists());
    }
}

#[tokio::test]
async fn config_init_tells_the_built_in_agent_its_provider() {
    let home = Home::new("");
    let ended = run(&home, &GITLAB).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let config: toml::Table = toml::from_str(&written(&home)).expect("TOML");
    assert_eq!(config["agent"]["env"]["THREADKEY_AGENT_PROVIDER"].as_str(), Some("work"));
    let other = Home::new("");
    let arguments: Vec<_> = GITLAB[..GITLAB.len() - 1].iter().copied().chain(["codex-acp"]).collect();
    assert_eq!(run(&other, &arguments).await.code, 0);
    assert!(!written(&other).contains("[agent.env]"));
}

#[tokio::test]
async fn config_init_takes_switches_and_a_client_key_instead_of_a_secret() {
    let home = Home::new("");
    let slack = ["config", "init", "--preset", "slack", "--set", "client_id=x", "--set", "scopes=a"];
    let keyed: Vec<_> = slack.iter().copied().chain(["--set", "client_key_file=key.pem"]).collect();
    let ended = run(&home, &keyed).await;
    assert!(ended.stderr.contains("nothing was written: client_key_file: the file "), "{ended:?}");
    let switched: Vec<_> = GITLAB.iter().copied().chain(["--set", "enforces_pkce=true"]).collect();
    let ended = run(&home, &switched).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let config: toml::Table = toml::from_str(&written(&home)).expect("TOML");
    assert_eq!(config["providers"]["work"]["enforces_pkce"].as_bool(), Some(true));
}

#[tokio::test]
async fn config_init_names_the_wrong_key_of_a_text_that_it_does_not_write() {
    let home = Home::new("");
    for (pair, problem) in [
        ("client_id=again", "the options set client_id twice"),
        ("preset=github", "the options set preset twice"),
        (
            "client_secret=canary",
            "nothing was written: client_secret: the configuration must not contain a secret",
        ),
        ("token_params=canary", "nothing was written: token_params: invalid type"),
    ] {
        let arguments: Vec<_> = GITLAB.iter().copied().chain(["--set", pair]).collect();
        let ended = run(&home, &arguments).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(problem), "{problem}: {ended:?}");
        assert!(!ended.stderr.contains(", line ") && !ended.stderr.contains("canary"), "{ended:?}");
        assert!(!home.path().join("new").exists());
    }
}

#[tokio::test]
async fn config_init_can_leave_out_the_bot_and_the_agent() {
    let home = Home::new("");
    let ended = run(
        &home,
        &[
            "config",
            "init",
            "--preset",
            "xai",
            "--accept-terms-risk",
            "--discord-token-env",
            "",
            "--agent",
            "",
        ],
    )
    .await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let config: toml::Table = toml::from_str(&written(&home)).expect("TOML");
    assert_eq!(config.keys().collect::<Vec<_>>(), ["providers"]);
    assert!(written(&home).contains("# xAI names some programs"), "the terms stand beside the key");
}

#[tokio::test]
async fn the_list_of_providers_has_presets_and_their_terms_without_a_configuration() {
    let home = Home::new("");
    std::fs::remove_file(home.path().join("threadkey.toml")).expect("it is there");
    let ended = home.run_in(&["providers"], "", &[("THREADKEY_CONFIG", "")]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("gitlab") && ended.stdout.contains("needs client_id"), "{ended:?}");
    assert!(ended.stdout.contains("Anthropic forbids"), "{ended:?}");
    let json = home.run_in(&["providers", "--json"], "", &[("THREADKEY_CONFIG", "")]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["configured"], serde_json::json!([]));
    assert!(json["presets"].as_array().expect("a list").len() > 20);
}

#[tokio::test]
async fn config_init_writes_before_the_secrets_exist_and_names_their_variables() {
    let home = Home::new("");
    let google = [
        "config",
        "init",
        "--preset",
        "google",
        "--set",
        "client_id=x",
        "--set",
        "scopes=openid",
        "--set",
        "redirect_uri=http://127.0.0.1:1/callback",
        "--set",
        "client_secret_env=GOOGLE_SECRET",
        "--agent",
        "-",
    ];
    let ended = run(&home, &google).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let next = "Put the secrets into the variables DISCORD_TOKEN and GOOGLE_SECRET first. `threadkey doctor --config ";
    assert!(ended.stderr.contains(next), "the next command needs the option: {ended:?}");
    let set = Home::new("");
    std::fs::remove_file(set.path().join("threadkey.toml")).expect("it is there");
    let secrets = [("DISCORD_TOKEN", "canary"), ("GOOGLE_SECRET", "canary")];
    let ended = set.run_in(&google, "", &secrets).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("is written. `threadkey doctor` checks the machine"), "{ended:?}");
}

#[tokio::test]
async fn config_init_writes_a_key_that_is_a_table() {
    let home = Home::new("");
    let kimi = ["config", "init", "--preset", "kimi", "--accept-terms-risk", "--discord-token-env", "-"];
    let headers = "token_headers=X-Msh-Platform=kimi_cli, X-Msh-Version=1.0";
    let ended = run(&home, &[&kimi[..], &["--set", headers]].concat()).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let config: toml::Table = toml::from_str(&written(&home)).expect("TOML");
    let headers = &config["providers"]["kimi"]["token_headers"];
    assert_eq!(headers["X-Msh-Platform"].as_str(), Some("kimi_cli"));
    assert_eq!(headers["X-Msh-Version"].as_str(), Some("1.0"));
}

#[tokio::test]
async fn config_init_at_a_terminal_asks_again_after_a_wrong_answer() {
    let home = Home::new("");
    let mut shell = Shell::start(&home, "xterm", &[]).await;
    let program = path().display().to_string();
    shell.send(&format!("{program} config init --config new/threadkey.toml; echo exit=$?\n")).await;
    for (question, answers) in [
        (
            "address of its issuer:",
            &[
                ("gitlb", "there is no preset"),
                ("ftp://x y", "issuer: it contains white space"),
                ("google", ""),
            ][..],
        ),
        ("Name of the provider", &[("My P", "is not a provider name"), ("work", "")]),
        ("or - for no bot", &[("ghp token", "not the secret itself"), ("-", "")]),
        (
            "(registered at https://console.cloud.google.com/auth/clients)",
            &[
                ("", "An answer is needed"),
                ("REPLACE-WITH-YOUR-CLIENT-ID", "still the placeholder"),
                ("x", ""),
            ],
        ),
        ("the client's secret", &[("ghp_secret", "not the secret itself"), ("GOOGLE_SECRET", "")]),
        ("Redirect URI", &[("callback", "it is not a URL"), ("", "")]),
        ("Scopes", &[("openid, email", "")]),
        ("Command of the agent", &[("-", "")]),
    ] {
        for (answer, problem) in answers {
            shell.until(question).await;
            shell.until("> ").await;
            shell.send(&format!("{answer}\n")).await;
            shell.until(problem).await;
        }
    }
    shell.until("Put the secret into the variable GOOGLE_SECRET first.").await;
    shell.until("exit=0").await;
    shell.assert_sane().await;
    let config: toml::Table = toml::from_str(&written(&home)).expect("TOML");
    assert_eq!(config["providers"]["work"]["client_id"].as_str(), Some("x"));
    for end in [CTRL_C, "\x04"] {
        shell.send(&format!("{program} config init --config other.toml; echo exit=$?\n")).await;
        shell.until("address of its issuer:").await;
        shell.until("> ").await;
        shell.send(end).await;
        shell.until("interrupted: nothing was sent or written").await;
        shell.until("exit=2").await;
        shell.assert_sane().await;
    }
    assert!(!home.path().join("other.toml").exists());
}
