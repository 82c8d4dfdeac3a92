#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::fs;

use super::*;
use crate::tools::{Values, Way, named};

fn secrets(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
}

fn rendered(files: &[(&str, &str, bool)]) -> Rendered {
    let mut rendered = Rendered::default();
    for (path, text, holds_token) in files {
        let (path, text) = ((*path).to_owned(), Secret::new(*text));
        rendered.files.push(crate::tools::RenderedFile {
            path,
            text,
            holds_token: *holds_token,
            holds_secret: *holds_token,
        });
    }
    rendered
}

fn folder_of(tool: &str, way: Way) -> Option<&'static Folder> {
    named(tool).expect("a tool").means(way).expect("a way").folder.as_ref()
}

#[test]
fn the_users_settings_stay_in_force_and_their_login_is_not_linked() {
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    let own = home.path().join(".codex");
    fs::create_dir_all(own.join("sessions")).expect("it is made");
    fs::write(own.join("config.toml"), "model = \"m\"\nmodel_provider = \"x\"\n[tui]\ntheme = \"t\"\n")
        .expect("written");
    fs::write(own.join("auth.json"), "{\"refresh\":\"r\"}").expect("written");
    fs::write(own.join("history.jsonl"), "h").expect("written");
    let tree = PrivateTree::make(&home.path().join("run")).expect("it is made");
    let variable = |name: &str| (name == "HOME").then(|| home.path().into());
    let folder = ToolFolder::new(tree.path(), "codex", folder_of("codex", Way::Hook), variable);
    let files = rendered(&[("config.toml", "model_provider = \"threadkey\"\n[tui]\nalt = true\n", false)]);
    folder.fill(&tree, &files).expect("it is filled");
    let config: toml::Table =
        fs::read_to_string(folder.path.join("config.toml")).expect("there").parse().expect("TOML");
    assert_eq!(config["model"].as_str(), Some("m"));
    assert_eq!(config["model_provider"].as_str(), Some("threadkey"));
    assert_eq!((config["tui"]["theme"].as_str(), config["tui"]["alt"].as_bool()), (Some("t"), Some(true)));
    assert_eq!(fs::read_to_string(folder.path.join("history.jsonl")).expect("linked"), "h");
    assert!(folder.path.join("sessions").is_dir());
    assert!(!folder.path.join("auth.json").exists(), "the user's login has another owner");
    let before = fs::read_to_string(own.join("config.toml")).expect("there");
    assert!(before.contains("model_provider = \"x\""), "the user's own file stays: {before}");
    drop(tree);
    assert!(own.join("history.jsonl").exists());
}

#[test]
fn no_login_of_a_tool_nor_a_copy_of_it_is_linked() {
    for name in [
        "auth.json",
        "auth.json.bak",
        "Auth.json~",
        ".credentials.json",
        "credentials",
        "gemini-credentials.json",
        "oauth_creds.json",
        "google_accounts.json",
        "hosts.yml",
    ] {
        assert!(is_login(OsStr::new(name)), "{name}");
    }
    for name in ["history.jsonl", "sessions", "projects", "auth.jsonl", "hosts.yml5", "skills", "CLAUDE.md"] {
        assert!(!is_login(OsStr::new(name)), "{name}");
    }
}

#[test]
fn the_users_folder_is_the_one_that_the_tools_variable_names() {
    let moved = |name: &str| match name {
        "CODEX_HOME" => Some("/opt/codex".into()),
        "GEMINI_CLI_HOME" => Some("/opt/g".into()),
        "HOME" => Some("/home/u".into()),
        _ => None,
    };
    let own = |tool, way, variable: &dyn Fn(&str) -> Option<OsString>| {
        ToolFolder::new(Path::new("/run/x"), tool, folder_of(tool, way), variable)
    };
    let codex = own("codex", Way::Hook, &moved);
    assert_eq!((codex.own, codex.variable), (Some("/opt/codex".into()), None));
    let gemini = own("gemini", Way::Inject, &moved);
    assert_eq!(gemini.own, Some("/opt/g/.gemini".into()));
    assert_eq!(gemini.path, Path::new("/run/x/gemini/.gemini"));
    assert_eq!(gemini.variable, Some(("GEMINI_CLI_HOME".into(), "/run/x/gemini".into())));
    let at_home = |name: &str| (name == "HOME").then(|| "/home/u".into());
    let claude = own("claude", Way::Hook, &at_home);
    assert_eq!(claude.own, Some("/home/u/.claude".into()));
    assert_eq!(claude.beside, Some("/home/u/.claude.json".into()));
    let qwen = own("qwen", Way::Inject, &at_home);
    assert_eq!(qwen.variable, Some(("QWEN_HOME".into(), "/run/x/qwen".into())));
}

