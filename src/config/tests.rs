//! Each wrong configuration, in the words that its author reads.

use super::*;
use crate::{ids::ProviderId, secret::Secret};

const ACME: &str = r#"
[providers.acme]
authorization_endpoint = "https://id.acme.example/authorize"
token_endpoint = "https://id.acme.example/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
scopes = ["read", "offline_access"]
"#;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    let home = [("HOME", "/home/alice")];
    home.iter().chain(pairs).map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    build::build("/etc/threadkey.toml".into(), text.to_owned(), &variables(pairs))
}

fn error(text: &str, pairs: &[(&str, &str)]) -> String {
    load(text, pairs).map(drop).expect_err("is wrong").to_string()
}

/// With the example's `client_id` line replaced.
fn with(line: &str) -> String {
    ACME.replace(r#"client_id = "threadkey""#, line)
}

#[test]
fn a_small_configuration_has_sensible_places() {
    let config = load(ACME, &[]).expect("is sound");
    assert_eq!(config.store, Path::new("/home/alice/.local/share/threadkey/auth.json"));
    assert_eq!(config.api.socket, Path::new("/home/alice/.local/share/threadkey/threadkey.sock"));
    let config = load(ACME, &[("XDG_RUNTIME_DIR", "/run/user/1000")]).expect("is sound");
    assert_eq!(config.api.socket, Path::new("/run/user/1000/threadkey/threadkey.sock"));
    let relative = format!("[store]\npath = \"state/auth.json\"\n{ACME}");
    assert_eq!(load(&relative, &[]).expect("is sound").store, Path::new("/etc/state/auth.json"));
}

#[test]
fn a_path_that_only_a_shell_understands_makes_no_folder_of_that_name() {
    let words = "only shells know what `~` stands for: write the whole path";
    let store = "[store]\npath = \"~/auth.json\"\n";
    assert_eq!(error(store, &[]), format!("/etc/threadkey.toml, line 2, column 8: {words}"));
    for text in ["[api]\nsocket = '~bob/s'\n", "[agent]\ncommand = ['x']\nread = ['/a', '~/b']\n"] {
        assert!(error(text, &[]).contains(words), "{text}");
    }
    let variable = error(ACME, &[("THREADKEY_STORE__PATH", "~/auth.json")]);
    assert!(variable.contains("THREADKEY_STORE__PATH") && variable.contains(words), "{variable}");
    assert!(load("[store]\npath = './~/auth.json'\n", &[]).is_ok());
}

#[test]
fn a_wrong_key_is_told_with_its_place_and_what_was_meant() {
    assert_eq!(
        error(&with("clientid = 'x'"), &[]),
        "/etc/threadkey.toml, line 5, column 1: unknown key `clientid`; did you mean `client_id`?"
    );
    assert_eq!(
        error("[stoer]\n", &[]),
        "/etc/threadkey.toml, line 1, column 2: unknown key `stoer`; did you mean `store`?"
    );
    assert_eq!(
        error("[store]\nzzz = 1\n", &[]),
        "/etc/threadkey.toml, line 2, column 1: unknown key `zzz`; here are known: path, trust_filesystem"
    );
    let key = "[providers.Acme]\nclient_id = 'x'\n";
    assert!(
        error(key, &[]).contains("line 1, column 12: \"Acme\" is not a provider name"),
        "{}",
        error(key, &[])
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_place() {
    let told = error("[store]\npath = \n", &[]);
    assert!(told.starts_with("/etc/threadkey.toml, line 2, column "), "{told}");
}

#[test]
fn an_endpoint_that_is_not_https_is_told_with_its_place() {
    let text = ACME.replace("https://id.acme.example/token", "http://id.acme.example/token");
    let told = error(&text, &[]);
    assert!(
        told.starts_with("/etc/threadkey.toml, line 4, column 1: providers.acme.token_endpoint: "),
        "{told}"
    );
    assert!(told.contains("https"), "{told}");
}

#[test]
fn a_missing_key_is_told_with_its_section() {
    assert_eq!(
        error(&with(""), &[]),
        "/etc/threadkey.toml, line 2, column 12: providers.acme needs client_id"
    );
}

#[test]
fn what_a_later_version_has_is_told_as_such() {
    assert_eq!(
        error(&with("preset = 'openai-codex'"), &[]),
        "/etc/threadkey.toml, line 5, column 1: this version of threadkey does not have `preset` yet: take it out"
    );
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_never_repeated() {
    let canary = "canary-s3cr3t";
    for text in [
        format!("[discord]\ntoken = '{canary}'\n"),
        format!("[discord]\ntoken_env = '{canary}'\n"),
        format!("[discord]\nallowed_guilds = '{canary}'\n"),
        format!("[discord]\nallowed_users = ['{canary}']\n"),
        format!("[agent]\nidle = '{canary}'\n"),
        format!("[store]\ntrust_filesystem = '{canary}'\n"),
        format!("[agent]\ncommand = '{canary}'\n"),
        with(&format!("client_id = 'x'\nclient_secret = '{canary}'")),
        with(&format!("client_id = 'x'\nclient_secret_env = '{canary}'")),
    ] {
        let told = error(&text, &[]);
        assert!(!told.contains(canary), "{told}");
        assert!(told.starts_with("/etc/threadkey.toml, line "), "{told}");
    }
    assert_eq!(
        error(&format!("[discord]\ntoken = '{canary}'\n"), &[]),
        "/etc/threadkey.toml, line 2, column 1: a secret never stands in the configuration: instead of `token` use \
         token_env (the name of an environment variable) or token_file (a path)"
    );
    let told = error(ACME, &[("THREADKEY_DISCORD__TOKEN", canary)]);
    assert!(told.starts_with("the variable THREADKEY_DISCORD__TOKEN: a secret never"), "{told}");
    assert!(!told.contains(canary));
}

#[test]
fn secrets_come_from_the_variable_that_is_named() {
    let text = with("client_id = 'x'\nclient_secret_env = 'ACME_SECRET'");
    assert_eq!(
        error(&text, &[]),
        "/etc/threadkey.toml, line 6, column 1: the variable ACME_SECRET, which providers.acme.client_secret_env names, is not set"
    );
    assert!(load(&text, &[("ACME_SECRET", "s")]).is_ok());
    let config =
        load("[discord]\ntoken_env = 'DISCORD_TOKEN'\n", &[("DISCORD_TOKEN", "t\n")]).expect("is sound");
    assert_eq!(config.discord().expect("is there").token, Secret::new("t"));
}

#[test]
fn without_a_discord_token_everything_but_the_bot_works() {
    let config = load(ACME, &[]).expect("is sound");
    assert_eq!(
        config.discord().expect_err("is missing").to_string(),
        "discord.token_env is not set: name there the environment variable that holds the bot's token, for example \
         token_env = \"DISCORD_TOKEN\" under [discord]. A token comes from https://discord.com/developers/applications: \
         your application, Bot, Reset Token"
    );
    let config = load("[discord]\ntoken_env = 'DISCORD_TOKEN'\n", &[]).expect("is sound");
    let told = config.discord().expect_err("is missing").to_string();
    assert!(
        told.starts_with("the variable DISCORD_TOKEN, which discord.token_env names, is not set."),
        "{told}"
    );
}

#[test]
fn variables_override_the_file_whatever_the_type() {
    let text = format!("{ACME}\n[providers.my-idp]\n{}", &ACME[18..]);
    let config = load(
        &text,
        &[
            ("THREADKEY_PROVIDERS__ACME__CLIENT_ID", "4711"),
            ("THREADKEY_PROVIDERS__MY_IDP__CLIENT_ID", "other"),
            ("THREADKEY_STORE__TRUST_FILESYSTEM", "true"),
            ("THREADKEY_AGENT__COMMAND", r#"["codex-acp", "--x"]"#),
            ("THREADKEY_AGENT__PROVIDERS", "acme, my-idp"),
            ("THREADKEY_AGENT__IDLE", "5m"),
            ("THREADKEY_AGENT__MAX_WORKERS", "3"),
            ("THREADKEY_AGENT__ENV__API_KEY", "{token:acme}"),
            ("THREADKEY_LOG", "debug"),
        ],
    )
    .expect("is sound");
    let client = |name: &str| {
        let id: ProviderId = name.parse().expect("a name");
        config.providers.get(&id).expect("is there").binding().client_id
    };
    assert_eq!((client("acme"), client("my-idp")), ("4711".into(), "other".into()));
    assert!(config.store_options.trust_filesystem);
    let agent = config.agent.as_ref().expect("is there");
    assert_eq!(agent.command, ["codex-acp", "--x"]);
    assert_eq!((agent.providers.len(), agent.idle.as_secs(), agent.max_workers), (2, 300, 3));
    assert_eq!(agent.env["API_KEY"], "{token:acme}");
}

#[test]
fn a_wrong_variable_is_named() {
    assert_eq!(
        error(ACME, &[("THREADKEY_STORE__PAHT", "/x")]),
        "the variable THREADKEY_STORE__PAHT: unknown key `paht`; did you mean `path`?"
    );
    let told = error(ACME, &[("THREADKEY_PROVIDERS__ACME__TOKEN_ENDPOINT", "http://id.acme.example/token")]);
    assert!(
        told.starts_with(
            "the variable THREADKEY_PROVIDERS__ACME__TOKEN_ENDPOINT: providers.acme.token_endpoint"
        ),
        "{told}"
    );
}

#[test]
fn an_agent_gets_only_providers_that_there_are() {
    let agent =
        |providers: &str| format!("{ACME}\n[agent]\ncommand = ['codex-acp']\nproviders = {providers}\n");
    assert_eq!(
        error(&agent("['acmee']"), &[]),
        "/etc/threadkey.toml, line 11, column 1: agent.providers: there is no provider \"acmee\"; did you mean \"acme\"?"
    );
    assert!(error(&format!("{ACME}\n[agent]\ncommand = ['x']\n"), &[]).contains("agent.providers is needed"));
    assert!(load(&agent("['acme']"), &[]).is_ok());
}

#[test]
fn the_discord_base_is_https_or_this_machine() {
    let base = |url: &str| format!("[discord]\ntoken_env = 'T'\napi_base = '{url}'\n");
    assert!(
        error(&base("http://discord.example"), &[])
            .contains("line 3, column 1: discord.api_base has to be https")
    );
    for fine in
        ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost", "https://proxy.example", ""]
    {
        assert!(load(&base(fine), &[("T", "t")]).is_ok(), "{fine}");
    }
}

#[test]
fn without_a_configuration_the_smallest_one_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = Config::load(None, folder.path(), &variables(&[("HOME", "/nowhere")]));
    let told = none.map(drop).expect_err("there is none").to_string();
    assert!(
        told.contains(&format!(
            "{}/threadkey.toml or /nowhere/.config/threadkey/threadkey.toml",
            folder.path().display()
        )),
        "{told}"
    );
    assert!(
        load(told.split_once("The smallest one is:").expect("is shown").1, &[]).is_ok(),
        "what is shown works"
    );
    let named = Config::load(Some(Path::new("other.toml")), folder.path(), &variables(&[]));
    assert!(matches!(named, Err(ConfigError::Unreadable { .. })));
}

#[test]
fn workers_are_kept_from_the_configuration_the_store_and_every_file_with_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("acme.secret");
    crate::sys::files::replace_private(&secret, b"s3cr3t").expect("can be written");
    let text = format!(
        "[discord]\ntoken_file = 'discord.token'\n{}client_secret_file = '{}'\n[agent]\ncommand = ['x']\nproviders = ['acme']\n",
        ACME.trim_start(),
        secret.display()
    );
    let deny = load(&text, &[]).expect("is sound").agent.expect("is there").deny;
    let store = Path::new("/home/alice/.local/share/threadkey");
    for path in [Path::new("/etc/threadkey.toml"), Path::new("/etc/discord.token"), &secret, store] {
        assert!(deny.iter().any(|denied| denied == path), "{} is not in {deny:?}", path.display());
    }
}

#[test]
fn the_configurations_that_people_are_shown_are_sound() {
    let readme = include_str!("../../README.md");
    let shown: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!shown.is_empty(), "the README shows one");
    let deployed = include_str!("../../deploy/threadkey.toml");
    for text in shown.into_iter().chain([deployed]) {
        let config = load(text, &[("DISCORD_TOKEN", "x")]).expect(text);
        assert!(config.discord().is_ok() && config.agent.is_some(), "{text}");
    }
}
