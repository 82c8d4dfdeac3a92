//! Valid configurations, and the errors of invalid ones.

mod agents;
mod inject;
mod operators;
mod public;
mod tools;

use futures_util::FutureExt as _;

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
    load(text, pairs).map(drop).expect_err("is invalid").to_string()
}

/// Returns the example with another `client_id` line.
fn with(line: &str) -> String {
    ACME.replace(r#"client_id = "threadkey""#, line)
}

#[test]
fn default_paths_follow_the_xdg_folders() {
    let config = load(ACME, &[]).expect("is valid");
    assert_eq!(config.store, Path::new("/home/alice/.local/share/threadkey/auth.json"));
    assert_eq!(config.api.socket, Path::new("/home/alice/.local/share/threadkey/threadkey.sock"));
    let config = load(ACME, &[("XDG_RUNTIME_DIR", "/run/user/1000")]).expect("is valid");
    assert_eq!(config.api.socket, Path::new("/run/user/1000/threadkey/threadkey.sock"));
    let relative = format!("[store]\npath = \"state/auth.json\"\n{ACME}");
    assert_eq!(load(&relative, &[]).expect("is valid").store, Path::new("/etc/state/auth.json"));
}

#[test]
fn a_path_with_a_tilde_is_refused() {
    let text = "`~` has a meaning only in a shell: write the whole path";
    let store = "[store]\npath = \"~/auth.json\"\n";
    assert_eq!(error(store, &[]), format!("/etc/threadkey.toml, line 2, column 8: {text}"));
    for config in ["[api]\nsocket = '~bob/s'\n", "[agent]\ncommand = ['x']\nread = ['/a', '~/b']\n"] {
        assert!(error(config, &[]).contains(text), "{config}");
    }
    let variable = error(ACME, &[("THREADKEY_STORE__PATH", "~/auth.json")]);
    assert!(variable.contains("THREADKEY_STORE__PATH") && variable.contains(text), "{variable}");
    assert!(load("[store]\npath = './~/auth.json'\n", &[]).is_ok());
}

#[test]
fn an_unknown_key_is_reported_with_its_place_and_a_suggestion() {
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
        "/etc/threadkey.toml, line 2, column 1: unknown key `zzz`; known keys: path, trust_filesystem, sweep_after"
    );
    let key = "[providers.Acme]\nclient_id = 'x'\n";
    assert!(
        error(key, &[]).contains("line 1, column 12: \"Acme\" is not a provider name"),
        "{}",
        error(key, &[])
    );
}

#[test]
fn a_syntax_error_is_reported_with_its_place() {
    let message = error("[store]\npath = \n", &[]);
    assert!(message.starts_with("/etc/threadkey.toml, line 2, column "), "{message}");
}

#[test]
fn an_endpoint_without_https_is_reported_with_its_place() {
    let text = ACME.replace("https://id.acme.example/token", "http://id.acme.example/token");
    let message = error(&text, &[]);
    assert!(
        message.starts_with("/etc/threadkey.toml, line 4, column 1: providers.acme.token_endpoint: "),
        "{message}"
    );
    assert!(message.contains("https"), "{message}");
}

#[test]
fn the_settings_for_a_providers_answers_are_read() {
    let answers = "token_path = 'authed_user'\nended_errors = ['access_denied']\nmax_lifetime = '90d'";
    let config = load(&with(&format!("client_id = 'x'\n{answers}")), &[]).expect("is valid");
    let acme: ProviderId = "acme".parse().expect("a name");
    let provider = config.providers.get(&acme).expect("is configured");
    let rules = provider.answer_rules(&provider.binding());
    assert_eq!(
        (rules.token_path, rules.ended_errors),
        (vec!["authed_user".into()], vec!["access_denied".into()])
    );
    assert_eq!(rules.max_lifetime, Some(std::time::Duration::from_secs(90 * 86_400)));
    assert_eq!(
        error(&with("client_id = 'x'\nended_errors = ['no words']"), &[]),
        "/etc/threadkey.toml, line 6, column 1: providers.acme.ended_errors: \"no words\" is not an error code: each \
         entry is one word of at most 64 letters, digits and _ - . :"
    );
}

const GITLAB: &str = "[providers.work]
preset = 'gitlab'
host = 'git.acme.example'
client_id = 'x'
redirect_uri = 'http://127.0.0.1:1/callback'
scopes = ['read_user']
";

