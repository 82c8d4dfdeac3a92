//! The command line as users and scripts see it: its output, its errors and its exit codes.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

mod commands;

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use threadkey::{
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};

use crate::support::program::{Ended, Home};

/// A provider whose port is closed: every connection is refused at once.
const ACME: &str = r#"
[store]
path = "state/auth.json"
[providers.acme]
authorization_endpoint = "http://127.0.0.1:1/authorize"
token_endpoint = "http://127.0.0.1:1/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
"#;

/// The expiry of the stored access token, in seconds from now.
const FRESH: i64 = 3000;
const EXPIRED: i64 = -10;

fn home() -> Home {
    Home::new(ACME)
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Creates a home with a session of `acme/local`.
fn with_session(expires_in: i64, more: Value) -> Home {
    let home = home();
    let mut session = json!({
        "access_token": "access-7", "refresh_token": "refresh-7", "token_type": "Bearer", "scope": "read",
        "issued_at": now() + expires_in - 3600, "expires_at": now() + expires_in,
        "lineage": "07070707070707070707070707070707", "generation": 7, "account": "alice@example.com",
        "token_endpoint": "http://127.0.0.1:1/token", "client_id": "threadkey",
    });
    session.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    write_store(&home, &json!({"version": 1, "sessions": {"acme/local": session}}).to_string());
    home
}

/// Creates a home with a fresh session of `acme/local`, and with this in the configuration too.
pub(crate) fn with_session_and(config: &str) -> Home {
    let home = with_session(FRESH, json!({}));
    home.configure(&format!("{ACME}{config}"));
    home
}

fn store_path(home: &Home) -> std::path::PathBuf {
    home.path().join("state/auth.json")
}

fn write_store(home: &Home, text: &str) {
    let path = store_path(home);
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// Asserts that the command failed with this code and text, and printed no result.
#[track_caller]
fn assert_refused(ended: &Ended, code: i32, text: &str) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.stderr.contains(text), "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
}

#[tokio::test]
async fn the_help_lists_the_commands() {
    let help = home().run(&["--help"]).await;
    assert_eq!(
        (help.code, help.stdout.as_str(), help.stderr.as_str()),
        (0, include_str!("cli/help.txt"), "")
    );
    let help = home().run(&["token", "--help"]).await;
    assert_eq!(help.stdout, include_str!("cli/token_help.txt"));
}

#[tokio::test]
async fn a_fresh_token_is_printed_in_each_format_and_nothing_is_written() {
    let home = with_session(FRESH, json!({}));
    let before = std::fs::read(store_path(&home)).unwrap();
    let raw = home.run(&["token", "acme"]).await;
    assert_eq!((raw.code, raw.stdout.as_str(), raw.stderr.as_str()), (0, "access-7\n", ""));
    let header = home.run(&["token", "acme", "--format", "header"]).await;
    assert_eq!(header.stdout, "Authorization: Bearer access-7\n");
    let env = home.run(&["token", "acme", "--format", "env"]).await;
    assert!(env.stdout.starts_with("THREADKEY_TOKEN=access-7\nTHREADKEY_TOKEN_TYPE=Bearer\n"), "{env:?}");
    let json = home.run(&["token", "acme", "--format", "json", "--min-ttl", "5m"]).await;
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["principal"], &json["generation"]), (&json!("local"), &json!(7)));
    assert_eq!(std::fs::read(store_path(&home)).unwrap(), before);
}

#[tokio::test]
async fn a_rejected_token_that_is_not_the_stored_one_gets_the_stored_one() {
    let home = with_session(FRESH, json!({}));
    let other = home.run_with(&["token", "acme", "--rejected", "-"], "access-6\n").await;
    assert_eq!((other.code, other.stdout.as_str()), (0, "access-7\n"));
    let none = home.run_with(&["token", "acme", "--rejected", "-"], "\n").await;
    assert_refused(&none, 2, "there was no token on standard input");
}

