//! Commands that users guess, and providers that they need not type.

use serde_json::{Value, json};

use super::{ACME, EXPIRED, FRESH, assert_refused, home, now, with_session, write_store};
use crate::support::program::Home;

/// A second provider, so that a name is needed.
const LINEAR: &str = r#"
[providers.linear]
authorization_endpoint = "http://127.0.0.1:1/authorize"
token_endpoint = "http://127.0.0.1:1/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
"#;

fn session(refresh_token: &str, more: Value) -> Value {
    let mut session = json!({
        "access_token": "access-secret", "refresh_token": refresh_token, "token_type": "Bearer",
        "issued_at": now() - 600, "expires_at": now() + 3000,
        "lineage": "07070707070707070707070707070707", "generation": 7, "account": "team@example.com",
        "token_endpoint": "http://127.0.0.1:1/token", "client_id": "threadkey",
    });
    session.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    session
}

/// A home with sessions of three principals, two of them with one account.
fn shared() -> Home {
    let home = home();
    let sessions = json!({
        "acme/local": session("refresh-secret", json!({})),
        "acme/user:803": session("refresh-secret-2", json!({"lineage": "08080808080808080808080808080808"})),
        "linear/guild:9": session("refresh-secret-3", json!({"account": "other@example.com", "expires_at": now() - 5})),
    });
    write_store(&home, &json!({"version": 1, "sessions": sessions}).to_string());
    home
}

#[tokio::test]
async fn auth_list_shows_every_tenant_and_no_secret() {
    let home = shared();
    let table = home.run(&["auth", "list"]).await;
    assert_eq!(table.code, 0, "{table:?}");
    let lines: Vec<_> =
        table.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["TENANT", "ACCOUNT", "ACCESS", "TOKEN", "REFRESH", "TOKEN"]);
    assert_eq!((lines[1][0], lines[1][1], lines[1][2]), ("acme/user:803", "team@example.com", "valid"));
    assert_eq!((lines[2][0], lines[3][0]), ("acme/local", "linear/guild:9"));
    assert_eq!((lines[3][2], lines[3].last()), ("expired", Some(&"ready")));
    let json = home.run(&["auth", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[2]["principal"]), (3, &json!("guild:9")));
    assert!(!format!("{table:?}{json:?}").contains("secret"), "{json:?}");
    let empty = super::home().run(&["auth", "list"]).await;
    assert_eq!((empty.code, empty.stdout.as_str()), (0, ""), "{empty:?}");
    assert!(empty.stderr.contains("There is no session yet"), "{empty:?}");
}

#[tokio::test]
async fn a_provider_need_not_be_typed_where_there_is_one() {
    let home = with_session(FRESH, json!({}));
    assert_eq!(home.run(&["token"]).await.stdout, "access-7\n");
    let started = home.run(&["auth", "start"]).await;
    assert!(started.stdout.starts_with("http://127.0.0.1:1/authorize?"), "{started:?}");
    assert_eq!(home.run(&["auth", "logout", "--keep-grant"]).await.code, 0);
    home.configure(&format!("{ACME}{LINEAR}"));
    for command in [&["token"][..], &["auth", "start"], &["auth", "logout"], &["auth", "keep"], &["login"]] {
        assert_refused(&home.run(command).await, 2, "name a provider; configured are acme, linear");
    }
    home.configure("");
    assert_refused(&home.run(&["token"]).await, 2, "no provider is configured");
}

#[tokio::test]
async fn a_misspelt_provider_or_command_gets_a_suggestion() {
    let home = home();
    home.configure(&format!("{ACME}{LINEAR}"));
    for command in [
        &["token", "linaer"][..],
        &["auth", "start", "linaer"],
        &["auth", "code", "linaer"],
        &["auth", "cancel", "linaer"],
        &["auth", "logout", "linaer"],
        &["login", "linaer"],
    ] {
        assert_refused(
            &home.run(command).await,
            2,
            "there is no provider linaer in the configuration; did you mean linear?",
        );
    }
    assert_refused(&home.run(&["token", "github"]).await, 2, "configured are acme, linear");
    for (command, similar) in [
        (&["tokn", "acme"][..], "'token'"),
        (&["auth", "strat"], "'start'"),
        (&["auth", "logot"], "'logout'"),
    ] {
        let ended = home.run(command).await;
        assert_refused(&ended, 2, similar);
        assert!(!ended.stderr.contains("__"), "no hidden command is suggested: {ended:?}");
    }
}