#[test]
fn a_preset_completes_a_provider_and_the_sections_own_keys_win() {
    let work: ProviderId = "work".parse().expect("a name");
    let token_endpoint = |text: &str, pairs: &[(&str, &str)]| {
        let config = load(text, pairs).expect("is valid");
        config.providers.get(&work).expect("is configured").token_endpoint().to_string()
    };
    assert_eq!(token_endpoint(GITLAB, &[]), "https://git.acme.example/oauth/token");
    let own = format!("{GITLAB}token_endpoint = 'https://own.example/token'\n");
    assert_eq!(token_endpoint(&own, &[]), "https://own.example/token");
    let variable = [("THREADKEY_PROVIDERS__WORK__HOST", "other.example")];
    assert_eq!(token_endpoint(GITLAB, &variable), "https://other.example/oauth/token");
}

#[test]
fn the_keys_of_a_preset_and_a_secrets_file_are_reported_at_their_own_line() {
    let tenant = GITLAB.replace("host = 'git.acme.example'", "tenant = 'acme'");
    let message = error(&tenant, &[]);
    let place = "/etc/threadkey.toml, line";
    assert_eq!(
        message,
        format!("{place} 3, column 1: providers.work: the preset gitlab has no tenant: remove it")
    );
    let message = error(&format!("{ACME}\nhost = 'id.example'\n"), &[]);
    assert!(message.contains("providers.acme.host is only for a preset"), "{message}");
    let message = error(&GITLAB.replace("scopes", "client_secret_file = '/nowhere'\nscopes"), &[]);
    assert!(message.starts_with(&format!("{place} 6, column 1: the file /nowhere")), "{message}");
}