#[tokio::test]
async fn each_reason_for_no_token_has_its_exit_code_and_text() {
    let empty = home();
    let next = "acme/local is not signed in: sign in with `threadkey auth start acme`";
    assert_refused(&empty.run(&["token", "acme"]).await, 3, next);
    assert_refused(&empty.run(&["token", "other"]).await, 2, "there is no provider other");
    assert_refused(&empty.run(&["token", "acme", "--min-ttl", "soon"]).await, 2, "is not a duration");
    assert_refused(&empty.run(&["token", "acme", "--as", "alice"]).await, 2, "user:<discord id>");
    let fingerprint = threadkey::secret::Fingerprint::of("refresh-7").to_string();
    let ended = json!({"ended": {"at": now() - 60, "code": "invalid_grant", "fingerprint": fingerprint}});
    let ended = with_session(EXPIRED, ended).run(&["token", "acme"]).await;
    assert_refused(&ended, 4, "the session acme/local has ended (invalid_grant): sign in again");
    let held =
        json!({"retry": {"set_at": now() - 5, "not_before": now() + 600, "attempts": 2, "code": "http_503"}});
    assert_refused(
        &with_session(EXPIRED, held).run(&["token", "acme"]).await,
        5,
        "(http_503); the session is kept",
    );
}

#[tokio::test]
async fn an_unreachable_provider_ends_no_session() {
    let home = with_session(EXPIRED, json!({}));
    // The clock stands still, because the first backoff of one second could end before the status
    // is read.
    std::fs::write(home.path().join("clock"), now().to_string()).unwrap();
    assert_refused(&home.run(&["token", "acme"]).await, 5, "acme cannot refresh acme/local now (connect)");
    let status = home.run(&["auth", "status", "--json"]).await;
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status[0]["access_token"]["state"], "expired");
    assert_eq!(status[0]["refresh_token"]["state"], "held_back");
    assert_eq!((&status[0]["last_error"]["code"], &status[0]["generation"]), (&json!("connect"), &json!(7)));
    let store: Value = serde_json::from_slice(&std::fs::read(store_path(&home)).unwrap()).unwrap();
    assert_eq!(store["sessions"]["acme/local"]["refresh_token"], "refresh-7");
}

#[tokio::test]
async fn an_invalid_store_is_reported_and_not_changed() {
    let home = home();
    for (text, problem) in [
        ("", "is not a threadkey store: line 1, column"),
        ("{\"version\": 1,\n \"sessions\": [canary]}", "is not a threadkey store: line 2, column"),
        (
            "{\"version\": 1, \"sessions\": {\"acme/local\": {\"access_token\": 5}}}",
            "is not a threadkey store",
        ),
    ] {
        write_store(&home, text);
        for command in [
            &["token", "acme"][..],
            &["auth", "start", "acme"],
            &["auth", "status"],
            &["auth", "logout", "acme"],
        ] {
            let ended = home.run(command).await;
            assert_refused(&ended, 6, problem);
            assert!(!ended.stderr.contains("canary"), "{ended:?}");
        }
        assert_eq!(std::fs::read_to_string(store_path(&home)).unwrap(), text);
    }
    write_store(&home, "{\"version\": 2, \"sessions\": {}}");
    assert_refused(&home.run(&["auth", "start", "acme"]).await, 6, "newer than this threadkey");
    std::fs::set_permissions(store_path(&home), PermissionsExt::from_mode(0o644)).unwrap();
    assert_refused(&home.run(&["token", "acme"]).await, 6, "run chmod 600");
}