#[tokio::test]
async fn guessed_commands_do_what_they_say_or_name_the_right_one() {
    let home = with_session(FRESH, json!({}));
    let status = home.run(&["auth", "status"]).await;
    for command in [&["status"][..], &["whoami"], &["auth", "whoami"]] {
        assert_eq!(
            home.run(command).await.stdout.lines().next(),
            status.stdout.lines().next(),
            "{command:?}"
        );
    }
    for command in [&["refresh", "acme"][..], &["auth", "refresh", "acme"]] {
        assert_refused(&home.run(command).await, 2, "`threadkey token acme` refreshes where one is needed");
    }
    assert_eq!(home.run(&["logout", "--keep-grant"]).await.code, 0);
    assert_refused(&home.run(&["auth", "logout"]).await, 3, "acme/local is not signed in");
    for command in [&["login"][..], &["auth", "login", "acme"]] {
        let login = home.run(command).await;
        assert_eq!(login.code, 0, "{login:?}");
        assert!(login.stdout.starts_with("http://127.0.0.1:1/authorize?"), "{login:?}");
        assert!(
            login.stderr.contains("`threadkey auth code acme`"),
            "without a terminal no code is read: {login:?}"
        );
    }
}

#[tokio::test]
async fn a_token_that_lives_shorter_than_min_ttl_is_printed_with_a_warning() {
    let home = with_session(45, json!({"issued_at": now() - 10, "expires_at": now() + 45}));
    let token = home.run(&["token", "acme", "--min-ttl", "10m"]).await;
    assert_eq!((token.code, token.stdout.as_str()), (0, "access-7\n"), "{token:?}");
    assert!(token.stderr.contains("s more, and --min-ttl asks for 600 s"), "{token:?}");
    let json = home.run(&["token", "acme", "--min-ttl", "10m", "--format", "json"]).await;
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert!((1..=45).contains(&json["expires_in"].as_i64().unwrap()), "{json}");
    assert_eq!(home.run(&["token", "acme"]).await.stderr, "", "no lifetime was asked for");
    let long = with_session(FRESH, json!({}));
    assert_eq!(long.run(&["token", "acme", "--min-ttl", "10m"]).await.stderr, "");
}

#[tokio::test]
async fn a_logout_of_a_shared_account_without_a_terminal_changes_nothing() {
    let home = shared();
    let asked = home.run(&["auth", "logout", "acme"]).await;
    assert_refused(&asked, 2, "acme/user:803 may have the same account at acme");
    assert!(
        asked.stderr.contains("--keep-grant logs out here alone, --revoke ends the grant as well"),
        "{asked:?}"
    );
    assert_eq!(home.run(&["token", "acme"]).await.stdout, "access-secret\n");
    assert_refused(
        &home.run(&["auth", "logout", "acme", "--keep-grant", "--revoke"]).await,
        2,
        "cannot be used with",
    );
    assert_eq!(home.run(&["auth", "logout", "acme", "--revoke"]).await.code, 0);
    let last = home.run(&["auth", "logout", "acme", "--as", "user:803"]).await;
    assert_eq!(last.code, 0, "no other session has the account: {last:?}");
}

#[tokio::test]
async fn a_changed_revocation_endpoint_is_named_as_the_reason_at_a_logout() {
    let home = with_session(EXPIRED, json!({"revocation_endpoint": "https://id.example/revoke"}));
    home.configure(&format!("{ACME}revocation_endpoint = \"https://evil.example/revoke\"\n"));
    let out = home.run(&["auth", "logout"]).await;
    assert_eq!(out.code, 0, "{out:?}");
    for words in [
        "The grant lives on",
        "is bound to https://id.example/revoke",
        "now names https://evil.example/revoke",
    ] {
        assert!(out.stderr.contains(words), "{out:?}");
    }
}