#[test]
fn a_preset_that_cannot_be_used_is_reported_with_its_place() {
    let place = "/etc/threadkey.toml, line";
    for (change, expected) in [
        (
            ("'gitlab'", "'gitlap'"),
            format!(
                "{place} 2, column 1: providers.work.preset: there is no preset \"gitlap\". Did you mean \"gitlab\"? `threadkey providers` lists the presets"
            ),
        ),
        (
            ("client_id = 'x'\n", ""),
            format!(
                "{place} 2, column 1: providers.work: the preset \"gitlab\" needs client_id. You register a client at "
            ),
        ),
        (
            ("git.acme.example", "https://git.acme.example"),
            format!("{place} 3, column 1: providers.work: host must be letters, digits"),
        ),
        (
            ("'gitlab'", "'openai-codex'"),
            format!(
                "{place} 1, column 12: the preset \"openai-codex\" uses a client that its vendor made for its own program. "
            ),
        ),
    ] {
        let message = error(&GITLAB.replace(change.0, change.1), &[]);
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_preset_without_the_code_needs_no_redirect_uri() {
    let github = "[providers.github]\npreset = 'github'\nclient_id = 'x'\n";
    let message = error(github, &[]);
    assert!(message.contains("the preset \"github\" needs redirect_uri"), "{message}");
    let message = error(&format!("{github}grants = ['code', 'device']\n"), &[]);
    assert!(message.contains("needs redirect_uri"), "{message}");
    load(&format!("{github}grants = ['device']\n"), &[]).expect("a device code comes back by itself");
}

#[test]
fn a_secret_has_one_place_and_a_command_does_not_run_at_the_start() {
    let command = "client_secret_command = ['/no/such/program', 'acme']";
    assert!(load(&with(&format!("client_id = 'x'\n{command}")), &[]).is_ok());
    let both = error(&with(&format!("client_id = 'x'\nclient_secret_env = 'ACME'\n{command}")), &[]);
    assert_eq!(
        both,
        "/etc/threadkey.toml, line 7, column 1: providers.acme has client_secret_command and another place of the secret: remove one"
    );
}

#[test]
fn a_missing_key_is_reported_with_its_section() {
    assert_eq!(
        error(&with(""), &[]),
        "/etc/threadkey.toml, line 2, column 12: providers.acme needs client_id"
    );
}

#[test]
fn a_key_of_a_later_version_is_reported_as_not_yet_supported() {
    assert_eq!(
        error(&with("guests = 'a'"), &[]),
        "/etc/threadkey.toml, line 5, column 1: this version of threadkey does not support `guests` yet: remove it"
    );
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_never_shown() {
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
        let message = error(&text, &[]);
        assert!(!message.contains(canary), "{message}");
        assert!(message.starts_with("/etc/threadkey.toml, line "), "{message}");
    }
    assert_eq!(
        error(&format!("[discord]\ntoken = '{canary}'\n"), &[]),
        "/etc/threadkey.toml, line 2, column 1: the configuration must not contain a secret: instead of `token` use \
         token_env (the name of an environment variable) or token_file (a path)"
    );
    let message = error(ACME, &[("THREADKEY_DISCORD__TOKEN", canary)]);
    assert!(
        message.starts_with(
            "the variable THREADKEY_DISCORD__TOKEN: the configuration must not contain a secret"
        ),
        "{message}"
    );
    assert!(!message.contains(canary));
}

#[test]
fn a_secret_comes_from_the_variable_that_the_configuration_names() {
    let text = with("client_id = 'x'\nclient_secret_env = 'ACME_SECRET'");
    assert_eq!(
        error(&text, &[]),
        "/etc/threadkey.toml, line 6, column 1: the variable ACME_SECRET, which providers.acme.client_secret_env names, is not set"
    );
    assert!(load(&text, &[("ACME_SECRET", "s")]).is_ok());
    let config =
        load("[discord]\ntoken_env = 'DISCORD_TOKEN'\n", &[("DISCORD_TOKEN", "t\n")]).expect("is valid");
    assert_eq!(
        config.discord().now_or_never().expect("it runs no command").expect("is there").token,
        Secret::new("t")
    );
}

#[test]
fn a_missing_discord_token_is_an_error_only_for_the_bot() {
    let config = load(ACME, &[]).expect("is valid");
    assert_eq!(
        config.discord().now_or_never().expect("it runs no command").expect_err("is missing").to_string(),
        "discord.token_env is not set: it must name the environment variable that holds the bot's token, for example \
         token_env = \"DISCORD_TOKEN\" under [discord]. Get a token at https://discord.com/developers/applications: \
         your application, Bot, Reset Token"
    );
    let config = load("[discord]\ntoken_env = 'DISCORD_TOKEN'\n", &[]).expect("is valid");
    let message =
        config.discord().now_or_never().expect("it runs no command").expect_err("is missing").to_string();
    assert!(
        message.starts_with("the variable DISCORD_TOKEN, which discord.token_env names, is not set."),
        "{message}"
    );
}

#[test]
fn a_variable_overrides_a_key_of_any_type() {
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
    .expect("is valid");
    let client = |name: &str| {
        let id: ProviderId = name.parse().expect("a name");
        config.providers.get(&id).expect("is there").binding().client_id
    };
    assert_eq!((client("acme"), client("my-idp")), ("4711".into(), "other".into()));
    assert!(config.store_options.trust_filesystem);
    let agent = config.agents.as_ref().expect("is there").default_agent();
    assert_eq!(agent.command, ["codex-acp", "--x"]);
    assert_eq!((agent.providers.len(), agent.idle.as_secs(), agent.max_workers), (2, 300, 3));
    assert_eq!(agent.env["API_KEY"], "{token:acme}");
}

#[test]
fn an_invalid_variable_is_named_in_the_error() {
    assert_eq!(
        error(ACME, &[("THREADKEY_STORE__PAHT", "/x")]),
        "the variable THREADKEY_STORE__PAHT: unknown key `paht`; did you mean `path`?"
    );
    let message =
        error(ACME, &[("THREADKEY_PROVIDERS__ACME__TOKEN_ENDPOINT", "http://id.acme.example/token")]);
    assert!(
        message.starts_with(
            "the variable THREADKEY_PROVIDERS__ACME__TOKEN_ENDPOINT: providers.acme.token_endpoint"
        ),
        "{message}"
    );
}

#[test]
fn an_agent_may_use_only_configured_providers() {
    let agent =
        |providers: &str| format!("{ACME}\n[agent]\ncommand = ['codex-acp']\nproviders = {providers}\n");
    assert_eq!(
        error(&agent("['acmee']"), &[]),
        "/etc/threadkey.toml, line 11, column 1: agent.providers: there is no provider acmee in the configuration; did you mean acme?"
    );
    assert!(
        error(&format!("{ACME}\n[agent]\ncommand = ['x']\n"), &[]).contains("agent.providers is required")
    );
    assert!(load(&agent("['acme']"), &[]).is_ok());
}

#[test]
fn a_secret_in_the_arguments_of_an_agent_is_refused_with_its_line() {
    let agent =
        |argument: &str| format!("{ACME}\n[agent]\nproviders = ['acme']\ncommand = ['x', '{argument}']\n");
    for argument in ["{token:acme}", "--key={capability}"] {
        let message = error(&agent(argument), &[]);
        let place = "/etc/threadkey.toml, line 11, column 1: agent.command contains {";
        assert!(message.starts_with(place) && message.contains("[agent.env]"), "{message}");
    }
    assert!(load(&agent("{user}"), &[]).is_ok());
}

#[test]
fn a_value_of_a_wrong_kind_is_refused_in_the_words_of_toml() {
    for (line, expected) in [
        ("ended_errors = 'a b'", "a string, expected a list, as in [\"one\", \"two\"]"),
        ("pkce = 'false'", "a string, expected true or false, without quotes"),
        ("token_params = 'x'", "a string, expected a table, as in { name = \"value\" }"),
    ] {
        let message = error(&format!("{ACME}\n{line}\n"), &[]);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_wrong_variable_of_the_agents_is_refused_with_its_line_and_a_suggestion() {
    let agent = |line: &str| {
        format!("{ACME}\n[agent]\ncommand = ['codex-acp']\nproviders = ['acme']\n[agent.env]\n{line}\n")
    };
    for (line, problem) in [
        (
            "KEY = '{tokn:acme}'",
            "agent.env.KEY: {tokn:acme} is no placeholder: did you mean {token:PROVIDER}?",
        ),
        ("KEY = 'x{usr}'", "{usr} is no placeholder: did you mean {user}?"),
        ("KEY = '{home}'", "{home} is no placeholder: use {capability}"),
        ("KEY = '{token:acne}'", "{token:acne} names no provider of agent.providers, which are: acme"),
        ("'A=B' = 'x'", "cannot be the name of a variable"),
        ("THREADKEY_SOCKET = '/x'", "threadkey sets this variable itself"),
        ("THREADKEY_AGENT_PROVIDER = 'acne'", "has no \"acne\"; did you mean \"acme\"?"),
        ("THREADKEY_AGENT_USERINFO = 'http://id.example/me'", "a token goes only to https"),
    ] {
        let message = error(&agent(line), &[]);
        let place = "/etc/threadkey.toml, line 13, column 1: agent.env.";
        assert!(message.starts_with(place) && message.contains(problem), "{line}: {message}");
    }
    for fine in ["KEY = '{token:acme}{user}{\"json\":1}'", "THREADKEY_AGENT_PROVIDER = 'acme'"] {
        assert!(load(&agent(fine), &[]).is_ok(), "{fine}");
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_with_its_line() {
    let text = format!("[api]\nsocket = '/run/{}/s'\n{ACME}", "d".repeat(130));
    let message = error(&text, &[]);
    assert!(message.starts_with("/etc/threadkey.toml, line 2, column 1: the socket path"), "{message}");
    assert!(load(ACME, &[("XDG_RUNTIME_DIR", &format!("/run/{}", "d".repeat(130)))]).is_ok());
}

#[test]
fn the_discord_api_base_must_use_https_or_be_on_this_machine() {
    let base = |url: &str| format!("[discord]\ntoken_env = 'T'\napi_base = '{url}'\n");
    assert!(
        error(&base("http://discord.example"), &[])
            .contains("line 3, column 1: discord.api_base must use https")
    );
    for fine in
        ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost", "https://proxy.example", ""]
    {
        assert!(load(&base(fine), &[("T", "t")]).is_ok(), "{fine}");
    }
}

#[test]
fn the_error_without_a_configuration_shows_the_smallest_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = Config::load(None, folder.path(), &variables(&[("HOME", "/nowhere")]));
    let message = none.map(drop).expect_err("there is none").to_string();
    assert!(
        message.contains("/nowhere/.config/threadkey/threadkey.toml or /etc/threadkey/threadkey.toml"),
        "{message}"
    );
    assert!(
        load(message.split_once("The smallest one is:").expect("is shown").1, &[]).is_ok(),
        "the example in the error is valid"
    );
    let named = Config::load(Some(Path::new("other.toml")), folder.path(), &variables(&[]));
    assert!(matches!(named, Err(ConfigError::Missing { by: "--config", .. })));
}

#[test]
fn workers_cannot_read_the_configuration_the_store_or_a_file_with_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("acme.secret");
    crate::sys::files::replace_private(&secret, b"s3cr3t").expect("can be written");
    let text = format!(
        "[discord]\ntoken_file = 'discord.token'\n{}client_secret_file = '{}'\n[agent]\ncommand = ['x']\nproviders = ['acme']\n",
        ACME.trim_start(),
        secret.display()
    );
    let deny = load(&text, &[]).expect("is valid").agents.expect("is there").default_agent().deny.clone();
    let store = Path::new("/home/alice/.local/share/threadkey");
    for path in [Path::new("/etc/threadkey.toml"), Path::new("/etc/discord.token"), &secret, store] {
        assert!(deny.iter().any(|denied| denied == path), "{} is not in {deny:?}", path.display());
    }
}

#[test]
fn the_documented_configurations_are_valid() {
    let readme = include_str!("../../README.md");
    let shown: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!shown.is_empty(), "the README shows one");
    let deployed = include_str!("../../deploy/threadkey.toml");
    let (whole, parts): (Vec<&str>, Vec<&str>) =
        shown.into_iter().chain([deployed]).partition(|text| text.contains("[agent]"));
    for part in parts {
        // A part of a provider's section, or a section beside others.
        let base = match part.contains("[providers.acme]") {
            true => ACME.replace("[providers.acme]", "[providers.base]"),
            false => ACME.to_owned(),
        };
        let text = match part.trim_start().starts_with('[') {
            true => format!("{base}\n{part}"),
            false => format!("{ACME}\n{part}"),
        };
        let filled = text.replace("REPLACE-WITH-YOUR-CLIENT-ID", "4711");
        load(&filled, &[("BANK_CLIENT_SECRET", "x")]).map(drop).expect(part);
    }
    for text in whole {
        let placeholder = error(text, &[("DISCORD_TOKEN", "x")]);
        assert!(placeholder.contains("client_id: it is still the placeholder"), "{placeholder}");
        let filled = text.replace("REPLACE-WITH-YOUR-APPLICATION-ID", "4711");
        let config = load(&filled, &[("DISCORD_TOKEN", "x")]).expect(text);
        assert!(
            config.discord().now_or_never().expect("it runs no command").is_ok() && config.agents.is_some(),
            "{text}"
        );
    }
}

#[test]
fn the_example_configuration_names_every_key() {
    let example = include_str!("../../deploy/threadkey.toml");
    let words: Vec<&str> = example.split(|c: char| !c.is_ascii_lowercase() && c != '_').collect();
    for section in [
        "",
        "[store]",
        "[discord]",
        "[api]",
        "[api.operator_keys.x]",
        "[log]",
        "[providers.acme]",
        "[agent]",
        "[inject.acme]",
    ] {
        let unknown = error(&format!("{section}\nqqqq = 1\n"), &[]);
        let (_, keys) = unknown.split_once("known keys: ").expect("lists the keys");
        for key in keys.split(", ") {
            assert!(words.contains(&key), "deploy/threadkey.toml does not name {key} of {section:?}");
        }
    }
}

#[test]
fn the_limits_of_agents_have_defaults_units_and_smallest_values() {
    let agent = |more: &str| {
        load(&format!("{ACME}\n[agent]\ncommand = ['x']\nproviders = ['acme']\n{more}\n"), &[])
            .map(|config| config.agents.expect("is there").default_agent().clone())
    };
    let default = agent("").expect("is valid");
    assert_eq!((default.max_workers, default.max_workers_per_user), (24, 4));
    assert_eq!((default.limits.file_size, default.limits.memory), (4 << 30, 4 << 30));
    assert_eq!(default.keep_files.as_secs(), 30 * 24 * 3600);
    let set =
        agent("max_memory = '512MiB'\nmax_file_size = 2_000_000\nmax_open_files = 100\nkeep_files = '1d'")
            .expect("is valid");
    assert_eq!((set.limits.memory, set.limits.file_size, set.limits.open_files), (512 << 20, 2_000_000, 100));
    for (line, problem) in [
        ("max_memory = '1KiB'", "agent.max_memory must be at least 16MiB"),
        ("max_memory = '4 bananas'", "expected a size"),
        ("max_file_size = '99999999TiB'", "expected a size"),
        ("max_file_size = 0", "agent.max_file_size must be at least 1MiB"),
        ("max_open_files = 3", "agent.max_open_files must be at least 64"),
        ("max_processes = 1", "agent.max_processes must be at least 16"),
        ("max_workers_per_user = 0", "agent.max_workers_per_user must be from 1"),
        ("keep_files = '1m'", "agent.keep_files must be at least 1h"),
    ] {
        let error = agent(line).map(drop).expect_err(line).to_string();
        assert!(error.contains(problem), "{line}: {error}");
    }
}