#[tokio::test]
async fn every_command_reports_an_invalid_configuration_with_its_place() {
    let home = home();
    home.configure(&ACME.replace("client_id", "clientid"));
    for command in [&["token", "acme"][..], &["auth", "status"], &["providers"], &["run"], &["serve"]] {
        let ended = home.run(command).await;
        assert_refused(&ended, 2, "line 7, column 1: unknown key `clientid`; did you mean `client_id`?");
    }
    home.configure(&ACME.replace("http://127.0.0.1:1/token", "http://id.acme.example/token"));
    assert_refused(&home.run(&["providers"]).await, 2, "line 6, column 1: providers.acme.token_endpoint: ");
    home.configure("");
    let none = home.run(&["providers"]).await;
    assert_eq!(none.code, 0, "{none:?}");
    assert!(none.stdout.trim_start().starts_with("Presets, each for a section"), "{none:?}");
    assert!(none.stderr.contains("add a section [providers.NAME] to the configuration"), "{none:?}");
    std::fs::remove_file(home.path().join("threadkey.toml")).unwrap();
    assert_refused(
        &home.run(&["providers"]).await,
        2,
        "threadkey.toml, which THREADKEY_CONFIG names: correct",
    );
}

#[tokio::test]
async fn run_without_a_discord_token_names_the_missing_variable() {
    let home = home();
    assert_refused(&home.run(&["run"]).await, 2, "discord.token_env is not set");
    home.configure(&format!("{ACME}\n[discord]\ntoken_env = \"BOT_TOKEN\"\n"));
    assert_refused(
        &home.run(&["run"]).await,
        2,
        "the variable BOT_TOKEN, which discord.token_env names, is not set",
    );
}

#[tokio::test]
async fn auth_start_prints_the_link_alone_and_prints_a_live_one_again() {
    let home = home();
    let first = home.run(&["auth", "start", "acme"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.stdout.starts_with("http://127.0.0.1:1/authorize?"), "{first:?}");
    assert_eq!(first.stdout.lines().count(), 1);
    assert!(first.stderr.contains("`threadkey auth code acme`"), "{first:?}");
    let again = home.run(&["auth", "start", "acme", "--json"]).await;
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["authorize_url"], first.stdout.trim());
    assert!(again["expires_at"].as_i64().unwrap() > now());
    assert_refused(&home.run_with(&["auth", "code"], " \n").await, 2, "that was empty");
    let foreign = "http://127.0.0.1:1/callback?code=c&state=foreign";
    assert_refused(&home.run_with(&["auth", "code", "acme"], foreign).await, 2, "state does not match");
    let cancelled = home.run(&["auth", "cancel"]).await;
    assert!(cancelled.stderr.contains("The sign-in for acme/local is cancelled."), "{cancelled:?}");
    assert_refused(&home.run_with(&["auth", "code"], foreign).await, 3, "you have no sign-in in progress");
}

#[tokio::test]
async fn a_logout_reports_the_grant_that_lives_on_and_a_second_one_finds_no_session() {
    let home = with_session(FRESH, json!({}));
    let out = home.run(&["auth", "logout", "acme", "--keep-grant"]).await;
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stderr.contains("The grant stays valid at acme until you end it"), "{out:?}");
    let home = with_session(FRESH, json!({}));
    let out = home.run(&["auth", "logout", "acme"]).await;
    assert_eq!(out.code, 0, "{out:?}");
    let why = "The grant lives on, because acme has no revocation_endpoint configured: end it in your account at 127.0.0.1:1.";
    assert!(out.stderr.contains(why), "{out:?}");
    assert_refused(&home.run(&["auth", "logout", "acme"]).await, 3, "acme/local is not signed in");
}

#[tokio::test]
async fn auth_code_reads_no_code_if_no_sign_in_is_under_way() {
    let home = home();
    for (arguments, code, problem) in [
        (&["auth", "code"][..], 3, "you have no sign-in in progress"),
        (&["auth", "code", "acme"], 3, "you have no sign-in in progress for acme"),
        (&["auth", "code", "other"], 2, "there is no provider other"),
    ] {
        // Standard input stays open and empty.
        let mut child = home.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await;
        let ended = ended.expect("the command does not wait for a code").unwrap();
        drop(stdin);
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(problem), "{stderr}");
    }
}