#[test]
fn settings_in_another_format_than_their_name_shows_are_left_out() {
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    let path = home.path().join("settings.json");
    let ours = Secret::new("{\"a\":1}");
    assert!(merged(&path, &ours, &[]).is_ok_and(|none| none.is_none()), "there are none");
    fs::write(&path, "{ // a comment\n}").expect("written");
    assert!(merged(&path, &ours, &[]).is_err());
    fs::write(&path, "{\"a\":0,\"b\":{\"c\":2}}").expect("written");
    let both = merged(&path, &ours, &[]).expect("JSON").expect("there");
    let both: serde_json::Value = serde_json::from_str(both.expose()).expect("JSON");
    assert_eq!(both, serde_json::json!({"a": 1, "b": {"c": 2}}));
}

#[test]
fn settings_send_claudes_token_to_no_address_of_their_own() {
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(home.path().join(".claude")).expect("made");
    let own = r#"{"env": {"ANTHROPIC_BASE_URL": "https://gateway.example", "ANTHROPIC_AUTH_TOKEN": "k", "A": "b"}}"#;
    fs::write(home.path().join(".claude/settings.json"), own).expect("written");
    let tree = PrivateTree::make(&home.path().join("run")).expect("it is made");
    let folder = ToolFolder::new(tree.path(), "claude", folder_of("claude", Way::Hook), |name: &str| {
        (name == "HOME").then(|| home.path().into())
    });
    let provider = "anthropic".parse().expect("a name");
    let values = Values {
        provider: &provider,
        program: Path::new("/bin/threadkey"),
        folder: &folder.path,
        base_url: Some("https://api.anthropic.com"),
        model: None,
        token: None,
        inject: None,
        now: 0,
    };
    let means = named("claude").expect("a tool").means(Way::Hook).expect("a way");
    folder.fill(&tree, &means.render(&values).expect("it renders")).expect("it is filled");
    let text = fs::read_to_string(folder.path.join("settings.json")).expect("there");
    let settings: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let expected = serde_json::json!({"ANTHROPIC_BASE_URL": "https://api.anthropic.com", "A": "b"});
    assert_eq!(settings["env"], expected);
}

#[test]
fn a_problem_with_a_file_names_its_path() {
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(home.path().join(".codex"), "no folder").expect("written");
    let tree = PrivateTree::make(&home.path().join("run")).expect("it is made");
    let variable = |name: &str| (name == "HOME").then(|| home.path().into());
    let folder = ToolFolder::new(tree.path(), "codex", folder_of("codex", Way::Hook), variable);
    let error = folder.fill(&tree, &rendered(&[])).expect_err("it is no folder").to_string();
    assert!(error.contains(home.path().join(".codex").to_str().expect("text")), "{error}");
}

#[test]
fn the_users_proxy_gets_no_request_to_the_injecting_proxy() {
    let exempted = |own: &[(&str, &str)]| {
        let mut variables = Variables::new(|_| None);
        variables.exempt_loopback(|name| {
            own.iter().find(|(own, _)| *own == name).map(|(_, value)| OsString::from(value))
        });
        let all = variables.finish();
        NO_PROXY.map(|name| all[OsStr::new(name)].clone().expect("set").into_string().expect("text"))
    };
    assert_eq!(exempted(&[]), ["127.0.0.1", "127.0.0.1"]);
    assert_eq!(exempted(&[("no_proxy", "a.example")]), ["a.example,127.0.0.1"; 2]);
    assert_eq!(exempted(&[("NO_PROXY", "b"), ("no_proxy", "a")]), ["b,127.0.0.1", "a,127.0.0.1"]);
    assert_eq!(exempted(&[("NO_PROXY", "*")]), ["*", "*"]);
}

#[test]
fn gits_configuration_by_variables_is_added_to_the_users_own() {
    let user = |name: &str| match name {
        "GIT_CONFIG_COUNT" => Some("1".into()),
        "GIT_CONFIG_KEY_0" => Some("user.name".into()),
        "GIT_CONFIG_VALUE_0" => Some("u".into()),
        _ => None,
    };
    let mut variables = Variables::new(user);
    for host in ["a", "b"] {
        let git = [
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", host),
            ("GIT_CONFIG_VALUE_0", "h"),
            ("GIT_TERMINAL_PROMPT", "0"),
        ];
        assert!(variables.add("git", &secrets(&git)));
    }
    let all = variables.finish();
    let value = |name: &str| all.get(OsStr::new(name)).cloned().flatten();
    assert_eq!(value("GIT_CONFIG_COUNT"), Some("3".into()));
    assert_eq!(
        (value("GIT_CONFIG_KEY_0"), value("GIT_CONFIG_KEY_2")),
        (Some("user.name".into()), Some("b".into()))
    );
}

#[test]
fn a_key_of_the_users_environment_does_not_take_the_logins_place() {
    let mut variables = Variables::new(|_| None);
    assert!(variables.add("claude", &secrets(&[("ANTHROPIC_BASE_URL", "https://a")])));
    assert!(
        !variables.add("anthropic-sdk", &secrets(&[("ANTHROPIC_BASE_URL", "https://b")])),
        "the first one counts"
    );
    let all = variables.finish();
    assert_eq!(all.get(OsStr::new("ANTHROPIC_API_KEY")), Some(&None));
    assert_eq!(all.get(OsStr::new("ANTHROPIC_BASE_URL")), Some(&Some("https://a".into())));
}