#[tokio::test]
async fn scopes_are_a_list_or_one_text_with_blanks() {
    let home = home();
    for scopes in ["\"read write\"", "[\"read\", \"write\"]", "\" read\\twrite \""] {
        home.configure(&format!("{ACME}scopes = {scopes}\n"));
        home.run(&["auth", "cancel"]).await;
        let link = home.run(&["auth", "start"]).await.stdout;
        assert!(link.contains("scope=read+write"), "{scopes}: {link}");
    }
    for (scopes, advice) in
        [("[\"read write\"]", "as in [\"read\", \"write\"]"), ("5", "or one text as in \"read write\"")]
    {
        home.configure(&format!("{ACME}scopes = {scopes}\n"));
        assert_refused(&home.run(&["providers"]).await, 2, advice);
    }
}

#[tokio::test]
async fn an_mcp_server_never_gets_the_token_of_a_provider_that_had_its_name() {
    let home = with_session(FRESH, json!({}));
    home.configure(
        "[store]\npath = \"state/auth.json\"\n[providers.acme]\nmcp = \"https://mcp.example.com/mcp\"\n",
    );
    for command in [&["token", "acme"][..], &["mcp", "acme"]] {
        let ended = home.run_with(command, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n").await;
        assert!(!ended.stdout.contains("access-7") && !ended.stderr.contains("access-7"), "{ended:?}");
        assert!(format!("{ended:?}").contains("binding_changed"), "{ended:?}");
    }
    let ended = home.run(&["token", "acme"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (4, ""), "{ended:?}");
}

#[tokio::test]
async fn a_named_configuration_that_does_not_exist_is_reported_with_the_next_step() {
    let home = home();
    let option = home.run(&["--config", "gone.toml", "auth", "status"]).await;
    assert_refused(&option, 2, "gone.toml, which --config names: correct --config, or write the file with");
    let variable =
        home.run_in(&["auth", "status"], "", &[("THREADKEY_CONFIG", "/gone/threadkey.toml")]).await;
    assert_refused(
        &variable,
        2,
        "/gone/threadkey.toml, which THREADKEY_CONFIG names: correct THREADKEY_CONFIG",
    );
    let nowhere = home.run_in(&["auth", "status"], "", &[("THREADKEY_CONFIG", ""), ("HOME", "")]).await;
    assert_refused(&nowhere, 2, "HOME names no folder, so no file of yours was looked for");
}

#[tokio::test]
async fn a_command_runs_in_a_folder_that_was_removed() {
    let home = with_session(FRESH, json!({}));
    let gone = |command: &str| {
        let program = crate::support::program::path().display().to_string();
        let script = format!("mkdir gone && cd gone && rmdir ../gone && exec {program} {command}");
        tokio::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .current_dir(home.path())
            .env("THREADKEY_CONFIG", home.path().join("threadkey.toml"))
            .output()
    };
    let ended = gone("token acme").await.expect("the shell starts");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "access-7\n", "{ended:?}");
    let ended = gone("--config threadkey.toml token acme").await.expect("the shell starts");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(
        String::from_utf8_lossy(&ended.stderr).contains("name the configuration by its whole path"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn help_that_cannot_be_written_fails_and_a_closed_reader_does_not() {
    let program = crate::support::program::path().display().to_string();
    for (command, code) in [
        ("--help >/dev/full", 1),
        ("--version >/dev/full", 1),
        ("token --help >/dev/full", 1),
        ("nonsense >/dev/full", 2),
        ("--help | exec true", 0),
    ] {
        let script = format!("{program} {command}");
        let ended = tokio::process::Command::new("/bin/sh").args(["-c", &script]).output().await;
        let ended = ended.expect("the shell starts");
        assert_eq!(ended.status.code(), Some(code), "{command}: {ended:?}");
    }
}

#[tokio::test]
async fn exec_without_a_command_names_the_form_of_the_command_line() {
    for arguments in [&["exec", "acme"][..], &["exec", "acme", "gh", "pr"], &["exec", "acme", "--"]] {
        let ended = home().run(arguments).await;
        assert_refused(&ended, 2, "no command is given: write it after `--`, as in `threadkey exec acme -- ");
    }
}