#[tokio::test]
async fn a_logout_that_waits_for_the_provider_reports_that_the_session_is_removed() {
    let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/revoke", slow.local_addr().unwrap());
    let home = with_session(FRESH, json!({"revocation_endpoint": endpoint}));
    home.configure(&format!("{ACME}revocation_endpoint = \"{endpoint}\"\n"));
    let waiting = home.start(&["auth", "logout", "acme"], &[]);
    let (_connection, _) = slow.accept().await.unwrap();
    waiting.says("acme/local is logged out here. Waiting for acme to end the grant").await;
    waiting.signal(libc::SIGINT);
    assert_ne!(waiting.ended().await.code, 0);
    assert_refused(&home.run(&["auth", "logout", "acme"]).await, 3, "acme/local is not signed in");
}

#[tokio::test]
async fn a_closed_output_causes_no_panic_and_a_full_one_is_a_failure() {
    let home = with_session(FRESH, json!({}));
    for arguments in [&["token", "acme"][..], &["providers"], &["--help"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = home.command(arguments).stdout(Stdio::from(writer)).spawn().unwrap();
        let ended = child.wait_with_output().await.unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    if Path::new("/dev/full").exists() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let child = home.command(&["token", "acme"]).stdout(Stdio::from(full)).spawn().unwrap();
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert!(String::from_utf8(ended.stderr).unwrap().contains("cannot be written"));
    }
}

#[tokio::test]
async fn doctor_checks_everything_and_ends_with_the_exit_code_of_the_failure() {
    let home = with_session(FRESH, json!({}));
    let valid = home.run(&["doctor", "--json"]).await;
    let findings: Value = serde_json::from_str(&valid.stdout).unwrap();
    assert_eq!(valid.code, 0, "{valid:?}");
    assert!(findings.as_array().unwrap().iter().all(|finding| finding["verdict"] != "fail"), "{findings}");
    home.configure(&ACME.replace("\"threadkey\"", "\"a b\""));
    let spaces = home.run(&["doctor"]).await;
    assert!(spaces.stdout.contains("the client_id of acme contains spaces"), "{spaces:?}");
    assert_eq!(spaces.code, 0, "{spaces:?}");
    home.configure(&format!("{ACME}{OPERATOR}"));
    let serving = home.start(&["serve"], &[OPERATOR_KEY]);
    serving.says("the token API is served").await;
    let served = home.run(&["doctor"]).await;
    assert!(served.stdout.contains("threadkey.sock is served by a running threadkey"), "{served:?}");
    let running = home.run(&["doctor", "--running"]).await;
    assert_eq!(running.code, 0, "{running:?}");
    assert!(running.stdout.starts_with("ok    running  threadkey answers on "), "{running:?}");
    assert_eq!(serving.stop().await.code, 0);
    let stopped = home.run(&["doctor", "--running"]).await;
    assert_eq!(stopped.code, 5, "{stopped:?}");
    assert!(stopped.stdout.contains("Check that `threadkey run` or `serve` runs"), "{stopped:?}");
    let agent = "[agent]\ncommand = [\"no-such-program\"]\nproviders = [\"acme\"]\nisolation = \"none\"\n";
    home.configure(&format!("{ACME}{agent}"));
    let agent = home.run(&["doctor"]).await;
    assert_eq!(agent.code, 2, "{agent:?}");
    assert!(agent.stdout.contains("\"no-such-program\" cannot be started"), "{agent:?}");
    home.configure(ACME);
    write_store(&home, "not a store");
    assert_eq!(home.run(&["doctor"]).await.code, 6);
    home.configure("[stor]\n");
    let invalid = home.run(&["doctor"]).await;
    assert_eq!(invalid.code, 2, "{invalid:?}");
    assert!(invalid.stdout.contains("did you mean `store`?"), "{invalid:?}");
}

#[tokio::test]
async fn doctor_warns_of_a_session_bus_that_agents_can_reach() {
    let home = with_session(FRESH, json!({}));
    let agent = |isolation| {
        format!(
            "{ACME}[agent]\ncommand = [\"/bin/sh\"]\nproviders = [\"acme\"]\nroot = \"workers\"\nisolation = {isolation:?}\n"
        )
    };
    home.configure(&agent("auto"));
    let bus = home.path().join("bus");
    let doctor = async || {
        let mut command = home.command(&["doctor"]);
        command.env("XDG_RUNTIME_DIR", home.path());
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let warned = text.lines().any(|line| {
            line.starts_with("warn") && line.contains("agent sockets") && line.contains(bus.to_str().unwrap())
        });
        (warned, text)
    };
    assert!(!doctor().await.0, "no server listens");
    let _listener = std::os::unix::net::UnixListener::bind(&bus).unwrap();
    let (warned, text) = doctor().await;
    assert_eq!(warned, !threadkey::sys::sandbox::governs_unix_sockets(), "{text}");
    home.configure(&agent("none"));
    assert!(!doctor().await.0, "without isolation another finding warns");
}

/// A key for all, which `serve` needs.
pub(crate) const OPERATOR: &str = r#"
[api.operator_keys.test]
key_env = "OPERATOR_KEY"
principals = ["*"]
providers = ["*"]
"#;
pub(crate) const OPERATOR_KEY: (&str, &str) = ("OPERATOR_KEY", "0123456789abcdef0123456789abcdef");

#[tokio::test]
async fn only_one_process_serves_the_socket_and_a_second_one_fails() {
    let home = home();
    assert_refused(&home.run(&["serve"]).await, 2, "openssl rand -hex 32");
    home.configure(&format!("{ACME}{OPERATOR}"));
    assert_refused(&home.run(&["serve"]).await, 2, "the variable OPERATOR_KEY");
    let socket = home.path().join("state/threadkey.sock");
    let first = home.start(&["serve"], &[OPERATOR_KEY]);
    first.says("the token API is served").await;
    let second = home.run_in(&["serve"], "", &[OPERATOR_KEY]).await;
    assert_refused(&second, 2, "another threadkey already serves");
    assert!(socket.exists());
    let ended = first.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_second_run_stands_by_and_takes_over() {
    let home = home();
    home.configure(&format!(
        "{ACME}\n[discord]\ntoken_env = \"BOT_TOKEN\"\napi_base = \"http://127.0.0.1:1\"\n"
    ));
    let path = store_path(&home);
    let store = FileStore::open(&path, Clock::system(), FileStoreOptions::default()).unwrap();
    let other = store.lock_bot().unwrap();
    let second = home.start(&["run"], &[("BOT_TOKEN", "canary-token")]);
    second.says("standing by").await;
    drop(other);
    second.says("taking over").await;
    // Discord is unreachable for it, which ends no bot.
    second.says("Discord cannot be reached").await;
    let ended = second.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("canary-token"), "{ended:?}");
}

#[tokio::test]
async fn a_run_that_stands_by_outlives_sighup_and_reads_the_keys_when_it_takes_over() {
    let home = home();
    home.configure(&format!(
        "{ACME}\n[discord]\ntoken_env = \"BOT_TOKEN\"\napi_base = \"http://127.0.0.1:1\"\n"
    ));
    let store = FileStore::open(&store_path(&home), Clock::system(), FileStoreOptions::default()).unwrap();
    let other = store.lock_bot().unwrap();
    let second = home.start(&["run"], &[("BOT_TOKEN", "t")]);
    second.says("standing by").await;
    second.signal(libc::SIGHUP);
    drop(other);
    second.says("SIGHUP: the operator keys are read again").await;
    assert_eq!(second.stop().await.code, 0);
}

#[tokio::test]
async fn a_run_that_stands_by_ends_at_a_signal() {
    let home = home();
    home.configure(&format!(
        "{ACME}\n[discord]\ntoken_env = \"BOT_TOKEN\"\napi_base = \"http://127.0.0.1:1\"\n"
    ));
    let store = FileStore::open(&store_path(&home), Clock::system(), FileStoreOptions::default()).unwrap();
    let _other = store.lock_bot().unwrap();
    let second = home.start(&["run"], &[("BOT_TOKEN", "t")]);
    second.says("standing by").await;
    assert_eq!(second.stop().await.code, 0);
}
